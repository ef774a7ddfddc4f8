"""Figures from tiny stores, their numbers computed a second time from the same images."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from PIL import Image
from placed import put
from scipy.special import log_softmax, softmax
from scipy.stats import t as student
from torch import nn

from puriflow.config import load_config
from puriflow.diffusion.vp import diffuse
from puriflow.errors import UserError
from puriflow.metrics.accuracy import wilson
from puriflow.metrics.gradcam import grad_cam, is_map, last_map
from puriflow.plots import attention, content, rounds
from puriflow.plots.style import styled
from puriflow.randomness import ImageNoise
from puriflow.registry import part_of
from puriflow.results import load_result
from puriflow.results.figures.geometry import up_down
from puriflow.results.figures.transition import as_image
from puriflow.zoo.weights import save_weights

LITE0 = "efficientnet-lite0"
FEATURES = {"kind": LITE0, "served_by": LITE0, "layers": ["stage1", "stage3"]}
CLASSIFIER = {"kind": "wide-resnet", "depth": 10, "widen_factor": 1}
LABELS, INDICES = np.array([1, 5, 7]), np.array([4, 2, 9])
CHAINS = {  # the stores below the results, whose images are random
    "clean": "images/imagenet",
    "AE": "attack/imagenet/pgd-linf4/resnet50",
    "SR": "restore/imagenet/pgd-linf4/resnet50/esrgan-x2",
    "diffusion": "purify/imagenet/pgd-linf4/resnet50/none/vpsde-t90",
    "clean SR": "restore/imagenet/none/none/esrgan-x2",
}
LINES = [
    {"label": "AE"},
    {"label": "SR", "restorer": "esrgan-x2"},
    {"label": "diffusion", "purifier": "vpsde-t90"},
]
CLEAN = {"label": "clean", "attack": "none"}
SHARED = {
    "title": "t",
    "source": "tests",
    "claim": "c",
    "how": "h",
    "dataset": "imagenet",
    "classifier": "resnet50",
    "attack": "pgd-linf4",
    "lines": LINES,
}
CONTENT = SHARED | {
    "kind": "content",
    "features": "vgg19",
    "definition": "johnson",
    "reference": "AE",
    "count": 2,
    "panels": {"a": "one", "b": "two"},
}


def figure_of(folder, raw, name="figure"):
    """The figure of a file that says `raw`."""
    file = folder / "figures" / f"{name}.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(raw))
    return load_result(file)


class Tiny:
    """Stores of random images, and what reads them: networks whose weights are random."""

    def __init__(self, folder, repository, adm):
        self.folder, self.results = folder, folder / "results"
        self.config = load_config(repository / "config" / "config.yaml")
        torch.manual_seed(0)
        self.serve(
            classifiers={"resnet50": self.trained("classifier", CLASSIFIER)},
            networks={"adm": self.trained("network", adm)},
            features={"vgg19": FEATURES},
        )
        # the shortest of the track's purifications
        shortest = self.config.purifiers["vpsde-t10"].model_dump(exclude_unset=True)
        self.serve(purifiers={"vpsde-t90": shortest})
        random = np.random.default_rng(0)
        self.images = {}
        for name, path in CHAINS.items():
            self.images[name] = random.random((3, 3, 32, 32), dtype=np.float32)
            self.store(path, "images", self.images[name])

    def store(self, path, array, values):
        """A finished stage."""
        # `success` is in the stores of attacks
        arrays = {array: values, "success": LABELS[: len(values)] < 6}
        samples = {"labels": LABELS, "indices": INDICES, "name": array}
        shutil.rmtree(self.results / path, ignore_errors=True)  # one of the same parts is used
        put(self.results, f"{path}/0-of-1", self.config, arrays, **samples)

    def trained(self, role, entry):
        """An entry with random weights."""
        file = self.folder / f"{role}.safetensors"
        save_weights(part_of(role, role, entry | {"weights": None}).build().network, file)
        return entry | {"weights": str(file)}

    def serve(self, **sections):
        """Let other parts serve roles of the track."""
        for section, entries in sections.items():
            known = getattr(self.config, section)
            role = type(next(iter(known.values())))  # a purifier's entry says more than others
            update = {section: known | {name: role(**entry) for name, entry in entries.items()}}
            self.config = self.config.model_copy(update=update)

    def part(self, role, name):
        return self.config.part(role, name).build()

    def figure(self, raw, name="figure"):
        return figure_of(self.folder, raw, name)

    def build(self, raw, name="figure"):
        """The figure's CSV; strings that are empty stay so."""
        files = self.figure(raw, name).build(self.config, name, self.results, torch.device("cpu"))
        csv, png, _, measures = files
        assert [file.suffix for file in files] == [".csv", ".png", ".svg", ".csv"]
        assert measures == self.results / "measures" / f"{name}.csv"
        with Image.open(png) as picture:
            assert picture.width == 975  # a column of 3.25 inch at 300 dots an inch
        return pd.read_csv(csv)

    def values(self, metric, line, layer=None):
        """Of the figure that was built last: the values of its images, which are checked."""
        rows = pd.read_csv(self.results / "measures" / "figure.csv", keep_default_na=False)
        assert list(rows.columns) == ["line", "layer", "index", "metric", "value", "note"]
        assert not rows.duplicated(["line", "layer", "index", "metric"]).any()
        rows = rows[(rows["metric"] == metric) & (rows["line"] == line)]
        rows = rows[rows["layer"] == (layer or "")]
        assert [int(index) for index in rows["index"]] == list(INDICES[: len(rows)])
        return rows["value"].astype(float).to_numpy()

    def distances(self, images, layer, count):
        """Johnson's content distance, in numpy."""
        features = self.part("features", "vgg19")
        with torch.no_grad():
            a, b = (
                features(torch.from_numpy(x[:count]))[layer].numpy().astype(np.float64)
                for x in (images, self.images["clean"])
            )
        return ((a - b) ** 2).mean(axis=(1, 2, 3))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, repository, tiny_adm):
    return Tiny(tmp_path_factory.mktemp("figures"), repository, tiny_adm)


