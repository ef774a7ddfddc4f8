"""Maps beside the orthonormal projections that they are said to be: a panel for each measure."""

import pandas as pd
from matplotlib import pyplot as plt

from puriflow.plots.colours import STANDARD

PANELS = {
    "idempotence": "idempotent? |J J v - J v| / |J v|",
    "asymmetry": "symmetric? |J v - Jᵀ v| / (|J v| + |Jᵀ v|)",
    "left": "energy of the perturbation that is left",
    "turned": "turned by the attack? |J v - J₀ v| / |J₀ v|",
    "off_tangent": "distance from the tangent space (Eq. 10)",
}


def draw(frame: pd.DataFrame) -> plt.Figure:
    """The lines from top to bottom; the paper asserts 0 but of what is left.

    Args:
        frame: a line a row: line, n, and the measures with their bounds, where it has them.
    """
    panels = {name: frame.dropna(subset=name) for name in PANELS if name in frame}
    panels = {name: rows for name, rows in panels.items() if not rows.empty}
    heights = [len(rows) + 2.5 for rows in panels.values()]
    size = (3.25, 0.15 * sum(heights))
    figure, places = plt.subplots(
        len(panels), 1, figsize=size, squeeze=False, height_ratios=heights
    )
    for axes, (name, rows) in zip(places[:, 0], panels.items(), strict=True):
        y = range(len(rows))
        bounds = [rows[name] - rows[f"{name}_low"], rows[f"{name}_high"] - rows[name]]
        look = {"fmt": "o", "elinewidth": 0.8, "capsize": 2, "clip_on": False, "zorder": 3}
        axes.errorbar(rows[name], y, xerr=bounds, color=STANDARD, **look)
        axes.set_yticks(y, rows["line"])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.grid(axis="y", linewidth=0.3)
        axes.set_title(PANELS[name], loc="right")  # long names leave no room at its right
    figure.supxlabel(f"{frame['n'].iloc[0]} images, 95 % intervals", fontsize="medium")
    return figure
