"""Data sets: what every kind must do, how each is read, and the stage that stores their images."""

import hashlib
import io
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_parts import build_tiny, tiny

from puriflow.datasets import cifar10_folder, folder, foolbox
from puriflow.datasets.reading import read_image
from puriflow.datasets.samples import Samples, chosen_indices
from puriflow.errors import UserError
from puriflow.registry import Part, kinds
from puriflow.stages.images import write_images


def picture(path, size=(40, 30), colour=(200, 10, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def cifar10_files(tmp_path, monkeypatch):
    """A folder with two images in the files of torchvision's CIFAR-10, and their bytes."""
    import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision

    # isort: split
    from torchvision.datasets import CIFAR10

    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    rows = np.arange(2 * 3072, dtype=np.int64).reshape(2, 3072).astype(np.uint8)
    (base / "test_batch").write_bytes(pickle.dumps({"data": rows, "labels": [6, 1]}))
    md5 = hashlib.md5((base / "test_batch").read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5]])
    return tmp_path, rows


@pytest.fixture
def roots(tmp_path, cifar10_files):
    """What data sets on the disk are told: where they are."""
    picture(tmp_path / "imagenet" / "n01440764" / "a.png", size=(300, 300))
    picture(tmp_path / "imagenet" / "n15075141" / "b.png", size=(300, 260))
    picture(tmp_path / "pictures" / "frog" / "a.png", size=(32, 32))
    picture(tmp_path / "pictures" / "bird" / "b.jpg", size=(32, 32))
    return {
        "cifar10": {"root": str(cifar10_files[0])},
        "cifar10-folder": {"root": str(tmp_path / "pictures")},
        "folder": {"root": str(tmp_path / "imagenet")},
    }


@pytest.mark.parametrize("kind", kinds("datasets"))
def test_every_data_set_has_labelled_images_of_one_size(kind, roots):
    samples = build_tiny("datasets", kind, **roots.get(kind, {}))
    images = [samples.image(i) for i in range(len(samples))]
    assert len(samples) == len(samples.labels) > 0
    assert {image.shape for image in images} == {images[0].shape}
    assert images[0].shape[0] == 3
    for image in images:
        assert image.dtype == np.float32
        assert 0 <= image.min() < image.max() <= 1
    again = build_tiny("datasets", kind, **roots.get(kind, {}))
    assert again.fingerprint == samples.fingerprint
    assert list(again.labels) == list(samples.labels)


def test_the_samples_of_foolbox_have_their_labels():
    imagenet = foolbox.build(sample="imagenet", resize=256, crop=224)
    assert len(imagenet) == 20
    assert imagenet.image(0).shape == (3, 224, 224)
    cifar = foolbox.build(sample="cifar10")
    assert len(cifar) == 20
    assert cifar.image(0).shape == (3, 32, 32)
    assert list(cifar.labels[:3]) == [3, 8, 8]
    with pytest.raises(UserError, match="no samples of 'imagenett'"):
        foolbox.build(sample="imagenett")


def test_a_folder_takes_its_labels_from_the_sorted_wnids(tmp_path):
    assert len(folder.wnids()) == 1000
    assert folder.wnids() == sorted(folder.wnids())
    picture(tmp_path / "n01440764" / "tench.png")
    picture(tmp_path / "n15075141" / "paper.jpg")
    samples = folder.build(root=str(tmp_path), resize=None, crop=None)
    assert list(samples.labels) == [0, 999]
    np.testing.assert_array_equal(samples.read(0)[:, 0, 0], [200, 10, 20])


def test_cifar10_in_a_folder_has_the_official_labels(tmp_path, monkeypatch):
    picture(tmp_path / "truck" / "0.jpg", size=(32, 32))
    picture(tmp_path / "airplane" / "1.png", size=(32, 32))
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    samples = cifar10_folder.build(root=f"~/{tmp_path.name}")
    assert list(samples.labels) == [0, 9]
    np.testing.assert_array_equal(samples.read(0)[:, 0, 0], [200, 10, 20])
    picture(tmp_path / "truck" / "0.jpg", size=(64, 32))
    with pytest.raises(UserError, match=r"0\.jpg is 64x32, but CIFAR-10's are 32x32"):
        samples.read(1)