def test_content_distance_by_layer(tiny):
    table = tiny.build(CONTENT)
    assert list(table["line"]) == ["AE", "SR", "diffusion"] * 2
    assert list(table["layer"]) == ["stage1"] * 3 + ["stage3"] * 3
    assert set(table["n"]) == {2}
    assert set(table["features"]) == {"efficientnet-lite0"}
    assert list(table["restorer"][:3]) == ["none", "esrgan-x2-mini", "none"]
    for row in table.itertuples():
        own, reference = (
            tiny.distances(tiny.images[name], row.layer, 2) for name in (row.line, "AE")
        )
        assert row.content_distance == pytest.approx(own.mean(), rel=1e-4)
        assert row.normalised == pytest.approx(own.mean() / reference.mean(), rel=1e-4)
        single = tiny.values("content_distance", row.line, row.layer)
        np.testing.assert_allclose(single, own, rtol=1e-4)
        assert row.normalised_low <= row.normalised <= row.normalised_high


def test_a_figure_is_the_same_file_again(tiny):
    tiny.build(CONTENT, "one")
    tiny.build(CONTENT, "other")
    for ending in (".csv", ".svg"):
        one, other = ((tiny.results / f"{n}{ending}").read_bytes() for n in ("one", "other"))
        assert one == other


