"""Guided purification (GDMP, Wang et al. 2022): DDPM steps that are pulled towards the given image.

The mean of every ancestral step moves along the gradient of -MSE(x_t, reference), times the step's
variance and c_t = sqrt(1 - alpha_bar) / (m sqrt(alpha_bar)) with m = (2/3) perturbation / guidance
scale. The reference is the given image in every round, diffused afresh to the same step, or as it
is. A network that learns no variance has the fixed large one, as GDMP's for CIFAR-10.
"""

from typing import Unpack

from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.recomputation import recomputed
from puriflow.diffusion.schedule import extract
from puriflow.diffusion.vp import STEPS
from puriflow.errors import UserError
from puriflow.options import NonNegative, Rounds, Side, Step, Timestep, fraction
from puriflow.purifiers.base import Callback
from puriflow.purifiers.ddpm import DDPM, DDPMOptions
from puriflow.randomness import ImageNoise


class GDMP(DDPM):
    """The purifier; see `DDPM`. Levels are not random.

    Args:
        guidance_scale: of the pull; 0 leaves DDPM with that variance.
        perturbation: the eps of the attack that the pull is for, on [0, 1].
        diffused: whether the reference is diffused, afresh for every step.
        shared: as published, the MSE is a mean over the batch too, so that the guidance of an image
            is the weaker the more batch mates it has; else it is a mean over its own pixels.
    """

    fixed_large = True

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        guidance_scale: float,
        perturbation: float,
        diffused: bool,
        shared: bool,
        **options: Unpack[DDPMOptions],
    ):
        if guidance_scale < 0:
            raise UserError(f"guidance_scale is {guidance_scale}, but must be 0 or more")
        super().__init__(denoiser, **options)
        self.diffused, self.shared = diffused, shared
        one_over_m = guidance_scale / (2 * perturbation / 3)
        self.c = (1 / self.schedule.alpha_bar - 1) ** 0.5 * one_over_m  # c_t

    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        return self.purify_near(x, x, noise, callback)

    def purify_near(
        self, given: Tensor, x: Tensor, noise: ImageNoise, callback: Callback | None
    ) -> Tensor:
        """Guided Algorithm 2; two draws for every step if the reference is diffused."""
        x, trace = self.diffuse(x, noise, callback)
        for i in reversed(range(self.n_steps)):
            reference = given
            if self.diffused:
                alpha_bar_t = self.schedule.alpha_bar[i]
                eps = noise.normal_like(given)
                reference = alpha_bar_t**0.5 * given + (1 - alpha_bar_t) ** 0.5 * eps
            x = self.guided_step(x, noise.normal_like(x), reference, i=i)
            trace(self.times[i], x)
        return x

    @recomputed
    def guided_step(self, x: Tensor, z: Tensor, reference: Tensor, *, i: int) -> Tensor:
        """The state before step i: mean - variance c_t grad MSE(x, reference) + sigma_i z."""
        mean, log_variance = self.mean_and_log_variance(x, i)
        n = x[0].numel() * (len(x) if self.shared else 1)
        minus_grad = 2 * (reference - x) / n
        mean = mean + log_variance.exp() * extract(self.c, i, x) * minus_grad
        return mean if i == 0 else mean + (0.5 * log_variance).exp() * z


def build(
    *,
    network: Denoiser,
    t: Timestep = 36,
    guidance_scale: NonNegative = 600.0,
    perturbation: Step = "8/255",
    diffused: bool = True,
    shared: bool = False,
    respacing: Timestep = STEPS,
    clip: bool = True,
    resize: Side | None = None,
    rounds: Rounds = 4,
) -> GDMP:
    """GDMP with `network`; the default is its CIFAR-10 setting.

    Its scale of 60000 is for the MSE of a batch of 100, which is 600 for an image of its own.
    """
    return GDMP(
        network,
        t=t,
        guidance_scale=guidance_scale,
        perturbation=fraction(perturbation),
        diffused=diffused,
        shared=shared,
        respacing=respacing,
        clip=clip,
        resize=resize,
        rounds=rounds,
    )