@pytest.mark.parametrize(
    ("kind", "name", "near"),
    [(folder, "n01440765", "n0144076"), (cifar10_folder, "airplanes", "airplane'")],
)
def test_a_folder_says_what_is_wrong_with_it(tmp_path, kind, name, near):
    wrong = [
        (tmp_path / "nowhere", "nowhere does not exist: name yours as the `root`"),
        (tmp_path, r"has no <(wnid|class)>/<image> in it"),
    ]
    for root, message in wrong:
        with pytest.raises(UserError, match=message):
            kind.build(root=str(root))
    picture(tmp_path / "photo.png")  # in no folder of a class
    with pytest.raises(UserError, match="has no <"):
        kind.build(root=str(tmp_path))
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=rf"(wnid|class) .*'{name}': did you mean '{near}"):
        kind.build(root=str(tmp_path))


def damaged_png():
    """A PNG whose header is sound, with a chunk that is not."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    second = content.index(b"IDAT", content.index(b"IDAT") + 4)
    content[second : second + 4] = b"\x00\xff\x00\xff"
    return bytes(content)


@pytest.mark.parametrize("content", [b"not an image", damaged_png()], ids=["text", "chunk"])
def test_an_unreadable_image_is_named_and_not_skipped(tmp_path, content):
    picture(tmp_path / "n01440764" / "a.png", size=(300, 300))
    broken = tmp_path / "n01440764" / "b.png"
    broken.write_bytes(content)
    with pytest.raises(UserError, match=r"b\.png cannot be read"):
        write_images(tmp_path / "out", tiny("datasets", "folder", root=str(tmp_path)))
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_images_of_several_sizes_are_refused(tmp_path):
    picture(tmp_path / "n01440764" / "a.png", size=(40, 40))
    picture(tmp_path / "n01440764" / "b.png", size=(50, 40))
    part = tiny("datasets", "folder", root=str(tmp_path), resize=None, crop=None)
    with pytest.raises(
        UserError, match=r"image 1 is \(3, 40, 50\), but the first is \(3, 40, 40\)"
    ):
        write_images(tmp_path / "out", part)


def test_an_unknown_filter_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"unknown interpolation.*did you mean 'bilinear'"):
        build_tiny("datasets", "folder", root=str(tmp_path), interpolation="bilinea")


def test_reading_resizes_the_short_side_and_crops_the_centre(tmp_path):
    file = tmp_path / "wide.png"
    pixels = np.zeros((100, 300, 3), dtype=np.uint8)
    pixels[:, 100:200] = 255
    Image.fromarray(pixels).save(file)
    image = read_image(file, resize=50, crop=50)
    assert image.shape == (3, 50, 50)
    assert image[:, :, 2:-2].min() > 250
    with pytest.raises(UserError, match="smaller than the crop of 60"):
        read_image(file, resize=50, crop=60)


def test_cifar10_says_where_it_looked(tmp_path):
    with pytest.raises(UserError, match=f"CIFAR-10 in {tmp_path}"):
        build_tiny("datasets", "cifar10", root=str(tmp_path))


def test_cifar10_reads_torchvisions_files(cifar10_files):
    root, rows = cifar10_files
    samples = build_tiny("datasets", "cifar10", root=str(root))
    assert list(samples.labels) == [6, 1]
    np.testing.assert_array_equal(samples.read(1), rows[1].reshape(3, 32, 32))


def test_a_subset_is_fixed_and_shards_cut_it_without_loss():
    samples = foolbox.build(sample="imagenet")
    whole = chosen_indices(samples, subset=7, seeds=[3], shard=0, shards=1)
    np.testing.assert_array_equal(whole, np.random.RandomState(3).choice(20, 7, replace=False))
    shards = [chosen_indices(samples, subset=7, seeds=[3], shard=i, shards=3) for i in range(3)]
    np.testing.assert_array_equal(np.concatenate(shards), whole)
    with pytest.raises(UserError, match="subset of 21"):
        chosen_indices(samples, subset=21, seeds=[0], shard=0, shards=1)
    with pytest.raises(UserError, match="8 shards"):
        chosen_indices(samples, subset=7, seeds=[0], shard=0, shards=8)
    for wrong in ({"shard": 5}, {"shard": -1}, {"subset": -1}, {"seeds": [-1]}, {"seeds": [2**32]}):
        with pytest.raises(UserError, match=r"does not exist|but must be 1|must lie between"):
            chosen_indices(samples, **{"subset": 7, "seeds": [0], "shard": 0, "shards": 3, **wrong})


def data_set(monkeypatch, images, labels=(0,)):
    """A part of a data set by somebody else, as the stage gets it."""
    samples = Samples(labels=labels, read=lambda i: images[i], fingerprint="mine")
    monkeypatch.setattr(Part, "build", lambda part: samples)
    return tiny("datasets", "foolbox")


FLOATS = np.random.default_rng(0).random((1, 3, 8, 8))


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_bytes_and_floats_of_a_data_set_are_the_same_images(tmp_path, monkeypatch, dtype):
    images = (255 * FLOATS).astype("uint8") if dtype == "uint8" else FLOATS.astype(dtype)
    stored = write_images(tmp_path / "out", data_set(monkeypatch, images)).read("images")
    assert stored.dtype == np.float32
    np.testing.assert_allclose(stored, FLOATS, rtol=0, atol=1 / 255 if dtype == "uint8" else 1e-3)
    torch_images = torch.from_numpy(images)
    stored = write_images(tmp_path / "same", data_set(monkeypatch, torch_images)).read("images")
    np.testing.assert_allclose(stored, FLOATS, rtol=0, atol=1 / 255 if dtype == "uint8" else 1e-3)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (255 * FLOATS, r"images must lie in \[0, 1\], but span"),
        (2 * FLOATS - 1, r"images must lie in \[0, 1\], but span"),
        (FLOATS * np.nan, "images have NaN or infinity"),
        ((255 * FLOATS).astype(np.int64), "image 0 of the data set is of int64, but must be uint8"),
        (FLOATS > 0.5, "image 0 of the data set is of bool, but must be uint8"),
        (FLOATS.transpose(0, 2, 3, 1), r"images must be float32 \(n, 3, height, width\)"),
        (FLOATS[:, :1], r"images must be float32 \(n, 3, height, width\)"),
    ],
)
def test_what_is_no_image_of_a_data_set_is_one_line(tmp_path, monkeypatch, images, says):
    with pytest.raises(UserError, match=says):
        write_images(tmp_path / "out", data_set(monkeypatch, images))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([0, 1.7], r"must be whole numbers from 0.*are float64 \(2,\), of which the first is 0"),
        ([0.0, 1.0], "must be whole numbers"),
        (np.eye(2, dtype=np.int64), r"are int64 \(2, 2\)"),
        (["cat", "dog"], r"are <U3 \(2,\), of which the first is 'cat'"),
        ([True, False], "are bool"),
        ([None, 1], "are object"),
        ([[0], [1, 2]], "are no list of classes"),
        ([3, -1], "image 1 of the data set has the label -1, but classes count from 0"),
        ([2**63], f"image 0 of the data set has the label {2**63}"),  # as int64 it is below 0
    ],
)
def test_labels_that_are_no_classes_are_one_line(labels, says):
    with pytest.raises(UserError, match=says) as refused:
        Samples(labels=labels, read=lambda i: FLOATS[0], fingerprint="")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "labels", [[3, 8], (3, 8), np.array([3, 8], np.uint8), torch.tensor([3, 8])]
)
def test_labels_of_any_list_are_stored_as_they_are(tmp_path, monkeypatch, labels):
    part = data_set(monkeypatch, np.concatenate([FLOATS, FLOATS]), labels)
    assert write_images(tmp_path / "out", part).read("label").tolist() == [3, 8]


SYSTEMS = ["@eaDir", ".ipynb_checkpoints", "__MACOSX", "lost+found", "$RECYCLE.BIN"]
SYSTEMS += [".DS_Store", "Thumbs.db", "desktop.ini", "._a.png"]


def test_what_a_system_left_in_a_folder_is_neither_class_nor_image(tmp_path):
    picture(tmp_path / "n01440764" / "a.png")
    before = folder.build(root=str(tmp_path), resize=None, crop=None)
    for place in (tmp_path, tmp_path / "n01440764"):
        for name in SYSTEMS:
            if "." in name[1:]:
                (place / name).write_text("no image")
            else:
                picture(place / name / "a.png")
    after = folder.build(root=str(tmp_path), resize=None, crop=None)
    assert (len(after), after.fingerprint) == (1, before.fingerprint)


def test_a_new_file_changes_the_fingerprint(tmp_path):
    picture(tmp_path / "n01440764" / "a.png")
    before = folder.build(root=str(tmp_path)).fingerprint
    assert folder.build(root=str(tmp_path)).fingerprint == before
    picture(tmp_path / "n01440764" / "b.png")
    assert folder.build(root=str(tmp_path)).fingerprint != before


def test_another_content_of_the_same_name_size_and_time_changes_it(tmp_path):
    file = tmp_path / "n01440764" / "a.bmp"
    picture(file)
    before, state = folder.build(root=str(tmp_path)).fingerprint, file.stat()
    picture(file, colour=(200, 10, 21))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert file.stat().st_size == state.st_size
    assert folder.build(root=str(tmp_path)).fingerprint != before


# What others may have put there


class Runs:
    """What is unpickled makes the folder that it was told."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("train", [False, True])
