"""Runs `puriflow` and `snakemake` commands without starting Python and torch anew for each.

A line of standard input is a command as JSON: its words and the file of its output. It runs in a
fork, so that nothing is left of it; the answer is its exit status.
"""

import json
import os
import runpy
import sys
import traceback

import pandas  # noqa: F401, as the next ones: slow to import, and needed by most commands
import snakemake.cli
import torch  # noqa: F401
import zarr  # noqa: F401

import puriflow.classifiers.efficientnet_lite0  # and timm with it
import puriflow.cli


def python() -> None:
    """`python FILE`, or `python -c TEXT`."""
    sys.path[0] = os.getcwd()
    if sys.argv[1] == "-c":
        exec(sys.argv[2], {})
    else:
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")


MAINS = {"puriflow": puriflow.cli.main, "snakemake": snakemake.cli.main, "python": python}


def run(words: list[str], output: str) -> int:
    """What the command would exit with."""
    out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.argv = words
    try:
        MAINS[words[0]]()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


for line in sys.stdin:
    if (child := os.fork()) == 0:
        status = run(**json.loads(line))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
