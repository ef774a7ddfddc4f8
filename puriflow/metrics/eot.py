"""How many draws the gradient of a random defence needs: the cosine of split halves.

The mean of K draws of an image's gradient is compared, by the cosine, with the mean of K others at
the same point: 1 if a mean says where the loss rises, 0 if it is noise. Where all draws are about
as long as each other, a signal with noise, the means of m times as many have the cosine

    c(m K) = m c(K) / (1 + (m - 1) c(K)),

which is Spearman and Brown's law of a test of m times the length. It is asked only beyond what was
measured, and from there on: a purifier's gradients differ in length, and a mean goes by the longest
of them, so that the cosine of single draws promises too much. Means of many are more alike.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from puriflow.metrics.paired import student_interval

Curve = Mapping[int, tuple[float, float, float]]  # by draws: a mean with its interval


def split_halves(gradients: Iterable[np.ndarray]) -> np.ndarray:
    """Cosines (N, 1 + log2 K) between means of 1, 2, 4, ... K draws of gradients and of K others.

    Each draw counts at every K: of runs of K draws, neighbours are compared, and the mean over all
    of these pairs is taken. What is kept is a sum for each K, whatever the number of draws. The
    cosine with a gradient of zeros, which has no direction, is 0.

    Args:
        gradients: 2K independent draws (N, ...), K a power of two; each is looked at once.
    """
    waiting: list[np.ndarray | None] = []  # by level, a sum of 2^level draws without its neighbour
    cosines: list[list[np.ndarray]] = []
    for gradient in gradients:
        total = gradient.reshape(len(gradient), -1).astype(np.float64)
        for level in range(len(waiting) + 1):  # as a binary counter carries
            if level == len(waiting):
                waiting.append(None)
                cosines.append([])
            other, waiting[level] = waiting[level], None
            if other is None:
                waiting[level] = total
                break
            cosines[level].append(_cosine(other, total))
            total = other + total
    if len(waiting) < 2 or any(rest is not None for rest in waiting[:-1]):
        raise ValueError("draws must be two halves of a power of two each")
    return np.stack([np.mean(pairs, axis=0) for pairs in cosines[:-1]], axis=1)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each pair of rows (N,)."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    product = np.einsum("nd,nd->n", a, b)
    return np.divide(product, lengths, out=np.zeros_like(product), where=lengths > 0)


def curve(cosines: np.ndarray) -> Curve:
    """The mean over images of each K, with its 95 % interval (Student's; NaN of one image).

    Args:
        cosines: of `split_halves`.
    """
    found = {}
    for draws, values in zip(powers(2 ** (cosines.shape[1] - 1)), cosines.T, strict=True):
        low, high = student_interval(values)
        found[draws] = (float(values.mean()), max(low, -1.0), min(high, 1.0))
    return found


def continued(measured: Curve, times: int) -> Curve:
    """What the law above says of more draws than a curve has, up to so many times the most."""
    most = max(measured)
    return {
        m * most: tuple(m * c / (1 + (m - 1) * c) for c in np.maximum(measured[most], 0).tolist())
        for m in powers(times)
        if m > 1
    }


class Needed(NamedTuple):
    """The least power of two of draws that is enough, and its interval; None: more than asked."""

    draws: int | None
    low: int | None
    high: int | None

    def words(self, most: int) -> str:
        """In words, of so many that were asked: `16 (8 to more than 128)`."""
        own, low, high = (f"more than {most}" if n is None else f"{n}" for n in self)
        return own if low == high else f"{own} ({low} to {high})"


def needed(curve: Curve, cosine: float) -> Needed:
    """How many draws give a mean gradient whose split-half cosine is at least `cosine`.

    The number is that at which the curve gets there; its interval is of where the bounds do.
    """

    def reached(which: int) -> int | None:
        return next((draws for draws, c in sorted(curve.items()) if c[which] >= cosine), None)

    return Needed(reached(0), low=reached(2), high=reached(1))


def powers(most: int) -> Iterator[int]:
    """1, 2, 4, ... up to `most`."""
    return (2**i for i in range(most.bit_length()))
