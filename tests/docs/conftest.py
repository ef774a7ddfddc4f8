"""A copy of this project with a tiny track, in which the documentation's commands are run."""

import http.server
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_track import EDSR, with_weights, write

from puriflow.registry import family_named, part_of

COPIED = ("Makefile", "README.md", "CONTRIBUTING.md", "LICENSE", "Snakefile", "pyproject.toml")
COPIED_FOLDERS = (
    "benchmarks",
    "config",
    "docs/example",
    "docs/site",
    "profiles",
    "puriflow",
    "tests",
    "workflow",
)
# What takes the place of the mini track's parts: networks with random weights, few steps.
NETWORKS = {
    "restorers": {
        "edsr-x2": EDSR,
        "esrgan-x2": {"kind": "esrgan", "num_feat": 8, "num_block": 1, "num_grow_ch": 4},
        "mdsr-x2": {"kind": "mdsr", "scale": 2, "n_feats": 8, "n_resblocks": 1},
    },
    "networks": {
        "edm": {"kind": "edm", "channels": 16, "channel_mult": [1], "num_blocks": 1},
    },
}
OPTIONS = {
    "datasets": {"imagenet": {"subset": 2}, "cifar10": {"subset": 2}},
    "attacks": {"pgd-linf4": {"n_iter": 1}, "pgd-eot-linf8": {"n_iter": 1, "eot_iter": 1}},
    "purifiers": {
        "vpsde-t10": {"evaluations": 1},
        "vpsde-t90": {"evaluations": 1},
        "vpsde-t100": {"evaluations": 1},
    },
}
# Files of config/ that are smaller than the project's own: results that are really built.
FILES = {
    "tables/table7": {
        "title": "initialisations",
        "source": "Table 7",
        "dataset": "imagenet",
        "classifier": "resnet50",
        "attack": "pgd-linf4",
        "purifier": "vpsde-t90",
        "rows": [{"method": "ESRGAN x2", "type": "SR", "restorer": "esrgan-x2"}],
    },
    "sweeps/levels": {
        "title": "levels",
        "source": "tests",
        "dataset": "imagenet",
        "classifier": "resnet50",
        "attack": "pgd-linf4",
        "restorer": "esrgan-x2",
        "purifier": ["none", "vpsde-t90"],
        "along": "purifier.t",
    },
}
# Official checkpoints in the zoo: tiny ones by the same names, and one that its host has lost.
SCORE_SDE = {"kind": "ddpmpp", "channels": 16, "channel_mult": [1], "num_res_blocks": 1}
ENTRIES = {
    "real-esrgan-x2": {"family": "restorers", "part": EDSR, "file": "RealESRGAN_x2.pth"},
    "mdsr-baseline": {
        "family": "restorers",
        "part": {"kind": "mdsr", "scale": 2},
        "file": "mdsr_baseline-a00cab12.pt",
        "by_hand": "from a copy",
    },
    "score-sde-cifar10": {
        "family": "networks",
        "part": SCORE_SDE,
        "file": "checkpoint_8.pth",
        "convert": "score-sde",
    },
}


def tiny_config(folder: Path, adm: dict) -> dict:
    """The mini track with tiny parts, whose weights are written to `folder`."""
    config = yaml.safe_load((folder / "config" / "config.yaml").read_text())
    networks = NETWORKS | {"networks": NETWORKS["networks"] | {"adm": adm}}
    for section, entries in networks.items():
        role = family_named(section).roles[0]
        for name, entry in entries.items():
            own = with_weights(folder, role, entry, name)
            config[section][name] = {**own, "weights": str(folder / own["weights"])}
    for section, entries in OPTIONS.items():
        for name, options in entries.items():
            config[section][name].update(options)
    return config


def add_images(folder: Path) -> None:
    """The images that commands name: photographs, an array, ImageNet- and CIFAR-like folders."""
    rng = np.random.default_rng(0)
    for name in (
        "photo.jpg",
        "folder/one.png",
        "data/imagenet/val/n01440764/one.JPEG",
        "data/imagenet/val/n01443537/two.JPEG",
        "photographs/cat/one.png",
        "DIR/one.png",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / name)
    np.save(folder / "adv.npy", rng.random((1, 3, 32, 32), dtype=np.float32))


def add_zoo(folder: Path, url: str) -> None:
    """The tiny checkpoints, served at `url`, and the zoo's entries of them."""
    for name in ("served", "weights"):
        (folder / name).mkdir()
    torch.manual_seed(0)
    edsr = part_of("restorer", "r", {**EDSR, "weights": None}).build().network
    torch.save(edsr.state_dict(), folder / "served" / ENTRIES["real-esrgan-x2"]["file"])
    network = part_of("network", "n", {**SCORE_SDE, "weights": None}).build().network
    averages = {"shadow_params": list(network.parameters())}
    torch.save({"ema": averages, "model": network.state_dict()}, folder / "checkpoint_8.pth")
    described = {"licence": "MIT", "input": "[0, 1]", "source": "tests"}
    entries = {
        name: {**described, **entry, "url": f"{url}/{entry['file']}"}
        for name, entry in ENTRIES.items()
    }
    (folder / "zoo.yaml").write_text(yaml.safe_dump(entries))


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A folder that is served on this machine, and its address."""
    folder = tmp_path_factory.mktemp("docs")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=folder / "served")
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{served.server_port}"
    served.shutdown()


@pytest.fixture(scope="session")
def tiny_copy(repository, server, tiny_adm) -> Path:
    """The folder of the copy."""
    folder, url = server
    for name in COPIED:
        shutil.copy(repository / name, folder)
    for name in COPIED_FOLDERS:
        shutil.copytree(
            repository / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    (folder / "resources").symlink_to(repository / "resources")
    claims = yaml.safe_load((folder / "config" / "claims.yaml").read_text())
    there = [claim for claim in claims["claims"] if f"tables/{claim['about']}" not in FILES]
    claims["claims"] = there
    write(folder, {"config": tiny_config(folder, tiny_adm), "claims": claims, **FILES})
    add_images(folder)
    add_zoo(folder, url)
    return folder


@pytest.fixture(scope="session")
def surroundings(tiny_copy, tmp_path_factory):
    """The environment of commands: the copy's code, a zoo that needs no internet, fast calls."""
    bin_folder = tmp_path_factory.mktemp("bin")
    variables = {
        **os.environ,
        "PYTHONPATH": str(tiny_copy),
        "OMP_NUM_THREADS": "1",
        "PURIFLOW_ZOO": str(tiny_copy / "zoo.yaml"),
        "PURIFLOW_CACHE": str(tiny_copy / "cache"),
        "PURIFLOW_WEIGHTS": str(tiny_copy / "weights"),
        "COLUMNS": "200",
    }
    with served_calls(bin_folder, variables):
        yield variables


@contextmanager
def served_calls(folder: Path, variables: dict[str, str]):
    """Let `puriflow`, `snakemake` and `python` be answered by the server of calls."""
    program, path = Path(__file__).with_name("server.py"), folder / "socket"
    for name in ("puriflow", "snakemake", "python"):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {program} {name} "$@"\n')
        script.chmod(0o755)
    started = subprocess.Popen([sys.executable, program, "serve", path], env=variables)
    variables |= {
        "PATH": f"{folder}{os.pathsep}{variables['PATH']}",
        "PURIFLOW_TEST_SERVER": str(path),
    }
    while not path.exists():
        assert started.poll() is None
        time.sleep(0.05)
    yield
    started.terminate()
    started.wait()
