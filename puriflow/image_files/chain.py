"""What purifies images of one's own: the parts behind the names, and what is said of them."""

from importlib.metadata import version
from typing import Any

from puriflow.config import NONE, Config
from puriflow.errors import UserError
from puriflow.provenance import code_hash, weights_hashes
from puriflow.registry import modules_of_defence

LIBRARIES = ("puriflow", "numpy", "pillow", "torch", "scikit-image", "PyWavelets")
MODULES = ("puriflow.image_files.purifying", "puriflow.image_files.formats")

Specs = dict[str, dict[str, Any] | None]


def chain_specs(config: Config, restorer: str, purifier: str) -> Specs:
    """The specifications of restorer and purifier; see `Config.defence`.

    Raises:
        UserError: a name is unknown or unavailable, or both are `none`.
    """
    if restorer == purifier == NONE:
        raise UserError("nothing to do: name a restorer, a purifier or both")
    return config.defence({"restorer": restorer, "purifier": purifier})


def provenance(specs: Specs, seed: int) -> dict[str, Any]:
    """What makes the images of a run."""
    return {
        **specs,
        "seed": seed,
        "code": code_hash(*MODULES, *modules_of_defence(specs)),
        "weights": weights_hashes(specs),
        "versions": {library: version(library) for library in LIBRARIES},
    }
