"""What purifies image files: the parts of the chain, and what is recorded of them."""

from typing import Any

from puriflow.config import NONE, Config
from puriflow.errors import UserError
from puriflow.provenance import code_hash, versions, weights_hashes
from puriflow.registry import Parts

BEHIND_RESULTS = False
MODULES = ("puriflow.image_files.purify", "puriflow.image_files.formats")


def chain_parts(config: Config, restorer: str, purifier: str) -> Parts:
    """The parts of restorer and purifier; one of the two may be `none`, but not both."""
    if restorer == purifier == NONE:
        raise UserError("nothing to do: name a restorer, a purifier or both")
    return config.parts({"restorer": restorer, "purifier": purifier})


def provenance(chain: Parts, seed: int) -> dict[str, Any]:
    """What makes the images of a run: parts, seed, code, weights and versions of libraries."""
    modules = [*MODULES, *(module for part in chain.values() for module in part.modules())]
    return {
        **{role: part.complete() for role, part in chain.items()},
        "seed": seed,
        "code": code_hash(*modules),
        "weights": weights_hashes(chain.values()),
        "versions": versions(*modules),
    }
