import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from puriflow import randomness
from puriflow.ahead import Ahead
from puriflow.randomness import AttackNoise, ImageNoise, derive, pgd_step


def test_an_images_noise_does_not_depend_on_its_batch():
    together = ImageNoise(0, "purify", [7, 3, 9])
    alone = ImageNoise(0, "purify", [3])
    for _ in range(3):  # a sequence of draws, as a solver makes
        batch = together.normal_like(torch.empty(3, 3, 4, 4))
        torch.testing.assert_close(
            batch[1:2], alone.normal_like(torch.empty(1, 3, 4, 4)), rtol=0, atol=0
        )


def test_seed_stage_index_and_draw_all_matter():
    base = (0, "purify", 5, 0)
    others = [(1, "purify", 5, 0), (0, "attack", 5, 0), (0, "purify", 6, 0), (0, "purify", 5, 1)]
    assert len({derive(*parts) for parts in [base, *others]}) == 5
    assert derive(1, 23) != derive(12, 3)


def test_the_words_that_seed_noise_are_data():
    """Another word would change every number that was ever made with it."""
    words = {name: value for name, value in vars(randomness).items() if name.isupper()}
    assert words == {
        "PURIFY": "purify",
        "TILE": "purify, tile {}",
        "RANDOM": "random",
        "CERTIFY": "certify",
        "MEASURE_CLASSIFIER": "measure-classifier",
        "MEASURE_DENOISER": "measure-{}",
        "TRAIN": "train",
        "ATTACK": "attack",
        "ATTACK_START": "attack start",
        "APGD": {"ce": "apgd-ce", "dlr": "apgd-dlr", "dlr-targeted": "apgd-dlr-targeted"},
        "FAB_T": "fab-t",
        "SQUARE": "square",
        "DIFFATTACK": "diffattack",
        "AUTOATTACK": "autoattack",
        "CLEAN": "clean",
        "AGAIN": "again",
        "VOTES": "votes",
        "EVALUATED": "evaluated",
        "CONTROL": "control",
        "JUDGED": "judged",
        "DIRECTIONS": "geometry",
        "AFTER": "after",
        "SURROGATE": "surrogate",
    }
    assert [pgd_step(n, random_start=True) for n in (0, 9)] == ["pgd 1", "pgd 10"]
    assert [pgd_step(n, random_start=False) for n in (0, 9)] == ["0", "9"]


def test_the_seeds_of_an_attack():
    def seed(noise):
        return noise.generators[0].initial_seed()

    noise, fixed = AttackNoise(3, [5]), AttackNoise(3, [5], fixed=True)
    for either in (noise, fixed):
        assert seed(either.attacker()) == derive(3, "attack", 5, 0)
        assert seed(either.attacker("square 7")) == derive(3, "attack start square 7", 5, 0)
    assert seed(noise.victim("apgd-ce 7", [2])) == derive(3, "attack apgd-ce 7", 5, 2)
    assert seed(fixed.victim("apgd-ce 7", [2])) == derive(3, "purify", 5, 0)


def test_a_batch_of_another_size_is_refused():
    with pytest.raises(ValueError, match="2 images, but noise for 1"):
        ImageNoise(0, "purify", [0]).normal_like(torch.empty(2, 3, 4, 4))


# What a purifier may draw, in any order: kinds of draws with their shapes.
DRAWS = ["normal", "normal", "normal small", "uniform", "integers", "number"]


@given(st.lists(st.sampled_from(DRAWS), max_size=12))
def test_what_is_drawn_ahead_of_a_gpu_is_what_is_drawn_one_after_the_other(kinds):
    def drawn(noise, kind, normal):
        if kind.startswith("normal"):
            return normal(noise, (2, 1) if kind == "normal small" else (3, 4, 4))
        if kind == "uniform":
            return noise.uniform_like(torch.empty(2, 3), -1, 1)
        return noise.integers(0, 99) if kind == "integers" else noise.uniform(0, 1)

    def by_turns(noise, shape):
        return noise.normal_like(torch.empty(2, *shape))

    one, other = (ImageNoise(0, "purify", [3, 8]) for _ in range(2))
    queue = Ahead(other._generators, pinned=False)
    other._ahead = queue
    for kind in kinds:
        expected = drawn(one, kind, by_turns)
        found = drawn(other, kind, lambda _, shape: queue.normal(shape))
        assert torch.equal(found, expected)
    # and both are in the same state
    assert torch.equal(one.integers(0, 2**31), other.integers(0, 2**31))


def test_a_device_that_is_no_cpu_gets_its_noise_ahead():
    noise, meta = ImageNoise(0, "purify", [3, 8]), torch.empty(2, 3, device="meta")
    for _ in range(3):
        assert noise.normal_like(meta).device.type == "meta"
    assert noise._ahead.next is not None
    cpu = ImageNoise(0, "purify", [3, 8])
    for _ in range(3):
        cpu.normal_like(torch.empty(2, 3))
    assert torch.equal(noise.normal_like(torch.empty(2, 3)), cpu.normal_like(torch.empty(2, 3)))
    with pytest.raises(ValueError, match="1 images, but noise for 2"):
        noise.normal_like(meta[:1])
