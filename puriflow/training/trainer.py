"""The training loop: seeded by step, so that a resumed run equals one that was never killed.

Everything random in a step comes from a generator of (seed, step). A checkpoint (network, moving
average, optimiser, step, log) is saved every two minutes and after the last step, as a sealed file.
"""

import io
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from puriflow.atomic import read_sealed, write_sealed, write_text
from puriflow.options import MOST_SEED, Count, Fraction, Side, Trained, real, whole
from puriflow.precision import keep_ends_in_float32, lowered
from puriflow.progress import Progress
from puriflow.randomness import derive

log = logging.getLogger(__name__)
CHECKPOINT_EVERY = 120  # seconds
LOG_EVERY = 100  # steps
Predict = Callable[..., Tensor]  # the network that is trained, as a function
Loss = Callable[[Predict, torch.Generator], Tensor]  # of a step, with the step's generator
Rate = Annotated[float, real(1e-9, 10)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, whole(0, MOST_SEED)]
Stateful = tuple[nn.Module, nn.Module, torch.optim.Optimizer]  # all that a checkpoint holds


class AnyRecipe(BaseModel, extra="forbid", frozen=True):
    """What all recipes have."""

    images: str = "photographs"  # name in the configuration's `training.images`
    seed: Seed = 0  # of the network's initialisation and of all draws


class Recipe(AnyRecipe):
    """The numbers of a training run."""

    steps: Annotated[int, whole(1, 10**8)]  # of the optimiser
    batch: Count  # images of a step
    crop: Side  # side of what the network sees, in pixels
    optimiser: Literal["adam", "sgd"] = "adam"  # AdamW, or SGD with Nesterov's momentum
    weight_decay: Fraction = 0.0
    learning_rate: Rate = 1e-3  # its largest value; it falls to 0 as a cosine
    warmup: Annotated[int, whole(0, 10**8)] = 100  # steps until the largest value is reached
    ema: Decay = 0.999  # of the moving average of the weights; 0 for none
    precision: Trained = "bfloat16"


@dataclass(frozen=True)
class Run:
    """What a training run is called, and where it keeps its state."""

    name: str  # of what is trained; also selects the random draws
    identity: str  # of all that the run depends on (network, recipe, images, code)
    checkpoint: Path  # resumed if it has the same identity; whoever has saved all else removes it
    log: Path  # JSON lines: step, loss (mean since the last line), learning rate and seconds


class Trainer(NamedTuple):
    """How the parts of a role, or of a kind, are trained and measured."""

    recipe: type[AnyRecipe]
    data: Callable[[Path, int], Any]  # of a folder, and how many images are held out
    train: Callable[..., float]  # of the built part, the data, the recipe and the run; seconds
    measure: Callable[..., list[str]]  # of the built part, the data and the recipe; for the card


@dataclass
class Progressed:
    """How far a run is, beside its networks."""

    step: int = 0  # that were done
    seconds: float = 0.0  # that they took, in all processes
    losses: list[float] = field(default_factory=list)  # since the last line of the log
    lines: list[str] = field(default_factory=list)  # of the log


def train(network: nn.Module, loss: Loss, recipe: Recipe, run: Run) -> tuple[nn.Module, float]:
    """Train `network` in place, on the device it is on, or go on with what was begun.

    A run that was killed after its last step only loads what it came to.

    Returns:
        The moving average of the network, and the seconds that the run took, in all processes.
    """
    network.train().requires_grad_(True)
    keep_ends_in_float32(network)
    device = next(network.parameters()).device
    trained = [p for n, p in network.named_parameters() if "_mean" not in n]
    optimiser = _optimiser(trained, recipe)
    ema = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=_ema_update(recipe.ema))

    def predict(*inputs: Tensor) -> Tensor:
        with lowered(device, recipe.precision):
            return network(*inputs)

    states = (network, ema, optimiser)
    run.log.parent.mkdir(parents=True, exist_ok=True)
    done = _resume(run, device, states)
    write_text(run.log, "".join(done.lines))  # as it was at that step
    saved = time.monotonic()
    started = saved - done.seconds
    with Progress(run.name, total=recipe.steps, unit="steps", done=done.step) as progress:
        while done.step < recipe.steps:
            learning_rate = _learning_rate(done.step, recipe)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate
            generator = torch.Generator().manual_seed(derive(recipe.seed, run.name, done.step))
            value = loss(predict, generator)
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            ema.update_parameters(network)
            done.step += 1
            done.losses.append(value.item())
            done.seconds = time.monotonic() - started
            progress.advance(1)
            is_last = done.step == recipe.steps
            if done.step % LOG_EVERY == 0 or is_last:
                done.lines.append(_line(done, learning_rate))
                done.losses.clear()
                write_text(run.log, "".join(done.lines))
            if time.monotonic() - saved > CHECKPOINT_EVERY or is_last:
                saved = time.monotonic()
                _save(run, done, states)
    return ema.module.eval().requires_grad_(False), done.seconds


def _line(done: Progressed, learning_rate: float) -> str:
    """A line of the log."""
    mean = sum(done.losses) / len(done.losses)
    said = {"step": done.step, "loss": mean, "rate": learning_rate}
    return json.dumps({**said, "seconds": round(done.seconds, 1)}) + "\n"


def _ema_update(decay: float) -> Callable[..., None]:
    """A moving average whose memory grows to 1 / (1 - decay) steps, a tenth of those done at most.

    With the full memory from the first step, some of the untrained network stays in the average:
    8 % after 2500 steps at 0.999, which darkened an ESRGAN's images by 0.1.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        steps = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + steps) / (10 + steps)))

    return update


def _optimiser(trained: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimiser == "adam":
        return torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.99), weight_decay=decay)
    return torch.optim.SGD(trained, lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)


def _learning_rate(step: int, recipe: Recipe) -> float:
    warm = min(1.0, (step + 1) / max(recipe.warmup, 1))
    return recipe.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))


def _save(run: Run, done: Progressed, states: Stateful) -> None:
    content = io.BytesIO()
    values = [state.state_dict() for state in states]
    torch.save({"identity": run.identity, "done": vars(done), "states": values}, content)
    write_sealed(run.checkpoint, content.getvalue())


def _resume(run: Run, device: torch.device, states: Stateful) -> Progressed:
    """Load the checkpoint of an earlier run, if there is one, of the same; what it had done."""
    content = read_sealed(run.checkpoint)
    if content is None:
        return Progressed()
    checkpoint = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    if checkpoint["identity"] != run.identity:
        why = "of another network, recipe, start, folder of images or code"
        log.warning(f"{run.checkpoint} is {why}: {run.name} is trained from its first step")
        return Progressed()
    for state, values in zip(states, checkpoint["states"], strict=True):
        state.load_state_dict(values)
    return Progressed(**checkpoint["done"])
