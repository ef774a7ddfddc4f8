"""Parts of every kind at a tiny size: tests go by the registry, so a new kind is tested at once.

A kind that its defaults build in a second or two on a CPU needs nothing here. Another one, or one
with an option that must be given, needs an entry in `OPTIONS`; the tests say so.
"""

import time
from typing import Any

import pytest
import torch

from puriflow.errors import UserError
from puriflow.registry import Part, family_named, kinds, part_of

SECONDS = 5  # that a build by defaults may take, on a busy machine

# By section of the configuration and kind: options.
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "datasets": {"foolbox": {"sample": "cifar10"}},
    "restorers": {
        "drln": {"n_feats": 8, "groups": [1, 1], "reduction": 4},
        "edsr": {"n_feats": 8, "n_resblocks": 1},
        "esrgan": {"num_feat": 8, "num_block": 1, "num_grow_ch": 4},
        "mdsr": {"n_feats": 8, "n_resblocks": 1},
    },
    "classifiers": {
        "bai2021": {"architecture": "res50-gelu"},
        "dm-wide-resnet": {"depth": 10, "width": 1},
        "pretrained": {"library": "torchvision", "name": "resnet18"},
        "robustbench": {"model": "Wong2020Fast", "dataset": "cifar10", "size": 32},
        "wide-resnet": {"depth": 10, "widen_factor": 1},
    },
    "features": {
        "efficientnet-lite0": {"layers": ["stem", "stage2"]},
        "vgg19": {"layers": ["conv1_2", "relu2_2"]},
    },
}


def tiny(section: str, kind: str, **options: Any) -> Part:
    """The part of a kind at its tiny size, without weights; `options` count more than the table."""
    entry = {"kind": kind, **OPTIONS.get(section, {}).get(kind, {}), **options}
    known = kinds(section)[kind].options
    if "weights" in known:
        entry.setdefault("weights", None)
    if missing := [option for option, needed in known.items() if needed and option not in entry]:
        pytest.fail(f"{section}: {kind} needs {', '.join(missing)}: add it to tests/tiny_parts.py")
    return part_of(family_named(section).roles[0], kind, entry)


def build_tiny(section: str, kind: str, **options: Any) -> Any:
    """The tiny part itself, always with the same random weights.

    The test is skipped where the kind needs an extra that is not installed.
    """
    part = tiny(section, kind, **options)
    torch.manual_seed(0)
    started = time.monotonic()
    try:
        built = part.build()
    except UserError as error:
        if "pip install" in str(error):
            pytest.skip(str(error))
        raise
    seconds = time.monotonic() - started
    if seconds > SECONDS and kind not in OPTIONS.get(section, {}):
        pytest.fail(
            f"{section}: {kind} takes {seconds:.0f} s to build by its defaults: add options of a "
            "tiny one to tests/tiny_parts.py"
        )
    return built
