"""Zarr arrays whose attributes say what their numbers are: read as xarray does, and kept."""

import json
import warnings

import numpy as np
import pytest
import xarray
import zarr

import puriflow

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0.02, 0.98, (2, 3, 32, 32)).astype(np.float32)
BICUBIC = ("--restorer", "bicubic")
COORDINATES = {
    "n": ("n", np.array([5, 6]), {"about": "names"}),
    "c": ("c", np.arange(3)),
    "time": np.datetime64("2020-01-01"),
    "place": (("y", "x"), np.zeros((32, 32)), {"units": "m"}),
}
VERSIONS = pytest.mark.parametrize("version", [2, 3])


def written(path, version, encoding, images=IMAGES, **how):
    """A data set as xarray writes it, with coordinates and another array."""
    about = {"long_name": "photographs", "units": "1"}
    with warnings.catch_warnings(action="ignore"):  # that version 3 has no consolidated metadata
        xarray.Dataset(
            {
                "images": (("n", "c", "y", "x"), images, about),
                "score": (("n",), np.array([0.5, np.nan]), {"about": "them"}),
            },
            coords=COORDINATES,
            attrs={"title": "mine"},
        ).to_zarr(path, zarr_format=version, encoding={"images": encoding}, **how)
    return path


def opened(path, **how):
    """As a user opens it: a warning is an error."""
    with warnings.catch_warnings(action="error"):
        return xarray.open_zarr(path, **how).load()


def packed(dtype, scale, offset=None, **marks):
    more = {} if offset is None else {"add_offset": offset}
    return {"dtype": dtype, "scale_factor": scale, **more, **marks}


PACKINGS = {
    "floats": {},
    "doubles": {"dtype": "float64", "_FillValue": -9999.0},
    "hundredths": packed("uint8", 0.01, _FillValue=255),
    "bytes": packed("uint8", 1 / 255),
    "offset": packed("int16", 1 / 65535, 0.5),
    "falling": packed("uint16", -1 / 65000, 1.0, _FillValue=65535),
    "floats of half": packed("float32", 0.5),
    # What purified images may have as a value would be missing in them, and is no mark any more.
    "white": packed("uint8", 1 / 255, _FillValue=255),
    "black": packed("uint8", 1 / 255, missing_value=0),
    "least": packed("int16", 1 / 65535, 0.5, _FillValue=-32768),
    "zero": {"_FillValue": 0.0},
}
UNMARKED = ("white", "black", "least", "zero")


@pytest.mark.parametrize(
    ("name", "version"),
    [*((name, 3) for name in PACKINGS), *((name, 2) for name in ("floats", "hundredths", "white"))],
)
def test_a_packed_array_is_read_and_written_as_xarray_does(tmp_path, command, track, version, name):
    encoding = PACKINGS[name]
    source = written(tmp_path / "a.zarr", version, encoding)
    status, said = command(source, *BICUBIC, "--out", tmp_path / "out")
    assert status == 0, said
    before, after = opened(source), opened(tmp_path / "out" / "a.zarr")
    floats = before.images.values.astype(np.float32)
    due = puriflow.purify(floats, restorer="bicubic", config=track)
    half = abs(encoding.get("scale_factor", 0)) / 2 * ("int" in str(encoding.get("dtype")))
    np.testing.assert_allclose(after.images.values, due, rtol=0, atol=half + 1e-6)
    # Values and attributes of all else.
    xarray.testing.assert_identical(after.drop_vars("images"), before.drop_vars("images"))
    assert after.images.attrs == before.images.attrs
    assert (after.images.dims, after.images.dtype) == (before.images.dims, before.images.dtype)
    kept = ("scale_factor", "add_offset", "dtype", *([] if name in UNMARKED else ["_FillValue"]))
    for key in kept:
        np.testing.assert_equal(after.images.encoding.get(key), before.images.encoding.get(key))
    assert ("left out, which a colour may be" in said) == (name in UNMARKED)
    assert ("packed by scale_factor" in said) == ("scale_factor" in encoding)


@VERSIONS
@pytest.mark.parametrize("mark", [None, 0, 200])
def test_bytes_stay_bytes(tmp_path, command, track, version, mark):
    whole = RNG.integers(1, 199, IMAGES.shape, np.uint8)
    encoding = {} if mark is None else {"_FillValue": mark}
    source = written(tmp_path / "a.zarr", version, encoding, whole)
    status, said = command(source, *BICUBIC, "--out", tmp_path / "out")
    assert status == 0, said
    after = opened(tmp_path / "out" / "a.zarr").images
    assert after.dtype == np.uint8
    np.testing.assert_array_equal(
        after.values, puriflow.purify(whole, restorer="bicubic", config=track)
    )


