"""The third stage: the initialisation of diffusion by super-resolution or another denoiser."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from puriflow import registry
from puriflow.stages.base import batch_size, check_images, each, provenance, run
from puriflow.store import Stage


@torch.no_grad()
def write_restored(
    source: Stage,
    out: Path,
    name: str,
    spec: dict[str, Any],
    *,
    device: torch.device,
    batch: int | None = None,
) -> Stage:
    """Restore every image of `source` (size and range stay)."""
    restorer = registry.build("restorers", name, spec).to(device)

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        restored = each(restorer, device, source.read("images", start, stop)).cpu().numpy()
        check_images(restored, f"restorer {name}")
        return {"images": restored}

    return run(
        out,
        "images",
        labels=source.read("label"),
        indices=source.read("index"),
        made_by=provenance(
            "restore",
            {"restorer": registry.complete("restorers", spec)},
            modules=[registry.module_of("restorers", spec)],
            upstream=[source],
        ),
        compute=compute,
        batch=batch_size(device, batch),
        device=str(device),
    )
