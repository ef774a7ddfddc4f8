"""The training loop: seeded by step, so that a resumed run equals one that was never killed.

Everything random in a step comes from a generator of (seed, step). The state (network, moving
average, optimiser, step) is saved as a checkpoint every few minutes and written atomically.
"""

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from puriflow.progress import Progress
from puriflow.seeding import derive

Loss = Callable[[Callable[..., Tensor], torch.Generator], Tensor]


class Recipe(BaseModel):
    """The numbers of a training run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int
    batch: int
    crop: int
    learning_rate: float = 1e-3
    warmup: int = 100
    ema: float = 0.999
    seed: int = 0
    precision: str = "bfloat16"


def fit(
    network: nn.Module, loss: Loss, recipe: Recipe, *, checkpoint: Path, log: Path, name: str
) -> nn.Module:
    """Train `network` by Adam with a cosine schedule and return its moving average.

    Args:
        network: trained in place, on the device it is on.
        loss: of the network (as a function) and a generator, a scalar.
        recipe: steps, learning rate, seed and the like.
        checkpoint: where the state is kept; an existing one is resumed, and removed at the end.
        log: JSON lines with step, loss (mean since the last line), learning rate and seconds.
        name: what the progress line calls the run.
    """
    network.train().requires_grad_(True)
    _keep_ends_in_float32(network)
    device = next(network.parameters()).device
    trained = [p for n, p in network.named_parameters() if "_mean" not in n]
    optimiser = torch.optim.Adam(trained, lr=recipe.learning_rate, betas=(0.9, 0.99))
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.ema)
    )
    autocast = torch.autocast(device.type, torch.bfloat16, recipe.precision == "bfloat16")
    predict = autocast(network.__call__)
    step = _resume(checkpoint, network, average, optimiser, device)
    log.parent.mkdir(parents=True, exist_ok=True)
    started = saved = time.monotonic()
    losses: list[float] = []
    with Progress(name, total=recipe.steps, unit="steps", done=step) as progress:
        while step < recipe.steps:
            rate = _rate(step, recipe)
            for group in optimiser.param_groups:
                group["lr"] = rate
            generator = torch.Generator().manual_seed(derive(recipe.seed, name, step))
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
                with log.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                losses.clear()
            if time.monotonic() - saved > 120:
                _save(checkpoint, step, network, average, optimiser)
                saved = time.monotonic()
    checkpoint.unlink(missing_ok=True)
    return average.module.eval().requires_grad_(False)


def _rate(step: int, recipe: Recipe) -> float:
    warm = min(1.0, (step + 1) / max(recipe.warmup, 1))
    return recipe.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))


def _keep_ends_in_float32(network: nn.Module) -> None:
    """Leave autocast out of convolutions that read or write images.

    bfloat16 has 8 bits of mantissa: it would round away the small noise that is to be removed.
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


def _save(path: Path, step: int, *parts: nn.Module | torch.optim.Optimizer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save({"step": step, "parts": [p.state_dict() for p in parts]}, temporary)
    os.replace(temporary, path)


def _resume(
    path: Path,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    device: torch.device,
) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    for part, values in zip((network, average, optimiser), state["parts"], strict=True):
        part.load_state_dict(values)
    return state["step"]
