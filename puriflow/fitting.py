"""What fits together: the sizes of images that a network takes, and the classes that one knows."""

from typing import TYPE_CHECKING

from puriflow.errors import NotFinite, UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

ROUNDING = 1e-3  # beyond [0, 1], which no other unit has: even half precision rounds by less


def check_multiple(network: str, images: "Tensor", multiple: int) -> None:
    """Refuse images (N, C, H, W) whose sides are no multiples, and name the nearest that are."""
    height, width = images.shape[-2:]
    if height % multiple or width % multiple or not height or not width:
        nearest = "x".join(
            str(max(round(side / multiple), 1) * multiple) for side in (height, width)
        )
        raise UserError(
            f"{network} takes images whose sides are multiples of {multiple}, but these are "
            f"{height}x{width}; the nearest size is {nearest}"
        )


def check_side(network: str, images: "Tensor", side: int, made_by: str | None = None) -> None:
    """Refuse images that are not (N, 3, side, side), and say by which options of data they are."""
    if images.shape[1:] != (3, side, side):
        found = "x".join(map(str, images.shape[-2:] if images.shape[1] == 3 else images.shape[1:]))
        raise UserError(
            f"{network} takes {side}x{side} images, but these are {found}; choose a data set with "
            f"{made_by or f'crop {side}'}"
        )


def check_range(images: "Tensor") -> None:
    """Refuse images (N, 3, H, W) that do not all lie in [0, 1], with what to do about it."""
    low, high = images.detach().aminmax()
    try:
        if (low >= 0) & (high <= 1):
            return
        least, most = float(low), float(high)
    except RuntimeError:  # values that cannot be looked at, as those under vmap
        return
    cure = ""
    if least >= -ROUNDING and most <= 1 + ROUNDING:
        cure = "; clamp them, as what was computed may be rounded out of it"
    elif least >= 0 and 2 < most <= 255:
        cure = "; divide them by 255"
    elif least >= -1 and most <= 1:
        cure = "; (x + 1) / 2 brings [-1, 1] there"
    raise UserError(f"images must lie in [0, 1], but span {least:.9g} to {most:.9g}{cure}")


def check_labels(labels: "Tensor | np.ndarray", classes: int) -> None:
    """Refuse labels (N,) that a classifier of so many classes cannot answer."""
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        label = int(wrong[0])
        raise UserError(
            f"an image has the label {label}, but the classifier knows the classes 0 to "
            f"{classes - 1}: they are of different data sets"
        )


def check_finite(values: "Tensor", what: str) -> None:
    """Refuse NaN and infinity in what a part computes, whose largest or first would count."""
    if not values.isfinite().all():
        raise NotFinite(f"{what} have NaN or infinity")
