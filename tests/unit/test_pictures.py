"""What a reader sees in a picture: what served, every number, and meaning without colour."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from PIL import Image, ImageColor

from puriflow.chain import Chain
from puriflow.config import load_config
from puriflow.metrics.accuracy import wilson
from puriflow.plots import attention, bars, content, cost, maps, rounds, sheets, sweep, transition
from puriflow.plots.colours import CROSS_ENTROPY, RIGHT, SQUARED_ERROR, WRONG
from puriflow.plots.ends import End, label_ends, spread
from puriflow.plots.style import styled, titled
from puriflow.results import load_result
from puriflow.results.columns import frame
from puriflow.results.documents import SIGNS, Grid, Toned, as_html, as_markdown
from puriflow.results.rows import Threat
from puriflow.results.served import axis, distinct, here, renamed
from puriflow.results.shown import Chains, Shown, images
from puriflow.results.table import COLUMNS, ROLES


@pytest.fixture(autouse=True)
def _styled():
    with styled():
        yield
    plt.close("all")


@pytest.fixture
def track(repository):
    return load_config(repository / "config" / "config.yaml")


def boxes(figure, texts):
    """Where texts lie, in pixels."""
    figure.canvas.draw()
    return [text.get_window_extent() for text in texts if text.get_text()]


def shown(table, track, row):
    chains = None if row.quoted else table.chains(track, row)
    return Shown(row, {role: table.role(row, role) for role in (*ROLES, "attack")}, chains)


def called(table, track, row):
    return shown(table, track, row).called(track)


def apart(found):
    return not any(a.overlaps(b) for i, a in enumerate(found) for b in found[:i])


# What served


@pytest.mark.parametrize(
    ("text", "served", "said"),
    [
        ("ResNet-50", {"resnet50": "lite0"}, "lite0 (for\xa0ResNet-50)"),
        ("Nie, ResNet-50", {"resnet50": "lite0"}, "Nie, lite0 (for\xa0ResNet-50)"),
        ("ResNet-500", {"resnet50": "lite0"}, "ResNet-500"),
        ("ResNet-50", {"resnet50": "ResNet 50"}, "ResNet-50"),  # the paper's own
        ("AT", {"wrn-28-10-at": "wrn-10-2-at-mini"}, "AT"),
        ("(a|b)\\1", {"--": "x", "a|b": "c.d"}, "(c.d)\\1 (for\xa0a|b)"),
    ],
)
def test_what_served_stands_where_the_paper_s_name_would(text, served, said):
    assert renamed(text, served) == said


def test_the_labels_of_table_7_name_what_served_and_not_the_role(repository, track):
    table = load_result(repository / "config" / "tables" / "table7.yaml")
    names = [called(table, track, row) for row in table.rows]
    rows = [{"method": name, "n": 20, "standard": 90.0, "robust": 0.0} for name in names]
    (axes,) = bars.draw(frame(rows, COLUMNS), "t").axes
    labels = [label.get_text().replace("\xa0", " ") for label in axes.get_yticklabels()]
    assert labels[0].split() == ["efficientnet-lite0", "(for", "ResNet-50)"]
    assert labels[1] == "No initialisation"
    assert "drln-x2-mini (for DRLN x2)" in labels
    assert not [x for x in labels if x.startswith("ResNet")]
    roles = [named for row in table.rows for named in table.roles(row)]
    assert here(track, roles) == "here: efficientnet-lite0 on imagenet-foolbox20 under pgd-linf4"


def test_what_is_quoted_keeps_its_name(repository, track):
    table = load_result(repository / "config" / "tables" / "table4.yaml")
    quoted = [row for row in table.rows if row.quoted]
    assert quoted
    assert all(called(table, track, row) == row.method for row in quoted)


def test_more_than_three_are_counted(track):
    roles = [("attack", f"pgd-linf8-{x}") for x in ()]
    assert here(track, roles) == ""
    names = [name for name, entry in track.classifiers.items() if not entry.unavailable][:4]
    assert here(track, [("classifier", name) for name in names]) == "here: 4 classifiers"
    two = [("classifier", name) for name in names[:2]]
    assert " and " in here(track, two)


# A table's bars


def a_table(*numbers):
    rows = []
    for i, (standard, robust) in enumerate(numbers):
        row = {"method": f"row {i}", "n": 20, "standard": standard, "robust": robust}
        for name in ("standard", "robust"):
            low, high = (100 * x for x in wilson(row[name] / 5, 20)) if standard >= 0 else (0, 0)
            row |= {f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return frame(rows, COLUMNS)


def test_a_bar_of_zero_is_seen_and_has_its_number():
    figure = bars.draw(a_table((90.0, 0.0), (100.0, 5.0)), "t")
    (axes,) = figure.axes
    figure.canvas.draw()
    (zero,) = (bar for bar in axes.patches if bar.get_width() == 0)
    assert zero.get_linewidth() > 3
    assert zero.get_edgecolor()[3] == 1
    assert not zero.get_clip_on()
    said = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert said["0"] == pytest.approx(zero.get_y() + zero.get_height() / 2)
    assert set(said) == {"90", "0", "100", "5"}
    right = axes.get_window_extent().x1
    assert all(box.x0 > right for box in boxes(figure, axes.texts))  # no bar, no interval there


def test_a_row_without_numbers_says_that_it_was_not_run():
    rows = pd.concat([a_table((50.0, 20.0)), frame([{"method": "quoted"}], COLUMNS)])
    (axes,) = bars.draw(rows.assign(paper_robust=[np.nan, 40.0]), "t").axes
    said = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert said["not run here"] == 0  # the last row's place
    assert set(said) == {"50", "20", "not run here"}


def test_a_table_of_which_nothing_was_run_is_drawn():
    rows = frame([{"method": "quoted"}, {"method": "not served"}], COLUMNS)
    figure = bars.draw(rows, "t")
    (axes,) = figure.axes
    figure.canvas.draw()
    assert [text.get_text() for text in axes.texts] == ["not run here"] * 2
    assert axes.get_xlabel() == "accuracy (%)"
    cost.draw(rows, "t").canvas.draw()


def test_bars_are_told_apart_without_colours():
    ours = ["standard, ours (upper)", "robust, ours (lower)"]
    for paper, named in ((np.nan, []), (50.0, ["paper"])):
        figure = bars.draw(a_table((90.0, 10.0)).assign(paper_robust=paper), "t")
        (axes,) = figure.axes
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == [*ours, *named]
    standard, robust = axes.patches
    assert (standard.get_width(), robust.get_width()) == (90, 10)
    assert standard.get_y() > robust.get_y()


@pytest.mark.parametrize("count", [1, 50])
def test_as_many_rows_as_there_are_and_names_as_long_can_be_read(count):
    long = "an extremely long name, with commas, of a defence that nobody would print $a_b$ $"
    rows = pd.concat([a_table((100.0, 0.0))] * count).assign(method=long)
    rows["attack_failed"] = "why"
    figure = bars.draw(rows, "t")
    titled(figure, f"{long}: {long}\nhere: {long}")
    (axes,) = figure.axes
    labels = axes.get_yticklabels()
    found = boxes(figure, [*labels, *axes.texts])
    assert apart(found)
    assert apart([*boxes(figure, [figure._suptitle]), axes.get_window_extent()])
    assert min(box.x0 for box in found) >= 0
    assert max(box.x1 for box in found) <= figure.bbox.x1


# Sheets


@dataclass
class Store:
    folder: Path
    images: np.ndarray

    def read(self, name, start, stop):
        return self.images[start:stop]


@dataclass
class Measured:
    right: dict


class Stores:
    """Three images, of which the undefended classifier and a defence are right or not."""

    clean = np.full((3, 3, 8, 8), 0.5, np.float32)

    def shards(self, chain, stage):
        images = self.clean + (0 if stage == "images" else 4 / 255)
        return [Store(Path(chain.folder(stage, "0-of-1")), images.astype(np.float32))]

    def measure(self, chain):
        right = {
            ("none", "none"): [1, 1, 0],
            ("pgd", "none"): [0, 1, 0],
            ("none", "d"): [1, 1, 0],
            ("pgd", "d"): [1, 0, 0],
        }
        return Measured({"first": np.array(right[chain.attack, chain.purifier], float)})


def rows_of(*purifiers):
    found = []
    for purifier in purifiers:
        clean = Chain("data", purifier=purifier, classifier="net")
        attacked = Chain("data", "pgd", "net", purifier=purifier, classifier="net")
        found.append(Chains(f"by {purifier}", clean, {"PGD on NET": attacked}))
    return found


def test_a_sheet_names_the_attack_marks_every_tile_and_has_a_difference():
    found = list(images(rows_of("none", "d"), Stores()))
    names = ["clean", "attacked by PGD on NET", "attacked less clean, x\xa032", "by d"]
    assert [row.name for row in found] == names
    clean, attacked, difference, purified = found
    assert clean.words == ["right", "right", "wrong"]
    assert attacked.words == ["fooled", "right", "wrong"]
    assert purified.words == ["right", "fooled", "wrong"]
    assert not difference.words
    np.testing.assert_allclose(difference.images, min(0.5 + 32 * 4 / 255, 1), atol=1e-5)


def test_what_no_classifier_was_asked_about_has_no_word():
    clean, attacked, _, purified = images(rows_of("d"), Stores())
    assert (list(clean.words), list(attacked.words)) == ([], [])
    assert len(purified.words) == 3
    (nothing,) = images([], Stores())
    assert nothing.name == "nothing is served"


def test_the_chains_of_a_row_say_which_attack_on_what(repository, track):
    table = load_result(repository / "config" / "tables" / "table7.yaml")
    found = shown(table, track, table.rows[1]).tiles(track)
    assert found.method == "No initialisation"
    assert list(found.attacked) == ["pgd-linf4 on efficientnet-lite0"]


def test_attacks_that_are_served_by_the_same_words_are_all_shown(repository):
    track = load_config(repository / "config" / "config.yaml")
    one = track.attacks["pgd-linf4"].model_copy(update={"served_by": "PGD"})
    track = track.model_copy(update={"attacks": {**track.attacks, "a": one, "b": one}})
    table = load_result(repository / "config" / "tables" / "table7.yaml")
    row = table.rows[1].model_copy(update={"attack": (Threat(attack="a"), Threat(attack="b"))})
    found = shown(table, track, row).tiles(track).attacked
    assert {words: chain.attack for words, chain in found.items()} == {
        "PGD on efficientnet-lite0 (a)": "a",
        "PGD on efficientnet-lite0 (b)": "b",
    }


def test_marks_are_words_in_frames(tmp_path):
    tiles = np.ones((3, 3, 8, 8))
    words = ["right", "fooled", "wrong"]
    for name, row in (("said", sheets.Row("r", tiles, words)), ("plain", sheets.Row("r", tiles))):
        sheets.contact_sheet([row], tmp_path / f"{name}.png", side=100, margin=10)
    said, plain = (np.asarray(Image.open(tmp_path / f"{x}.png")) for x in ("said", "plain"))
    assert (plain[:, 10:] == 255).all()
    corners = [said[0, 10 + 102 * i] for i in range(3)]
    for corner, colour in zip(corners, (RIGHT, WRONG, WRONG), strict=True):
        assert tuple(corner) == ImageColor.getrgb(colour)
    fooled, wrong = (said[80:, 10 + 102 * i : 110 + 102 * i] for i in (1, 2))
    assert (fooled != wrong).any()  # of the same colour, they are other words


def test_a_sheet_has_its_title_and_its_legend(tmp_path):
    row = sheets.Row("a name of an attack that has no room in a line", np.zeros((1, 3, 8, 8)))
    sheets.contact_sheet([row], tmp_path / "s.png", above="title\nhere", below="legend")
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    assert sheet.shape == (46 + 114 + 28, 640, 3)
    assert (sheet[:46] < 128).any()
    assert (sheet[-28:] < 128).any()
    margin = sheet[46:-28, :150]
    assert (margin[:, :140] < 128).any()
    assert (margin[:, 146:] > 128).all()  # the name does not run into the image


@pytest.mark.parametrize("most", [0.0, 0.001, 4 / 255, 0.4, 1.0])
def test_a_difference_can_be_seen_and_its_sign_told(most):
    before = np.full((1, 3, 4, 4), 0.5)
    after = before + np.where(np.arange(4) % 2, most, -most)
    shown, gain = sheets.difference(before, after)
    assert shown.min() >= 0
    assert shown.max() <= 1
    if not most:
        assert (gain, np.ptp(shown)) == (1, 0)
        return
    np.testing.assert_allclose(shown, (0.5 + gain * (after - before)).clip(0, 1))
    assert np.ptp(shown) > (0.2 if most == 0.001 else 0.6)
    assert (shown[..., 1] > shown[..., 0]).all()


# Figures


def an_answer(*, correct=True):
    image, cam = np.zeros((3, 4, 4)), np.ones((4, 4))
    return attention.Answer(image, cam, 2.0, "a class", 0.5, correct)


def test_figure_2_is_in_groups_and_says_what_its_colours_are():
    groups = {
        "clean images": {"one": [an_answer()]},
        "attacked by pgd": {"two": [an_answer(correct=False)]},
    }
    figure = attention.draw(groups, "the true class", "one")
    figure.canvas.draw()
    height = {}
    for axes in figure.axes:
        for text in (*axes.texts, axes.yaxis.label, axes.xaxis.label, axes.title):
            height[text.get_text()] = axes.get_window_extent().y1
    order = ["clean images", "one", "attacked by pgd", "two", "maximum of 'one'"]
    heights = [height[word] for word in order]
    assert heights == sorted(heights, reverse=True)
    assert "\N{CHECK MARK} a class, 50 %" in height
    assert "\N{BALLOT X} a class, 50 %" in height
    assert "Grad-CAM of the true class, over the image:" in height
    bar = figure.axes[-1].images[0].get_array()[0]
    np.testing.assert_allclose(bar[0], 1)  # 0 is the bare image
    top = np.array(plt.get_cmap("inferno")(1.0)[:3])
    np.testing.assert_allclose(bar[-1], 0.8 * top + 0.2, atol=1e-6)


def test_every_row_of_maps_has_a_bar_of_its_scale():
    image = np.zeros((3, 4, 4))
    columns = {"a": [(image, np.eye(4), 0 * np.eye(4))], "b": [(image, 3 * np.eye(4), np.eye(4))]}
    figure = maps.draw(columns, "stage2 of net")
    drawn = [image for axes in figure.axes for image in axes.images]
    scales = [image.colorbar.ax.get_ylim() for image in drawn if image.colorbar]
    assert scales == [(0, 3), (0, 1)]
    heats = [image for image in drawn if np.ndim(image.get_array()) == 2]
    assert [image.get_clim() for image in heats] == [(0, 3), (0, 3), (0, 1), (0, 1)]


def test_figure_4_is_labelled_at_the_ends_of_its_lines():
    panels = {"one": [f"line {i}" for i in range(9)]}
    rows = [
        {"line": label, "layer": layer, "n": 2, "features": "f", "normalised": value}
        | {"normalised_low": value, "normalised_high": value}
        for i, label in enumerate(panels["one"])
        for layer, value in (("a", 2.0), ("b", 1 + i / 1000))
    ]
    figure = content.draw(pd.DataFrame(rows), panels, "line 0", [])
    (axes,) = figure.axes
    assert not figure.legends
    assert axes.get_legend() is None
    labels = [text.get_text() for text in axes.texts]
    assert labels == panels["one"]
    found = boxes(figure, axes.texts)
    heights = [text.get_position()[1] for text in axes.texts]
    assert heights == sorted(heights)  # in the order of the ends
    steps = np.diff(heights) * axes.get_window_extent().height
    assert steps.min() > 7 / 72 * figure.dpi  # of one line of text
    assert max(box.x1 for box in found) <= figure.bbox.x1
    for text, drawn in zip(axes.texts, axes.containers, strict=True):
        line = drawn.lines[0]
        assert text.xy == (line.get_xdata()[-1], line.get_ydata()[-1])
        assert to_hex(text.arrow_patch.get_edgecolor()) == to_hex(line.get_color())


def test_labels_are_spread_no_more_than_they_must():
    assert spread([0.1, 0.9], 0.1) == [0.1, 0.9]
    np.testing.assert_allclose(spread([0.5, 0.5, 0.5], 0.1), [0.4, 0.5, 0.6])
    np.testing.assert_allclose(spread([0.6, 0.5, 0.58], 0.1), [0.66, 0.46, 0.56])
    assert spread([], 0.1) == []
    _, axes = plt.subplots()
    label_ends(axes, [End(0, np.nan, "none", "black"), End(0, 0.5, "one", "black")])
    assert [text.get_text() for text in axes.texts] == ["one"]


def a_way():
    states = {
        "diffusion": [("attacked", 700, 50), ("diffused", 1800, 2.2), ("back", 2000, 2.0)],
        "both": [("attacked", 700, 50), ("restored", 400, 9), ("diffused", 1800, 2.1)],
    }
    states["diffusion"].append(("purified", 1000, 2.6))
    states["both"].append(("purified", 1000, 2.5))
    return pd.DataFrame(
        {"line": line, "state": state, "layer": layer, "features": "f", "n": 9}
        | {"content_distance": x, "cross_entropy": y}
        for layer in ("a", "b")
        for line, points in states.items()
        for state, x, y in points
    )


def test_figure_5_shows_the_way_and_its_end_enlarged():
    figure = transition.draw(a_way())
    figure.canvas.draw()
    whole, other, enlarged, _ = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        *("a", "b", "enlarged: denoising", "enlarged: denoising")
    ]
    arrows = [text for text in whole.texts if text.arrow_patch is not None]
    assert len(arrows) == 5  # attacked, (restored,) diffused, purified; a short one has none
    first = arrows[0]
    assert first.xy[0] > first.xyann[0]  # from the attacked image to the diffused one,
    assert first.xy[1] < first.xyann[1]  # whose cross-entropy is lower
    low, high = enlarged.get_ylim()
    assert 1.5 < low < 2
    assert 2.6 < high < 4
    left, right = enlarged.get_xlim()
    assert left > 800
    assert right < 2200
    for axes in (whole, enlarged):
        ticks = [label.get_text() for label in axes.get_yticklabels() if label.get_text()]
        inside = [x for x in ticks if axes.get_ylim()[0] <= float(x) <= axes.get_ylim()[1]]
        assert len(inside) >= 3, ticks
    styles = {line.get_label(): line.get_linestyle() for line in other.lines}
    assert (styles["diffusion"], styles["both"]) == ("--", "-")


def test_a_way_without_diffusion_is_drawn():
    rows = a_way()
    rows = rows[rows["state"].isin(["attacked", "restored"])]
    assert len(transition.draw(rows).axes) == 2


def test_the_axes_of_figure_6_are_in_the_colours_of_their_lines():
    numbers = {"mse": 0.001, "cross_entropy": 5.0, "standard": 100.0, "robust": 0.0}
    bounds = {f"{name}_{end}": value for name, value in numbers.items() for end in ("low", "high")}
    rows = pd.DataFrame([{"line": "AE", "n": 3, "attack_failed": None} | numbers | bounds])
    figure = rounds.draw(rows)
    figure.canvas.draw()
    above, _, beside = figure.axes
    for axes, side, colour in ((above, "left", SQUARED_ERROR), (beside, "right", CROSS_ENTROPY)):
        line = axes.containers[0].lines[0]
        look = [line.get_color(), axes.yaxis.label.get_color(), axes.spines[side].get_edgecolor()]
        look += [axes.yaxis.get_offset_text().get_color()]
        look += [label.get_color() for label in axes.get_yticklabels()]
        assert {to_hex(x).lower() for x in look} == {colour.lower()}
        assert axes.spines[side].get_visible()
        assert not axes.spines["left" if side == "right" else "right"].get_visible()
    styles = [axes.containers[0].lines[0] for axes in (above, beside)]
    assert styles[0].get_linestyle() != styles[1].get_linestyle()  # without colour
    assert "\N{BLACK SQUARE}" in above.get_ylabel()
    assert "\N{BLACK DIAMOND}" in beside.get_ylabel()


def test_every_figure_has_its_title_within_the_picture():
    figure, axes = plt.subplots(figsize=(3.25, 2))
    titled(figure, f"Figure 9: {'words ' * 40}\nhere: net")
    (box,) = boxes(figure, [figure._suptitle])
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1
    assert not box.overlaps(axes.get_window_extent())
    assert axes.get_window_extent().height > 1.2 * figure.dpi  # the title takes nothing from it


# Sweeps


def a_sweep(values, **others):
    rows = [
        {"along": along, "line": line, "metric": metric, "value": value, "n": 4}
        | {"low": value - 1, "high": value + 1, "attack_failed": None}
        for metric, value in values
        for line in ("a", "b")
        for along in (0.0, 10.0)
    ]
    panels = {metric: f"{metric} (%)" if metric == "robust" else metric for metric, _ in values}
    words = {"along": "x", "reference": "reference", "heading": "restorer"} | others
    return sweep.draw(pd.DataFrame(rows), panels, **words)


def test_a_sweep_has_a_heading_and_cross_entropy_by_its_logarithm():
    figure = a_sweep([("robust", 100.0), ("cross_entropy_attacked", 0.5), ("mse_clean", 0.5)])
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "log", "linear"]
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "restorer"
    figure.canvas.draw()
    low, high = figure.axes[1].get_ylim()
    assert 0 < low < 0.5 < high  # an interval that goes below 0 does not stretch it
    for container in figure.axes[0].containers:
        assert not container.lines[0].get_clip_on()  # whole at 100
    (zero,) = a_sweep([("cross_entropy_attacked", 0.0)]).axes
    assert zero.get_yscale() == "linear"


def test_a_sweep_of_which_nothing_is_served_is_drawn():
    names = ("along", "line", "metric", "value", "low", "high", "n", "attack_failed")
    figure = sweep.draw(pd.DataFrame(columns=list(names)), {"robust": "r (%)"}, "x", "r", "h")
    figure.canvas.draw()
    assert not figure.legends


def test_a_sweep_is_laid_out_within_the_picture():
    figure = a_sweep([("robust", 0.0)], along="words " * 30)
    titled(figure, "title")
    (axes,) = figure.axes
    found = boxes(figure, [axes.xaxis.label, axes.yaxis.label, figure._suptitle])
    assert apart([*found, axes.get_window_extent(), figure.legends[0].get_window_extent()])
    assert min(box.x0 for box in found) >= 0
    assert max(box.x1 for box in found) <= figure.bbox.x1


def test_axes_and_lines_are_in_words(repository, track):
    assert axis("purifier.t") == "diffusion time t' of the purifier"
    assert axis("attack.n_iter") == "n iter of the attack"
    assert axis("restorer") == "restorer"
    assert distinct({"a": "x", "b": "x", "c": "y"}) == {"a": "x (a)", "b": "x (b)", "c": "y"}
    levels = load_result(repository / "config" / "sweeps" / "levels.yaml")
    rows = [
        {"along": levels.place(track, p["purifier"]), "line": levels.line_of(track, p)}
        | {"metric": "robust", "value": 50.0, "low": 40.0, "high": 60.0, "n": 2}
        for p in levels.points.values()
    ]
    figure = levels.draw(track, frame(rows, levels.columns()))
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["no restorer", "esrgan-x2-mini"]


# Verdicts


def test_verdicts_have_a_colour_and_a_sign_in_html_and_are_words_elsewhere():
    cells = tuple(Toned(f"<{tone}>", tone) for tone in SIGNS)
    grid = Grid(tuple(SIGNS), (cells,))
    page = as_html([grid])
    assert len(set(SIGNS.values())) == len(SIGNS)  # who sees no colours tells them apart
    for tone, sign in SIGNS.items():
        assert f'<td class="{tone}">{sign} &lt;{tone}&gt;</td>' in page
        assert f"td.{tone}{{" in page
    assert "\u2713" not in as_markdown([grid])
    assert cells[0] == "<good>"
