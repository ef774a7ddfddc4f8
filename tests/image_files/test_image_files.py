"""Image files: formats, sizes, what is refused, what is resumed, and the sheet."""

import fcntl
import json
import os
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray
import zarr
from PIL import Image, ImageColor, ImageDraw
from torch import nn

import puriflow
from puriflow.classifiers.normalised import Normalised
from puriflow.config import load_config
from puriflow.defence import Defence
from puriflow.errors import UserError
from puriflow.image_files import command as command_module
from puriflow.image_files import comparison, inputs, record
from puriflow.image_files.comparison import ImageClassifier
from puriflow.image_files.purify import Image as Given
from puriflow.image_files.purify import Purification, noise_indices
from puriflow.image_files.tiling import Axis, tiling_of
from puriflow.plots.colours import RIGHT, WRONG
from puriflow.registry import Part

RNG = np.random.default_rng(0)
CHAIN = ("--restorer", "edsr", "--purifier", "little")


def pixels(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def expected(images, track, indices=range(99)):
    """uint8 (n, H, W, 3) of a size that networks take, through `Defence.purify` itself."""
    defence = Defence.from_config(load_config(track), "edsr", "little", "none")
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    with torch.no_grad():
        out = [defence.purify(x[i : i + 1], [indices[i]]).clamp(0, 1) for i in range(len(x))]
    return (torch.cat(out).numpy() * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


class Stub(nn.Module):
    """A purifier that notes the sizes it gets and does what it is told."""

    def __init__(self, compute=lambda x, noise: x, resize=None):
        super().__init__()
        self.compute, self.resize, self.sizes = compute, resize, []

    def forward(self, images, noise):
        self.sizes.append(tuple(images.shape[-2:]))
        return self.compute(images, noise)


def purify_tiled(defence, images, indices):
    """Images (n, 3, H, W) of any size, purified on the CPU."""
    purification = Purification(defence, {}, torch.device("cpu"))
    given = (Given(x.numpy(), i, "given") for x, i in zip(images, indices, strict=True))
    return torch.from_numpy(np.stack(list(purification.purified(given, images.shape[-2:]))))


# Any size


@pytest.mark.parametrize("side", [256, 32])
def test_tiles_cover_an_axis_and_overlap(side):
    for length in [*range(1, 600), 1024, 4001]:
        axis = Axis(length, side)
        assert axis.size % 32 == 0
        assert axis.size <= side
        covered = np.zeros(length)
        for start in axis.starts:
            inner, outer = axis.inside(start)
            np.testing.assert_array_equal(
                axis.pixels(start)[inner], np.arange(length)[outer], err_msg=str(length)
            )
            covered[outer] += axis.window()[inner]
        assert covered.min() > 0
        if axis.count > 1:
            assert np.diff(axis.starts).max() <= axis.size - side // 8
            assert (axis.starts[0], axis.starts[-1]) == (0, length - axis.size)


def test_what_lies_beyond_the_border_is_mirrored():
    axis = Axis(20, 256)
    assert axis.starts == [-6]
    expected = np.pad(np.arange(20), 6, mode="reflect")
    np.testing.assert_array_equal(axis.pixels(-6), expected)


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (32, 32), (257, 100), (600, 300)])
def test_an_image_of_any_size_keeps_its_pixels_and_tiles_stay_small(size):
    stub = Stub()
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    out = purify_tiled(Defence(None, stub, None), images, [0, 1])
    torch.testing.assert_close(out, images, rtol=0, atol=2e-7)
    assert all(side % 32 == 0 and side <= 256 for size in stub.sizes for side in size)
    assert len(stub.sizes) == 2 * tiling_of(size, None).count


def test_no_tile_is_larger_than_what_a_purifier_resizes_to():
    stub = Stub(resize=64)
    purify_tiled(Defence(None, stub, None), torch.rand(1, 3, 50, 150), [0])
    assert set(stub.sizes) == {(64, 64)}


@pytest.mark.parametrize("at_once", [1, 2, 3, 9])
def test_tiles_have_noise_of_their_own_whatever_the_batch(monkeypatch, at_once):
    """As on a GPU, which computes several at once, of one image and of several."""
    monkeypatch.setattr(Purification, "_at_once", lambda *_: at_once)
    noises = []

    def compute(x, noise):
        noises.append(noise.normal_like(x))
        return 0 * x + noises[-1]

    defence = Defence(None, Stub(compute), None, seed=4)
    together = purify_tiled(defence, torch.zeros(2, 3, 40, 300), [0, 7])
    # Two images of two tiles: only as many images are read as fill a batch.
    assert [len(x) for x in noises] == {1: 4 * [1], 2: [2, 2], 3: [2, 2], 9: [4]}[at_once]
    drawn = torch.cat(noises)
    assert all(not torch.equal(drawn[i], drawn[j]) for i in range(4) for j in range(i))
    monkeypatch.setattr(Purification, "_at_once", lambda *_: 1)
    alone = purify_tiled(defence, torch.zeros(1, 3, 40, 300), [7])
    assert torch.equal(together[1], alone[0])


