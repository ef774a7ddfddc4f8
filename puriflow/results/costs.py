"""What the rows of a table cost: MACs and parameters of restorers, evaluations of purifiers."""

from dataclasses import replace

from puriflow.config import NONE, Config

COSTS = ("macs_g", "params_m")  # in billions and in millions


def cost_of_restorer(track: Config, name: str, side: int) -> dict[str, float]:
    """MACs and parameters of a restorer for one square image; nothing without a network.

    Args:
        track: what serves it.
        name: its role.
        side: of the image, in pixels.
    """
    part = None if name == NONE else track.part("restorer", name)
    if part is None or part.weights is None:
        return {}
    import torch

    from puriflow.metrics.cost import cost_of

    with torch.device("meta"):
        restorer = replace(part, weights=None).build()
    cost = cost_of(restorer, side)
    return {"macs_g": round(cost.macs / 1e9, 2), "params_m": round(cost.parameters / 1e6, 3)}


def cost_of_purifier(track: Config, name: str, side: int) -> dict[str, int]:
    """How often a purifier asks its network about an image (3, side, side); never without one."""
    part = None if name == NONE else track.part("purifier", name)
    if part is None or not (part.network or part.weights):
        return {"evaluations": 0}
    import torch

    from puriflow.compute import counted
    from puriflow.diffusion.denoisers import Denoiser
    from puriflow.randomness import PURIFY, ImageNoise

    inner = {option: replace(one, weights=None) for option, one in part.inner.items()}
    with counted():
        purifier = replace(part, weights=None, inner=inner).build().to("meta")  # with buffers
    asked = 0

    def count(*_: object) -> None:
        nonlocal asked
        asked += 1

    asking = [module for module in purifier.modules() if isinstance(module, Denoiser)]
    for module in (*asking, *([purifier] if part.weights else [])):  # whose network is its own
        module.network.register_forward_pre_hook(count)
    with torch.no_grad():
        purifier(torch.empty(1, 3, side, side, device="meta"), ImageNoise(0, PURIFY, [0]))
    return {"evaluations": asked}
