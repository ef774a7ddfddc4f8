"""What a benchmark is given: anybody's defence, images and labels, each checked in one line."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from puriflow.auditing.modules import Whole, as_defence, draws, varies
from puriflow.defence import Defence, RandomDefence
from puriflow.diffusion.denoisers import Denoiser
from puriflow.drawing import Drawing
from puriflow.errors import UserError
from puriflow.fitting import check_finite, check_labels, check_range
from puriflow.randomness import PURIFY, ImageNoise

FEW = 4  # images of the first look
TOGETHER = 32  # images of a batch that is asked whether anything is drawn


class Given(NamedTuple):
    """A defence that was asked once, and what to ask it about.

    Attributes:
        defence: as it was given.
        victim: the defence; a module by itself is one without restorer and purifier.
        name: of its parts or its class.
        random: whether it draws random numbers for any of the images.
        first: logits of the first few images.
        repeatable: whether it gives them again for the same noise.
        images: (N, 3, H, W) in [0, 1].
        labels: (N,) int64.
        device: of the defence.
        network_evaluations: for one pass; see `record.Defended`.
    """

    defence: nn.Module
    victim: Defence
    name: str
    random: bool
    first: Tensor
    repeatable: bool
    images: Tensor
    labels: Tensor
    device: torch.device
    network_evaluations: int | None

    @property
    def classes(self) -> int:
        """Of the logits."""
        return self.first.shape[1]


def given(defence: object, images: object, labels: object, seed: int, device: object) -> Given:
    """Check what a benchmark is given, and ask the defence about its images.

    Raises:
        UserError: it is something else; see the checks.
    """
    check_module(defence)
    assert isinstance(defence, nn.Module)
    where = device_of(defence, device)
    x, y = checked_images(images), checked_labels(labels)
    if len(y) != len(x):
        raise UserError(f"{len(x)} images, but {len(y)} labels: give one for each")
    try:
        victim, random, first, again, denoised = look(defence, x, where, seed)
    except UserError:
        raise
    except Exception as error:
        why = " ".join(str(error).split())
        shape = tuple(x[:FEW].shape)
        raise UserError(
            f"the defence fails on images {shape}: {type(error).__name__}: {why}"
        ) from error
    check_labels(y, first.shape[1])
    who = defence, victim, name_of(victim), random, first, again
    return Given(*who, x, y, where, denoised)


@torch.no_grad()
def look(
    defence: nn.Module, images: Tensor, device: torch.device, seed: int
) -> tuple[Defence, bool, Tensor, bool, int | None]:
    """What `Given` says of a defence.

    It is the victim, whether that is random, its logits of few images, whether these come again,
    and how often a diffusion network was asked about one image.
    """
    few = images[:FEW].to(device)
    victim = as_defence(defence, (some.to(device) for some in images.split(TOGETHER)), seed)
    victim.check_images(few)
    first = asked(victim, few)
    check_logits(first, len(few))
    with _counted(victim) as count:
        asked(victim, few[:1])
    random = (
        isinstance(victim.purifier, Whole)
        or varies(lambda draw: asked(victim, few, draw))
        or (
            isinstance(defence, Defence | RandomDefence)
            and draws(
                lambda some: asked(victim, some), (b.to(device) for b in images.split(TOGETHER))
            )
        )
    )
    again = torch.equal(first, asked(victim, few))
    return victim, random, first, again, count.calls if count.networks else None


def asked(victim: Defence, images: Tensor, draw: int = 0) -> Tensor:
    """The defence's answers to images, with the noise of a draw."""
    noise = ImageNoise(victim.seed, PURIFY, range(len(images)), [draw])
    return victim.classify(victim.purified(images, noise))


