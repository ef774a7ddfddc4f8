"""The device, precision and batches."""

import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.backends import cuda, cudnn, mkldnn

from puriflow.compute import device, folded, in_batches
from puriflow.errors import UserError
from puriflow.kernels import CUBLAS, FIXED_BUFFERS, chosen
from puriflow.registry import part_of
from puriflow.zoo.weights import save_weights

CPU = torch.device("cpu")
BACKENDS = (cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn)


def precision():
    """Of all products and convolutions, and of each backend."""
    said = []
    for read in (torch.get_float32_matmul_precision, lambda: cudnn.allow_tf32):
        try:
            said.append(read())
        except RuntimeError:
            said.append("mixed")
    return [*said, *(backend.fp32_precision for backend in BACKENDS)]


def legacy():
    cuda.matmul.allow_tf32 = cudnn.allow_tf32 = True


def medium():
    torch.set_float32_matmul_precision("medium")


def of_backends():
    cuda.matmul.fp32_precision = cudnn.conv.fp32_precision = "tf32"
    cudnn.rnn.fp32_precision = "ieee"


@pytest.fixture
def as_before():
    """Whatever a test says of precision is gone after it."""
    before = [backend.fp32_precision for backend in BACKENDS]
    yield
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32 = True
    for backend, said in zip(BACKENDS, before, strict=True):
        backend.fp32_precision = said


def kernels():
    """What cuDNN, torch itself and cuBLAS are told."""
    return (
        (cudnn.deterministic, cudnn.benchmark),
        (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
        ),
    )


@pytest.mark.parametrize("before", [(False, True), (True, False)])
@pytest.mark.parametrize("wanted", [True, False])
def test_a_gpu_has_the_same_kernels_each_time_or_the_fastest(wanted, before, monkeypatch):
    monkeypatch.delenv(CUBLAS, raising=False)
    monkeypatch.setattr(cudnn, "deterministic", before[0])
    monkeypatch.setattr(cudnn, "benchmark", before[1])
    as_before = kernels()
    with chosen(torch.device("cuda"), deterministic=wanted):
        assert kernels() == ((wanted, not wanted), (wanted, True, False))
        assert (os.environ.get(CUBLAS) == FIXED_BUFFERS) is wanted
    assert kernels() == as_before
    assert CUBLAS not in os.environ


def test_a_cpu_keeps_the_kernels_that_it_has(monkeypatch):
    monkeypatch.delenv(CUBLAS, raising=False)
    as_before = kernels()
    with device(gpu=False):
        assert kernels()[1] == as_before[1]
        assert CUBLAS not in os.environ
    assert kernels() == as_before


@pytest.mark.parametrize("say", [lambda: None, legacy, medium, of_backends])
@pytest.mark.usefixtures("as_before")
def test_full_float32_and_threads_are_only_lent(say):
    say()
    before, threads = precision(), torch.get_num_threads()
    with device(gpu=False, threads=threads + 1) as place:
        assert place == CPU
        assert torch.get_num_threads() == threads + 1
        assert precision() == ["highest", False, *["ieee"] * 6]
    assert precision() == before
    assert torch.get_num_threads() == threads


def test_an_error_gives_them_back_too():
    before, threads = precision(), torch.get_num_threads()
    with pytest.raises(KeyError), device(gpu=False, threads=threads + 1):
        raise KeyError
    assert (precision(), torch.get_num_threads()) == (before, threads)


def test_a_cpu_computes_image_by_image_and_another_device_at_once():
    seen = []

    def compute(x, i):
        seen.append(len(x))
        return x + i[:, None]

    x, i = np.ones((3, 2), np.float32), np.arange(3)
    expected = torch.tensor([[1.0, 1], [2, 2], [3, 3]])
    assert torch.equal(in_batches(compute, CPU, x, i), expected)
    assert seen == [1, 1, 1]
    assert in_batches(compute, torch.device("meta"), x, i).shape == (3, 2)
    assert seen[3:] == [3]


@pytest.mark.parametrize("count", [-1, 0, 10**9])
def test_a_number_of_threads_that_cannot_be_is_refused(count):
    before = torch.get_num_threads()
    message = f"threads is {count}, but must lie between 1 and 1024"
    with pytest.raises(UserError, match=message), device(gpu=False, threads=count):
        pytest.fail("it computes")
    assert torch.get_num_threads() == before


MAPPED = """
import ctypes, sys, torch
from puriflow.compute import own_process
own_process() if sys.argv[1:] else None
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = type("mallinfo2", (ctypes.Structure,), {"_fields_": [
    (name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd a b c d e".split()]})
before = mallinfo().hblkhd
tensor = torch.ones(2**24)
print(mallinfo().hblkhd - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="a setting of glibc's")
def test_a_large_tensor_gets_memory_that_its_process_keeps():
    """Not pages of its own, which go back to the system, and are cleared for the next one."""

    def mapped(*arguments):
        command = [sys.executable, "-c", MAPPED, *arguments]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert mapped("own") == 0
    assert mapped() > 2**26


@pytest.mark.parametrize(
    ("shape", "groups"),
    [
        ((1, 3, 32, 32), [16, 4]),
        ((4, 3, 32, 32), [4] * 5),
        ((4, 3, 224, 224), [1] * 20),
    ],
)
def test_draws_of_small_images_are_computed_at_once(shape, groups):
    found = list(folded(torch.empty(shape), range(20)))
    assert [len(draws) for draws in found] == groups
    assert [draw for draws in found for draw in draws] == list(range(20))


def test_a_network_that_loads_its_weights_draws_none(tmp_path, tiny_adm):
    file = tmp_path / "adm.safetensors"
    save_weights(part_of("network", "adm", tiny_adm).build().network, file)
    before = torch.get_rng_state()
    made = part_of("network", "adm", {**tiny_adm, "weights": str(file)}).build()
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in load_file(file).items():
        assert torch.equal(made.network.state_dict()[name], value)
