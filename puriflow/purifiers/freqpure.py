"""FreqPure (Pei et al., ICML 2025): DDIM or DDPM steps whose x0 keeps the low frequencies given.

An attack is taken to change high frequencies more. So in every step the Fourier coefficients of x0
within a radius become those of a reference, the one-shot estimate of the image that the stage
started from, with noise of its own. This is the code as its authors corrected it: the reference was
the image itself, rounded to bytes, through which there was no gradient. That code copies the phase,
as `delta` 0 does here; by the paper (Eq. 13) the phase of x0 is only brought within delta of it.
"""

from copy import copy
from typing import Annotated, Unpack

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.recomputation import recomputed
from puriflow.diffusion.vp import DISCRETE_ALPHA_BAR
from puriflow.errors import UserError
from puriflow.options import Fraction, Rounds, Side, Stages, Timestep, real
from puriflow.purifiers.ddim import DDIM, StageOptions, ve_sigma
from puriflow.randomness import ImageNoise

STEPS = 50  # for planning, of the stages by default
EVALUATIONS_A_STEP = 2  # x0, and that of the reference


class FreqPure(DDIM):
    """The purifier; see `DDIM`. Every step asks the network twice.

    Args:
        reference_t: the level t' of the reference.
        radius: of the coefficients that are kept, in cycles an image.
        delta: radians by which the phase may differ from the reference's.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        reference_t: int,
        radius: float,
        delta: float,
        **options: Unpack[StageOptions],
    ):
        super().__init__(denoiser, **options)
        if not 1 <= reference_t <= len(DISCRETE_ALPHA_BAR):
            raise UserError(f"reference_t is {reference_t}, but must lie between 1 and 1000")
        self.reference_t, self.radius, self.delta = reference_t, radius, delta

    def surrogate(self) -> "FreqPure":
        """See `Purifier`: one step from t' = 50."""
        one = copy(self)
        one.stages = [(50, [49])]
        return one

    def held(self, given: Tensor, noise: ImageNoise) -> tuple[Tensor, ...]:
        """The reference; a draw for every step."""
        x = self.add_noise(given, self.reference_t, noise.normal_like(given))
        return (self.reference(x),)

    @recomputed
    def reference(self, x: Tensor) -> Tensor:
        """The one-shot estimate of a state at the reference's level."""
        alpha_bar_t = float(DISCRETE_ALPHA_BAR[self.reference_t - 1])
        return self.denoiser.denoise(x / alpha_bar_t**0.5, ve_sigma(alpha_bar_t))

    def hold(self, x0: Tensor, *held: Tensor, alpha_bar: float) -> Tensor:
        """X0 with the low frequencies of the reference, both clamped to what images have."""
        height, width = x0.shape[-2:]
        v, u = (torch.fft.fftfreq(n, 1 / n, device=x0.device) for n in (height, width))
        low = u**2 + v[:, None] ** 2 <= self.radius**2
        own, reference = (torch.fft.fft2((x.clamp(-1, 1) + 1) / 2) for x in (x0, *held))
        if self.delta:
            off = (own * reference.conj()).angle().clamp(-self.delta, self.delta)
            reference = reference * torch.polar(torch.ones_like(off), off)
        image = torch.fft.ifft2(torch.where(low, reference, own)).real
        return image.abs().clamp(max=1) * 2 - 1  # the modulus, as in its code: it folds at black


def build(
    *,
    network: Denoiser,
    stages: Stages = ((20, 5, 5), (50, 5, 5)),
    eta: Fraction = 1.0,
    reference_t: Timestep = 51,
    radius: Annotated[float, real(0, 4096)] = 3.0,
    delta: Annotated[float, real(0, 3.2)] = 0.0,
    resize: Side | None = None,
    rounds: Rounds = 1,
) -> FreqPure:
    """FreqPure with `network`; the default is its CIFAR-10 setting (timestep 50 is level 51)."""
    return FreqPure(
        network,
        stages=stages,
        eta=eta,
        reference_t=reference_t,
        radius=radius,
        delta=delta,
        resize=resize,
        rounds=rounds,
    )
