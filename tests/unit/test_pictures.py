"""What all pictures share: a style, and colours that mean the same everywhere."""

import re

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from PIL import Image

from puriflow.plots.loss import plot_curve
from puriflow.plots.style import ROBUST, STANDARD, styled
from puriflow.results.figures import bars


def test_colours_are_named_in_one_place(repository):
    files = [*(repository / "puriflow" / "pictures").glob("*.py")]
    files.append(repository / "puriflow" / "reporting/radii.py")
    found = {file.name for file in files if re.search(r"#[0-9A-Fa-f]{6}\b", file.read_text())}
    assert found == {"style.py"}


def test_a_table_s_bars_are_its_accuracies(tmp_path):
    columns = ("standard", "robust")
    row = {"method": "one", "type": "t", "n": 20, "standard": 80.0, "robust": 40.0, "note": ""}
    for name in columns:
        row |= {f"{name}_low": row[name] - 5, f"{name}_high": row[name] + 5}
    rows = pd.DataFrame([row, {"method": "not served"}])
    for paper in (75.0, np.nan):  # the paper may have no number at all
        rows = rows.assign(paper_standard=paper, paper_robust=paper)
        rows.to_csv(tmp_path / "t.csv", index=False)
        bars.plot_table(tmp_path / "t.csv", "a title", tmp_path / "t.png")
        with Image.open(tmp_path / "t.png") as picture:
            assert picture.size == (2100, 660)
    with styled():
        (axes,) = bars.draw(pd.concat([rows, rows.assign(n=6)]), "a title").axes
        assert axes.get_xlabel().startswith("accuracy (%), n = 20 or 6, 95 %")
        (axes,) = bars.draw(rows, "a title").axes
    drawn = {to_hex(bar.get_facecolor()).upper(): bar.get_width() for bar in axes.patches[::2]}
    assert drawn == {STANDARD: 80, ROBUST: 40}
    plt.close("all")


def test_a_training_curve_is_drawn(tmp_path):
    (tmp_path / "log").write_text('{"step": 100, "loss": 1.0}\n{"step": 200, "loss": 0.5}\n')
    plot_curve(tmp_path / "log", "net", tmp_path / "net.png")
    with Image.open(tmp_path / "net.png") as picture:
        assert picture.size == (1350, 780)
