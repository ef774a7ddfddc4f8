"""The fifth stage: logits."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from puriflow import registry
from puriflow.stages.base import batch_size, check_images, each, provenance, run
from puriflow.store import Stage


@torch.no_grad()
def write_logits(
    source: Stage,
    out: Path,
    name: str,
    spec: dict[str, Any],
    *,
    device: torch.device,
    batch: int | None = None,
) -> Stage:
    """Classify every image of `source`, as it is (purified images may leave [0, 1] a little)."""
    classifier = registry.build("classifiers", name, spec).to(device)

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        images = source.read("images", start, stop)
        check_images(images, f"store {source.folder}", bounded=False)
        return {"logits": each(classifier, device, images).cpu().numpy()}

    return run(
        out,
        "logits",
        labels=source.read("label"),
        indices=source.read("index"),
        made_by=provenance(
            "classify",
            {"classifier": spec},
            modules=[registry.module_of("classifiers", spec)],
            upstream=[source],
        ),
        compute=compute,
        batch=batch_size(device, batch),
        device=str(device),
    )
