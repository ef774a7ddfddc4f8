"""Where and how torch computes: the device, threads, types, and how many images at once."""

import ctypes
import gc
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from puriflow.errors import UserError
from puriflow.memory import out_of_memory

if TYPE_CHECKING:
    import torch

CPU_BATCH, GPU_BATCH = 4, 32  # images, where nothing else says how many
FOLDED = 16 * 32 * 32  # pixels of a batch up to which draws of the same images are computed at once
# Of the CPU for every stage and result, as a long sum is cut into as many pieces as there are
# threads, and rounds otherwise. Jobs side by side, and shards, use more cores.
THREADS = 1
MOST_THREADS = 1024
MOST_PARAMETERS = 2_000_000_000  # of a part: 8 GB; the largest published network has 0.6
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT = 2**30  # bytes
counting = False  # see `counted`
Built = TypeVar("Built")


@contextmanager
def device(
    gpu: bool,
    threads: int | None = THREADS,
    *,
    deterministic: bool = True,
    compiled: bool = False,
) -> Generator["torch.device"]:
    """The first visible GPU, if there is one and `gpu` is set, or the CPU, in full float32.

    `threads` of the CPU: None leaves their number to torch. `deterministic` and `compiled`: see
    `puriflow.kernels`. What a caller told torch (a default type or device, autocast) does not count
    meanwhile; the process is as before when this ends.

    Raises:
        UserError: no such number of threads.
    """
    import torch

    from puriflow.kernels import chosen  # with torch

    place = torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")
    lent = nullcontext() if threads is None else on_threads(threads)
    with chosen(place, deterministic, compiled), _float32_by_default(), lent:
        yield place


def own_process() -> None:
    """Let a process that does nothing but compute start and allocate faster.

    It keeps what is freed: glibc gives each large tensor back to the system, which clears its pages
    for the next one, a tenth of the time of a network. Other C libraries have no such setting. And
    torch is imported without looking for circles among objects that stay.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_THRESHOLD, KEPT)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT)
    looking = gc.isenabled()
    gc.disable()
    try:
        import torch  # noqa: F401
    finally:
        if looking:
            gc.enable()


@contextmanager
def on_threads(count: int) -> Generator[None]:
    """The CPU computes on so many threads, and as before when this ends.

    Raises:
        UserError: no such number of threads.
    """
    if not 1 <= count <= MOST_THREADS:
        raise UserError(f"threads is {count}, but must lie between 1 and {MOST_THREADS}")
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def counted() -> Generator[None]:
    """Parts are built on the meta device, without memory or numbers, to be counted there."""
    global counting
    import torch

    from puriflow.kernels import to_compile  # with torch

    before, counting = counting, True
    try:
        with torch.device("meta"), to_compile(False):
            yield
    finally:
        counting = before


@contextmanager
def _float32_by_default() -> Generator[None]:
    """New tensors are of float32 and on the CPU, and nothing is cast behind the code's back."""
    import torch

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            if counting or torch.get_default_device().type == "cpu":
                yield
            else:
                with torch.device("cpu"):
                    yield
    finally:
        torch.set_default_dtype(default)


def frozen(part: Built) -> Built:
    """A part in evaluation mode, without gradients of parameters, whoever wrote it.

    Its convolutions then keep no inputs. In training mode BatchNorm and Dropout would give other
    numbers for other batches, and each time.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(part, torch.nn.Module):
        from puriflow.convolution import keep_no_inputs

        keep_no_inputs(part.eval().requires_grad_(False))
    return part


def _undrawn() -> AbstractContextManager[object]:
    """Initialisations leave tensors as they are."""
    from torch import Tensor, nn
    from torch.overrides import TorchFunctionMode

    names = ("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_")
    names += ("xavier_uniform_", "xavier_normal_")
    drawing = {getattr(own, n) for own in (Tensor, nn.init) for n in names if hasattr(own, n)}

    class Undrawn(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            drawn = args[0] if args else (kwargs or {}).get("tensor")
            if func in drawing and isinstance(drawn, nn.Parameter):  # which are all in the file
                return drawn
            return func(*args, **(kwargs or {}))

    return Undrawn()


@contextmanager
def building(*, loads: bool = False) -> Generator[None]:
    """While a part is built: in float32, whatever torch's default is, and not beyond the memory.

    Of a part that `loads` its weights none are drawn, which takes three seconds of an official ADM.

    Raises:
        ValueError: it has more than MOST_PARAMETERS parameters, or they find no room.
    """
    if "torch" not in sys.modules:  # a data set has no networks
        yield
        return
    from torch.nn.modules.module import register_module_parameter_registration_hook

    total = 0

    def count(module: Any, name: str, parameter: Any) -> None:
        nonlocal total
        total += 0 if parameter is None else parameter.numel()
        if total > MOST_PARAMETERS:
            raise ValueError(f"the network has more than {MOST_PARAMETERS} parameters")

    hook = register_module_parameter_registration_hook(count)
    try:
        with _float32_by_default(), _undrawn() if loads else nullcontext():
            yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise ValueError("the network does not fit into the memory") from None
        raise
    finally:
        hook.remove()


def folded(images: "torch.Tensor | np.ndarray", draws: Sequence[int]) -> Generator[Sequence[int]]:
    """Draws of the same images (N, C, H, W) in groups, each of which is computed at once.

    They fill a batch of FOLDED pixels, where a network is faster than on one small image; a group
    has one draw at least. That depends on the images' shape and the number of draws alone.
    """
    n, _, height, width = images.shape
    size = max(1, FOLDED // (n * height * width))
    yield from (draws[start : start + size] for start in range(0, len(draws), size))


def in_batches(
    compute: Callable[..., "torch.Tensor"], device: "torch.device", *arrays: np.ndarray
) -> "torch.Tensor":
    """Run `compute` on a batch: at once on a GPU, image by image on a CPU.

    A CPU computes single images as fast, and only so are its results the same to the last bit for
    every batch size: its kernels sum in another order for another number of images.

    Args:
        compute: of tensors on the device, one for each array, a tensor.
        device: to compute on.
        arrays: (n, ...) each.
    """
    import torch

    size = 1 if device.type == "cpu" else len(arrays[0])
    parts = []
    for i in range(0, len(arrays[0]), size):
        tensors = (torch.from_numpy(a[i : i + size]).to(device) for a in arrays)
        parts.append(compute(*tensors))
    return torch.cat(parts)
