"""The loss of a training run."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

from puriflow.plots.style import save, styled

BEHIND_RESULTS = False


def plot_curve(log: Path, title: str, out: Path) -> None:
    """Draw the loss of a training run by step.

    Args:
        log: JSON lines with `step` and `loss`.
        title: above the picture.
        out: .png or .svg.
    """
    rows = pd.read_json(log, lines=True)
    with styled(text=9):
        drawn, axes = plt.subplots(figsize=(4.5, 2.6))
        axes.plot(rows["step"], rows["loss"], marker="")
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("loss, mean of 100 steps")
        axes.set_title(title)
        save(drawn, [out])
