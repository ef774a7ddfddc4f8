"""The training loop: seeded by step, so that a resumed run equals one that was never killed.

Everything random in a step comes from a generator of (seed, step). A checkpoint (network, moving
average, optimiser, step) is saved every two minutes; it is there whole or not at all.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from puriflow.atomic import Replacing
from puriflow.progress import Progress
from puriflow.randomness import derive

CHECKPOINT_EVERY = 120  # seconds
LOG_EVERY = 100  # steps
Predict = Callable[..., Tensor]  # the network that is trained, as a function
Loss = Callable[[Predict, torch.Generator], Tensor]  # of a step, with the step's generator
Stateful = tuple[nn.Module, nn.Module, torch.optim.Optimizer]  # all that a checkpoint holds


class Recipe(BaseModel, extra="forbid", frozen=True):
    """The numbers of a training run."""

    images: str = "photographs"  # name in the configuration's `training.images`
    steps: int  # of the optimiser
    batch: int  # images of a step
    crop: int  # side of what the network sees, in pixels
    optimiser: Literal["adam", "sgd"] = "adam"  # AdamW, or SGD with Nesterov's momentum
    weight_decay: float = 0.0
    learning_rate: float = 1e-3  # its largest value; it falls to 0 as a cosine
    warmup: int = 100  # steps until the largest value is reached
    ema: float = 0.999  # decay of the moving average of the weights; 0 for none
    seed: int = 0  # of the network's initialisation and of all draws
    precision: Literal["bfloat16", "float32"] = "bfloat16"  # bfloat16 by autocast


@dataclass(frozen=True)
class Run:
    """What a training run is called, and where it keeps its state."""

    name: str  # of what is trained; also selects the random draws
    identity: str  # of all that the run depends on (network, recipe, images)
    checkpoint: Path  # resumed if it has the same identity; removed at the end
    log: Path  # JSON lines: step, loss (mean since the last line), learning rate and seconds


def train(network: nn.Module, loss: Loss, recipe: Recipe, run: Run) -> tuple[nn.Module, float]:
    """Train `network` in place, on the device it is on.

    Returns:
        The moving average of the network, and the seconds that the run took, in all processes.
    """
    network.train().requires_grad_(True)
    _keep_ends_in_float32(network)
    device = next(network.parameters()).device
    trained = [p for n, p in network.named_parameters() if "_mean" not in n]
    optimiser = _optimiser(trained, recipe)
    ema = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=_ema_update(recipe.ema))
    autocast = torch.autocast(device.type, torch.bfloat16, recipe.precision == "bfloat16")
    predict = autocast(network.__call__)
    step, spent = _resume(run, device, (network, ema, optimiser))
    run.log.parent.mkdir(parents=True, exist_ok=True)
    if step == 0:
        run.log.unlink(missing_ok=True)
    saved = time.monotonic()
    started = saved - spent
    losses: list[float] = []
    with Progress(run.name, total=recipe.steps, unit="steps", done=step) as progress:
        while step < recipe.steps:
            learning_rate = _learning_rate(step, recipe)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate
            generator = torch.Generator().manual_seed(derive(recipe.seed, run.name, step))
            value = loss(predict, generator)
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            ema.update_parameters(network)
            step += 1
            losses.append(value.item())
            progress.advance(1)
            if step % LOG_EVERY == 0 or step == recipe.steps:
                line = {"step": step, "loss": sum(losses) / len(losses), "rate": learning_rate}
                line["seconds"] = round(time.monotonic() - started, 1)
                with run.log.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                losses.clear()
            if time.monotonic() - saved > CHECKPOINT_EVERY:
                saved = time.monotonic()
                _save(run, step, saved - started, (network, ema, optimiser))
    run.checkpoint.unlink(missing_ok=True)
    return ema.module.eval().requires_grad_(False), time.monotonic() - started


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


def _keep_ends_in_float32(network: nn.Module) -> None:
    """Leave autocast out of convolutions with at most 12 channels on a side.

    Those read or write images, and bfloat16 has 8 bits of mantissa: it would round away the small
    noise that is to be removed. (In a very narrow net, others are among them.)
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and min(module.in_channels, module.out_channels) <= 12:
            own = type(module)
            module.__class__ = type(own.__name__, (own,), {"forward": _float32(own.forward)})


def _float32(forward: Callable) -> Callable:
    def wrapped(self: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return forward(self, x.float())

    return wrapped


def _save(run: Run, step: int, seconds: float, states: Stateful) -> None:
    checkpoint: dict[str, Any] = {"identity": run.identity, "step": step, "seconds": seconds}
    checkpoint["states"] = [state.state_dict() for state in states]
    run.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with Replacing(run.checkpoint) as temporary:
        torch.save(checkpoint, temporary)


def _resume(run: Run, device: torch.device, states: Stateful) -> tuple[int, float]:
    """Load the checkpoint of an earlier run; returns its steps and seconds (0 if there is none)."""
    if run.checkpoint.exists():
        checkpoint = torch.load(run.checkpoint, map_location=device, weights_only=True)
        if checkpoint["identity"] == run.identity:  # of another recipe, it is never resumed
            for state, values in zip(states, checkpoint["states"], strict=True):
                state.load_state_dict(values)
            return checkpoint["step"], checkpoint["seconds"]
    return 0, 0.0
