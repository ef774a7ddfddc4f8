"""ME-Net (Yang et al., ICML 2019): values are dropped, and the image is estimated from the rest.

The three colours side by side are a matrix (`concat`), or each is one behind the same mask
(`separate`). On [-1, 1], its values are kept with the chance `keep`, and the others estimated:

- `usvt`, as released: the largest singular values of the masked matrix, over the share that was
  kept. That truncates the rank; the paper's namesake (Chatterjee 2015) thresholds the values.
- `nuclear-norm`: min over X of mu |X|_* + sum mask (X - A)^2, by proximal gradient steps.
- `soft-impute` (Mazumder et al. 2010): the same steps, which shrink by a fiftieth of the largest
  singular value. In the end what was kept is put back as it was, as released: all of an attack's
  perturbation there passes.

Both take `n_iter` steps; the release stops soft-impute at a change of 0.001, and leaves the nuclear
norm to a solver of conic programs.

The classifier has to be one that was trained on such images. Nothing is diffused. The published
attack is BPDA with one mask a step; here the exact gradient goes through the singular vectors, too.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from puriflow.diffusion.recomputation import recomputed
from puriflow.errors import UserError
from puriflow.options import Count, Fraction, Positive, real
from puriflow.purifiers.base import Callback
from puriflow.randomness import ImageNoise

Method = Literal["usvt", "nuclear-norm", "soft-impute"]
Channels = Literal["concat", "separate"]
SHRINKAGE = 1 / 50  # of soft-impute, of the largest singular value


class MENet(nn.Module):
    """Images (N, 3, H, W) in [0, 1] to the same.

    Args:
        keep: the chance of each value to be kept; a masked matrix has one at least.
        keep_delta: that of each image is drawn from keep +- keep_delta, as in its training.
        method: `usvt`, `nuclear-norm` or `soft-impute`.
        channels: `concat` or `separate`.
        rank: of `usvt`: the share of singular values that stay.
        mu: of `nuclear-norm`.
        n_iter: steps of `nuclear-norm` and `soft-impute`.
    """

    def __init__(
        self,
        *,
        keep: float,
        keep_delta: float,
        method: Method,
        channels: Channels,
        rank: float,
        mu: float,
        n_iter: int,
    ):
        super().__init__()
        self.keep, self.keep_delta = keep, keep_delta
        self.method, self.channels = method, channels
        self.rank, self.mu, self.n_iter = rank, mu, n_iter

    def forward(
        self, images: Tensor, noise: ImageNoise, callback: Callback | None = None
    ) -> Tensor:
        """There is no reverse process, so no callback is called."""
        n, _, height, width = images.shape
        kept = self.kept(images, noise)
        a = self.matrices(images * 2 - 1)
        estimated = self.estimated(a, self.matrices(kept.expand_as(images))).clamp(-1, 1)
        if self.channels == "concat":
            x = estimated.view(n, height, 3, width).transpose(1, 2)
        else:
            x = estimated.view(n, 3, height, width)
        return (x + 1) / 2

    def kept(self, images: Tensor, noise: ImageNoise) -> Tensor:
        """Which values are kept, 1 or 0: (N, 3, H, W), or (N, 1, H, W) for all colours."""
        keep = self.keep
        chance = torch.full((len(images),), keep, dtype=images.dtype, device=images.device)
        if self.keep_delta:
            drawn = noise.uniform(keep - self.keep_delta, keep + self.keep_delta)
            chance = drawn.to(chance)
        like = images if self.channels == "concat" else images[:, :1]
        uniform = noise.uniform_like(like, 0, 1).flatten(1)
        least = uniform == uniform.amin(1, keepdim=True)  # which makes one of none
        return ((uniform < chance[:, None]) | least).to(images.dtype).view(like.shape)

    def matrices(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) as matrices (N, H, 3 W), or (3 N, H, W)."""
        return x.transpose(1, 2).flatten(2) if self.channels == "concat" else x.flatten(0, 1)

    def estimated(self, a: Tensor, kept: Tensor) -> Tensor:
        """Matrices (N, H, W) of which some values were kept, estimated."""
        if self.method == "usvt":
            return self.usvt(a, kept)
        x, tau = kept * a, torch.full((len(a),), self.mu / 2, dtype=a.dtype, device=a.device)
        if self.method == "soft-impute":
            tau = SHRINKAGE * torch.linalg.matrix_norm(x, 2)
        for _ in range(self.n_iter):
            x = self.step(x, a, kept, tau)
        return kept * a + (1 - kept) * x if self.method == "soft-impute" else x

    @recomputed
    def usvt(self, a: Tensor, kept: Tensor) -> Tensor:
        """The largest singular values of what was kept, over its share."""
        share = kept.mean((1, 2), keepdim=True)
        rank = max(1, int(self.rank * a.shape[1]))  # rounded down, as released
        return Truncated.apply(kept * a, rank) / share

    @recomputed
    def step(self, x: Tensor, a: Tensor, kept: Tensor, tau: Tensor) -> Tensor:
        """A proximal gradient step: what was kept is put in, and singular values shrink by tau."""
        return Shrunk.apply(kept * a + (1 - kept) * x, tau)