def check_module(defence: object) -> None:
    """Refuse what is no module, and one in training mode."""
    if not isinstance(defence, nn.Module):
        raise UserError(
            f"the defence is of {type(defence).__name__}, but must be a torch module from [0, 1] "
            "images to logits, or a puriflow.Defence"
        )
    training = [name for name, module in defence.named_modules() if module.training]
    if training:
        part = f" (its {training[0]})" if training[0] else ""
        raise UserError(
            f"the defence is in training mode{part}, where BatchNorm takes the batch's statistics "
            "and Dropout draws: call its eval() before"
        )


def device_of(defence: nn.Module, device: object) -> torch.device:
    """The device of a defence; a UserError if it has several, or another than is named."""
    tensors = [*defence.parameters(), *defence.buffers()]
    found = sorted({str(tensor.device) for tensor in tensors})
    if len(found) > 1:
        raise UserError(f"the defence is on several devices ({', '.join(found)}): move it to one")
    try:
        named = None if device is None else torch.empty(0, device=device).device  # pyrefly: ignore
    except (RuntimeError, TypeError, AssertionError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"device {device!r} cannot be had here: {why}") from None
    own = torch.device(found[0]) if found else named or torch.device("cpu")
    if named is not None and own != named:
        raise UserError(
            f"the defence is on {own}, but device is {named}: move it, by .to('{named}')"
        )
    return own


def checked_images(images: object) -> Tensor:
    """Images (N, 3, H, W) in [0, 1]; a UserError if they are something else."""
    Defence(None, None, None).check_images(images)  # pyrefly: ignore[bad-argument-type]
    assert isinstance(images, Tensor)
    if len(images) == 0:
        raise UserError("there are no images: give one or more")
    check_finite(images, "images")
    check_range(images)
    return images.detach()


def checked_labels(labels: object) -> Tensor:
    """Classes (N,) as int64; a UserError if they are none."""
    try:
        found = torch.as_tensor(labels).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"labels are no classes: {error}") from None
    if (
        found.ndim != 1
        or found.is_floating_point()
        or found.is_complex()
        or found.dtype == torch.bool
    ):
        kind = str(found.dtype).removeprefix("torch.")
        raise UserError(
            f"labels must be whole numbers (N,), a class each, but are {kind} {tuple(found.shape)}"
        )
    return found.long()


def check_logits(logits: object, count: int) -> None:
    """Refuse answers to so many images that are no logits, or that are probabilities."""
    if not isinstance(logits, Tensor):
        raise UserError(
            f"the defence answers with a {type(logits).__name__}, but must return logits alone"
        )
    if logits.ndim != 2 or logits.shape[0] != count or logits.shape[1] < 2:
        raise UserError(
            f"the defence's answers to {count} images are {tuple(logits.shape)}, but must be "
            "logits (N, classes) of two classes or more; of one logit z, [0, z] are two"
        )
    check_finite(logits, "the defence's logits")
    if (logits >= 0).all() and torch.allclose(logits.sum(1), torch.ones(()).to(logits), atol=1e-3):
        raise UserError(
            "the defence returns probabilities, whose cross-entropy is another and whose gradient "
            "vanishes: return the logits in front of the softmax"
        )


def name_of(victim: Defence) -> str:
    """A defence by the classes of its parts."""
    if isinstance(victim.purifier, Whole):
        return type(victim.purifier.module).__name__
    purifier = victim.purifier.module if isinstance(victim.purifier, Drawing) else victim.purifier
    parts = (victim.restorer, purifier, victim.classifier)
    return " + ".join(type(part).__name__ for part in parts if part is not None)


class _Count:
    """How often diffusion networks are asked."""

    def __init__(self, networks: int):
        self.networks, self.calls = networks, 0


class _counted:  # noqa: N801
    """Count the calls of a defence's diffusion networks."""

    def __init__(self, victim: Defence):
        self.found = [m.network for m in victim.modules() if isinstance(m, Denoiser)]

    def __enter__(self) -> _Count:
        count = _Count(len(self.found))

        def called(*_: object) -> None:
            count.calls += 1

        self.hooks = [network.register_forward_hook(called) for network in self.found]
        return count

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()
