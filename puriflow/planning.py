"""How much memory a job needs, counted before it starts, so that a batch fits a GPU.

An image's gradient holds what the largest step holds: the steps of a purifier and the rounds of a
restorer are computed again one by one. So a defence is built with the fewest steps, on the meta
device, and asked once.
"""

import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import torch

from puriflow.compute import CPU_BATCH, GPU_BATCH, counted
from puriflow.config import Config
from puriflow.defence import Defence
from puriflow.diffusion import recomputation
from puriflow.lineage import Place
from puriflow.metrics.memory import peak
from puriflow.randomness import PURIFY, ImageNoise
from puriflow.registry import Part, Parts
from puriflow.smoothing import BLOCK, OneShot

BEHIND_RESULTS = False
# Options of which memory does not depend on the value, for as many kinds as have them.
FEWEST = {"t": 1, "t_delta": 0, "evaluations": 1, "n_iter": 1, "rounds": 1}
ROLES = ("restorer", "denoiser", "purifier", "classifier")
CIFAR = 32  # pixels
SPARE = 2**30  # bytes of a GPU that are left for its libraries
GIB = 2**30


class Needs(NamedTuple):
    """Bytes of a job: of its parameters, once, for each image, and what gradients may keep."""

    parameters: int
    image: int
    kept: int = 0

    def fits(self, memory: int) -> int:
        """How many images at once fit into so many bytes; 0 if none does."""
        return max(0, (memory - SPARE - self.parameters - self.kept) // self.image)


def needs(parts: Parts, size: tuple[int, int], *, gradient: bool) -> Needs | None:
    """What some parts of a defence need for images of a size.

    Args:
        parts: by role: restorer, denoiser or purifier, classifier, or some of them.
        size: height and width of the images.
        gradient: whether an attack differentiates them, by the full gradient.

    Returns:
        None if a part, as somebody else's may, cannot be built without its weights, or computes
        what only numbers can say.
    """

    def computed(images: torch.Tensor) -> torch.Tensor:
        purified = defence.purified(images, ImageNoise(0, PURIFY, [0]))
        return purified if defence.classifier is None else defence.classify(purified)

    try:
        defence = _without_weights(parts)
        image = peak(computed, size, gradient=gradient)
    except Exception:  # of whoever wrote a part: it is not for the meta device
        return None
    parameters = sum(p.nbytes for p in defence.parameters())
    return Needs(parameters, max(1, image), recomputation.KEPT if gradient else 0)


class Job(NamedTuple):
    """Jobs of a stage that compute with the same parts."""

    stage: str
    dataset: str  # its name, and the parts'
    parts: str
    needs: Needs | None  # None: not counted
    most: int  # images at once, if there is room


def jobs(track: Config, stores: Iterable[str]) -> Iterator[Job]:
    """The jobs of stores, by their paths below the results, each with what it needs.

    Jobs that compute with the same parts are said once; those of no part that takes images, as of
    a data set or of none, are left out.
    """
    said = set()
    for store in stores:
        place = Place.of(Path("results", store))
        names = {} if place is None else {r: n for r, n in place.parts.items() if r in ROLES}
        if place is None or not names:
            continue
        dataset = place.names["dataset"]
        key = place.stage, dataset, *names.values()
        if key in said:
            continue
        said.add(key)
        size, found = size_of(track.part("dataset", dataset)), None
        if size is not None:
            found = needs(track.parts(names), size, gradient=place.stage == "attack")
        # an image's draws are computed by blocks, of which a batch is one
        most = BLOCK if place.stage == "certify" else track.compute.batch or GPU_BATCH
        yield Job(place.stage, dataset, ".".join(names.values()), found, most)


def size_of(dataset: Part) -> tuple[int, int] | None:
    """Height and width of the images of a data set, if it says them: its crop, or CIFAR-10's."""
    cifar = dataset.kind.startswith("cifar10") or dataset.value("sample") == "cifar10"
    side = dataset.value("crop") or (CIFAR if cifar else None)
    return None if side is None else (side, side)


def together(device: torch.device, parts: Parts, size: tuple[int, int], *, gradient: bool) -> int:
    """How many images a device computes at once, if nobody says it; on a GPU, with a line.

    Args:
        device: to compute on, where the parts are already.
        parts: of the job, of which those count that take images.
        size: height and width of the images.
        gradient: see `needs`.
    """
    if device.type == "cpu":
        return CPU_BATCH
    found = needs({r: p for r, p in parts.items() if r in ROLES}, size, gradient=gradient)
    if found is None:
        return GPU_BATCH
    free = torch.cuda.mem_get_info(device)[0]
    count = min(GPU_BATCH, max(1, found.fits(free + found.parameters)))
    said = f"{found.image / GIB:.2f} GiB an image, {free / GIB:.1f} GiB free: {count} at once"
    print(f"puriflow: {said}", file=sys.stderr)
    return count


def _without_weights(parts: Parts) -> Defence:
    """The defence of some parts on the meta device, with the fewest steps."""
    fewest = {role: _fewest(part) for role, part in parts.items()}
    denoiser = fewest.pop("denoiser", None)
    with counted(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a classifier that brings its weights along
        defence = Defence.from_parts(fewest, seed=0)
        if denoiser is not None:  # of a certificate, by one call
            defence.purifier = OneShot(denoiser.build(), sigma=0.5)
    return defence.to("meta")


def _fewest(part: Part) -> Part:
    # of a kind that keeps something of each step
    known = getattr(import_module(part.module), "FEWEST", FEWEST)
    fewest = {o: known[o] for o in part.known.options.keys() & known.keys()}
    inner = {option: _fewest(one) for option, one in part.inner.items()}
    return replace(part, weights=None, inner=inner, options={**part.options, **fewest})
