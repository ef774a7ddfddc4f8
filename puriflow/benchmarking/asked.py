"""A benchmark as a file: the arguments of `puriflow.benchmark`, for the command line.

The defence and the data are objects, `module:object`, or roles of a track. No torch is imported
before the file is checked.
"""

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from puriflow.config import Config, validated
from puriflow.errors import UserError, unknown
from puriflow.options import MOST_SEED, Length, Norm
from puriflow.registry import NONE
from puriflow.sources import file_of, no_module
from puriflow.yaml_files import read_yaml

if TYPE_CHECKING:
    import torch

BEHIND_RESULTS = False


def _of_a_module(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
        raise ValueError(f"is {name!r}, but must be module:object, as mymodule:defence")
    return name


Object = Annotated[str, AfterValidator(_of_a_module)]


class Asked(BaseModel):
    """What the file says.

    Attributes:
        defence: a torch module, or what returns one when it is called.
        restorer, purifier, classifier: roles of the track, in its place.
        data: a pair of images and labels, or what returns one when it is called.
        dataset: a role of the track, in its place.
        count: images, the first ones; of a data set 100 by default, of one's own data all.
        attack, eps, norm, n_draws, seed, batch, out: see `puriflow.benchmark`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    defence: Object | None = None
    restorer: str = NONE
    purifier: str = NONE
    classifier: str | None = None
    data: Object | None = None
    dataset: str | None = None
    count: int | None = Field(None, ge=1)
    attack: str | list[str] = "auto"
    eps: Length | None = None
    norm: Norm | None = None
    n_draws: int = Field(10, ge=1)
    seed: int = Field(0, ge=0, le=MOST_SEED)
    batch: int | None = Field(None, ge=1)
    out: str

    @model_validator(mode="after")
    def _one_of_each(self) -> "Asked":
        if (self.defence is None) == (self.classifier is None):
            raise ValueError("give a defence, module:object, or a classifier of the track")
        if (self.data is None) == (self.dataset is None):
            raise ValueError("give data, module:object, or a dataset of the track")
        return self


def load_asked(file: str | Path) -> Asked:
    """Read and check the file of a benchmark; a UserError if it is something else."""
    return validated(Asked, read_yaml(file, "benchmark"), f"benchmark {file}")


def object_of(name: str, what: Literal["defence", "data"]) -> Any:
    """The object of a name, called if it is a function or a class; also of the working folder.

    Raises:
        UserError: there is none, or it fails.
    """
    module_name, _, attribute = name.partition(":")
    if file_of(module_name) is None:
        raise no_module(module_name)
    try:
        module = importlib.import_module(module_name)
        if not hasattr(module, attribute):
            names = (name for name in vars(module) if not name.startswith("_"))
            raise unknown(f"object of {module_name}", attribute, names)
        found = getattr(module, attribute)
        is_module = hasattr(found, "forward") and not isinstance(found, type)
        return found() if callable(found) and not is_module else found
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{what} {name}: {type(error).__name__}: {why}") from None


def defence_of(asked: Asked, track: Config, device: "torch.device") -> Any:
    """The defence of a file, on a device; an object of one's own is where it is."""
    from puriflow.defence import Defence

    if asked.defence is not None:
        return object_of(asked.defence, "defence")
    assert asked.classifier is not None
    parts = (asked.restorer, asked.purifier, asked.classifier)
    return Defence.from_config(track, *parts).to(device)


def data_of(asked: Asked, track: Config) -> tuple[Any, Any]:
    """Images and labels of a file."""
    import torch

    from puriflow.datasets.samples import first_of

    if asked.dataset is not None:
        entry = track.dataset(asked.dataset)
        samples = track.part("dataset", asked.dataset).build()
        drawn = {"subset": entry.subset, "seeds": entry.subset_seeds}
        images, labels, _ = first_of(samples, asked.count or 100, **drawn)
        return torch.from_numpy(images), torch.from_numpy(labels)
    assert asked.data is not None
    pair = object_of(asked.data, "data")
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise UserError(
            f"data {asked.data} is {type(pair).__name__}, but must be images and labels"
        )
    images, labels = pair
    if asked.count is None:
        return images, labels
    try:
        return images[: asked.count], labels[: asked.count]
    except TypeError:
        raise UserError(f"data {asked.data} are no images and labels") from None
