"""The loss of a training run."""

import pandas as pd
from matplotlib import pyplot as plt

BEHIND_RESULTS = False


def draw(frame: pd.DataFrame, title: str) -> plt.Figure:
    """Draw the loss of a training run.

    Args:
        frame: a step a row: step, and loss, the mean since the row before.
        title: above the picture.
    """
    figure, axes = plt.subplots(figsize=(4.5, 2.6))
    axes.plot(frame["step"], frame["loss"], marker="")
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss, mean of 100 steps")
    axes.set_title(title)
    return figure