def test_feature_maps(tiny):
    raw = {key: value for key, value in CONTENT.items() if key != "panels"}
    raw |= {"kind": "maps", "shown": [1], "lines": [CLEAN, *LINES]}
    with pytest.raises(UserError, match="takes one layer"):
        tiny.build(raw)
    tiny.serve(features={"vgg19": FEATURES | {"layers": ["stage3"]}})
    try:
        table = tiny.build(raw)
    finally:
        tiny.serve(features={"vgg19": FEATURES})
    assert list(table["line"]) == ["clean", "AE", "SR", "diffusion"]
    assert list(table.iloc[0][["content_distance", "mse"]]) == [0, 0]
    for row in table.itertuples():
        images = tiny.images[row.line][:2]
        errors = ((images - tiny.images["clean"][:2]) ** 2).mean(axis=(1, 2, 3), dtype=np.float64)
        assert row.mse == pytest.approx(errors.mean(), rel=1e-4)
        np.testing.assert_allclose(tiny.values("mse", row.line), errors, rtol=1e-4)
        expected = tiny.distances(images, "stage3", 2)
        assert row.content_distance == pytest.approx(expected.mean(), rel=1e-4)
        single = tiny.values("content_distance", row.line, "stage3")
        np.testing.assert_allclose(single, expected, rtol=1e-4)


def test_the_transition_of_a_purification(tiny):
    lines = [LINES[2], LINES[2] | {"label": "both", "restorer": "esrgan-x2"}]
    raw = {key: value for key, value in CONTENT.items() if key not in ("panels", "reference")}
    table = tiny.build(raw | {"kind": "transition", "lines": lines})
    trajectories = table[table["layer"] == "stage3"]
    purifier, classifier = tiny.part("purifier", "vpsde-t90"), tiny.part("classifier", "resnet50")
    calls = []
    with torch.no_grad():
        image = torch.from_numpy(tiny.images["AE"][:1])
        purifier(image, ImageNoise(0, "purify", [0]), lambda *state: calls.append(state))
    back = ["diffused", *["back"] * len(calls), "purified"]
    expected = {"diffusion": ["attacked", *back], "both": ["attacked", "restored", *back]}
    for line, start in (("diffusion", "AE"), ("both", "SR")):
        rows = trajectories[trajectories["line"] == line].set_index("step")
        assert list(rows["state"]) == expected[line]
        with torch.no_grad():
            purified = [
                purifier(torch.from_numpy(tiny.images[start][i : i + 1]), noise)
                for i, noise in enumerate(ImageNoise(0, "purify", [index]) for index in INDICES[:2])
            ]
        ends = {"attacked": tiny.images["AE"][:2], "purified": torch.cat(purified).numpy()}
        for state, images in ends.items():
            row = rows[rows["state"] == state].iloc[0]
            with torch.no_grad():
                logits = classifier(torch.from_numpy(images)).numpy().astype(np.float64)
            losses = -log_softmax(logits, axis=1)[range(2), LABELS[:2]]
            distances = tiny.distances(images, "stage3", 2)
            for name, layer, found in (
                ("cross_entropy", None, losses),
                ("content_distance", "stage3", distances),
            ):
                single = tiny.values(name, f"{line}, {state}", layer)
                np.testing.assert_allclose(single, found, rtol=1e-4)
                quartiles = [row[f"{name}_q1"], row[name], row[f"{name}_q3"]]
                low, high = np.percentile(found, [25, 75])
                assert quartiles == pytest.approx([low, found.mean(), high], rel=1e-4)
        # the last step back ends where the purified image is, but for the contrast at t = 1e-5
        last, end = rows["content_distance"].iloc[[-2, -1]]
        assert last == pytest.approx(end, rel=1e-3)
    assert len(tiny.values("cross_entropy", "both, restored")) == 2
    assert len(tiny.values("cross_entropy", "diffusion, restored")) == 0
    assert len(tiny.values("cross_entropy", "diffusion, diffused")) == 2


def test_a_state_is_looked_at_as_an_image():
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    state = diffuse(image * 2 - 1, 300, torch.zeros_like(image))  # alpha_bar of a discrete level
    torch.testing.assert_close(as_image(state, 0.3, image), image, rtol=0, atol=5e-3)
    assert as_image(torch.zeros(1, 3, 16, 16), 0.1, image).shape == image.shape


