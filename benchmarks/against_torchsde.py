"""The VP-SDE of purification against torchsde, with which DiffPure solves it.

    python benchmarks/against_torchsde.py

DiffPure (Nie et al. 2022) gives the reverse SDE to torchsde's `sdeint_adjoint`: Euler-Maruyama of
a step of 1/1000, frozen parameters, and a gradient that solves the adjoint SDE backwards (by
Milstein, torchsde's own choice for this kind of SDE). Here both ask the same network the same
number of times, on one image of CIFAR-10 at t' = 30 and 90. Ours is solved by `VPSDE`; its
gradient is exact.

Memory is the most that a process of its own has resident while it takes gradients, with Python,
torch and weights, and `beyond start` without what it had before the first. The steps of small
networks keep their activations up to a fixed memory, which saves time; in rows that say
`recomputed` none does, as the steps of large networks. The ADM's image is one of 224x224.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from ratios import Row, answer_of, in_turns, one_thread, peak, report
from torch import Tensor, nn

from puriflow.compute import own_process
from puriflow.config import Config, load_config
from puriflow.diffusion import recomputation
from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.vp import STEPS, T_END, beta, diffuse
from puriflow.purifiers.vpsde import VPSDE
from puriflow.randomness import ImageNoise

LEVELS = (30, 90)
ROUNDS, FORWARD = 3, 7  # a purification is cheap
Purify = Callable[[Tensor], Tensor]  # an image on [0, 1] to its purified one


class ReverseSDE(nn.Module):
    """The reverse VP-SDE (Eq. 6) as torchsde wants it: in s = 1 - t, of flattened images."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, denoiser: Denoiser, shape: torch.Size):
        super().__init__()
        self.denoiser, self.shape = denoiser, shape

    def f(self, s: Tensor, y: Tensor) -> Tensor:
        """The drift, beta/2 x + beta score."""
        x, t = y.reshape(self.shape), 1 - s
        return (0.5 * beta(t) * x + beta(t) * self.denoiser.score(x, t)).reshape(y.shape)

    def g(self, s: Tensor, y: Tensor) -> Tensor:
        """The diffusion, sqrt(beta)."""
        return beta(1 - s).sqrt().expand(y.shape)


def by_torchsde(denoiser: Denoiser, level: int) -> Purify:
    """Purification as DiffPure does it."""
    import torchsde

    def purify(images: Tensor) -> Tensor:
        x0 = images * 2 - 1
        x = diffuse(x0, level, torch.randn_like(x0))
        span = torch.tensor([1 - level / STEPS, 1 - T_END])
        sde, start = ReverseSDE(denoiser, x.shape), x.reshape(len(x), -1)
        solved = torchsde.sdeint_adjoint(sde, start, span, method="euler", dt=1 / STEPS)
        return (solved[-1].reshape(x.shape) + 1) / 2

    return purify


def by_us(denoiser: Denoiser, level: int) -> Purify:
    """Purification by the same solver of ours."""
    purifier = VPSDE(denoiser, t=level)
    return lambda images: purifier(images, ImageNoise(0, "benchmark", range(len(images))))


def recomputing(denoiser: Denoiser, level: int) -> Purify:
    """The same, no step of which keeps its activations for its gradient."""
    purify = by_us(denoiser, level)

    def purify_again(images: Tensor) -> Tensor:
        kept, recomputation.KEPT = recomputation.KEPT, -1
        try:
            return purify(images)
        finally:
            recomputation.KEPT = kept

    return purify_again


WAYS = {"ours": by_us, "recomputed": recomputing, "theirs": by_torchsde}


def gradient(purify: Purify, images: Tensor) -> Tensor:
    """Of the purified image's sum by the image."""
    x = images.clone().requires_grad_()
    return torch.autograd.grad(purify(x).sum(), x)[0]


def given(track: Config, network: str) -> tuple[Denoiser, Tensor]:
    """A network of the track, frozen, and the image that it is asked for."""
    data = track.part("dataset", "cifar10" if network == "edm" else "imagenet").build()
    return track.part("network", network).build(), torch.from_numpy(data.image(0))[None]


def memory(way: str, network: str, level: int) -> list[float]:
    """MiB resident at most in this process: of gradients, and that less what was before."""
    denoiser, images = given(load_config(), network)
    purify, before = WAYS[way](denoiser, level), peak()
    for _ in range(2 if way == "ours" else 1):  # the first one finds out how much a step keeps
        gradient(purify, images)
    return [peak(), peak() - before]


def memories(network: str, level: int, rounds: int = 1) -> list[Row]:
    """Rows of the memory of a gradient: medians over processes, which take turns."""
    turns = [{w: answer_of(__file__, w, network, level) for w in WAYS} for _ in range(rounds)]
    rows = []
    for i, kind in enumerate(("memory", "memory beyond start")):
        found = {way: median(turn[way][i] for turn in turns) for way in WAYS}
        what = f"{network}, t' = {level}: {kind}"
        rows.append(Row(what, found["ours"], found["theirs"], "MiB"))
        rows.append(Row(f"{what}, recomputed", found["recomputed"], found["theirs"], "MiB"))
    return rows


def times(network: str, level: int) -> list[Row]:
    """Rows of the CPU seconds of a purification and of a gradient."""
    denoiser, images = given(load_config(), network)
    ways = {name: way(denoiser, level) for name, way in WAYS.items()}
    with torch.no_grad():
        solved = {n: partial(ways[n], images) for n in ("ours", "theirs")}
        forward = in_turns(solved, FORWARD)
    through = in_turns({n: partial(gradient, way, images) for n, way in ways.items()}, ROUNDS)
    what = f"{network}, t' = {level}"
    return [
        Row(f"{what}: forward", forward["ours"], forward["theirs"]),
        Row(f"{what}: gradient", through["ours"], through["theirs"]),
        Row(f"{what}: gradient, recomputed", through["recomputed"], through["theirs"]),
    ]


def main() -> None:
    """Print and write the ratios."""
    rows = [row for level in LEVELS for row in times("edm", level)]
    rows += [row for level in LEVELS for row in memories("edm", level)]
    rows += memories("adm", 5, ROUNDS)
    report(__file__, rows, ["torchsde"])


if __name__ == "__main__":
    own_process()  # as every command of ours
    one_thread()
    if len(sys.argv) > 1:
        print(json.dumps(memory(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
    else:
        main()
