"""What the restorers of a table cost: multiply-accumulates and parameters."""

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
