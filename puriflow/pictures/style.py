"""The look of all figures (style.mplstyle), and how a drawing becomes files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib import pyplot as plt

STYLE = Path(__file__).with_name("style.mplstyle")


@contextmanager
def styled() -> Iterator[None]:
    """The look of all figures, drawn without a display."""
    matplotlib.use("agg")
    with plt.style.context(STYLE):
        yield


def save(drawn: plt.Figure, pictures: Sequence[Path]) -> None:
    """Write a drawing as each of `pictures`, .png or .svg, and close it."""
    for picture in pictures:
        picture.parent.mkdir(parents=True, exist_ok=True)
        # without it, an SVG holds the time at which it was made
        metadata = {"Date": None} if picture.suffix == ".svg" else None
        drawn.savefig(picture, metadata=metadata)
    plt.close(drawn)
