"""Which attacks a benchmark makes: presets by their published settings, or attacks by name.

| preset | attacks | settings |
|---|---|---|
| `standard` | AutoAttack: APGD-CE, APGD-T, FAB-T, Square | Croce and Hein (2020) |
| `random` | PGD+EOT, and APGD-CE and -DLR with EOT, by the exact gradient, judged in their loop | Lee and Kim (2023): 200 steps of 0.007, EOT 20; auto-attack's `rand`: 100 iterations, EOT 20 |
| `ladder` | that PGD+EOT by every gradient, from none of the defence's to all of it | as `random` |
| `quick` | a few steps and draws of the same | none: it is cut, and says so |
"""  # noqa: E501

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isclose
from typing import Any, NamedTuple

from puriflow.attacks import apgd, autoattack, pgd, square
from puriflow.attacks.ball import Ball
from puriflow.attacks.base import Attack
from puriflow.auditing.modules import stands_alone
from puriflow.benchmarking.record import DEFENCE, SURROGATE
from puriflow.config import Config
from puriflow.defence import Defence
from puriflow.errors import UserError, unknown
from puriflow.options import Norm, fraction

STEP_SIZE, N_ITER, EOT_ITER = 0.007, 200, 20  # Lee and Kim's, for 4/255 as for 8/255
QUICK_ITER, QUICK_EOT = 10, 4


class Rung(NamedTuple):
    """An attack, and what it goes through: the defence, or something in its place."""

    attack: Attack
    victim: Defence
    through: str = DEFENCE


class Threat(NamedTuple):
    """What attacks have in common.

    Attributes:
        victim: the defence that is judged.
        random: whether it is.
        classes: of its logits.
        eps: radius, on [0, 1].
        norm: of the ball.
        n_draws: answers of an evaluation.
        given: whether somebody asked for the ball.
    """

    victim: Defence
    random: bool
    classes: int
    eps: float
    norm: Norm
    n_draws: int
    given: bool = False

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
    """The attacks of a benchmark by name, and what makes them weaker than what is published."""

    name: str
    rungs: Mapping[str, Rung]
    cut: str = ""


Asked = str | Attack
Preset = tuple[dict[str, Rung], str]  # and why it is cut, if it is


def chosen(asked: Asked | Sequence[Asked], threat: Threat, track: Callable[[], Config]) -> Chosen:
    """The attacks of presets, of names of a track, or as they are given.

    Raises:
        UserError: there is no such attack, it is no attack, it is not for this defence, or they are
            in other balls than was asked for, or than each other.
    """
    listed = asked if isinstance(asked, list | tuple) else [asked]
    names, rungs, cut = [], dict[str, Rung](), []
    for one in listed:
        if one == "auto":
            one = "random" if threat.random else "standard"
        name, found, why = _rungs(one, threat, track)
        names.append(name)
        cut += [why] if why else []
        for own, rung in found.items():
            rungs[own if own not in rungs else f"{own} {len(rungs) + 1}"] = rung
    if not rungs:
        raise UserError("attack is an empty list: give one or more")
    balls = {(rung.attack.ball.norm, rung.attack.ball.eps) for rung in rungs.values()}
    if len(balls) > 1:
        said = " and ".join(f"{norm} {eps:g}" for norm, eps in sorted(balls))
        raise UserError(f"the attacks are in several balls, {said}: an accuracy is of one")
    return Chosen(", ".join(names), rungs, "; ".join(dict.fromkeys(cut)))


def _rungs(
    one: object, threat: Threat, track: Callable[[], Config]
) -> tuple[str, dict[str, Rung], str]:
    """The name of what was asked for, its attacks, and what makes them weak."""
    if isinstance(one, str) and one in PRESETS:
        return one, *PRESETS[one](threat)
    if isinstance(one, str):
        known = track()
        if one not in known.attacks:
            raise unknown("attack", one, ["auto", *PRESETS, *known.attacks])
        name, attack = one, known.part("attack", one).build()
        why = [known.served("attack", one).note]
    elif isinstance(one, Attack):
        name, attack = type(one).__name__, one
        why = [f"{name} has settings of its own, and not a preset's"]
    else:
        raise UserError(
            f"attack is of {type(one).__name__}, but must be one of {', '.join(('auto', *PRESETS))}"
            ", a name of the track, or an attack of puriflow.attacks"
        )
    check_ball(attack.ball, name, threat)
    why += weaknesses(options_of(attack), threat.random)
    return name, {name: Rung(attack, threat.victim)}, "; ".join(filter(None, why))


def weaknesses(options: Mapping[str, Any], random: bool) -> Iterator[str]:
    """What makes an attack weaker than it might be, by its options, as an entry or a record says.

    Args:
        options: of the attack, and in them those of the attacks that it is made of.
        random: whether the defence is.
    """
    if random and options.get("votes") == 1 and options.get("n_eval") is None:
        yield "it stops at one wrong answer of a random defence, which chance gives"
    yield from dict.fromkeys(_narrow(options))


