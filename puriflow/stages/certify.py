"""Beside the chain: certificates of a smoothed classifier on clean images (Cohen et al. 2019)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from puriflow.config import validated
from puriflow.metrics.certified import certify, predict
from puriflow.smoothing import Smoothed, Smoothing
from puriflow.stages.base import batch_size, check_images, provenance, run
from puriflow.store import Stage


def write_certified(
    source: Stage,
    out: Path,
    spec: dict[str, Any],
    *,
    seed: int,
    device: torch.device,
    batch: int = 1,
) -> Stage:
    """Certify every image of `source`.

    The store has, for each image, CERTIFY's `prediction` (-1: it abstains), `radius` and `hits`,
    and PREDICT's `answer` (-1: it abstains) from the same n draws.

    Args:
        source: clean images.
        out: folder of the store.
        spec: see `Smoothing`.
        seed: of the noise.
        device: of the parts.
        batch: images between two saves; one is hundreds of draws or more.

    Raises:
        UserError: the specification is not sound, or a part cannot be built.
    """
    smoothing = validated(Smoothing, spec, "smoothing")
    smoothed = Smoothed(smoothing.base().to(device), smoothing.sigma, seed)
    choosing, bounding = range(smoothing.n0), range(smoothing.n0, smoothing.n0 + smoothing.n)
    indices = source.read("index")

    def certified(image: np.ndarray, index: int) -> dict[str, int | float]:
        x = torch.from_numpy(image).to(device)
        selection = smoothed.counts(x, index, choosing)
        counts = smoothed.counts(x, index, bounding)
        found = certify(selection, counts, smoothing.sigma, smoothing.alpha)
        return {**found._asdict(), "answer": predict(counts, smoothing.alpha)}

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        images = source.read("images", start, stop)
        check_images(images, f"store {source.folder}")
        rows = [
            certified(image, int(i)) for image, i in zip(images, indices[start:stop], strict=True)
        ]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    return run(
        out,
        "certified",
        labels=source.read("label"),
        indices=indices,
        made_by=provenance(
            "certify",
            smoothing.model_dump(exclude_none=True),
            modules=smoothing.modules(),
            upstream=[source],
            seed=seed,
        ),
        compute=compute,
        batch=batch_size(device, batch),
        device=str(device),
    )
