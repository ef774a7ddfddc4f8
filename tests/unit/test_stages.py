"""What every stage does around its own computation: checks at the border, and the record."""

import numpy as np
import pytest
import torch
from tiny_parts import tiny
from tiny_stores import made_by

from puriflow.cli import app
from puriflow.compute import device
from puriflow.errors import UserError
from puriflow.registry import Part, part_of
from puriflow.stages import base
from puriflow.stages.attack import write_attack
from puriflow.stages.classify import write_logits
from puriflow.stages.evaluate import write_evaluated
from puriflow.stages.images import write_images
from puriflow.stages.purify import write_purified
from puriflow.stages.restore import write_restored
from puriflow.store import Writer, open_stage

CPU = torch.device("cpu")
BICUBIC = part_of("restorer", "bicubic-x2", {"kind": "bicubic", "scale": 2})


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A finished store of four CIFAR-10 images."""
    dataset = part_of("dataset", "cifar10", {"kind": "foolbox", "sample": "cifar10"})
    return write_images(tmp_path_factory.mktemp("stores") / "images", dataset, subset=4)


def returning(monkeypatch, result):
    """Makes every restorer return `result` of its images."""
    monkeypatch.setattr("puriflow.stages.restore.in_batches", lambda _, __, x: result(x))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda x: x + 0.5, r"images must lie in \[0, 1\], but span 0.* to 1\.5"),
        (lambda x: x * float("nan"), "images have NaN or infinity"),
        (lambda x: x.double(), r"images must be float32 \(n, 3, height, width\), but are float64"),
        (lambda x: x[:, :1], r"images must be float32 .* but are float32 \(4, 1, 32, 32\)"),
        (lambda x: x[..., 1:], r"images must be \(4, 3, 32, 32\), but are \(4, 3, 32, 31\)"),
        (lambda x: x[1:], r"images must be \(4, 3, 32, 32\), but are \(3, 3, 32, 32\)"),
    ],
)
def test_a_part_that_returns_no_images_is_named(source, tmp_path, monkeypatch, result, message):
    returning(monkeypatch, lambda x: result(torch.from_numpy(x)))
    with pytest.raises(UserError, match=f"restorer bicubic-x2: {message}"):
        write_restored(source, tmp_path / "r", BICUBIC, device=CPU)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError()]
)
def test_a_batch_without_room_is_halved_and_gives_the_same(
    source, tmp_path, monkeypatch, capsys, error
):
    seen = []

    def with_room_for_two(x):
        seen.append(len(x))
        if len(x) > 2:
            raise error
        return torch.from_numpy(x) ** 2

    returning(monkeypatch, with_room_for_two)
    made = write_restored(source, tmp_path / "r", BICUBIC, device=CPU)
    assert np.array_equal(made.read("images"), source.read("images") ** 2)
    assert seen == [4, 2, 2]
    assert capsys.readouterr().err.count("no room for 4 images at once; on with 2") == 1


def test_no_room_for_one_image_is_a_line(source, tmp_path, monkeypatch):
    def without_room(x):
        raise RuntimeError("CUDA out of memory. Tried to allocate 3.50 GiB.\nSee documentation")

    returning(monkeypatch, without_room)
    message = "no room for one image in the memory of cpu: CUDA out of memory. .* 3.50 GiB.$"
    with pytest.raises(UserError, match=message):
        write_restored(source, tmp_path / "r", BICUBIC, device=CPU)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublas")],
)
def test_whoever_says_it(source, tmp_path, monkeypatch, error):
    def without_room(x):
        raise error

    returning(monkeypatch, without_room)
    with pytest.raises(UserError, match=r"no room for one image .*: (MemoryError|CUDA error)"):
        write_restored(source, tmp_path / "r", BICUBIC, device=CPU)


def test_another_error_of_a_part_stays_what_it_is(source, tmp_path, monkeypatch):
    def broken(x):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    returning(monkeypatch, broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        write_restored(source, tmp_path / "r", BICUBIC, device=CPU)


def test_a_store_of_no_images_is_named(source, tmp_path):
    labels = np.arange(2)
    writer = Writer(
        tmp_path / "s", "images", labels=labels, indices=labels, provenance=made_by("images")
    )
    writer.write(0, {"images": np.zeros((2, 1, 8, 8), np.float32)}, seconds=1)
    with pytest.raises(UserError, match=r"store .*: images must be float32 .* \(2, 1, 8, 8\)"):
        write_restored(writer.finish(), tmp_path / "r", BICUBIC, device=CPU)


@pytest.mark.parametrize(
    ("result", "shape"),
    [
        (lambda x: x[:2].flatten(1), r"\(2, 3072\)"),
        (lambda x: x[:, 0, 0, 0], r"\(4,\)"),
        (lambda x: x[:, 0], r"\(4, 32, 32\)"),
    ],
)
def test_logits_that_are_no_rows_of_classes_are_named(source, tmp_path, monkeypatch, result, shape):
    monkeypatch.setattr(
        "puriflow.stages.classify.in_batches", lambda _, __, x: result(torch.from_numpy(x))
    )
    entry = {"kind": "pretrained", "library": "torchvision", "name": "resnet18", "weights": None}
    with pytest.raises(UserError, match=rf"resnet18: logits must be \(4, class\), but are {shape}"):
        write_logits(source, tmp_path / "c", part_of("classifier", "resnet18", entry), device=CPU)


def part_that_makes(monkeypatch, role, value):
    """Makes every part of a role compute `value` for the first number of each image."""
    build = Part.build

    def spoiled(part):
        built = build(part)
        if part.role == role:

            def first_spoiled(module, given, made):
                made = made.clone(memory_format=torch.contiguous_format)
                made.view(len(made), -1)[:, 0] = value
                return made

            built.register_forward_hook(first_spoiled)
        return built

    monkeypatch.setattr(Part, "build", spoiled)


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_nan_and_infinity_stop_at_the_border_of_every_stage(source, tmp_path, monkeypatch, value):
    purifier, classifier = tiny("purifiers", "osd"), tiny("classifiers", "wide-resnet")
    attack, victim = tiny("attacks", "pgd"), {"classifier": classifier}
    stages = {
        "restorer": [lambda out: write_restored(source, out, BICUBIC, device=CPU)],
        "purifier": [
            lambda out: write_purified(source, out, purifier, seed=0, device=CPU),
            lambda out: write_evaluated(
                source, out, purifier, classifier, n_draws=2, seed=0, device=CPU
            ),
        ],
        "classifier": [
            lambda out: write_logits(source, out, classifier, device=CPU),
            lambda out: write_evaluated(
                source, out, purifier, classifier, n_draws=2, seed=0, device=CPU
            ),
            lambda out: write_attack(source, out, attack, victim, seed=0, device=CPU),
        ],
    }
    for role, runs in stages.items():
        with monkeypatch.context() as patch:
            part_that_makes(patch, role, value)
            for run in runs:
                with pytest.raises(UserError, match=f"({role} .*|victim's logits) have NaN or inf"):
                    run(tmp_path / "out")
                assert not (tmp_path / "out").exists()


def test_what_an_attack_says_of_its_images_is_finite(source, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "puriflow.stages.attack.cross_entropy", lambda logits, labels: logits[:, 0] * torch.nan
    )
    attack, victim = tiny("attacks", "pgd"), {"classifier": tiny("classifiers", "wide-resnet")}
    with pytest.raises(UserError, match="attack pgd: loss have NaN or infinity"):
        write_attack(source, tmp_path / "out", attack, victim, seed=0, device=CPU)


def test_every_option_of_a_part_is_recorded_whoever_left_it_out(source, tmp_path):
    entry = {"kind": "pretrained", "library": "torchvision", "name": "resnet18", "size": 32}
    classifier = part_of("classifier", "resnet18", {**entry, "weights": None})
    stage = write_logits(source, tmp_path / "c", classifier, device=CPU)
    recorded = stage.manifest["parameters"]["classifier"]
    assert recorded["name"] == "resnet18"
    assert recorded["mean"] is None  # the library's own
    stored = source.manifest["parameters"]
    assert stored["dataset"]["interpolation"] == "bicubic"
    assert (stored["subset"], stored["subset_seeds"]) == (4, [0])


def test_a_stage_records_what_it_was_made_from_and_where(source, tmp_path):
    stage = open_stage(write_restored(source, tmp_path / "r", BICUBIC, device=CPU).folder)
    assert stage.manifest["upstream"] == {str(source.folder): source.identity}
    assert stage.manifest["machine"]["device"] == "cpu"
    assert stage.manifest["machine"]["threads"] == torch.get_num_threads()
    assert "torch" in stage.manifest["versions"]
    assert "torch" not in source.manifest["versions"]


def test_a_stage_of_the_command_line_is_the_same_on_any_number_of_threads(
    source, tmp_path, repository
):
    """Whatever the environment tells torch: what the manifest says of threads is in its digest."""
    command = ["restore", str(source.folder), "--restorer", "tvm", "--config"]
    command.append(str(repository / "config" / "config.yaml"))
    digests, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            out = tmp_path / str(threads)
            app(["stage", *command, "--out", str(out)], standalone_mode=False)
            digests.append(open_stage(out).manifest["digest"])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert open_stage(out).manifest["machine"]["threads"] == 1
    assert len(set(digests)) == 1


def test_a_sum_that_threads_cut_otherwise_is_the_same_where_stages_compute():
    pixels = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    before, sums = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 5, 7):
            torch.set_num_threads(threads)
            with device(gpu=False):
                sums.append(pixels.sum().item())
    finally:
        torch.set_num_threads(before)
    assert len(set(sums)) == 1


def test_the_same_stage_on_another_machine_is_the_same_to_the_next(source, tmp_path, monkeypatch):
    here = write_restored(source, tmp_path / "here", BICUBIC, device=CPU)
    monkeypatch.setattr(base, "machine", lambda device: {"device": "another"})
    there = write_restored(source, tmp_path / "there", BICUBIC, device=CPU)
    assert there.manifest["machine"] == {"device": "another"}
    assert there.identity == here.identity


# Images of one data set on a classifier of another


def small_imagenet(folder):
    """ImageNet's images and labels, at CIFAR-10's size."""
    entry = {"kind": "foolbox", "sample": "imagenet", "resize": 32, "crop": 32}
    return write_images(folder, part_of("dataset", "small", entry), subset=2)


def test_labels_that_a_classifier_does_not_know_are_refused(tmp_path):
    images, classifier = small_imagenet(tmp_path / "i"), tiny("classifiers", "wide-resnet")
    with pytest.raises(UserError, match=r"has the label \d+, but the classifier knows the classes"):
        write_logits(images, tmp_path / "c", classifier, device=CPU)
    purifier = tiny("purifiers", "osd")
    with pytest.raises(UserError, match="they are of different data sets"):
        write_evaluated(images, tmp_path / "e", purifier, classifier, n_draws=2, seed=0, device=CPU)
    attack, victim = tiny("attacks", "pgd"), {"classifier": classifier}
    with pytest.raises(UserError, match="they are of different data sets"):
        write_attack(images, tmp_path / "a", attack, victim, seed=0, device=CPU)


def test_images_of_another_size_are_refused(source, tmp_path):
    classifier = part_of("classifier", "c", {"kind": "efficientnet-lite0"})
    with pytest.raises(UserError, match="takes 224x224 images, but these are 32x32; choose a data"):
        write_logits(source, tmp_path / "c", classifier, device=CPU)
