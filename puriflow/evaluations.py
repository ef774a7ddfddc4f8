"""What jobs ask of a diffusion network, counted before they start, and how long an evaluation took.

An attack is run, with its settings, on one image and a victim that it never fools: the most that an
image can cost, since most attacks leave an image alone that is misclassified. Counted are the
passes over the victim, then the evaluations in a pass, and both are multiplied. A gradient through
an evaluation counts as three: it is computed twice (forwards, and again for the gradient), and its
gradient by the image costs as much once more. An iteration of ScoreOpt has a gradient of its own
and counts as two, and as six with its gradient.
"""

from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from puriflow.attacks.base import Batch
from puriflow.config import Config
from puriflow.defence import Defence
from puriflow.diffusion import recomputation
from puriflow.diffusion.denoisers import VPDenoiser
from puriflow.errors import UserError
from puriflow.lineage import Place, check_parts
from puriflow.purifiers import vpsde
from puriflow.randomness import AttackNoise, ImageNoise
from puriflow.registry import NONE, Part
from puriflow.store import open_stage

BEHIND_RESULTS = False
SIDE = 32  # of which a sixteenth of the DCT bands are some


class Counted(nn.Module):
    """A network of no weight, which counts its evaluations without a gradient and with one."""

    def __init__(self) -> None:
        super().__init__()
        self.forwards = self.gradients = 0

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            self.gradients += len(x)
        else:
            self.forwards += len(x)
        return 0.1 * x


class Right(nn.Module):
    """A classifier of ten classes that always answers 0, and has a gradient."""

    def forward(self, images: Tensor) -> Tensor:
        means = images.flatten(1).mean(1, keepdim=True)
        return 1e-3 * means * torch.arange(10.0) + torch.eye(10)[:1] * 100


class Evaluations:
    """The evaluations of diffusion networks that the stores of a track cost."""

    def __init__(self, track: Config):
        self.track = track
        self.passes = cache(lambda attack: passes(track.part("attack", attack)))
        self.pass_of = cache(self._pass_of)

    def _pass_of(self, purifier: str, gradient: bool, surrogate: bool = False) -> int:
        part = self.track.part("purifier", purifier)
        return evaluations(part, gradient=gradient, surrogate=surrogate)

    def of(self, place: Place) -> int:
        """The evaluations that an image of a store costs."""
        purifier = place.parts.get("purifier", NONE)
        if place.stage == "certify":
            drawn = self.track.certification
            return (drawn.n0 + drawn.n) * ("denoiser" in place.parts)
        if purifier == NONE or self.network(place) == NONE:
            return 0
        if place.stage == "attack":
            attack = place.parts["attack"]
            forwards, gradients = self.passes(attack)
            own = self.track.part("attack", attack).options.get("gradient") == "surrogate"
            return forwards * self.pass_of(purifier, False) + gradients * self.pass_of(
                purifier, True, own
            )
        return int(place.numbers.get("n_draws", 1)) * self.pass_of(purifier, False)

    def asked(self, place: Place) -> int | None:
        """The evaluations that an image of a store costs, if that can be counted.

        None if a part, as somebody else's may, cannot be asked without its weights.
        """
        try:
            return self.of(place)
        except Exception:  # of whoever wrote a part
            return None

    def network(self, place: Place) -> str:
        """The name of the network that a store asks; `none` if it asks none."""
        if "denoiser" in place.parts:
            return place.parts["denoiser"]
        if (purifier := place.parts.get("purifier", NONE)) == NONE:
            return NONE
        part = self.track.part("purifier", purifier)
        return part.network.name if part.network else NONE

    def seconds(self, results: Path) -> dict[str, dict[str, float]]:
        """Seconds of an evaluation by network and device, of the purified stores that are there.

        Stores of other parts than the track's do not count, nor those that were not timed.
        """
        spent: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
        for manifest in sorted(results.glob(f"purify/{'*/' * 6}manifest.json")):
            place = Place.of(manifest.parent)
            try:
                stage = open_stage(manifest, verify=False)
                assert place is not None
                check_parts(stage, self.track.parts(place.parts), self.track.seed)
            except UserError:
                continue
            seconds, asked = stage.seconds_per_image, self.asked(place)
            if seconds is not None and asked:
                machine = stage.manifest["machine"]
                on_cpu = machine.get("device", "cpu") == "cpu"
                device = machine.get("processor", "a CPU") if on_cpu else machine["device"]
                key = self.network(place), str(device)
                spent[key].append((seconds * stage.count, asked * stage.count))
        found: dict[str, dict[str, float]] = defaultdict(dict)
        for (network, device), each in spent.items():
            found[network][device] = sum(s for s, _ in each) / sum(n for _, n in each)
        return found


def purifier_of(part: Part, network: nn.Module) -> nn.Module:
    """A purifier with another network, on images of their own size."""
    options = {key: value for key, value in part.options.items() if key != "resize"}
    denoiser = VPDenoiser(network)
    given: dict[str, nn.Module] = dict.fromkeys(part.inner, denoiser)
    if (guide := part.inner.get("classifier")) is not None:
        given["classifier"] = replace(guide, weights=None).build()
    return import_module(part.module).build(**given, **options)


def passes(attack: Part) -> tuple[int, int]:
    """How often an attack asks a victim that it never fools: without a gradient, and with one."""
    network, image = Counted(), torch.full((1, 3, SIDE, SIDE), 0.5)
    purifier = vpsde.build(network=VPDenoiser(network), t=1)
    purifier.surrogate = lambda: purifier
    victim = Defence(None, purifier, Right())
    label = torch.zeros(1, dtype=torch.int64)
    with _recomputed():
        attack.build()(Batch(victim, image, label, AttackNoise(0, [0])))
    return network.forwards - network.gradients, network.gradients


def evaluations(part: Part, *, gradient: bool, surrogate: bool = False) -> int:
    """Evaluations of the network in one pass of a purifier, as many as its time is worth."""
    network, image = Counted(), torch.full((1, 3, SIDE, SIDE), 0.5, requires_grad=gradient)
    purifier: Any = purifier_of(part, network)
    with torch.set_grad_enabled(gradient), _recomputed():
        purify = purifier.surrogate() if surrogate else purifier
        purified = purify(image, ImageNoise(0, "", [0]))
        if gradient:
            purified.sum().backward()
    total = network.forwards + 2 * network.gradients
    if gradient and not surrogate and part.kind == "scoreopt":
        total += network.gradients  # an iteration's own gradient is differentiated as well
    return total


@contextmanager
def _recomputed() -> Generator[None]:
    """Every step is computed again, as those of large networks are."""
    kept, recomputation.KEPT = recomputation.KEPT, -1
    try:
        yield
    finally:
        recomputation.KEPT = kept