@VERSIONS
@pytest.mark.parametrize("whole", [True, False])
def test_a_value_that_is_missing_is_refused(tmp_path, command, version, whole):
    images = (IMAGES * 200).astype(np.uint8) if whole else IMAGES.copy()
    images[1, 0, 3, 4] = 0
    encoding = {"_FillValue": 0} if whole else packed("uint8", 1 / 255, _FillValue=0)
    source = written(tmp_path / "a.zarr", version, encoding, images)
    status, said = command(source, *BICUBIC, "--out", tmp_path / "out")
    assert (status, len(said.splitlines())) == (2, 1), said
    assert "a.zarr/images has missing values, or NaN (_FillValue 0)" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("packing", "says"),
    [
        (packed("uint8", 1 / 510), "packed by its scale_factor and add_offset they lie between 0"),
        (packed("int8", 1 / 255), "store it in floats, or packed for all of [0, 1]"),
        (packed("uint8", 0.01, 0.5), "they lie between 0.5 and 1"),
        ({"scale_factor": 0.0}, "scale_factor and add_offset are 0.0 and 0"),
        ({"scale_factor": "many"}, "cannot be read"),
        ({"_FillValue": "?"}, "cannot be read"),
        ({"scale_factor": 255.0}, "floats must lie in [0, 1], but span"),
    ],
)
def test_a_packing_that_does_not_hold_images_is_one_line(tmp_path, command, packing, says):
    packing = dict(packing)
    images = (IMAGES * 100).astype(packing.pop("dtype", "float32"))
    array = zarr.create_array(tmp_path / "a.zarr", data=images)
    array.attrs.update(packing)
    status, said = command(tmp_path / "a.zarr", *BICUBIC, "--out", tmp_path / "out")
    assert (status, len(said.splitlines()), says in said) == (2, 1, True), said


@pytest.mark.parametrize("signed", ["int8", "uint8"])
def test_numbers_whose_sign_is_read_otherwise(tmp_path, command, track, signed):
    """NetCDF's `_Unsigned`, which xarray reads but does not write to Zarr."""
    meaning = {"_Unsigned": {"int8": "true", "uint8": "false"}[signed], "scale_factor": 1 / 254}
    meaning |= {"add_offset": 0.5} if signed == "uint8" else {"_FillValue": -1}
    numbers = RNG.integers(0, 255, IMAGES.shape, np.uint8)  # 255 is the mark of int8
    numbers -= (numbers == 128).astype(np.uint8)
    group = zarr.create_group(tmp_path / "a.zarr")
    names = ("n", "c", "y", "x")
    array = group.create_array("images", data=numbers.astype(signed), dimension_names=names)
    array.attrs.update(meaning)
    status, said = command(tmp_path / "a.zarr", *BICUBIC, "--out", tmp_path / "out")
    assert status == 0, said
    files = tmp_path / "a.zarr", tmp_path / "out" / "a.zarr"
    before, after = (opened(file, consolidated=False) for file in files)
    floats = before.images.values.astype(np.float32)
    assert floats.max() > 0.9
    due = puriflow.purify(floats, restorer="bicubic", config=track)
    np.testing.assert_allclose(after.images.values, due, rtol=0, atol=0.51 / 254)


@VERSIONS
def test_an_array_alone_keeps_its_attributes_and_its_scale(tmp_path, command, track, version):
    about = {"scale_factor": 1 / 255, "about": {"camera": "mine"}}
    array = zarr.create_array(
        tmp_path / "a.zarr", data=(IMAGES * 255).astype(np.uint16), zarr_format=version
    )
    array.attrs.update(about)
    status, said = command(tmp_path / "a.zarr", *BICUBIC, "--compare", "--out", tmp_path / "out")
    assert status == 0, said
    found = zarr.open_array(tmp_path / "out" / "a.zarr", mode="r")
    assert (found.dtype, dict(found.attrs)) == (np.uint16, about)
    floats = (array[:] / 255).astype(np.float32)
    due = puriflow.purify(floats, restorer="bicubic", config=track)
    np.testing.assert_array_equal(found[:], (due * 255).round())


def test_zeros_of_a_plain_array_of_version_2_are_black(tmp_path, command):
    """The value of chunks that are not there is a mark to xarray in its own arrays alone."""
    zarr.create_array(tmp_path / "a.zarr", data=np.zeros((32, 32, 3), np.uint8), zarr_format=2)
    status, said = command(tmp_path / "a.zarr", *BICUBIC, "--out", tmp_path / "out")
    assert status == 0, said


@VERSIONS
@pytest.mark.parametrize("consolidated", [True, False])
def test_metadata_are_consolidated_as_they_were(tmp_path, command, version, consolidated):
    source = written(tmp_path / "a.zarr", version, {}, consolidated=consolidated)
    command(source, *BICUBIC, "--out", tmp_path / "out")
    out = tmp_path / "out" / "a.zarr"
    about = json.loads((out / "zarr.json").read_text()) if version == 3 else {}
    found = about.get("consolidated_metadata") or (out / ".zmetadata").is_file()
    assert bool(found) == consolidated
