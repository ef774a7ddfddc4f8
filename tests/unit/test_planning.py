"""What a job needs of memory, counted on the meta device."""

import numpy as np
import pytest
import torch
from tiny_parts import ADM, of_side, tiny
from tiny_stores import writer
from typer.testing import CliRunner

from puriflow.cli import app
from puriflow.config import load_config
from puriflow.diffusion import recomputation
from puriflow.diffusion.denoisers import VPDenoiser
from puriflow.evaluations import Evaluations
from puriflow.lineage import Place
from puriflow.metrics.memory import peak
from puriflow.planning import (
    GIB,
    SPARE,
    Needs,
    images_of,
    in_shards,
    needs,
    size_of,
    summed,
    together,
)
from puriflow.registry import kinds, part_of
from puriflow.stages.base import provenance

SIZE = (64, 64)
ATTACK = ["attack", "cifar10", "mdsr-x2.vpsde-t100.wrn-70-16"]
IMAGE = 3 * 64 * 64 * 4


def test_what_is_alive_at_once_is_counted_and_what_is_gone_is_not():
    def computed(x):
        y = x + 1
        for _ in range(5):
            y = y * 2  # the one before is given back
        return y

    assert peak(computed, SIZE, gradient=False) == 2 * IMAGE


def test_as_many_images_fit_as_there_is_room_for():
    found = Needs(parameters=2 * GIB, image=3 * GIB)
    assert found.fits(2 * GIB + SPARE + 6 * GIB) == 2
    assert found.fits(2 * GIB + SPARE + 6 * GIB - 1) == 1
    assert found.fits(GIB) == 0


def vpsde(**options):
    entry = {"kind": "vpsde", "network": ADM, "t": 90, **options}
    return {"purifier": part_of("purifier", "vpsde", entry)}


def test_a_gradient_takes_more_and_steps_take_nothing_more():
    forwards = needs(vpsde(evaluations=3), SIZE, gradient=False)
    gradient = needs(vpsde(evaluations=3), SIZE, gradient=True)
    assert forwards
    assert gradient
    assert gradient.image > 2 * forwards.image > 9 * IMAGE
    assert forwards.parameters == gradient.parameters > 10_000
    assert needs(vpsde(), SIZE, gradient=True) == gradient


def test_of_a_restorer_and_a_purifier_the_dearer_counts():
    restorer = {"restorer": tiny("restorers", "esrgan", num_feat=16)}
    alone = needs(restorer, SIZE, gradient=True)
    purifier = needs(vpsde(), SIZE, gradient=True)
    both = needs({**restorer, **vpsde()}, SIZE, gradient=True)
    assert alone
    assert purifier
    assert both
    assert both.image < max(alone.image, purifier.image) + 4 * IMAGE


@pytest.mark.parametrize("kind", kinds("purifiers"))
def test_no_step_of_a_purifier_waits_for_its_device(kind):
    """The meta device has no numbers that a host could wait for: `.item()` is an error there."""
    found = needs(
        {"purifier": tiny("purifiers", kind, **of_side(kind, 32))}, (32, 32), gradient=True
    )
    assert found is not None
    assert found.image > 3 * 32 * 32 * 4


def test_the_fewest_steps_of_a_guided_purifier_have_one_with_its_guide():
    def images(widen):
        guide = {"kind": "wide-resnet", "weights": None, "depth": 10, "widen_factor": widen}
        part = tiny("purifiers", "contrastive", classifier=guide)
        found = needs({"purifier": part}, (32, 32), gradient=True)
        assert found is not None
        return found.image

    assert images(widen=8) > 2 * images(widen=1)


def test_a_part_that_needs_its_weights_is_not_counted(monkeypatch):
    def refused(*_):
        raise ValueError("no weights")

    monkeypatch.setattr("puriflow.networks.adm.ADM.__init__", refused)
    assert needs(vpsde(), SIZE, gradient=False) is None


def planned(repository, monkeypatch, file, *options):
    monkeypatch.chdir(repository)
    return CliRunner().invoke(app, ["plan", file, *options])


def test_nothing_is_built_but_on_the_meta_device(monkeypatch):
    """A second network in the memory of the machine would be found by nobody."""
    from puriflow import planning

    made = []
    built = planning._without_weights
    monkeypatch.setattr(
        "puriflow.networks.adm.VPDenoiser",
        lambda network, **_: made.append(network) or VPDenoiser(network),
    )
    state = torch.get_rng_state()
    built(vpsde())
    assert {p.device.type for p in made[0].parameters()} == {"meta"}
    assert torch.equal(torch.get_rng_state(), state)


def test_a_data_set_without_a_size_is_not_counted():
    folder = part_of("dataset", "mine", {"kind": "folder", "root": "x", "crop": None})
    assert size_of(folder) is None
    cropped = part_of("dataset", "mine", {"kind": "folder", "root": "x", "crop": 96})
    assert size_of(cropped) == (96, 96)
    assert size_of(part_of("dataset", "own", {"kind": "cifar10-folder", "root": "x"})) == (32, 32)


