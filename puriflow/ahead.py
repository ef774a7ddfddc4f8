"""Noise for a GPU, drawn on the CPU while the GPU computes the step before.

A sampler draws the same kind of noise step by step. From the second time on, the next draw is made
in a thread; if it is not what is asked for next, the generators are put back, so that the numbers
are those of draws one after the other.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import torch
from torch import Generator, Tensor

BEHIND_RESULTS = False
Shape = tuple[int, ...]


class _Draw(NamedTuple):
    """A draw under way: its shape, the generators' states before it, and what will come of it."""

    shape: Shape
    before: list[Tensor]
    drawn: Future[Tensor]


class Ahead:
    """Standard normal draws of some generators, on the CPU.

    Args:
        generators: one for each image; nobody else draws from them before `stop` was called.
        pinned: whether the draws are copied to a GPU while the CPU goes on.
    """

    def __init__(self, generators: list[Generator], *, pinned: bool):
        self.generators, self.pinned = generators, pinned
        self.last: Shape | None = None
        self.next: _Draw | None = None

    def normal(self, shape: Shape) -> Tensor:
        """The next draws (N, *shape), float32."""
        if self.next is not None and self.next.shape == shape:
            drawn, self.next = self.next.drawn.result(), None
        else:
            self._put_back()
            drawn = self._draw(shape)
        if self.last == shape:
            before = [generator.get_state() for generator in self.generators]
            self.next = _Draw(shape, before, _worker().submit(self._draw, shape))
        self.last = shape
        return drawn

    def stop(self) -> None:
        """Draw no further; the generators are where the last draw that was taken left them."""
        self._put_back()
        self.last = None

    def _put_back(self) -> None:
        if self.next is not None:
            self.next.drawn.result()
            for generator, state in zip(self.generators, self.next.before, strict=True):
                generator.set_state(state)
        self.next = None

    def _draw(self, shape: Shape) -> Tensor:
        made = torch.empty(
            (len(self.generators), *shape),
            dtype=torch.float32,
            device="cpu",
            pin_memory=self.pinned,
        )
        for image, generator in zip(made, self.generators, strict=True):
            image.normal_(generator=generator)
        return made


@cache
def _worker() -> ThreadPoolExecutor:
    """One thread: draws are made one after the other, as they were asked for."""
    return ThreadPoolExecutor(1, thread_name_prefix="noise")
