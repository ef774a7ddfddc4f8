"""A copy of this project with a tiny track, in which the documentation's commands are run."""

import http.server
import os
import shutil
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_track import EDSR, with_weights, write

from puriflow import parts

COPIED = ("Makefile", "README.md", "LICENSE", "Snakefile", "pyproject.toml")
COPIED_FOLDERS = ("benchmarks", "config", "profiles", "puriflow", "tests", "workflow")
# What takes the place of the mini track's parts: networks with random weights, few steps.
NETWORKS = {
    "restorers": {
        "edsr-x2": EDSR,
        "esrgan-x2": {"kind": "esrgan", "scale": 2, "features": 8, "blocks": 1, "growth": 4},
        "mdsr-x2": {"kind": "mdsr", "scale": 2, "features": 8, "blocks": 1},
    },
    "networks": {
        "edm": {"kind": "edm", "channels": 16, "channel_mult": [1], "num_blocks": 1},
    },
}
OPTIONS = {
    "datasets": {"imagenet": {"subset": 2}, "cifar10": {"subset": 2}},
    "attacks": {"pgd-linf4": {"steps": 1}, "pgd-eot-linf8": {"steps": 1, "draws": 1}},
    "purifiers": {
        "vpsde-t10": {"step": 1000},
        "vpsde-t90": {"step": 1000},
        "vpsde-t100": {"step": 1000},
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
}
# Official checkpoints that are fetched: tiny ones by the same names.
SCORE_SDE = {"kind": "ddpmpp", "channels": 16, "channel_mult": [1], "num_res_blocks": 1}
ENTRY = {"licence": "MIT", "input": "[0, 1]", "source": "tests"}


def tiny_config(folder: Path, adm: dict) -> dict:
    """The mini track with tiny parts, whose weights are written to `folder`."""
    config = yaml.safe_load((folder / "config" / "config.yaml").read_text())
    networks = NETWORKS | {"networks": NETWORKS["networks"] | {"adm": adm}}
    for family, specs in networks.items():
        for name, spec in specs.items():
            config[family][name] = with_weights(folder, family, spec, name)
    for family, roles in OPTIONS.items():
        for name, options in roles.items():
            config[family][name].update(options)
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
        "photographs/dog/two.png",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / name)
    np.save(folder / "adv.npy", rng.random((1, 3, 32, 32), dtype=np.float32))


def add_zoo(folder: Path, url: str) -> None:
    """Entries of the zoo by the names of official ones, served at `url`."""
    served = folder / "served"
    served.mkdir()
    torch.manual_seed(0)
    edsr = parts.build("restorers", "r", {**EDSR, "weights": None}).network
    torch.save(edsr.state_dict(), served / "RealESRGAN_x2.pth")
    network = parts.build("networks", "n", {**SCORE_SDE, "weights": None}).network
    averages = {"shadow_params": list(network.parameters())}
    torch.save({"ema": averages, "model": network.state_dict()}, folder / "checkpoint_8.pth")
    entries = {
        "real-esrgan-x2": {
            "family": "restorers",
            "part": EDSR,
            "file": "RealESRGAN_x2.pth",
            "url": f"{url}/RealESRGAN_x2.pth",
        },
        "score-sde-cifar10": {
            "family": "networks",
            "part": SCORE_SDE,
            "file": "checkpoint_8.pth",
            "by_hand": "https://example.org",
            "convert": "score-sde",
        },
    }
    entries["broken"] = {**entries["real-esrgan-x2"], "url": f"{url}/broken.pth"}
    entries = {name: {**ENTRY, **entry} for name, entry in entries.items()}
    (folder / "zoo.yaml").write_text(yaml.safe_dump(entries))
    by_hand = folder / "weights"
    by_hand.mkdir()
    (by_hand / "DRLN_BIX2.pt").touch()


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
    write(folder, {"config": tiny_config(folder, tiny_adm), **FILES})
    add_images(folder)
    add_zoo(folder, url)
    return folder


@pytest.fixture(scope="session")
def surroundings(tiny_copy) -> dict[str, str]:
    """The environment of the commands: the copy's code, and a zoo that needs no internet."""
    return {
        **os.environ,
        "PYTHONPATH": str(tiny_copy),
        "OMP_NUM_THREADS": "1",
        "PURIFLOW_ZOO": str(tiny_copy / "zoo.yaml"),
        "PURIFLOW_CACHE": str(tiny_copy / "cache"),
        "PURIFLOW_WEIGHTS": str(tiny_copy / "weights"),
        "COLUMNS": "200",
    }
