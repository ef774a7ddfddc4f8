"""Which attacks a benchmark makes: presets by their published settings, or attacks by name.

| preset | attacks | settings |
|---|---|---|
| `standard` | AutoAttack: APGD-CE, APGD-T, FAB-T, Square | Croce and Hein (2020) |
| `random` | PGD+EOT, and APGD-CE and -DLR with EOT, by the exact gradient, judged in their loop | Lee and Kim (2023): 200 steps of 0.007, EOT 20; auto-attack's `rand`: 100 iterations, EOT 20 |
| `ladder` | that PGD+EOT by every gradient, from none of the defence's to all of it | as `random` |
| `quick` | a few steps and draws of the same | none: it is cut, and says so |
"""  # noqa: E501

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from math import isclose
from typing import Any, NamedTuple

from puriflow.attacks import apgd, autoattack, pgd
from puriflow.attacks.ball import Ball
from puriflow.attacks.base import Attack
from puriflow.auditing.modules import stands_alone
from puriflow.config import load_config
from puriflow.defence import Defence
from puriflow.errors import UserError, unknown
from puriflow.options import Norm

EPS = 8 / 255
STEP_SIZE, N_ITER, EOT_ITER = 0.007, 200, 20  # Lee and Kim's, for 4/255 as for 8/255
QUICK_ITER, QUICK_EOT = 10, 4


class Rung(NamedTuple):
    """An attack, and what it goes through: the defence, or something in its place."""

    attack: Attack
    victim: Defence
    through: str = "the defence"


class Threat(NamedTuple):
    """What attacks have in common.

    Attributes:
        victim: the defence that is judged.
        random: whether it is.
        classes: of its logits.
        eps: radius, on [0, 1].
        norm: of the ball.
        n_draws: answers of an evaluation.
    """

    victim: Defence
    random: bool
    classes: int
    eps: float
    norm: Norm
    n_draws: int

    @property
    def step_size(self) -> float:
        """Lee and Kim's, but never longer than half the radius."""
        return min(STEP_SIZE, self.eps / 2)

    def pgd_eot(self, **options: Any) -> Attack:
        """Lee and Kim's PGD+EOT; of a deterministic victim one draw is all there is."""
        draws = EOT_ITER if self.random else 1
        given: dict[str, Any] = {"eps": self.eps, "norm": self.norm, "step_size": self.step_size}
        given |= {"n_iter": N_ITER, "eot_iter": draws, "n_eval": self.n_draws, **options}
        return pgd.build(**given, random_start=False)


class Chosen(NamedTuple):
    """The attacks of a benchmark by name, and why they are less than what is published, if so."""

    name: str
    rungs: Mapping[str, Rung]
    cut: str = ""


def chosen(asked: str | Attack | Sequence[str | Attack], threat: Threat) -> Chosen:
    """The attacks of a preset, of names of the default track, or as they are given.

    Raises:
        UserError: there is no such attack, it is no attack, it is not for this defence, or it is in
            another ball than was asked for.
    """
    if isinstance(asked, str) and asked == "auto":
        asked = "random" if threat.random else "standard"
    if isinstance(asked, str) and asked in PRESETS:
        rungs = PRESETS[asked](threat)
        return Chosen(asked, rungs, QUICK if asked == "quick" else "")
    listed = asked if isinstance(asked, list | tuple) else [asked]
    rungs, cut = {}, []
    for one in listed:
        name, attack, note = _given(one)
        check_ball(attack.ball, name, threat)
        rungs[name if name not in rungs else f"{name} {len(rungs) + 1}"] = Rung(
            attack, threat.victim
        )
        cut += [note] if note else []
    if not rungs:
        raise UserError("attack is an empty list: give one or more")
    return Chosen(", ".join(rungs), rungs, "; ".join(cut))


def _given(one: object) -> tuple[str, Attack, str]:
    """The name of an attack, it, and what its entry says that it does otherwise."""
    if isinstance(one, Attack):
        return type(one).__name__, one, ""
    if not isinstance(one, str):
        raise UserError(
            f"attack is of {type(one).__name__}, but must be one of {', '.join(('auto', *PRESETS))}"
            ", a name of the default track, or an attack of puriflow.attacks"
        )
    track = load_config()
    if one not in track.attacks:
        raise unknown("attack", one, ["auto", *PRESETS, *track.attacks])
    return one, track.part("attack", one).build(), track.served("attack", one).note


