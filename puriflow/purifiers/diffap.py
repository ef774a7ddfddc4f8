"""DiffAP's random sampling (Zhang et al. 2024, arXiv 2411.18956), from nearly pure noise.

A step of DDIM goes on from x0 with fresh noise alone, of DDPM's sigma: what points to x_t (Song et
al. 2021, Eq. 12) is left out. In every step x0 moves towards the given image ("mediator guidance"),
by scale sqrt(alpha_bar) grad MSE(x0, given); in its code the MSE is a mean over the batch, too.

That scale of 30000, for a batch of 16, is a step of 0.99 in the last of the five steps: the code
hands back the given image, to 1 %, and its attack differentiates a purifier without the guidance.
"""

from copy import copy
from typing import Unpack

from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.errors import UserError
from puriflow.options import NonNegative, Rounds, Side, Stages
from puriflow.purifiers.ddim import DDIM, StageOptions
from puriflow.randomness import ImageNoise

STEPS = 5  # for planning, of the stages by default


class DiffAP(DDIM):
    """The purifier; see `DDIM`.

    Args:
        guidance_scale: of the pull by an MSE over the image's own pixels.
    """

    pointing = 0

    def __init__(
        self, denoiser: Denoiser, *, guidance_scale: float, **options: Unpack[StageOptions]
    ):
        if guidance_scale < 0:
            raise UserError(f"guidance_scale is {guidance_scale}, but must be 0 or more")
        super().__init__(denoiser, **options)
        self.guidance_scale = guidance_scale

    def surrogate(self) -> "DiffAP":
        """See `Purifier`: the same without the pull."""
        free = copy(self)
        free.guidance_scale = 0.0
        return free

    def held(self, given: Tensor, noise: ImageNoise) -> tuple[Tensor, ...]:
        """The given image."""
        return (given,)

    def hold(self, x0: Tensor, *held: Tensor, alpha_bar: float) -> Tensor:
        """X0 nearer to the given image."""
        (given,) = held
        grad = 2 * (x0 - given) / x0[0].numel()
        return x0 - self.guidance_scale * alpha_bar**0.5 * grad


def build(
    *,
    network: Denoiser,
    stages: Stages = ((1000, 5, 1),),
    guidance_scale: NonNegative = 1875.0,
    resize: Side | None = None,
    rounds: Rounds = 1,
) -> DiffAP:
    """DiffAP with `network`; the default is that of its code for CIFAR-10: 30000 for 16 images."""
    return DiffAP(
        network,
        stages=stages,
        eta=1.0,
        guidance_scale=guidance_scale,
        resize=resize,
        rounds=rounds,
    )