def _narrow(options: Mapping[str, Any]) -> Iterator[str]:
    if (gradient := options.get("gradient", "full")) not in ("full", None):
        yield f"of the defence it differentiates no more than `{gradient}` says"
    if options.get("fixed"):
        yield "it knows one draw of the noise, and no other"
    if fraction(bands := options.get("ball", options).get("bands", 1)) < 1:
        yield f"its perturbations are of {bands} of the bands"
    for inner in options.get("attacks") or filter(None, [options.get("attack")]):
        yield from _narrow(inner)


def check_ball(ball: Ball, name: str, threat: Threat) -> None:
    """Refuse an attack in another ball than the one that was asked for, if one was."""
    if threat.given and not (ball.norm == threat.norm and isclose(ball.eps, threat.eps)):
        raise UserError(
            f"attack {name} is in {ball.norm} {ball.eps:g}, but {threat.norm} {threat.eps:g} was "
            "asked for: leave eps and norm to the attack, or take a preset"
        )


def standard(threat: Threat) -> Preset:
    """AutoAttack, or what of it there is for the norm and the classes.

    The verdicts of a random defence would make it meaningless.
    """
    if threat.random:
        raise UserError(
            "the preset standard is for deterministic defences, but this one answers the same "
            "image in different ways: take random, or auto"
        )
    ball: Any = {"eps": threat.eps, "norm": threat.norm}
    if threat.norm == "Linf" and threat.classes > 3:
        return {"autoattack": Rung(autoattack.build(**ball), threat.victim)}, ""
    found: dict[str, Attack] = {"apgd-ce": apgd.build(**ball)}
    if threat.classes > 3:
        found["apgd-t"] = apgd.build(**ball, loss="dlr-targeted")
    elif threat.classes == 3:
        found["apgd-dlr"] = apgd.build(**ball, loss="dlr")
    if threat.norm == "Linf":
        found["square"] = square.build(**ball)
    left_out = "FAB-T and Square" if threat.norm == "L2" else "APGD-T and FAB-T"
    why = f"AutoAttack's {left_out} are not here for {threat.norm} and {threat.classes} classes"
    return {name: Rung(attack, threat.victim) for name, attack in found.items()}, why


def random(threat: Threat) -> Preset:
    """PGD+EOT and APGD with the exact gradient; of two classes there is no DLR."""
    draws = EOT_ITER if threat.random else 1
    of_apgd = {"eps": threat.eps, "norm": threat.norm, "eot_iter": draws, "n_eval": threat.n_draws}
    found = {"pgd-eot": threat.pgd_eot(), "apgd-ce": apgd.build(**of_apgd)}
    if threat.classes > 2:
        found["apgd-dlr"] = apgd.build(**of_apgd, loss="dlr")
    return {name: Rung(attack, threat.victim) for name, attack in found.items()}, ""


def ladder(threat: Threat) -> Preset:
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
    rungs = {g: Rung(threat.pgd_eot(gradient=g), victim, f"{DEFENCE}, {g}") for g in gradients}
    if victim.purifier is not None:
        try:
            other = victim.surrogate()
            rungs["surrogate"] = Rung(threat.pgd_eot(n_eval=None), other, SURROGATE)
        except UserError:
            pass  # its authors published none
    return {**rungs, "full": Rung(threat.pgd_eot(), victim)}, ""


QUICK = (
    f"{QUICK_ITER} steps with {QUICK_EOT} draws, where {N_ITER} and {EOT_ITER} are published, and "
    "no other attack"
)


def quick(threat: Threat) -> Preset:
    """A few steps: of PGD+EOT, and in L2, where a step of signs is long, of APGD."""
    draws = QUICK_EOT if threat.random else 1
    given: Any = {"n_iter": QUICK_ITER, "eot_iter": draws, "eval_every": QUICK_ITER}
    if threat.norm == "L2":
        ball: Any = {"eps": threat.eps, "norm": "L2", "n_eval": threat.n_draws}
        return {"apgd-ce": Rung(apgd.build(**ball, **given), threat.victim)}, QUICK
    step = max(threat.step_size, 2.5 * threat.eps / QUICK_ITER)
    return {"pgd-eot": Rung(threat.pgd_eot(step_size=step, **given), threat.victim)}, QUICK


PRESETS: dict[str, Callable[[Threat], Preset]] = {
    "standard": standard,
    "random": random,
    "ladder": ladder,
    "quick": quick,
}


def options_of(attack: Attack) -> dict[str, Any]:
    """All options of an attack, and of those in it, as plain data."""
    return _plain(attack)


def _plain(value: Any) -> Any:
    if isinstance(value, Attack | Ball):
        own = ((k, v) for k, v in vars(value).items() if isinstance(v, Attack) or not callable(v))
        inner = {name: _plain(one) for name, one in own}
        return {"kind": type(value).__name__, **inner} if isinstance(value, Attack) else inner
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, bool | int | float | str | None):
        return value
    return type(value).__name__
