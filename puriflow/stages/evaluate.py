"""Purify and classify several times: what a random defence answers to each image, draw by draw.

Draw 0 is the one of the purify stage, so its logits equal those of the classify stage.
"""

from pathlib import Path

import torch

from puriflow.compute import batch_size, in_batches
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
    """Store `answers`, logits (n, n_draws, classes) of the restored images of `source`."""
    purify, classify = purifier.build().to(device), classifier.build().to(device)

    def answers(images: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        logits = []
        for draw in range(n_draws):
            noise = ImageNoise(seed, PURIFY, indices.tolist(), draw)
            purified = purify(images, noise)
            check_finite(purified, f"purifier {purifier.name}: images")
            logits.append(classify(purified))
            check_finite(logits[-1], f"classifier {classifier.name}: logits")
        return torch.stack(logits, dim=1)

    def compute(inputs: Inputs) -> Arrays:
        return {"answers": in_batches(answers, device, inputs.images, inputs.indices).cpu().numpy()}

    return run(
        "evaluate",
        source,
        out,
        {"purifier": purifier, "classifier": classifier},
        compute,
        array="answers",
        numbers={"n_draws": n_draws},
        seed=seed,
        device=device,
        batch=batch_size(device, batch),
    )
