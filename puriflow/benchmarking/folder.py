"""The folder of a benchmark: what is asked there, and stores of what each attack made of images.

A folder is of one benchmark. Whatever is there of it is not made again, so that a killed one goes
on where it was, inside an image of a long attack.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puriflow.atomic import write_text
from puriflow.attacks.base import Batch
from puriflow.auditing.audit import audited
from puriflow.auditing.case import lacks_gradient
from puriflow.benchmarking.given import Given
from puriflow.benchmarking.identity import code_of, identity_of
from puriflow.benchmarking.presets import Chosen, Rung, options_of
from puriflow.benchmarking.record import MadeBy, digest_of
from puriflow.compute import folded
from puriflow.elsewhere import check_local
from puriflow.errors import UserError, on_disk
from puriflow.provenance import code_hash, machine, versions
from puriflow.randomness import JUDGED, AttackNoise
from puriflow.stages.attack import attacked
from puriflow.stages.base import Arrays, check_batch, fill
from puriflow.store import Provenance, Stage, Writer, open_stage

MODULE = "puriflow.benchmarking.folder"
ASKED = "asked.json"
AUDITED = 6  # images: so many can differ beyond chance
NO_GRADIENT = (
    "no gradient reaches the image through the defence, as under torch.no_grad() or behind a step "
    "function, so the attack cannot run: mend it, or take an attack that needs none, such as "
    "puriflow.attacks.square.build(...)"
)
CHEAP_BATCH = 32  # images in front of a classifier alone
GPU_BATCH = 4  # through a diffusion; halved where they find no room
Compute = Callable[[int, int, Path], Arrays]


class Bench:
    """A benchmark in its folder: `asked.json` says of what, `clean` and `attacks/` are stores."""

    def __init__(
        self, folder: Path, asked: Given, attacks: Chosen, draws: int, seed: int, batch: int | None
    ):
        self.folder, self.given, self.attacks = folder, asked, attacks
        self.draws, self.seed = draws, seed
        through = 1 if asked.device.type == "cpu" else GPU_BATCH
        default = CHEAP_BATCH if asked.victim.purifier is None else through
        self.batch = default if batch is None else batch
        check_batch(self.batch)
        self.made_by = MadeBy(
            puriflow=versions(MODULE)["puriflow"],
            code=code_hash(MODULE),
            versions=versions(MODULE),
            images=digest_of(asked.images.cpu().numpy()),
            labels=digest_of(asked.labels.numpy()),
            machine=machine(asked.device),
        )
        self.identity = identity_of(asked.defence)
        self.claim()

    def claim(self) -> None:
        """Say in the folder what is asked there.

        Raises:
            UserError: something else was, or it holds files of somebody else's.
        """
        rungs = self.attacks.rungs
        said: dict[str, Any] = self.made_by.model_dump(exclude={"machine"})
        said |= {"defence": self.identity, "n_draws": self.draws, "seed": self.seed}
        said |= {"attacks": {name: options_of(rung.attack) for name, rung in rungs.items()}}
        said |= {"code of attacks": code_of(type(rung.attack) for rung in rungs.values())}
        said |= {"batch": self.batch, "answers": self.given.first.double().cpu().tolist()}
        file = self.folder / ASKED
        check_local(self.folder, "out")
        with on_disk(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not file.is_file():
                if any(self.folder.iterdir()):
                    raise UserError(
                        f"{self.folder} is not empty, and no benchmark: name a new folder"
                    )
                write_text(file, json.dumps(said, indent=1) + "\n")
                return
            before = read(file)
        if before is None:
            raise UserError(f"{file} was damaged: remove the folder, or name a new one")
        said = json.loads(json.dumps(said))
        if not self.given.repeatable or near(said["answers"], before.get("answers")):
            before["answers"] = said["answers"]  # in the last digits
        other = sorted(
            key for key in said.keys() | before.keys() if said.get(key) != before.get(key)
        )
        if other:
            raise UserError(
                f"{self.folder} has a benchmark that differs in {', '.join(other)}: name a new "
                "folder, or remove this one"
            )

    def stored(self, place: str, compute_batch: Compute) -> Stage:
        """The store of a place; made, or gone on with, if it is not there.

        Its provenance is what the folder was claimed for.
        """
        folder = self.folder / place
        if (folder / "manifest.json").is_file():
            return open_stage(folder)
        provenance: Provenance = {
            "stage": f"benchmark {place}",
            "parameters": {"n_draws": self.draws},
            "seed": self.seed,
            "code": self.made_by.code,
            "weights": {"defence": self.identity, "images": self.made_by.images},
            "versions": self.made_by.versions,
            "upstream": {},
        }
        writer = Writer(
            folder,
            "images" if place != "clean" else "answers",
            labels=self.given.labels.numpy(),
            indices=np.arange(len(self.given.labels)),
            provenance=provenance,
            machine=self.made_by.machine,
        )
        return fill(
            writer,
            lambda start, stop: compute_batch(start, stop, writer.work),
            batch=self.batch,
            device=str(self.given.device),
        )

    def some(self, rung: Rung | None, start: int, stop: int) -> Batch:
        """Some of the images, in front of the defence or of what a rung attacks."""
        victim, device = self.given.victim if rung is None else rung.victim, self.given.device
        fixed = rung is not None and rung.attack.fixed
        noise = AttackNoise(self.seed, range(start, stop), fixed=fixed)
        x, y = (t[start:stop].to(device) for t in (self.given.images, self.given.labels))
        return Batch(victim, x, y, noise)

    def clean(self, start: int, stop: int, work: Path) -> Arrays:
        """Answers to clean images."""
        batch = self.some(None, start, stop)
        return {"answers": self.answers(batch, batch.images)}

    def attacked(self, name: str, rung: Rung, start: int, stop: int, work: Path) -> Arrays:
        """What an attack makes of images, and fresh answers of the defence to them."""
        try:
            arrays = dict(attacked(name, rung.attack, self.some(rung, start, stop), work))
        except RuntimeError as error:
            if lacks_gradient(error):
                raise UserError(NO_GRADIENT) from None
            raise
        batch = self.some(None, start, stop)
        x_adv = torch.from_numpy(arrays["images"]).to(batch.images)
        return arrays | {"answers": self.answers(batch, x_adv)}

    @torch.no_grad()
    def answers(self, batch: Batch, x: Tensor) -> np.ndarray:
        """Logits (n, draws, classes) of images by draws that no attack has."""
        groups = [batch.logits(x, JUDGED, draws) for draws in folded(x, range(self.draws))]
        logits = torch.cat(groups).unflatten(0, (self.draws, -1)).transpose(0, 1)
        return logits.float().cpu().numpy()

    def made(self, name: str) -> Stage:
        """The store of an attack."""
        rung = self.attacks.rungs[name]

        def attack(start: int, stop: int, work: Path) -> Arrays:
            return self.attacked(name, rung, start, stop, work)

        return self.stored(f"attacks/{name}", attack)

    def audit(self) -> dict[str, Any] | str:
        """The quick checks of the first attack on a few images; kept in the folder."""
        file = self.folder / "audit.json"
        if (kept := read(file)) is not None:
            return kept
        name, rung = next((n, r) for n, r in self.attacks.rungs.items() if best(r, self.attacks))
        count = min(len(self.given.labels), AUDITED)
        if count < 2:
            return "it takes two images or more"
        try:
            found = json.loads(
                audited(self.some(rung, 0, count), rung.attack, name, quick=True).to_json()
            )
        except UserError as error:
            return str(error)
        write_text(file, json.dumps(found))
        return found


def read(file: Path) -> dict[str, Any] | None:
    """A file of JSON in the folder; None if it is not there, or no such thing."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def near(one: Any, other: Any) -> bool:
    """Whether logits are the same but for what another machine rounds."""
    try:
        a, b = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    except (ValueError, TypeError):
        return False
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(a).max())


def best(rung: Rung, attacks: Chosen) -> bool:
    """Whether a rung is the one to audit: `full` of a ladder, else the first."""
    return rung is attacks.rungs.get("full", next(iter(attacks.rungs.values())))