def check_ball(ball: Ball, name: str, threat: Threat) -> None:
    """Refuse an attack in another ball than the one that was asked for, if one was."""
    same = ball.norm == threat.norm and isclose(ball.eps, threat.eps)
    if same or (threat.norm == "Linf" and threat.eps == EPS):  # the default asks for none
        return
    raise UserError(
        f"attack {name} is in {ball.norm} {ball.eps:g}, but {threat.norm} {threat.eps:g} was asked "
        "for: leave eps and norm to the attack, or take a preset"
    )


def standard(threat: Threat) -> dict[str, Rung]:
    """AutoAttack, whose verdicts a random defence would make meaningless."""
    if threat.random:
        raise UserError(
            "the preset standard is for deterministic defences, but this one answers the same "
            "image in different ways: take random, or auto"
        )
    return {"autoattack": Rung(autoattack.build(eps=threat.eps, norm=threat.norm), threat.victim)}


def random(threat: Threat) -> dict[str, Rung]:
    """PGD+EOT and APGD with the exact gradient; of two classes there is no DLR."""
    draws = EOT_ITER if threat.random else 1
    of_apgd = {"eps": threat.eps, "norm": threat.norm, "eot_iter": draws, "n_eval": threat.n_draws}
    found = {"pgd-eot": threat.pgd_eot(), "apgd-ce": apgd.build(**of_apgd)}
    if threat.classes > 2:
        found["apgd-dlr"] = apgd.build(**of_apgd, loss="dlr")
    return {name: Rung(attack, threat.victim) for name, attack in found.items()}


def ladder(threat: Threat) -> dict[str, Rung]:
    """Every gradient; what a rung leaves out is judged all the same."""
    victim = threat.victim
    if stands_alone(victim):
        raise UserError(
            "the preset ladder leaves parts of a defence out, and nothing is known in front of "
            "this classifier: give a puriflow.Defence of a restorer and a purifier"
        )
    gradients = ["blind", "identity", *(["restorer"] if victim.restorer is not None else [])]
    if victim.purifier is None:
        gradients.remove("restorer")  # which is all that there is
    rungs = {g: Rung(threat.pgd_eot(gradient=g), victim, f"the defence, {g}") for g in gradients}
    if victim.purifier is not None:
        try:
            other = victim.surrogate()
            rungs["surrogate"] = Rung(threat.pgd_eot(n_eval=None), other, "its surrogate")
        except UserError:
            pass  # its authors published none
    return {**rungs, "full": Rung(threat.pgd_eot(), victim)}


QUICK = (
    f"{QUICK_ITER} steps with {QUICK_EOT} draws, where {N_ITER} and {EOT_ITER} are published, and "
    "no other attack"
)


def quick(threat: Threat) -> dict[str, Rung]:
    """A few steps of PGD+EOT."""
    draws = QUICK_EOT if threat.random else 1
    step = max(threat.step_size, 2.5 * threat.eps / QUICK_ITER)
    attack = threat.pgd_eot(
        n_iter=QUICK_ITER, eot_iter=draws, step_size=step, eval_every=QUICK_ITER
    )
    return {"pgd-eot": Rung(attack, threat.victim)}


PRESETS: dict[str, Callable[[Threat], dict[str, Rung]]] = {
    "standard": standard,
    "random": random,
    "ladder": ladder,
    "quick": quick,
}


def options_of(attack: Attack) -> dict[str, Any]:
    """All options of an attack, and of those in it, as plain data."""
    return {"kind": type(attack).__name__, **_plain(attack)}


def _plain(value: Any) -> Any:
    if isinstance(value, Attack | Ball) and is_dataclass(value):
        inner = {f.name: getattr(value, f.name) for f in fields(value)}
        kind = {"kind": type(value).__name__} if isinstance(value, Attack) else {}
        return {**kind, **{name: _plain(one) for name, one in inner.items()}}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bool | int | float | str | None):
        return value
    return type(value).__name__
