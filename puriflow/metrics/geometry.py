"""How near a map of images is to an orthonormal projection (paper, section 4.2, Remark 1).

Of a map F, as the one-shot estimate P_t of a diffusion network, and of its Jacobian J at an image,
the remark asserts that J^2 = J = J^T. How far that is from true is measured in single directions,
by products with J (forward mode) and with J^T (backward mode); J itself is never there. Every image
has a Jacobian of its own: F must not mix the images of a batch.

For random u and v in d dimensions |<u, J v> - <v, J u>| / (|u| |J v|) is of the order of
1 / sqrt(d), 0.003 for a photograph, whether J is symmetric or not. So `asymmetry` compares J v with
J^T v, which is 0 for every v if and only if J is symmetric, and never more than 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from puriflow.errors import UserError

Map = Callable[[Tensor], Tensor]  # images (N, C, H, W) to images of the same shape


class Nearness(NamedTuple):
    """How far maps are from orthonormal projections at images, in a direction each: (N,) all.

    Attributes:
        idempotence: |J(F(x)) J(x) v - J(x) v| / |J(x) v|, 0 for a projection.
        symmetry: |<u, J v> - <v, J u>| / (|u| |J v|), 0 for an orthonormal one, else small, too.
        asymmetry: |J v - J^T v| / (|J v| + |J^T v|), 0 for an orthonormal one, 1 at most.
        kept: |J v|^2 / |v|^2, the share of a direction's energy that the map keeps.
    """

    idempotence: Tensor
    symmetry: Tensor
    asymmetry: Tensor
    kept: Tensor


def pushed(f: Map, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """F(x) and J(x) v, by forward differentiation: one pass."""
    with torch.no_grad(), forward_ad.dual_level():
        image, product = forward_ad.unpack_dual(f(forward_ad.make_dual(x, v)))
        return image, torch.zeros_like(image) if product is None else product


def pulled(f: Map, x: Tensor, w: Tensor) -> Tensor:
    """J(x)^T w."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(f(x), x, w)[0]


def nearness(f: Map, x: Tensor, v: Tensor, u: Tensor) -> Nearness:
    """How near J(x) is to an orthonormal projection.

    Args:
        f: the map.
        x: images (N, C, H, W).
        v: the directions, of the same shape.
        u: those with which `symmetry` takes its products.

    Raises:
        UserError: a direction, or what the map makes of it, has no length.
    """
    image, jv = pushed(f, x, v)
    again = pushed(f, image, jv)[1]
    back = pulled(f, x, v)
    of_jv = directed(jv, "what the map makes of a direction")
    return Nearness(
        idempotence=length(again - jv) / of_jv,
        symmetry=(_dot(u, jv) - _dot(back, u)).abs() / (directed(u, "a direction") * of_jv),
        asymmetry=length(jv - back) / (of_jv + length(back)),
        kept=(of_jv / directed(v, "a direction")).square(),
    )


def shares(jv: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The shares (N,) of a direction's energy that J keeps and removes: of J v and of v - J v.

    They add up to 1 for an orthonormal projection.

    Raises:
        UserError: a direction has no length.
    """
    of_v = directed(v, "a direction")
    return (length(jv) / of_v).square(), (length(v - jv) / of_v).square()


def directed(v: Tensor, what: str) -> Tensor:
    """The `length` of something that points somewhere.

    Raises:
        UserError: a length is 0 or not finite.
    """
    norms = length(v)
    if not (norms.isfinite() & (norms > 0)).all():
        raise UserError(f"{what} has length {norms.min().item():g}, so it points nowhere")
    return norms


def length(v: Tensor) -> Tensor:
    """The Euclidean lengths (N,) of v (N, C, H, W), in float64."""
    return v.double().flatten(1).norm(dim=1)


def _dot(u: Tensor, v: Tensor) -> Tensor:
    return (u.double() * v.double()).flatten(1).sum(dim=1)
