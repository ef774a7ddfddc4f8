"""The third stage: the initialisation of diffusion by super-resolution or another denoiser."""

from pathlib import Path

import torch

from puriflow.compute import in_batches
from puriflow.registry import Part
from puriflow.stages.base import Arrays, Inputs, run
from puriflow.store import Stage


@torch.no_grad()
def write_restored(
    source: Stage, out: Path, restorer: Part, *, device: torch.device, batch: int | None = None
) -> Stage:
    """Restore every image of `source` (size and range stay)."""
    network = restorer.build().to(device)

    def restored(inputs: Inputs) -> Arrays:
        return {"images": in_batches(network, device, inputs.images).cpu().numpy()}

    parts = {"restorer": restorer}
    return run("restore", source, out, parts, restored, device=device, batch=batch)