def test_rounds(tiny):
    random = np.random.default_rng(3)
    logits = {}
    for restorer in ("none", "esrgan-x2"):
        for threat in ("none/none", "pgd-linf4/resnet50"):
            path = f"classify/imagenet/{threat}/{restorer}/none/resnet50"
            logits[restorer, threat] = random.normal(size=(3, 10)).astype(np.float32)
            tiny.store(path, "logits", logits[restorer, threat])
    table = tiny.build(SHARED | {"kind": "rounds", "lines": LINES[:2]})
    assert list(table["line"]) == ["AE", "SR"]
    for row, restorer in zip(table.itertuples(), ("none", "esrgan-x2"), strict=True):
        images = tiny.images[row.line].astype(np.float64)
        errors = ((images - tiny.images["clean"]) ** 2).mean(axis=(1, 2, 3))
        attacked = logits[restorer, "pgd-linf4/resnet50"]
        losses = -log_softmax(attacked.astype(np.float64), axis=1)[range(3), LABELS]
        for name, found in (("mse", errors), ("cross_entropy", losses)):
            np.testing.assert_allclose(tiny.values(name, row.line), found, rtol=1e-4)
            bounds = student.interval(0.95, 2, found.mean(), found.std(ddof=1) / 3**0.5)
            means = [getattr(row, f"{name}{ending}") for ending in ("", "_low", "_high")]
            assert means == pytest.approx([found.mean(), *bounds], rel=1e-3)
        answers = {"standard": logits[restorer, "none/none"], "robust": attacked}
        for name, found in answers.items():
            right = found.argmax(1) == LABELS
            np.testing.assert_array_equal(tiny.values(name, row.line), right)
            bounds = [100 * bound for bound in wilson(right.sum(), 3)]
            means = [getattr(row, f"{name}{ending}") for ending in ("", "_low", "_high")]
            assert means == pytest.approx([100 * right.mean(), *bounds], rel=1e-4)


GEOMETRY = SHARED | {
    "kind": "geometry",
    "count": 2,
    "lines": [
        {"label": "P, clean", "attack": "none", "purifier": "osd-t90"},
        {"label": "P, attacked", "purifier": "osd-t90"},
        {"label": "P, behind SR", "restorer": "esrgan-x2", "purifier": "osd-t90"},
        {"label": "SR", "restorer": "esrgan-x2"},
    ],
}


def test_geometry(tiny):
    frame = tiny.build(GEOMETRY).set_index("line")
    assert list(frame["n"]) == [2] * 4
    assert frame.loc["SR", ["turned", "off_tangent"]].isna().all()
    assert frame.loc["P, clean", ["turned", "off_tangent"]].isna().all()
    assert (frame.loc[["P, attacked", "P, behind SR"], "turned"] > 0).all()
    assert frame.loc[["P, clean", "P, attacked", "SR"], "reaching"].to_list() == [1, 1, 1]
    attack = tiny.images["AE"][:2] - tiny.images["clean"][:2]
    behind = tiny.images["SR"][:2] - tiny.images["clean SR"][:2]
    reaching = (behind**2).sum((1, 2, 3)) / (attack**2).sum((1, 2, 3))
    assert tiny.values("reaching", "P, behind SR") == pytest.approx(reaching, rel=1e-5)
    both = tiny.values("kept", "P, behind SR") * tiny.values("reaching", "P, behind SR")
    assert tiny.values("left", "P, behind SR") == pytest.approx(both, rel=1e-4)
    # What R(H(x)) keeps of the perturbation, by differences of the restorer's own answers.
    restorer, h = tiny.part("restorer", "esrgan-x2"), 1e-2
    x, d = (torch.from_numpy(a) for a in (tiny.images["AE"][:2], attack))
    with torch.no_grad():
        high, low = (up_down(restorer, x + s * h * d) for s in (1, -1))
    kept = ((high - low) / (2 * h)).square().sum((1, 2, 3)) / d.square().sum((1, 2, 3))
    assert tiny.values("kept", "SR") == pytest.approx(kept.tolist(), rel=0.02)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            {"purifier": "vpsde-t10"},
            "tests, 'x': purifier vpsde-t10 is no P_t, which is one-shot denoising (kind osd)",
        ),
        (
            {"restorer": "tvm"},
            "tests, 'x': restorer tvm is no R(H(x)), which goes up and down again",
        ),
        ({}, "line 'x' has neither a restorer nor a purifier, so it has no map"),
    ],
)
def test_what_is_no_projection_has_no_geometry(tiny, line, message):
    with pytest.raises(UserError, match=re.escape(message)):
        tiny.build(GEOMETRY | {"lines": [{"label": "x"} | line]})


