"""`puriflow init`: a folder of one's own in which snakemake builds every result."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from puriflow.errors import UserError
from puriflow.shipped import shipped

BEHIND_RESULTS = False
SNAKEFILE = """\
# PuriFlow's workflow, with the tracks and the results of config/. Rules of your own go below.
from puriflow.shipped import shipped


include: str(shipped("workflow/Snakefile"))


workflow.default_target = "all"
"""
TRACK = """\
# The track of this study: what it does not say is as in the mini track that PuriFlow ships.
# The sections, and what an entry of each may say: README.md beside this file.
extends: config/config.yaml
track: study

# datasets:
#   imagenet: {kind: folder, root: /data/imagenet/val, subset: 512, shards: 8}
"""


def init(folder: Annotated[Path, typer.Argument(help="the study's folder, new or empty")]) -> None:
    """Begin a study: a Snakefile, a configuration and profiles that use the installed PuriFlow.

    The tables, figures and other results in its config/ are the study's own: change them, leave
    them out, or add some.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there, and is no empty folder: name a new one")
    for name in ("config", "profiles"):
        shutil.copytree(shipped(name), folder / name)
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "config" / "config.yaml").write_text(TRACK)
    typer.echo(f"{folder}: Snakefile, config/, profiles/; there, call snakemake results/table7.csv")