class Spectral(torch.autograd.Function):
    """W = f(A A^T) A of matrices A (N, H, W): singular values times f, differentiated exactly.

    By Daleckii and Krein, with A A^T = U diag(l) U^T, the differential of f(A A^T) is
    U (F o (U^T d(A A^T) U)) U^T, F_ij = (f_i - f_j) / (l_i - l_j), and f'_i on the diagonal.
    Values that f treats alike have no quotient, on which a whole decomposition's gradient breaks.
    """

    @staticmethod
    def keep(ctx: Any, a: Tensor, function: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        """W, by `function`: of the singular values s, ascending, f and its slope in s^2."""
        wide = a.double()
        values, u = torch.linalg.eigh(wide @ wide.mT)
        s = values.clamp_min(0).sqrt()
        f, slope = function(s)
        ctx.save_for_backward(a, u, s, f, slope)
        return ((u * f[:, None]) @ (u.mT @ wide)).to(a.dtype)

    @staticmethod
    def differentiated(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient of A; and s, f and U^T (grad A^T) U, of which that of f is made."""
        a, u, s, f, slope = ctx.saved_tensors
        wide, g = a.double(), grad.double()
        turned = u.mT @ (g @ wide.mT) @ u
        gap = s.square()[:, :, None] - s.square()[:, None]
        alike = gap.abs() <= 1e-12 * s[:, -1:, None].square()
        quotient = (f[:, :, None] - f[:, None]) / torch.where(alike, 1.0, gap)
        mean = (slope[:, :, None] + slope[:, None]) / 2
        # twice the symmetric part, since A A^T changes by dA A^T + A dA^T
        inner = torch.where(alike, mean, quotient) * (turned + turned.mT)
        out = (u * f[:, None]) @ (u.mT @ g) + u @ inner @ (u.mT @ wide)
        return out.to(a.dtype), s, turned.diagonal(dim1=1, dim2=2)


class Truncated(Spectral):
    """Matrices (N, H, W) with their largest `rank` singular values alone."""

    @staticmethod
    # pyrefly: ignore[bad-override]  # its own arguments
    def forward(ctx: Any, a: Tensor, rank: int) -> Tensor:
        def function(s: Tensor) -> tuple[Tensor, Tensor]:
            f = torch.zeros_like(s)
            f[:, s.shape[1] - rank :] = 1
            return f, torch.zeros_like(s)

        return Spectral.keep(ctx, a, function)

    @staticmethod
    @once_differentiable
    # pyrefly: ignore[bad-override]  # the decorator hides the name of ctx
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return Spectral.differentiated(ctx, grad)[0], None


class Shrunk(Spectral):
    """Matrices (N, H, W) whose singular values are less by tau (N,), and not below 0."""

    @staticmethod
    # pyrefly: ignore[bad-override]  # its own arguments
    def forward(ctx: Any, a: Tensor, tau: Tensor) -> Tensor:
        def function(s: Tensor) -> tuple[Tensor, Tensor]:
            least, stays = tau.double()[:, None], s > tau.double()[:, None]
            inverse = torch.where(stays, s, 1.0).reciprocal()
            return torch.where(stays, 1 - least * inverse, 0.0), torch.where(
                stays, least * inverse**3 / 2, 0.0
            )

        return Spectral.keep(ctx, a, function)

    @staticmethod
    @once_differentiable
    # pyrefly: ignore[bad-override]  # the decorator hides the name of ctx
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        own, s, turned = Spectral.differentiated(ctx, grad)
        stays = ctx.saved_tensors[3] > 0
        slope = torch.where(stays, turned / torch.where(stays, s, 1.0), 0.0)
        return own, -slope.sum(1).to(grad.dtype)


def build(
    *,
    keep: Annotated[float, real(0.01, 1)] = 0.5,
    keep_delta: Fraction = 0.0,
    method: Literal["usvt", "nuclear-norm", "soft-impute"] = "usvt",
    channels: Literal["concat", "separate"] = "concat",
    rank: Annotated[float, real(0.01, 1)] = 0.8,
    mu: Positive = 1.0,
    n_iter: Count = 100,
) -> MENet:
    """ME-Net's preprocessing; the default numbers are those of its released white-box test."""
    if not 0 < keep - keep_delta <= keep + keep_delta <= 1:
        raise UserError(f"keep is {keep:g} +- {keep_delta:g}, but must lie above 0, up to 1")
    return MENet(
        keep=keep,
        keep_delta=keep_delta,
        method=method,
        channels=channels,
        rank=rank,
        mu=mu,
        n_iter=n_iter,
    )
