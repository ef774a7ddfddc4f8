"""Adaptive denoising purification (ADP; Yoon, Hwang and Lee, ICML 2021): along a score alone.

A noisy copy of the image goes along s(x), sigma times the score, in steps whose size alpha its own
curvature says: with z = <s(x), s(x + delta s(x))> / |s(x)|^2,

    alpha = lambda delta / (1 - z),    x <- x + alpha s(x)    on [0, 1],

and stops for good where alpha is at most `stop`. No noise is added on the way. What the paper calls
ten votes are ten copies whose logits are added: here the draws of an evaluation. The size is a
function of the state, and the exact gradient goes through it and both calls of the network.

As published s is NCSNv2's output, which is told no noise level; a network that is told one is told
the copy's in every step. Two faults of the release are left out. It applies the inverse map from
the grid of training in each step and the forward map once, so that contrast grows by four percent;
and an image that has stopped goes on through that map while its batch mates move.
"""

from typing import Annotated

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.recomputation import recomputed
from puriflow.errors import UserError
from puriflow.options import Count, Fraction, real
from puriflow.purifiers.base import Callback, Purifier
from puriflow.randomness import ImageNoise

EVALUATIONS_A_STEP = 2  # for planning
DELTA, SHORTEST, LONGEST = 1e-3, 1e-5, 0.1  # of a look ahead, and of steps, on [0, 1]


class ADP(Purifier):
    """See `Purifier`.

    Args:
        sigma: of the copy's noise, on [0, 1].
        n_iter: steps, two calls of the network each.
        step_lambda: the share of the noise that a step removes, for a score that is a Gaussian's.
        stop: the step size at which an image stops.
    """

    def __init__(
        self, denoiser: Denoiser, *, sigma: float, n_iter: int, step_lambda: float, stop: float
    ):
        super().__init__(denoiser)
        if denoiser.precision != "float32":
            raise UserError(
                f"adp looks {DELTA:g} ahead, which its network cannot see in {denoiser.precision}: "
                "give the network `precision: float32`"
            )
        self.sigma, self.n_iter, self.step_lambda, self.stop = sigma, n_iter, step_lambda, stop

    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        """There is no reverse process, so no callback is called."""
        x = (x + 2 * self.sigma * noise.normal_like(x)).clamp(-1, 1)  # 2: [-1, 1] is so wide
        for _ in range(self.n_iter):
            x = self.step(x)
        return x

    @recomputed
    def step(self, x: Tensor) -> Tensor:
        """A step of the state on [-1, 1]; where it has stopped, every later one stops as well."""
        s = self.s(x)
        alpha = self.step_size(s, self.s(x + 2 * DELTA * s))
        moving = (alpha > self.stop).to(x.dtype)
        return (x + 2 * (alpha * moving)[:, None, None, None] * s).clamp(-1, 1)

    def step_size(self, s: Tensor, ahead: Tensor) -> Tensor:
        """Alpha (N,) on [0, 1], by s at x and a little ahead; 1 - z is <s, s - ahead> / |s|^2."""
        squares = s.square().flatten(1).sum(1)
        least = torch.finfo(s.dtype).tiny  # where s is zero an image stays as it is
        bends = (s * (s - ahead)).flatten(1).sum(1) / squares.clamp_min(least)
        share = self.step_lambda * DELTA
        alpha = share / bends.clamp_min(share / LONGEST)  # which has a gradient at 0, too
        return torch.where(bends < 0, SHORTEST, alpha).clamp_min(SHORTEST)

    def s(self, x: Tensor) -> Tensor:
        """Sigma times the score at x, of about unit variance."""
        sigma = torch.tensor(2 * self.sigma, dtype=torch.float32)
        return sigma.to(x.dtype) * self.denoiser.score_ve(x, sigma)


def build(
    *,
    network: Denoiser,
    sigma: Annotated[float, real(1e-3, 1)] = 0.25,
    n_iter: Count = 10,
    step_lambda: Annotated[float, real(1e-6, 1)] = 0.05,
    stop: Fraction = 0.001,
) -> ADP:
    """ADP with `network`; the default numbers are those of its BPDA+EOT evaluation."""
    return ADP(network, sigma=sigma, n_iter=n_iter, step_lambda=step_lambda, stop=stop)
