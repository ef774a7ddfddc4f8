"""The binarization test's points, head and random success, from recorded draws."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from puriflow.attacks.ball import Ball
from puriflow.auditing.binarization import (
    Line,
    as_line,
    corner_points,
    fit,
    inner_points,
    scaled,
    shifted,
    surface_points,
)
from puriflow.auditing.modules import Tapped

TAGS = ("linf", "corners", "l2", "linf3", "fixed", "easy", "inner")


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.fc = nn.Linear(192, 10)

    def forward(self, x):
        return self.fc(F.silu(self.conv2(F.silu(self.conv1(x)))).flatten(1))


class Run:
    """A recorded run about one image."""

    def __init__(self, f, tag):
        self.f, self.tag = f, tag
        self.said = next(run for run in f.config["runs"] if run["tag"] == tag)
        self.ball = Ball(self.said["eps"], {"linf": "Linf", "l2": "L2"}[self.said["norm"]])
        self.x = f[f"in.{tag}.x"][None]
        network = Classifier()
        network.load_state_dict(f.weights(), strict=True)
        self.tapped = Tapped(network.eval().requires_grad_(False), self.x)

    def draws(self, what):
        names = (f"rec.{self.tag}.{what}.{kind}" for kind in ("unit", "normal", "corner"))
        return self.f[next(name for name in names if name in self.f.tensors)].float()

    def points(self):
        at_border = corner_points if self.said["corners"] else surface_points
        border = at_border(self.x, self.draws("boundary"), self.ball)
        inner = inner_points(self.x, self.draws("inner"), self.ball, self.said["gap"])
        return torch.cat([self.x, inner, border])

    def features(self, points):
        return self.tapped(points)[:, :192]

    def head(self) -> tuple[Line, torch.Tensor]:
        """The head of the recorded fit, and the logits of the training points before the shift."""
        coef, intercept = self.f[f"rec.{self.tag}.coef"][0], self.f[f"rec.{self.tag}.intercept"]
        line = as_line(coef.float(), float(intercept))
        both = self.tapped(self.points())
        raw, own = line.logits(both[:, :192]), both[:, 192:]
        reach = float(own.min()), float(own.max())
        if self.said["rescale"] == "fixed":  # to a range of 1, without an offset
            low = float(raw.min() / (raw.max() - raw.min()))
            reach = low, low + 1
        return scaled(shifted(line, raw, self.said["closeness"]), raw, *reach), raw


@pytest.fixture(params=TAGS)
def run(fixture, request):
    return Run(fixture("binarization"), request.param)


def test_points_and_head_are_the_recorded_ones(run):
    line, raw = run.head()
    found = {"raw_logits": raw, "weight": line.weight, "bias": line.bias}
    found["points"] = run.points()
    found["features"] = run.features(found["points"])
    found["train_logits"] = line.logits(found["features"])
    labels = run.f[f"out.{run.tag}.labels"]
    assert len(labels) == 1 + run.said["inner"] + run.said["boundary"]
    found["train_right"] = found["train_logits"].argmax(1) == labels
    found["query_logits"] = line.logits(run.features(run.f[f"in.{run.tag}.queries"]))
    for name, value in found.items():
        run.f.check(f"out.{run.tag}.{name}", value)


def test_chance_is_as_recorded(run):
    line, _ = run.head()
    places = {"surface": surface_points, "corners": corner_points}
    ones = {
        what: line.logits(run.features(at(run.x, run.draws(f"val_{what}"), run.ball))).argmax(1)
        for what, at in places.items()
    }
    inside = inner_points(run.x, run.draws("val_inner"), run.ball, 0)
    inner = line.logits(run.features(inside)).argmax(1)
    share = {what: found.double().mean() for what, found in ones.items()}
    n = run.said["n_asr"]
    by_chance = [(ones[what][:n] == 1).any() | (inner[:n] == 1).any() for what in places]
    both = torch.cat(list(ones.values())).double().mean()
    found = [(inner == 0).double().mean(), both, share["surface"], share["corners"], *by_chance]
    run.f.check(
        f"out.{run.tag}.validation",
        torch.tensor([float(one) for one in found], dtype=torch.float64),
    )


def test_a_fit_of_our_own_separates_the_same_points(fixture):
    run = Run(fixture("binarization"), "linf")
    features, labels = run.features(run.points()), run.f["out.linf.labels"]
    coef, intercept = fit(features.double().numpy(), labels.numpy())
    line = as_line(torch.from_numpy(coef), intercept)
    assert torch.equal(line.logits(features.double()).argmax(1), labels)
    recorded = run.f["rec.linf.coef"][0].numpy()
    cosine = coef @ recorded / ((coef @ coef) * (recorded @ recorded)) ** 0.5
    assert cosine > 0.9