def test_no_pickle_of_cifar10_is_loaded_but_the_published_one(cifar10_files, train):
    root, _ = cifar10_files
    for name in ("test_batch", "data_batch_1"):
        (root / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(Runs(root / "ran")))
    with pytest.raises(UserError, match=r"is not as published \(by its md5\)"):
        build_tiny("datasets", "cifar10", root=str(root), train=train)
    assert not (root / "ran").exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "huge", "pipe", "gone"])
def test_a_damaged_batch_of_cifar10_is_one_line(cifar10_files, damage):
    root, _ = cifar10_files
    file = root / "cifar-10-batches-py" / "test_batch"
    content = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(content[:-1])
    elif damage == "flipped":
        file.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    elif damage == "huge":
        file.write_bytes(content)
        os.truncate(file, 2**40)
    elif damage == "pipe":
        os.mkfifo(file)
    with pytest.raises(UserError, match=r"^CIFAR-10.*(not as published|no file)"):
        build_tiny("datasets", "cifar10", root=str(root))


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "gone"])
def test_what_is_no_file_in_a_class_is_named_before_anything_is_read(tmp_path, kind):
    picture(tmp_path / "n01440764" / "a.png")
    odd = tmp_path / "n01440764" / "b.png"
    {
        "pipe": lambda: os.mkfifo(odd),
        "device": lambda: odd.symlink_to("/dev/zero"),
        "folder": odd.mkdir,
        "gone": lambda: odd.symlink_to("nowhere"),
    }[kind]()
    with pytest.raises(UserError, match=r"b\.png(:| cannot be read: it is a folder, a pipe or)"):
        folder.build(root=str(tmp_path))
    with pytest.raises(UserError, match=r"b\.png cannot be read"):
        read_image(odd)


