"""How long a job may take: what a cluster is asked for, counted from options without torch.

Counted are evaluations of networks, for an image that is never fooled, at the rate of a GPU of 25
TFLOP/s: ADM's 1.12 TMACs for 256x256 pixels and DDPM++'s for 32x32 are both about 1.5 us a pixel.
It is doubled, since a job that is ended by its limit has to begin another time; but it goes on then
from what is kept, so that no cluster has to be asked for more than it gives.
"""

import json
from functools import cache
from math import ceil
from pathlib import Path
from typing import NamedTuple

from puriflow.registry import Part, Parts

BEHIND_RESULTS = False
SECONDS = 1.5e-6  # of an evaluation, for each pixel
SPARE = 2  # so many times longer may it take
STARTUP = 30  # minutes of any job, for imports, weights and slow disks
GRADIENT = 3  # evaluations that a gradient through one takes: forwards, again, and backwards
OTHERS = 2  # evaluations as which a restorer and a classifier count

DIFFATTACK_LOSSES = ("ce", "dlr")  # that DiffAttack takes by default


def minutes(parts: Parts, shape: tuple[int, int, int], draws: int = 1) -> int:
    """What to ask a cluster for.

    Args:
        parts: of the job, by role; with an attack the others are its victim's.
        shape: number, height and width of the images.
        draws: of each image.
    """
    count, height, width = shape
    purifier, attack = parts.get("purifier"), parts.get("attack")
    resize = None if purifier is None else purifier.value("resize")
    pixels = height * width if resize is None else resize**2
    calls = OTHERS + ("denoiser" in parts) + (0 if purifier is None else evaluations(purifier))
    asked = Passes(draws, 0) if attack is None else passes(attack)
    weight = 2 * GRADIENT if purifier is not None and optimises(purifier) else GRADIENT
    total = count * calls * (asked.forwards + weight * asked.gradients)
    return STARTUP + ceil(SPARE * total * pixels * SECONDS / 60)


def evaluations(purifier: Part) -> int:
    """How often a purifier asks its network about an image; a gradient of its own counts, too.

    Options say it, of the names that they have in most kinds. Where they do not, or not by default,
    the kind's module does, at its top: `STEPS`, `STRIDE` (levels t' between two steps), and
    `EVALUATIONS_A_STEP`.
    """
    value, constants = purifier.value, purifier.known.constants
    # of a module from outside, a name may mean anything
    said = {name: number for name, number in constants.items() if type(number) is int}
    if purifier.network is None and purifier.weights is None:
        return 0
    if (stages := value("stages")) is not None:
        steps = sum(steps * times for _, steps, times in stages)
    elif "STEPS" in said:
        steps = said["STEPS"]
    elif value("respacing") is not None:
        steps = ceil(value("t") * value("respacing") / 1000)
    else:
        level = (value("t") or value("t_large") or 1) + (value("t_delta") or 0)
        stride = value("stride") or said.get("STRIDE", 1)
        steps = value("evaluations") or value("n_iter") or ceil(level / stride)
    own = 2 if optimises(purifier) else said.get("EVALUATIONS_A_STEP", 1)
    return own * steps * (value("rounds") or 1)


def optimises(purifier: Part) -> bool:
    """Whether each step differentiates the network, so that an attack does it twice.

    Its kind's module says so: `OPTIMISES = True`.
    """
    return bool(purifier.known.constants.get("OPTIMISES"))


class Passes(NamedTuple):
    """How often an attack asks a victim about an image, without a gradient and with one."""

    forwards: int
    gradients: int


def passes(attack: Part) -> Passes:
    """How often an attack asks a victim that it never fools."""

    def value(option: str, default: int = 1) -> int:
        found = attack.value(option)
        return default if found is None else found

    n_iter, eot_iter, version = value("n_iter"), value("eot_iter"), attack.value("version")
    targets, queries = value("n_target_classes"), value("n_queries", 0)
    gradients = (n_iter + 1) * eot_iter * value("n_restarts")
    forwards = value("n_draws", 0) + queries
    if version == "rand":
        gradients *= 2 * (20 if attack.value("eot_iter") is None else 1)
        forwards = 0
    elif version == "standard":
        gradients *= 1 + targets
        gradients += n_iter * targets  # of FAB
        forwards += 2 * n_iter * targets
    elif version == "square" or attack.kind == "square":
        gradients = 0
    elif attack.value("loss") == "dlr-targeted":
        gradients *= targets
    if attack.kind == "diffattack":
        gradients *= len(attack.value("losses") or DIFFATTACK_LOSSES)
    if (n_eval := attack.value("n_eval")) is not None:  # of the point and of the clean image
        forwards += 2 * n_eval * ceil(n_iter / value("eval_every"))
    if attack.value("gradient") in ("identity", "restorer"):
        return Passes(forwards + gradients, 0)
    return Passes(value("votes") * forwards, gradients)


def shape_of(manifest: str) -> tuple[int, int, int] | None:
    """Number, height and width of the images of a store; None while it is not there."""
    try:
        return _shape_of(manifest, Path(manifest).stat().st_mtime_ns)
    except (OSError, ValueError, LookupError, TypeError):
        return None


@cache  # of a manifest as it was at a time: a run asks often
def _shape_of(manifest: str, time: int) -> tuple[int, int, int]:
    said = json.loads(Path(manifest).read_bytes())
    *_, height, width = said["arrays"]["images"]["shape"]
    return int(said["n"]), int(height), int(width)
