"""Classifiers: what every kind must do, official layouts, and files that are not what they say."""

import importlib.util
import warnings

import numpy as np
import pytest
import torch
from tiny_parts import build_tiny
from torch.nn import functional as F

from puriflow.classifiers import bai2021, efficientnet_lite0, efficientnet_lite2, pretrained
from puriflow.classifiers.efficientnet_lite import EfficientNetLite
from puriflow.datasets import foolbox
from puriflow.errors import UserError
from puriflow.registry import kinds, part_of
from puriflow.zoo.catalogue import Zoo

RESNET18 = {"library": "torchvision", "name": "resnet18"}


def build(kind, **options):
    return build_tiny("classifiers", kind, **options)


def build_of_zoo(name, **options):
    """The classifier of a zoo entry, with other options or weights."""
    entry = {"weights": None, **Zoo().entry(name).part, **options}
    return part_of("classifier", name, entry).build()


@pytest.mark.parametrize("kind", sorted(kinds("classifiers").keys() - {"huggingface"}))
def test_every_classifier_gives_logits_and_their_gradient(kind):
    classifier = build(kind)
    size, generator = classifier.size, torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, size, size, generator=generator).requires_grad_()
    logits = classifier(images)
    assert logits.shape in ((3, 10), (3, 1000))
    logits.logsumexp(1).sum().backward()
    assert logits.isfinite().all()
    assert images.grad.isfinite().all()
    assert images.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in classifier.parameters())
    with torch.no_grad():  # evaluated: neither batch nor chance counts
        torch.testing.assert_close(classifier(images[1:2]), logits[1:2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["efficientnet-lite0", "efficientnet-lite2"])
def test_an_efficientnet_lite_recognises_18_of_the_20_samples(kind):
    """The packaged weights, renamed by position into the network, are the real ones."""
    classifier = build(kind)
    samples = foolbox.build(sample="imagenet", resize=256, crop=224)
    images = torch.from_numpy(np.stack([samples.image(i) for i in range(20)]))
    with torch.no_grad():
        found = classifier(images).argmax(1)
    assert (found == torch.tensor(samples.labels)).sum() == 18


@pytest.mark.parametrize("side", [224, 75])
@pytest.mark.parametrize("module", [efficientnet_lite0, efficientnet_lite2])
def test_an_efficientnet_lite_is_timms(module, side):
    """Of the same weights, logits and gradients are the same to the last bit."""
    import timm  # after torchvision_import

    name = module.__name__.rpartition(".")[2]
    own, theirs = EfficientNetLite(module.STAGES), timm.create_model(f"tf_{name}")
    names, values = own.state_dict(), theirs.state_dict().values()
    own.load_state_dict(dict(zip(names, values, strict=True)))
    given, found = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)), []
    for network in (own.eval(), theirs.eval()):
        images = given.clone().requires_grad_()
        logits = network(images)
        found.append([logits, *torch.autograd.grad(logits.logsumexp(1).sum(), images)])
    assert all(map(torch.equal, *found))
    assert found[0][0].std() > 0


def test_normalisation_is_inside_the_model():
    classifier = build("pretrained", **RESNET18)
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    with torch.no_grad():
        expected = classifier.network((images - mean) / std)
        torch.testing.assert_close(classifier(images), expected)


HALF, IMAGENET = (0.5, 0.5, 0.5), (0.485, 0.456, 0.406)
CLIP = (0.48145466, 0.4578275, 0.40821073)
OWN = [
    ("timm", "vit_small_patch16_224", HALF, 224),
    ("timm", "mixer_b16_224", HALF, 224),
    ("timm", "beit_base_patch16_224", HALF, 224),
    ("timm", "inception_v3", HALF, 299),
    ("timm", "vit_small_patch16_224.dino", IMAGENET, 224),
    ("timm", "vit_base_patch16_clip_224.openai_ft_in1k", CLIP, 224),
    ("timm", "vit_base_patch16_384", HALF, 384),
    ("timm", "deit_small_patch16_224", IMAGENET, 224),
    ("timm", "vit_betwixt_patch16_gap_256", IMAGENET, 224),  # without a configuration: the usual
    ("torchvision", "resnet50", IMAGENET, 224),
    ("torchvision", "efficientnet_v2_l", HALF, 480),
    ("torchvision", "efficientnet_b4", IMAGENET, 380),
]


