"""Purification by DDPM's ancestral sampling, whole or respaced (Ho et al. 2020).

From level t' every step draws the state before it from its distribution given the network's x0,
which is clamped to [-1, 1], with the learned variance where the network has one.
"""

from typing import Unpack

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.recomputation import recomputed
from puriflow.diffusion.schedule import Schedule, space_timesteps
from puriflow.diffusion.vp import STEPS, time_of_sigma
from puriflow.options import Rounds, Side, Timestep, TimestepSpread
from puriflow.purifiers.base import Callback, DiffusionPurifier, LevelOptions
from puriflow.randomness import ImageNoise


class DDPMOptions(LevelOptions, total=False):
    """The keyword arguments of `DDPM`."""

    respacing: int
    clip: bool


class DDPM(DiffusionPurifier):
    """The purifier; see `DiffusionPurifier`.

    Args:
        respacing: how many of the 1000 steps the process has; those below t' are taken. The image
            is diffused to t' all the same, and the first step is the last one at or below it.
        clip: whether x0 is clamped, as DiffPure does.
    """

    fixed_large = False  # see `Schedule`

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        respacing: int = STEPS,
        clip: bool = True,
        **options: Unpack[LevelOptions],
    ):
        super().__init__(denoiser, **options)
        self.clip = clip
        timesteps = space_timesteps(respacing)
        self.n_steps = sum(step < self.t for step in timesteps)
        if timesteps[self.n_steps - 1] != self.t - 1:
            # The respaced process must know the level that the image is diffused to.
            timesteps = [*timesteps[: self.n_steps - 1], self.t - 1]
        self.schedule = Schedule(timesteps, fixed_large=self.fixed_large)
        # Of the state that each step leads to: that of step 0 is the clean image.
        self.times = [0.0, *time_of_sigma(torch.from_numpy(self.schedule.sigma)).tolist()]

    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        """Algorithm 2 from t' down; one draw z for every step, the last one's unused."""
        x, trace = self.diffuse(x, noise, callback)
        for i in reversed(range(self.n_steps)):
            x = self.step(x, noise.normal_like(x), i=i)
            trace(self.times[i], x)
        return x

    @recomputed
    def step(self, x: Tensor, z: Tensor, *, i: int) -> Tensor:
        """Algorithm 2, line 4: the state before step i is its mean + sigma_i z."""
        mean, log_variance = self.mean_and_log_variance(x, i)
        return mean if i == 0 else mean + (0.5 * log_variance).exp() * z

    def mean_and_log_variance(self, x: Tensor, i: int) -> tuple[Tensor, Tensor]:
        """Of the state before step i, given x at i (Eq. 7 with the network's x0)."""
        eps, v = self.denoiser.eps_and_variance(x, torch.tensor(self.schedule.sigma[i]))
        x0 = self.schedule.predict_x0(x, eps, i)
        x0 = x0.clamp(-1, 1) if self.clip else x0
        return self.schedule.posterior_mean(x0, x, i), self.schedule.log_variance(v, x, i)


def build(
    *,
    network: Denoiser,
    t: Timestep,
    respacing: Timestep = STEPS,
    clip: bool = True,
    resize: Side | None = None,
    rounds: Rounds = 1,
    t_delta: TimestepSpread = 0,
) -> DDPM:
    """DDPM purification to level `t` with `network`."""
    return DDPM(
        network, t=t, respacing=respacing, clip=clip, resize=resize, rounds=rounds, t_delta=t_delta
    )
