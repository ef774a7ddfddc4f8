"""Gradient checkpoints: the graph of a solver's step is not kept, its gradient computes it again.

What is kept is the step's input, an image, instead of a network's activations. (PyTorch's own
checkpoints without re-entrance keep the empty nodes of the graph as well. Strewn among activations
that are freed, they fragment the memory of a CPU: 20 MB a step, for an image of less than 1 MB.)
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable


def recomputed(step: Callable[..., Tensor], network: nn.Module, *inputs: Tensor) -> Tensor:
    """step(*inputs), with the exact gradient of its inputs and of a network's parameters.

    Args:
        step: deterministic: noise must be among the inputs. It is called once more in a gradient.
        network: whose parameters the step uses.
        inputs: all that is differentiated or large; they are kept.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    return _Recomputed.apply(step, len(inputs), *inputs, *parameters)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, step: Callable[..., Tensor], count: int, *given: Tensor
    ) -> Tensor:
        ctx.step, ctx.count = step, count
        ctx.save_for_backward(*given)
        return step(*given[:count])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        given, wanted = ctx.saved_tensors, ctx.needs_input_grad[2:]
        inputs = [
            x.detach().requires_grad_(want)
            for x, want in zip(given[: ctx.count], wanted, strict=False)
        ]
        with torch.enable_grad():
            out = ctx.step(*inputs)
        leaves = [*inputs, *given[ctx.count :]]
        chosen = [x for x, want in zip(leaves, wanted, strict=True) if want]
        found = iter(torch.autograd.grad(out, chosen, gradient, allow_unused=True))
        return None, None, *(next(found) if want else None for want in wanted)
