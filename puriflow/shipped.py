"""Where the track, the weights, the workflow and the profiles are that PuriFlow ships.

In a checkout they are folders beside the package. A wheel has them inside of it (setup.py), so that
an installed PuriFlow works in any folder.
"""

from pathlib import Path

BEHIND_RESULTS = False
PACKAGE = Path(__file__).absolute().parent
INSIDE = PACKAGE / "_shipped"  # of a wheel


def shipped(name: str | Path) -> Path:
    """The absolute path of a file or folder of PuriFlow's own, such as `config/paper.yaml`."""
    return (INSIDE if INSIDE.is_dir() else PACKAGE.parent) / name
