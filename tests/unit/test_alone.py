"""A network's gradient of one image is that of the image among others, in every order of memory.

`torch.nn.functional.instance_norm` gives another one, without a word, of a batch of one image whose
channels lie side by side (torch 2.13 on a CPU), and so would whatever is made of it.
"""

import pytest
import torch
from tiny_parts import build_tiny

from puriflow.diffusion.denoisers import Denoiser
from puriflow.registry import kinds

SIDES = {"classifiers": 32}  # of all others 16
ELSEWHERE = {"huggingface", "robustbench"}  # whose networks are fetched
NETWORKS = [
    (section, kind)
    for section in ("networks", "restorers", "classifiers")
    for kind in sorted(kinds(section).keys() - ELSEWHERE)
]


def gradient(module, images, weights):
    """Of a fixed weighting of what a module makes of images, (N, 3, H, W)."""
    x = images.clone().requires_grad_()
    out = module.denoise(x, torch.tensor(0.5)) if isinstance(module, Denoiser) else module(x)
    total = (out * weights(out)).sum()
    return torch.autograd.grad(total, x)[0] if total.requires_grad else torch.zeros_like(x)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("section", "kind"), NETWORKS)
def test_the_gradient_of_an_image_alone_is_the_one_among_others(section, kind, layout):
    module = build_tiny(section, kind)
    side = getattr(module, "size", SIDES.get(section, 16))
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, side, side, generator=generator).to(memory_format=layout)

    def weights(out):
        drawn = torch.randn(out.shape[1:], generator=torch.Generator().manual_seed(1))
        return drawn.expand_as(out)

    alone = gradient(module, images[:1].contiguous(memory_format=layout), weights)
    among = gradient(module, images, weights)[:1]
    scale = among.abs().max().item()
    torch.testing.assert_close(alone, among, rtol=1e-3, atol=1e-4 * scale + 1e-9)
