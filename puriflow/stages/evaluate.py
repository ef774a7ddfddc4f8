"""Purify and classify several times: what a random defence answers to each image, draw by draw.

Draw 0 is the one of the purify stage, so its logits equal those of the classify stage.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from puriflow import registry
from puriflow.randomness import ImageNoise
from puriflow.stages.base import batch_size, check_images, each, provenance, run
from puriflow.store import Stage


@torch.no_grad()
def write_answers(
    source: Stage,
    out: Path,
    roles: dict[str, str],
    specs: dict[str, dict[str, Any]],
    *,
    draws: int,
    seed: int,
    device: torch.device,
    batch: int | None = None,
) -> Stage:
    """Store logits (draws, classes) of every image of `source`, which is restored already.

    Args:
        source: a store of images.
        out: folder of the new one.
        roles: names of `purifier` and `classifier`.
        specs: their specifications.
        draws: how often each image is purified.
        seed: of the purifier's noise.
        device: to compute on.
        batch: images between two saves.
    """
    purifier = registry.build("purifiers", roles["purifier"], specs["purifier"]).to(device)
    classifier = registry.build("classifiers", roles["classifier"], specs["classifier"]).to(device)
    indices = source.read("index")

    def answers(images: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        answered = []
        for draw in range(draws):
            noise = ImageNoise(seed, "purify", i.tolist(), draw)
            answered.append(classifier(purifier(images, noise)))
        return torch.stack(answered, dim=1)

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        images = source.read("images", start, stop)
        check_images(images, f"store {source.folder}", bounded=False)
        return {"answers": each(answers, device, images, indices[start:stop]).cpu().numpy()}

    return run(
        out,
        "answers",
        labels=source.read("label"),
        indices=indices,
        made_by=provenance(
            "evaluate",
            {**registry.complete_defence(specs), "draws": draws},
            modules=registry.modules_of_defence(specs),
            upstream=[source],
            seed=seed,
        ),
        compute=compute,
        batch=batch_size(device, batch),
        device=str(device),
    )
