"""A rehearsal of the paper track at official sizes, with random weights and made-up photographs.

    python benchmarks/rehearsal.py FOLDER [TARGET ...]

FOLDER gets stand-ins of the official files in their own containers (10 GB), a tree of JPEGs as
ImageNet's, and a track that extends the paper's, of one image, two steps of each diffusion and one
iteration of each attack. Snakemake then builds the targets, by default one chain of Table 7.
Printed are the seconds of every job, the largest memory of any, and the sizes of files and stores.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from stand_ins import write_imagenet, write_zoo

from puriflow.config import Config, load_config
from puriflow.registry import kinds
from puriflow.yaml_files import dump_yaml

ROOT = Path(__file__).parents[1]
CHAIN = "classify/imagenet/pgd-linf4/resnet50/esrgan-x2/vpsde-t90/resnet50/0-of-1/manifest.json"
# Options by section, for all kinds that have them.
FEW = {
    "attacks": {"n_iter": 1, "eot_iter": 1, "n_draws": 1, "n_queries": 2, "n_target_classes": 1},
    "purifiers": {"t": 2, "t_delta": 0, "evaluations": 2, "n_iter": 1, "rounds": 1, "start": 0},
}


def cut_track(paper: Config, catalogue: Path, images: int) -> dict[str, Any]:
    """A track that extends the paper's, of few images and few steps, with another zoo file."""
    track: dict[str, Any] = {"extends": "config/paper.yaml", "track": "rehearsal"}
    track["zoo"] = {"entries": str(catalogue)}
    few = {"subset": images, "subset_seed": 0, "shards": 1}
    track["datasets"] = dict.fromkeys(paper.datasets, few)
    track["evaluations"] = {
        name: {"n_draws": 2} for name, judged in paper.evaluations.items() if judged.n_draws > 2
    }
    for section, cut in FEW.items():
        known, roles = kinds(section), getattr(paper, section)
        track[section] = {
            name: {key: value for key, value in cut.items() if key in known[role.kind].options}
            for name, role in roles.items()
            if role.kind is not None
        }
    return track


def prepare(folder: Path) -> None:
    """Write track, data, and the weights that are not there yet, below the working folder."""
    weights = folder / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    if not (folder / "config").exists():
        (folder / "config").symlink_to(ROOT / "config")
    paper = load_config(ROOT / "config" / "paper.yaml")
    used = dict.fromkeys(file.name.removeprefix("zoo:") for file in paper.weights())
    if not (weights / "zoo.yaml").is_file():
        write_zoo({name: paper.zoo.entry(name) for name in used}, weights)
    write_imagenet(folder / "data" / "imagenet" / "val", 4)
    track = cut_track(paper, weights / "zoo.yaml", images=1)
    for name, few in track["datasets"].items():
        if name.startswith("cifar10"):  # whose files are read by their published hash only
            track["datasets"][name] = {**few, "kind": "foolbox", "sample": "cifar10"}
    (folder / "rehearsal.yaml").write_text(dump_yaml(track))


def build(folder: Path, targets: list[str]) -> None:
    """Build targets by Snakemake, one job at a time."""
    places = {"PURIFLOW_WEIGHTS": str(folder / "weights"), "PURIFLOW_CACHE": str(folder / "cache")}
    command = ["snakemake", *targets, "--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", "rehearsal.yaml", "--resources", "gpu=1"]
    subprocess.run(command, cwd=folder, env=os.environ | places, check=True)


def report(folder: Path) -> None:
    """Print what it took."""
    kept = folder / "results" / "benchmarks"
    for file in sorted(kept.rglob("*.jsonl")):
        seconds = json.loads(file.read_text().splitlines()[-1])["s"]
        print(f"{seconds:9.1f} s  {file.relative_to(kept).with_suffix('')}")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024  # kilobytes on Linux, bytes on macOS
    print(f"{memory * unit / 1e9:9.2f} GB  resident at most, of any job of this run")
    for file in sorted([*folder.glob("weights/*.p*"), *folder.glob("cache/*/*.safetensors")]):
        print(f"{file.stat().st_size / 1e6:9.1f} MB  {file.relative_to(folder)}")
    for manifest in sorted(folder.glob("results/*/**/manifest.json")):
        store = manifest.parent
        size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
        print(f"{size / 1e3:9.1f} kB  {store.relative_to(folder)}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    place = Path(sys.argv[1]).absolute()
    prepare(place)
    build(place, sys.argv[2:] or [f"results/{CHAIN}"])
    report(place)
