"""The index of image quilting: patches of photographs, and how near they come to others."""

import json
import time
from itertools import islice

import torch
from torch import Tensor

from puriflow.atomic import write_text
from puriflow.metrics.psnr import psnr
from puriflow.restorers.quilting import SEARCHED, Quilting
from puriflow.training.card import table
from puriflow.training.photos import Photos
from puriflow.training.trainer import AnyRecipe, Run, Trainer

LINES = 20  # of the log
MEASURED = 10  # of the held-out photographs


def collect_patches(quilting: Quilting, photos: Photos, recipe: AnyRecipe, run: Run) -> float:
    """Fill the index of `quilting`, in place, with random crops; returns the seconds that it took.

    The log has, for more and more of the index, the mean squared distance of the patches of a
    held-out photograph to the nearest one.
    """
    begun = time.monotonic()
    patches, generator = quilting.network.patches, torch.Generator().manual_seed(recipe.seed)
    patches.copy_(photos.crops(len(patches), quilting.side, generator))
    held_out = next(photos.held_out_images()).to(patches.device)
    lines = []
    for line in range(1, LINES + 1):
        count = max(1, len(patches) * line // LINES)
        said = {"step": count, "loss": nearness(held_out, patches[:count]), "rate": 1, "seconds": 0}
        lines.append(json.dumps(said) + "\n")
    run.log.parent.mkdir(parents=True, exist_ok=True)
    write_text(run.log, "".join(lines))
    return time.monotonic() - begun


def nearness(image: Tensor, patches: Tensor) -> float:
    """The mean squared distance of an image's (1, 3, H, W) patches, side by side, to the index."""
    side = patches.shape[-1]
    cut = image.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    known = patches.flatten(1)
    nearest = [torch.cdist(some, known).amin(1) for some in cut.flatten(1).split(SEARCHED)]
    return float(torch.cat(nearest).square().mean() / cut[0].numel())


@torch.no_grad()
def measure_quilting(quilting: Quilting, photos: Photos, recipe: AnyRecipe) -> list[str]:
    """For the card: mean PSNR of quilted photographs."""
    some = list(islice(photos.held_out_images(), MEASURED))
    device = quilting.network.patches.device
    some = [image.to(device) for image in some]
    mean = sum(psnr(quilting(image), image) for image in some) / len(some)
    patches, _, _, side = quilting.network.patches.shape
    return table(
        f"Mean PSNR of the first {len(some)} held-out photographs, quilted, in dB:",
        ("patches", "side", "PSNR"),
        [(str(patches), str(side), f"{mean:.2f}")],
    )


TRAINER = Trainer(AnyRecipe, Photos, collect_patches, measure_quilting)
