"""The project's own parity fixtures: every network at a small size, what it returned, and for what.

The values are those of this project's networks on the day on which they equalled the official code
on the shared fixtures (which are not part of the project). Weights are not stored: they follow from
the keys and shapes by a formula, so a renamed key or another shape changes the output. To write
own.safetensors anew, with the shared fixtures passing: python tests/parity/own.py
"""

import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision
from puriflow.classifiers.dm_wide_resnet import DMWideResNet
from puriflow.classifiers.wide_resnet import WideResNet
from puriflow.networks.adm import ADM
from puriflow.networks.ddpmpp import DDPMpp
from puriflow.networks.edm import EDMPrecond, SongUNet, VPPrecond
from puriflow.restorers.drln import DRLN
from puriflow.restorers.edsr import EDSR
from puriflow.restorers.esrgan import RRDBNet
from puriflow.restorers.mdsr import MDSR

FILE = Path(__file__).with_name("own.safetensors")


def adm() -> nn.Module:
    return ADM(
        model_channels=32,
        out_channels=6,
        num_res_blocks=1,
        attention_resolutions=[2],
        channel_mult=[1, 2],
        num_head_channels=16,
        use_scale_shift_norm=True,
        resblock_updown=True,
    )


def song() -> SongUNet:
    return SongUNet(
        image_size=16, channels=16, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(8,)
    )


def ddpmpp() -> nn.Module:
    return DDPMpp(
        image_size=16, channels=16, channel_mult=(1, 2), num_res_blocks=1, attn_resolutions=(8,)
    )


def rrdbnet(scale: int) -> nn.Module:
    return RRDBNet(num_feat=8, num_block=1, num_grow_ch=4, scale=scale)


T, SIGMA = torch.tensor([10.0, 150.0]), torch.tensor([0.05, 0.8])
# name: constructor, side of the images, largest value, what else it takes
NETWORKS = {
    "adm": (adm, 16, 1, (T,)),
    "ddpmpp": (ddpmpp, 16, 1, (T,)),
    "edm": (lambda: EDMPrecond(song()), 16, 1, (SIGMA,)),
    "edm-vp": (lambda: VPPrecond(song()), 16, 1, (SIGMA,)),
    "edsr": (lambda: EDSR(n_feats=8, n_resblocks=2, scale=2), 12, 255, ()),
    "edsr-x4": (lambda: EDSR(n_feats=8, n_resblocks=1, scale=4, res_scale=0.1), 8, 255, ()),
    "mdsr": (lambda: MDSR(n_feats=8, n_resblocks=2), 12, 255, ()),
    "drln": (lambda: DRLN(n_feats=8, groups=(2, 3), reduction=4), 12, 255, ()),
    "rrdbnet-x2": (lambda: rrdbnet(2), 12, 1, ()),
    "rrdbnet-x4": (lambda: rrdbnet(4), 8, 1, ()),
    "rrdbnet-x8": (lambda: rrdbnet(8), 6, 1, ()),
    "wrn": (lambda: WideResNet(depth=10, widen_factor=2), 32, 1, ()),
    "dmwrn": (lambda: DMWideResNet(depth=10, width=2), 32, 1, ()),
}


def values(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform on [-1, 1): a function of the text alone."""
    draws = np.random.RandomState(zlib.crc32(text.encode()))
    return 2 * draws.random_sample(shape) - 1


def fill(network: nn.Module) -> nn.Module:
    """Give every parameter and statistic the value that its key says."""
    state = network.state_dict()
    for key, value in state.items():
        last = key.split(".")[-1]
        # counters, and constants: the mean shifts among them
        if not value.is_floating_point() or last in ("sigmas", "resample_filter"):
            continue
        if "_mean." in key:
            continue
        s = torch.from_numpy(values(key, tuple(value.shape)))
        if last == "running_var":
            made = 1 + 0.5 * s
        elif value.ndim == 1 and last == "weight":
            made = 1 + 0.3 * s
        elif value.ndim == 1:
            made = 0.1 * s
        else:
            fan_in = value.shape[0] if last == "W" else value[0].numel()
            made = s * (3 / fan_in) ** 0.5
        state[key] = made.to(value.dtype)
    network.load_state_dict(state, strict=True)
    return network.eval().requires_grad_(False)


def computed(name: str) -> dict[str, torch.Tensor]:
    """The output of a network, and the gradient of a weighted sum of it, in float32."""
    make, side, top, more = NETWORKS[name]
    network = fill(make())
    x = torch.from_numpy(values(f"input of {name}", (2, 3, side, side))).float()
    x = (x if more else (x + 1) / 2 * top).requires_grad_()
    out = network(x, *more)
    weights = torch.from_numpy(values(f"cotangent of {name}", tuple(out.shape))).float()
    (gradient,) = torch.autograd.grad((out * weights).sum(), x)
    keys = "\n".join(f"{k} {tuple(v.shape)}" for k, v in network.state_dict().items())
    crc = torch.tensor(zlib.crc32(keys.encode()))
    return {f"{name}.out": out.detach(), f"{name}.grad": gradient, f"{name}.keys": crc}


def stored() -> dict[str, torch.Tensor]:
    """What own.safetensors holds."""
    return load_file(FILE)


if __name__ == "__main__":
    tensors = {key: v.contiguous() for name in NETWORKS for key, v in computed(name).items()}
    save_file(tensors, FILE)
    print(FILE, FILE.stat().st_size, "bytes", file=sys.stderr)
