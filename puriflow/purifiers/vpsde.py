"""Purification by the VP-SDE, as in DiffPure (Nie et al. 2022; paper, section 4.1, Eq. 5 and 6).

The image is diffused to level t' at once and the reverse SDE is solved back to t = 0 by
Euler-Maruyama. DiffPure takes steps of 1/1000; larger ones cost less, and shrink towards the end,
where the noise that a step adds would otherwise stay in the image.
"""

from functools import partial

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.vp import STEPS, beta
from puriflow.errors import UserError
from puriflow.purifiers.diffused import Diffused, WayBack
from puriflow.randomness import ImageNoise

END = 1e-5  # DiffPure solves to t = 1e-5, not to 0


def time_grid(level: int, step: int) -> Tensor:
    """The times t at which the reverse SDE is evaluated, from t'/1000 down, and the end.

    Args:
        level: t', 1 to 1000.
        step: longest step, in thousandths; 1 is DiffPure's own rule, with exactly t' evaluations.
            A longer step is halved towards the end, never to be longer than half of the time left
            (and never shorter than 1), so that Euler-Maruyama stays stable: the share of the noise
            that a step removes is beta dt / (1 - alpha_bar).

    Returns:
        float32 (evaluations + 1,). The sums run over s = 1 - t in float32 like torchsde's, since
        the truncated labels of the network depend on the last bit.
    """
    end = torch.tensor(1 - END)
    s = torch.tensor(1 - level / STEPS)
    times = [s]
    while s < end:
        left = (1 - float(s)) * STEPS
        length = max(1.0, min(step, left / 2)) / STEPS
        s = torch.minimum(s + length, end)
        times.append(s)
    return 1 - torch.stack(times)


class VPSDE(Diffused):
    """The purifier; see `Diffused`, and `time_grid` for `step`."""

    def __init__(self, denoiser: Denoiser, *, step: int = 1, **options: int | None):
        super().__init__(denoiser, **options)
        if step < 1:
            raise UserError(f"step is {step} thousandths, but must be 1 or more")
        self.register_buffer("times", time_grid(self.t, step), persistent=False)

    def reverse(self, x: Tensor, noise: ImageNoise) -> WayBack:
        """See `Diffused.reverse`; one draw for every Euler-Maruyama step of the reverse SDE."""
        for t, after in zip(self.times[:-1], self.times[1:], strict=True):
            spread = (beta(t) * (t - after)).sqrt()
            mean = self.stepwise(partial(self._mean, t=t, after=after), x)
            x = mean + spread * noise.normal_like(x)
            yield float(after), x

    def _mean(self, x: Tensor, t: Tensor, after: Tensor) -> Tensor:
        """The step's mean (Eq. 6), from t to the earlier `after`."""
        drift = 0.5 * beta(t) * x + beta(t) * self.denoiser.score(x, t)
        return x + drift * (t - after)


def build(
    *,
    network: Denoiser,
    t: int,
    step: int = 1,
    resize: int | None = None,
    rounds: int = 1,
    t_delta: int = 0,
) -> VPSDE:
    """VP-SDE purification to level `t` with the score of `network` (an entry of `networks`)."""
    return VPSDE(network, t=t, step=step, resize=resize, rounds=rounds, t_delta=t_delta)
