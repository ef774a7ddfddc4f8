"""PuriFlow: adversarial purification by super-resolution and diffusion.

`Defence` is a restorer, a purifier and a classifier as one differentiable module. It is imported
when first used, so that `import puriflow` stays free of torch.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from puriflow.defence import Defence

__version__ = version("puriflow")
__all__ = ["Defence", "__version__"]


def __getattr__(name: str):
    if name == "Defence":
        from puriflow.defence import Defence

        return Defence
    raise AttributeError(f"module 'puriflow' has no attribute {name!r}")
