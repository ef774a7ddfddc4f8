"""Image files of others: what they claim is checked before it is read, and nothing in them runs."""

import gzip
import io
import json
import os
import pickle
import resource
import socket
import struct
import zipfile
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import zarr
from numcodecs import GZip
from PIL import Image

from puriflow.image_files import command as command_module
from puriflow.image_files import files, open_file, pictures

LIMIT = resource.getrlimit(resource.RLIMIT_AS)[0]
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


class Runs:
    """What is unpickled makes the file that it was told."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def header(shape, descr="|u1", version=1):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text


def store(path, *, version=3, data=IMAGES, attributes=None, **changes):
    """A Zarr array whose description was changed by hand."""
    array = zarr.create_array(path, data=data, chunks=data.shape, zarr_format=version)
    array.attrs.update(attributes or {})
    file = path / {2: ".zarray", 3: "zarr.json"}[version]
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return path


def grid(side):
    return {"name": "regular", "configuration": {"chunk_shape": [side, 32, 32, 3]}}


def pickled_zarr(path, dtype="|O"):
    """What numcodecs before 0.16.6 unpickled."""
    store(path, version=2, dtype=dtype, filters=[{"id": "pickle"}], compressor=None)
    (path / "0.0.0.0").write_bytes(pickle.dumps(Runs(path.with_name("ran"))))


def beside(path, **changes):
    """A group whose array `images` is sound and whose array `more` is not."""
    group = zarr.create_group(path)
    group.create_array("images", data=IMAGES)
    store(path / "more", **changes)


def pickled_npz(path):
    np.savez(path, images=IMAGES, more=np.array([Runs(path.with_name("ran"))]))


def bomb_npz(path):
    """3 MB that unpack to more than there is."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("images.npy", header((30, 1000, 1000, 3)) + bytes(90_000_000))


def named_npz(path, *names):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            content = io.BytesIO()
            np.save(content, IMAGES)
            file.writestr(name, content.getvalue())


def bomb_png(path):
    """A PNG of 60,000 pixels square, of whose pixels there are none."""

    def chunk(name, content):
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )


def hidden_depth(path):
    """A PNG of 16 bits, whose header is not where one looks for it."""
    content = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(content, "PNG")
    whole = content.getvalue()
    text = b"\0\0\0\x08tEXta\0bbbbbb"
    path.write_bytes(whole[:8] + text + struct.pack(">I", zlib.crc32(text[4:])) + whole[8:])


