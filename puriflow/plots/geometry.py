"""Maps beside the orthonormal projections that they are said to be: a panel for each measure."""

import pandas as pd
from matplotlib import pyplot as plt

from puriflow.plots.style import STANDARD

PANELS = {
    "idempotence": "|J J v - J v| / |J v|",
    "asymmetry": "|J v - Jᵀ v| / (|J v| + |Jᵀ v|)",
    "kept": "energy of the perturbation kept",
    "turned": "|J v - J₀ v| / |J₀ v|",
    "off_tangent": "distance from the tangent space",
}


def draw(frame: pd.DataFrame) -> plt.Figure:
    """The lines from top to bottom; 0 is what the paper asserts, but of what is kept.

    Args:
        frame: a line a row: line, n, and the measures with their bounds, where it has them.
    """
    shown = [name for name in PANELS if name in frame and frame[name].notna().any()]
    size = (3.25, len(shown) * (0.45 + 0.15 * len(frame)))
    figure, places = plt.subplots(len(shown), 1, figsize=size, squeeze=False)
    y = range(len(frame))
    for axes, name in zip(places[:, 0], shown, strict=True):
        bounds = [frame[name] - frame[f"{name}_low"], frame[f"{name}_high"] - frame[name]]
        look = {"fmt": "o", "elinewidth": 0.8, "capsize": 2, "clip_on": False, "zorder": 3}
        axes.errorbar(frame[name], y, xerr=bounds, color=STANDARD, **look)
        axes.set_yticks(y, frame["line"])
        axes.set_ylim(len(frame) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.grid(axis="y", linewidth=0.3)
        axes.set_title(PANELS[name])
    figure.supxlabel(f"{frame['n'].iloc[0]} images, 95 % intervals", fontsize="medium")
    return figure