@pytest.mark.parametrize(("library", "name", "mean", "size"), OWN)
def test_mean_and_size_are_the_library_s_own(library, name, mean, size):
    found = pretrained.OWN[library](name)
    assert (tuple(found.mean), found.size) == (mean, size)


def test_given_mean_and_std_count_more_than_the_library_s_own():
    name = {"library": "timm", "name": "vit_tiny_patch16_224"}
    own = build("pretrained", **name)
    assert (own.mean.unique().tolist(), own.std.unique().tolist(), own.size) == ([0.5], [0.5], 224)
    given = build("pretrained", **name, mean=[0, 0, 0], std=[1, 1, 1])
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(given(images), given.network(images))
        torch.testing.assert_close(own(images), own.network(images * 2 - 1))


def test_an_image_of_another_size_is_refused_with_what_the_library_does_or_resized():
    images = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    name = {"library": "timm", "name": "test_vit"}
    with pytest.raises(UserError) as refused:
        build("pretrained", **name)(images)
    said = "resize 182, crop 160 and interpolation bicubic"
    assert str(refused.value).endswith(f"but these are 40x40; choose a data set with {said}")
    resizing = build("pretrained", **name, interpolation="bilinear").requires_grad_(False)
    given = images.clone().requires_grad_()
    logits = resizing(given)
    whole = F.interpolate(images, (160, 160), mode="bilinear", antialias=True)
    with torch.no_grad():
        torch.testing.assert_close(logits, resizing(whole))
    assert torch.autograd.grad(logits.sum(), given)[0].abs().sum() > 0


@pytest.mark.parametrize(("library", "name"), [("timm", "test_vit"), ("torchvision", "vit_b_32")])
def test_a_size_that_a_network_does_not_take_is_one_line(library, name):
    with pytest.raises(UserError, match=r"size is 64, but the network is for (160|224)x"):
        build("pretrained", library=library, name=name, size=64)


def test_another_size_that_a_network_does_take_is_its_own():
    made = build("timm", name="test_efficientnet", size=64)
    assert made(torch.rand(1, 3, 64, 64)).shape == (1, 1000)


def test_timm_s_own_weights_are_asked_for_unless_a_file_is_named(tmp_path, monkeypatch):
    import timm

    asked, create = [], timm.create_model
    made = build("timm", pretrained=False)
    torch.save(made.network.state_dict(), tmp_path / "vit.pth")

    def created(name, *, pretrained):
        asked.append(pretrained)
        return create(name)

    monkeypatch.setattr(timm, "create_model", created)
    loaded = build("timm", pretrained=True, weights=str(tmp_path / "vit.pth"))
    build("timm", pretrained=True)
    assert asked == [False, True]
    assert (loaded.size, loaded.mean.unique().tolist()) == (160, [0.5])
    images = torch.rand(1, 3, 160, 160)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), made(images))

    def failing(name, *, pretrained):
        raise RuntimeError(f"No pretrained weights exist for {name}.")

    monkeypatch.setattr(timm, "create_model", failing)
    with pytest.raises(UserError, match=r"No pretrained weights exist for test_vit\.; name a file"):
        build("timm", pretrained=True)


def test_without_transformers_the_command_that_installs_it_is_said():
    if importlib.util.find_spec("transformers") is not None:
        pytest.skip("the extra huggingface is installed")
    with pytest.raises(UserError, match=r"pip install 'puriflow\[huggingface\]'"):
        part_of("classifier", "x", {"kind": "huggingface", "name": "a/b"}).build()


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({}, "give the name of a model on the hub, or a file of weights"),
        ({"name": "."}, r"is a folder: give its file, as weights: \./model\.safetensors"),
    ],
)
def test_a_model_of_hugging_face_is_a_name_or_a_file(entry, says):
    with pytest.raises(UserError, match=says):
        part_of("classifier", "x", {"kind": "huggingface", **entry}).build()


def test_a_folder_of_hugging_face_is_a_classifier_with_its_own_preprocessing(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    tiny = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 10}
    config = transformers.ViTConfig(**tiny, intermediate_size=8, image_size=32)
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    own = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32}, **own)
    processor.save_pretrained(tmp_path)
    entry = {"kind": "huggingface", "weights": str(tmp_path / "model.safetensors")}
    classifier = part_of("classifier", "x", entry).build()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected = model(**processor(images=list(images), return_tensors="pt")).logits
        torch.testing.assert_close(classifier(images / 255), expected)
    transformers.ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"has no weights of classifier\.(bias|weight)"):
        part_of("classifier", "x", entry).build()


