"""`puriflow.benchmark`: attack a defence, ask it afresh about what came out, say what is left."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from puriflow import compute
from puriflow.atomic import write_text
from puriflow.attacks.ball import Ball
from puriflow.attacks.base import Attack
from puriflow.benchmarking.folder import Bench
from puriflow.benchmarking.given import given
from puriflow.benchmarking.presets import Threat, chosen, options_of
from puriflow.benchmarking.record import (
    SCHEMA,
    Accuracies,
    Accuracy,
    Attacked,
    Benchmark,
    Defended,
    Outcome,
    Pair,
)
from puriflow.config import Config, load_config
from puriflow.defence import checked_seed
from puriflow.errors import UserError
from puriflow.kernels import chosen as chosen_kernels
from puriflow.metrics.accuracy import judged, judged_in_loop, wilson
from puriflow.metrics.rules import OfAnswers, Rule
from puriflow.options import Norm, fraction, shown
from puriflow.store import Stage

RECORD = "benchmark.json"
OF_ANSWERS: tuple[OfAnswers, ...] = ("average", "majority", "worst")
MOST_DRAWS = 10_000


def benchmark(
    defence: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: str | Attack | Sequence[str | Attack] = "auto",
    eps: float | str | None = None,
    norm: Norm | None = None,
    n_draws: int = 10,
    seed: int = 0,
    batch: int | None = None,
    device: str | torch.device | None = None,
    out: str | Path | None = None,
    config: Config | str | Path | None = None,
) -> Benchmark:
    """Judge a defence: its accuracy on images, and on what published attacks make of them.

    Args:
        defence: any torch module from [0, 1] images to logits, in evaluation mode; or a
            `puriflow.Defence`, also of parts of your own. What draws random numbers takes them from
            torch's own generator, or from the noise that a purifier is given.
        images: (N, 3, H, W) in [0, 1].
        labels: (N,) classes.
        attack: `auto` (`standard` for a deterministic defence, else `random`), a preset of
            puriflow.benchmarking.presets, the name of an attack of the track, an attack, or
            several: the worst counts for each image.
        eps: radius of a preset, on [0, 1], or a fraction such as "4/255"; by default 8/255, of L2
            always given.
        norm: of a preset's ball; by default Linf.
        n_draws: fresh answers that judge an image, of a random defence.
        seed: of all draws.
        batch: images that are attacked together: 32 in front of a classifier, and through a
            purifier four on a GPU and one on a CPU.
        device: where the defence is; by default wherever that may be.
        out: folder in which the same call goes on after a kill, and which keeps the images and
            `benchmark.json`; by default one that is gone at the end.
        config: a track, or its file, of attacks by their names; by default the default one.

    Raises:
        UserError: one of these is something else, or `out` has another benchmark.
    """
    draws, number = checked_draws(n_draws), checked_seed(seed)
    together = checked_batch(batch)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        compute.device(gpu=False, threads=None),  # the defence is where it is
        tempfile.TemporaryDirectory() if out is None else nullcontext(out) as folder,
        ExitStack() as stack,
    ):
        asked = given(defence, images, labels, number, device)
        stack.enter_context(chosen_kernels(asked.images.device))
        draws = draws if asked.random else 1
        radius, chosen_norm = ball_of(eps, norm)
        threat = Threat(
            asked.victim,
            asked.random,
            asked.classes,
            radius,
            chosen_norm,
            draws,
            given=eps is not None or norm is not None,
        )
        attacks = chosen(attack, threat, lambda: track_of(config))
        for rung in attacks.rungs.values():
            rung.attack.ball.check_images(asked.images)
        record = judgement(Bench(Path(folder), asked, attacks, draws, number, together))
        write_text(Path(folder) / RECORD, record.to_json())
        return record


def ball_of(eps: float | str | None, norm: Norm | None) -> tuple[float, Norm]:
    """The radius and the norm of a preset; a UserError if there is no such ball."""
    norm = "Linf" if norm is None else norm
    if eps is None and norm != "Linf":
        raise UserError(f"eps is not given, and what {norm} takes is none of Linf's: give one")
    ball = Ball(fraction("8/255" if eps is None else eps), norm)
    return ball.eps, ball.norm


def track_of(config: Config | str | Path | None) -> Config:
    """The track that is given, or the default one."""
    return config if isinstance(config, Config) else load_config(config)


def checked_batch(batch: int | None) -> int | None:
    """How many images are attacked together; a UserError if that is no number of them."""
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise UserError(f"batch is {shown(batch)}, but must be a whole number from 1")
    return batch


def checked_draws(n_draws: int) -> int:
    """How many answers judge an image; a UserError if that is no number of them."""
    if isinstance(n_draws, bool) or not isinstance(n_draws, int) or not 1 <= n_draws <= MOST_DRAWS:
        raise UserError(
            f"n_draws is {shown(n_draws)}, but must be a whole number from 1 to {MOST_DRAWS}"
        )
    return n_draws


def judgement(bench: Bench) -> Benchmark:
    """The record of a benchmark, from stores that are made where they are not there."""
    clean = bench.stored("clean", bench.clean)
    stores = {name: bench.made(name) for name in bench.attacks.rungs}
    random = bench.given.random
    standard = right(clean, random) | (controls(stores.values()) if random else {})
    robust = {name: right(store, random) for name, store in stores.items()}
    rules = [rule for rule in standard if any(rule in one for one in robust.values())]
    standard = {rule: standard[rule] for rule in rules}
    least = {
        rule: np.minimum.reduce([one[rule] for one in robust.values() if rule in one])
        for rule in rules
    }
    worst = np.argmin([one["average"] for one in robust.values()], axis=0)
    by = [list(stores)[which] for which in worst]
    ball = next(iter(bench.attacks.rungs.values())).attack.ball
    record = Benchmark(
        schema=SCHEMA,
        defence=defended(bench),
        attack=bench.attacks.name,
        cut=bench.attacks.cut,
        norm=ball.norm,
        eps=ball.eps,
        n=clean.count,
        n_draws=bench.draws,
        seed=bench.seed,
        standard=accuracies(standard, spread([clean])),
        robust=accuracies(least, spread(list(stores.values()), worst)),
        attacks=[left(bench, name, robust[name], store) for name, store in stores.items()],
        images=list(outcomes(clean.read("label"), standard, least, by)),
        audit=bench.audit(),
        made_by=bench.made_by,
    )
    record.hold({name: torch.from_numpy(store.read("images")) for name, store in stores.items()})
    return record


def right(store: Stage, random: bool) -> dict[Rule, np.ndarray]:
    """How right a defence is about each image of a store (n,), by every rule."""
    labels, found = store.read("label"), dict[Rule, np.ndarray]()
    for rule in OF_ANSWERS if random else OF_ANSWERS[:1]:
        found[rule] = judged(store.read("answers"), labels, rule)
    if random and "wrong" in store.manifest["arrays"]:
        found |= judged_in_loop(store.read("wrong"), store.read("voted_wrong"))
    return found


def controls(stores: Iterable[Stage]) -> dict[Rule, np.ndarray]:
    """The same of the clean images in the loops of attacks, the lowest of all."""
    found: dict[Rule, np.ndarray] = {}
    for store in stores:
        if "control_wrong" in store.manifest["arrays"]:
            arrays = (store.read(name) for name in ("control_wrong", "control_voted_wrong"))
            for rule, one in judged_in_loop(*arrays).items():
                found[rule] = np.minimum(found.get(rule, one), one)
    return found


def spread(stores: Sequence[Stage], worst: np.ndarray | None = None) -> Pair | None:
    """The lowest and highest accuracy over draws, for each image in the store that is its worst."""
    labels = stores[0].read("label")
    which = np.zeros_like(labels) if worst is None else worst
    answers = np.stack([store.read("answers").argmax(2) for store in stores])
    by_draw = (answers[which, np.arange(len(labels))] == labels[:, None]).mean(0)
    return None if len(by_draw) == 1 else (float(by_draw.min()), float(by_draw.max()))


def outcomes(
    labels: np.ndarray,
    standard: Mapping[Rule, np.ndarray],
    robust: Mapping[Rule, np.ndarray],
    worst: Sequence[str],
) -> Iterator[Outcome]:
    """What became of each image."""
    for i, label in enumerate(labels):
        of_clean = {rule: float(one[i]) for rule, one in standard.items()}
        attacked = {rule: float(one[i]) for rule, one in robust.items()}
        yield Outcome(label=int(label), standard=of_clean, robust=attacked, attack=worst[i])


def defended(bench: Bench) -> Defended:
    """What was judged."""
    asked = bench.given
    return Defended(
        name=asked.name,
        random=asked.random,
        parameters=sum(parameter.numel() for parameter in asked.victim.parameters()),
        network_evaluations=asked.network_evaluations,
        sha256=bench.identity,
    )


def left(bench: Bench, name: str, robust: Mapping[Rule, np.ndarray], store: Stage) -> Attacked:
    """What one attack left."""
    rung = bench.attacks.rungs[name]
    return Attacked(
        name=name,
        through=rung.through,
        options=options_of(rung.attack),
        robust=accuracies(robust, spread([store])),
        passes=float(store.read("queries").mean()),
        seconds=store.seconds_per_image or 0.0,
    )


def accuracies(right: Mapping[Rule, np.ndarray], spread: tuple[float, float] | None) -> Accuracies:
    """Accuracies of how right a defence is about each image (n,), by rule."""
    return {
        rule: Accuracy(
            share=float(one.mean()),
            interval=wilson(float(one.sum()), len(one)),
            spread=spread if rule == "average" else None,
        )
        for rule, one in right.items()
    }
