"""The fifth stage: logits."""

from pathlib import Path

import torch

from puriflow.compute import in_batches
from puriflow.registry import Part
from puriflow.stages.base import Arrays, Inputs, run
from puriflow.store import Stage


@torch.no_grad()
def write_logits(
    source: Stage, out: Path, classifier: Part, *, device: torch.device, batch: int | None = None
) -> Stage:
    """Store `logits` (n, classes) of `source` as it is: purified images may leave [0, 1] a bit."""
    network = classifier.build().to(device)

    def logits(inputs: Inputs) -> Arrays:
        return {"logits": in_batches(network, device, inputs.images).cpu().numpy()}

    parts = {"classifier": classifier}
    return run("classify", source, out, parts, logits, array="logits", device=device, batch=batch)
