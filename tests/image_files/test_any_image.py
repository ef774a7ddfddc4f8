"""Random arrays and random files: what comes out is right, or there is one line."""

import io
import tempfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import puriflow
from puriflow.config import load_config
from puriflow.errors import UserError
from puriflow.image_files.command import purify_files

SIDES = st.sampled_from([1, 2, 3, 4, 5, 31, 32, 33])
FLOATS = ["f2", "f4", "f8", ">f2", ">f4", ">f8", "g"]
OTHERS = ["i1", "<u2", ">i4", "i8", "?", "c8", "O", "U3", "S2", "M8[s]", [("r", "f4"), ("g", "f4")]]


@st.composite
def arrays(draw):
    """An array, laid out in memory in one of many ways."""
    height, width = draw(SIDES), draw(SIDES)
    colours = draw(st.sampled_from([3, 3, 3, 3, 1, 4]))
    shape = (height, width, colours) if draw(st.booleans()) else (colours, height, width)
    shape = draw(st.sampled_from([shape, (1, *shape), (2, *shape), (0, *shape), (1, 1, *shape)]))
    if draw(st.integers(0, 20)) == 0:
        shape = draw(st.sampled_from([(), (3,), (3, 3), shape[::-1]]))
    dtype = np.dtype(draw(st.sampled_from(["u1"] * 8 + FLOATS * 3 + OTHERS)))
    levels = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(0, 256, shape)
    if dtype.kind == "f":
        array = np.asarray(levels / 255).astype(dtype)
        if array.size and array.ndim and draw(st.integers(0, 3)) == 0:
            odd = [np.nan, np.inf, -np.inf, 1.5, -0.5, 255, -0.0, 1e-7]
            array.flat[0] = draw(st.sampled_from(odd))
    else:
        array = np.zeros(shape, dtype) if dtype.kind in "OUSMVc" else levels.astype(dtype)
    order = draw(st.sampled_from(["C", "F", "reversed", "strided", "read-only", "broadcast"]))
    if order == "F":
        array = np.asfortranarray(array)
    elif order == "reversed":
        array = np.flip(np.ascontiguousarray(np.flip(array)))
    elif order == "strided" and array.ndim:
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    elif order == "read-only":
        array.flags.writeable = False
    elif order == "broadcast" and array.ndim and len(array):
        array = np.broadcast_to(array[:1], array.shape)
    return array


@pytest.fixture(scope="module")
def loaded(track):
    return load_config(track)


def purified(images, loaded):
    """The result, or None where one line says why there is none."""
    try:
        return puriflow.purify(images, restorer="bicubic", config=loaded)
    except UserError:
        return None


@given(array=arrays())
def test_any_array_keeps_shape_type_and_scale_or_is_refused(array, loaded):
    before = array.copy()
    out = purified(array, loaded)
    np.testing.assert_array_equal(array, before)
    shape, dtype = array.shape, array.dtype
    colours = [shape[-3], shape[-1]].count(3) if len(shape) in (3, 4) else 0
    right = array.size > 0 and colours == 1 and (dtype == np.uint8 or dtype.kind == "f")
    if right and dtype.kind == "f":
        right = bool(((array >= 0) & (array <= 1)).all())
    assert (out is not None) == right
    if out is None:
        return
    assert (out.shape, out.dtype) == (shape, dtype)
    # The same image in the plainest layout gives the same, up to the rounding of its type.
    plain = np.ascontiguousarray(array, np.float32) / np.float32(255 if dtype == np.uint8 else 1)
    same = purified(plain, loaded)
    due = (same * 255).round() if dtype == np.uint8 else same
    np.testing.assert_array_equal(out, due.astype(dtype))


@given(array=arrays(), gradient=st.booleans())
def test_any_tensor_is_as_its_array(array, gradient, loaded):
    try:
        tensor = torch.from_numpy(array.copy())
    except (TypeError, ValueError):  # torch has no such type
        return
    tensor.requires_grad_(gradient and tensor.is_floating_point())
    out, expected = purified(tensor, loaded), purified(tensor.detach().numpy(), loaded)
    assert (out is None) == (expected is None)
    if out is not None:
        assert (out.dtype, out.requires_grad) == (tensor.dtype, False)
        np.testing.assert_array_equal(out.numpy(), expected)


