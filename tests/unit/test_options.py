"""Options of every kind, by the registry: whatever is given, it is taken as it is or refused.

Refused is one line, of the project's own error, before anything is computed; never a traceback, a
hang, or another value than the one that was given.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_parts import tiny
from torch import nn

from puriflow import compute
from puriflow.config import check_config, load_config
from puriflow.errors import UserError
from puriflow.options import values_of
from puriflow.registry import FAMILIES, INNER, Kind, family_named, kinds, part_of

KINDS = [(family.section, kind) for family in FAMILIES for kind in kinds(family.section)]
NAMES = [f"{section}-{kind}" for section, kind in KINDS]
OPTIONS = [(s, k, o) for s, k in KINDS for o in kinds(s)[k].options if o not in INNER]
CYCLE: list = []
CYCLE.append(CYCLE)
ODD = [
    *(math.nan, math.inf, -math.inf, -1, 0, -0.0, 1, 2, 3, 4.0, 0.5, -0.5, 1e9, 10**9, 10**12),
    *(10**400, 1e-320, 1e308, 2.5, None, True, False, "", " ", "2", "true", "no", "nan"),
    *(
        "4/255",
        "1/0",
        "0/255",
        "-4/255",
        "1e999999999",
        "1e-3",
        "zoo:",
        "../x",
        "/dev/null",
        "a\nb",
    ),
    *(
        "\0",
        "\ud800",
        "\N{SNOWMAN}",
        "x" * 10_000,
        [],
        [[]],
        [1],
        [2, 2, 2],
        [0.5, 0.5, 0.5],
        ["ce"],
    ),
    *([math.nan], [True], ["2"], [10**12], [[30, 30, 4]], [[30, 31, 4]], [[1, 1, 10**9]], [None]),
    *([1] * 100_000, {}, {"kind": "adm"}, {1: 2}, b"x", object(), CYCLE, 1j),
]
# These take long to build, and their options are hardly any.
SLOW = {
    "bai2021",
    "robustbench",
    "efficientnet-lite0",
    "efficientnet-lite2",
    "vgg19",
    "pretrained",
    "timm",
}
SLOW |= {"torch-dataset"}


def holds(declared: Any, value: Any) -> bool:
    """Whether a value is of a type, bounds apart; written without pydantic."""
    origin, arguments = get_origin(declared), get_args(declared)
    if origin is Annotated:
        return holds(arguments[0], value)
    if origin in (Union, UnionType):
        return any(holds(one, value) for one in arguments)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in arguments)
    if origin is tuple:
        return (
            isinstance(value, (list, tuple))
            and len(value) == len(arguments)
            and all(map(holds, arguments, value))
        )
    if origin is Mapping:
        return isinstance(value, dict)
    if origin is Sequence:
        return isinstance(value, (list, tuple)) and all(holds(arguments[0], v) for v in value)
    if declared is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is (NoneType if declared is None else declared)


def declared(section: str, kind: str, option: str) -> Any:
    build = import_module(kinds(section)[kind].module).build
    return inspect.signature(build, eval_str=True).parameters[option].annotation


def tried(section: str, kind: str, options: dict[str, Any], *, build: bool = True) -> str | None:
    """The line that refuses the options of a tiny part; None if they are taken, and it is built."""
    try:
        part = tiny(section, kind, **options)
        if build and kind not in SLOW:
            part.build()
    except UserError as error:
        line = str(error)
    else:
        return None
    assert len(line.splitlines()) == 1
    assert len(line) < 900
    return line


def test_the_values_of_every_option_are_known_without_torch():
    """So that a track is checked when it is loaded; the network of a purifier is a part itself."""
    for section, kind, option in OPTIONS:
        assert values_of(kinds(section)[kind].declared[option]) is not None, (section, kind, option)


@pytest.mark.parametrize(("section", "kind"), KINDS, ids=NAMES)
def test_an_odd_value_is_taken_as_it_is_or_refused(section, kind):
    for option in (o for s, k, o in OPTIONS if (s, k) == (section, kind)):
        type_of_option = declared(section, kind, option)
        for value in ODD:
            line = tried(section, kind, {option: value})
            assert line is not None or holds(type_of_option, value), (option, value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(OPTIONS), JSON)
def test_any_value_is_taken_as_it_is_or_refused(which, value):
    section, kind, option = which
    line = tried(section, kind, {option: value}, build=False)
    assert line is not None or holds(declared(section, kind, option), value)


def numbers(annotation: Any) -> st.SearchStrategy:
    """Values of a type that are often in its bounds, small enough to be built at once."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return numbers(arguments[0])
    if origin in (Union, UnionType):
        return st.one_of(*map(numbers, arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.tuples(*map(numbers, arguments)).map(list)
    if origin is Sequence:
        return st.lists(numbers(arguments[0]), max_size=4)
    small = st.integers(0, 12) | st.sampled_from([16, 20, 32])
    return {
        int: small,
        float: st.floats(0, 2) | st.sampled_from([1e-9, 1e6, 600.0]),
        bool: st.booleans(),
        str: st.sampled_from(["4/255", "db1", "haar", "stem", "cifar10", "."]),
    }.get(annotation, st.none())


@given(st.data())
def test_any_options_together_are_built_or_refused(data):
    section, kind = data.draw(st.sampled_from([pair for pair in KINDS if pair[1] not in SLOW]))
    options = {
        option: data.draw(numbers(declared(section, kind, option)), label=option)
        for option in kinds(section)[kind].options
        if option not in (*INNER, "weights") and data.draw(st.booleans())
    }
    tried(section, kind, options)


# Nested entries, and what else is no entry


@pytest.mark.parametrize("network", [3, "adm", [], {}, {"kind": None}, {"kind": ["adm"]}, True])
def test_a_network_that_is_none_is_refused(network):
    with pytest.raises(UserError, match=r"config (networks|purifiers)\.x"):
        part_of("purifier", "x", {"kind": "osd", "t": 20, "network": network})


def test_the_options_of_a_network_in_an_entry_are_checked():
    network = {"kind": "adm", "model_channels": 32.0}
    with pytest.raises(
        UserError, match=r"networks\.x: model_channels is 32\.0, but must be a whole"
    ):
        part_of("purifier", "x", {"kind": "osd", "t": 20, "network": {**network, "weights": None}})


@pytest.mark.parametrize("entry", [None, 3, "pgd", [], {1: 2, "kind": "pgd"}, {"kind": {}}])
def test_what_is_no_entry_is_refused(entry):
    with pytest.raises(UserError, match=r"attacks\.x|option of pgd"):
        part_of("attack", "x", entry)


@pytest.mark.parametrize(
    ("section", "kind", "options", "message"),
    [
        (
            "attacks",
            "apgd",
            {"n_restarts": 0},
            "n_restarts is 0, but must be a whole number from 1",
        ),
        ("attacks", "apgd", {"rho": 1.5}, r"rho is 1\.5, but must be a number between 0 and 1"),
        ("attacks", "square", {"p_init": 0}, "p_init is 0, but must be a number from 1e-09 to 1"),
        ("attacks", "autoattack", {"version": "random"}, "unknown version .* did you mean 'rand'"),
        ("attacks", "diffattack", {"losses": []}, "losses is .*, but must be a list of 1 to 100"),
        ("attacks", "bpda-eot", {"step_size": "17/255"}, "step_size is 0.06666.*, but the ball is"),
        ("attacks", "pgd", {"eps": math.nan}, "eps is nan, but must be a number from 1e-09 to"),
        ("attacks", "diffattack", {"weight": -1}, "weight is -1, but must be a number from 0 to"),
        (
            "restorers",
            "bicubic",
            {"rounds": 10**9},
            "rounds is 1000000000, but must be a whole num",
        ),
        ("restorers", "esrgan", {"scale": "2"}, "scale is '2', but must be 2 or 4 or 8"),
        ("attacks", "pgd", {"n_iter": 4.0}, r"n_iter is 4\.0, but must be a whole number"),
        ("attacks", "pgd", {"fixed": "true"}, "fixed is 'true', but must be true or false"),
        ("purifiers", "gdmp", {"perturbation": 4}, "perturbation is 4, but must be .* 4/255"),
        ("purifiers", "ldsde", {"sigma2": "1e-3"}, "sigma2 is '1e-3', but must be a number"),
        (
            "purifiers",
            "ldsde",
            {"sigma2": 1e-6},
            "sigma2 is 1e-06, but with lambda_ld 0.01 the SDE",
        ),
        (
            "purifiers",
            "vpsde",
            {"t": 20, "t_delta": 20},
            r"t' is 20 \+- 20, but must lie between 1",
        ),
        ("purifiers", "ddim", {"stages": [[30, 31, 1]]}, "t' = 30 has 1 to 30 steps, not 31"),
        ("purifiers", "scoreopt", {"sigma": 0.1}, r"sigma is 0\.1, but must be above 0\.1"),
        (
            "networks",
            "adm",
            {"num_head_channels": 3},
            "8 channels make no whole attention heads",
        ),
        (
            "networks",
            "adm",
            {"channel_mult": [0.01]},
            "a level of channel_mult 0.01 has no channels",
        ),
        ("networks", "adm", {"norm_groups": 3}, "must be divisible by"),
        ("networks", "edm", {"image_size": 6}, "image_size 6 cannot be halved 2 times"),
        ("networks", "ddpmpp", {"image_size": 4}, "image_size 4 cannot be halved 3 times"),
        ("restorers", "wavelet", {"wavelet": "db0"}, "unknown wavelet 'db0': did you mean"),
        ("restorers", "mdsr", {"scales": [3, 4]}, "2 is not among them"),
    ],
)
def test_what_is_allowed_is_said(section, kind, options, message):
    with pytest.raises(UserError, match=message):
        tiny(section, kind, **options).build()


UNITS = [
    (
        "attacks",
        {"kind": "pgd", "eps": "8/255", "step_size": 2, "n_iter": 9},
        "step_size is 2, but",
    ),
    ("attacks", {"kind": "pgd", "eps": "8/255", "step_size": 1, "n_iter": 9}, "the ball is 0.062"),
    ("attacks", {"kind": "bpda-eot", "eps": "1/510"}, "step_size is 0.00784314, but the ball is"),
    ("attacks", {"kind": "bpda-eot", "eps": 8}, "eps of Linf must lie in .* but is 8"),
    ("attacks", {"kind": "square", "eps": 8}, "eps of Linf must lie in .* but is 8"),
    ("attacks", {"kind": "square", "eps": "255/8"}, "eps of Linf must lie in .* but is 31"),
    (
        "attacks",
        {"kind": "apgd", "eps": 128, "norm": "L2"},
        r"a number from 1e-09 to 50, .*\[0, 1\]",
    ),
    ("attacks", {"kind": "apgd", "eps": "12800/255", "norm": "L2"}, "a number from 1e-09 to 50"),
    ("attacks", {"kind": "apgd", "eps": 3, "norm": "L2"}, None),
    ("attacks", {"kind": "apgd", "eps": "128/255", "norm": "L2"}, None),
    ("restorers", {"kind": "nlm", "h": 10}, r"h is 10, but must be .* 1, of colours on \[0, 1\]"),
    ("restorers", {"kind": "wavelet", "sigma": 10}, r"sigma is 10, .* of colours on \[0, 1\]"),
    ("restorers", {"kind": "wavelet", "sigma": None}, None),
    ("restorers", {"kind": "tvm", "weight": 25}, r"weight is 25, .* of colours on \[0, 1\]"),
    (
        "datasets",
        {"kind": "folder", "root": "x", "crop": 288},
        "crop is 288, but .* resized to 256",
    ),
    ("datasets", {"kind": "folder", "root": "x", "resize": None, "crop": 288}, None),
    ("datasets", {"kind": "foolbox", "sample": "x", "crop": 288}, None),
    *(
        ("classifiers", {"kind": "wide-resnet", **option}, r"numbers .*, of colours on \[0, 1\]")
        for option in (
            {"mean": [125.3, 123.0, 113.9]},
            {"std": [63.0, 62.1, 66.7]},
            {"std": [2, 2, 2]},
        )
    ),
    ("classifiers", {"kind": "wide-resnet", "mean": [1, 1, 1], "std": [0.0039] * 3}, None),
    ("purifiers", {"kind": "scoreopt", "sigma": 64}, "sigma is 64, but must be a number"),
    ("purifiers", {"kind": "scoreopt", "learning_rate": 25}, "learning_rate is 25, but must be"),
    (
        "purifiers",
        {"kind": "ode", "t": 1001},
        "t is 1001, but must be a whole number from 1 to 1000",
    ),
    ("purifiers", {"kind": "ode", "t": 0.1}, "t is 0.1, but must be a whole number"),
    ("purifiers", {"kind": "ode", "t": 990, "t_delta": 11}, r"t' is 990 \+- 11, but must lie"),
]


@pytest.mark.parametrize(("section", "entry", "says"), UNITS)
def test_a_number_in_another_unit_is_refused_when_the_track_is_loaded(
    repository, monkeypatch, section, entry, says
):
    monkeypatch.chdir(repository)
    if section == "purifiers":
        entry = {**entry, "network": "edm"}
    if section == "classifiers":
        entry = {**entry, "weights": "resources/wrn-28-10.safetensors"}
    raw = {"extends": "config/config.yaml", section: {"odd": entry}}
    if says is None:
        assert check_config(raw).part(family_named(section).roles[0], "odd").kind == entry["kind"]
        return
    with pytest.raises(UserError, match=says) as caught:
        check_config(raw)
    assert str(caught.value).startswith(f"config {section}.odd: ")


def test_options_of_other_types_by_the_same_names_are_a_part_s_own(monkeypatch):
    declared = {"t": "float", "crop": "tuple[int, int]", "resize": "Side | None", "eps": "float"}
    mine = Kind("mine", "mine", dict.fromkeys(declared, False), declared)
    monkeypatch.setitem(kinds("datasets"), "mine", mine)
    entry = {"kind": "mine", "t": 0.5, "crop": [9, 9], "resize": 8, "eps": 8.0}
    assert part_of("dataset", "x", entry).options["eps"] == 8.0


def test_an_attack_of_l2_alone_may_say_so_in_words_of_its_own(monkeypatch):
    declared = {"eps": "Length", "norm": "Literal['L2']"}
    mine = Kind("mine", "mine", dict.fromkeys(declared, False), declared, {"norm": "L2"})
    monkeypatch.setitem(kinds("attacks"), "mine", mine)
    assert part_of("attack", "x", {"kind": "mine", "eps": 2.0}).options == {"eps": 2.0}


def test_a_network_that_would_fill_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(compute, "MOST_PARAMETERS", 10_000)
    with pytest.raises(UserError, match=r"config restorers\.edsr: the network has more than 10000"):
        tiny("restorers", "edsr", n_feats=64).build()
    assert tiny("restorers", "edsr", n_feats=8).build().scale == 2
    with pytest.raises(ValueError, match="does not fit into the memory"), compute.building():
        torch.empty(2**60)


def test_a_model_that_finds_objects_is_no_classifier():
    """It would fetch weights of its own."""
    name = {"library": "torchvision", "name": "fasterrcnn_resnet50_fpn"}
    with pytest.raises(UserError, match="unknown torchvision model"):
        tiny("classifiers", "pretrained", **name).build()


@pytest.mark.parametrize("track", ["config", "paper"])
def test_no_number_of_a_track_changes(repository, monkeypatch, track):
    monkeypatch.chdir(repository)
    config = load_config(f"config/{track}.yaml")
    for family in FAMILIES:
        for name in getattr(config, family.section):
            if config.why_unavailable(family.roles[0], name) is None:
                part = config.part(family.roles[0], name)
                texts = kinds(family.section)[part.kind].declared
                for option, value in part.options.items():
                    found = values_of(texts[option]).checked(value, option, name)
                    if option == "stages":
                        found = [list(stage) for stage in found]
                    assert found == value


@pytest.mark.parametrize("track", ["config", "paper"])
def test_the_options_of_a_track_s_attacks_and_purifiers_go_together(repository, monkeypatch, track):
    monkeypatch.chdir(repository)
    config = load_config(f"config/{track}.yaml")
    for name in config.attacks:
        config.part("attack", name).build()
    inner = {role: tiny("networks", "edm") for role in INNER}
    inner["classifier"] = tiny(
        "classifiers", "wide-resnet", depth=28
    )  # whose names are the official
    for name in config.purifiers:
        if config.why_unavailable("purifier", name) is None:
            part = config.part("purifier", name)
            replace(part, inner={option: inner[option] for option in part.inner}).build()


# Sizes


SIZES = [(1, 1), (2, 3), (7, 9), (16, 16), (32, 32), (33, 33), (40, 24)]


@pytest.mark.parametrize(
    ("section", "kind"),
    # a name of Hugging Face's alone makes no network
    [(s, k) for s, k in KINDS if s not in ("datasets", "attacks") and k != "huggingface"],
)
def test_a_network_takes_images_or_says_which(section, kind):
    torch.manual_seed(0)
    built = tiny(section, kind).build()
    for height, width in SIZES:
        images = torch.rand(1, 3, height, width)
        try:
            with torch.no_grad():
                outputs = asked(section, built, images)
        except UserError as error:
            line = str(error)
            assert f"{height}x{width}" in line
            assert len(line.splitlines()) == 1
            assert (height, width) != (getattr(built, "size", 0),) * 2
        else:
            assert all(output.isfinite().all() for output in outputs)
            if section in ("restorers", "purifiers", "networks"):
                assert outputs[0].shape == images.shape


def asked(section: str, built: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    from puriflow.randomness import ImageNoise

    if section == "networks":
        return [built.eps(images, torch.tensor(0.1))]
    if section == "purifiers":
        return [built(images, ImageNoise(0, "purify", range(len(images))))]
    found = built(images)
    return list(found.values()) if section == "features" else [found]


def test_the_nearest_size_is_said():
    adm = tiny("networks", "adm").build()
    message = r"adm takes images whose sides are multiples of 8, but these are 33x3; .* is 32x8$"
    with pytest.raises(UserError, match=message):
        adm.eps(torch.rand(1, 3, 33, 3), torch.tensor(0.1))


@pytest.mark.parametrize("kind", ["wide-resnet", "dm-wide-resnet", "efficientnet-lite0"])
def test_a_classifier_refuses_the_images_of_another_data_set(kind):
    classifier = tiny("classifiers", kind).build()
    other = 224 if classifier.size == 32 else 32
    with pytest.raises(UserError, match=f"takes {classifier.size}x{classifier.size} images, but"):
        classifier(torch.rand(1, 3, other, other))
    with pytest.raises(UserError, match="but these are 1x"):
        classifier(torch.rand(1, 1, classifier.size, classifier.size))
    assert family_named("classifiers")