def tiff(bits, pixels, *, colours=1, planar=1, signed=False):
    """A TIFF of 4 by 4 pixels, of so many bits a channel."""

    def writes(path):
        content = pixels.tobytes()
        plane, count = (
            len(content) // (colours if planar == 2 else 1),
            colours if planar == 2 else 1,
        )
        lists = struct.pack(f"<{colours}H", *[bits] * colours)
        lists += struct.pack(f"<{colours}H", *[2 if signed else 1] * colours)
        lists += struct.pack(f"<{count}I", *(8 + plane * i for i in range(count)))
        lists += struct.pack(f"<{count}I", *[plane] * count)
        at = 8 + len(content)

        def listed(kind, size, number, skipped):
            place = at + skipped
            if size * number > 4:
                return place
            return int.from_bytes(lists[skipped : skipped + size * number], "little")

        tags = [
            *((256, 3, 1, 4), (257, 3, 1, 4), (258, 3, colours, listed(3, 2, colours, 0))),
            *((259, 3, 1, 1), (262, 3, 1, 2 if colours == 3 else 1)),
            (273, 4, count, listed(4, 4, count, 4 * colours)),
            *((277, 3, 1, colours), (278, 3, 1, 4)),
            (279, 4, count, listed(4, 4, count, 4 * colours + 4 * count)),
            *((284, 3, 1, planar), (339, 3, colours, listed(3, 2, colours, 2 * colours))),
        ]
        entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
        start = struct.pack("<2sHI", b"II", 42, at + len(lists)) + content + lists
        path.write_bytes(start + struct.pack("<H", len(tags)) + entries + bytes(4))

    return writes