def test_where_the_memory_runs_out_tiles_are_computed_in_halves(monkeypatch, capsys):
    def compute(x, noise):
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x + 0.1 * noise.normal_like(x)

    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    defence = Defence(None, Stub(compute), None)
    alone = purify_tiled(defence, images, range(5))
    monkeypatch.setattr(Purification, "_at_once", lambda *_: 5)
    assert torch.equal(purify_tiled(defence, images, range(5)), alone)
    assert "no room for 5 tiles at once; on with 2" in capsys.readouterr().err

    defence = Defence(None, Stub(lambda x, noise: 1 / 0), None)
    with pytest.raises(ZeroDivisionError):
        purify_tiled(defence, images, range(5))
    monkeypatch.setattr(defence.purifier, "compute", lambda x, noise: compute(x[[0, 0]], noise))
    with pytest.raises(UserError, match="given: the memory of cpu has no room for a tile"):
        purify_tiled(defence, images, range(5))


def test_tiles_are_blended_without_a_step():
    levels = iter(np.linspace(0, 1, 4))
    stub = Stub(lambda x, noise: torch.full_like(x, next(levels)))
    out = purify_tiled(Defence(None, stub, None), torch.zeros(1, 3, 32, 800), [0])
    row = out[0, 0, 0]
    assert (row[0], row[-1]) == (0, 1)
    assert row.diff().abs().max() < 1 / 3 / 20  # of a step of 1/3, over 32 pixels and more


# Arrays


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_arrays_keep_their_shape_type_and_scale(dtype, single, last, track):
    base = pixels(2, 32, 64, 3)[: 1 if single else 2]

    def laid_out(x):
        x = x if dtype == "uint8" else (x / 255).astype(dtype)
        x = x if last else x.transpose(0, 3, 1, 2)
        return x[0] if single else x

    images, due = laid_out(base), laid_out(expected(base, track))
    chain = {"restorer": "edsr", "purifier": "little"}
    out = puriflow.purify(images, **chain, config=track)
    assert (out.shape, out.dtype) == (images.shape, images.dtype)
    near = 0 if dtype == "uint8" else 0.51 / 255 + 1e-3 * (dtype == "float16")
    np.testing.assert_allclose(out.astype(float), due.astype(float), rtol=0, atol=near)
    tensor = puriflow.purify(torch.from_numpy(images), **chain, config=load_config(track))
    np.testing.assert_array_equal(tensor.numpy(), out)


def test_purify_is_the_chain_of_the_stages(track):
    images = pixels(3, 64, 32, 3)
    out = puriflow.purify(images, restorer="edsr", purifier="little", config=track)
    np.testing.assert_array_equal(out, expected(images, track))
    other = puriflow.purify(images, restorer="edsr", purifier="little", config=track, seed=1)
    assert not np.array_equal(out, other)


@pytest.mark.parametrize(
    ("shape", "said"), [((2, 32, 32, 3), "2/2 images, "), ((300, 32, 3), "2/2 tiles, ")]
)
def test_purify_shows_its_progress(track, capsys, shape, said):
    puriflow.purify(pixels(*shape), restorer="edsr", config=track)
    assert f"puriflow: purify: {said}" in capsys.readouterr().err


def settings():
    """What torch is told about precision and threads."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return (
        *(cuda.matmul.allow_tf32, cudnn.allow_tf32),
        *(torch.get_float32_matmul_precision(), torch.get_num_threads()),
    )


@pytest.mark.parametrize("tf32", [False, True])
def test_purify_computes_in_full_float32_and_leaves_the_caller_s_settings(track, monkeypatch, tf32):
    before = settings()
    try:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        chosen = settings()
        inside = []
        compute = Defence.purified

        def noted(*given):
            inside.append(settings()[:2])
            return compute(*given)

        monkeypatch.setattr(Defence, "purified", noted)
        puriflow.purify(pixels(32, 32, 3), restorer="edsr", config=track)
        assert inside == [(False, False)]
        assert settings() == chosen
        monkeypatch.setattr(Defence, "purified", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            puriflow.purify(pixels(32, 32, 3), restorer="edsr", config=track)
        assert settings() == chosen
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before[:2]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 8, 3), np.uint8), "either axis could be the colours"),
        (np.zeros((2, 3, 8, 3), np.float32), "either axis could be the colours"),
        (np.zeros((8, 8), np.uint8), r"shape \(8, 8\), which is not \(H, W, 3\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), "there are no images"),
        (np.zeros((8, 8, 3), np.int64), "is of int64, but must be uint8"),
        (np.full((8, 8, 3), np.nan), "NaN or infinity"),
        (np.full((8, 8, 3), 255.0), r"must lie in \[0, 1\], but span 255 to 255"),
        (np.full((8, 8, 3), -1.0), r"must lie in \[0, 1\]"),
        (torch.zeros(8, 8, 3, dtype=torch.bfloat16), "bfloat16"),
    ],
)
def test_arrays_that_are_no_images_are_refused(images, message, track):
    with pytest.raises(UserError, match=message):
        puriflow.purify(images, restorer="edsr", config=track)


class Spoils(Stub):
    """A part that makes `value` of one pixel of every image that has a white one."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, images, noise=None):
        out = images.clone()
        out[images.amax((1, 2, 3)) == 1, 0, 0, 0] = self.value
        return out


