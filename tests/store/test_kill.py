"""A job that is killed with SIGKILL in the middle of a stage goes on where it was."""

import json
import subprocess
import sys
import time

import pytest
import torch
from tiny_stores import contents

from puriflow.registry import part_of
from puriflow.zoo.weights import save_weights

JOB = """
import json, sys
from pathlib import Path
from puriflow.compute import device
from puriflow.registry import part_of
from puriflow.stages.purify import write_purified
from puriflow.store import open_stage

source, out, entry = sys.argv[1:]
with device(gpu=False, threads=1) as cpu:
    purifier = part_of("purifier", "test", json.loads(entry))
    write_purified(open_stage(source), Path(out), purifier, seed=0, device=cpu, batch=1)
"""


@pytest.fixture
def purify(four_images, tiny_adm, tmp_path):
    """Starts a purification of four images whose batches take about half a second each."""
    torch.manual_seed(0)
    weights = tmp_path / "weights.safetensors"
    save_weights(part_of("network", "tiny", tiny_adm).build().network, weights)
    network = {**tiny_adm, "weights": str(weights)}
    entry = json.dumps({"kind": "vpsde", "t": 20, "network": network})

    def start(out):
        command = [sys.executable, "-c", JOB, str(four_images.folder), str(out), entry]
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, **both, text=True)

    return start


def test_a_killed_stage_resumes_to_identical_bytes(purify, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    first = purify(whole)
    assert "done before" not in first.communicate()[0]
    assert first.returncode == 0

    job = purify(killed)
    work = tmp_path / ".killed.work"
    while not list(work.glob("*/*.batch")):
        assert job.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    job.kill()
    job.communicate()
    kept = list(work.glob("*/*.batch"))
    assert 0 < len(kept) < 4
    assert not killed.exists()

    second = purify(killed)
    assert f"{len(kept)}/4 images were done before" in second.communicate()[0]
    assert second.returncode == 0
    assert contents(killed) == contents(whole)
    assert json.loads((killed / "timing.json").read_text())["images"] == 4
