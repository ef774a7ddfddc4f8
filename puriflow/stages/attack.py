"""The second stage: adversarial images of a victim, checked to be in the ball and in [0, 1].

Beside the images the store has, for each, whether the attack succeeded, the cross-entropy of one
fresh answer, and how often the victim was asked.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from puriflow import registry
from puriflow.attacks.attack import Attack, State, Target, cross_entropy
from puriflow.chain import victim_roles
from puriflow.defence import Defence, Specs
from puriflow.errors import UserError
from puriflow.randomness import Draws, derive
from puriflow.stages.base import batch_size, check_images, provenance, run
from puriflow.store import Replacing, Stage, work_folder

ROUNDING = 1e-6  # of float32 arithmetic on [0, 1], allowed on top of eps
KEPT_EVERY = 60.0  # seconds that a killed attack loses at most, beside its current step
GPU_BATCH = 4  # through a diffusion, images need much memory


def write_attack(
    source: Stage,
    out: Path,
    name: str,
    spec: dict[str, Any],
    victim: str,
    victim_specs: Specs,
    *,
    seed: int,
    device: torch.device,
    batch: int | None = None,
    kept_every: float = KEPT_EVERY,
) -> Stage:
    """Attack every image of `source`.

    Args:
        source: a store of images.
        out: folder of the new one.
        name: of the attack.
        spec: its specification.
        victim: a classifier, or a defence as restorer.purifier.classifier.
        victim_specs: of its parts; see `Config.defence`.
        seed: of all draws.
        device: to compute on.
        batch: images that are attacked together; default: 4; always 1 on a CPU.
        kept_every: seconds between two saves inside an attack.

    Raises:
        UserError: a part cannot be built, or the attack left its ball.
    """
    attack: Attack = registry.build("attacks", name, spec)
    defence = Defence.from_specs(victim_roles(victim), victim_specs, seed=seed).to(device)
    defence.eval().requires_grad_(False)
    labels, indices = source.read("label"), source.read("index")
    made_by = provenance(
        "attack",
        {
            "attack": registry.complete("attacks", spec),
            "victim": registry.complete_defence(victim_specs),
        },
        modules=[registry.module_of("attacks", spec), *registry.modules_of_defence(victim_specs)],
        upstream=[source],
        seed=seed,
    )

    def adversarial(start: int, stop: int) -> dict[str, np.ndarray]:
        target = Target(
            defence,
            torch.from_numpy(source.read("images", start, stop)).to(device),
            torch.from_numpy(labels[start:stop]).to(device),
            Draws(seed, indices[start:stop].tolist(), fixed=attack.fixed),
        )
        identity = derive(json.dumps(made_by, sort_keys=True), *target.draws.indices)
        kept = _Kept(work_folder(out) / "under-way.pt", identity, device, kept_every)
        state = attack(target, keep=kept.save, kept=kept.load())
        return _checked(name, attack, target, state)

    return run(
        out,
        "images",
        labels=labels,
        indices=indices,
        made_by=made_by,
        compute=adversarial,
        # A CPU attacks one by one (see `each`), and keeps what is done after each.
        batch=1 if device.type == "cpu" else batch_size(device, batch, GPU_BATCH),
        device=str(device),
    )


@torch.no_grad()
def _checked(name: str, attack: Attack, target: Target, state: State) -> dict[str, np.ndarray]:
    """The arrays of the store; the images are in the ball and in [0, 1]."""
    found = state["found"].detach()
    check_images(found.cpu().numpy(), f"attack {name}")
    farthest = float(attack.ball.distance(found, target.images).max())
    if farthest > attack.ball.eps + ROUNDING:
        raise UserError(f"attack {name}: distance {farthest:.6f} exceeds eps {attack.ball.eps:.6f}")
    logits = target.logits(found, "after", 0)
    success = state.get("broken", logits.argmax(1) != target.labels)
    arrays = {
        "images": found,
        "success": success,
        "loss": cross_entropy(logits, target.labels),
        "queries": state["queries"],
    }
    return {key: values.cpu().numpy() for key, values in arrays.items()}


class _Kept:
    """The state of an attack under way, for a killed job to go on from."""

    def __init__(self, path: Path, identity: int, device: torch.device, every: float):
        self.path, self.identity, self.device, self.every = path, identity, device, every
        self.saved = time.monotonic()

    def load(self) -> tuple[State, int] | None:
        """State and steps done, if the file is of this very attack."""
        if not self.path.is_file():
            return None
        kept = torch.load(self.path, map_location=self.device, weights_only=True)
        return (kept["state"], kept["done"]) if kept["identity"] == self.identity else None

    def save(self, state: State, done: int) -> None:
        """Write the state if the last time was long ago."""
        if time.monotonic() - self.saved < self.every:
            return
        with Replacing(self.path) as temporary:
            torch.save({"identity": self.identity, "done": done, "state": state}, temporary)
        self.saved = time.monotonic()