def tiff16(path):
    """A TIFF of 16 bits a channel: Pillow would cut them off."""
    pixels = np.arange(4 * 4 * 3, dtype="<u2").tobytes()
    tags = [
        *((256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2)),
        *((273, 4, 1, 14), (277, 3, 1, 3), (278, 3, 1, 4), (279, 4, 1, len(pixels))),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    start = struct.pack("<2sHI", b"II", 42, 14 + len(pixels)) + struct.pack("<3H", 16, 16, 16)
    path.write_bytes(start + pixels + struct.pack("<H", len(tags)) + entries + bytes(4))


def linked_chunk(path):
    store(path)
    chunk = path / "c/0/0/0/0"
    chunk.unlink()
    chunk.symlink_to("nowhere")


def piped_chunk(path):
    store(path)
    (path / "c/0/0/0/0").unlink()
    os.mkfifo(path / "c/0/0/0/0")


def a_socket(path):
    os.chdir(path.parent)  # the path of a socket must be short
    socket.socket(socket.AF_UNIX).bind(path.name)


PICKLE = {"id": "pickle"}
INNER = {"name": "sharding_indexed", "configuration": {"codecs": [{"name": "numcodecs.pickle"}]}}
FOREIGN = {
    # Code
    "object.npy": (lambda p: np.save(p, np.array([Runs(p.with_name("ran"))])), "cannot be read"),
    "pickle.npy": (lambda p: p.write_bytes(pickle.dumps(Runs(p.with_name("ran")))), "magic"),
    "object.npz": (pickled_npz, "more.npy in it has Python objects"),
    "pickle.npz": (lambda p: p.write_bytes(pickle.dumps(Runs(p.with_name("ran")))), "not a zip"),
    "object.zarr": (pickled_zarr, "is of |O: only arrays of numbers"),
    "filter.zarr": (lambda p: pickled_zarr(p, "|u1"), "unknown codec (of "),
    "compressor.zarr": (lambda p: store(p, version=2, compressor=PICKLE), "unknown codec"),
    "beside.zarr": (lambda p: beside(p, version=2, dtype="|O"), "more is of |O"),
    "beside-codec.zarr": (lambda p: beside(p, codecs=[{"name": "mine"}]), "unknown codec"),
    "codec.zarr": (lambda p: store(p, codecs=["numcodecs.zlib"]), "unknown codec"),
    "inner.zarr": (lambda p: store(p, codecs=[INNER]), "codec (of"),
    "text.zarr": (lambda p: store(p, data_type="string"), "cannot be read|only arrays of numbers"),
    "struct.zarr": (lambda p: store(p, version=2, dtype=[["a", "|O"]]), "only arrays of numbers"),
    "subarray.zarr": (lambda p: store(p, version=2, dtype="(9,)f4"), "only arrays of numbers"),
    # What is not what it should be
    "list.zarr": (lambda p: (store(p) / "zarr.json").write_text("[]"), "describes no Zarr"),
    "deep.zarr": (lambda p: (store(p) / "zarr.json").write_text("[" * 20_000), "cannot be read"),
    "latin.zarr": (lambda p: (store(p) / "zarr.json").write_bytes(b'{"\xff": 1}'), "cannot be"),
    "big.zarr": (
        lambda p: os.truncate(store(p) / "zarr.json", 2**25),
        "zarr.json is too large to describe an array",
    ),
    "codecs.zarr": (lambda p: store(p, codecs=5), "cannot be read"),
    "nameless.zarr": (lambda p: store(p, codecs=[{}]), "cannot be read"),
    "negative.zarr": (lambda p: store(p, shape=[-1, 32, 32, 3]), "cannot be read"),
    "zip.npy": (lambda p: named_npz(p, "images.npy"), "cannot be read"),
    "version.npz": (
        lambda p: zipfile.ZipFile(p, "w").writestr("a.npy", header((1, 8, 8, 3), version=9)),
        "a.npy in it is an npy of version (9, 0)",
    ),
    "twice.npz": (lambda p: named_npz(p, "images.npy", "images.npy"), "two arrays in it have one"),
    "deep.png": (hidden_depth, "more than 8 bits a channel"),
    "deep.tif": (tiff16, "more than 8 bits a channel"),
    "float.tiff": (
        lambda p: Image.fromarray(np.zeros((8, 8), np.float32)).save(p),
        "more than 8 bits a channel",
    ),
    "lab.tif": (lambda p: Image.new("LAB", (8, 8)).save(p), "colours of mode LAB"),
    "eps.png": (lambda p: Image.new("RGB", (8, 8)).save(p, "EPS"), "cannot be read"),
    # What has no end
    "pipe.png": (os.mkfifo, "pipe.png cannot be read: it is a pipe"),
    "pipe.npy": (os.mkfifo, "it is a pipe"),
    "socket.png": (a_socket, "it is a pipe, a device or the like"),
    "device.npz": (lambda p: p.symlink_to("/dev/zero"), "it is a pipe, a device"),
    "chunk.zarr": (piped_chunk, "is in a Zarr store, but is no file"),
    "link.zarr": (linked_chunk, "is in a Zarr store, but is no file"),
    # What is too large
    "claims.npy": (lambda p: p.write_bytes(header((10**6, 1000, 1000, 3))), "cannot be read"),
    "claims.npz": (
        lambda p: zipfile.ZipFile(p, "w").writestr("a.npy", header((10**6, 1000, 1000, 3))),
        "cut off, or claims what it has not",
    ),
    "claims.zarr": (
        lambda p: store(p, shape=[10**10, 32, 32, 3], chunk_grid=grid(1)),
        "the results take up to 3.07e+04 GB, but",
    ),
    "chunks.zarr": (
        lambda p: store(p, shape=[10**10, 32, 32, 3], chunk_grid=grid(10**10)),
        "would take 3.07e+04 GB of memory, but",
    ),
    "beside-claims.zarr": (
        lambda p: beside(p, shape=[10**10, 32, 32, 3], chunk_grid=grid(1)),
        "the results take up to",
    ),
    "bomb.png": (bomb_png, "cannot be read"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_one_line_and_nothing_of_it_runs(tmp_path, command, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, message = FOREIGN[name]
    make(tmp_path / name)
    for given in (tmp_path / name, tmp_path):  # by its name, and in a folder
        status, said = command(given, "--restorer", "bicubic", "--out", tmp_path / "out")
        assert status == 2
        assert any(part in said for part in message.split("|only"))
        assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["bomb.npz", "wide.npy", "wide.png"])
def test_what_the_memory_cannot_hold_is_refused_before_it_is_read(
    tmp_path, command, monkeypatch, name
):
    if name == "bomb.npz":
        bomb_npz(tmp_path / name)
        assert (tmp_path / name).stat().st_size < 100_000
    elif name == "wide.npy":
        np.save(tmp_path / name, np.zeros((2000, 1000, 3), np.uint8))
    else:
        Image.new("RGB", (3000, 2000)).save(tmp_path / name)
    memory = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=20_000_000))
    monkeypatch.setattr(open_file, "psutil", memory)
    status, said = command(tmp_path / name, "--restorer", "bicubic", "--out", tmp_path / "out")
    assert (status, len(said.splitlines())) == (2, 1), said
    assert "of memory, but 20 MB are free" in said


def test_what_the_disk_cannot_hold_is_refused_before_it_is_computed(tmp_path, command, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros((2, 100, 100, 3), np.float32))
    np.save(tmp_path / "b.npy", np.zeros((2, 100, 100, 3), np.float32))
    given = (tmp_path, "--restorer", "bicubic", "--out", tmp_path / "out")
    usage = "puriflow.image_files.inputs.shutil.disk_usage"
    with monkeypatch.context() as patch:
        patch.setattr(usage, lambda place: SimpleNamespace(free=300_000))
        status, said = command(*given)
    assert status == 2
    assert "the results take up to 0.48 MB, but 0.3 MB are free" in said
    assert command(tmp_path / "a.npy", *given[1:])[0] == 0
    with monkeypatch.context() as patch:  # what is there needs no room
        patch.setattr(usage, lambda place: SimpleNamespace(free=300_000))
        assert command(*given)[0] == 0


def test_values_are_checked_in_small_blocks(tmp_path, command, monkeypatch):
    monkeypatch.setattr("puriflow.image_files.layout.BLOCK", 1)
    np.save(tmp_path / "a.npy", np.stack([np.full((8, 8, 3), v) for v in (0.5, 0.5, 1e300)]))
    status, said = command(tmp_path / "a.npy", "--restorer", "bicubic", "--out", tmp_path / "out")
    assert (status, "NaN or infinity" in said, len(said.splitlines())) == (2, True, 1), said


def test_a_folder_without_end_is_refused(tmp_path, command, monkeypatch):
    monkeypatch.setattr(files, "MOST", 1000)
    for i in range(20):  # two links each: a million paths
        (tmp_path / f"{i:02d}").mkdir()
        for name in "ab":
            (tmp_path / f"{i:02d}" / name).symlink_to(f"../{i + 1:02d}")
    status, said = command(tmp_path / "00", "--restorer", "bicubic", "--out", tmp_path / "out")
    assert (status, "has more than 1,000 files and folders" in said) == (2, True), said


def test_a_folder_that_is_too_deep_is_refused(tmp_path, command):
    for depth, status in ((90, 0), (110, 2)):
        place = tmp_path / str(depth)
        (deepest := place.joinpath(*["d"] * depth)).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(deepest / "a.png")
        found, said = command(place, "--restorer", "bicubic", "--out", tmp_path / f"out{depth}")
        assert found == status, said
    assert f"folder {place} has folders more than 100 deep" in said


# What else is read


def picture(path, mode, size=(40, 32), **how):
    image = Image.fromarray(RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(RNG.integers(0, 256, size[::-1], dtype=np.uint8)))
    image.convert(mode).save(path, **how)


@pytest.mark.parametrize(
    ("name", "mode", "how"),
    [
        ("a.webp", "RGB", {"lossless": True}),
        ("a.webp", "RGBA", {"lossless": True, "exact": True}),
        *((f"a.{ending}", mode, {}) for ending in ("tif", "TIFF") for mode in ("1", "L", "RGB")),
        *(("a.tif", mode, {}) for mode in ("P", "LA", "RGBA", "CMYK")),
        ("a.tif", "RGB", {"compression": "tiff_lzw"}),
        *(("a.bmp", mode, {}) for mode in ("1", "L", "P", "RGB")),
        *(("a.gif", mode, {}) for mode in ("1", "L", "P")),
    ],
)
def test_every_picture_becomes_a_png_as_its_pixels_would(tmp_path, command, name, mode, how):
    (tmp_path / "in").mkdir()
    picture(tmp_path / "in" / name, mode, **how)
    with Image.open(tmp_path / "in" / name) as opened:
        same = opened.convert("RGB" if mode == "CMYK" else opened.mode)
        (tmp_path / "png").mkdir()
        same.save(tmp_path / "png" / "a.png")
    for folder in ("in", "png"):
        status, said = command(
            tmp_path / folder, "--restorer", "bicubic", "--out", tmp_path / f"out-{folder}"
        )
        assert status == 0, said
        assert ("written as PNG" in said) == (folder == "in")
    found, due = (Image.open(tmp_path / f"out-{folder}" / "a.png") for folder in ("in", "png"))
    assert (found.format, found.mode) == ("PNG", due.mode)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(due))


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.webp"])
def test_of_several_frames_the_first_is_taken_and_said(tmp_path, command, name):
    first, second = Image.new("RGB", (40, 32), "red"), Image.new("RGB", (40, 32), "blue")
    first.save(tmp_path / name, save_all=True, append_images=[second], lossless=True)
    out = tmp_path / "out"
    status, said = command(tmp_path / name, "--restorer", "bicubic", "--out", out)
    assert (status, "the first of its 2 frames" in said) == (0, True), said
    assert np.asarray(Image.open(out / "a.png").convert("RGB"))[0, 0].tolist() == [255, 0, 0]


