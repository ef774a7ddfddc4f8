"""Guided purification (GDMP, Wang et al. 2022): DDPM steps that are pulled towards the given image.

The mean of every ancestral step moves along the gradient of -MSE(x_t, reference), times the step's
variance and c_t = sqrt(1 - alpha_bar) / (m sqrt(alpha_bar)) with m = (2/3) 8/255 / scale. The
reference is the round's image, diffused afresh to the same step, or as it is.
"""

from functools import partial

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.schedule import pick
from puriflow.diffusion.vp import STEPS
from puriflow.errors import UserError
from puriflow.purifiers.ddpm import DDPM, before
from puriflow.purifiers.diffused import WayBack
from puriflow.purifiers.purifier import Watch
from puriflow.randomness import ImageNoise

PERTURBATION = 2 * 8 / 255 / 3  # a third of the attack's range on [-1, 1]


class GDMP(DDPM):
    """The purifier; see `DDPM`. Levels are not random.

    Args:
        denoiser: the network.
        scale: of the guidance.
        diffused: whether the reference is diffused, afresh for every step.
        shared: as published, the MSE is a mean over the batch too, so that the guidance of an image
            is the weaker the more batch mates it has; else it is a mean over its own pixels.
        options: of `DDPM`.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        scale: float,
        diffused: bool,
        shared: bool,
        **options: int | bool | None,
    ):
        if scale < 0:
            raise UserError(f"scale is {scale}, but must be 0 or more")
        super().__init__(denoiser, **options)
        self.scale, self.diffused, self.shared = scale, diffused, shared
        kept = self.schedule.alpha_bar
        self.strength = (1 / kept - 1) ** 0.5 * scale / PERTURBATION  # c_t

    def round(self, x: Tensor, noise: ImageNoise, watch: Watch | None) -> Tensor:
        """See `Purifier.round`."""
        return self.there_and_back(x, self.t, partial(self._guided, x), noise, watch)

    def _guided(self, image: Tensor, x: Tensor, noise: ImageNoise) -> WayBack:
        """`reverse` towards an image: two draws for every step if the reference is diffused."""
        for i in reversed(range(self.steps)):
            reference = image
            if self.diffused:
                kept = self.schedule.alpha_bar[i]
                reference = kept**0.5 * image + (1 - kept) ** 0.5 * noise.normal_like(image)
            step = partial(self._towards, i=torch.tensor(i))
            x = self.stepwise(step, x, noise.normal_like(x), reference)
            yield self.times[i], x

    def _towards(self, x: Tensor, z: Tensor, reference: Tensor, i: Tensor) -> Tensor:
        """The step before i, pulled towards the reference."""
        mean, log_variance = before(self.schedule, self.denoiser, x, i, clip=self.clip)
        count = x[0].numel() * (len(x) if self.shared else 1)
        pull = 2 * (reference - x) / count  # the gradient of -MSE
        mean = mean + log_variance.exp() * pick(self.strength, i, x) * pull
        return mean if int(i) == 0 else mean + (0.5 * log_variance).exp() * z


def build(
    *,
    network: Denoiser,
    t: int = 36,
    scale: float = 600.0,
    diffused: bool = True,
    shared: bool = False,
    respacing: int = STEPS,
    clip: bool = True,
    resize: int | None = None,
    rounds: int = 4,
) -> GDMP:
    """GDMP with `network`; the default is its CIFAR-10 setting.

    Its scale of 60000 is for the MSE of a batch of 100, which is 600 for an image of its own.
    """
    return GDMP(
        network,
        t=t,
        scale=scale,
        diffused=diffused,
        shared=shared,
        respacing=respacing,
        clip=clip,
        resize=resize,
        rounds=rounds,
    )
