"""The second stage: adversarial images of a victim, checked to be in the ball and in [0, 1].

Beside the images the store has, for each, whether the attack succeeded, the cross-entropy of one
fresh answer, and the number of queries of the victim; and whether the clean image would have been a
success, where the attack judges that too.
"""

import io
import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from math import prod
from pathlib import Path

import torch

from puriflow.atomic import read_sealed, write_sealed
from puriflow.attacks.ball import Ball
from puriflow.attacks.base import Attack, Batch, Saved, State, cross_entropy
from puriflow.defence import Defence
from puriflow.diffusion.recomputation import Watch, watched
from puriflow.errors import UserError, on_disk
from puriflow.randomness import AFTER, AttackNoise
from puriflow.registry import Part, Parts
from puriflow.stages.base import Arrays, Inputs, run
from puriflow.store import Stage

log = logging.getLogger(__name__)
ULP = 2**-23  # of float32 at 1, and above that of every pixel
SAVE_EVERY = 60.0  # seconds that a killed attack loses at most, beside its current step
# Of the state: the adversarial images, of a judgement in the loop those of every rule, and what the
# attack's own judgements are beside `success`.
IMAGES = {"x_adv": "images", "x_majority": "images_majority", "x_worst": "images_worst"}
JUDGED = ("clean_success", "wrong", "voted_wrong", "control_wrong", "control_voted_wrong")


def write_attack(
    source: Stage,
    out: Path,
    attack: Part,
    victim: Parts,
    *,
    seed: int,
    device: torch.device,
    batch: int | None = None,
    save_every: float = SAVE_EVERY,
) -> Stage:
    """Attack every image of `source`.

    Args:
        source: a store of images.
        out: folder of the new one.
        attack: what attacks.
        victim: what is attacked: a classifier alone, or a defence with restorer or purifier.
        seed: of all draws, the attacker's and the victim's.
        device: to compute on.
        batch: images that are attacked together; default: as many as fit; always 1 on a CPU.
        save_every: seconds between two saves inside an attack.

    Raises:
        UserError: the images are not in [0, 1], or the attack left its ball.
    """
    method: Attack = attack.build()
    defence = Defence.from_parts(victim, seed=seed).to(device)
    found: dict[str, str] = {}
    batches_done = 0

    def adversarial(inputs: Inputs) -> Arrays:
        some = Batch(
            defence,
            torch.from_numpy(inputs.images).to(device),
            torch.from_numpy(inputs.labels).to(device),
            AttackNoise(seed, inputs.indices.tolist(), fixed=method.fixed),
        )
        nonlocal batches_done
        with watched() if batches_done == 0 else nullcontext(Watch()) as watch:
            arrays = attacked(attack.name, method, some, inputs.work, save_every)
        found.update(watch.said())
        batches_done += 1
        return arrays

    parts = {"attack": attack, **victim}
    return run(
        "attack",
        source,
        out,
        parts,
        adversarial,
        clean=True,
        seed=seed,
        device=device,
        # A CPU attacks one by one (see `in_batches`), and keeps what is done after each.
        batch=1 if device.type == "cpu" else batch,
        gradient=True,
        found=found,
    )


def attacked(
    name: str, attack: Attack, batch: Batch, work: Path, save_every: float = SAVE_EVERY
) -> Arrays:
    """The arrays of the store of a batch under attack, with which a killed job goes on.

    Args:
        name: what the attack is called.
        attack: what attacks.
        batch: under attack.
        work: folder of this very attack and victim.
        save_every: see `write_attack`.

    Raises:
        UserError: the attack left its ball.
    """
    progress = _Progress(work / "attack.pt", batch, batch.images.device, save_every)
    state = attack(batch, callback=progress.save, saved=progress.load())
    return _results(name, attack, batch, state)


@torch.no_grad()
def _results(name: str, attack: Attack, batch: Batch, state: State) -> Arrays:
    """The arrays of the store; the images are in the ball."""
    ball, x_adv = attack.ball, state["x_adv"].detach()
    images = {to: state[key].detach() for key, to in IMAGES.items() if key in state}
    for x in images.values():
        farthest = float(ball.distance(x, batch.images).max())
        if farthest > ball.eps + rounding(ball, x[0].shape):
            raise UserError(f"attack {name}: distance {farthest:.6f} exceeds eps {ball.eps:.6f}")
    logits = batch.logits(x_adv, AFTER)
    arrays = {
        **images,
        "success": state.get("success", logits.argmax(1) != batch.labels),
        "loss": cross_entropy(logits, batch.labels),
        "queries": state["queries"],
    }
    arrays |= {key: state[key] for key in JUDGED if key in state}
    return {key: values.cpu().numpy() for key, values in arrays.items()}


def rounding(ball: Ball, shape: Sequence[int]) -> float:
    """How far from the ball float32 may leave an image (C, H, W) that an attack put in it.

    Every pixel may be off by a unit in the last place, and the distance then by the norm of that.
    """
    return ULP if ball.norm == "Linf" else ULP * prod(shape) ** 0.5


class _Progress:
    """The state of an attack under way, for a killed job to go on from.

    The file `path` is in a folder that is of this very attack and victim.
    """

    def __init__(self, path: Path, batch: Batch, device: torch.device, every: float):
        self.path, self.indices, self.device = path, batch.noise.indices, device
        self.every, self.last = every, time.monotonic()

    def load(self) -> Saved | None:
        """State and steps done, if the file is of these images, or of more."""
        with on_disk(self.path):
            content = read_sealed(self.path)
        if content is None:
            return None
        found = torch.load(io.BytesIO(content), map_location=self.device, weights_only=True)
        rows = [found["indices"].index(i) for i in self.indices if i in found["indices"]]
        if len(rows) == len(self.indices):
            return {key: values[rows] for key, values in found["state"].items()}, found["done"]
        if rows:
            lost = f"{found['done']} steps of an attack on {len(found['indices'])} images"
            said = f"{lost} are lost, since {len(self.indices)} are attacked together now"
            log.warning(f"{said}; --batch keeps their number")
        return None

    def save(self, state: State, done: int) -> None:
        """Write the state if the last time was long ago."""
        if time.monotonic() - self.last < self.every:
            return
        content = io.BytesIO()
        torch.save({"indices": self.indices, "done": done, "state": state}, content)
        with on_disk(self.path):
            write_sealed(self.path, content.getvalue())
        self.last = time.monotonic()
