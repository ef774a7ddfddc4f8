import os
import signal
import subprocess
import sys
import time

import pytest

from puriflow import lease

HOLDER = """
import sys, time
from puriflow import lease
lease.installed_gpus = lambda: 2
with lease.lease(int(sys.argv[1]), poll=0.05) as held:
    print(*held, flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def environment(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return {**os.environ}


def holder(environment, count=1, seconds=60):
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(count), str(seconds)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_jobs_get_devices_of_their_own_and_a_killed_one_frees_its(environment):
    first, second = holder(environment), holder(environment)
    held = {first.stdout.readline().strip(), second.stdout.readline().strip()}
    assert held == {"0", "1"}
    third = holder(environment, seconds=0)
    time.sleep(0.5)
    assert third.poll() is None  # both devices are taken: it waits
    first.send_signal(signal.SIGKILL)
    assert third.communicate(timeout=30)[0].strip() in held
    second.kill()
    for process in (first, second):
        process.wait()
        process.stdout.close()


def test_two_devices_are_taken_together_or_not_at_all(environment):
    both = holder(environment, count=2)
    assert both.stdout.readline().strip() == "0 1"
    both.kill()
    both.wait()
    both.stdout.close()


@pytest.mark.parametrize("variable", ["CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"])
def test_an_existing_mask_is_respected(environment, monkeypatch, variable):
    monkeypatch.setattr(lease, "installed_gpus", lambda: 2)
    monkeypatch.setattr(lease.tempfile, "tempdir", None)
    monkeypatch.setenv(variable, "1")
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    with lease.lease(1) as held:
        assert held == ([] if variable == "SLURM_JOB_ID" else ["1"])
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == before
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


def test_devices_are_leased_within_a_mask(environment, monkeypatch):
    monkeypatch.setattr(lease, "installed_gpus", lambda: 8)
    monkeypatch.setattr(lease.tempfile, "tempdir", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    with lease.lease(1) as first:
        assert first == ["5"]
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
        with lease.lease(1) as second:
            assert second == ["7"]


def test_the_mask_is_set_while_held_and_gone_after(environment, monkeypatch):
    monkeypatch.setattr(lease, "installed_gpus", lambda: 2)
    monkeypatch.setattr(lease.tempfile, "tempdir", None)
    with lease.lease(2) as held:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(held)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_without_gpus_nothing_is_leased(environment, monkeypatch):
    monkeypatch.setattr(lease, "installed_gpus", lambda: 0)
    with lease.lease(1) as held:
        assert held == []
