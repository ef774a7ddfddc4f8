"""Contrastive guidance of the VP-SDE (Bai et al., ICML 2024): states that a classifier tells apart.

At each guided evaluation eps moves by gamma grad_x L. L is a contrastive loss of the classifier's
logits for the state before (x0) and this one (x), behind a small network h, which is trained online
by the same loss: a step of Adam an evaluation, from random weights for every purification. With
z = h(f(.)) and cosine similarities s,

    pos = exp(s(z0, z) / T),  neg = exp(s / T) over what is neither the row itself nor its partner,
    Ng = max((sum(neg^2) / mean(neg) - tau N pos) / (1 - tau), N exp(-1 / T)),
    L = -mean log(pos / (pos + Ng)),  tau = 0.1 (hard negatives of weight 1).

As published a batch is one loss: the positives of a row are the states of all images, its negatives
those of the others, and the strength of an image falls with its batch. Here an image is a batch of
its own, which the published formula allows: its only negative is then x0, and what is left
pulls its states together. What their code keeps of the last purification, the state that the first
of the next one is contrasted with, is not kept here, where an image has no images before it.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.optimisation import adam_step, begin, gradient
from puriflow.diffusion.recomputation import recomputed
from puriflow.diffusion.vp import alpha_bar, beta
from puriflow.errors import UserError
from puriflow.options import (
    Correction,
    NonNegative,
    Positive,
    Rounds,
    SDESolver,
    Side,
    Timestep,
    TimestepSpread,
    whole,
)
from puriflow.purifiers.base import Callback, LevelOptions, vp_state
from puriflow.purifiers.vpsde import VPSDE
from puriflow.randomness import ImageNoise

OPTIMISES = True  # for planning: a step differentiates the network
TAU, FLOOR, BLOCKS, LEARNING_RATE = 0.1, 1e-6, 3, 0.01
FEWEST = {"t_delta": 0, "rounds": 1}  # for planning: a gradient keeps h of every guided step

Guide = Callable[[Tensor], Tensor | float]


class SolverOptions(LevelOptions, total=False):
    """The keyword arguments of `SolverPurifier`."""

    solver: str | None
    evaluations: int | None
    correction: Correction | None


class Contrastive(VPSDE):
    """The purifier; see `SolverPurifier`. Its gradient is exact: h's training is differentiated.

    Args:
        classifier: f, from images to logits.
        gamma: strength of the guidance.
        temperature: T.
        start: evaluations of the network that go before the first guided one, which needs one.
        sees: what the classifier is given: the `state` as it is, about [-1, 1], as published, or an
            `image`, which is brought to [0, 1], for which it was made.
        shared: one loss and one h for the batch, as published.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        classifier: nn.Module,
        *,
        gamma: float,
        temperature: float,
        start: int,
        sees: Literal["state", "image"],
        shared: bool,
        **options: Unpack[SolverOptions],
    ):
        super().__init__(denoiser, **options)
        evaluations = len(self.sigmas or self.times) - 1
        self.first = max(start, 1)  # there must be a state before
        if self.first >= evaluations:
            most = max(evaluations - 1, 0)
            raise UserError(f"start is {start}, but must be at most {most}: none would be guided")
        self.classifier, self.gamma, self.temperature = classifier, gamma, temperature
        self.sees, self.shared = sees, shared

    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        """Draws as VPSDE's, and the weights of h before the first guided evaluation."""
        x, trace = self.diffuse(x, noise, callback)
        guide = self.guide(noise)

        def denoise(x: Tensor, *, sigma: float) -> Tensor:
            return self.denoise(x, sigma=sigma) - sigma * guide(vp_state(x, sigma))

        if self.sigmas:
            return self.sampled(x, noise, trace, denoise)
        for t, t_next in pairwise(self.times):
            sigma = (beta(t) * (t - t_next)).sqrt()
            moved = beta(t) * (t - t_next) / (1 - alpha_bar(t)).sqrt() * guide(x)
            x = self.mean(x, t=t, t_next=t_next) - moved + sigma * noise.normal_like(x)
            trace(t_next, x)
        return x

    def guide(self, noise: ImageNoise) -> Guide:
        """What is added to eps at the VP states of a trajectory, asked one after the other."""
        k, before, head = -self.first, torch.empty(0), torch.empty(0)

        def guide(x: Tensor) -> Tensor | float:
            nonlocal k, before, head
            x0, before, k = before, x, k + 1
            if k <= 0:
                return 0.0
            if k == 1:
                head = self.new_head(x, noise)
            found = self.guidance(x, x0, head, k=k - 1)
            grad, *parts = found.split([x[0].numel(), *3 * [head.shape[-1]]], 1)
            head = torch.stack(parts)
            return self.gamma * grad.reshape(x.shape)

        return guide

    def logits(self, x: Tensor) -> Tensor:
        """F(x) of states (N, 3, H, W)."""
        return self.classifier(x if self.sees == "state" else (x + 1) / 2)

    def new_head(self, x: Tensor, noise: ImageNoise) -> Tensor:
        """The state (3, N, weights) of h and of its Adam: uniform within 1 / sqrt(inputs)."""
        with torch.no_grad():
            classes = self.logits(x[:1]).shape[1]
        weights = noise.uniform_like(x.new_empty(len(x), BLOCKS, 3, 2 * classes**2), -1, 1)
        weights[:, :, :2] /= classes**0.5
        weights[:, :, 2] /= (2 * classes) ** 0.5
        return begin(weights.flatten(1))

    @recomputed
    def guidance(self, x: Tensor, x0: Tensor, head: Tensor, *, k: int) -> Tensor:
        """Grad_x L, and the state of h after its step k, in a row for each image."""
        pixels = x[0].numel()
        logits0 = self.logits(x0)

        def objective(y: Tensor) -> Tensor:
            logits = self.logits(y[:, :pixels].reshape(x.shape))
            return self.loss(logits0, logits, y[:, pixels:])

        grad = gradient(objective, torch.cat([x.flatten(1), head[0]], 1))
        state = adam_step(head, grad[:, pixels:], k, LEARNING_RATE)
        return torch.cat([grad[:, :pixels], *state], 1)

    def loss(self, logits0: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
        """L of each batch: of all images (1,), by the weights of the first one's h, or own (N,)."""
        group, weights = (0, weights[:1]) if self.shared else (1, weights)
        z0, z = (embedded(f.unsqueeze(group), weights) for f in (logits0, logits))
        return contrastive_loss(z0, z, self.temperature)


def embedded(z: Tensor, weights: Tensor) -> Tensor:
    """H(z) of (groups, batch, classes): blocks z + W3 (SiLU(W1 z) * W2 z) of twice the width."""
    classes = z.shape[-1]
    matrices = iter(weights.split(2 * classes**2, 1))
    for w1, w2, w3 in zip(matrices, matrices, matrices, strict=True):
        w1, w2 = (w.reshape(-1, classes, 2 * classes) for w in (w1, w2))
        z = z + (F.silu(z @ w1) * (z @ w2)) @ w3.reshape(-1, 2 * classes, classes)
    return z


def contrastive_loss(z0: Tensor, z: Tensor, temperature: float) -> Tensor:
    """L (groups,) of embeddings (groups, batch, classes) of the states before and of these."""
    batch = z.shape[1]
    both = F.normalize(torch.cat([z0, z], 1), dim=-1)
    scores = (both @ both.mT / temperature).exp()
    pos = scores[:, :batch, batch:].repeat(1, 2, 1)
    row = torch.arange(2 * batch, device=z.device)
    others = (row - row[:, None]) % batch != 0
    if batch == 1:
        others = row == 0  # x0, as published: nothing else is left
    neg = scores.clamp_min(FLOOR) * others
    hard = (neg**2).sum(-1, keepdim=True) / neg.sum(-1, keepdim=True) * max(2 * batch - 2, 1)
    n = max(2 * batch - 2, 2)
    ng = ((hard - TAU * n * pos) / (1 - TAU)).clamp_min(n * math.exp(-1 / temperature))
    return -(pos / (pos + ng)).clamp_min(FLOOR).log().flatten(1).mean(1)


def build(
    *,
    network: Denoiser,
    classifier: nn.Module,
    t: Timestep = 100,
    gamma: NonNegative = 500.0,
    temperature: Positive = 10.0,
    start: Annotated[int, whole(0, 999)] = 40,
    sees: Literal["state", "image"] = "state",
    shared: bool = False,
    solver: SDESolver = "euler-maruyama",
    evaluations: Timestep | None = None,
    correction: Correction | None = None,
    resize: Side | None = None,
    rounds: Rounds = 1,
    t_delta: TimestepSpread = 0,
) -> Contrastive:
    """Contrastive guidance of `network` by `classifier`; the default is its BPDA+EOT on CIFAR-10.

    Its gamma of 5000 is for the mean over a batch of 10, which is 500 for an image of its own.
    """
    return Contrastive(
        network,
        classifier,
        t=t,
        gamma=gamma,
        temperature=temperature,
        start=start,
        sees=sees,
        shared=shared,
        solver=solver,
        evaluations=evaluations,
        correction=correction,
        resize=resize,
        rounds=rounds,
        t_delta=t_delta,
    )