def test_inception_and_googlenet_get_the_normalisation_of_their_weights():
    """Torchvision turns it on if it loads the weights itself: from ImageNet's to -1 to 1."""
    with warnings.catch_warnings(action="ignore"):  # of another initialisation to come
        classifier = build("pretrained", library="torchvision", name="googlenet")
    images = torch.rand(1, 3, 64, 64)
    seen = classifier.network._transform_input(classifier.normalise(images))
    torch.testing.assert_close(seen, images * 2 - 1, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("library", "name"), [("torchvision", "resnet50"), ("timm", "deit_small_patch16_224")]
)
def test_the_papers_classifiers_load_from_a_local_file(tmp_path, library, name):
    made = build("pretrained", library=library, name=name)
    file = tmp_path / "weights.pth"
    torch.save({"model": made.network.state_dict()}, file)
    loaded = build("pretrained", library=library, name=name, weights=str(file))
    for key, value in made.network.state_dict().items():
        assert torch.equal(value, loaded.network.state_dict()[key])


def test_every_robustbench_entry_is_a_model_there():
    if importlib.util.find_spec("pyautoattack") is None:
        pytest.skip("the extra robustbench is not installed")
    for name, entry in Zoo().known().items():
        if entry.part["kind"] == "robustbench":
            with torch.device("meta"):
                assert build_of_zoo(name).size == entry.part["size"]


def test_without_the_extra_its_name_is_said():
    if importlib.util.find_spec("pyautoattack") is not None:
        pytest.skip("the extra robustbench is installed")
    with pytest.raises(UserError, match=r"pip install -e '\.\[robustbench\]'"):
        build_of_zoo("wong2020-res50")


def test_what_is_missing_or_wrong_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.pth does not exist"):
        build("pretrained", **RESNET18, weights="nowhere.pth")
    other = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(1)}, other)
    with pytest.raises(UserError, match=r"other\.pth does not fit ResNet"):
        build("pretrained", **RESNET18, weights=str(other))
    with pytest.raises(UserError, match="did you mean 'resnet50'"):
        build("pretrained", library="torchvision", name="resnet5O")
    with pytest.raises(UserError, match="known are timm, torchvision"):
        build("pretrained", library="keras", name="resnet50")


class EightBN(torch.nn.Module):
    """The norm of Bai et al.'s ResNet at test time: the first ghost, half of its statistics."""

    def __init__(self, channels):
        super().__init__()
        for i in range(8):
            ghost = torch.nn.Module()
            ghost.proxy_bn = torch.nn.BatchNorm2d(2 * channels, affine=False)
            ghost.proxy_bn.running_mean.normal_()
            ghost.proxy_bn.running_var.uniform_(0.5, 2)
            self.add_module(f"bn{i}", ghost)
        self.aff = torch.nn.Module()
        self.aff.bnconv = torch.nn.Conv2d(channels, channels, 1, groups=channels)

    def forward(self, x):
        bn, channels = self.bn0.proxy_bn, x.shape[1]
        mean, var = bn.running_mean[:channels], bn.running_var[:channels]
        return self.aff.bnconv(torch.nn.functional.batch_norm(x, mean, var))


def with_eight_norms(module):
    for name, child in module.named_children():
        if isinstance(child, torch.nn.BatchNorm2d):
            setattr(module, name, EightBN(child.num_features))
        else:
            with_eight_norms(child)
    return module


def test_bai_s_resnet_folds_into_a_plain_one(tmp_path):
    torch.manual_seed(0)
    official = with_eight_norms(bai2021.res50_gelu()).eval()
    state = {f"module.{key}": value for key, value in official.state_dict().items()}
    torch.save({"model": state, "epoch": 100}, tmp_path / "bai.pth")
    folded = build("bai2021", architecture="res50-gelu", weights=str(tmp_path / "bai.pth"))
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        expected = official((images - 0.5) / 0.5)
        torch.testing.assert_close(folded(images), expected, rtol=1e-4, atol=1e-4)


