import pytest
import torch

from puriflow import randomness
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
