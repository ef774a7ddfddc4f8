"""Which of its kernels torch takes: those of full float32, the same ones each time, or compiled.

On a CPU they are the same each time anyway. On a GPU cuDNN tries several and takes the fastest, and
some gradients, as that of an enlarged image, are sums in whatever order their terms come. A track
may want that (`compute.deterministic: false`); its stores then say so. A track may also have the
diffusion networks compiled there (`compute.compile`), whose numbers are equal to rounding.
"""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from puriflow.options import Precision

Setting = TypeVar("Setting")
# What cuBLAS needs to sum in one order, read when a process first asks it.
CUBLAS, FIXED_BUFFERS = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


on_gpu = False  # whether what is built now is for a GPU
compiling = False  # whether diffusion networks that are built now are to be compiled


@contextmanager
def chosen(
    device: torch.device, deterministic: bool = True, compiled: bool = False
) -> Generator[None]:
    """Full float32 on any device; on a GPU, the same kernels each time, or the fastest.

    Where torch has no deterministic one, it warns, and takes another. A CPU compiles nothing: it
    would gain a twentieth, and give other bits.
    """
    global on_gpu
    before, on_gpu = on_gpu, device.type == "cuda"
    try:
        with _full_float32(), _deterministic(deterministic), to_compile(compiled and on_gpu):
            yield
    finally:
        on_gpu = before


@contextmanager
def to_compile(wanted: bool) -> Generator[None]:
    """Diffusion networks that are built within it are to be compiled, or not."""
    global compiling
    before, compiling = compiling, wanted
    try:
        yield
    finally:
        compiling = before


def layout(precision: Precision = "float32") -> torch.memory_format:
    """In which order a network of that precision has the numbers of an image, and of its weights.

    A CPU's convolutions, and the tensor cores of a GPU, take the channels of a pixel together; a
    GPU's convolutions in full float32, which are without tensor cores, the pixels of a channel.
    """
    by_channel = on_gpu and precision == "float32"
    return torch.contiguous_format if by_channel else torch.channels_last


@contextmanager
def _deterministic(wanted: bool) -> Generator[None]:
    """The kernels of cuDNN, and on a GPU those of torch itself and of cuBLAS, are set or free.

    A CPU's other kernels would be slower, and give other bits than before.
    """
    everywhere = on_gpu
    cudnn: Any = torch.backends.cudnn
    memory: Any = torch.utils.deterministic
    before, buffers = (cudnn.deterministic, cudnn.benchmark), os.environ.get(CUBLAS)
    all_before = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = memory.fill_uninitialized_memory
    cudnn.deterministic, cudnn.benchmark = wanted, not wanted
    if everywhere:
        torch.use_deterministic_algorithms(wanted, warn_only=True)
        memory.fill_uninitialized_memory = False  # nobody reads it
        if wanted:
            os.environ[CUBLAS] = buffers or FIXED_BUFFERS
    try:
        yield
    finally:
        if everywhere:
            torch.use_deterministic_algorithms(all_before, warn_only=only_warned)
            memory.fill_uninitialized_memory = filled
            if wanted and buffers is None:
                os.environ.pop(CUBLAS, None)
        cudnn.deterministic, cudnn.benchmark = before


@contextmanager
def _full_float32() -> Generator[None]:
    """No TF32 and no bfloat16 in place of float32: a GPU's numbers are comparable with a CPU's.

    torch says it twice, of all matrix products and convolutions and then of each backend's own, and
    where the two disagree the first cannot be read, and is not restored.
    """
    made: Any = torch.backends  # when torch runs, for the most part: a type checker does not see it
    cuda, cudnn, mkldnn = made.cuda, made.cudnn, made.mkldnn
    backends = (cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn)
    before = [backend.fp32_precision for backend in backends]
    products = _read(torch.get_float32_matmul_precision)
    convolutions = _read(lambda: cudnn.allow_tf32)
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32 = False
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        if products is not None:
            torch.set_float32_matmul_precision(products)
        if convolutions is not None:
            cudnn.allow_tf32 = convolutions
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def _read(setting: Callable[[], Setting]) -> Setting | None:
    try:
        return setting()
    except RuntimeError:
        return None