def test_an_attack_that_changed_nothing_points_nowhere(tiny):
    message = "tests, 'SR', image 4: its perturbation has length 0, so it points nowhere"
    tiny.store(CHAINS["AE"], "images", tiny.images["clean"])
    try:
        with pytest.raises(UserError, match=re.escape(message)):
            tiny.build(GEOMETRY | {"lines": [{"label": "SR", "restorer": "esrgan-x2"}]})
    finally:
        tiny.store(CHAINS["AE"], "images", tiny.images["AE"])


def test_markers_at_the_ends_of_a_scale_are_whole():
    columns = {"n": 3, "mse": 0.0, "cross_entropy": 1.0, "standard": 100.0, "robust": 0.0}
    bounds = {f"{name}_{end}": value for name, value in columns.items() for end in ("low", "high")}
    frame = pd.DataFrame([{"line": "one", "attack_failed": None} | columns | bounds])
    for axes in rounds.draw(frame).axes:
        for container in axes.containers:
            assert not container.lines[0].get_clip_on()


@pytest.mark.parametrize("target", ["label", "predicted"])
def test_attention(tiny, target):
    more = {"kind": "attention", "target": target, "reference": "AE", "count": 3, "shown": [0, 2]}
    table = tiny.build(SHARED | more)
    assert list(table["image"]) == [*INDICES] * 3
    assert table["cam_similarity"][:2].to_numpy() == pytest.approx(1)
    classifier = tiny.part("classifier", "resnet50")
    for name, rows in table.groupby("line"):
        images = torch.from_numpy(tiny.images[name])
        with torch.no_grad():
            logits = classifier(images).numpy()
        probabilities = softmax(logits.astype(np.float64), axis=1)
        np.testing.assert_array_equal(rows["predicted"], logits.argmax(1))
        np.testing.assert_allclose(rows["confidence"], probabilities.max(1), rtol=1e-4)
        own = probabilities[range(3), LABELS]
        np.testing.assert_allclose(rows["confidence_in_label"], own, rtol=1e-4)
        np.testing.assert_array_equal(rows["correct"], logits.argmax(1) == LABELS)
        classes = LABELS if target == "label" else logits.argmax(1)
        maps = grad_cam(classifier, images, torch.from_numpy(classes)).flatten(1)
        with torch.no_grad():
            answers = classifier(torch.from_numpy(tiny.images["AE"])).argmax(1)
        classes = torch.from_numpy(LABELS) if target == "label" else answers
        truth = grad_cam(classifier, torch.from_numpy(tiny.images["AE"]), classes).flatten(1)
        cosines = torch.cosine_similarity(maps, truth).numpy()
        np.testing.assert_allclose(rows["cam_similarity"], cosines, atol=1e-4)
        for metric in ("cam_similarity", "mse", "confidence_in_label", "correct"):
            np.testing.assert_array_equal(tiny.values(metric, name), rows[metric].astype(float))


def test_an_overlay_shows_as_much_of_the_image_as_the_map_leaves():
    _, axes = plt.subplots()
    attention.heat(axes, np.array([[0.0, 1.0], [2.0, 8.0]]), 4.0)
    (over,) = axes.images
    np.testing.assert_allclose(over.get_alpha(), [[0, 0.2], [0.4, 0.8]])
    assert over.get_clim() == (0, 4)
    _, axes = plt.subplots()
    attention.heat(axes, np.zeros((2, 2)), 4.0)
    assert not axes.images
    assert axes.texts[0].get_text() == "no\nactivation"


