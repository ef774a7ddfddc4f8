"""Convolutions of frozen weights: torch's own numbers, and nothing kept of their inputs."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from puriflow.compute import frozen
from puriflow.convolution import keep_no_inputs

CASES = {
    "3x3": nn.Conv2d(8, 8, 3, padding=1),
    "1x1": nn.Conv2d(8, 4, 1, bias=False),
    "strided": nn.Conv2d(8, 16, 3, 2, 1),
    "dilated in groups": nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4),
    "same": nn.Conv2d(8, 8, 3, padding="same"),
    "reflected": nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
}


def answers(module, x, precision=None):
    """The output, the gradient of a curved loss, and that of the gradient's square."""
    y = x.detach().requires_grad_()
    with torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None):
        out = module(y)
    (grad,) = torch.autograd.grad((out.float() ** 3).sum(), y, create_graph=True)
    (second,) = torch.autograd.grad((grad**2).sum(), y)
    return out, grad, second


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_its_numbers_are_torchs_to_the_last_bit(case, precision, layout):
    own = deepcopy(CASES[case]).requires_grad_(False)
    other = deepcopy(own)
    keep_no_inputs(own)
    x = torch.randn(2, 8, 9, 10, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=layout)
    for mine, torchs in zip(answers(own, x, precision), answers(other, x, precision), strict=True):
        assert mine.dtype == torchs.dtype
        assert torch.equal(mine, torchs)


def test_sequences_as_well():
    own = nn.Conv1d(6, 4, 1).requires_grad_(False)
    other = deepcopy(own)
    keep_no_inputs(own)
    x = torch.randn(2, 6, 11)
    for mine, torchs in zip(answers(own, x), answers(other, x), strict=True):
        assert torch.equal(mine, torchs)


def test_an_image_without_a_batch_is_torchs_own_way():
    own = frozen(nn.Conv2d(3, 4, 3, padding=1))
    x = torch.randn(3, 8, 8, requires_grad=True)
    assert own(x).shape == (4, 8, 8)


def test_a_weight_that_is_no_parameter_keeps_its_gradient():
    own = frozen(nn.Conv2d(3, 4, 1, bias=False))
    del own.weight
    own.weight = torch.randn(4, 3, 1, 1, requires_grad=True)
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    (grad,) = torch.autograd.grad(own(x).sum(), own.weight)
    assert grad.abs().sum() > 0


def kept(module, x):
    """The shapes that the graph of a module keeps."""
    shapes = []

    def pack(tensor):
        shapes.append(tuple(tensor.shape))
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x)
    return shapes


def test_no_input_is_kept_unless_a_weight_has_a_gradient():
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    conv = frozen(nn.Sequential(nn.Conv2d(3, 5, 3, padding=1)))
    assert x.shape not in kept(conv, x)
    conv.requires_grad_(True)
    assert x.shape in kept(conv, x)
    (grad,) = torch.autograd.grad(conv(x).sum(), conv[0].weight)
    assert grad.abs().sum() > 0
