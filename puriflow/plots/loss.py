"""The loss of a training run."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

from puriflow.plots.style import save, styled

BEHIND_RESULTS = False


def plot(frame: pd.DataFrame, title: str, out: Path) -> None:
    """Draw the loss of a training run.

    Args:
        frame: a step a row: step, and loss, the mean since the row before.
        title: above the picture.
        out: .png or .svg.
    """
    with styled(text=9):
        figure, axes = plt.subplots(figsize=(4.5, 2.6))
        axes.plot(frame["step"], frame["loss"], marker="")
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("loss, mean of 100 steps")
        axes.set_title(title)
        save(figure, [out])
