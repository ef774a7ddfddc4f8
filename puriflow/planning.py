"""How much memory a job needs, counted before it starts, so that a batch fits a GPU.

An image's gradient holds what the largest step holds: the steps of a purifier and the rounds of a
restorer are computed again one by one. So a defence is built with the fewest steps, on the meta
device, and asked once.
"""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import torch

from puriflow.compute import CPU_BATCH, GPU_BATCH, counted
from puriflow.config import Config
from puriflow.defence import Defence
from puriflow.diffusion import recomputation
from puriflow.errors import UserError
from puriflow.lineage import Place
from puriflow.metrics.memory import peak
from puriflow.randomness import PURIFY, ImageNoise
from puriflow.registry import Part, Parts
from puriflow.smoothing import BLOCK, OneShot

BEHIND_RESULTS = False
log = logging.getLogger(__name__)
# Options of which memory does not depend on the value, for as many kinds as have them.
FEWEST = {"t": 1, "t_delta": 0, "evaluations": 1, "n_iter": 1, "rounds": 1}
ROLES = ("restorer", "denoiser", "purifier", "classifier")
CIFAR = 32  # pixels
SPARE = 2**30  # bytes of a GPU that are left for its libraries
GIB = 2**30
FLOAT = 4  # bytes


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
    places: list[Place]  # of the stores, one a job


def jobs(track: Config, stores: Iterable[str], results: Path = Path("results")) -> Iterator[Job]:
    """The jobs of stores, by their paths below the results, each with what it needs.

    Jobs that compute with the same parts are said once; those of no part that takes images, as of
    a data set or of none, are left out.
    """
    alike: dict[tuple[str, ...], list[Place]] = {}
    for place in (Place.of(results / store) for store in stores):
        names = {} if place is None else _computing(place)
        if place is not None and names:
            key = place.stage, place.names["dataset"], *names.values()
            alike.setdefault(key, []).append(place)
    for (stage, dataset, *_), places in alike.items():
        size, found, names = size_of(track.part("dataset", dataset)), None, _computing(places[0])
        if size is not None:
            found = needs(track.parts(names), size, gradient=stage == "attack")
        # an image's draws are computed by blocks, of which a batch is one
        most = BLOCK if stage == "certify" else track.compute.batch or GPU_BATCH
        yield Job(stage, dataset, ".".join(names.values()), found, most, places)


def _computing(place: Place) -> dict[str, str]:
    """The names of a place's parts that take images, by role."""
    return {role: name for role, name in place.parts.items() if role in ROLES}


def stored(track: Config, place: Place) -> int | None:
    """Bytes of an image's arrays in a store, before they are compressed.

    Returns:
        None if the size of the images, or the number of classes, is not known without data and
        weights. An attack's record of its steps is not counted.
    """
    if (size := size_of(track.part("dataset", place.names["dataset"]))) is None:
        return None
    image = 3 * size[0] * size[1] * FLOAT
    if place.stage == "attack":
        judged = "n_eval" in track.part("attack", place.parts["attack"]).options
        return 3 * image if judged else image  # of two more rules
    if place.stage not in ("classify", "evaluate"):
        return 4 * 2 * FLOAT if place.stage == "certify" else image
    if (classes := _classes(track.part("classifier", place.parts["classifier"]), size)) is None:
        return None
    draws = int(place.numbers.get("n_draws", 1))
    return draws * classes * FLOAT + (image if place.stage == "evaluate" else 0)


def _classes(classifier: Part, size: tuple[int, int]) -> int | None:
    """How many classes a classifier tells apart; None if its weights would say it."""
    try:
        defence = _without_weights({"classifier": classifier})
        return defence.classify(torch.zeros(1, 3, *size, device="meta")).shape[-1]
    except Exception:  # as in `needs`
        return None


def images_of(track: Config, dataset: str) -> int | None:
    """How many images a data set has at most; None if that depends on data that is not here."""
    if (most := track.dataset(dataset).most) is not None:
        return most
    try:
        return len(track.part("dataset", dataset).build())
    except UserError:
        return None


def summed(
    track: Config, dataset: str, places: Iterable[Place], of: Callable[[Place], int | None]
) -> int | None:
    """What images cost in some stores of a data set, each by what its own chain costs an image.

    Args:
        track: what serves the roles.
        dataset: its name.
        places: of the stores, of any attacks and numbers of draws.
        of: what an image of a store costs, the same in all shards; None if that is not known.

    Returns:
        None if one is not known, or how many images there are.
    """
    if (images := images_of(track, dataset)) is None:
        return None
    total, known = 0, dict[Path, int | None]()
    for place in places:
        chain = place.folder.parent  # of all its shards
        if chain not in known:
            known[chain] = of(place)
        if (cost := known[chain]) is None:
            return None
        total += in_shards(images, [place]) * cost
    return total


def in_shards(count: int, places: Iterable[Place]) -> int:
    """How many of a data set's images some stores have together."""
    shards = (map(int, place.shard.split("-of-")) for place in places)
    return sum(len(range(shard, count, of)) for shard, of in shards)


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
    log.info(said)
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
