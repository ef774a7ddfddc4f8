"""Heterogeneous noise (Pei et al., CVPR 2025): more of it where a classifier looks.

Pixels that a classifier attends to are purified from t_large, all others from t_small. The way back
is DDIM's. Until t_small every step takes the pixels that are not attended to from the given image,
diffused afresh, and to make the two agree it diffuses all of them by a few more levels, from which
it comes back at once ("single-step resampling").

Attention is the sum over channels of the squared activations of some blocks behind their ReLU, each
resized to the image and brought to [0, 1], of which the largest counts. The classifier is given the
image as it takes it; their code gives it one on [-1, 1] that is normalised by ImageNet's numbers.
Where the mask lies is constant almost everywhere, so that it adds nothing to the exact gradient.
"""

from collections.abc import Sequence
from copy import copy
from itertools import pairwise
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.recomputation import recomputed
from puriflow.diffusion.vp import DISCRETE_ALPHA_BAR, time_of_sigma
from puriflow.errors import UserError
from puriflow.options import Fraction, Names, Rounds, Side, Timestep, TimestepIndex
from puriflow.purifiers.base import Callback, DiffusionPurifier, Options
from puriflow.purifiers.ddim import ve_sigma
from puriflow.randomness import ImageNoise

FEWEST = {"t_large": 1, "t_small": 0, "stride": 1}  # for planning: a step with resampling
LAST = len(DISCRETE_ALPHA_BAR) - 1


class Heterogeneous(DiffusionPurifier):
    """The purifier; see `DiffusionPurifier`.

    Args:
        classifier: whose attention counts.
        blocks: names of its modules.
        t_large: timestep, from 0, of pixels that are attended to.
        t_small: timestep of the others.
        stride: timesteps of a step back.
        extra: by how many timesteps a resampling diffuses.
        threshold: of the attention; or
        share: of an image's pixels that are attended to.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        classifier: nn.Module,
        *,
        blocks: Sequence[str],
        t_large: int,
        t_small: int,
        stride: int,
        extra: int,
        threshold: float,
        share: float | None,
        **options: Unpack[Options],
    ):
        if t_small > t_large or stride > t_large:
            raise UserError(f"t_small and stride must be at most t_large, which is {t_large}")
        if t_large + extra > LAST:
            raise UserError(f"t_large + extra is {t_large + extra}, but must be at most {LAST}")
        super().__init__(denoiser, t=t_large + 1, **options)
        known = dict(classifier.named_modules())
        if missing := [name for name in blocks if name not in known]:
            raise UserError(f"the classifier has no module {missing[0]!r}; see its named_modules()")
        self.classifier, self.blocks = classifier, [known[name] for name in blocks]
        self.timesteps = steps_down(t_large, stride)
        self.t_small, self.extra, self.threshold, self.share = t_small, extra, threshold, share

    def surrogate(self) -> "Heterogeneous":
        """See `Purifier`: steps of a hundred timesteps, which their attack differentiates."""
        one, t_large = copy(self), self.t - 1
        one.timesteps = steps_down(t_large, min(100, t_large))
        return one

    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        """A forward draw; then two for every step with resampling, and none for others."""
        given, mask = x, self.mask(x)
        x, trace = self.diffuse(x, noise, callback, self.timesteps[0] + 1)
        for i, i_next in pairwise(self.timesteps):
            alpha_bar, alpha_bar_next = DISCRETE_ALPHA_BAR[[i, i_next]].tolist()
            if i_next >= self.t_small:
                others = self.add_noise(given, i + 1, noise.normal_like(x))
                x = torch.where(mask, x, others)
                more = float(DISCRETE_ALPHA_BAR[i + self.extra])
                kept = more / alpha_bar
                x = kept**0.5 * x + (1 - kept) ** 0.5 * noise.normal_like(x)
                alpha_bar = more
            x = self.back(x, alpha_bar=alpha_bar, alpha_bar_next=alpha_bar_next)
            trace(time_of_sigma(ve_sigma(alpha_bar_next)), x)
        return x

    @recomputed
    def back(self, x: Tensor, *, alpha_bar: float, alpha_bar_next: float) -> Tensor:
        """A step of DDIM (Song et al. 2021, Eq. 12 with sigma 0)."""
        eps, _ = self.denoiser.eps_and_variance(x, ve_sigma(alpha_bar))
        x0 = (x - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5
        return alpha_bar_next**0.5 * x0 + (1 - alpha_bar_next) ** 0.5 * eps

    @torch.no_grad()
    def mask(self, x: Tensor) -> Tensor:
        """Whether pixels are attended to, (N, 1, H, W), of images on [-1, 1]."""
        seen: list[Tensor] = []

        def look(block: nn.Module, given: object, out: object) -> None:
            if not isinstance(out, Tensor) or out.ndim != 4:
                raise UserError("a block of the classifier gives no feature map (N, C, h, w)")
            seen.append(self.attention(out, x))  # at once: what follows may change it in place

        hooks = [block.register_forward_hook(look) for block in self.blocks]
        try:
            self.classifier((x + 1) / 2)
        finally:
            for hook in hooks:
                hook.remove()
        if not seen:
            raise UserError("the classifier asks none of its blocks that are named")
        attention = torch.stack(seen).amax(0)
        if self.share is None:
            return attention >= self.threshold
        order = attention.flatten(1).argsort(dim=1, descending=True, stable=True)
        rank = order.argsort(1).reshape(attention.shape)
        return rank < int(self.share * rank[0].numel())

    def attention(self, h: Tensor, x: Tensor) -> Tensor:
        """Of activations (N, C, h, w): (N, 1, H, W) on [0, 1]."""
        energy = (h.relu() ** 2).sum(1, keepdim=True)
        energy = F.interpolate(energy, x.shape[-2:], mode="bilinear", align_corners=False)
        low, high = energy.amin((1, 2, 3), keepdim=True), energy.amax((1, 2, 3), keepdim=True)
        return (energy - low) / (high - low).clamp_min(torch.finfo(energy.dtype).tiny)


def steps_down(t_large: int, stride: int) -> list[int]:
    """Timesteps from t_large down to 0, of which the last step may be shorter."""
    return [*range(t_large, 0, -stride), 0]


def build(
    *,
    network: Denoiser,
    classifier: nn.Module,
    blocks: Names,
    t_large: Timestep = 200,
    t_small: TimestepIndex = 100,
    stride: Timestep = 5,
    extra: TimestepIndex = 10,
    threshold: Fraction = 0.85,
    share: Fraction | None = None,
    resize: Side | None = None,
    rounds: Rounds = 1,
) -> Heterogeneous:
    """Heterogeneous noise with `network`; the default is its CIFAR-10 setting."""
    return Heterogeneous(
        network,
        classifier,
        blocks=blocks,
        t_large=t_large,
        t_small=t_small,
        stride=stride,
        extra=extra,
        threshold=threshold,
        share=share,
        resize=resize,
        rounds=rounds,
    )
