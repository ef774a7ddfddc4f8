"""Purify and classify several times: what a random defence answers to each image, draw by draw.

Draw 0 is the one of the purify stage, so its images and logits equal those of the purify and the
classify stage.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from puriflow.compute import folded, in_batches
from puriflow.fitting import check_finite
from puriflow.randomness import PURIFY, ImageNoise
from puriflow.registry import Part
from puriflow.stages.base import Arrays, Inputs, run
from puriflow.store import Stage


@torch.no_grad()
def write_evaluated(
    source: Stage,
    out: Path,
    purifier: Part,
    classifier: Part,
    *,
    n_draws: int,
    seed: int,
    device: torch.device,
    batch: int | None = None,
) -> Stage:
    """Store what `n_draws` draws, 2 or more, make of each restored image of `source`.

    `answers` are their logits (n, n_draws, classes), `images` those of draw 0, not clamped, and
    `variance` (n,) is that of a pixel over draws, unbiased, in its mean over the image's pixels.
    """
    purify, classify = purifier.build().to(device), classifier.build().to(device)

    def purified(draws: Sequence[int], images: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        copies = images.repeat(len(draws), 1, 1, 1)
        made = purify(copies, ImageNoise(seed, PURIFY, indices.tolist(), draws))
        check_finite(made, f"purifier {purifier.name}: images")
        return made.unflatten(0, (len(draws), -1)).transpose(0, 1)  # an image, then its draws

    def classified(images: torch.Tensor) -> torch.Tensor:
        logits = classify(images)
        check_finite(logits, f"classifier {classifier.name}: logits")
        return logits

    def compute(inputs: Inputs) -> Arrays:
        answers, first = [], np.empty_like(inputs.images)
        mean = np.zeros_like(inputs.images, dtype=np.float64)
        squares = np.zeros_like(mean)
        # The first draw alone, as the purify stage computes it.
        # A CPU computes image by image (see `in_batches`).
        at_once = inputs.images[:1] if device.type == "cpu" else inputs.images
        for draws in ([0], *folded(at_once, range(1, n_draws))):
            made = in_batches(partial(purified, draws), device, inputs.images, inputs.indices)
            for draw, images in zip(draws, made.transpose(0, 1).cpu().numpy(), strict=True):
                answers.append(in_batches(classified, device, images).cpu().numpy())
                first = images if draw == 0 else first
                deviation = images - mean  # Welford 1962
                mean += deviation / (draw + 1)
                squares += deviation * (images - mean)
        variance = np.array([own.mean() / (n_draws - 1) for own in squares])  # an image a time
        return {"answers": np.stack(answers, axis=1), "images": first, "variance": variance}

    return run(
        "evaluate",
        source,
        out,
        {"purifier": purifier, "classifier": classifier},
        compute,
        array="answers",
        bounded=False,
        numbers={"n_draws": n_draws},
        seed=seed,
        device=device,
        batch=batch,
    )
