"""Is this machine fit for a track: its device, what fits, and whether its numbers are right.

Asked before a day of a GPU is spent: a network's numbers on the device against those of a CPU, each
precision against float32, a step that is computed again against the one that was kept, and the
time of an evaluation. The states are made up, since a diffusion network sees little but noise.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor

from puriflow.compute import counted
from puriflow.diffusion import recomputation
from puriflow.diffusion.denoisers import Denoiser
from puriflow.kernels import to_compile
from puriflow.lease import visible_gpus
from puriflow.metrics.cost import cost_of
from puriflow.options import Precision
from puriflow.planning import GIB, needs
from puriflow.registry import Part, Parts

BEHIND_RESULTS = False
TIME = 0.09  # t of the states, t' / 1000
COUNT, ON_CPU = 16, 2  # states, by a GPU and by a CPU
REPEATS = 5
# Of a network's output, the relative error by which a device may differ from a CPU: the sums of
# float32 in another order. TF32 in its place has 1e-3.
FLOAT32 = 1e-4
# The least cosine of a gradient to that of float32.
COSINE: dict[Precision, float] = {"tf32": 0.999, "float16": 0.998, "bfloat16": 0.95}


@dataclass(frozen=True)
class Finding:
    """What was found of one thing; `wrong` if it is not as it should be."""

    what: str
    said: str
    wrong: bool = False


def examine(
    purifier: Part, parts: Parts, side: int, device: torch.device, *, wanted: bool = True
) -> Iterator[Finding]:
    """Look at a device, one thing after the other.

    Args:
        purifier: whose network computes.
        parts: of the defence that an attack would differentiate.
        side: of its images.
        device: to compute on.
        wanted: whether that should be a GPU, if one may be used.
    """
    with to_compile(False):  # but for what is compared with it
        yield from _examined(purifier, parts, side, device, wanted)


def _examined(
    purifier: Part, parts: Parts, side: int, device: torch.device, wanted: bool
) -> Iterator[Finding]:
    yield _device(device, wanted)
    yield _memory(parts, side, device)
    assert purifier.network is not None
    network = _Network(purifier.network, side, device)
    if device.type == "cuda":
        yield network.against_cpu()
    for precision in COSINE:
        if precision != "tf32" or device.type == "cuda":  # a CPU has none
            yield network.in_precision(precision)
    if device.type == "cuda":
        yield network.compiled()
    yield network.recomputed()
    yield network.timed()


def _device(device: torch.device, wanted: bool) -> Finding:
    built = f"torch {torch.__version__}"
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        cuda = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        return Finding(
            "device", f"{found.name}, {found.total_memory / GIB:.1f} GiB, {built}, {cuda}"
        )
    if wanted and visible_gpus():
        why = "is a build without CUDA" if torch.version.cuda is None else "does not see it"
        return Finding("device", f"an NVIDIA device may be used, but {built} {why}", wrong=True)
    return Finding("device", f"the CPU, {built}: no NVIDIA device is used")


def _memory(parts: Parts, side: int, device: torch.device) -> Finding:
    found = needs(parts, (side, side), gradient=True)
    chain = ".".join(part.name for part in parts.values())
    if found is None:
        return Finding("memory", f"a gradient through {chain} could not be counted")
    said = f"a gradient through {chain} takes {found.image / GIB:.2f} GiB an image"
    if device.type == "cpu":
        return Finding("memory", said)
    free = torch.cuda.mem_get_info(device)[0]
    fits = found.fits(free)
    return Finding("memory", f"{said}; {fits} fit into {free / GIB:.1f} GiB free", wrong=not fits)


class _Network:
    """A diffusion network on a device, and states that it is asked about."""

    def __init__(self, part: Part, side: int, device: torch.device):
        self.part, self.side, self.device = part, side, device
        generator = torch.Generator().manual_seed(0)
        self.count = ON_CPU if device.type == "cpu" else COUNT
        self.x = torch.randn(self.count, 3, side, side, generator=generator)
        self.weights = torch.randn(self.x.shape, generator=generator)
        self.own = self.built("float32")
        self.exact = self.answers(self.own)

    def built(self, precision: Precision) -> Denoiser:
        """The network in a precision; one without weights has the same random ones each time."""
        part = replace(self.part, options={**self.part.options, "precision": precision})
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return part.build().to(self.device)

    def answers(self, network: Denoiser) -> tuple[Tensor, Tensor]:
        """Its eps of all states, and the gradient of their product with the weights, on the CPU."""
        pairs = [self.asked(network, i) for i in range(self.count)]
        eps, gradients = zip(*pairs, strict=True)
        return torch.cat(eps), torch.cat(gradients)

    def asked(self, network: Denoiser, i: int) -> tuple[Tensor, Tensor]:
        """The same of one state."""
        x = self.x[i : i + 1].to(self.device).requires_grad_()
        eps = network.eps(x, torch.tensor(TIME))
        (gradient,) = torch.autograd.grad((eps * self.weights[i : i + 1].to(x)).sum(), x)
        return eps.detach().cpu(), gradient.cpu()

    def against_cpu(self) -> Finding:
        """float32 here against float32 on the CPU."""
        on_cpu = self.built("float32").cpu()
        expected = torch.cat([on_cpu.eps(x[None], torch.tensor(TIME)) for x in self.x[:ON_CPU]])
        error = relative(self.exact[0][:ON_CPU], expected.detach())
        said = f"eps differs from the CPU's by {error:.1e} of its size (at most {FLOAT32:.0e})"
        return Finding("float32", said, wrong=not error <= FLOAT32)

    def in_precision(self, precision: Precision) -> Finding:
        """Another precision against float32."""
        return self.against_own(precision, self.built(precision), COSINE[precision])

    def compiled(self) -> Finding:
        """The compiled network against itself."""
        try:
            with to_compile(True):
                return self.against_own("compiled", self.built("float32"), COSINE["tf32"])
        except (RuntimeError, OSError, ImportError) as error:  # there is no compiler
            why = str(error).strip().splitlines()[0]
            return Finding("compiled", f"torch.compile does not work here ({why})")

    def against_own(self, name: str, network: Denoiser, wanted: float) -> Finding:
        """Another form of the network against the one in float32."""
        eps, gradient = self.answers(network)
        error = relative(eps, self.exact[0])
        cosines = torch.cosine_similarity(gradient.flatten(1), self.exact[1].flatten(1))
        signs = float((gradient.sign() == self.exact[1].sign()).float().mean())
        least = float(cosines.min())
        faster = self.seconds(self.own) / self.seconds(network)
        return Finding(
            name,
            f"eps differs from float32's by {error:.1e} of its size, the gradient's cosine is "
            f"{least:.4f} at least (of {wanted}), {signs:.1%} of signs agree; {faster:.1f} times "
            "as fast",
            wrong=not least >= wanted,
        )

    def recomputed(self) -> Finding:
        """A step that is computed again for its gradient, against the first time."""
        step = _Step(self.own)
        with recomputation.watched() as watch:
            x = self.x[:1].to(self.device).requires_grad_()
            torch.autograd.grad(step.eps(x).sum(), x)
        said = watch.said().get("recomputation", "no step was computed again")
        return Finding("recomputation", said, wrong=watch.others > 0 or watch.steps == 0)

    def timed(self) -> Finding:
        """An evaluation of one state against the arithmetic of its multiplications."""
        seconds = self.seconds(self.own)
        network = replace(self.part, weights=None)
        with counted():
            denoiser = network.build()
        macs = cost_of(denoiser.network, self.side, TIME).macs
        rate = 2 * macs / seconds / 1e12
        work = f"{2 * macs / 1e12:.3g} TFLOP: {rate:.3g} TFLOP/s"
        return Finding("time", f"{1000 * seconds:.1f} ms an evaluation, {work}")

    @torch.no_grad()
    def seconds(self, network: Denoiser) -> float:
        """Of an evaluation, the median of some after a first one."""
        x, t, taken = self.x[:1].to(self.device), torch.tensor(TIME), []
        for _ in range(REPEATS + 1):
            begun = time.perf_counter()
            network.eps(x, t).sum().item()  # which waits for a GPU
            taken.append(time.perf_counter() - begun)
        return median(taken[1:])


class _Step(torch.nn.Module):
    """An evaluation as a solver's step: the first of its kind is always computed again."""

    def __init__(self, network: Denoiser):
        super().__init__()
        self.network = network

    @recomputation.recomputed
    def eps(self, x: Tensor) -> Tensor:
        """The network's eps."""
        return self.network.eps(x, torch.tensor(TIME))


def relative(found: Tensor, expected: Tensor) -> float:
    """The norm of a difference over that of what is expected."""
    return float((found - expected).norm() / expected.norm())
