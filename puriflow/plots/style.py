"""The look of all figures (style.mplstyle and a few colours), and how a drawing becomes files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib import pyplot as plt

STYLE = Path(__file__).with_name("style.mplstyle")

# What one colour means in every figure. The first two are Okabe and Ito's, the others Tol's, which
# colour-blind readers tell apart and which are dark enough for text.
STANDARD, ROBUST = "#0072B2", "#D55E00"  # accuracies
RIGHT, WRONG = "#117733", "#AA4499"  # answers
SQUARED_ERROR, CROSS_ENTROPY = "#000000", "#882255"
PAPER = "#222222"  # the paper's own numbers
AIDE = "#777777"  # what belongs to no line


@contextmanager
def styled(text: float = 7) -> Iterator[None]:
    """The look of all figures, drawn without a display.

    Args:
        text: points. 7 are for a figure of one column; one that is wider takes more.
    """
    matplotlib.use("agg")
    with plt.style.context([STYLE, {"font.size": text}]):
        yield


def save(drawn: plt.Figure, pictures: Sequence[Path]) -> None:
    """Write a drawing as each of `pictures`, .png or .svg, and close it."""
    for picture in pictures:
        picture.parent.mkdir(parents=True, exist_ok=True)
        # without it, an SVG holds the time at which it was made
        metadata = {"Date": None} if picture.suffix == ".svg" else None
        drawn.savefig(picture, metadata=metadata)
    plt.close(drawn)