@pytest.fixture(params=["restorer", "purifier"])
def spoiled(request, monkeypatch):
    """Makes a part of every defence spoil images; returns its role."""
    value = {"restorer": torch.nan, "purifier": torch.inf}[request.param]
    bad, good = Spoils(value), nn.Identity()
    made = (bad, Stub()) if request.param == "restorer" else (good, bad)
    monkeypatch.setattr(Defence, "from_parts", lambda parts, seed: Defence(*made, None))
    return request.param


DARK, WHITE = np.full((40, 300, 3), 10, np.uint8), np.full((40, 300, 3), 10, np.uint8)
WHITE[20, 290] = 255  # in the last tile


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_nan_and_infinity_are_refused_with_the_part_and_the_image(track, spoiled, dtype):
    images = np.stack([DARK, DARK, WHITE])
    images = images if dtype == "uint8" else (images / 255).astype(dtype)
    chain = {"restorer": "edsr", "purifier": "little", "config": track}
    name = {"restorer": "edsr", "purifier": "little"}[spoiled]
    says = f"^{spoiled} {name}: images \\[2\\] becomes NaN or infinity$"
    with pytest.raises(UserError, match=says):
        puriflow.purify(images, **chain)
    with pytest.raises(UserError, match=says):
        puriflow.purify(torch.from_numpy(images), **chain)
    with pytest.raises(UserError, match=f"^{spoiled} {name}: images becomes NaN"):
        puriflow.purify(images[2], **chain)
    assert puriflow.purify(images[:2], **chain).shape == (2, 40, 300, 3)


@pytest.mark.parametrize("ending", ["png", "npy", "npz", "zarr"])
def test_a_file_that_becomes_nan_is_one_line_and_not_written(tmp_path, command, spoiled, ending):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name in "ac":
        Image.fromarray(DARK).save(photos / f"{name}.png")
    bad, both = photos / f"b.{ending}", np.stack([DARK, WHITE])
    {
        "png": lambda: Image.fromarray(WHITE).save(bad),
        "npy": lambda: np.save(bad, both),
        "npz": lambda: np.savez(bad, both / 255),
        "zarr": lambda: zarr.create_array(bad, data=both),
    }[ending]()
    status, said = command(photos, *CHAIN, "--out", out)
    part = {"restorer": "restorer edsr", "purifier": "purifier little"}[spoiled]
    place = "" if ending == "png" else " [1]"
    assert status == 2
    assert said.splitlines()[-1].endswith(f"{part}: {bad}{place} becomes NaN or infinity")
    assert whole_files(out) == ["a.png", "purified.jsonl"]
    bad.rename(tmp_path / bad.name)  # without it, the others go on
    status, said = command(photos, *CHAIN, "--out", out)
    assert (status, "1 done before" in said) == (0, True), said
    assert whole_files(out) == ["a.png", "c.png", "purified.jsonl"]


def whole_files(folder):
    """What a folder of results has, without the tiles of an image that is not finished."""
    return sorted(f.name for f in folder.iterdir() if f.suffix != ".tiles")


def test_unknown_names_are_refused(track):
    with pytest.raises(UserError, match="did you mean 'edsr'"):
        puriflow.purify(pixels(8, 8, 3), restorer="edsr-x2", config=track)
    with pytest.raises(UserError, match="nothing to do"):
        puriflow.purify(pixels(8, 8, 3), config=track)


# Files


def test_a_folder_keeps_names_and_formats(tmp_path, command, track):
    photos, out = tmp_path / "photos", tmp_path / "out"
    (photos / "sub" / ".hidden").mkdir(parents=True)
    first, second, third = pixels(32, 64, 3), pixels(32, 64, 3), pixels(2, 32, 64, 3)
    Image.fromarray(first).save(photos / "a.PNG")
    Image.fromarray(second).save(photos / "sub" / "b.png")
    np.save(photos / "c.npy", third)
    (photos / "notes.txt").write_text("no image")
    (photos / "sub" / ".hidden" / "x.png").write_text("not looked at")
    status, said = command(photos, *CHAIN, "--out", out)
    assert status == 0, said
    assert {str(f.relative_to(out)) for f in out.rglob("*") if f.is_file()} == {
        *("a.PNG", "c.npy", "sub/b.png", "purified.jsonl")
    }
    found = [np.asarray(Image.open(out / n)) for n in ("a.PNG", "sub/b.png")]
    for result, images, name in (
        (found[0][None], first[None], "a.PNG"),
        (np.load(out / "c.npy"), third, "c.npy"),
        (found[1][None], second[None], "sub/b.png"),
    ):
        indices = noise_indices(Path(name), len(images))
        np.testing.assert_array_equal(result, expected(images, track, indices))
    assert "c.npy: 2 images of 64x32\n" in said
    assert "purify: 4/4 images" in said
    assert "3 files in" in said


