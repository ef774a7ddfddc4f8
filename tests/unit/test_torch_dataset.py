"""Any torch `Dataset` as a data set: what comes out of it, and what its fingerprint notices."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from puriflow.datasets.torch_dataset import identity
from puriflow.errors import UserError
from puriflow.provenance import code_hash
from puriflow.registry import part_of


class Given(Dataset):
    """Items as a test has them, which are counted as they are read."""

    def __init__(self, items, **attributes):
        self.items, self.read = items, 0
        vars(self).update(attributes)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.read += 1
        return self.items[index]


GREY = torch.arange(16, dtype=torch.uint8).reshape(1, 4, 4)
COLOURS = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
known = {}


def give(name):
    return known[name]


@pytest.fixture
def samples(monkeypatch):
    """The samples of a data set of the test's own."""
    monkeypatch.setitem(sys.modules, "given", sys.modules[__name__])
    monkeypatch.setattr("puriflow.datasets.torch_dataset.file_of", lambda module: module)

    def made(dataset, **options):
        known["it"] = dataset
        entry = {"kind": "torch-dataset", "object": "given:give", "arguments": {"name": "it"}}
        return part_of("dataset", "mine", {**entry, **options}).build()

    return made


def refused(samples, dataset, **options):
    with pytest.raises(UserError) as caught:
        samples(dataset, **options).image(0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def picture(side=8, mode="RGB", shade=0):
    ramp = (np.arange(side * side) % 256).astype(np.uint8).reshape(side, side)
    return Image.fromarray(np.stack([ramp, ramp * 0 + shade, ramp[::-1]], 2)).convert(mode)


def test_tensors_arrays_and_pictures_are_images(samples):
    items = [(GREY, 3), (COLOURS, torch.tensor(1)), (GREY[0].numpy(), np.int64(0))]
    made = samples(Given([*items, (picture(4, "L"), 2)]))
    assert made.labels == [3, 1, 0, 2]
    grey = (GREY.float() / 255).repeat(3, 1, 1).numpy()
    np.testing.assert_array_equal(made.image(0), grey)
    np.testing.assert_array_equal(made.image(1), COLOURS.numpy())
    np.testing.assert_array_equal(made.image(2), grey)
    assert made.image(3).shape == (3, 4, 4)


def test_pictures_and_bytes_are_resized_and_cropped_alike(samples):
    whole = picture(8)
    as_bytes = torch.from_numpy(np.asarray(whole).transpose(2, 0, 1).copy())
    made = samples(Given([(whole, 0), (as_bytes, 1)]), resize=6, crop=4)
    cut = whole.resize((6, 6), Image.Resampling.BILINEAR).crop((1, 1, 5, 5))
    expected = np.asarray(cut).transpose(2, 0, 1).astype(np.float32) / 255
    for index in range(2):
        np.testing.assert_array_equal(made.image(index), expected)
    assert "only pictures and bytes are resized" in refused(samples, Given([(COLOURS, 0)]), crop=2)


def test_items_may_be_mappings_with_columns_of_any_name(samples):
    dataset = Given([{"img": GREY, "fine": 5, "coarse": 1}])
    assert samples(dataset, image="img", label="coarse").labels == [1]
    line = refused(samples, dataset, image="img", label="fin")
    assert "unknown column of given:give 'fin': did you mean 'fine'?" in line


def test_the_fingerprint_is_of_what_the_data_set_gives(samples):
    def of(*items, **attributes):
        return samples(Given(items, **attributes)).fingerprint

    first = of((GREY, 0), (COLOURS, 1))
    assert of((GREY, 0), (COLOURS, 1)) == first
    others = [
        of((GREY, 0), (COLOURS, 2)),
        of((GREY, 0), (COLOURS + 1e-6, 1)),
        of((GREY, 0), (COLOURS.double(), 1)),
        of((COLOURS, 1), (GREY, 0)),
        of((GREY, 0)),
    ]
    assert len({first, *others}) == 6


def test_a_fingerprint_of_its_own_is_believed_and_no_image_is_read(samples):
    dataset = Given([(GREY, 0)] * 3, fingerprint="version 2", targets=torch.tensor([2, 0, 1]))
    made = samples(dataset)
    assert (made.fingerprint, made.labels, dataset.read) == ("version 2", [2, 0, 1], 0)


@pytest.fixture
def folder(tmp_path):
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        picture(shade=label).save(tmp_path / name / "a.png")
    return tmp_path


def test_of_torchvision_s_folders_the_files_count_and_are_not_decoded(folder, monkeypatch):
    entry = {"kind": "torch-dataset", "object": "torchvision.datasets:ImageFolder"}
    part = part_of("dataset", "mine", {**entry, "arguments": {"root": str(folder)}})
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("an image was opened"))
    made = part.build()
    assert made.labels == [0, 1]
    monkeypatch.undo()
    assert made.image(1)[1].max() == np.float32(1 / 255)
    picture(shade=9).save(folder / "dog" / "a.png")
    assert part.build().fingerprint != made.fingerprint
    assert part.modules() == ["puriflow.datasets.torch_dataset"]  # not a library's


