"""Gradient checkpoints: a solver's step beyond a fixed memory is computed again for its gradient.

What is kept of such a step is its input, an image, instead of a network's activations, so memory
does not grow with the number of steps. (PyTorch's own checkpoints without re-entrance keep the
empty nodes of the graph as well. Strewn among activations that are freed, they fragment the memory
of a CPU: 20 MB a step, for an image of less than 1 MB.) Steps of small images fit, and keep their
activations, which saves a fifth of the time of an attack. The numbers are the same to the last bit.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from operator import attrgetter
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks

KEPT = 2**30  # bytes of activations that all steps keep, at most
Case = tuple[str, torch.dtype, tuple[torch.Size, ...]]  # of a step: its name, and of its inputs
# What the graph of a step keeps, as its first gradient found, for which it is always recomputed.
bytes_of: WeakKeyDictionary[nn.Module, dict[Case, int]] = WeakKeyDictionary()


@dataclass
class Watch:
    """How many steps were computed again, and for how many of them another state came out.

    The gradient is then of another trajectory than the one that was answered to: a GPU may choose
    other kernels the second time, and so may whoever changed a network meanwhile.
    """

    steps: int = 0
    others: int = 0

    def said(self) -> dict[str, str]:
        """For a record; nothing if no step was computed again."""
        if self.steps == 0:
            return {}
        other = f"{self.others} of {self.steps} steps gave another state"
        return {"recomputation": other if self.others else "equal to the last bit"}


watch: Watch | None = None  # of the steps that begin now


@contextmanager
def watched() -> Generator[Watch]:
    """Compare the states of all steps that begin within it with those that are computed again."""
    global watch
    before, watch = watch, Watch()
    try:
        yield watch
    finally:
        watch = before


class Activation:
    """A tensor that a graph keeps; counted as long as it is there."""

    total = 0  # bytes of all

    def __init__(self, tensor: Tensor, *, free: frozenset[int]):
        self.tensor = tensor.detach()  # with its graph, an output would hold the one that keeps it
        self.size = 0 if tensor.untyped_storage().data_ptr() in free else tensor.nbytes
        Activation.total += self.size

    def __del__(self) -> None:
        Activation.total -= self.size


class Step(NamedTuple):
    """A step of a module, with its constants, on inputs of a certain type and shape."""

    function: Callable[..., Tensor]
    module: nn.Module
    case: Case

    def fits(self) -> bool:
        """Whether its activations may be kept: as far as is known, beside those that are."""
        known = bytes_of.get(self.module, {})
        return Activation.total + known.get(self.case, KEPT + 1) <= KEPT

    def graph(
        self, inputs: Sequence[Tensor], needed: Sequence[bool]
    ) -> tuple[list[Tensor], Tensor]:
        """Inputs, which are differentiated if needed, and what comes of them, with its graph."""
        own = (*self.module.parameters(), *self.module.buffers())
        free = frozenset(x.untyped_storage().data_ptr() for x in own)
        leaves = [x.detach().requires_grad_(need) for x, need in zip(inputs, needed, strict=True)]
        before = Activation.total
        counted = saved_tensors_hooks(partial(Activation, free=free), attrgetter("tensor"))
        with torch.enable_grad(), counted:
            output = self.function(*leaves)
        bytes_of.setdefault(self.module, {})[self.case] = Activation.total - before
        return leaves, output


def recomputed(step: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorate a step, a method of a module: its exact gradient computes it again if it is large.

    The step must be deterministic: noise is drawn outside it. Its positional arguments are tensors,
    all that is differentiated or large, and are kept; its keyword arguments are constants. The
    module's parameters have their gradient too.
    """

    @wraps(step)
    def wrapped(module: nn.Module, *inputs: Tensor, **constants: Any) -> Tensor:
        case = step.__qualname__, inputs[0].dtype, tuple(x.shape for x in inputs)
        own = Step(partial(step, module, **constants), module, case)
        parameters = [p for p in module.parameters() if p.requires_grad]
        keeps = torch.is_grad_enabled() and own.fits()
        return _Recomputed.apply(own, keeps, len(inputs), *inputs, *parameters)

    return wrapped


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, step: Step, keeps: bool, n_inputs: int, *tensors: Tensor) -> Tensor:
        ctx.step, ctx.n_inputs, ctx.kept = step, n_inputs, None
        ctx.watch, ctx.result = watch, None
        ctx.save_for_backward(*tensors)
        needed = ctx.needs_input_grad[3:]
        if not (keeps and any(needed)):
            result = step.function(*tensors[:n_inputs])
            ctx.result = result.detach() if watch is not None else None
            return result
        ctx.kept = step.graph(tensors[:n_inputs], needed[:n_inputs])
        return ctx.kept[1].detach()

    @staticmethod
    @once_differentiable
    # pyrefly: ignore[bad-override]  # the decorator hides the name of ctx
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        tensors, needed, n_inputs = ctx.saved_tensors, ctx.needs_input_grad[3:], ctx.n_inputs
        inputs, output = ctx.kept or ctx.step.graph(tensors[:n_inputs], needed[:n_inputs])
        if ctx.result is not None:
            ctx.watch.steps += 1
            ctx.watch.others += not torch.equal(output, ctx.result)
        ctx.kept = ctx.result = None
        leaves = [*inputs, *tensors[n_inputs:]]
        wanted = [x for x, need in zip(leaves, needed, strict=True) if need]
        grads = iter(torch.autograd.grad(output, wanted, grad_output, allow_unused=True))
        return None, None, None, *(next(grads) if need else None for need in needed)
