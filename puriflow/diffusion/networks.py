"""From a network to the score: what an SDE solver calls.

A network is trained on its own labels of the noise level. `Score` gives it the label that it
expects at time t of the VP-SDE, and turns the predicted noise into the score.
"""

from torch import Tensor, nn

from puriflow.diffusion.vp import alpha_bar


class Score(nn.Module):
    """The score of the VP-SDE from a network that predicts the noise.

    Args:
        network: (images on [-1, 1], timesteps (N,)) to the noise, maybe with variance channels
            behind it, which are dropped.
        integer_steps: feed trunc(1000 t), as DiffPure does with ADM, whose training saw integers
            only; else 1000 t itself.
    """

    def __init__(self, network: nn.Module, *, integer_steps: bool):
        super().__init__()
        self.network = network
        self.integer_steps = integer_steps

    def label(self, t: Tensor) -> Tensor:
        """What the network is told at time t (a float32 scalar): its timestep.

        Truncation in float32 is part of the published behaviour: t' = 10 gives 9, 9, 8, ..., 1.
        """
        label = t.float() * 1000
        return label.long() if self.integer_steps else label

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The score at x (N, 3, H, W) on [-1, 1] and scalar t: -noise / sqrt(1 - alpha_bar(t))."""
        noise = self.network(x, self.label(t).expand(len(x)))[:, : x.shape[1]]
        return -noise / (1 - alpha_bar(t)).sqrt()
