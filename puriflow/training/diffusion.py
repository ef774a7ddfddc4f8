"""Train a noise predictor for the low noise levels that purification uses: t in (0, 0.3]."""

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.vp import alpha_bar, diffuse
from puriflow.metrics.psnr import psnr
from puriflow.randomness import MEASURE_DENOISER, ImageNoise
from puriflow.training.card import table
from puriflow.training.photos import Photos
from puriflow.training.trainer import Predict, Recipe, Run, train

T_MAX = 0.3  # purification never goes above: t' = 250 is the highest of the paper
LEVELS = (10, 50, 90, 150)


def train_diffusion(denoiser: Denoiser, photos: Photos, recipe: Recipe, run: Run) -> float:
    """Train the network of `denoiser`, in place; returns the seconds that it took.

    The loss is the mean squared error of the noise (paper Eq. 3 with lambda = 1 - alpha_bar) at
    t = 0.3 u^2, u uniform: half of the draws are below t' = 75, where most of the solver's steps
    are.
    """
    device = next(denoiser.parameters()).device

    def loss(predict: Predict, generator: torch.Generator) -> Tensor:
        x = photos.crops(recipe.batch, recipe.crop, generator) * 2 - 1
        t = T_MAX * torch.rand(recipe.batch, generator=generator).clamp(min=0.02) ** 2
        noise = torch.randn(x.shape, generator=generator)
        a = alpha_bar(t)[:, None, None, None]
        x_t = a.sqrt() * x + (1 - a).sqrt() * noise
        x_t = x_t.to(device, memory_format=torch.channels_last)
        predicted = predict(x_t, t.to(device))
        return (predicted.float() - noise.to(device)).square().mean()

    trained, seconds = train(denoiser, loss, recipe, run)
    denoiser.network = trained.get_submodule("network")
    return seconds


@torch.no_grad()
def measure_diffusion(denoiser: Denoiser, photos: Photos, recipe: Recipe) -> list[str]:
    """For the card: mean PSNR of the one-call estimate of x0 (clamped), by level t'."""
    device = next(denoiser.parameters()).device
    scores: dict[int, list[float]] = {level: [] for level in LEVELS}
    for index, image in enumerate(photos.held_out_images()):
        x = image.to(device) * 2 - 1
        for level in LEVELS:
            noise = ImageNoise(0, MEASURE_DENOISER.format(level), [index]).normal_like(x)
            x_t = diffuse(x, level, noise).contiguous(memory_format=torch.channels_last)
            t = torch.tensor([level / 1000], device=device)
            a = alpha_bar(t)
            x0 = (x_t - (1 - a).sqrt() * denoiser.eps(x_t, t)) / a.sqrt()
            scores[level].append(psnr((x0 / 2 + 0.5).clamp(0, 1), x / 2 + 0.5))
    return table(
        "Mean PSNR of the one-call estimate of x0 on the held-out images, in dB:",
        ("t'", "PSNR"),
        ((str(level), f"{sum(dbs) / len(dbs):.2f}") for level, dbs in scores.items()),
    )
