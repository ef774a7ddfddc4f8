"""Whether a file of weights is of the network of its entry, where no hash says so.

The network is made on torch's meta device, which has shapes and no numbers, so that this takes
neither the memory nor the time of one.
"""

import warnings
from pathlib import Path

import torch

from puriflow.errors import UserError
from puriflow.registry import family_named, part_of
from puriflow.zoo.catalogue import Entry
from puriflow.zoo.convert import converted
from puriflow.zoo.weights import read_state

BEHIND_RESULTS = False


def check_network(what: Entry, file: Path, *, official: bool) -> str:
    """Read a file of an entry as a whole, and load it strictly; say what was compared.

    A network that cannot be made here, as without an extra that it needs, compares nothing.

    Raises:
        UserError: it cannot be read, or is of another network.
    """
    if official and what.convert:
        converted(what.convert, file, what.family, what.part)
        return "its network"
    try:
        _build(what, file)
    except UserError as wrong:
        try:
            _build(what, None)
        except UserError as error:
            read_state(file)
            return f"that it can be read ({error})"
        raise wrong
    return "its network"


def _build(what: Entry, file: Path | None) -> None:
    role = family_named(what.family).roles[0]
    entry = {**what.part, "weights": None if file is None else str(file)}
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*copying from a non-meta parameter")  # is the idea
        part_of(role, what.part["kind"], entry).build()
