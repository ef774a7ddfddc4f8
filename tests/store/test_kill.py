"""A job that is killed with SIGKILL in the middle of a stage goes on where it was."""

import json
import subprocess
import time

import pytest
import torch
from test_store import contents

from puriflow.diffusion.adm import ADM
from puriflow.zoo.weights import save_weights

NETWORK = {
    "model_channels": 8,
    "out_channels": 3,
    "num_res_blocks": 1,
    "attention_resolutions": [],
    "channel_mult": [1, 1, 1, 1],
    "num_head_channels": 8,
    "resblock_updown": False,
    "norm_groups": 2,
}


@pytest.fixture
def purify(four_images, tmp_path):
    """Starts a purification of four images whose batches take about half a second each."""
    torch.manual_seed(0)
    weights = tmp_path / "weights.safetensors"
    save_weights(ADM(**NETWORK), weights)
    network = {"kind": "adm", "weights": str(weights), **NETWORK}
    spec = json.dumps({"kind": "vpsde", "t": 20, "step": 1, "network": network})

    def start(out):
        command = ["puriflow", "purify", four_images.folder, "--out", out, "--purifier", "test"]
        options = ["--spec", spec, "--batch", "1", "--threads", "1"]
        return subprocess.Popen([*map(str, command), *options], stdout=subprocess.PIPE, text=True)

    return start


def test_a_killed_stage_resumes_to_identical_bytes(purify, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    first = purify(whole)
    assert "done before" not in first.communicate()[0]
    assert first.returncode == 0

    job = purify(killed)
    work = tmp_path / ".killed.work"
    while not list(work.glob("*/*.npz")):
        assert job.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    job.kill()
    job.communicate()
    kept = list(work.glob("*/*.npz"))
    assert 0 < len(kept) < 4
    assert not killed.exists()

    second = purify(killed)
    assert f"{len(kept)}/4 images were done before" in second.communicate()[0]
    assert second.returncode == 0
    assert contents(killed) == contents(whole)
    assert json.loads((killed / "timing.json").read_text())["images"] == 4
