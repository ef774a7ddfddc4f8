"""A defence: restorer, purifier and classifier as one differentiable chain, the victim of attacks.

The stages run the same three parts with the same noise, so both give the same logits.
"""

from collections.abc import Sequence
from operator import index
from typing import TYPE_CHECKING, Any, Self, get_args

import torch
from torch import Tensor, nn

from puriflow.config import Config
from puriflow.drawing import Drawing, takes_noise
from puriflow.errors import UserError, unknown
from puriflow.fitting import check_range
from puriflow.options import MOST_SEED, Gradient, shown
from puriflow.randomness import PURIFY, RANDOM, ImageNoise
from puriflow.registry import Parts
from puriflow.straight_through import straight_through

if TYPE_CHECKING:
    from puriflow.purifiers.base import Purifier
BOTH = {torch.float32, torch.float64}


def check_gradient(gradient: str) -> None:
    """Refuse what is no way to differentiate a defence; see `Defence.purified`."""
    if gradient not in get_args(Gradient):
        raise unknown("gradient", gradient, get_args(Gradient))


def checked_seed(seed: int) -> int:
    """A seed as a whole number; a UserError if it is another than a track may have."""
    try:
        number = index(seed)
    except TypeError:
        number = -1
    if not 0 <= number <= MOST_SEED:
        raise UserError(f"seed is {shown(seed)}, but must be a whole number from 0 to {MOST_SEED}")
    return number


