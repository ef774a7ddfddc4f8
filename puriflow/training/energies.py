"""Train the energy of a Langevin purifier: by denoising first, then by maximum likelihood as well.

Hill et al. train by likelihood alone, over 250,000 batches with 100 Langevin steps each. Denoising
score matching (Vincent 2011) comes to an energy of noisy images in minutes; some persistent chains
then lower it where images are and raise it where the chains have gone.
"""

from typing import Annotated

import torch
from pydantic import model_validator
from torch import Tensor, nn

from puriflow.diffusion.optimisation import gradient
from puriflow.metrics.psnr import psnr
from puriflow.options import Count, NonNegative, Trained, real, whole
from puriflow.purifiers.langevin import Langevin
from puriflow.randomness import MEASURE_DENOISER, ImageNoise
from puriflow.training.card import table
from puriflow.training.photos import Photos
from puriflow.training.trainer import Predict, Recipe, Run, Trainer, train

MEASURED = (0, 20, 60, 200)  # steps of a chain


class EnergyRecipe(Recipe):
    """A recipe, and how the two losses are taken."""

    sigma: Annotated[float, real(1e-3, 1)] = 0.1  # of the noise of images, on [-1, 1]
    denoising: Annotated[int, whole(0, 10**8)] = 0  # steps before likelihood counts
    likelihood: NonNegative = 1.0  # its weight beside denoising
    langevin: Count = 20  # steps of the chains in each step of the optimiser
    chains: Count = 1024  # persistent ones, which begin at noisy images; a batch of them goes on
    precision: Trained = "float32"  # of second derivatives

    @model_validator(mode="after")
    def _chains(self) -> "EnergyRecipe":
        if self.chains < self.batch:
            raise ValueError(
                f"chains is {self.chains}, but must be the batch ({self.batch}) or more"
            )
        return self


class Likelihood(nn.Module):
    """The losses of an energy, and the chains that they need.

    Args:
        purifier: whose dynamics the chains have.
        recipe: how the losses are taken.
    """

    chains: Tensor
    done: Tensor

    def __init__(self, purifier: Langevin, recipe: EnergyRecipe):
        super().__init__()
        self.network, self.recipe = purifier.network, recipe
        self.step_size, self.noise = purifier.step_size, purifier.noise
        self.register_buffer("chains", torch.zeros(recipe.chains, 3, recipe.crop, recipe.crop))
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))  # steps of the optimiser

    def forward(self, clean: Tensor, eps: Tensor, chosen: Tensor, z: Tensor) -> Tensor:
        """The loss of a batch (N, 3, H, W) with its noise.

        Args:
            clean: images on [-1, 1].
            eps: normal noise of the same shape.
            chosen: which chains (N,) go on; none (0,) while denoising alone counts.
            z: the noise of their steps (steps, N, 3, H, W).
        """
        sigma = self.recipe.sigma
        noisy = (clean + sigma * eps).requires_grad_()
        loss = (gradient(self.network, noisy) / sigma - eps).square().mean()
        self.done += 1
        if not len(chosen):
            return loss
        x = self.chains[chosen]
        with torch.no_grad():
            for fresh in z:
                x = x - self.step_size * gradient(self.network, x) + self.noise * fresh
        self.chains[chosen] = x
        above = self.network(noisy.detach()).mean() - self.network(x).mean()  # than the chains
        return loss + self.recipe.likelihood * above / sigma**2 / x[0].numel()


def train_energy(purifier: Langevin, photos: Photos, recipe: EnergyRecipe, run: Run) -> float:
    """Train the energy of `purifier`, in place; returns the seconds that it took.

    U is sigma^2 times the energy of images with noise sigma: x - grad U(x) denoises, and a chain
    of step size noise^2 / (2 sigma^2) samples them.
    """
    device = next(purifier.parameters()).device
    losses = Likelihood(purifier, recipe)

    def drawn(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        clean = photos.crops(count, recipe.crop, generator) * 2 - 1
        return clean, torch.randn(clean.shape, generator=generator)

    clean, eps = drawn(recipe.chains, torch.Generator().manual_seed(recipe.seed))
    losses.chains.copy_(clean + recipe.sigma * eps)

    def loss(predict: Predict, generator: torch.Generator) -> Tensor:
        clean, eps = drawn(recipe.batch, generator)
        count = recipe.batch if losses.done >= recipe.denoising else 0
        chosen = torch.randperm(recipe.chains, generator=generator)[:count]
        z = torch.randn((recipe.langevin, count, *clean.shape[1:]), generator=generator)
        return predict(*(given.to(device) for given in (clean, eps, chosen, z)))

    trained, seconds = train(losses.to(device), loss, recipe, run)
    purifier.network = trained.get_submodule("network")
    return seconds


@torch.no_grad()
def measure_energy(purifier: Langevin, photos: Photos, recipe: EnergyRecipe) -> list[str]:
    """For the card: how well a step of size 1 denoises, and where chains go from real images."""
    device = next(purifier.parameters()).device
    before, after = [], []
    ends: dict[int, list[tuple[float, float]]] = {steps: [] for steps in MEASURED}
    for index, image in enumerate(photos.held_out_images()):
        noise = ImageNoise(0, MEASURE_DENOISER.format("energy"), [index])
        clean = image.to(device) * 2 - 1
        x = noisy = clean + recipe.sigma * noise.normal_like(clean)
        before.append(quality(noisy, clean))
        after.append(quality(noisy - gradient(purifier.network, noisy), clean))
        for k in range(MEASURED[-1] + 1):
            if k in ends:
                gained = (purifier.network(x) - purifier.network(noisy)) / recipe.sigma**2
                ends[k].append((quality(x, clean), float(gained)))
            x = purifier.step(x, noise.normal_like(x))
    given, denoised = (sum(each) / len(each) for each in (before, after))
    rows = []
    for k, each in ends.items():
        columns = zip(*each, strict=True)
        rows.append((f"{k}", *(f"{sum(values) / len(values):.2f}" for values in columns)))
    return table(
        f"Noise of the standard deviation sigma leaves held-out images a mean PSNR of {given:.2f} "
        f"dB, and a step of size 1 brings it to {denoised:.2f}. Chains that begin there:",
        ("steps", "PSNR", "energy gained"),
        rows,
    )


def quality(x: Tensor, clean: Tensor) -> float:
    """PSNR of an image on [-1, 1] beside the clean one, in dB."""
    return psnr((x / 2 + 0.5).clamp(0, 1), clean / 2 + 0.5)


TRAINER = Trainer(EnergyRecipe, Photos, train_energy, measure_energy)
