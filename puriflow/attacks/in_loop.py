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
from puriflow.randomness import CONTROL, EVALUATED

INNER = "inner."  # before the keys of the state of the attack itself


@dataclass
class InLoop(Attack):
    """An attack whose points are judged on the way, by the whole victim, whatever its gradient.

    An image is left alone as soon as all draws of one evaluation are wrong: no rule can change.

    Args:
        attack: which moves an image as long as it is asked to, success or not.
        n_eval: fresh draws of an evaluation.
        eval_every: steps between two evaluations; the last step has one in any case.
    """

    attack: Attack
    n_eval: int
    eval_every: int

    def __post_init__(self) -> None:
        if self.attack.fixed:
            raise UserError("n_eval asks fresh draws, and fixed: true knows one alone: choose")
        self.ball, self.n_steps = self.attack.ball, self.attack.n_steps

    def begin(self, batch: Batch) -> State:
        """After an evaluation of the clean image.

        `wrong` and `control_wrong` (N, evaluations) are the shares of wrong draws of the point and
        of the clean image, 0 where there was no evaluation any more; `voted_wrong` and
        `control_voted_wrong` say where most draws are of another class than the label. The images
        are those of each rule: `x_adv` has the most wrong draws, and of several that have, the
        highest mean cross-entropy, `loss_adv` (N,); `x_majority` is the first that is voted wrong,
        and `x_worst` the first that has a wrong draw; where there is none, they are `x_adv`.
        """
        inner = self.attack.begin(batch)
        n_evaluations = 1 + -(-self.n_steps // self.eval_every)
        none = batch.images.new_zeros(len(batch.images), n_evaluations)
        state = {
            **{"x_adv": batch.images, "x_majority": batch.images, "x_worst": batch.images},
            **{"queries": inner["queries"], "wrong": none, "control_wrong": none},
            **{"voted_wrong": none.bool(), "control_voted_wrong": none.bool()},
            "loss_adv": batch.images.new_full((len(batch.images),), -torch.inf),
        }
        state |= {INNER + key: value for key, value in inner.items()}
        return self._evaluate(batch, state, batch.images, 0)

    def step(self, batch: Batch, state: State, number: int) -> State:
        """A step of the attack, and an evaluation where one is due, of images that are left."""
        settled = (state["wrong"] == 1).any(1)
        return advance(batch, state, ~settled, lambda some, part: self._step(some, part, number))

    def _step(self, batch: Batch, state: State, number: int) -> State:
        inner = {key.removeprefix(INNER): v for key, v in state.items() if key.startswith(INNER)}
        before = inner["queries"]
        inner = self.attack.step(batch, inner, number)
        state = state | {INNER + key: value for key, value in inner.items()}
        state["queries"] = state["queries"] + inner["queries"] - before
        done = number + 1
        if done % self.eval_every and done < self.n_steps:
            return state
        return self._evaluate(batch, state, self.attack.point(inner), -(-done // self.eval_every))

    def _evaluate(self, batch: Batch, state: State, x: Tensor, k: int) -> State:
        """The state with evaluation k, of the points x."""
        wrong, voted_wrong, loss = self._answers(batch, x, f"{EVALUATED} {k}")
        control_wrong, control_voted_wrong, _ = self._answers(batch, batch.images, f"{CONTROL} {k}")
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
            **state,
            **{key: state[key].index_copy(1, at, v[:, None]) for key, v in columns.items()},
            "x_adv": choose(better, x, state["x_adv"]),
            "loss_adv": torch.where(better, loss, state["loss_adv"]),
            "x_majority": choose(~voted & (better | voted_wrong), x, state["x_majority"]),
            "x_worst": choose((most == 0) & (better | (wrong > 0)), x, state["x_worst"]),
            "queries": state["queries"] + self.n_eval,
        }

    @torch.no_grad()
    def _answers(self, batch: Batch, x: Tensor, word: str) -> tuple[Tensor, Tensor, Tensor]:
        """The share of wrong draws of x, whether their vote is, and their mean loss, (N,) each.

        Of several classes with most votes the first counts.
        """
        groups = [batch.logits(x, word, draws) for draws in folded(x, range(self.n_eval))]
        logits = torch.cat(groups).unflatten(0, (self.n_eval, -1))
        answers = logits.argmax(2)
        votes = F.one_hot(answers, logits.shape[2]).sum(0)
        losses = cross_entropy(logits.flatten(0, 1), batch.labels.repeat(self.n_eval))
        return (
            (answers != batch.labels).to(x).mean(0),
            votes.argmax(1) != batch.labels,
            losses.unflatten(0, (self.n_eval, -1)).mean(0),
        )


def in_loop(attack: Attack, n_eval: int | None, eval_every: int) -> Attack:
    """The attack, with evaluations in its loop if any are wanted."""
    return attack if n_eval is None else InLoop(attack, n_eval, eval_every)
