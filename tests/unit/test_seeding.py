import pytest
import torch

from puriflow.randomness import ImageNoise, derive


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


def test_a_batch_of_another_size_is_refused():
    with pytest.raises(ValueError, match="2 images, but noise for 1"):
        ImageNoise(0, "purify", [0]).normal_like(torch.empty(2, 3, 4, 4))