def test_what_is_done_to_the_size_is_said(tmp_path, command):
    for name, size in [("small", (50, 20)), ("large", (300, 20))]:
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    files = [tmp_path / "small.png", tmp_path / "large.png"]
    _, said = command(*files, "--restorer", "edsr", "--out", tmp_path / "out")
    assert "small.png: 50x20; padded by reflection to 64x32, and cropped back" in said
    assert "large.png: 300x20; 2 tiles of 192x32, padded by reflection, blended" in said
    assert "3/3 tiles" in said
    assert Image.open(tmp_path / "out" / "large.png").size == (300, 20)


def test_a_jpeg_becomes_a_png_the_right_way_up(tmp_path, command):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.new("RGB", (40, 32)).save(tmp_path / "photo.JPG", "JPEG", exif=exif)
    _, said = command(tmp_path / "photo.JPG", "--restorer", "edsr", "--out", tmp_path / "out")
    with Image.open(tmp_path / "out" / "photo.png") as found:
        assert (found.format, found.size) == ("PNG", (32, 40))
    assert "written as PNG; turned as its EXIF data say" in said


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_grey_and_alpha_are_kept(tmp_path, command, mode):
    image = Image.fromarray(pixels(32, 32, 3))
    if mode == "RGBA":
        image.putalpha(Image.fromarray(pixels(32, 32)))
    image = image.convert(mode)
    options = {"transparency": 0} if mode == "P" else {}
    image.save(tmp_path / "a.png", icc_profile=b"a profile", **options)
    status, said = command(tmp_path / "a.png", "--restorer", "edsr", "--out", tmp_path / "out")
    assert status == 0, said
    source, found = Image.open(tmp_path / "a.png"), Image.open(tmp_path / "out" / "a.png")
    assert found.mode == {"P": "RGBA", "1": "L"}.get(mode, mode)
    assert found.info["icc_profile"] == b"a profile"
    assert ("grey: purified as RGB, written as grey" in said) == (mode in ("L", "LA", "1"))
    assert ("alpha channel kept" in said) == (mode in ("LA", "RGBA", "P"))
    if "A" in found.mode:
        alphas = [np.asarray(i.convert("RGBA").getchannel("A")) for i in (source, found)]
        np.testing.assert_array_equal(*alphas)


def test_npz_keeps_its_other_arrays(tmp_path, command):
    images = (pixels(2, 3, 32, 32) / 255).astype(np.float32)
    np.savez(tmp_path / "adv.npz", images=images, label=[3, 8])
    _, said = command(tmp_path / "adv.npz", "--restorer", "edsr", "--out", tmp_path / "out")
    with np.load(tmp_path / "out" / "adv.npz") as found:
        assert (found["images"].shape, found["images"].dtype) == (images.shape, images.dtype)
        assert list(found["label"]) == [3, 8]
    assert "label copied as they are" in said


@pytest.mark.parametrize("grouped", [False, True])
def test_zarr_keeps_its_chunks(tmp_path, command, track, grouped):
    images = pixels(3, 32, 32, 3)
    source = tmp_path / "mine.zarr"
    if grouped:
        group = zarr.create_group(source, attributes={"about": "me", "puriflow": "another"})
        group.create_array("label", data=np.arange(3))
        group.create_array("images", data=images, chunks=(2, 32, 32, 3))
    else:
        zarr.create_array(source, data=images, chunks=(2, 32, 32, 3))
    status, said = command(source, *CHAIN, "--out", tmp_path / "out")
    assert status == 0, said
    found = zarr.open(tmp_path / "out" / "mine.zarr", mode="r")
    if grouped:
        assert dict(found.attrs) == {"about": "me"}
        assert list(found["label"][:]) == [0, 1, 2]
        found = found["images"]
    assert found.chunks == (2, 32, 32, 3)
    indices = noise_indices(Path("mine.zarr"), 3)
    np.testing.assert_array_equal(found[:], expected(images, track, indices))


def test_a_stage_is_read_like_a_folder_and_opens_with_xarray(tmp_path, command, four_images):
    out = tmp_path / "out"
    status, said = command(four_images.folder, "--restorer", "edsr", "--out", out)
    assert status == 0, said
    data = xarray.open_zarr(out / "images.zarr", consolidated=False)
    assert data.images.dims == ("sample", "channel", "y", "x")
    assert list(data.label.values) == list(four_images.read("label"))
    assert data.images.dtype == np.float32
    assert not (out / "manifest.json").exists()


# What is refused, before anything is computed


def deep(path):
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(path)


def damaged_zarr(path):
    zarr.create_array(path, data=pixels(4, 32, 32, 3), chunks=(1, 32, 32, 3))
    (path / "c/2/0/0/0").write_bytes(b"broken")


def no_zarr(path):
    path.mkdir()
    (path / "zarr.json").write_text("5")


def damaged_npz(path):
    np.savez_compressed(path, pixels(4, 32, 32, 3))
    content = bytearray(path.read_bytes())
    content[200:260] = b"\xff" * 60
    path.write_bytes(content)


