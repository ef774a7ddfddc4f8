import os
import signal
import subprocess
import sys
import time

import pytest

from puriflow import lease
from puriflow.errors import UserError

HOLDER = """
import sys, time
from puriflow import lease
from puriflow.errors import UserError
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


@pytest.fixture
def eight(environment, monkeypatch, tmp_path):
    """A machine of eight devices; returns the folder of its locks."""
    monkeypatch.setattr(lease, "installed_gpus", lambda: 8)
    monkeypatch.setattr(lease.tempfile, "tempdir", None)
    return tmp_path / f"puriflow-gpus-{os.getuid()}"


MIG = "MIG-GPU-5c3dd9a2-1fe4-4e4d-9b1c-0d0e2b7f7a11/1/2"
GPU = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
MASKS = {
    "": [],
    "5,7": ["5", "7"],
    " 5 , 07 ": ["5", "7"],
    "-1": [],
    "-1,0": [],
    "0,-1,1": ["0"],
    "NoDevFiles": [],
    "0,,1": ["0"],
    ",0": [],
    "3,3": [],
    "0,8,1": ["0"],
    "0,99999999999999999999": ["0"],
    GPU: [GPU],
    f"{GPU},0": [GPU],
    f"0,{GPU}": ["0"],
    MIG: [MIG],
    "MIG-8932f937-d72c-4106-c12f-20bd9faed9f6": ["MIG-8932f937-d72c-4106-c12f-20bd9faed9f6"],
    f"{GPU},{MIG}": [GPU],
    "../../../tmp/x": [],
    "MIG-../../../x": [],
    "0\n": ["0"],
    "all": [],
}


@pytest.mark.parametrize("mask", MASKS)
def test_a_mask_is_understood_as_by_cuda(eight, monkeypatch, mask):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
    assert lease.visible_gpus() == MASKS[mask]
    with lease.lease(100) as held:
        assert held == MASKS[mask]
        if held:
            assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(held)
            assert len(list(eight.iterdir())) == len(held)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == mask


def test_fewer_than_no_gpus_are_refused(eight):
    with pytest.raises(UserError, match="gpus is -1, but must be 0 or more"), lease.lease(-1):
        pytest.fail("it was leased")


def test_jobs_of_one_slurm_allocation_share_its_devices(eight, monkeypatch):
    """And another allocation's device 0 is another one."""
    monkeypatch.setenv("SLURM_JOB_ID", "11")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with lease.lease(1) as first:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        with lease.lease(1) as second:
            assert (first, second) == (["0"], ["1"])
            monkeypatch.setenv("SLURM_JOB_ID", "12")
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
            with lease.lease(2) as other:
                assert other == ["0", "1"]


def test_a_node_that_shares_the_folder_has_devices_of_its_own(eight, monkeypatch):
    here = lease.lock_name("0")
    monkeypatch.setattr(lease.socket, "gethostname", lambda: "another")
    assert lease.lock_name("0") != here
    assert "/" not in lease.lock_name("../../x")


@pytest.mark.parametrize("what", ["link", "file", "open to all", "another's"])
def test_a_folder_of_somebody_else_holds_no_lock(eight, monkeypatch, tmp_path, what):
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    (mine / lease.lock_name("0")).write_text("precious")
    if what == "link":
        eight.symlink_to(mine)
    elif what == "file":
        eight.write_text("precious")
    else:
        eight.mkdir(mode=0o700)
        if what == "open to all":
            eight.chmod(0o777)
        else:
            uid = os.getuid() + 1
            eight.rename(tmp_path / f"puriflow-gpus-{uid}")
            monkeypatch.setattr(lease.os, "getuid", lambda: uid)
    with pytest.raises((UserError, FileExistsError), match="puriflow-gpus"), lease.lease(1):
        pytest.fail("it was leased")
    assert (mine / lease.lock_name("0")).read_text() == "precious"


def test_a_lock_that_is_a_link_is_not_followed(eight, tmp_path):
    eight.mkdir(mode=0o700)
    (eight / lease.lock_name("0")).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="is a link"), lease.lease(1):
        pytest.fail("it was leased")
    assert not (tmp_path / "elsewhere").exists()