def test_certificates_are_counted_with_their_denoiser(repository, monkeypatch):
    ended = planned(repository, monkeypatch, "config/certified/cifar10.yaml")
    assert any("edm" in line and "certify" in line for line in ended.stdout.splitlines())


def test_a_gpu_gets_as_many_as_fit_and_says_so(monkeypatch, capsys):
    found = needs(vpsde(), SIZE, gradient=True)
    assert found
    free = SPARE + recomputation.KEPT + int(3.5 * found.image)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80 * GIB))
    cuda = torch.device("cuda")
    assert together(cuda, vpsde(), SIZE, gradient=True) == 3
    assert "GiB an image, 2.0 GiB free: 3 at once" in capsys.readouterr().err
    assert together(torch.device("cpu"), vpsde(), SIZE, gradient=True) == 4


def test_the_jobs_of_a_table_are_planned_once_each(repository, monkeypatch):
    ended = planned(repository, monkeypatch, "config/tables/table4.yaml", "--memory", "24")
    assert ended.exit_code == 0
    table, _, totals = ended.stdout.partition("\n\n")
    said = [line.split()[2:] for line in table.splitlines()[1:]]
    attack = next(line for line in said if line[4:] == ATTACK)
    assert attack[:3] == ["32", "1", "1"]
    assert int(attack[3].replace(",", "")) > 0
    assert len(said) == len({tuple(line[4:]) for line in said})
    assert "no time is known: purify a few images first" in totals


def test_evaluations_that_are_left_are_those_of_stores_that_are_not_there(repository, tmp_path):
    track = load_config(repository / "config" / "config.yaml")
    counted, shards = Evaluations(track), ("0-of-2", "1-of-2")
    attacked = "attack/cifar10/pgd-eot-linf8/mdsr-x2.vpsde-t100.wrn-28-10"
    found = [Place.of(tmp_path / attacked / shard) for shard in shards]
    an_image = counted.of(found[0])
    assert an_image == counted.of(found[1]) > 3 * 100  # a gradient through each of 100 steps
    assert in_shards(7, found) == 7
    assert in_shards(7, found[:1]) == 4  # of seven, the first shard has one more


def test_stores_of_other_attacks_are_counted_by_their_own(repository, tmp_path):
    track = load_config(repository / "config" / "config.yaml")
    counted = Evaluations(track)
    chain = "attack/cifar10-adaptive/{}/none.vpsde-t100.wrn-28-10/0-of-1"
    attacks = ("pgd-eot-linf8-blind", "pgd-eot-linf8")
    places = [Place.of(tmp_path / chain.format(attack)) for attack in attacks]
    costs = [counted.of(place) for place in places]
    assert costs[0] < costs[1]
    images = images_of(track, "cifar10-adaptive")
    for some in (places, places[::-1], places[:1], []):
        expected = images * sum(counted.of(place) for place in some)
        assert summed(track, "cifar10-adaptive", some, counted.of) == expected
    assert summed(track, "cifar10-adaptive", places, lambda place: None) is None


def test_seconds_of_an_evaluation_are_those_of_purified_stores(repository, tmp_path):
    track = load_config(repository / "config" / "config.yaml")
    purifier, counted = track.part("purifier", "osd-t100"), Evaluations(track)
    folder = tmp_path / "purify" / "cifar10" / "none" / "none" / "none" / "osd-t100" / "0-of-1"
    images = np.zeros((4, 3, 32, 32), np.float32)
    made = provenance("purify", {"purifier": purifier}, {}, upstream=[], seed=track.seed)
    machine = {"device": "some GPU"}
    made = writer(folder, images, machine, **{k: v for k, v in made.items() if k != "stage"})
    made.provenance["stage"] = "purify"
    made.write(0, {"images": images}, seconds=6.0)
    made.finish()
    calls = 4 * counted.of(Place.of(folder))
    network = purifier.network.name
    assert counted.seconds(tmp_path) == {network: {"some GPU": pytest.approx(6 / calls)}}
    other = track.model_copy(update={"seed": track.seed + 1})
    assert not Evaluations(other).seconds(tmp_path)  # which are of another track


def test_a_job_that_does_not_fit_fails_the_plan(repository, monkeypatch):
    ended = planned(repository, monkeypatch, "config/tables/table4.yaml", "--memory", "1.01")
    assert ended.exit_code == 1
    said = [line.split() for line in ended.stdout.splitlines()]
    assert any(line[2:3] == ["none"] and line[6] == "attack" for line in said)


def test_a_result_without_stores_has_no_plan(repository, monkeypatch):
    ended = planned(repository, monkeypatch, "config/timings/table9-top.yaml")
    assert "what it computes is in its own job" in str(ended.exception)


def test_the_official_chain_differentiates_an_image_in_three_and_a_half_gib(repository):
    track = load_config(repository / "config" / "paper.yaml")
    roles = {"restorer": "esrgan-x2", "purifier": "vpsde-t150", "classifier": "resnet50"}
    found = needs(track.parts(roles), (224, 224), gradient=True)
    assert found
    assert found.image / GIB == pytest.approx(3.5, abs=0.05)
