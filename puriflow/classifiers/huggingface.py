"""An image classifier of Hugging Face's `transformers`, with its own preprocessing.

By its name on the hub, or by its file of weights in a folder that `save_pretrained` wrote, beside
which `config.json` and `preprocessor_config.json` lie. The weights of a file are hashed like those
of every other part; of a name, `revision` says which version is meant. Needs the extra
`puriflow[huggingface]`.
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision
from puriflow.classifiers.normalised import Normalised
from puriflow.errors import UserError
from puriflow.options import Deviation, Interpolation, Mean, Side, Text

NEUTRAL = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # mean and standard deviation that change nothing


class Logits(nn.Module):
    """A model of transformers as a module from normalised images to logits."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W), normalised, to logits (N, classes)."""
        return self.model(pixel_values=images).logits


def build(
    *,
    name: Text | None = None,
    revision: Text | None = None,
    weights: Text | None = None,
    mean: Mean | None = None,
    std: Deviation | None = None,
    size: Side | None = None,
    interpolation: Interpolation | None = None,
) -> Normalised:
    """A classifier of the hub, or of a folder.

    `mean`, `std` and `size` are those of its image processor where they are None. Images of another
    size are refused, or resized by `interpolation` as a part of the classifier.
    """
    if (name is None) == (weights is None):
        raise UserError("give the name of a model on the hub, or a file of weights in its folder")
    if name is not None and Path(name).is_dir():
        raise UserError(f"{name} is a folder: give its file, as weights: {name}/model.safetensors")
    try:
        # pyrefly: ignore[missing-import]  # an extra
        from transformers import AutoImageProcessor, AutoModelForImageClassification
    except ImportError as error:
        raise UserError(
            f"it needs Hugging Face's transformers: pip install 'puriflow[huggingface]' ({error})"
        ) from None
    folder = name if weights is None else str(_folder(Path(weights)))
    try:
        model, loaded = AutoModelForImageClassification.from_pretrained(
            folder, revision=revision, output_loading_info=True
        )
        processor = AutoImageProcessor.from_pretrained(folder, revision=revision)
    except Exception as error:  # of every library below it
        raise UserError(f"{folder} cannot be loaded: {type(error).__name__}: {error}") from error
    if missing := sorted(loaded["missing_keys"]):  # these would be random
        raise UserError(f"{folder} has no weights of {missing[0]}: it is no image classifier")
    own = NEUTRAL
    if getattr(processor, "do_normalize", False):
        own = (processor.image_mean, processor.image_std)
    return Normalised(
        Logits(model),
        mean=own[0] if mean is None else mean,
        std=own[1] if std is None else std,
        size=_side(processor, model.config, str(folder)) if size is None else size,
        interpolation=interpolation,
    )


def _folder(weights: Path) -> Path:
    """The folder of a file of weights, of which transformers must read no other one."""
    if weights.name not in ("model.safetensors", "pytorch_model.bin") or not weights.is_file():
        raise UserError(
            f"weights file {weights} must be the model.safetensors of a folder that "
            "save_pretrained wrote"
        )
    return weights.parent


def _side(processor: Any, config: Any, name: str) -> int:
    """The side of the images that a model takes, by its image processor or its configuration."""
    sizes = [getattr(processor, key, None) for key in ("crop_size", "size")]
    if not getattr(processor, "do_center_crop", False):
        sizes = sizes[1:]
    for size in [*sizes, getattr(config, "image_size", None)]:
        if isinstance(size, int):
            return size
        if size is not None:
            found = {size[key] for key in ("height", "width", "shortest_edge") if size.get(key)}
            if len(found) == 1:
                return found.pop()
    raise UserError(f"{name} does not say the size of its images: give one")
