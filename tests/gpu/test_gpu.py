"""What only a GPU can tell: it computes what a CPU does, the same each time, and in its memory.

`make test-gpu` runs these alone; where no GPU is, they are skipped, and say so.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_parts import tiny

from puriflow import compute, purify
from puriflow.config import load_config
from puriflow.config.track import Compute
from puriflow.diffusion.recomputation import watched
from puriflow.kernels import to_compile
from puriflow.purifiers.vpsde import VPSDE
from puriflow.randomness import ImageNoise
from puriflow.stages.attack import write_attack
from puriflow.stages.images import write_images
from puriflow.stages.purify import write_purified
from puriflow.store import open_stage

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch sees"),
]
CPU = torch.device("cpu")
NETWORKS = {"adm": 64, "edm": 32}  # of the mini track, with the side of images
COSINE = {"float32": 0.99999, "tf32": 0.999, "float16": 0.998, "bfloat16": 0.95}


@pytest.fixture(autouse=True)
def gpu():
    with compute.device(gpu=True) as device:
        yield device


@pytest.fixture(scope="module")
def track(repository):
    return load_config(repository / "config" / "config.yaml")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Four images of CIFAR-10."""
    folder = tmp_path_factory.mktemp("stores")
    return write_images(folder / "images", tiny("datasets", "foolbox"), subset=4)


def states(side):
    return torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(0))


def gradient(network, images):
    """Of three steps of the VP-SDE, on the device of the images, and what they make of them."""
    x = images.clone().requires_grad_()
    purified = VPSDE(network, t=60, solver="sde-dpmpp", evaluations=3).to(x.device)(
        x, ImageNoise(0, "test", range(len(x)))
    )
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).to(x)
    (found,) = torch.autograd.grad((purified * weights).sum(), x)
    return purified.detach().cpu(), found.cpu()


def cosine(a, b):
    return float(torch.cosine_similarity(a.flatten(1), b.flatten(1)).min())


def on_cpu(track, name):
    with compute.device(gpu=False):
        return gradient(track.part("network", name).build(), states(NETWORKS[name]))


@pytest.mark.parametrize("precision", COSINE)
@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_what_a_cpu_does(track, gpu, name, precision):
    purified, expected = on_cpu(track, name)
    own = track.model_copy(update={"compute": Compute(precision=precision)})
    found = gradient(own.part("network", name).build().to(gpu), states(NETWORKS[name]).to(gpu))
    assert cosine(found[1], expected) > COSINE[precision]
    if precision == "float32":
        assert (found[0] - purified).abs().max() < 1e-3


@pytest.mark.parametrize("precision", COSINE)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_that_is_computed_again_is_the_same(track, gpu, name, precision, monkeypatch):
    monkeypatch.setattr("puriflow.diffusion.recomputation.KEPT", 0)
    own = track.model_copy(update={"compute": Compute(precision=precision)})
    network, x = own.part("network", name).build().to(gpu), states(NETWORKS[name]).to(gpu)
    with watched() as watch:
        first = gradient(network, x)[1]
    assert (watch.steps, watch.others) == (3, 0)
    assert torch.equal(first, gradient(network, x)[1])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_compiled_network_is_the_same_network(track, gpu, name, monkeypatch):
    purified, expected = on_cpu(track, name)
    with to_compile(True):
        network = track.part("network", name).build().to(gpu)
    found = gradient(network, states(NETWORKS[name]).to(gpu))
    assert cosine(found[1], expected) > COSINE["tf32"]
    assert (found[0] - purified).abs().max() < 1e-3
    # computed again with a gradient, it is compiled otherwise than at first
    monkeypatch.setattr("puriflow.diffusion.recomputation.KEPT", 0)
    assert cosine(gradient(network, states(NETWORKS[name]).to(gpu))[1], expected) > COSINE["tf32"]


def test_noise_is_that_of_a_cpu(gpu):
    here, there = (ImageNoise(3, "test", [5, 0, 7]) for _ in range(2))
    for side in (8, 8, 8, 16, 8):
        x = torch.zeros(3, 3, side, side)
        assert torch.equal(there.normal_like(x.to(gpu)).cpu(), here.normal_like(x))


def test_no_step_waits_for_it(track, gpu):
    network, x = track.part("network", "edm").build().to(gpu), states(32).to(gpu)
    purifier = VPSDE(network, t=30).to(gpu)
    purifier(x, ImageNoise(0, "test", range(4)))
    torch.cuda.set_sync_debug_mode("error")
    try:
        purifier(x, ImageNoise(0, "test", range(4)))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def victim(track):
    return track.parts({"restorer": "mdsr-x2", "purifier": "vpsde-t100", "classifier": "wrn-28-10"})


def test_an_attack_comes_out_alike_twice(track, gpu, images, tmp_path: Path):
    attack = tiny("attacks", "pgd", n_iter=3)
    made = [
        write_attack(images, tmp_path / f"{i}", attack, victim(track), seed=0, device=gpu)
        for i in range(2)
    ]
    x, y = (one.read("images") for one in made)
    assert np.array_equal(x, y)
    assert np.abs(x - images.read("images")).max() <= 8 / 255 + 1e-6
    machine = open_stage(tmp_path / "0").manifest["machine"]
    assert machine["device"] == torch.cuda.get_device_name(gpu)
    assert machine["recomputation"] == "equal to the last bit"


def test_a_batch_that_finds_no_room_is_halved(track, gpu, images, tmp_path, capsys):
    part = track.part("purifier", "vpsde-t100")
    whole = write_purified(images, tmp_path / "whole", part, seed=0, device=gpu, batch=4)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(gpu)
    write_purified(images, tmp_path / "one", part, seed=0, device=gpu, batch=1)
    one, total = torch.cuda.max_memory_reserved(gpu), torch.cuda.mem_get_info(gpu)[1]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.3 * one / total, gpu)
    try:
        halved = write_purified(images, tmp_path / "halved", part, seed=0, device=gpu, batch=4)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, gpu)
    assert "no room for 4 images at once" in capsys.readouterr().err
    assert np.abs(halved.read("images") - whole.read("images")).max() < 1e-3


def test_own_images_are_the_same_in_batches_of_any_size(track, gpu, capsys):
    images = np.random.default_rng(0).random((3, 3, 40, 300), dtype=np.float32)  # two tiles each
    chain = {"restorer": "mdsr-x2", "purifier": "vpsde-t100", "config": track}
    alone = purify(images, **chain, batch=1)
    for batch in (2, 4, None):
        assert np.abs(purify(images, **chain, batch=batch) - alone).max() < 1e-3
    assert "at once" in capsys.readouterr().err  # how many it found room for