class Defence(nn.Module):
    """From [0, 1] images to logits, always in evaluation mode.

    Args:
        restorer: module on [0, 1] images, or None.
        purifier: module of [0, 1] images and their noise, or of images alone, which then draws
            from torch's own generator (puriflow.drawing); or None.
        classifier: from [0, 1] images to logits; None for `purify` alone.
        seed: of the purifier's noise.
    """

    def __init__(
        self,
        restorer: nn.Module | None,
        purifier: "Purifier | nn.Module | None",
        classifier: nn.Module | None,
        *,
        seed: int = 0,
    ):
        super().__init__()
        self.restorer, self.classifier = restorer, classifier
        own: Any = purifier  # what takes noise is taken for a purifier of ours
        self.purifier: Purifier | Drawing | None = (
            own if purifier is None or takes_noise(purifier) else Drawing(purifier)
        )
        self.seed = checked_seed(seed)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """It stays in evaluation mode, in which an image's logits depend on nothing but the image.

        In training mode BatchNorm would take the batch's statistics, and Dropout draw, each time.
        """
        return super().train(False)

    @classmethod
    def from_config(cls, config: Config, restorer: str, purifier: str, classifier: str) -> Self:
        """The defence of three roles of a track; `none` leaves restorer or purifier out."""
        roles = {"restorer": restorer, "purifier": purifier, "classifier": classifier}
        return cls.from_parts(config.parts(roles), seed=config.seed)

    @classmethod
    def from_parts(cls, parts: Parts, *, seed: int) -> Self:
        """The defence of parts by their roles."""
        built = {role: part.build() for role, part in parts.items()}
        return cls(built.get("restorer"), built.get("purifier"), built.get("classifier"), seed=seed)

    def purify(self, images: Tensor, indices: Sequence[int] | None = None, draw: int = 0) -> Tensor:
        """Restored and purified images (N, 3, H, W), about [0, 1]; see `forward`."""
        self.check_images(images)
        try:
            chosen = [index(i) for i in (range(len(images)) if indices is None else indices)]
            draw = index(draw)
        except TypeError:
            raise UserError("indices and draw must be whole numbers: they select noise") from None
        if len(chosen) != len(images) or not chosen:
            raise UserError(f"{len(images)} images, but {len(chosen)} indices; give one or more")
        check_range(images)
        return self.purified(images, ImageNoise(self.seed, PURIFY, chosen, [draw]))

    def purified(self, images: Tensor, noise: ImageNoise, gradient: Gradient = "full") -> Tensor:
        """Restored and purified images with this noise, as an attack differentiates them.

        Args:
            images: (N, 3, H, W) in [0, 1], which is not looked at: a GPU would wait at each step.
            noise: of the purifier.
            gradient: what the attacker differentiates. `full`: everything, exactly. `restorer`:
                the restorer, with the identity for the purifier. `identity`: the identity for both
                (BPDA). `blind`: the classifier alone; nothing is restored or purified.
        """
        self.check_images(images)
        self.check_mode()
        if gradient == "blind":
            return images
        x = images
        if self.restorer is not None:
            x = self.restorer(x) if gradient != "identity" else straight_through(self.restorer, x)
        if self.purifier is not None:
            if gradient == "full":
                return self.purifier(x, noise)
            return straight_through(lambda y: self.purifier(y, noise), x)
        return x

    def check_mode(self) -> None:
        """Put parts that somebody has put into training mode by themselves back."""
        if any(module.training for module in self.modules()):
            self.eval()

    def check_images(self, images: Tensor) -> None:
        """Refuse what is no batch of images in the type that the parts compute in.

        That is float32, unless the parts were converted, as by `defence.double()`; without a
        parameter they may do both. A gradient has the type of the images.
        """
        if not isinstance(images, Tensor):
            raise UserError(f"images are of {type(images).__name__}, but must be a torch tensor")
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
            raise UserError(f"images must be (N, 3, H, W), but are {tuple(images.shape)}")
        own = {p.dtype for p in self.parameters() if p.is_floating_point()} or BOTH
        if images.dtype not in own:
            raise UserError(
                f"images are {str(images.dtype).removeprefix('torch.')}, but the defence computes "
                f"in {' and '.join(str(o).removeprefix('torch.') for o in sorted(own, key=str))}"
            )

    def forward(
        self, images: Tensor, indices: Sequence[int] | None = None, draw: int = 0
    ) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W) in [0, 1].

        Args:
            images: on the device of the parts.
            indices: data-set index of each image, which selects its noise; default 0, 1, 2, ...
            draw: number of the repetition; another one gives other noise. The same one gives the
                same, call by call: see `random`.

        Raises:
            UserError: these are no images that all parts can take, they do not lie in [0, 1], or
                they are not as many as indices.
        """
        return self.classify(self.purify(images, indices, draw))

    def surrogate(self) -> "Defence":
        """The same with the purifier's own surrogate in its place; a UserError if it has none."""
        purifier = self.purifier
        if purifier is not None:
            if not hasattr(purifier, "surrogate"):
                raise UserError(f"{type(purifier).__name__} has no surrogate of its own")
            purifier = purifier.surrogate()
        return Defence(self.restorer, purifier, self.classifier, seed=self.seed)

    def random(self, seed: int | None = None) -> "RandomDefence":
        """The same as a module whose noise is new at each call, for the attacks of a library.

        `forward` by itself gives image i of every batch the first draw of index i: an attack's EOT
        over it averages one noise, and in a batch from which images were taken out, they change
        theirs.

        Args:
            seed: of the sequence of draws; None for the defence's own.
        """
        return RandomDefence(self, self.seed if seed is None else seed)

    def classify(self, purified: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W) as they come from the purifier."""
        if self.classifier is None:
            raise UserError("a defence without a classifier has no logits: name a classifier")
        self.check_mode()
        return self.classifier(purified)


class RandomDefence(nn.Module):
    """A defence that draws afresh at each call, as libraries of attacks expect of a random module.

    Call k gives the image in place i of its batch noise of its own, whatever the image: copies of
    one are draws of it. The same seed gives the same sequence.

    Args:
        defence: that is asked.
        seed: of the sequence.
    """

    def __init__(self, defence: Defence, seed: int):
        super().__init__()
        self.defence, self.seed, self.calls = defence, checked_seed(seed), 0
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """It stays in evaluation mode; see `Defence.train`."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W) in [0, 1]; see `Defence.forward`."""
        self.defence.check_images(images)
        check_range(images)
        noise = ImageNoise(self.seed, RANDOM, range(len(images)), [self.calls])
        self.calls += 1
        return self.defence.classify(self.defence.purified(images, noise))