RAMP16 = np.linspace(0, 65535, 48).astype("<u2")
DEEP = {
    "16 bits of grey": lambda p: Image.fromarray(RAMP16.reshape(6, 8)).save(p, "PNG"),
    "16 bits of grey, TIFF": lambda p: Image.fromarray(RAMP16.reshape(6, 8)).save(p, "TIFF"),
    "16 bits, packed": lambda p: Image.fromarray(RAMP16.reshape(6, 8)).save(
        p, "TIFF", compression="tiff_lzw"
    ),
    "I;16B": lambda p: Image.frombytes("I;16B", (8, 6), RAMP16.byteswap().tobytes()).save(
        p, "TIFF"
    ),
    "I": lambda p: Image.new("I", (8, 6), 40_000).save(p, "TIFF"),
    "F": lambda p: Image.new("F", (8, 6), 0.5).save(p, "TIFF"),
    "16 bits of RGB": tiff(16, RAMP16, colours=3),
    "16 bits of RGB, a plane each": tiff(16, RAMP16, colours=3, planar=2),
    "8 bits with signs": tiff(8, np.arange(-8, 8, dtype=np.int8), signed=True),
}


@pytest.mark.parametrize("name", DEEP)
def test_more_bits_than_eight_are_one_line(tmp_path, name):
    (tmp_path / "n01440764").mkdir()
    DEEP[name](tmp_path / "n01440764" / "a.JPEG")
    with pytest.raises(UserError, match=r"a\.JPEG has more than 8 bits a channel") as refused:
        folder.build(root=str(tmp_path), resize=None, crop=None).image(0)
    assert "\n" not in str(refused.value)


def test_eight_bits_are_read_whichever_way_they_lie(tmp_path):
    pixels = np.arange(48, dtype=np.uint8)
    tiff(8, pixels, colours=3)(tmp_path / "together")
    tiff(8, pixels, colours=3, planar=2)(tmp_path / "planes")
    np.testing.assert_array_equal(
        read_image(tmp_path / "together"), pixels.reshape(4, 4, 3).transpose(2, 0, 1)
    )
    np.testing.assert_array_equal(read_image(tmp_path / "planes"), pixels.reshape(3, 4, 4))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "transparent", "RGB", "RGBA", "CMYK"])
def test_an_ordinary_image_is_what_pillow_makes_of_it(tmp_path, mode):
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 4), dtype=np.uint8)
    image, file = Image.fromarray(noise), tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    how = {"transparency": 3} if mode == "transparent" else {}
    exif = Image.Exif()
    exif[0x0112] = 6  # turned; ImageFolder of torchvision leaves it as it lies
    kept = image.convert("RGB").convert("P" if mode == "transparent" else mode)
    kept = image.convert(mode) if mode in ("LA", "RGBA") else kept
    kept.save(file, exif=exif, **how)
    np.testing.assert_array_equal(
        read_image(file), np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1)
    )


def test_of_several_frames_the_first_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif")[:, 0, 0].tolist() == [255, 0, 0]


ODD = {
    "EPS, which Ghostscript would draw": (
        lambda p: Image.new("RGB", (300, 300)).save(p, "EPS"),
        "cannot be read",
    ),
    "a long line": (
        lambda p: Image.new("RGB", (30_000, 2)).save(p, "PNG"),
        "would be resized to 3840000x256: too large",
    ),
    "nothing": (lambda p: p.write_bytes(b""), "cannot be read"),
    "half": (lambda p: p.write_bytes(damaged_png()[:5000]), "cannot be read"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_image_is_one_line(tmp_path, name):
    make, message = ODD[name]
    make(tmp_path / "a.JPEG")
    with pytest.raises(UserError, match=message) as refused:
        read_image(tmp_path / "a.JPEG", resize=256, crop=224)
    assert "\n" not in str(refused.value)


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    picture(tmp_path / "n01440764" / "a.png")

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.iterdir", forbidden)
    with pytest.raises(UserError, match="Permission denied"):
        folder.build(root=str(tmp_path))