def test_how_many_files_are_left_out_is_said(tmp_path, command):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    for name in ("b.heic", "c.HEIC", "notes.txt", "LICENSE", ".hidden", "Thumbs.db"):
        (tmp_path / name).write_text("no image")
    for system in ("@eaDir/a.png", "__MACOSX", "$RECYCLE.BIN", ".ipynb_checkpoints"):
        (tmp_path / system).mkdir(parents=True)
        (tmp_path / system / "thumbnail.png").write_text("no image of the user's")
    status, said = command(tmp_path, "--restorer", "bicubic", "--out", tmp_path / "out")
    assert status == 0
    assert "2 .heic, 1 .txt, 1 without an ending left out, being no images\n" in said


def test_a_colour_profile_that_no_png_can_have_is_left_out_and_said(tmp_path, command):
    large = RNG.bytes(pictures.LONGEST_PROFILE + 1)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.jpg", icc_profile=large)
    out = tmp_path / "out"
    status, said = command(tmp_path / "a.jpg", "--restorer", "bicubic", "--out", out, "--compare")
    assert (status, "its colour profile left out" in said) == (0, True), said
    assert "icc_profile" not in Image.open(out / "a.png").info


def test_an_npz_keeps_arrays_of_every_name_and_of_text(tmp_path, command):
    arrays = {"images": IMAGES, "file": np.arange(3), "allow_pickle": np.array(["a", "bc"])}
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w") as content:
                np.save(content, array)
    status, said = command(tmp_path / "a.npz", "--restorer", "bicubic", "--out", tmp_path / "out")
    assert status == 0, said
    with np.load(tmp_path / "out" / "a.npz") as found:
        assert sorted(found.files) == sorted(arrays)
        for name in ("file", "allow_pickle"):
            np.testing.assert_array_equal(found[name], arrays[name])


