"""Image quilting (Guo et al. 2018, section 3.4): an image put together from patches of others.

Each patch of the image is replaced by the nearest one (in L2) of an index that clean photographs
were cut into, and neighbours, which overlap, are joined where they differ least, by Efros and
Freeman's minimum error boundary cut (2001). Nothing of the image itself is left. Guo et al. chose
out of a million patches, by an approximate search; here the search is exact, and the index as large
as it was trained (`puriflow train restorers quilting`). Their classifiers were trained on quilted
images, too; here none is. There is no gradient: an attack sees the identity (BPDA).
"""

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.errors import UserError
from puriflow.options import Text, whole
from puriflow.straight_through import straight_through
from puriflow.zoo.weights import load_network

TRAINED_BY = "puriflow.training.patches"
SEARCHED = 2048  # patches of an image whose distances to the whole index are in memory at once


class PatchIndex(nn.Module):
    """Patches of photographs.

    Attributes:
        patches: (n, 3, side, side) on [0, 1].
    """

    def __init__(self, count: int, side: int):
        super().__init__()
        self.patches = nn.Parameter(torch.rand(count, 3, side, side))

    def forward(self, patches: Tensor) -> Tensor:
        """The nearest of the index to each of patches (m, 3, side, side)."""
        known = self.patches.flatten(1)
        length = known.square().sum(1)
        found = [
            torch.argmin(length - 2 * some @ known.T, dim=1)
            for some in patches.flatten(1).split(SEARCHED)
        ]
        return self.patches[torch.cat(found)]


class Quilting(nn.Module):
    """Images (N, 3, H, W) in [0, 1] to the same.

    Args:
        network: the index.
        overlap: of neighbouring patches, in pixels.
    """

    def __init__(self, network: PatchIndex, *, overlap: int):
        super().__init__()
        self.network = network
        self.side, self.overlap = network.patches.shape[-1], overlap
        if not 1 <= overlap < self.side:
            raise UserError(f"overlap is {overlap}, but must lie between 1 and {self.side - 1}")

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] to the same shape and range."""
        if min(images.shape[-2:]) < self.side:
            size = f"{images.shape[-2]}x{images.shape[-1]}"
            raise UserError(f"images are {size}, but quilting has patches of {self.side} pixels")
        return straight_through(self.quilted, images)

    @torch.no_grad()
    def quilted(self, images: Tensor) -> Tensor:
        """Without a gradient, on the CPU: patches are laid one after the other."""
        if images.is_meta:  # where costs are counted
            return images
        tops, lefts = map(self.places, images.shape[-2:])
        windows = images.unfold(2, self.side, 1).unfold(3, self.side, 1)
        windows = windows[:, :, tops][:, :, :, lefts]
        cut = windows.permute(0, 2, 3, 1, 4, 5)  # (N, rows, columns, 3, side, side)
        nearest = self.network(cut.flatten(0, 2)).view(cut.shape).to(images.dtype).cpu()
        out = torch.zeros(images.shape, dtype=images.dtype, device="cpu")
        for row, top in enumerate(tops):
            for column, left in enumerate(lefts):
                place = out[..., top : top + self.side, left : left + self.side]
                above = self.shared(tops, row)
                before = self.shared(lefts, column)
                kept = seam(place, nearest[:, row, column], above, before)
                place.copy_(torch.where(kept, place, nearest[:, row, column]))
        return out.to(images.device)

    def places(self, length: int) -> list[int]:
        """Where patches begin along an axis: all of it is covered, the last one at its end."""
        last = length - self.side
        return [*range(0, last, self.side - self.overlap), last]

    def shared(self, places: list[int], i: int) -> int:
        """Pixels that a patch shares with the one before it along an axis."""
        return 0 if i == 0 else places[i - 1] + self.side - places[i]


def seam(old: Tensor, new: Tensor, above: int, before: int) -> Tensor:
    """Where what is there stays (N, 1, side, side), beyond the cuts through both overlaps.

    Args:
        old: what is there (N, 3, side, side).
        new: the patch that is laid over it.
        above: rows that are there.
        before: columns that are there.
    """
    error = (old - new).square().sum(1)
    side, kept = error.shape[-1], torch.zeros_like(error, dtype=torch.bool)
    if before:
        kept[..., :before] |= left_of_cut(error[..., :before])
    if above:
        upright = error[:, :above].transpose(1, 2)
        kept[:, :above] |= left_of_cut(upright).transpose(1, 2)
    return kept.view(-1, 1, side, side)


def left_of_cut(error: Tensor) -> Tensor:
    """Which pixels of an overlap (N, rows, columns) lie before the cut of the least error.

    The cut takes one pixel of each row, next to that of the row above or diagonal to it, and is
    itself of the new patch.
    """
    rows, columns = error.shape[1:]
    total = [error[:, 0]]
    for row in range(1, rows):
        around = F.pad(total[-1], (1, 1), value=torch.inf).unfold(1, 3, 1)
        total.append(error[:, row] + around.amin(2))
    at = total[-1].argmin(1)
    cut = [at]
    for row in range(rows - 2, -1, -1):
        around = F.pad(total[row], (1, 1), value=torch.inf)
        three = torch.stack([around.gather(1, (at + k)[:, None])[:, 0] for k in range(3)], 1)
        at = at + three.argmin(1) - 1
        cut.append(at)
    return torch.arange(columns, device="cpu") < torch.stack(cut[::-1], 1)[:, :, None]


def build(
    *,
    weights: Text | None,
    n_patches: Annotated[int, whole(1, 10_000_000)] = 20_000,
    patch: Annotated[int, whole(2, 99)] = 5,
    overlap: Annotated[int, whole(1, 98)] = 2,
) -> Quilting:
    """Quilting with an index of `n_patches`; side and overlap of patches are Guo et al.'s."""
    index = PatchIndex(n_patches, patch)
    load_network(index, weights)
    return Quilting(index, overlap=overlap)