def test_only_levels_are_coloured_as_such():
    panels = {"one": ["AE", "SR", "diffusion", "other"], "two": ["AE", "SR", "diffusion"]}
    numbers = {"content_distance": 1, "normalised": 1, "normalised_low": 1, "normalised_high": 1}
    shared = {"layer": "stage1", "n": 2, "features": "f"} | numbers
    frame = pd.DataFrame([{"line": label} | shared for label in panels["one"]])
    with styled():
        drawn = content.draw(frame, panels, "AE", ["diffusion", "other"]).axes
        plain = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    looks = [[x.lines[0] for x in axes.containers] for axes in drawn]
    colours = [[to_hex(line.get_color()).upper() for line in panel] for panel in looks]
    assert colours[1] == plain[:3]
    assert colours[0][:2] == plain[:2]
    assert not set(colours[0][2:]) & set(plain)
    for panel in looks:
        assert len({line.get_marker() for line in panel}) == len(panel)


def test_what_only_a_purifier_made_are_the_levels(tiny, monkeypatch):
    other = {"label": "other", "purifier": "vpsde-t90", "panels": "a"}
    both = {"label": "both", "purifier": "vpsde-t90", "restorer": "esrgan-x2"}
    path = CHAINS["diffusion"].replace("none", "esrgan-x2")
    tiny.store(path, "images", np.ones((3, 3, 32, 32), np.float32))
    calls = []
    monkeypatch.setattr(content, "draw", lambda *given: calls.append(given) or plt.figure())
    tiny.build(CONTENT | {"lines": [*LINES, other, both]})
    ((_, panels, reference, levels),) = calls
    labels = ["AE", "SR", "diffusion", "other", "both"]
    assert panels == {"(a) one": labels, "(b) two": [x for x in labels if x != "other"]}
    assert (reference, levels) == ("AE", ["diffusion", "other"])


def test_grad_cam_by_hand():
    """Of a network whose gradient is known: two maps of a 1 x 1 convolution, pooled and weighed."""
    convolution, linear = nn.Conv2d(3, 2, 1, bias=False), nn.Linear(2, 2, bias=False)
    convolution.weight.data = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).reshape(2, 3, 1, 1)
    linear.weight.data = torch.tensor([[2.0, -1.0], [-3.0, 0.5]])
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = nn.Sequential(convolution, pool, linear).requires_grad_(False)
    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    found = grad_cam(network, images, torch.tensor([0, 1]))
    red, green = images[:, 0] / 36, images[:, 1] / 36  # the pooling's gradient is 1/36
    expected = torch.stack([2 * red[0] - green[0], -3 * red[1] + 0.5 * green[1]]).relu()
    torch.testing.assert_close(found, expected)


def test_grad_cam_is_taken_before_the_global_pooling():
    classifier = part_of("classifier", "c", {"kind": "efficientnet-lite0"}).build()
    seen = []
    classifier.network.global_pool.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    layer = last_map(classifier, images)
    layer.register_forward_hook(lambda *call: seen.append(call[-1]))
    with torch.no_grad():
        classifier(images)
    assert torch.equal(seen[-1], seen[-2])
    with pytest.raises(UserError, match="no feature maps"):
        last_map(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), torch.rand(1, 3, 4, 4))


def test_grad_cam_refuses_a_transformer():
    entry = {"kind": "pretrained", "library": "timm", "name": "deit_tiny_patch16_224"}
    classifier = part_of("classifier", "c", {**entry, "weights": None}).build()
    with pytest.raises(UserError, match="needs a feature map, and the classifier is one of tokens"):
        grad_cam(classifier, torch.rand(1, 3, 224, 224), torch.tensor([0]))


def test_a_map_with_its_channels_last_is_none():
    images = torch.zeros(1, 3, 224, 160)
    assert is_map(torch.zeros(1, 64, 7, 5), images)
    assert not is_map(torch.zeros(1, 7, 5, 64), images)
    assert not is_map(torch.zeros(1, 64, 1, 1), images)


