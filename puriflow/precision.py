"""Networks in less than float32: of what lies within them, convolutions and products of matrices.

The eight bits of bfloat16's mantissa, and the eleven of float16 and TF32, are for what lies within
a network: what reads or writes images, normalisations, the softmax of attention and what is made of
the noise level stay in float32, as do score, solver and noise around it. So the steps that an
attack's gradient computes again have the precision of the first time, whoever computes them.
"""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from puriflow.errors import UserError
from puriflow.options import Precision

MOST_OF_IMAGES = 12  # channels: of an image, or of two by two of its pixels
HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
NO_SECOND = (
    "{} has no second derivative, as a purifier takes that is itself a gradient (ScoreOpt): its "
    "network's precision can be bfloat16 or float32, and compute.compile must be false"
)
LARGEST = 2.0**4  # of a gradient that goes into float16, whose largest number is 2^16


def lowered(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Within it, a network's convolutions and products of matrices have that precision.

    It keeps no cast weights, which outlive a step of training inside another autocast. TF32 is for
    GPUs; a CPU computes in float32.
    """
    if precision == "float32":
        return nullcontext()
    if precision == "tf32":
        return _tf32()
    return torch.autocast(device.type, HALVES[precision], cache_enabled=False)


def asked(network: nn.Module, x: Tensor, level: Tensor, precision: Precision) -> Tensor:
    """What a network returns of x and its noise level in a precision, in the type of x.

    Its gradient by x has the precision too. Gradients of an attack may be smaller than float16's
    least number: those of an image are multiplied by a power of two on their way into the network,
    and divided by it behind. Where they are infinite all the same, an image's gradient is NaN,
    which no attack takes.

    Raises:
        UserError: float16 or TF32, of a gradient that is differentiated again, or of one by the
            network's parameters.
    """
    lower = precision in ("float16", "tf32")
    if lower and torch.is_grad_enabled() and any(p.requires_grad for p in network.parameters()):
        raise UserError(f"{precision} is for networks that are not trained: train in bfloat16")
    if precision == "tf32":
        return _InTF32.apply(x, level, network)
    scale: list[Tensor] = []
    with lowered(x.device, precision):
        if precision != "float16":
            return network(x, level).to(x.dtype)
        out = network(_Rescaled.apply(x, scale), level)
    return _Scaled.apply(out.to(x.dtype), scale)


def once(x: Tensor, what: str) -> Tensor:
    """The same, whose gradient is refused a gradient: `what` it was made by has none."""
    return _Once.apply(x, what)


def keep_ends_in_float32(network: nn.Module) -> None:
    """Leave `lowered` out of convolutions with at most MOST_OF_IMAGES channels on a side.

    Those read or write images, and half precision would round away the small noise that is to be
    removed. (In a very narrow net, others are among them.)
    """
    for module in network.modules():
        sides = (module.in_channels, module.out_channels) if isinstance(module, nn.Conv2d) else ()
        if sides and min(sides) <= MOST_OF_IMAGES:
            _keep_in_float32(module)


def keep_all_but_products_in_float32(network: nn.Module) -> None:
    """Leave `lowered` out of a diffusion network's normalisations and linear layers as well.

    The latter are of the noise level.
    """
    keep_ends_in_float32(network)
    for module in network.modules():
        if isinstance(module, nn.GroupNorm | nn.Linear):
            _keep_in_float32(module)


def _keep_in_float32(module: nn.Module) -> None:
    own = type(module)
    module.__class__ = type(own.__name__, (own,), {"forward": _float32(own.forward)})


def _float32(forward: Callable) -> Callable:
    def wrapped(self: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return forward(self, x.float())

    return wrapped


@contextmanager
def _tf32() -> Generator[None]:
    made: Any = torch.backends  # when torch runs, for the most part: a type checker does not see it
    backends = made.cuda.matmul, made.cudnn.conv
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "tf32"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


class _InTF32(torch.autograd.Function):
    """A network's answer, and its gradient by x, whose products are computed when that is over."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, level: Tensor, network: Callable[..., Tensor]) -> Tensor:
        if not ctx.needs_input_grad[0]:
            with _tf32():
                return network(x, level).to(x.dtype)
        with torch.enable_grad(), _tf32():
            ctx.x = x.detach().requires_grad_()
            ctx.out = network(ctx.x, level).to(x.dtype)
        return ctx.out.detach()

    @staticmethod
    # pyrefly: ignore[bad-override]  # there is one gradient, that of the output
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise UserError(NO_SECOND.format("TF32"))
        with _tf32():
            (found,) = torch.autograd.grad(ctx.out, ctx.x, grad)
        ctx.x = ctx.out = None
        return found, None, None


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, what: str) -> Tensor:
        ctx.what = what
        return x.view_as(x)

    @staticmethod
    # pyrefly: ignore[bad-override]  # there is one gradient, that of the output
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise UserError(NO_SECOND.format(ctx.what))
        return grad, None


class _Scaled(torch.autograd.Function):
    """The identity, whose gradient is brought near LARGEST, image by image, by powers of two."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, scale: list[Tensor]) -> Tensor:
        ctx.scale = scale
        return out.clone()

    @staticmethod
    # pyrefly: ignore[bad-override]  # there is one gradient, that of the output
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise UserError(NO_SECOND.format("float16"))
        largest = grad.detach().abs().amax(dim=(1, 2, 3), keepdim=True)
        exponent = torch.frexp(LARGEST / largest.clamp_min(1e-30))[1]
        ctx.scale[:] = [torch.ldexp(torch.ones_like(largest), exponent)]
        return grad * ctx.scale[0], None


class _Rescaled(torch.autograd.Function):
    """The identity, whose gradient is divided by what `_Scaled` multiplied it by."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: list[Tensor]) -> Tensor:
        ctx.scale = scale
        return x.clone()

    @staticmethod
    # pyrefly: ignore[bad-override]  # there is one gradient, that of the output
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        finite = grad.detach().isfinite().all(dim=3).all(dim=2).all(dim=1).reshape(-1, 1, 1, 1)
        return torch.where(finite, grad / ctx.scale[0], torch.nan), None
