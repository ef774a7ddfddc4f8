"""The fourth stage: diffusion and denoising."""

from pathlib import Path

import torch

from puriflow.compute import in_batches
from puriflow.randomness import PURIFY, ImageNoise
from puriflow.registry import Part
from puriflow.stages.base import Arrays, Inputs, run
from puriflow.store import Stage


@torch.no_grad()
def write_purified(
    source: Stage,
    out: Path,
    purifier: Part,
    *,
    seed: int,
    device: torch.device,
    batch: int | None = None,
) -> Stage:
    """Purify every image of `source`; like DiffPure's, the result is not clamped to [0, 1]."""
    purify = purifier.build().to(device)

    def purified(images: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        return purify(images, ImageNoise(seed, PURIFY, indices.tolist()))

    def compute(inputs: Inputs) -> Arrays:
        return {"images": in_batches(purified, device, inputs.images, inputs.indices).cpu().numpy()}

    parts = {"purifier": purifier}
    return run(
        "purify", source, out, parts, compute, bounded=False, seed=seed, device=device, batch=batch
    )
