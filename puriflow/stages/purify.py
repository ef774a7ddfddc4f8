"""The fourth stage: diffusion and denoising."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from puriflow import registry
from puriflow.randomness import ImageNoise
from puriflow.stages.base import batch_size, check_images, each, provenance, run
from puriflow.store import Stage


@torch.no_grad()
def write_purified(
    source: Stage,
    out: Path,
    name: str,
    spec: dict[str, Any],
    *,
    seed: int,
    device: torch.device,
    batch: int | None = None,
) -> Stage:
    """Purify every image of `source`; like DiffPure's, the result is not clamped to [0, 1]."""
    purifier = registry.build("purifiers", name, spec).to(device)
    indices = source.read("index")

    def purified(images: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        return purifier(images, ImageNoise(seed, "purify", i.tolist()))

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        images = source.read("images", start, stop)
        result = each(purified, device, images, indices[start:stop]).cpu().numpy()
        check_images(result, f"purifier {name}", bounded=False)
        return {"images": result}

    return run(
        out,
        "images",
        labels=source.read("label"),
        indices=indices,
        made_by=provenance(
            "purify",
            {"purifier": registry.complete("purifiers", spec)},
            modules=registry.modules_of("purifiers", spec),
            upstream=[source],
            seed=seed,
        ),
        compute=compute,
        batch=batch_size(device, batch),
        device=str(device),
    )
