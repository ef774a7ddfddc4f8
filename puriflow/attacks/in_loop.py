"""Evaluation in the attack's loop, as DiffHammer does it (Wang et al. 2024).

A random defence may be wrong about a point that the attack leaves again, and an attacker may hand
in any of them. So N fresh draws of the victim answer at chosen steps, the clean image first. Of the
steps the worst counts, for each rule: the average over draws, their majority, and whether one is
wrong. Chance breaks images too, the more the more draws there are: the control is the same number
of fresh draws of the clean image, at the same steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from puriflow.attacks.base import Attack, Batch, State, advance, choose, cross_entropy
from puriflow.compute import folded
from puriflow.errors import UserError
from puriflow.options import check_counts
from puriflow.randomness import CONTROL, EVALUATED

INNER = "inner."  # before the keys of the state of the attack itself


def check_fresh(attack: Attack) -> None:
    """Refuse an attack all of whose draws are one, as fresh ones would be."""
    if attack.fixed:
        raise UserError("n_eval asks fresh draws, and fixed: true knows one alone: choose")


def unjudged(images: Tensor, n_evaluations: int) -> State:
    """The part of a state that evaluations fill.

    `wrong` and `control_wrong` (N, evaluations) are the shares of wrong draws of a point and of the
    clean image, 0 where there was no evaluation; `voted_wrong` and `control_voted_wrong` say where
    most draws are of another class than the label. The images are those of each rule: `x_adv` has
    the most wrong draws, and of several that have, the highest mean cross-entropy, `loss_adv` (N,);
    `x_majority` is the first that is voted wrong, and `x_worst` the first that has a wrong draw;
    where there is none, they are `x_adv`.
    """
    none = images.new_zeros(len(images), n_evaluations)
    return {
        **{"x_adv": images, "x_majority": images, "x_worst": images},
        **{"wrong": none, "control_wrong": none},
        **{"voted_wrong": none.bool(), "control_voted_wrong": none.bool()},
        "loss_adv": images.new_full((len(images),), -torch.inf),
    }


def evaluate(batch: Batch, state: State, x: Tensor, k: int, n_eval: int) -> State:
    """What evaluation k of the points x, by n_eval draws, makes of that part of a state."""
    wrong, voted_wrong, loss = _answers(batch, x, f"{EVALUATED} {k}", n_eval)
    control_wrong, control_voted_wrong, _ = _answers(batch, batch.images, f"{CONTROL} {k}", n_eval)
    most, voted = state["wrong"].amax(1), state["voted_wrong"].any(1)
    better = (wrong > most) | ((wrong == most) & (loss > state["loss_adv"]))
    columns = {
        "wrong": wrong,
        "voted_wrong": voted_wrong,
        "control_wrong": control_wrong,
        "control_voted_wrong": control_voted_wrong,
    }
    at = torch.tensor([k], device=x.device)
    return {
        **{key: state[key].index_copy(1, at, v[:, None]) for key, v in columns.items()},
        "x_adv": choose(better, x, state["x_adv"]),
        "loss_adv": torch.where(better, loss, state["loss_adv"]),
        "x_majority": choose(~voted & (better | voted_wrong), x, state["x_majority"]),
        "x_worst": choose((most == 0) & (better | (wrong > 0)), x, state["x_worst"]),
        "queries": state["queries"] + n_eval,
    }


def settled(state: State) -> Tensor:
    """Of which images all draws of one evaluation were wrong (N,): no rule can change any more."""
    return (state["wrong"] == 1).any(1)


@torch.no_grad()
def _answers(batch: Batch, x: Tensor, word: str, n_eval: int) -> tuple[Tensor, Tensor, Tensor]:
    """The share of wrong draws of x, whether their vote is, and their mean loss, (N,) each.

    Of several classes with most votes the first counts.
    """
    groups = [batch.logits(x, word, draws) for draws in folded(x, range(n_eval))]
    logits = torch.cat(groups).unflatten(0, (n_eval, -1))
    answers = logits.argmax(2)
    votes = F.one_hot(answers, logits.shape[2]).sum(0)
    losses = cross_entropy(logits.flatten(0, 1), batch.labels.repeat(n_eval))
    return (
        (answers != batch.labels).to(x).mean(0),
        votes.argmax(1) != batch.labels,
        losses.unflatten(0, (n_eval, -1)).mean(0),
    )


@dataclass
class InLoop(Attack):
    """An attack whose points are judged on the way, by the whole victim, whatever its gradient.

    Args:
        attack: which moves an image as long as it is asked to, success or not.
        n_eval: fresh draws of an evaluation.
        eval_every: steps between two evaluations; the last step has one in any case.
    """

    attack: Attack
    n_eval: int
    eval_every: int

    def __post_init__(self) -> None:
        check_fresh(self.attack)
        check_counts(n_eval=self.n_eval, eval_every=self.eval_every)
        self.ball, self.n_steps = self.attack.ball, self.attack.n_steps

    def begin(self, batch: Batch) -> State:
        """After an evaluation of the clean image; see `unjudged`."""
        inner = self.attack.begin(batch)
        state = unjudged(batch.images, 1 + -(-self.n_steps // self.eval_every))
        state |= {"queries": inner["queries"]}
        state |= {INNER + key: value for key, value in inner.items()}
        return state | evaluate(batch, state, batch.images, 0, self.n_eval)

    def step(self, batch: Batch, state: State, number: int) -> State:
        """A step of the attack, and an evaluation where one is due, of images not yet settled."""
        left = ~settled(state)
        return advance(batch, state, left, lambda some, part: self._step(some, part, number))

    def _step(self, batch: Batch, state: State, number: int) -> State:
        inner = {key.removeprefix(INNER): v for key, v in state.items() if key.startswith(INNER)}
        before = inner["queries"]
        inner = self.attack.step(batch, inner, number)
        state = state | {INNER + key: value for key, value in inner.items()}
        state["queries"] = state["queries"] + inner["queries"] - before
        done = number + 1
        if done % self.eval_every and done < self.n_steps:
            return state
        point, k = self.attack.point(inner), -(-done // self.eval_every)
        return state | evaluate(batch, state, point, k, self.n_eval)


def in_loop(attack: Attack, n_eval: int | None, eval_every: int) -> Attack:
    """The attack, with evaluations in its loop if any are wanted.

    Raises:
        UserError: one of the two is no count, or only the second is given.
    """
    if n_eval is None and eval_every != 1:
        raise UserError("eval_every says which points n_eval draws evaluate: give n_eval as well")
    return attack if n_eval is None else InLoop(attack, n_eval, eval_every)
