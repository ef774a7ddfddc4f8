"""Beside the chain: certificates of a smoothed classifier on clean images (Cohen et al. 2019)."""

from pathlib import Path

import numpy as np
import torch

from puriflow.fitting import check_labels
from puriflow.metrics.certified import certify, predict
from puriflow.smoothing import Smoothed, Smoothing
from puriflow.stages.base import Arrays, Inputs, run
from puriflow.store import Stage


def write_certified(
    source: Stage,
    out: Path,
    smoothing: Smoothing,
    *,
    seed: int,
    device: torch.device,
    batch: int | None = 1,
) -> Stage:
    """Certify every clean image of `source`; each is hundreds of draws or more.

    The store has, for each image, CERTIFY's `prediction` (-1: it abstains), `radius` and `hits`,
    and PREDICT's `answer` (-1: it abstains) from the same n draws.
    """
    smoothed = Smoothed(smoothing.base().to(device), smoothing.sigma, seed)
    choosing, bounding = range(smoothing.n0), range(smoothing.n0, smoothing.n0 + smoothing.n)

    def certified(image: np.ndarray, index: int, label: int) -> dict[str, int | float]:
        x = torch.from_numpy(image).to(device)
        selection = smoothed.counts(x, index, choosing)
        check_labels(np.array([label]), len(selection))
        counts = smoothed.counts(x, index, bounding)
        found = certify(selection, counts, smoothing.sigma, smoothing.alpha)
        return {**found._asdict(), "answer": predict(counts, smoothing.alpha)}

    def compute(inputs: Inputs) -> Arrays:
        samples = zip(inputs.images, inputs.indices.tolist(), inputs.labels.tolist(), strict=True)
        rows = [certified(*sample) for sample in samples]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    return run(
        "certify",
        source,
        out,
        smoothing.parts,
        compute,
        array="certified",
        clean=True,
        numbers=smoothing.model_dump(exclude={"parts"}),
        seed=seed,
        device=device,
        batch=batch,
    )
