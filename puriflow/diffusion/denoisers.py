"""One interface to every diffusion network: its eps, its score and its denoised image.

Networks differ in what they predict (the noise, the score, the clean image), in how they count the
noise level (integer or continuous timesteps of the VP-SDE, a sigma) and in how their input is
scaled. A purifier asks a `Denoiser` instead, at time t of the VP-SDE or at a sigma, whichever suits
its algorithm. The two are one thing: a VP state x_t is sqrt(alpha_bar) times a VE state at
sigma = sqrt((1 - alpha_bar) / alpha_bar). All images are on [-1, 1].
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from puriflow import kernels
from puriflow.diffusion.vp import DISCRETE_ALPHA_BAR, alpha_bar, time_of_sigma
from puriflow.errors import unknown
from puriflow.options import Precision
from puriflow.precision import asked, keep_all_but_products_in_float32, once


class Denoiser(nn.Module, ABC):
    """A diffusion network behind one interface. Levels are scalars or one for each image (N,).

    Args:
        network: the network itself.
        precision: of its convolutions and products of matrices, and so of its gradient. All else,
            as eps, score, solver and noise, is of the images' type.
    """

    def __init__(self, network: nn.Module, *, precision: Precision = "float32"):
        super().__init__()
        self.network = network
        self.precision: Precision = precision
        if precision != "float32":
            keep_all_but_products_in_float32(network)
        self.layout = kernels.layout(precision)
        # pyrefly: ignore[no-matching-overload]  # torch's stub leaves this option out
        network.to(memory_format=self.layout)
        self.compiled = kernels.compiling
        if self.compiled:
            network.compile()

    def predicted(self, x: Tensor, level: Tensor) -> Tensor:
        """What the network itself returns of its own input and noise level, in the type of x."""
        out = asked(self.network, x, level, self.precision)
        return once(out, "what is compiled") if self.compiled else out

    @property
    def known_sigmas(self) -> Tensor | None:
        """The sigmas (1000,) of the only levels that the network knows; None if it knows all."""
        return None

    @abstractmethod
    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        """The standard normal noise expected in the VP state x (N, 3, H, W) at time t in (0, 1]."""

    @abstractmethod
    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D(x; sigma): the clean image expected behind the VE state x = x0 + sigma eps."""

    def eps_and_variance(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor | None]:
        """The eps in the VP state x whose VE sigma is given, and the learned variance's values v.

        v is on [-1, 1], or None for a network that has none.
        """
        sigma = append_dims(sigma, x)
        scale = (1 + sigma**2).sqrt()
        return (scale * x - self.denoise(scale * x, sigma)) / sigma, None

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """`eps`: what training fits."""
        return self.eps(x, t)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """The score of the VP-SDE at time t: -eps / sqrt(1 - alpha_bar(t))."""
        return -self.eps(x, t) / append_dims(1 - alpha_bar(torch.as_tensor(t)), x).sqrt()

    def score_ve(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The score of the VE state x at sigma: (D(x; sigma) - x) / sigma^2."""
        return (self.denoise(x, sigma) - x) / append_dims(sigma, x) ** 2


class VPDenoiser(Denoiser):
    """A network of the VP-SDE: (x_t, timesteps (N,)) to eps or the score.

    Args:
        network: may return variance channels behind the first three, which are dropped.
        timesteps: the timestep that t = 1 is: 1000 for ADM, 999 for score_sde.
        integer_steps: the network knows integer timesteps only, as ADM does. `eps` then feeds
            trunc(1000 t), which is DiffPure's rule, and `denoise` the timestep whose own sigma is
            nearest.
        predicts: `eps`, or `score` for a network that returns the score itself.
        precision: as of every denoiser.
    """

    sigmas: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        timesteps: float = 1000,
        integer_steps: bool = False,
        predicts: Literal["eps", "score"] = "eps",
        precision: Precision = "float32",
    ):
        super().__init__(network, precision=precision)
        if predicts not in ("eps", "score"):
            raise unknown("prediction", predicts, ("eps", "score"))
        self.timesteps = timesteps
        self.integer_steps = integer_steps
        self.predicts = predicts
        sigmas = torch.from_numpy((1 / DISCRETE_ALPHA_BAR - 1) ** 0.5)
        self.register_buffer("sigmas", sigmas, persistent=False)  # of each integer timestep

    @property
    def known_sigmas(self) -> Tensor | None:
        return self.sigmas if self.integer_steps else None

    def label(self, t: Tensor) -> Tensor:
        """What the network is told at time t: its timestep.

        Truncation in float32 is part of the published behaviour: t' = 10 gives 9, 9, 8, ..., 1.
        """
        label = t.float() * self.timesteps
        return label.long() if self.integer_steps else label

    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        t = torch.as_tensor(t, device=x.device)
        return self._eps_and_v(x, self.label(t), append_dims(1 - alpha_bar(t), x).sqrt())[0]

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        scale = 1 / (1 + append_dims(sigma, x) ** 2).sqrt()
        return x - append_dims(sigma, x) * self.eps_and_variance(scale * x, sigma)[0]

    def eps_and_variance(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor | None]:
        sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        if self.integer_steps:
            label = (self.sigmas - sigma.reshape(-1, 1)).abs().argmin(1).reshape(sigma.shape)
        else:
            label = self.label(time_of_sigma(sigma))
        sigma = append_dims(sigma, x)
        return self._eps_and_v(x, label, sigma / (1 + sigma**2).sqrt())

    def _eps_and_v(self, x: Tensor, label: Tensor, std: Tensor) -> tuple[Tensor, Tensor | None]:
        output = self.predicted(x, label.expand(len(x)))
        predicted, v = output[:, : x.shape[1]], output[:, x.shape[1] :]
        eps = predicted if self.predicts == "eps" else -std * predicted
        return eps, v if v.shape[1] else None


class SigmaDenoiser(Denoiser):
    """A network that is D itself, (x, sigma) to the clean image, as EDM's preconditioned ones."""

    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        alpha_bar_t = alpha_bar(torch.as_tensor(t, device=x.device))
        sigma = ((1 - alpha_bar_t) / alpha_bar_t).sqrt()
        scale = append_dims(alpha_bar_t.sqrt(), x)
        x0 = self.predicted(x / scale, sigma)
        return (x - scale * x0) / append_dims(1 - alpha_bar_t, x).sqrt()

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.predicted(x, torch.as_tensor(sigma, dtype=x.dtype, device=x.device))


def append_dims(values: Tensor, x: Tensor) -> Tensor:
    """A scalar or (N,) values in the type of x, shaped to multiply it (N, C, H, W)."""
    return torch.as_tensor(values, dtype=x.dtype, device=x.device).reshape(-1, 1, 1, 1)