def test_a_transform_of_labels_is_not_passed_by(folder):
    from torchvision.datasets import ImageFolder

    from puriflow.datasets.torch_dataset import Items

    dataset = ImageFolder(str(folder), target_transform=lambda label: 7 - label)
    assert identity(Items(dataset, "mine", "image", "label"))[0] == [7, 6]


def test_the_code_of_a_class_of_one_s_own_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "cars_of_mine.py"
    hashes = []
    for end in ("\n", "\nx = 1\n"):
        file.write_text(f"class Cars:\n    pass{end}")
        entry = {"kind": "torch-dataset", "object": "cars_of_mine:Cars"}
        part = part_of("dataset", "mine", entry)
        assert part.modules() == ["puriflow.datasets.torch_dataset", "cars_of_mine"]
        hashes.append(code_hash(*part.modules()))
    assert hashes[0] != hashes[1]
    with pytest.raises(UserError, match=r"did you mean 'Cars'"):
        part_of("dataset", "mine", {**entry, "object": "cars_of_mine:Car"}).build()
    with pytest.raises(UserError, match="must give a data set with a length and numbered items"):
        part.build()


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ((GREY, "cat"), "the label of image 0 of given:give is 'cat', but must be a whole number"),
        (GREY[0, 0, 0], "item 0 of given:give is a Tensor, but must be an image and a label"),
        ((torch.zeros(4, 4, 3), 0), "is Tensor (4, 4, 3), but must be a picture, or (3, height"),
        ((Image.new("I;16", (4, 4)), 0), "has colours of mode I;16; convert it to RGB first"),
        (({}, 0), "but must be a picture"),
    ],
)
def test_items_that_are_no_images_with_labels_are_one_line(samples, item, says):
    line = refused(samples, Given([item]))
    assert line.startswith("config datasets.mine: ") or "given:give" in line
    assert says in line


def test_what_the_data_set_raises_is_one_line(samples, tmp_path):
    class Failing(Given):
        def __getitem__(self, index):
            raise RuntimeError("disk\non fire")

    assert "given:give: RuntimeError: disk on fire" in refused(samples, Failing([1]))
    assert "gives several data sets, train, test: choose one" in refused(
        samples, {"train": 1, "test": 2}
    )
    entry = {"kind": "torch-dataset", "object": "torchvision.datasets:CIFAR10"}
    with pytest.raises(UserError, match="RuntimeError: Dataset not found") as caught:
        part_of("dataset", "x", {**entry, "arguments": {"root": str(tmp_path)}}).build()
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"object is 'nowhere', but must be MODULE:NAME"):
        part_of("dataset", "x", {"kind": "torch-dataset", "object": "nowhere"})


def test_hugging_face_s_columns_are_not_decoded_for_the_fingerprint(samples, tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(3)})

    def of(*shades, labels=(2, 0)):
        columns = {"img": [picture(shade=s) for s in shades], "label": labels}
        return datasets.Dataset.from_dict(columns, features=features)

    made = samples(of(3, 4), image="img")
    assert made.labels == [2, 0]
    assert made.image(1)[1].max() == np.float32(4 / 255)
    assert samples(of(3, 4), image="img").fingerprint == made.fingerprint
    assert samples(of(3, 5), image="img").fingerprint != made.fingerprint
    assert samples(of(3, 4, labels=(2, 1)), image="img").fingerprint != made.fingerprint
    of(3, 4).save_to_disk(tmp_path / "saved")
    entry = {"kind": "torch-dataset", "object": "datasets:load_from_disk", "image": "img"}
    arguments = {"dataset_path": str(tmp_path / "saved")}
    part = part_of("dataset", "x", {**entry, "arguments": json.loads(json.dumps(arguments))})
    assert part.build().fingerprint == made.fingerprint
    turned = of(3, 4).with_transform(lambda rows: {**rows, "label": [1, 1]})
    assert samples(turned, image="img").labels == [1, 1]
    assert "did you mean 'label'" in refused(samples, of(3, 4), image="img", label="labell")