@pytest.mark.parametrize("filters", [None, [{"id": "delta", "dtype": "|u1"}]])
def test_a_zarr_of_version_2_in_known_codecs_is_read(tmp_path, command, filters):
    path = store(
        tmp_path / "a.zarr", version=2, filters=filters, compressor={"id": "gzip", "level": 1}
    )
    coded = np.concatenate([IMAGES.ravel()[:1], np.diff(IMAGES.ravel())]) if filters else IMAGES
    (path / "0.0.0.0").write_bytes(gzip.compress(coded.tobytes()))
    np.save(tmp_path / "a.npy", IMAGES)
    for name in ("a.zarr", "a.npy"):
        status, said = command(tmp_path / name, "--restorer", "bicubic", "--out", tmp_path / "out")
        assert status == 0, said
    found = zarr.open_array(tmp_path / "out" / "a.zarr", mode="r")
    assert found.metadata.zarr_format == 2
    np.testing.assert_array_equal(found[:], np.load(tmp_path / "out" / "a.npy"))


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">f2", "f2", "f8"])
@pytest.mark.parametrize("ending", ["npy", "npz", "zarr"])
def test_arrays_of_any_byte_order_give_the_same_and_keep_it(tmp_path, command, dtype, ending):
    images = (IMAGES / 255).astype(dtype)
    np.save(tmp_path / "due.npy", images.astype(np.dtype(dtype).newbyteorder("=")))
    path = tmp_path / f"a.{ending}"
    if ending == "npy":
        np.save(path, np.asfortranarray(images))
    elif ending == "npz":
        np.savez_compressed(path, images)
    else:
        zarr.create_array(path, data=images)
    for given in (path, tmp_path / "due.npy"):
        status, said = command(given, "--restorer", "bicubic", "--out", tmp_path / "out")
        assert status == 0, said
    out = tmp_path / "out" / path.name
    found = {"npy": np.load, "npz": lambda f: np.load(f)["arr_0"], "zarr": zarr.open_array}
    result = np.asarray(found[ending](out)[:] if ending == "zarr" else found[ending](out))
    assert result.dtype.newbyteorder("=") == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(result, np.load(tmp_path / "out" / "due.npy"))
    if ending != "zarr":
        assert result.dtype == np.dtype(dtype)


