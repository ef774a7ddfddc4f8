"""Purification by the VP-SDE, as in DiffPure (Nie et al. 2022; paper, section 4.1, Eq. 5 and 6).

The image is diffused to level t' at once and the reverse SDE is solved back to t = 0 by
Euler-Maruyama. DiffPure takes steps of 1/1000; larger ones cost less, and shrink towards the end,
where the noise that a step adds would otherwise stay in the image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from puriflow import parts
from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.vp import STEPS, beta, diffuse
from puriflow.errors import Problem
from puriflow.seeding import ImageNoise

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


class VPSDE(nn.Module):
    """The purifier: images (N, 3, H, W) on [0, 1] in and out; the output is not clamped.

    Args:
        denoiser: whose score is followed.
        t: the level t' to which the image is diffused, 1 to 1000.
        step: see `time_grid`.
        resize: side to which the image is resized for the network (256 in DiffPure), bilinear
            without antialiasing, and back; None for the image's own size.
    """

    def __init__(self, denoiser: Denoiser, *, t: int, step: int, resize: int | None):
        super().__init__()
        if not 1 <= t <= STEPS:
            raise Problem(f"t' is {t}, but must lie between 1 and {STEPS}")
        if step < 1:
            raise Problem(f"step is {step} thousandths, but must be 1 or more")
        self.denoiser = denoiser
        self.t = t
        self.resize = resize
        self.register_buffer("times", time_grid(t, step), persistent=False)

    def forward(self, images: Tensor, noise: ImageNoise) -> Tensor:
        """Diffuse and denoise; `noise` gives the forward draw, then one for every step."""
        size = images.shape[-2:]
        x = images * 2 - 1
        if self.resize is not None:
            x = F.interpolate(x, (self.resize, self.resize), mode="bilinear", align_corners=False)
        x = diffuse(x, self.t, noise.normal_like(x))
        x = x.contiguous(memory_format=torch.channels_last)
        for t, after in zip(self.times[:-1], self.times[1:], strict=True):
            z = noise.normal_like(x)
            if torch.is_grad_enabled() and x.requires_grad:
                # Backwards, each step is computed again with its own noise: memory for one image
                # a step instead of a network's activations.
                x = checkpoint(self._step, x, z, t, after, use_reentrant=False)
            else:
                x = self._step(x, z, t, after)
        if self.resize is not None:
            x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        return (x + 1) / 2

    def _step(self, x: Tensor, z: Tensor, t: Tensor, after: Tensor) -> Tensor:
        """One Euler-Maruyama step of the reverse SDE (Eq. 6) from t to the earlier `after`."""
        length = t - after
        drift = 0.5 * beta(t) * x + beta(t) * self.denoiser.score(x, t)
        return x + drift * length + (beta(t) * length).sqrt() * z


def build(*, network: dict, t: int, step: int = 1, resize: int | None = None) -> VPSDE:
    """VP-SDE purification to level `t` with the score of `network` (an entry of `networks`)."""
    denoiser = parts.build("networks", "network", network)
    return VPSDE(denoiser, t=t, step=step, resize=resize)
