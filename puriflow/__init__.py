"""PuriFlow: adversarial purification by super-resolution and diffusion.

`benchmark` judges a defence of anybody's, and `audit` says whether to believe an attack on one.
`Defence` is a restorer, a purifier and a classifier as one differentiable module; `purify` restores
and purifies images of any size. All are imported when first used, so that `import puriflow` stays
free of torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from puriflow.messages import speak

if TYPE_CHECKING:
    from puriflow.auditing.audit import audit
    from puriflow.benchmarking.benchmark import benchmark
    from puriflow.defence import Defence
    from puriflow.image_files.purify import purify

BEHIND_RESULTS = False
__version__ = version("puriflow")
__all__ = ["Defence", "__version__", "audit", "benchmark", "purify"]
MODULES = {
    "Defence": "puriflow.defence",
    "audit": "puriflow.auditing.audit",
    "benchmark": "puriflow.benchmarking.benchmark",
    "purify": "puriflow.image_files.purify",
}

speak()


def __getattr__(name: str) -> object:
    if name in MODULES:
        return getattr(import_module(MODULES[name]), name)
    raise AttributeError(f"module 'puriflow' has no attribute {name!r}")