def test_a_line_that_the_track_cannot_serve_says_why(tiny):
    lost = {"label": "lost", "restorer": "ours"}
    before = tiny.config
    tiny.serve(restorers={"ours": {"unavailable": "no offline stand-in"}})
    try:
        table = tiny.build(CONTENT | {"lines": [*LINES, lost]})
        row = table.iloc[-1]
        assert (row["line"], np.isnan(row["normalised"])) == ("lost", True)
        assert row["note"].startswith("restorer ours: no offline")
        last = pd.read_csv(tiny.results / "measures" / "figure.csv").iloc[-1]
        assert last.dropna().to_dict() == {"line": "lost", "note": row["note"]}
        # all others are compared with the line that is the reference
        table = tiny.build(CONTENT | {"lines": [*LINES, lost], "reference": "lost"})
        assert list(table["line"]) == ["AE", "SR", "diffusion", "lost"]
        assert list(table.columns) == ["line", "note"]
        values = pd.read_csv(tiny.results / "measures" / "figure.csv")
        assert list(values["line"]) == ["AE", "SR", "diffusion", "lost"]
        way = {key: value for key, value in CONTENT.items() if key not in ("panels", "reference")}
        tiny.build(way | {"kind": "transition", "lines": [lost | {"purifier": "vpsde-t90"}]})
        values = pd.read_csv(tiny.results / "measures" / "figure.csv")
        states = ["attacked", "restored", "diffused", "purified"]
        assert list(values["line"]) == [f"lost, {state}" for state in states]
        assert values["note"].str.startswith("restorer ours").all()
    finally:
        tiny.config = before


@pytest.mark.parametrize(
    ("dataset", "raw", "read"),
    [
        ({"subset": 512}, CONTENT, 1),
        ({"subset": 512}, CONTENT | {"count": 64}, 1),
        ({"subset": 512}, CONTENT | {"count": 65}, 2),
        ({"subset": 20}, CONTENT | {"count": 20}, 8),  # of 2 or 3 images
        ({"subset": 20}, CONTENT | {"count": 250}, 8),
        ({"subset": None}, CONTENT | {"count": 250}, 1),  # of a size that the track does not say
        ({"subset": 512}, SHARED | {"kind": "rounds"}, 8),
    ],
)
def test_as_many_shards_are_read_as_have_the_images(repository, tmp_path, dataset, raw, read):
    config = load_config(repository / "config" / "paper.yaml")
    entry = config.dataset("imagenet").model_copy(update=dataset)
    config = config.model_copy(update={"datasets": {"imagenet": entry}})
    shards = {folder.split("/")[-1] for folder in figure_of(tmp_path, raw).stores(config)}
    assert shards == {f"{i}-of-8" for i in range(read)}


def test_every_figure_names_what_both_tracks_know(repository):
    files = sorted((repository / "config" / "figures").glob("*.yaml"))
    paper = [f"figure{i}" for i in range(2, 7)]
    assert {file.stem for file in files} == {*paper, "geometry", "geometry-cifar10"}
    for track in ("config.yaml", "paper.yaml"):
        config = load_config(repository / "config" / track)
        for file in files:
            figure = load_result(file)
            assert figure.served(config) == list(figure.lines)
            assert figure.stores(config)
            assert figure.computes == bool(figure.parts(config))
            if figure.kind in ("maps", "transition"):
                layers = config.part("features", figure.features).options["layers"]
                assert len(layers) == {"maps": 1, "transition": 2}[figure.kind]


