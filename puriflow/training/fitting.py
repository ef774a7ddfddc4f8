"""The training loop: seeded by step, so that a resumed run equals one that was never killed.

Everything random in a step comes from a generator of (seed, step). The state (network, moving
average, optimiser, step) is saved as a checkpoint every few minutes and written atomically.
"""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from puriflow.progress import Progress
from puriflow.randomness import derive

Loss = Callable[[Callable[..., Tensor], torch.Generator], Tensor]


class Recipe(BaseModel):
    """The numbers of a training run.

    `images` is a name of the configuration's `training.images`; `crop` the side of what the
    network sees.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: str = "photographs"
    steps: int
    batch: int
    crop: int
    optimiser: Literal["adam", "sgd"] = "adam"
    weight_decay: float = 0.0
    learning_rate: float = 1e-3
    warmup: int = 100
    ema: float = 0.999
    seed: int = 0
    precision: Literal["bfloat16", "float32"] = "bfloat16"


@dataclass(frozen=True)
class Run:
    """What a run is called, and where it keeps its state.

    Attributes:
        name: of what is trained; also selects the random draws.
        identity: of all that the run depends on (network, recipe, photographs).
        checkpoint: where the state is kept, and removed at the end; an existing one of the same
            identity is resumed.
        log: JSON lines with step, loss (mean since the last line), learning rate and seconds.
    """

    name: str
    identity: str
    checkpoint: Path
    log: Path


def fit(network: nn.Module, loss: Loss, recipe: Recipe, run: Run) -> tuple[nn.Module, float]:
    """Train `network` with a cosine schedule of the learning rate.

    Args:
        network: trained in place, on the device it is on.
        loss: of the network (as a function) and a generator, a scalar.
        recipe: steps, learning rate, seed and the like.
        run: its name and files.

    Returns:
        The moving average of the network, and the seconds that the run took, in all processes.
    """
    network.train().requires_grad_(True)
    _keep_ends_in_float32(network)
    device = next(network.parameters()).device
    trained = [p for n, p in network.named_parameters() if "_mean" not in n]
    optimiser = _optimiser(trained, recipe)
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=_average(recipe.ema))
    autocast = torch.autocast(device.type, torch.bfloat16, recipe.precision == "bfloat16")
    predict = autocast(network.__call__)
    parts = (network, average, optimiser)
    step, spent = _resume(run, device, parts)
    run.log.parent.mkdir(parents=True, exist_ok=True)
    if step == 0:
        run.log.unlink(missing_ok=True)
    saved = time.monotonic()
    started = saved - spent
    losses: list[float] = []
    with Progress(run.name, total=recipe.steps, unit="steps", done=step) as progress:
        while step < recipe.steps:
            rate = _rate(step, recipe)
            for group in optimiser.param_groups:
                group["lr"] = rate
            generator = torch.Generator().manual_seed(derive(recipe.seed, run.name, step))
            value = loss(predict, generator)
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            average.update_parameters(network)
            step += 1
            losses.append(value.item())
            progress.advance(1)
            if step % 100 == 0 or step == recipe.steps:
                line = {"step": step, "loss": sum(losses) / len(losses), "rate": rate}
                line["seconds"] = round(time.monotonic() - started, 1)
                with run.log.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                losses.clear()
            if time.monotonic() - saved > 120:
                saved = time.monotonic()
                _save(run, step, saved - started, parts)
    run.checkpoint.unlink(missing_ok=True)
    return average.module.eval().requires_grad_(False), time.monotonic() - started


def _average(decay: float) -> Callable[..., None]:
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


def _rate(step: int, recipe: Recipe) -> float:
    warm = min(1.0, (step + 1) / max(recipe.warmup, 1))
    return recipe.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))


def _keep_ends_in_float32(network: nn.Module) -> None:
    """Leave autocast out of convolutions with at most 12 channels on a side.

    Those read or write images, and bfloat16 has 8 bits of mantissa: it would round away the small
    noise that is to be removed. (In a very narrow net, others are among them.)
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and min(module.in_channels, module.out_channels) <= 12:
            module.register_forward_pre_hook(lambda _, args: tuple(a.float() for a in args))
            kind = type(module)
            module.__class__ = type(kind.__name__, (kind,), {"forward": _float32(kind.forward)})


def _float32(forward: Callable) -> Callable:
    def wrapped(self: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return forward(self, x)

    return wrapped


Parts = tuple[nn.Module, nn.Module, torch.optim.Optimizer]


def _save(run: Run, step: int, seconds: float, parts: Parts) -> None:
    path = run.checkpoint
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    state: dict[str, Any] = {"identity": run.identity, "step": step, "seconds": seconds}
    torch.save({**state, "parts": [p.state_dict() for p in parts]}, temporary)
    os.replace(temporary, path)


def _resume(run: Run, device: torch.device, parts: Parts) -> tuple[int, float]:
    """Load the state of an earlier run; returns its steps and seconds (0 if there is none)."""
    if not run.checkpoint.exists():
        return 0, 0.0
    state = torch.load(run.checkpoint, map_location=device, weights_only=True)
    if state["identity"] != run.identity:  # of another recipe: never to be resumed
        return 0, 0.0
    for part, values in zip(parts, state["parts"], strict=True):
        part.load_state_dict(values)
    return state["step"], state["seconds"]
