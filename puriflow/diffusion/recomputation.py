"""Gradient checkpoints: the graph of a solver's step is not kept, its gradient computes it again.

What is kept is the step's input, an image, instead of a network's activations. (PyTorch's own
checkpoints without re-entrance keep the empty nodes of the graph as well. Strewn among activations
that are freed, they fragment the memory of a CPU: 20 MB a step, for an image of less than 1 MB.)
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def recomputed(step: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorate a step, a method of a module, so that its exact gradient computes it once more.

    The step must be deterministic: noise is drawn outside it. Its positional arguments are tensors,
    all that is differentiated or large, and are kept; its keyword arguments are constants. The
    module's parameters have their gradient too.
    """

    @wraps(step)
    def wrapped(module: nn.Module, *inputs: Tensor, **constants: Any) -> Tensor:
        parameters = [p for p in module.parameters() if p.requires_grad]
        function = partial(step, module, **constants)
        return _Recomputed.apply(function, len(inputs), *inputs, *parameters)

    return wrapped


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, step: Callable[..., Tensor], n_inputs: int, *tensors: Tensor) -> Tensor:
        ctx.step, ctx.n_inputs = step, n_inputs
        ctx.save_for_backward(*tensors)
        return step(*tensors[:n_inputs])

    @staticmethod
    @once_differentiable
    # pyrefly: ignore[bad-override]  # the decorator hides the name of ctx
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        tensors, needed = ctx.saved_tensors, ctx.needs_input_grad[2:]
        inputs = [
            x.detach().requires_grad_(need)
            for x, need in zip(tensors[: ctx.n_inputs], needed, strict=False)
        ]
        with torch.enable_grad():
            output = ctx.step(*inputs)
        leaves = [*inputs, *tensors[ctx.n_inputs :]]
        wanted = [x for x, need in zip(leaves, needed, strict=True) if need]
        grads = iter(torch.autograd.grad(output, wanted, grad_output, allow_unused=True))
        return None, None, *(next(grads) if need else None for need in needed)