def test_only_what_draws_depends_on_the_seed(repository):
    config = load_config(repository / "config" / "config.yaml")
    other = config.model_copy(update={"seed": 7})
    for file in (repository / "config" / "figures").glob("*.yaml"):
        figure = load_result(file)
        same = figure.trigger(config) == figure.trigger(other)
        assert same == (figure.kind not in ("transition", "geometry")), file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "contents"}, "unknown kind of figure .* did you mean 'content'"),
        ({"kind": None}, "no kind given; known are attention, content"),
        ({"reference": "AF"}, "line .*did you mean 'AE'"),
        ({"features": "vgg18"}, "unknown features 'vgg18': did you mean 'vgg19"),
        ({"attack": "pgd-linf5"}, "did you mean 'pgd-linf"),
        ({"count": 0}, "count"),
        ({"shown": [0]}, "shown"),
        ({"definition": "eq8"}, "'eq7'"),
        ({"lines": [*LINES, LINES[0]]}, "same label"),
        ({"lines": [LINES[0] | {"panels": "ac"}]}, "line 'AE' is in panels 'ac'"),
        (
            {"lines": [CLEAN, *LINES], "reference": "clean"},
            "tests: line 'clean' has content distance 0 at layer stage1",
        ),
    ],
)
def test_mistakes_in_a_figure(tiny, change, message):
    with pytest.raises(UserError, match=message) as caught:
        tiny.build(CONTENT | change)
    assert "\n" not in str(caught.value)


def test_what_is_shown_is_measured(tiny):
    raw = SHARED | {"kind": "attention", "target": "label", "reference": "AE", "count": 3}
    with pytest.raises(UserError, match="shown 3 is not one of its 3 images"):
        tiny.build(raw | {"shown": [0, 3]})


@pytest.mark.parametrize("kind", ["attention", "maps"])
def test_an_image_that_is_not_there_cannot_be_shown(tiny, kind):
    maps = {"features": "vgg19-conv2-2", "definition": "eq7"}
    own = {"attention": {"target": "label"}, "maps": maps}
    raw = SHARED | own[kind] | {"kind": kind, "reference": "AE", "count": 9, "shown": [0, 3]}
    with pytest.raises(
        UserError, match=r"tests shows image 3, .* but 3 of data set imagenet are there"
    ):
        tiny.build(raw)


def test_a_transition_begins_with_an_attack(tiny):
    raw = {key: value for key, value in CONTENT.items() if key not in ("panels", "reference")}
    with pytest.raises(UserError, match="line 'clean' has no attack"):
        tiny.build(raw | {"kind": "transition", "lines": [CLEAN]})


@pytest.mark.parametrize(
    ("raw", "count"),
    [
        (SHARED | {"kind": "rounds", "lines": LINES[:1]}, 3),
        (CONTENT | {"lines": LINES[:1], "count": 9}, 3),
        (CONTENT | {"lines": LINES[:1], "count": 1}, 1),
    ],
)
def test_a_figure_is_of_all_shards_but_of_no_more_images_than_it_takes(tiny, tmp_path, raw, count):
    figure = tiny.figure(raw)
    dataset = tiny.config.dataset("imagenet").model_copy(update={"shards": 2, "subset": 3})
    track = tiny.config.model_copy(update={"datasets": {"imagenet": dataset}})
    random = np.random.default_rng(4)
    for folder in figure.stores(track):
        part = slice(0, 2) if folder.endswith("0-of-2") else slice(2, 3)
        array = "logits" if folder.startswith("classify") else "images"
        found = random.random((len(LABELS[part]), 3, 32, 32), dtype=np.float32)
        found = found.reshape(len(found), -1) if array == "logits" else found
        arrays = {array: found, "success": np.ones(len(found), dtype=bool)}
        samples = {"labels": LABELS[part], "indices": INDICES[part], "name": array}
        put(tmp_path, folder, track, arrays, **samples)
    csv, *_, measures = figure.build(track, "f", tmp_path, None)
    assert set(pd.read_csv(csv)["n"]) == {count}
    for _, values in pd.read_csv(measures).groupby(["metric", "layer"], dropna=False):
        assert values["index"].tolist() == list(INDICES[:count])


def test_rounds_are_of_all_images(tiny):
    with pytest.raises(UserError, match="count"):
        tiny.build(SHARED | {"kind": "rounds", "count": 2})
