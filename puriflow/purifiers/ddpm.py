"""Purification by DDPM's ancestral sampling, whole or respaced (Ho et al. 2020).

From level t' every step draws the state before it from its distribution given the network's x0,
which is clamped to [-1, 1], with the learned variance where the network has one.
"""

from functools import partial

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.schedule import Schedule, spaced
from puriflow.diffusion.vp import STEPS, time_of_sigma
from puriflow.errors import UserError
from puriflow.purifiers.diffused import Diffused, WayBack
from puriflow.randomness import ImageNoise


class DDPM(Diffused):
    """The purifier; see `Diffused`.

    Args:
        denoiser: the network.
        respacing: how many of the 1000 steps the process has; those below t' are taken. The image
            is diffused to t' all the same, and the first step is the last one at or below it.
        clip: whether x0 is clamped, as DiffPure does.
        options: of `Diffused`.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        respacing: int = STEPS,
        clip: bool = True,
        **options: int | None,
    ):
        super().__init__(denoiser, **options)
        self.schedule = Schedule(spaced(respacing))
        self.clip = clip
        self.steps = int((self.schedule.timesteps < self.t).sum())
        if self.schedule.timesteps[self.steps - 1] != self.t - 1:
            # The respaced process must know the level that the image is diffused to.
            kept = [*spaced(respacing)[: self.steps - 1], self.t - 1]
            self.schedule = Schedule(kept)
        if not self.steps:
            raise UserError(f"respacing {respacing} leaves no step below t' = {self.t}")
        # Of the state before each step, the first of which is the clean image.
        self.times = [0.0, *time_of_sigma(torch.from_numpy(self.schedule.sigma)).tolist()]

    def reverse(self, x: Tensor, noise: ImageNoise) -> WayBack:
        """See `Diffused.reverse`; one draw for every step, the last one's unused."""
        for i in reversed(range(self.steps)):
            x = self.stepwise(partial(self._step, i=torch.tensor(i)), x, noise.normal_like(x))
            yield self.times[i], x

    def _step(self, x: Tensor, z: Tensor, i: Tensor) -> Tensor:
        """Ancestral sampling of the step before i."""
        return sample(self.schedule, self.denoiser, x, z, i, clip=self.clip)


def sample(
    schedule: Schedule, denoiser: Denoiser, x: Tensor, z: Tensor, i: Tensor, *, clip: bool
) -> Tensor:
    """The step before i, by Ho et al.'s Algorithm 2 with noise z; the last one is the mean."""
    mean, log_variance = before(schedule, denoiser, x, i, clip=clip)
    return mean if int(i) == 0 else mean + (0.5 * log_variance).exp() * z


def before(
    schedule: Schedule, denoiser: Denoiser, x: Tensor, i: Tensor, *, clip: bool
) -> tuple[Tensor, Tensor]:
    """Mean and log variance of the step before i."""
    sigma = torch.from_numpy(schedule.sigma)[i]
    predicted, values = denoiser.noise_and_variance(x, sigma)
    x0 = schedule.clean(x, predicted, i)
    mean = schedule.mean(x0.clamp(-1, 1) if clip else x0, x, i)
    return mean, schedule.log_variance(values, x, i)


def build(
    *,
    network: Denoiser,
    t: int,
    respacing: int = STEPS,
    clip: bool = True,
    resize: int | None = None,
    rounds: int = 1,
    t_delta: int = 0,
) -> DDPM:
    """DDPM purification to level `t` with `network` (an entry of `networks`)."""
    return DDPM(
        network,
        t=t,
        respacing=respacing,
        clip=clip,
        resize=resize,
        rounds=rounds,
        t_delta=t_delta,
    )
