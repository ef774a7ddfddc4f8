"""A small track, built by the stages themselves: four images, two steps of PGD."""

import json

import pytest
import torch
import yaml

from puriflow.chain import victim_roles
from puriflow.config import load_config
from puriflow.results import load_result
from puriflow.sharing.leaderboard import board, written
from puriflow.stages.attack import write_attack
from puriflow.stages.classify import write_logits
from puriflow.stages.evaluate import write_evaluated
from puriflow.stages.images import write_images
from puriflow.stages.restore import write_restored
from puriflow.store import open_stage

TABLE = {
    "title": "a table",
    "source": "tests",
    "dataset": "cifar10",
    "classifier": "wrn-28-10",
    "attack": "pgd-linf8",
    "evaluation": "two",
    "audit": 2,  # which nothing builds here
    "rows": [
        {
            "method": "undefended",
            "type": "none",
            "paper": {"standard": 95, "robust": 1.5, "n": 512},
        },
        {"method": "MDSR", "type": "SR", "restorer": "mdsr-x2"},
        {"method": "SR and one shot", "type": "AP", "restorer": "mdsr-x2", "purifier": "osd-t100"},
        {
            "method": "MDSR, adaptive",
            "type": "SR",
            "restorer": "mdsr-x2",
            "attack": {"attack": "pgd-linf8", "victim": "defence"},
        },
        {"method": "theirs", "type": "quoted", "quoted": "them", "paper": {"robust": 70}},
    ],
}


def built(folder, repository):
    """The track, the folder of its results and that of its tables."""
    config = {
        "extends": str(repository / "config" / "config.yaml"),
        "datasets": {
            "cifar10": {"kind": "foolbox", "sample": "cifar10", "subset": 4, "served_by": "four"}
        },
        "attacks": {
            "pgd-linf8": {"kind": "pgd", "eps": "8/255", "step_size": "4/255", "n_iter": 2}
        },
        "evaluations": {"two": {"n_draws": 2, "rule": "average"}},
    }
    (folder / "config" / "tables").mkdir(parents=True)
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "config" / "tables" / "small.yaml").write_text(yaml.safe_dump(TABLE))
    track = load_config(folder / "config" / "config.yaml")
    table = load_result(folder / "config" / "tables" / "small.yaml")
    for row in table.items():
        clean, attacked = table.chains(track, row)
        for chain in (clean, *attacked):
            make(chain, track, folder / "results")
    return track, folder / "results", folder / "config"


def make(chain, track, results):
    """The stores of a chain that are not there yet."""
    cpu = torch.device("cpu")
    part = lambda role: track.part(role, getattr(chain, role))  # noqa: E731
    for stage in chain.stages():
        out = results / chain.folder(stage, "0-of-1")
        if (out / "manifest.json").is_file():
            continue
        if stage == "images":
            write_images(out, part("dataset"), subset=4)
            continue
        source = open_stage(results / chain.folder(chain.before(stage), "0-of-1"))
        if stage == "attack":
            victim = track.parts(victim_roles(chain.victim))
            write_attack(source, out, part("attack"), victim, seed=track.seed, device=cpu)
        elif stage == "restore":
            write_restored(source, out, part("restorer"), device=cpu)
        elif stage == "classify":
            write_logits(source, out, part("classifier"), device=cpu)
        else:
            asked = {"n_draws": chain.n_draws, "seed": track.seed, "device": cpu}
            write_evaluated(source, out, part("purifier"), part("classifier"), **asked)


@pytest.fixture(scope="module")
def small(tmp_path_factory, repository):
    """See `built`."""
    return built(tmp_path_factory.mktemp("small"), repository)


@pytest.fixture(scope="module")
def records(small):
    """The leaderboard of the small track, as `puriflow results --json` writes it."""
    found, _ = board(*small)
    return json.loads(written(found))
