"""What a job of the workflow costs besides its images, against a Python that imports torch.

    python benchmarks/job_overhead.py

The commands of a chain, as rules call them, each on one image of CIFAR-10: CPU seconds of the whole
process. Beside them stands a process that imports torch and ends, without which there is no job of
a network (the images' stage does without), and for that one a process that imports numpy.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from ratios import Row, in_turns, of_children, one_thread, report

ROUNDS = 3
JOBS = {  # in the order of a chain
    "images": "images cifar10 --subset 1 --out images",
    "restore": "restore images --out restored --restorer edsr-x2",
    "purify": "purify images --out purified --purifier osd-t100",
    "classify": "classify images --out classified --classifier wrn-28-10",
}
BARE = {"numpy": "import numpy", "torch": "import torch"}
RUN = "from puriflow.cli import main; main()"
TRACK = Path(__file__).parents[1] / "config" / "config.yaml"


def call(folder: Path, *arguments: str) -> None:
    """Run Python as the workflow does, with one thread."""
    command, own = [sys.executable, *arguments], {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=own)


def main() -> None:
    """Print and write the ratios."""
    folder = Path(tempfile.mkdtemp())
    jobs = {n: ["-c", RUN, "stage", *j.split(), "--config", str(TRACK)] for n, j in JOBS.items()}
    ways = {n: partial(call, folder, *job) for n, job in jobs.items()}
    ways |= {n: partial(call, folder, "-c", bare) for n, bare in BARE.items()}
    try:
        spent = in_turns(ways, ROUNDS, clock=of_children)
    finally:
        shutil.rmtree(folder)
    bare = {name: "numpy" if name == "images" else "torch" for name in jobs}
    report(__file__, [Row(f"{n}, import {b}", spent[n], spent[b]) for n, b in bare.items()])


if __name__ == "__main__":
    one_thread()
    main()
