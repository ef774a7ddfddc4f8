"""What purifiers have in common: scale and size of their network, rounds, and the forward noise.

A purifier works on [-1, 1] at the network's size, and maps back to [0, 1] without a clamp, as
DiffPure does. Each is written in its paper's symbols: x0 is the clean image that a round starts
from, x the state x_t, eps standard normal noise, z the fresh noise of a step; t is the time of the
VP-SDE, t' = 1000 t; t_next, alpha_bar_next and sigma_next belong to the state that a step leads
to, which is nearer to the image.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, Required, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.dpm_solver import sample, sigma_grid
from puriflow.diffusion.recomputation import recomputed
from puriflow.diffusion.vp import (
    DISCRETE_ALPHA_BAR,
    diffuse,
    diffuse_to_time,
    time_grid,
    time_of_sigma,
)
from puriflow.errors import UserError, unknown
from puriflow.options import Correction, check_correction, check_evaluations, check_levels
from puriflow.randomness import ImageNoise

# Called after every step of the reverse process, of every round: with t in [0, 1], x_t (what the
# forward process made of the round's x0) and x'_t (the state of the reverse process). Both are
# (N, 3, H, W), on the VP scale.
Callback = Callable[[float, Tensor, Tensor], None]
Trace = Callable[[float | Tensor, Tensor], None]  # of t and x'_t


class Options(TypedDict, total=False):
    """The keyword arguments of `Purifier`."""

    resize: int | None
    rounds: int


class LevelOptions(Options, total=False):
    """The keyword arguments of `DiffusionPurifier`, which has a level."""

    t: Required[int]
    t_delta: int


class Purifier(nn.Module, ABC):
    """Images (N, 3, H, W) on [0, 1] in and out; the output is not clamped.

    Args:
        denoiser: the network.
        resize: side to which the image is resized for the network (256 in DiffPure), bilinear
            without antialiasing, and back; None for the image's own size.
        rounds: how often all of it is done (DiffPure's `sample_step`).
    """

    def __init__(self, denoiser: Denoiser, *, resize: int | None = None, rounds: int = 1):
        super().__init__()
        if rounds < 1:
            raise UserError(f"rounds is {rounds}, but must be 1 or more")
        self.denoiser = denoiser
        self.resize = resize
        self.rounds = rounds

    def forward(
        self, images: Tensor, noise: ImageNoise, callback: Callback | None = None
    ) -> Tensor:
        """Purify images with noise that is drawn in the order in which it is used."""
        size = images.shape[-2:]
        x = images * 2 - 1
        if self.resize is not None:
            x = F.interpolate(x, (self.resize, self.resize), mode="bilinear", align_corners=False)
        given = x
        for _ in range(self.rounds):
            x = self.purify_near(given, x, noise, callback)
        if self.resize is not None:
            x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        return (x + 1) / 2

    def surrogate(self) -> "Purifier":
        """What an attack may differentiate in its place, where its authors published one.

        Raises:
            UserError: they did not.
        """
        raise UserError(
            f"{type(self).__name__} has no surrogate of its own, as ScoreOpt has: an attack's "
            "`gradient: surrogate` goes through that; for others name a purifier as `surrogate`"
        )

    @abstractmethod
    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        """The algorithm, once: from x (N, 3, H, W) on [-1, 1] to its purified image."""

    def purify_near(
        self, given: Tensor, x: Tensor, noise: ImageNoise, callback: Callback | None
    ) -> Tensor:
        """The same as one of several rounds, for what is held near the image that was given.

        `given` is x of the first round, and means nothing to most.
        """
        return self.purify(x, noise, callback)


class DiffusionPurifier(Purifier):
    """Noises the image to level t' and denoises it; how it denoises is its own.

    Args:
        t: the level t' to which the image is diffused, 1 to 1000.
        t_delta: the forward level of each image and round is drawn from [t - t_delta, t + t_delta)
            (DiffPure's `rand_t`); the reverse process starts at t all the same.
        options: of `Purifier`.
    """

    def __init__(self, denoiser: Denoiser, *, t: int, t_delta: int = 0, **options: Unpack[Options]):
        super().__init__(denoiser, **options)
        check_levels(t, t_delta)
        self.t = t
        self.t_delta = t_delta

    def diffuse(
        self,
        x0: Tensor,
        noise: ImageNoise,
        callback: Callback | None,
        level: int | Tensor | None = None,
    ) -> tuple[Tensor, Trace]:
        """The state of x0 at t', or at another level, and what tells the callback of a later x'_t.

        Draws t' where it is random, then eps.
        """
        if level is None:
            level = self.t + noise.integers(-self.t_delta, self.t_delta) if self.t_delta else self.t
        eps = noise.normal_like(x0)
        x = self.add_noise(x0, level, eps)

        def trace(t: float | Tensor, x: Tensor) -> None:
            if callback is not None:
                callback(float(t), diffuse_to_time(x0, float(t), eps), x)

        return x.contiguous(memory_format=self.denoiser.layout), trace

    def add_noise(self, x0: Tensor, level: int | Tensor, eps: Tensor) -> Tensor:
        """The forward process to a level t' (one, or one for each image): of the VP-SDE."""
        return diffuse(x0, level, eps)


class SolverPurifier(DiffusionPurifier):
    """A diffusion purifier that solves an equation from t' to 0, by its own solver or by others.

    Args:
        solver: one of `SOLVERS`. The first is the equation's own and goes along `time_grid`; the
            others are those of `puriflow.diffusion.dpm_solver`, along `sigma_grid`. What ends in 2m
            is of second order, the others of first.
        evaluations: of the network, 1 to t'; None for t' of them.
        correction: of `sde-dpmpp-2m`; None for `midpoint`.
        options: of `DiffusionPurifier`.
    """

    SOLVERS: ClassVar[tuple[str, ...]]
    eta: ClassVar[Literal[0, 1]]  # 1 for an SDE, 0 for an ODE
    times: Tensor

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        solver: str | None = None,
        evaluations: int | None = None,
        correction: Correction | None = None,
        **options: Unpack[LevelOptions],
    ):
        super().__init__(denoiser, **options)
        solver = solver or self.SOLVERS[0]
        if solver not in self.SOLVERS:
            raise unknown("solver", solver, self.SOLVERS)
        check_evaluations(evaluations, self.t)
        check_correction(correction, solver)
        count = evaluations or self.t
        self.sigmas: list[float] = []
        if solver == self.SOLVERS[0]:
            self.register_buffer("times", time_grid(self.t, count), persistent=False)
        else:
            self.sigmas = sigma_grid(self.t, count, denoiser.known_sigmas)
        second_order = solver.endswith("2m")
        self.correction: Correction | None = (correction or "midpoint") if second_order else None

    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        x, trace = self.diffuse(x, noise, callback)
        if self.sigmas:
            return self.sampled(x, noise, trace, self.denoise)
        return self.solve(x, noise, trace)

    def sampled(
        self, x: Tensor, noise: ImageNoise, trace: Trace, denoise: Callable[..., Tensor]
    ) -> Tensor:
        """The image behind the state x at t', by another solver, which asks for D(x, sigma=...)."""

        def trace_ve(sigma: float, x: Tensor) -> None:
            t = time_of_sigma(torch.tensor(sigma, dtype=torch.float64))
            trace(t, vp_state(x, sigma))

        x = sample(
            denoise,
            self.ve_state(x),
            self.sigmas,
            noise.normal_like,
            trace_ve,
            eta=self.eta,
            correction=self.correction,
        )
        return vp_state(x, self.sigmas[-1])

    @abstractmethod
    def solve(self, x: Tensor, noise: ImageNoise, trace: Trace) -> Tensor:
        """The image behind the state x at t', by the equation's own solver, along `times`."""

    def ve_state(self, x: Tensor) -> Tensor:
        """The VE state of the state x at t': of the VP process, x / sqrt(alpha_bar)."""
        return x / float(DISCRETE_ALPHA_BAR[self.t - 1]) ** 0.5

    @recomputed
    def denoise(self, x: Tensor, *, sigma: float) -> Tensor:
        """D(x; sigma) of a VE state."""
        return self.denoiser.denoise(x, torch.tensor(sigma, dtype=torch.float64))


def vp_state(x: Tensor, sigma: float | Tensor) -> Tensor:
    """The VP state of a VE state at a sigma, a number."""
    return x / (1 + sigma**2) ** 0.5
