"""The fifth stage: logits."""

from pathlib import Path

import torch

from puriflow.compute import batch_size, in_batches
from puriflow.registry import Part
from puriflow.stages.base import Arrays, Inputs, run
from puriflow.store import Stage


@torch.no_grad()
def write_logits(
    source: Stage, out: Path, classifier: Part, *, device: torch.device, batch: int | None = None
) -> Stage:
    """Classify every image of `source`, as it is (purified images may leave [0, 1] a little).

    Args:
        source: a store of images.
        out: folder of the new one; its array is `logits` (n, classes).
        classifier: what classifies.
        device: to compute on.
        batch: images between two saves.

    Raises:
        UserError: the classifier cannot be built, or its logits are not finite.
    """
    network = classifier.build().to(device)

    def classified(inputs: Inputs) -> Arrays:
        return {"logits": in_batches(network, device, inputs.images).cpu().numpy()}

    return run(
        "classify",
        source,
        out,
        {"classifier": classifier},
        classified,
        array="logits",
        device=device,
        batch=batch_size(device, batch),
    )
