"""The configuration: tracks, each a file that says what serves every role."""

from puriflow.config.loading import (
    check_config,
    default_track,
    explained,
    load_config,
    read_track,
    validated,
    write_config,
)
from puriflow.config.track import Certification, Config, Evaluation
from puriflow.registry import NONE

BEHIND_RESULTS = False
__all__ = [
    "NONE",
    "Certification",
    "Config",
    "Evaluation",
    "check_config",
    "default_track",
    "explained",
    "load_config",
    "read_track",
    "validated",
    "write_config",
]
