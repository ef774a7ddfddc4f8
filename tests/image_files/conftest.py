"""A tiny track for image files, and the command that purifies them."""

import sys

import pytest
import torch
import yaml

from puriflow.cli import main
from puriflow.registry import family_named, part_of
from puriflow.zoo.weights import save_weights


@pytest.fixture(scope="session")
def track(tmp_path_factory, tiny_adm):
    """A track whose parts take milliseconds, and its file."""
    folder = tmp_path_factory.mktemp("track")
    torch.manual_seed(0)
    adm = dict(tiny_adm)
    edsr = {"kind": "edsr", "n_feats": 4, "n_resblocks": 1}
    wrn = {"kind": "wide-resnet", "depth": 10, "widen_factor": 1}
    for section, name, entry in (
        ("networks", "adm", adm),
        ("restorers", "edsr", edsr),
        ("classifiers", "wrn", wrn),
    ):
        file = folder / f"{name}.safetensors"
        random = part_of(family_named(section).roles[0], name, {**entry, "weights": None})
        save_weights(random.build().network, file)
        entry["weights"] = str(file)
    config = {
        "track": "tiny",
        "datasets": {},
        "attacks": {},
        "classifiers": {"wrn": wrn, "lite0": {"kind": "efficientnet-lite0"}},
        "restorers": {"edsr": edsr, "bicubic": {"kind": "bicubic"}},
        "networks": {"adm": adm},
        "purifiers": {"little": {"kind": "vpsde", "network": "adm", "t": 3}},
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.fixture
def command(monkeypatch, capsys, track):
    """Runs `puriflow purify`; returns its status and all that it said."""

    def run(*arguments):
        given = ["puriflow", "purify", *map(str, arguments), "--config", str(track), "--gpus", "0"]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out + said.err

    return run
