"""Any classifier of timm, with its own preprocessing and, if no file is named, its own weights.

The name may have a tag, as `vit_base_patch16_clip_224.openai`. timm fetches its weights itself, and
keeps them: a result then says by their name alone which it loaded. Weights in a file are hashed
like those of every other part.
"""

from puriflow.classifiers.normalised import Normalised
from puriflow.classifiers.pretrained import normalised, timm_input, timm_network
from puriflow.errors import UserError
from puriflow.options import Deviation, Interpolation, Mean, Side, Text
from puriflow.zoo.weights import load_network


def build(
    *,
    name: Text,
    weights: Text | None = None,
    pretrained: bool = True,
    mean: Mean | None = None,
    std: Deviation | None = None,
    size: Side | None = None,
    interpolation: Interpolation | None = None,
) -> Normalised:
    """A classifier with the weights of a file, else with timm's own (or random ones, for tests).

    The other options are those of the kind `pretrained`.
    """
    try:
        network = timm_network(name, pretrained=pretrained and weights is None)
    except (RuntimeError, ImportError) as error:  # timm has none, or cannot fetch them
        raise UserError(f"timm has no weights of {name} here: {error}; name a file") from error
    own = timm_input(name)
    return normalised(load_network(network, weights), own, mean, std, size, interpolation)