@pytest.mark.parametrize("default", [torch.float64, torch.float16, torch.bfloat16])
def test_what_a_caller_told_torch_changes_nothing_and_stays(default, loaded):
    image = np.random.default_rng(0).random((32, 32, 3), dtype=np.float32)
    chain = {"restorer": "edsr", "purifier": "little", "config": loaded}
    due = puriflow.purify(image, **chain)
    torch.set_default_dtype(default)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta"):
            out = puriflow.purify(image, **chain)
            assert torch.get_default_dtype() == default
            assert torch.is_autocast_enabled("cpu")
            assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(out, due)


IMAGE = torch.rand(4, 4, 3, generator=torch.Generator().manual_seed(0))
TENSORS = {
    "float8": lambda: IMAGE.to(torch.float8_e4m3fn),
    "meta": lambda: IMAGE.to("meta"),
    "sparse": IMAGE.to_sparse,
    "bfloat16": lambda: IMAGE.to(torch.bfloat16),
    "quantised": lambda: torch.quantize_per_tensor(IMAGE, 0.1, 0, torch.quint8),
    "nested": lambda: torch.nested.nested_tensor([IMAGE], layout=torch.jagged),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_are_no_arrays_are_one_line(name, loaded):
    with pytest.raises(UserError, match="but must be a dense one of uint8") as refused:
        puriflow.purify(TENSORS[name](), restorer="bicubic", config=loaded)
    assert "\n" not in str(refused.value)


def test_lists_that_are_no_array_are_one_line(loaded):
    with pytest.raises(UserError, match="images are no array"):
        puriflow.purify([[1], [1, 2]], restorer="bicubic", config=loaded)


def test_a_view_with_its_sign_turned_is_what_it_shows(loaded):
    view = torch.complex(IMAGE, -IMAGE).conj().imag
    assert view.is_neg()
    out = puriflow.purify(view, restorer="bicubic", config=loaded)
    torch.testing.assert_close(out, puriflow.purify(IMAGE, restorer="bicubic", config=loaded))


# Files

MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F", "LAB", "HSV"]
FORMATS = {
    **{".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"},
    **{".bmp": "BMP", ".tif": "TIFF", ".gif": "GIF"},
}
EXTRAS = {
    "icc_profile": st.binary(min_size=1, max_size=40),
    "exif": st.binary(max_size=30).map(lambda content: b"Exif\0\0" + content),
    "transparency": st.integers(0, 255),
}


@st.composite
def files(draw):
    """The bytes of a small picture, sound or damaged, and an ending."""
    ending, mode = draw(st.sampled_from(sorted(FORMATS))), draw(st.sampled_from(MODES))
    width, height = draw(SIDES), draw(SIDES)
    colour = draw(st.binary(min_size=3, max_size=3))
    image = Image.frombytes("RGB", (width, height), colour * (width * height))
    image = image.convert("L") if mode[0] in "IF" else image
    how = draw(st.fixed_dictionaries({}, optional=EXTRAS))
    content = io.BytesIO()
    try:
        image.convert(mode).save(content, FORMATS[ending], **how)
    except (OSError, ValueError, TypeError, SystemError, SyntaxError, KeyError):
        content.write(draw(st.binary(max_size=60)))  # the format has no such picture
    whole = bytearray(content.getvalue())
    changes = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3)
    for place, byte in draw(changes):
        if whole:
            whole[place % len(whole)] = byte
    kept = draw(st.sampled_from([1.0, 1.0, 1.0, 0.9, 0.5]))
    return bytes(whole[: round(kept * len(whole))]), draw(st.sampled_from([ending, ".png"]))


@pytest.mark.filterwarnings("ignore")
@given(file=files())
def test_any_file_becomes_a_whole_png_or_is_one_line(file, loaded):
    content, ending = file
    names = {"restorer": "bicubic", "purifier": "none", "classifier": "none"}
    device = nullcontext(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as name:
        source, out = Path(name, f"a{ending}"), Path(name, "out")
        source.write_bytes(content)
        try:
            purify_files([source], out, loaded, names, compare=False, seed=0, device=device)
        except UserError:
            assert not out.exists()
            return
        assert sorted(f.name for f in out.iterdir()) == ["a.png", "purified.jsonl"]
        with Image.open(source) as before, Image.open(out / "a.png") as after:
            after.load()
            assert sorted(after.size) == sorted(before.size)
            assert after.mode in ("L", "LA", "RGB", "RGBA")
