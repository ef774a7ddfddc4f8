"""CPU seconds of planning (a dry run) on the paper track, beside those of another commit.

    python benchmarks/planning.py [COMMIT]

Table 2 in 100 shards, where nothing is there yet; and Table 7 in 8 shards, as the track has it,
where nothing is there, and where all of it is. Files of weights are stand-ins of a line, which a
zoo file of their own gives hashes; there is no data. The stores that are there are empty folders
with a manifest, which `snakemake --touch` records as made. COMMIT is `HEAD` if none is given: what
is committed beside what is not yet.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from ratios import Row, in_turns, of_children, report

from puriflow.atomic import sha256
from puriflow.config import load_config
from puriflow.results import find, load_result
from puriflow.stages.base import provenance
from puriflow.store import Writer
from puriflow.yaml_files import dump_yaml
from puriflow.zoo.catalogue import Zoo

ROOT = Path(__file__).parents[1]
SHARDS = {"table2": 100, "table7": 8}
ROUNDS = 3


def prepare(folder: Path) -> None:
    """Write a track for each number of shards, and what stands for the official files."""
    (folder / "config").symlink_to(ROOT / "config")
    (weights := folder / "weights").mkdir()
    zoo = {}
    for name, entry in Zoo().known().items():
        (weights / entry.file).write_text(name)
        said = entry.model_dump(exclude_none=True, exclude={"size", "md5", "convert"})
        zoo[name] = {**said, "sha256": sha256(weights / entry.file)}
    (folder / "zoo.yaml").write_text(dump_yaml(zoo))
    datasets = load_config(ROOT / "config" / "paper.yaml").datasets
    for table, shards in SHARDS.items():
        track = {"extends": "config/paper.yaml", "track": table, "zoo": {"entries": "zoo.yaml"}}
        track["datasets"] = {name: {"shards": shards} for name in datasets}
        (folder / f"{table}.yaml").write_text(dump_yaml(track))


def build(folder: Path, table: str) -> None:
    """Put in place what stands for all files of a table."""
    track, result = load_config(folder / f"{table}.yaml"), load_result(find(table, Path("config")))
    for store in result.stores(track):
        place = folder / "results" / store
        if store.startswith("images/"):  # whose manifest is read
            part = track.part("dataset", store.split("/")[1])
            made_by = provenance("images", {"dataset": part}, {}, upstream=[])
            index = np.arange(1)
            writer = Writer(place, "images", labels=index, indices=index, provenance=made_by)
            writer.write(0, {"images": np.zeros((1, 3, 1, 1), np.float32)}, 0)
            writer.finish()
            continue
        (place / "some.zarr").mkdir(parents=True)
        (place / "manifest.json").write_text("{}")
    for file in (*result.outputs(table).values(), *result.files(track)):
        (folder / "results" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "results" / file).write_text("here")
    (folder / "results" / "zoo").mkdir()
    for weights in result.weights(track):
        mark = folder / "results" / "zoo" / f"{weights.name.partition(':')[2]}.fetched"
        mark.write_text(f"{weights.file}: sha256 {sha256(weights.file)} right")
    plan(ROOT, folder, table, "--touch")
    if "Nothing to be done" not in (said := plan(ROOT, folder, table, "--dry-run")):
        sys.exit(f"what is there does not stand for {table}:\n{said[-2000:]}")


def plan(root: Path, folder: Path, table: str, *options: str) -> str:
    """What Snakemake says of a table, by the code of a checkout."""
    command = ["snakemake", f"results/{table}.csv", "--snakefile", str(root / "Snakefile")]
    command += ["--configfile", f"{table}.yaml", "--cores", "1", *(options or ["--dry-run"])]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    said = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if said.returncode:
        sys.exit(said.stdout[-2000:])
    return said.stdout


def check_out(commit: str, folder: Path) -> Path:
    """The files of a commit."""
    command = ["git", "archive", commit]
    packed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def main(commit: str) -> None:
    """Measure, print and write."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, rows = Path(temporary, "run"), []
        folder.mkdir()
        prepare(folder)
        os.environ["PURIFLOW_WEIGHTS"] = str(folder / "weights")
        os.environ["PURIFLOW_CACHE"] = str(folder / "cache")
        other = check_out(commit, Path(temporary, "other"))

        def measured(what: str, table: str) -> None:
            ways = {n: partial(plan, r, folder, table) for n, r in (("ours", ROOT), ("o", other))}
            spent = in_turns(ways, ROUNDS, of_children)
            rows.append(Row(what, spent["ours"], spent["o"]))

        measured("Table 2 in 100 shards, nothing there", "table2")
        measured("Table 7 in 8 shards, nothing there", "table7")
        os.chdir(folder)
        build(folder, "table7")
        measured("Table 7 in 8 shards, all there", "table7")
        report(__file__, rows, beside=commit)


if __name__ == "__main__":
    main([*sys.argv, "HEAD"][1])
