"""What `puriflow doctor` finds, and that it finds what is wrong."""

import pytest
import torch
from tiny_parts import ADM
from typer.testing import CliRunner

from puriflow import doctor
from puriflow.cli import app
from puriflow.doctor import examine
from puriflow.registry import part_of

CPU = torch.device("cpu")
PURIFIER = part_of("purifier", "vpsde", {"kind": "vpsde", "network": ADM, "t": 90})


def findings(purifier=PURIFIER):
    found = examine(purifier, {"purifier": purifier}, 32, CPU)
    return {one.what: one for one in found}


def test_a_machine_that_is_fit():
    found = findings()
    assert [*found] == ["device", "memory", "float16", "bfloat16", "recomputation", "time"]
    assert not any(one.wrong for one in found.values())
    assert "0.00 GiB an image" in found["memory"].said
    assert found["recomputation"].said == "equal to the last bit"
    assert "TFLOP/s" in found["time"].said


@pytest.mark.parametrize(
    ("cuda", "said"), [(None, "is a build without CUDA"), ("12.8", "does not see it")]
)
def test_a_gpu_that_torch_does_not_see_is_wrong(monkeypatch, cuda, said):
    monkeypatch.setattr(doctor, "visible_gpus", lambda: ["0"])
    monkeypatch.setattr(torch.version, "cuda", cuda)
    found = findings()["device"]
    assert found.wrong
    assert said in found.said
    asked = examine(PURIFIER, {"purifier": PURIFIER}, 32, CPU, wanted=False)
    assert not next(asked).wrong


def test_a_precision_that_computes_something_else_is_wrong(monkeypatch):
    built = doctor._Network.built

    def other(self, precision):
        network = built(self, precision)
        if precision == "float16":
            weights = dict(network.network.named_parameters())["input_blocks.0.0.weight"]
            weights.copy_(weights.flip(0))
        return network

    monkeypatch.setattr(doctor._Network, "built", other)
    found = findings()
    assert found["float16"].wrong
    assert not found["bfloat16"].wrong


def test_a_step_that_is_another_one_the_second_time_is_wrong(monkeypatch):
    def drawing(self, x):
        return self.network.eps(x, torch.tensor(0.09)) + torch.rand(())

    monkeypatch.setattr(doctor._Step, "eps", doctor.recomputation.recomputed(drawing))
    found = findings()["recomputation"]
    assert found.wrong
    assert found.said == "1 of 1 steps gave another state"


def test_the_command_says_it_and_fails_if_something_is_wrong(repository, monkeypatch):
    monkeypatch.chdir(repository)
    monkeypatch.setattr(doctor, "visible_gpus", lambda: ["0"])
    options = ["--purifier", "vpsde-t100", "--restorer", "none", "--classifier", "wrn-28-10"]
    ended = CliRunner().invoke(app, ["doctor", *options, "--dataset", "cifar10"])
    assert ended.exit_code == 1
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("WRONG  device")
    assert all(line.startswith("ok ") for line in lines[1:])
    assert "vpsde-t100.wrn-28-10" in lines[1]


def test_a_purifier_without_a_network_is_a_line(repository, monkeypatch):
    monkeypatch.chdir(repository)
    ended = CliRunner().invoke(app, ["doctor", "--purifier", "none"])
    assert ended.exit_code != 0
    assert "asks no network" in str(ended.exception)
