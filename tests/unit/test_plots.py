"""What all plots share: a style, and colours that mean the same everywhere."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from PIL import Image

from puriflow.plots import bars, cost, eot, loss
from puriflow.plots.colours import ROBUST, STANDARD
from puriflow.plots.sheets import Row, contact_sheet
from puriflow.plots.style import looks, save, styled
from puriflow.results.columns import frame
from puriflow.results.table import COLUMNS


def test_colours_are_named_in_one_place(repository):
    files = [*(repository / "puriflow" / "plots").glob("*.py")]
    files += (repository / "puriflow" / "results").rglob("*.py")
    found = {file.name for file in files if re.search(r"#[0-9A-Fa-f]{6}\b", file.read_text())}
    assert found == {"colours.py"}


def test_plots_know_nothing_of_the_rest(repository):
    """But of errors and of how a file is written: they take frames and arrays."""
    files = (repository / "puriflow" / "plots").glob("*.py")
    imported = [re.findall(r"puriflow\.(\w+)", file.read_text()) for file in files]
    assert {room for rooms in imported for room in rooms} <= {"plots", "errors", "atomic"}


def test_a_table_s_bars_are_its_accuracies():
    row = {"method": "one", "type": "t", "n": 20, "standard": 80.0, "robust": 40.0, "note": ""}
    for name in ("standard", "robust"):
        row |= {f"{name}_low": row[name] - 5, f"{name}_high": row[name] + 5}
    rows = frame([row, {"method": "not served"}], COLUMNS)
    with styled():
        for paper in (75.0, np.nan):  # the paper may have no number at all
            own = rows.assign(paper_standard=paper, paper_robust=paper)
            (axes,) = bars.draw(own, "a title").axes
            drawn = {to_hex(b.get_facecolor()).upper(): b.get_width() for b in axes.patches[::2]}
            assert drawn == {STANDARD: 80, ROBUST: 40}
            assert axes.get_xlabel() == "accuracy (%), n = 20, 95 % Wilson intervals"
        (axes,) = bars.draw(pd.concat([rows, rows.assign(n=6)]), "a title").axes
    assert axes.get_xlabel().startswith("accuracy (%), n = 20 or 6, 95 %")
    plt.close("all")


def test_a_picture_is_a_file_of_each_ending_and_the_same_again(tmp_path):
    rows = frame([{"method": "one", "n": 2, "standard": 50.0, "robust": 0.0}], COLUMNS)
    files = [tmp_path / name for name in ("one.svg", "two.svg", "t.png")]
    with styled(text=10):
        save(bars.draw(rows, "a title"), files[:1])
        save(bars.draw(rows, "a title"), files[1:])
    assert files[0].read_bytes() == files[1].read_bytes()
    with Image.open(files[2]) as picture:
        assert picture.size == (2100, 562)


def test_a_training_curve_is_drawn(tmp_path):
    rows = pd.DataFrame({"step": [100, 200], "loss": [1.0, 0.5]})
    loss.plot(rows, "net", tmp_path / "n.png")
    with Image.open(tmp_path / "n.png") as picture:
        assert picture.size == (1350, 780)


@pytest.mark.parametrize("ending", ["png", "svg", "sheet.png"])
def test_a_picture_is_there_whole_or_as_it_was(tmp_path, monkeypatch, ending):
    """A full disk in the middle of a picture."""
    file = tmp_path / f"p.{ending}"
    file.write_bytes(b"the old one")

    def half(self, path, **_):
        path.write_bytes(b"hal")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(plt.Figure, "savefig", half)
    monkeypatch.setattr(Image.Image, "save", half)
    with styled():
        drawing = plt.figure()
    sheet = [Row("a", np.zeros((1, 3, 4, 4)))]
    with pytest.raises(OSError, match="No space left"):
        contact_sheet(sheet, file) if ending == "sheet.png" else save(drawing, [file])
    assert file.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [file]


def test_accuracy_against_cost_has_a_point_a_row_and_the_best_of_each_cost():
    said = {"attack_failed": None, "attack": "both", "n": 10, "type": "AP"}
    points = {"b": (2.0, 40.0), "a": (1.0, 30.0), "worse": (3.0, 35.0), "free": (0.1, 0.0)}
    rows = [
        {"method": name, **said, "seconds_per_image": x, "robust": y}
        | {"robust_low": y, "robust_high": y + 20}
        for name, (x, y) in points.items()
    ]
    rows.append(rows[0] | {"method": "trained", "type": "AT", "seconds_per_image": 0.2})
    table = frame([*rows, {"method": "not served"}], COLUMNS)
    with styled(text=10):
        axes, below = cost.draw(table, "a title").axes
    named = "\n".join(text.get_text() for text in below.texts).splitlines()
    assert named == ["1 b", "2 a", "3 worse", "4 free", "5 trained"]
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["Pareto line"].get_xdata().tolist() == [0.1, 0.2]
    assert lines["adversarial training"].get_ydata()[0] == 40
    failed = table.assign(attack_failed=["it helped", *[None] * 5])
    with styled(text=10):
        lines = {line.get_label(): line for line in cost.draw(failed, "a title").axes[0].lines}
    assert lines["Pareto line"].get_ydata().tolist() == [0, 40]
    alone = failed[failed["method"].isin(["a", "b"])]
    with styled(text=10):
        lines = {line.get_label(): line for line in cost.draw(alone, "a title").axes[0].lines}
    assert lines["Pareto line"].get_ydata().tolist() == [30]
    weaker = table.assign(attack=["identity", *["both"] * 5])
    with styled(text=10):
        lines = {line.get_label(): line for line in cost.draw(weaker, "a title").axes[0].lines}
    assert lines["Pareto line"].get_ydata().tolist() == [0, 40]
    assert lines["under other attacks"].get_xdata().tolist() == [2]
    assert cost.levels([(0.1, 0.0), (0.11, 1.0), (0.1, 20.0), (1.0, 0.0)]) == [0, 1, 0, 0]
    assert cost.pareto(np.array([2.0, 1, 3]), np.array([40.0, 30, 35])) == [1, 0]
    plt.close("all")


def test_of_more_lines_than_colours_no_two_look_the_same():
    with styled():
        seen = [tuple(sorted(look.items())) for look, _ in zip(looks(), range(21), strict=False)]
        assert len(set(seen)) == 21
        rows = [
            {"method": f"m{i}", "images": images, "draws": d, "metric": metric, "n": 4}
            | {"value": 0.1 * i, "low": 0.0, "high": 1.0}
            for i in range(9)
            for images, metric in (
                ("clean", "split_half_cosine"),
                ("attacked", "split_half_cosine"),
                ("attacked", "success_average"),
            )
            for d in (1, 2)
        ]
        figure = eot.draw(pd.DataFrame(rows), 0.5, "draws")
        marks = [box.lines[0] for box in figure.axes[2].containers]
        drawn = {
            (line.get_color(), line.get_marker(), line.get_linestyle(), line.get_markerfacecolor())
            for line in marks
        }
        assert len(drawn) == len(marks) == len(figure.legends[0].texts) == 9
        plt.close(figure)
