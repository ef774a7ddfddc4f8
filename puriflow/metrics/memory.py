"""What is alive of memory while something is computed, counted on the meta device.

No memory is taken and nothing is computed there, so that the official networks are counted on any
machine, in seconds. What a library takes for its own work comes on top.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BEHIND_RESULTS = False


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it is on; `most` is their largest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.seen: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {id(leaf.untyped_storage()) for leaf in tree_leaves((args, kwargs)) if tensor(leaf)}
        for leaf in tree_leaves(made):
            storage = leaf.untyped_storage() if tensor(leaf) else None
            if storage is not None and storage not in self.seen and id(storage) not in given:
                self.seen.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage.nbytes())
        self.most = max(self.most, self.now)
        return made

    def _gone(self, size: int) -> None:
        self.now -= size


def tensor(leaf: object) -> bool:
    """Whether it is a tensor."""
    return isinstance(leaf, Tensor)


def peak(compute: Callable[[Tensor], Tensor], size: tuple[int, int], *, gradient: bool) -> int:
    """Bytes alive at most while an image (1, 3, height, width) is computed, maybe its gradient.

    Args:
        compute: whose tensors are on the meta device.
        size: height and width of the image.
        gradient: of the sum of what comes out, by the image.
    """
    image = torch.zeros(1, 3, *size, device="meta", requires_grad=gradient)
    with torch.set_grad_enabled(gradient), Alive() as alive:
        out = compute(image)
        if gradient:
            torch.autograd.grad(out.sum(), image)
    return alive.most


def memory_of(network: nn.Module, side: int, *levels: float) -> tuple[int, int]:
    """Bytes alive at most for one image: forwards, and for its gradient.

    The network, of no use afterwards, may take levels beside the image, one number each.
    """
    network.to("meta").eval().requires_grad_(False)
    more = [torch.full((1,), level, device="meta") for level in levels]

    def asked(image: Tensor) -> Tensor:
        return network(image, *more)

    size = side, side
    return peak(asked, size, gradient=False), peak(asked, size, gradient=True)