def test_a_chunk_that_unpacks_to_gigabytes_is_stopped(tmp_path, command, monkeypatch):
    monkeypatch.setattr(open_file, "ROOM", 2**28)
    path = tmp_path / "bomb.zarr"
    zarr.create_array(path, data=IMAGES, chunks=IMAGES.shape, zarr_format=2, compressors=GZip(1))
    compress = zlib.compressobj(1, zlib.DEFLATED, 31)
    with (path / "0.0.0.0").open("wb") as chunk:
        for _ in range(40):
            chunk.write(compress.compress(bytes(2**24)))
        chunk.write(compress.flush())
    status, said = command(path, "--restorer", "bicubic", "--out", tmp_path / "out")
    assert status == 2
    assert "bomb.zarr cannot be read: Unable to allocate" in said.splitlines()[-1]
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == LIMIT  # as before


def test_a_chunk_that_is_damaged_while_it_is_read_is_one_line(tmp_path, command, monkeypatch):
    path = store(tmp_path / "late.zarr")
    made = command_module.write_purified

    def late(*given):
        next(f for f in path.rglob("*") if f.is_file() and f.name != "zarr.json").write_bytes(b"no")
        made(*given)

    monkeypatch.setattr(command_module, "write_purified", late)
    status, said = command(path, "--restorer", "bicubic", "--out", tmp_path / "out")
    assert status == 2
    assert "late.zarr cannot be read: " in said.splitlines()[-1]