def huge_npz(path):
    header = str({"descr": "|u1", "fortran_order": False, "shape": (10**9, 10**6, 3)}) + "\n"
    with zipfile.ZipFile(path, "w") as file:
        start = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header))
        file.writestr("images.npy", start + header.encode())


def readme_npz(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("README", "no array")


BAD = {
    "manifest.json": (
        lambda p: p.write_text("{}"),
        "manifest.json is a manifest: use `puriflow stage purify`",
    ),
    "text.png": (lambda p: p.write_text("text"), "text.png cannot be read"),
    "deep.png": (deep, "deep.png has more than 8 bits a channel"),
    "a.psd": (lambda p: p.write_bytes(b"8BPS"), "a.psd is not an image: give .png"),
    "a.npy": (lambda p: p.write_bytes(b"\x93NUMPY"), "a.npy cannot be read"),
    "o.npy": (
        lambda p: np.save(p, np.array([{}])),
        "o.npy cannot be read: Array can't be memory",
    ),
    "nan.npy": (lambda p: np.save(p, np.full((8, 8, 3), np.nan)), "nan.npy has NaN"),
    "a.npz": (lambda p: p.write_bytes(b"PK no"), "a.npz cannot be read"),
    "two.npz": (lambda p: np.savez(p, x=[1], y=[2]), "unknown array of"),
    "a.zarr": (damaged_zarr, "a.zarr cannot be read"),
    "five.zarr": (no_zarr, "zarr.json describes no Zarr array"),
    "exif.png": (
        lambda p: Image.new("RGB", (8, 8)).save(p, exif=b"Exif\0\0MM\0*"),
        "exif.png cannot be read",
    ),
    "broken.npz": (damaged_npz, "broken.npz cannot be read: Error -3"),
    "huge.npz": (huge_npz, "huge.npz: images.npy in it is cut off"),
    "readme.npz": (readme_npz, "readme.npz is no npz: README in it is no array"),
    "empty": (lambda p: p.mkdir(), "empty has no .png"),
    "nowhere.png": (lambda p: None, "nowhere.png does not exist"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_file_stops_all_before_anything_is_computed(tmp_path, command, name):
    make, message = BAD[name]
    Image.new("RGB", (32, 32)).save(tmp_path / "good.png")
    make(tmp_path / name)
    out = tmp_path / "out"
    status, said = command(
        tmp_path / "good.png", tmp_path / name, "--restorer", "edsr", "--out", out
    )
    assert status == 2
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to do: name a restorer"),
        (["--restorer", "esdr"], "did you mean 'edsr'?"),
        (["--purifier", "litle"], "did you mean 'little'?"),
        (["--restorer", "edsr", "--classifier", "wrn"], "is for the sheet: add --compare"),
        (["--restorer", "edsr", "--compare", "--classifier", "w"], "unknown classifier 'w'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, command, options, message):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    status, said = command(tmp_path / "a.png", *options, "--out", tmp_path / "out")
    assert status == 2
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_two_results_of_one_name_are_refused(tmp_path, command):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.jpg")
    status, said = command(tmp_path, "--restorer", "edsr", "--out", tmp_path / "out")
    assert status == 2
    assert "would both become a.png" in said


def test_results_are_not_taken_for_images(tmp_path, command):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    for message in ("1 files in", "1 done before"):
        _, said = command(tmp_path, "--restorer", "edsr", "--out", tmp_path / "out")
        assert message in said
    status, said = command(tmp_path, "--restorer", "edsr", "--out", tmp_path)
    assert status == 2
    assert "cannot be read from and written to" in said


def test_links_in_a_folder_are_followed_but_not_in_circles(tmp_path, command):
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    for folder in (photos, elsewhere):
        folder.mkdir()
    Image.new("RGB", (32, 32)).save(elsewhere / "a.png")
    (photos / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(photos)
    (photos / "itself").symlink_to("itself")
    status, said = command(photos, "--restorer", "edsr", "--out", tmp_path / "out")
    assert (status, "1 files in" in said) == (0, True), said
    assert (tmp_path / "out" / "linked" / "a.png").is_file()


def test_a_folder_that_may_not_be_read_is_said(tmp_path, command, monkeypatch):
    def forbidden(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(inputs.os, "scandir", forbidden)
    status, said = command(tmp_path, "--restorer", "edsr", "--out", tmp_path / "out")
    assert (status, "cannot be read" in said, "Permission denied" in said) == (2, True, True)


@pytest.mark.parametrize("name", ["x" * 251, "g\u00fcn \u732b", os.fsdecode(b"\xff\xfe")])
def test_any_name_of_a_file_will_do(tmp_path, command, name):
    with (tmp_path / f"{name}.png").open("wb") as file:
        Image.new("RGB", (32, 32)).save(file, "PNG")
    for done in ("1 files in", "1 done before"):
        status, said = command(tmp_path, *CHAIN, "--compare", "--out", tmp_path / "out")
        assert (status, done in said) == (0, True), said
    assert (tmp_path / "out" / f"{name}.png").is_file()


def test_groups_of_a_zarr_group_are_said_to_be_left_out(tmp_path, command):
    group = zarr.create_group(tmp_path / "mine.JPG")
    group.create_array("images", data=pixels(1, 32, 32, 3))
    group.create_group("more")
    _, said = command(tmp_path / "mine.JPG", "--restorer", "edsr", "--out", tmp_path / "out")
    assert "mine.JPG: 32x32; more left out, being no array\n" in said


# What is kept


def test_no_file_is_overwritten(tmp_path, command):
    source, out = tmp_path / "a.png", tmp_path / "out"
    Image.fromarray(pixels(32, 32, 3)).save(source)
    out.mkdir()
    (out / "a.png").write_text("a precious file")
    refused = "a.png exists and was not made here, or has been changed"
    status, said = command(source, "--restorer", "edsr", "--out", out)
    assert (status, refused in said) == (2, True)
    assert (out / "a.png").read_text() == "a precious file"

    (out / "a.png").unlink()
    assert command(source, *CHAIN, "--out", out)[0] == 0
    made = (out / "a.png").read_bytes()
    for other, differs in (
        (["--restorer", "edsr"], "purifier, code, weights"),
        ([*CHAIN, "--seed", "1"], "seed"),
    ):
        status, said = command(source, *other, "--out", out)
        assert (status, f"a.png exists and was made differently ({differs})" in said) == (2, True)
    assert (out / "a.png").read_bytes() == made
    (out / "a.png").write_bytes(made + b"changed by hand")
    assert command(source, *CHAIN, "--out", out)[0] == 2
    (out / "a.png").write_bytes(made)
    Image.fromarray(pixels(32, 32, 3)).save(source)  # another image of that name
    status, said = command(source, *CHAIN, "--out", out)
    assert (status, "was made differently (source)" in said) == (2, True)
    assert (out / "a.png").read_bytes() == made


def test_a_link_that_leads_nowhere_is_not_replaced(tmp_path, command):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").symlink_to("nowhere")
    status, said = command(tmp_path / "a.png", "--restorer", "edsr", "--out", out)
    assert (status, "a.png exists and was not made here" in said) == (2, True)
    assert (out / "a.png").is_symlink()


def test_images_that_are_added_are_done_and_the_others_left_alone(tmp_path, command):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name in "bc":
        Image.fromarray(pixels(32, 32, 3)).save(photos / f"{name}.png")
    assert command(photos, *CHAIN, "--out", out)[0] == 0
    kept = (out / "b.png").stat().st_mtime_ns
    np.save(photos / "a.npy", pixels(2, 32, 32, 3))  # which comes first
    status, said = command(photos, *CHAIN, "--out", out)
    assert (status, "3 files in" in said, "2 done before" in said) == (0, True, True), said
    assert (out / "b.png").stat().st_mtime_ns == kept


def test_a_result_depends_neither_on_neighbours_nor_on_order(tmp_path, command):
    for name in "abc":
        Image.new("RGB", (32, 32)).save(tmp_path / f"{name}.png")
    a, b, c = (tmp_path / f"{name}.png" for name in "abc")
    for out, given in [("one", (a, b, c)), ("two", (c, a))]:
        assert command(*given, *CHAIN, "--out", tmp_path / out)[0] == 0
    results = [(tmp_path / "one" / f.name).read_bytes() for f in (a, b, c)]
    assert len(set(results)) == 3  # of one image: each has noise of its own
    for file, result in zip((a, c), results[::2], strict=True):
        assert (tmp_path / "two" / file.name).read_bytes() == result


def test_a_run_that_was_killed_goes_on(tmp_path, command, monkeypatch):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name in "abc":
        Image.fromarray(pixels(32, 32, 3)).save(photos / f"{name}.png")
    command(photos, *CHAIN, "--out", tmp_path / "whole")

    open_images = command_module.open_images

    def killed(path):
        if path.name == "b.png":
            raise KeyboardInterrupt
        return open_images(path)

    with monkeypatch.context() as patch:
        patch.setattr(command_module, "open_images", killed)
        command(photos, *CHAIN, "--out", out)
    assert [f.name for f in sorted(out.glob("*.png"))] == ["a.png"]
    with (out / "purified.jsonl").open("a") as file:
        file.write('{"file": "b.pn')  # what a kill may leave
    (out / f".{32 * '0'}.purifying").write_text("as well as this")
    kept = (out / "a.png").stat().st_mtime_ns

    status, said = command(photos, *CHAIN, "--out", out)
    assert status == 0, said
    assert "3 files in" in said
    assert "1 done before" in said
    assert (out / "a.png").stat().st_mtime_ns == kept
    assert sorted(f.name for f in out.iterdir()) == ["a.png", "b.png", "c.png", "purified.jsonl"]
    for name in "abc":
        assert (out / f"{name}.png").read_bytes() == (
            tmp_path / "whole" / f"{name}.png"
        ).read_bytes()


def test_the_record_says_what_made_a_file(tmp_path, command):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    command(tmp_path / "a.png", *CHAIN, "--out", tmp_path / "out", "--seed", "5")
    entry = json.loads((tmp_path / "out" / "purified.jsonl").read_text())
    assert entry["file"] == "a.png"
    assert entry["made_by"]["purifier"]["t"] == 3
    assert entry["made_by"]["seed"] == 5
    assert len(entry["made_by"]["weights"]) == 2


def test_one_folder_has_one_writer(tmp_path, command):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    out.mkdir()
    with (out / "purified.jsonl").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        status, said = command(tmp_path / "a.png", *CHAIN, "--out", out)
    assert status == 2
    assert "is being written by another process" in said


@pytest.mark.parametrize("content", [b"5\n", b"{}\n", b"notes of mine\n", b"\xff\xfe\n"])
def test_a_record_that_is_none_is_refused(tmp_path, command, content):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / "purified.jsonl").write_bytes(content)
    status, said = command(tmp_path / "a.png", *CHAIN, "--out", out)
    assert (status, "purified.jsonl is no record of purified files" in said) == (2, True)
    assert (out / "purified.jsonl").read_bytes() == content


def test_a_file_where_a_folder_must_be_is_said_before_anything_is_computed(tmp_path, command):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        Image.new("RGB", (32, 32)).save(tmp_path / "in" / name)
    out = tmp_path / "out"
    out.mkdir()
    (out / "sub").write_text("precious")
    status, said = command(tmp_path / "in", "--restorer", "edsr", "--out", out)
    assert (status, "sub cannot be made: File exists" in said) == (2, True)
    assert not (out / "a.png").exists()


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(tmp_path, command, monkeypatch):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    given = (tmp_path / "a.png", "--restorer", "edsr", "--out", tmp_path / "out")

    def full(temporary, path):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(record, "publish", full)
        status, said = command(*given)
    assert (status, "a.png cannot be written: [Errno 28] No space left" in said) == (2, True)
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["purified.jsonl"]
    assert command(*given)[0] == 0


def test_a_sheet_that_a_kill_left_behind_is_drawn_anew(tmp_path, command, monkeypatch):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    Image.new("RGB", (32, 32), "red").save(tmp_path / "b.png")
    given = (tmp_path / "a.png", "--restorer", "edsr", "--compare", "--out", tmp_path / "out")
    assert command(*given)[0] == 0

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # the new sheet is recorded, but the old one is there
        patch.setattr(
            command_module, "write_purified", lambda *_: patch.setattr(os, "replace", killed)
        )
        command(*given, "--classifier", "wrn")
    assert command(*given)[0] == 0


# The sheet


def test_the_sheet_shows_every_image_and_what_is_seen_in_it(tmp_path, command, track):
    np.save(tmp_path / "many.npy", pixels(13, 32, 32, 3))
    given = (tmp_path / "many.npy", *CHAIN, "--compare", "--out", tmp_path / "out")
    status, said = command(*given, "--classifier", "wrn")
    assert status == 0, said
    assert "the sheet shows the first 12 of 13 images" in said
    part = load_config(track).part("classifier", "wrn")
    classifier = ImageClassifier(part, torch.device("cpu"))
    for i, line in enumerate(line for line in said.splitlines() if " -> " in line and "[" in line):
        before, after = (np.load(tmp_path / f)[i] for f in ("many.npy", "out/many.npy"))
        floats = [x.transpose(2, 0, 1).astype(np.float32) / 255 for x in (before, after)]
        seen = [classifier(x) for x in floats]
        texts = [f"{label}, {100 * p:.0f} %" for label, p in seen]
        assert line == f"many.npy [{i}]: {' -> '.join(texts)}"
    with Image.open(tmp_path / "out" / "compare.png") as sheet:
        assert sheet.size == (6 + 3 * 230, 22 + 12 * (22 + 224 + 22 + 6))
        shown = np.asarray(sheet.crop((6, 44, 230, 268)).resize((32, 32), Image.Resampling.BOX))
    np.testing.assert_array_equal(shown, np.load(tmp_path / "many.npy")[0])
    # Without a classifier it is drawn anew, in place of its own; a stranger's is left alone.
    assert command(*given)[0] == 0
    (tmp_path / "out" / "compare.png").write_text("mine")
    status, said = command(*given)
    assert status == 2
    assert "compare.png exists and was not made here" in said


def test_an_image_called_as_the_sheet_is_refused(tmp_path, command):
    Image.new("RGB", (32, 32)).save(tmp_path / "compare.png")
    status, said = command(
        tmp_path / "compare.png", "--restorer", "edsr", "--compare", "--out", tmp_path / "out"
    )
    assert (status, "rename it" in said) == (2, True)


def test_the_difference_is_enlarged_about_grey(tmp_path, command):
    Image.new("RGB", (224, 224), (100, 100, 100)).save(tmp_path / "a.png")
    command(tmp_path / "a.png", "--restorer", "edsr", "--compare", "--out", tmp_path / "out")
    before, after = (np.asarray(Image.open(tmp_path / f)) for f in ("a.png", "out/a.png"))
    sheet = np.asarray(Image.open(tmp_path / "out" / "compare.png"))[44:268]
    np.testing.assert_array_equal(sheet[:, 236:460], after)
    change = (after.astype(int) - before.astype(int)) / 255
    gain = 2 ** round(np.log2(0.5 / np.quantile(np.abs(change), 0.99)))
    assert 1 < gain < 128
    expected = 255 * (0.5 + gain * change).clip(0, 1)
    assert np.abs(sheet[:, 466:690] - expected).max() <= 0.6  # of rounding


def test_another_prediction_is_framed_and_said_in_words(tmp_path, command):
    """Of an image that stays as it is and of one whose class changes, by a classifier of means."""
    pen = ImageDraw.Draw(sheet := Image.new("RGB", (700, 300), "white"))

    def classifier(image):
        return ("dark" if image.mean() < 0.5 else "light"), 0.9

    dark, light = np.zeros((3, 8, 8), np.float32), np.ones((3, 8, 8), np.float32)
    looks = []
    for after in (dark, light):
        said = comparison.answers(pen, classifier, dark, after, 224)
        looks.append(np.asarray(sheet).copy())
        pen.rectangle((0, 0, 700, 300), fill="white")
    assert said == "dark, 90 % -> light, 90 %"
    same, other = looks
    wrong, right = ImageColor.getrgb(WRONG), ImageColor.getrgb(RIGHT)
    assert (same[:224] == 255).all()  # no frame
    assert (other[100, 236] == wrong).all()
    assert (other[100, 236 + 223] == wrong).all()
    below = slice(466, 690)  # and in words, which are not only of another colour
    ink = [(look[224:, below] < 250).any(axis=2).sum() for look in looks]
    assert ink[1] > 1.3 * ink[0] > 0
    assert (same[224:, below] == right).all(axis=2).any()


def test_imagenet_s_classes_are_named_and_images_of_the_right_size_left_alone(
    track, four_images, monkeypatch
):
    part = load_config(track).part("classifier", "lite0")
    classifier = ImageClassifier(part, torch.device("cpu"))
    image = four_images.read("images", 0, 1)
    x = torch.from_numpy(image)
    assert classifier.resized(x) is x
    assert classifier.resized(torch.rand(1, 3, 300, 500)).shape == (1, 3, 224, 224)
    sizes = []

    def resized(images, size, **how):
        sizes.append(size)
        return nn.functional.interpolate(images, size, **how)

    monkeypatch.setattr(comparison, "F", SimpleNamespace(interpolate=resized))
    assert classifier.resized(torch.rand(1, 3, 2, 90)).shape == (1, 3, 224, 224)
    assert classifier.resized(torch.rand(1, 3, 90, 30)).shape == (1, 3, 224, 224)
    assert sizes == [(256, 1024), (768, 256)]
    label, confidence = classifier(image[0])
    logits = classifier.classifier(x)
    assert classifier.names.index(label) == int(logits.argmax())
    assert confidence == pytest.approx(float(logits.softmax(1).max()))
    assert classifier.names[207] == "golden retriever"


def test_a_classifier_is_shown_images_of_its_own_size(monkeypatch):
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1000))
    sized = Normalised(network, mean=[0.5] * 3, std=[0.5] * 3, size=299)
    monkeypatch.setattr(Part, "build", lambda self: sized)
    classifier = ImageClassifier(Part("classifier", "large", "pretrained"), torch.device("cpu"))
    assert classifier.resized(torch.rand(1, 3, 64, 128)).shape == (1, 3, 299, 299)
    assert classifier(np.zeros((3, 64, 128), np.float32))[0] in classifier.names


GIVEN = [
    *(
        ({"seed": seed}, "seed is .* must be a whole number")
        for seed in (1.5, "1", None, -1, 2**32)
    ),
    *(({"restorer": name}, "restorer is .* must be a name") for name in (None, 5, ["edsr"])),
    ({"purifier": None}, "purifier is None, but must be a name; 'none' leaves it out"),
    *(({"config": c}, "config is .* must be a track, or the name of") for c in (5, b"x", {})),
    ({"config": "a\0b"}, "no name of a file"),
]


@pytest.mark.parametrize(("given", "says"), GIVEN)
def test_what_python_gives_wrongly_is_refused(track, given, says):
    image = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(UserError, match=says):
        puriflow.purify(image, **{"restorer": "bicubic", "config": track, **given})


def test_a_classifier_that_answers_nan_names_no_class(track):
    classifier = ImageClassifier(load_config(track).part("classifier", "wrn"), torch.device("cpu"))
    with pytest.raises(UserError, match="classifier wrn: logits have NaN or infinity"):
        classifier(np.full((3, 32, 32), np.nan, np.float32))


def test_a_classifier_of_other_classes_is_refused(monkeypatch):
    monkeypatch.setattr(Part, "build", lambda self: nn.Linear(3, 7))
    with pytest.raises(UserError, match="classifier seven is neither of ImageNet's classes nor of"):
        ImageClassifier(Part("classifier", "seven", "linear"), torch.device("cpu"))
