"""Any torch module as a defence, and a defence with another head in place of its last layer."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from puriflow.auditing.verdicts import Undecidable
from puriflow.defence import Defence, RandomDefence
from puriflow.drawing import Drawing
from puriflow.errors import UserError

ASKED = 10  # draws that show whether a defence is random
Wrap = Callable[[nn.Module], nn.Module]


class Whole(Drawing):
    """A random module that is all of a defence: what comes out are logits."""


def as_defence(module: object, batches: Iterable[Tensor], seed: int) -> Defence:
    """A defence as it is; of any other module, one that is attacked through all that it does.

    Args:
        module: to be attacked.
        batches: images (N, 3, H, W), of which it is asked until it draws.
        seed: of its draws.

    Raises:
        UserError: it is no torch module.
    """
    if isinstance(module, RandomDefence):  # whose noise then is each image's own
        return module.defence
    if isinstance(module, Defence):
        return module
    if not isinstance(module, nn.Module):
        raise UserError(
            f"the defence is of {type(module).__name__}, but must be a torch module from [0, 1] "
            "images to logits, or a puriflow.Defence"
        )
    alone = Defence(None, None, module, seed=seed)
    if not draws(alone.classify, batches):
        return alone
    return Defence(None, Whole(module), nn.Identity(), seed=seed)


class Draws(TorchDispatchMode):
    """Counts the random numbers that torch is asked for within it."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.count += dropout(func, args, kwargs) != 0
        return func(*args, **kwargs)


def dropout(func: Any, args: Any, kwargs: Any) -> float | None:
    """How much an operation of torch drops out: attention draws only if it is more than nothing.

    None of one that has no such argument.
    """
    for place, argument in enumerate(func._schema.arguments):
        if argument.name == "dropout_p":
            given = args[place] if place < len(args) else argument.default_value
            return kwargs.get("dropout_p", given)
    return None


@torch.no_grad()
def draws(ask: Callable[[Tensor], object], batches: Iterable[Tensor]) -> bool:
    """Whether random numbers are drawn for an answer to any image."""
    for images in batches:
        own = [images.device] if images.is_cuda else []
        with torch.random.fork_rng(own), Draws() as drawn:
            ask(images)
        if drawn.count:
            return True
    return False


def varies(ask: Callable[[int], Tensor]) -> bool:
    """Whether answers differ from draw to draw; a few classes may come out alike by chance."""
    first = ask(0)
    return any(not torch.equal(first, ask(draw)) for draw in range(1, ASKED))


def with_classifier(defence: Defence, wrap: Wrap) -> Defence:
    """The defence with something made of its classifier in the place of that."""
    purifier, classifier = defence.purifier, defence.classifier
    if isinstance(purifier, Whole):
        return Defence(None, Whole(wrap(purifier.module)), nn.Identity(), seed=defence.seed)  # pyrefly: ignore
    assert classifier is not None
    return Defence(defence.restorer, purifier, wrap(classifier), seed=defence.seed)


def stands_alone(defence: Defence) -> bool:
    """Whether nothing that is known is in front of the classifier."""
    return defence.restorer is None and (
        defence.purifier is None or isinstance(defence.purifier, Whole)
    )


class Tapped(nn.Module):
    """A classifier that gives its features beside its logits: (N, features + classes).

    Features are what goes into the last linear layer that it runs.

    Raises:
        Undecidable: it has none.
    """

    def __init__(self, classifier: nn.Module, images: Tensor):
        super().__init__()
        self.classifier = classifier
        ran: list[nn.Linear] = []
        layers = [module for module in classifier.modules() if isinstance(module, nn.Linear)]
        hooks = [
            layer.register_forward_pre_hook(lambda module, _: ran.append(module))  # pyrefly: ignore
            for layer in layers
        ]
        with torch.no_grad(), torch.random.fork_rng([images.device] if images.is_cuda else []):
            self.classes = classifier(images[:1]).shape[1]
        for hook in hooks:
            hook.remove()
        if not ran:
            raise Undecidable("the classifier has no linear layer, whose input were the features")
        self.last = [ran[-1]]  # in a list: it is a part of the classifier already

    def forward(self, images: Tensor) -> Tensor:
        kept: list[Tensor] = []
        with self.last[0].register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0])):
            logits = self.classifier(images)
        return torch.cat([kept[-1].flatten(1), logits], 1)


class Head(nn.Module):
    """A two-class head (2, features) on the features of a classifier."""

    def __init__(self, tapped: nn.Module, weight: Tensor, bias: Tensor):
        super().__init__()
        self.tapped = tapped
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.tapped(images)[:, : self.weight.shape[1]]
        return two_classes(features @ self.weight.T + self.bias)


def two_classes(logits: Tensor) -> Tensor:
    """Logits (N, 2) with two more classes that are far below, and never the answer.

    So attacks whose losses need three or four classes (DLR) take nearly the plain margin.
    """
    low = logits.detach().amin(1, keepdim=True) - 20
    return torch.cat([logits, low, low - 1], 1)