def test_bai_s_deit_has_its_own_eps_and_normalisation(tmp_path):
    made = build("bai2021", architecture="deit-s")
    torch.save({"model": made.network.state_dict()}, tmp_path / "deit.pth")
    loaded = build("bai2021", architecture="deit-s", weights=str(tmp_path / "deit.pth"))
    assert loaded.network.norm.eps == 1e-5
    assert loaded.mean.unique().tolist() == [0.5]
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), made(images))


def test_robustbench_models_come_by_name(tmp_path):
    if importlib.util.find_spec("pyautoattack") is None:
        pytest.skip("the extra robustbench is not installed")
    from torchvision.models import resnet50

    made = build_of_zoo("gowal2020-wrn-28-10")
    file = tmp_path / "Gowal2020Uncovering_28_10_extra.pt"
    torch.save(made.network.state_dict(), file)
    loaded = build_of_zoo("gowal2020-wrn-28-10", weights=str(file))
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), made(images))
    with pytest.raises(UserError, match="takes 32x32 images, but these are 16x16"):
        loaded(torch.rand(1, 3, 16, 16))
    torch.save({"foo": torch.zeros(1)}, file)
    with pytest.raises(UserError, match=r"does not fit Salman2020Do_R50: conv1\.weight is missing"):
        build_of_zoo("salman2020-res50", weights=str(file))
    torch.save({"module.model." + k: v for k, v in resnet50().state_dict().items()}, file)
    normalised = build_of_zoo("salman2020-res50", weights=str(file))
    assert normalised.network.normalize.mean.flatten()[0] == pytest.approx(0.485)
    with pytest.raises(UserError, match="did you mean 'Gowal2020Uncovering_28_10_extra'"):
        build_of_zoo("gowal2020-wrn-28-10", model="Gowal2020Uncovering_28_10_extr")


@pytest.mark.parametrize(
    ("model", "dataset", "threat_model", "size", "classes"),
    [
        ("Wong2020Fast", "cifar10", "Linf", 32, 10),  # its files lack mu and sigma
        ("Addepalli2022Efficient_RN18", "cifar100", "Linf", 32, 100),
        ("Debenedetti2022Light_XCiT-S12", "cifar10", "Linf", 32, 10),  # timm's, by a longer name
        ("Salman2020Do_R18", "imagenet", "Linf", 224, 1000),
        ("Augustin2020Adversarial", "cifar10", "L2", 32, 10),
        ("Kireev2021Effectiveness_RLAT", "cifar10", "corruptions", 32, 10),
    ],
)
def test_any_data_set_and_threat_model_of_robustbench(
    model, dataset, threat_model, size, classes, tmp_path
):
    if importlib.util.find_spec("pyautoattack") is None:
        pytest.skip("the extra robustbench is not installed")
    entry = {"kind": "robustbench", "model": model, "dataset": dataset, "weights": None}
    part = part_of("classifier", "x", {**entry, "threat_model": threat_model})
    made = part.build()
    images = torch.rand(1, 3, size, size)
    with torch.no_grad():
        assert (made.size, made(images).shape) == (size, (1, classes))
    kept = {k: v for k, v in made.network.state_dict().items() if k not in ("mu", "sigma")}
    torch.save(kept, tmp_path / "weights.pt")
    loaded = part_of("classifier", "x", {**part.entry(), "weights": str(tmp_path / "weights.pt")})
    with torch.no_grad():
        torch.testing.assert_close(loaded.build()(images), made(images))


class Malicious:
    def __reduce__(self):
        return (open, ("ran.txt", "w"))


def test_loading_runs_no_code_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Malicious()}, "evil.pth")
    with pytest.raises(
        UserError, match=r"evil\.pth cannot be read safely: it asks for (io|_io|builtins)\.open"
    ):
        build("pretrained", **RESNET18, weights="evil.pth")
    assert not (tmp_path / "ran.txt").exists()


@pytest.mark.parametrize("length", [0, 1, 200])
def test_a_truncated_file_is_named(tmp_path, length):
    whole = tmp_path / "whole.pth"
    torch.save({"w": torch.zeros(9)}, whole, _use_new_zipfile_serialization=False)
    file = tmp_path / "cut.pth"
    file.write_bytes(whole.read_bytes()[:length])
    with pytest.raises(UserError, match=r"cut\.pth cannot be read safely") as caught:
        build("pretrained", **RESNET18, weights=str(file))
    assert "\n" not in str(caught.value)
