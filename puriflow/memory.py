"""Memory that runs out: how an error says so, and what can be given back."""

import gc
import sys

BEHIND_RESULTS = False
# Of torch, and of cuBLAS and cuDNN where a GPU is nearly full.
SAID = ("out of memory", "allocate memory", "ALLOC_FAILED", "unable to find an engine")


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out, of a GPU or of the machine."""
    said = any(words in str(error) for words in SAID)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and said)


def free_memory() -> None:
    """Give back what torch holds of a GPU and does not use, if it is there at all."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
