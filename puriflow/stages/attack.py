"""The second stage: adversarial images of a victim, checked to be in the ball and in [0, 1]."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from puriflow import parts
from puriflow.errors import Problem
from puriflow.seeding import ImageNoise
from puriflow.stages.running import batch_size, check_images, each, provenance, run
from puriflow.store import Stage

ROUNDING = 1e-6  # of float32 arithmetic on [0, 1], allowed on top of eps


def write_attack(
    source: Stage,
    out: Path,
    name: str,
    spec: dict[str, Any],
    victim_name: str,
    victim_spec: dict[str, Any],
    *,
    seed: int,
    device: torch.device,
    batch: int | None = None,
) -> Stage:
    """Attack every image of `source`; the store also has each image's success and loss.

    Raises:
        Problem: a part cannot be built, or the attack left its ball.
    """
    attack = parts.build("attacks", name, spec)
    victim = parts.build("classifiers", victim_name, victim_spec).to(device)
    labels, indices = source.read("label"), source.read("index")

    def adversarial(images: torch.Tensor, y: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        return attack(victim, images, y, ImageNoise(seed, "attack", i.tolist()))

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        clean, y = source.read("images", start, stop), labels[start:stop]
        found = each(adversarial, device, clean, y, indices[start:stop]).cpu().numpy()
        check_images(found, f"attack {name}")
        farthest = np.abs(found.astype(np.float64) - clean).max()
        if farthest > attack.eps + ROUNDING:
            raise Problem(f"attack {name}: distance {farthest:.6f} exceeds eps {attack.eps:.6f}")
        with torch.no_grad():
            logits = each(victim, device, found).cpu()
        loss = F.cross_entropy(logits, torch.from_numpy(y), reduction="none")
        success = logits.argmax(1).numpy() != y
        return {"images": found, "success": success, "loss": loss.numpy()}

    made_by = provenance(
        "attack",
        {"attack": spec, "victim": victim_spec},
        modules=[
            parts.module_of("attacks", spec),
            parts.module_of("classifiers", victim_spec),
        ],
        upstream=[source],
        seed=seed,
    )
    return run(
        out,
        "images",
        labels=labels,
        indices=indices,
        made_by=made_by,
        compute=compute,
        batch=batch_size(device, batch),
        device=str(device),
    )
