"""Parts of every kind at a tiny size: tests go by the registry, so a new kind is tested at once.

A kind whose defaults make a small part needs nothing here, if `NEEDED` has the
options that it has no default for. Another one needs an entry in `OPTIONS`; the tests say so.
"""

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn

from puriflow.diffusion.denoisers import Denoiser
from puriflow.errors import UserError
from puriflow.purifiers.base import Purifier
from puriflow.registry import Part, family_named, kinds, part_of

LARGEST = 30_000_000  # parameters that a part of a kind's defaults may have

# An ADM that takes 30 ms for a 224 image.
ADM = {
    "kind": "adm",
    "weights": None,
    "model_channels": 8,
    "out_channels": 3,
    "num_res_blocks": 1,
    "attention_resolutions": [],
    "channel_mult": [1, 1, 1, 1],
    "num_head_channels": 8,
    "resblock_updown": False,
    "norm_groups": 2,
    "integer_steps": False,
}
# By section of the configuration: options for all kinds that have no default for them.
NEEDED: dict[str, dict[str, Any]] = {
    "datasets": {"root": "no/such/folder"},
    "attacks": {"eps": "8/255"},
    "purifiers": {
        "network": ADM,
        "classifier": {"kind": "wide-resnet", "weights": None, "depth": 10, "widen_factor": 1},
        "t": 20,
    },
}
# By section and kind: options that make it quick, or that this kind alone needs.
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "datasets": {
        "foolbox": {"sample": "cifar10"},
        "torch-dataset": {
            "object": "torchvision.datasets:FakeData",
            "arguments": {"size": 2, "image_size": [3, 8, 8]},
        },
    },
    "attacks": {
        "apgd": {"n_iter": 3, "eot_iter": 2},
        "autoattack": {"n_iter": 2, "n_queries": 3, "n_target_classes": 2},
        "bpda-eot": {"n_iter": 2, "eot_iter": 2, "n_draws": 2},
        "diffattack": {"n_iter": 2, "eot_iter": 1},
        "pgd": {"step_size": 0.007, "n_iter": 2, "random_start": False, "eot_iter": 2},
        "square": {"n_queries": 4},
    },
    "restorers": {
        "drln": {"n_feats": 8, "groups": [1, 1], "reduction": 4},
        "edsr": {"n_feats": 8, "n_resblocks": 1},
        "esrgan": {"num_feat": 8, "num_block": 1, "num_grow_ch": 4},
        "crop-rescale": {"crop": 8},
        "mdsr": {"n_feats": 8, "n_resblocks": 1},
        "quilting": {"n_patches": 200},
        "mustafa": {"n_feats": 8, "n_resblocks": 1},
        "span": {"feature_channels": 8},
        "srmd": {"nc": 8, "nb": 3},
    },
    "networks": {
        "adm": {option: value for option, value in ADM.items() if option != "kind"},
        "ddpmpp": {"channels": 8, "num_res_blocks": 1, "attn_resolutions": [4]},
        "edm": {"channels": 8, "num_blocks": 1, "attn_resolutions": [8]},
        "ncsnv2": {"ngf": 4},
    },
    "purifiers": {
        "aaopt": {"n_iter": 2, "perturbations": ADM},
        "adp": {"n_iter": 2},
        "contrastive": {"t": 20, "evaluations": 4, "start": 0},
        "ddim": {"stages": [[10, 2, 1], [20, 2, 1]]},
        "ddpm": {"respacing": 100},
        "diffap": {"stages": [[20, 2, 2]]},
        "freqpure": {"stages": [[10, 2, 1], [20, 2, 1]]},
        "gdmp": {"t": 20, "respacing": 100, "rounds": 1},
        "heterogeneous": {"t_large": 20, "t_small": 10, "blocks": ["network.bn1"]},
        "langevin": {"n_f": 2, "image_size": 8, "activation": "smooth", "n_iter": 3},
        "me-net": {"n_iter": 5},
        "ode": {"evaluations": 3},
        "pixel-deflection": {"deflections": 20, "denoise": False},
        "pixeldefend": {"image_size": 8, "width": 4, "blocks": 1, "mixtures": 2},
        "scoreopt": {"n_iter": 2},
        "tvm-mask": {"n_iter": 12},
        "vesde": {"evaluations": 3},
        "vpsde": {"evaluations": 3},
    },
    "classifiers": {
        "bai2021": {"architecture": "res50-gelu"},
        "dm-wide-resnet": {"depth": 10, "width": 1},
        "huggingface": {"name": "none/at-all"},
        "pretrained": {"library": "torchvision", "name": "resnet18"},
        "robustbench": {"model": "Wong2020Fast", "dataset": "cifar10", "size": 32},
        "timm": {"name": "test_vit", "pretrained": False},
        "wide-resnet": {"depth": 10, "widen_factor": 1},
    },
    "features": {
        "efficientnet-lite0": {"layers": ["stem", "stage2"]},
        "efficientnet-lite2": {"layers": ["stem", "stage2"]},
        "vgg19": {"layers": ["conv1_2", "relu2_2"]},
    },
}


def of_side(kind: str, side: int) -> dict[str, int]:
    """The option that makes a purifier take images of a side, of those that take one alone."""
    return {"image_size": side} if kind in ("langevin", "pixeldefend") else {}


def tiny(section: str, kind: str, **options: Any) -> Part:
    """The part of a kind at its tiny size, without weights; other options count more than these."""
    entry = {"kind": kind, **OPTIONS.get(section, {}).get(kind, {}), **options}
    default = {"weights": None, **NEEDED.get(section, {})}
    for option, needed in kinds(section)[kind].options.items():
        if needed and option not in entry:
            if option not in default:
                pytest.fail(f"{section}: {kind} needs {option}: add it to tests/tiny_parts.py")
            entry[option] = default[option]
    return part_of(family_named(section).roles[0], kind, entry)


def build_tiny(section: str, kind: str, **options: Any) -> Any:
    """The tiny part itself, always with the same random weights.

    The test is skipped where the kind needs an extra that is not installed.
    """
    part = tiny(section, kind, **options)
    torch.manual_seed(0)
    try:
        built = part.build()
    except UserError as error:
        if "pip install" in str(error):
            pytest.skip(str(error))
        raise
    size = sum(p.numel() for p in built.parameters()) if isinstance(built, nn.Module) else 0
    if size > LARGEST and kind not in OPTIONS.get(section, {}):
        pytest.fail(
            f"{section}: {kind} has {size} parameters by its defaults: add options of a tiny one "
            "to tests/tiny_parts.py"
        )
    return built


class Guide(nn.Module):
    """A smooth classifier of images of any size, always with the same random weights."""

    def __init__(self):
        super().__init__()
        weights = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
        self.register_buffer("weights", weights, persistent=False)
        self.network = nn.ModuleDict({"bn1": nn.Tanh()})  # a name that a wide-resnet has as well

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.network["bn1"](nn.functional.conv2d(x, self.weights.to(x.dtype)))
        return nn.functional.adaptive_avg_pool2d(h, 1).flatten(1)


def tiny_purifier(kind: str, denoiser: Denoiser) -> Purifier:
    """The tiny purifier of a kind with a denoiser, and if it needs one a guide, of a test's own."""
    part = tiny("purifiers", kind)
    inner = {"network": denoiser, "classifier": Guide(), "perturbations": denoiser}
    given = {option: inner[option] for option in part.inner}
    if "weights" in part.known.options:
        given["weights"] = None
    return import_module(part.module).build(**given, **part.options)
