"""Purifiers as the registry lists them, so that a new kind is tested by being there."""

from importlib import import_module

from puriflow.diffusion.denoisers import Denoiser
from puriflow.purifiers.base import Purifier
from puriflow.registry import kinds

NEEDED = {"t": 20}  # the options that a kind has no default for


def by_default(kind: str, denoiser: Denoiser) -> Purifier:
    """A purifier of a kind with the defaults of its options."""
    options = kinds("purifiers")[kind].options.items()
    needed = {name: NEEDED[name] for name, needed in options if needed and name != "network"}
    return import_module(kinds("purifiers")[kind].module).build(network=denoiser, **needed)
