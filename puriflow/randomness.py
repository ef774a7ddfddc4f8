"""Randomness that belongs to an image, never to its batch, shard, worker or order.

Every draw comes from a generator seeded by (seed, word, image index, draw). Noise is drawn on the
CPU and moved, so that a GPU sees the same numbers.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from puriflow.ahead import Ahead

# The words that seed noise. They are data, not names: another word gives an image other noise, and
# so every result that depends on it another number. Whatever is renamed around them, they stay.
PURIFY = "purify"  # the purifier's noise, wherever a defence is used or judged
TILE = "purify, tile {}"  # that of a tile of a large image
RANDOM = "random"  # that of a defence which draws afresh at each call
CERTIFY = "certify"  # the noise of randomised smoothing
MEASURE_CLASSIFIER, MEASURE_DENOISER = "measure-classifier", "measure-{}"  # after a training
TRAIN = "train"  # of what stands before a classifier while it is trained
# In an attack, the victim's noise is seeded by "attack" and a word for the step, which begins with
# the attack's own where it has one (`pgd_step` has PGD's; BPDA+EOT's is the number alone). That of
# a new attack is its name, which nobody renames later, and may stand in the attack's own file.
ATTACK, ATTACK_START = "attack", "attack start"
APGD = {"ce": "apgd-ce", "dlr": "apgd-dlr", "dlr-targeted": "apgd-dlr-targeted"}
FAB_T, SQUARE, DIFFATTACK, AUTOATTACK = "fab-t", "square", "diffattack", "autoattack"
CLEAN = "clean"  # a pass over the clean images
AGAIN, VOTES = "again", "votes"  # fresh draws that confirm what a step found
EVALUATED, CONTROL = "evaluated", "control"  # in the loop: a point, and the clean image
JUDGED = "judged"  # fresh answers that judge what an attack handed in, and the clean image
DIRECTIONS = "geometry"  # in which a figure looks at the Jacobian of a map
AFTER = "after"  # the one pass over what the attack hands in
SURROGATE = "surrogate"  # what is differentiated in the victim's place


def pgd_step(number: int, *, random_start: bool) -> str:
    """The word of a step of PGD, counted from 0.

    With a random start and without, these were two attacks once, each with a count of its own.
    """
    return f"pgd {number + 1}" if random_start else f"{number}"


def derive(*parts: object) -> int:
    """A 63-bit seed from any sequence of names and numbers."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class AttackNoise:
    """All the noise of an attack, the attacker's and the victim's.

    Args:
        seed: of the whole run.
        indices: data-set index of each image of the batch.
        fixed: every draw of the victim is the first one of the purify stage.
    """

    def __init__(self, seed: int, indices: Sequence[int], *, fixed: bool = False):
        self.seed = seed
        self.indices = list(indices)
        self.fixed = fixed

    def take(self, positions: Sequence[int]) -> "AttackNoise":
        """The same for some of the images, by their positions in the batch."""
        return AttackNoise(self.seed, [self.indices[i] for i in positions], fixed=self.fixed)

    def attacker(self, word: str = "") -> "ImageNoise":
        """What the attack itself draws, such as its random start."""
        return ImageNoise(self.seed, f"{ATTACK_START} {word}" if word else ATTACK, self.indices)

    def victim(self, step: str, draws: Sequence[int] = (0,)) -> "ImageNoise":
        """The noise of the victim's purifier at a step of the attack, in these repetitions."""
        if self.fixed:
            return ImageNoise(self.seed, PURIFY, self.indices, [0] * len(draws))
        return ImageNoise(self.seed, f"{ATTACK} {step}", self.indices, draws)


class ImageNoise:
    """Draws for a batch of images, one generator for each.

    Args:
        seed: of the whole run.
        word: what the noise is for, one of the words above.
        indices: data-set index of each image of the batch.
        draws: numbers of the repetition (EOT, votes). Of several, the batch has the images of the
            first, then those of the second, ...
    """

    def __init__(self, seed: int, word: str, indices: Sequence[int], draws: Sequence[int] = (0,)):
        self._seeds = [(seed, word, int(i), draw) for draw in draws for i in indices]
        self._ahead: Ahead | None = None  # for a GPU, which would wait for each draw

    @cached_property
    def _generators(self) -> list[torch.Generator]:
        """Made by the first draw: a victim that is not random never draws."""
        return [torch.Generator().manual_seed(derive(*parts)) for parts in self._seeds]

    @property
    def generators(self) -> list[torch.Generator]:
        """One for each image, after all that was drawn so far."""
        if self._ahead is not None:
            self._ahead.stop()
        return self._generators

    def normal_like(self, images: Tensor) -> Tensor:
        """Standard normal noise of the shape, type and device of images (N, ...)."""
        if images.device.type == "cpu":
            return self._stack(images, lambda x, g: x.normal_(generator=g))
        if len(images) != len(self._generators):
            raise ValueError(f"{len(images)} images, but noise for {len(self._generators)}")
        if self._ahead is None:
            self._ahead = Ahead(self._generators, pinned=images.device.type == "cuda")
        drawn = self._ahead.normal(tuple(images.shape[1:]))
        return drawn.to(device=images.device, dtype=images.dtype, non_blocking=True)

    def uniform_like(self, images: Tensor, low: float, high: float) -> Tensor:
        """Uniform noise in [low, high) of the shape, type and device of images (N, ...)."""
        return self._stack(images, lambda x, g: x.uniform_(low, high, generator=g))

    def integers(self, low: int, high: int) -> Tensor:
        """An integer in [low, high) for each image: (N,) int64."""
        return torch.stack([torch.randint(low, high, (), generator=g) for g in self.generators])

    def uniform(self, low: float, high: float) -> Tensor:
        """A number in [low, high) for each image: (N,) float64."""
        empty = [torch.empty((), dtype=torch.float64, device="cpu") for _ in self.generators]
        pairs = zip(empty, self.generators, strict=True)
        return torch.stack([x.uniform_(low, high, generator=g) for x, g in pairs])

    def _stack(self, images: Tensor, fill: Callable[[Tensor, torch.Generator], Tensor]) -> Tensor:
        if len(images) != len(self.generators):
            raise ValueError(f"{len(images)} images, but noise for {len(self.generators)}")
        shape = images.shape[1:]
        # whatever torch's default type is: in another one the same seed draws other numbers
        empty = [torch.empty(shape, dtype=torch.float32, device="cpu") for _ in self.generators]
        drawn = [fill(x, g) for x, g in zip(empty, self.generators, strict=True)]
        return torch.stack(drawn).to(device=images.device, dtype=images.dtype)
