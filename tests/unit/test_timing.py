"""Wall times, by a clock that the tests turn themselves: nothing here measures time."""

from itertools import chain as flat

import numpy as np
import pandas as pd
import pytest
import torch

from puriflow.config import load_config
from puriflow.errors import UserError
from puriflow.randomness import derive
from puriflow.results import load_result
from puriflow.results.timing import COLUMNS, Timing, sample

TIMING = {
    "title": "t",
    "source": "s",
    "dataset": "imagenet",
    "classifier": "resnet50",
    "repeats": 3,
    "warmup": 1,
    "paper_device": "theirs",
    "rows": [
        {"method": "bicubic", "restorer": "bicubic-x2", "paper": {"restore": 0.01, "total": 1}},
        {"method": "DeiT-S", "classifier": "bai2021-deit-s", "paper": {"classify": 2}},
    ],
}


@pytest.fixture(scope="module")
def config(repository):
    return load_config(repository / "config" / "config.yaml")


class Clock:
    """Seconds that pass only while a step works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def step(self, durations):
        """A step that takes the next of these durations, and adds 1 to its image."""
        left = iter(durations)

        def work(image, index):
            self.now += next(left)
            return image + 1

        return work


def test_what_is_timed_is_recorded_after_the_warmup():
    clock = Clock()
    rows = [
        {"restore": clock.step([9, 1, 2, 3]), "classify": clock.step([9, 4, 4, 4])},
        {"classify": clock.step([9, 5, 6, 7])},
    ]
    images = [torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)]
    first, second = sample(rows, images, repeats=3, warmup=1, clock=clock)
    np.testing.assert_array_equal(first["restore"], [1, 2, 3])
    np.testing.assert_array_equal(first["total"], [5, 6, 7])
    np.testing.assert_array_equal(second["total"], [5, 6, 7])


def test_rows_take_turns_images_go_round_and_parts_feed_each_other():
    seen = []

    def step(name):
        def work(image, index):
            seen.append((name, index, float(image.flatten()[0])))
            return image + 10

        return work

    images = [torch.full((1, 3, 1, 1), float(i)) for i in range(2)]
    rows = [{"restore": step("r"), "classify": step("c")}, {"classify": step("other")}]
    sample(rows, images, repeats=2, warmup=1, clock=lambda: 0.0)
    turns = [[("r", i, i), ("c", i, 10 + i), ("other", i, i)] for i in (0, 1, 0)]
    assert seen == list(flat(*turns))


def test_lines_have_medians_and_quartiles_and_the_paper_s_numbers(config):
    timing = Timing.model_validate(TIMING)
    times = {"restore": [1.0, 2, 9], "classify": [1.0, 1, 1], "total": [2.0, 3, 10]}
    times = {timing.rows[0]: {part: np.array(seconds) for part, seconds in times.items()}}
    restore, classify, total = timing.lines(config, timing.rows[0], times, "ours")
    assert (restore["q1"], restore["seconds"], restore["q3"]) == (1.5, 2, 5.5)
    assert (restore["paper_seconds"], restore["paper_device"]) == (0.01, "theirs")
    assert (classify["paper_seconds"], classify["paper_device"]) == (None, None)
    assert (total["served_by"], total["device"]) == ("bicubic-x2 and efficientnet-lite0", "ours")


def test_a_row_that_is_not_served_says_why_and_has_no_times(config):
    timing = Timing.model_validate(TIMING)
    (classify, _) = timing.lines(config, timing.rows[1], {}, "ours")
    assert "photographs are too few" in classify["note"]
    assert "seconds" not in classify
    assert classify["paper_seconds"] == 2


def test_the_command_s_csv(config, four_images, tmp_path):
    timing = Timing.model_validate(TIMING)
    dataset = config.dataset("imagenet").model_copy(update={"subset": 4})
    config = config.model_copy(update={"datasets": {**config.datasets, "imagenet": dataset}})
    (images,) = timing.stores(config)
    folder = tmp_path / images
    folder.parent.mkdir(parents=True)
    folder.symlink_to(four_images.folder)
    files = timing.build(config, "t", tmp_path, torch.device("cpu"))
    assert files == [tmp_path / "t.csv", tmp_path / "measures" / "t.csv"]
    table = pd.read_csv(files[0])
    assert tuple(table.columns) == COLUMNS
    assert list(table.part) == ["restore", "classify", "total", "classify", "total"]
    done = table[table.method == "bicubic"]
    assert ((done.q1 <= done.seconds) & (done.seconds <= done.q3)).all()
    assert (done.seconds > 0).all()
    assert done.device.str.contains("thread").all()
    assert table[table.method == "DeiT-S"].seconds.isna().all()

    every = pd.read_csv(files[1])
    columns = ["line", "layer", "index", "metric", "value", "paper", "note"]
    assert list(every.columns) == columns
    restored = every[every.line == "bicubic, restore"]
    assert list(restored["index"]) == list(range(timing.repeats))
    assert restored["value"].median() == pytest.approx(done.seconds.iloc[0], rel=1e-3)
    assert (restored["paper"] == 0.01).all()
    (absent, _) = every[every.line.str.startswith("DeiT-S")].to_dict("records")
    assert "photographs are too few" in absent["note"]


def test_a_timing_computes_with_all_that_it_times(config):
    timing = Timing.model_validate(TIMING)
    parts = [(part.role, part.name) for part in timing.parts(config)]
    assert parts == [("restorer", "bicubic-x2"), ("classifier", "resnet50")]
    assert timing.computes


def test_the_purifier_is_given_each_image_s_noise():
    timing = Timing.model_validate(TIMING | {"rows": [{"method": "m", "purifier": "vpsde-t10"}]})
    given = []

    def module(role):
        def called(image, *noises):
            seeds = [g.initial_seed() for noise in noises for g in noise.generators]
            given.append((role, seeds))
            return image

        return called

    names = {"purifier": "vpsde-t10", "classifier": "resnet50"}
    modules = {(role, name): module(role) for role, name in names.items()}
    for step in timing.steps(timing.rows[0], modules).values():
        step(torch.zeros(1, 3, 2, 2), 7)
    assert given == [("purifier", [derive(0, "purify", 7, 0)]), ("classifier", [])]


def test_every_timing_names_what_both_tracks_know(repository):
    for track in ("config.yaml", "paper.yaml"):
        config = load_config(repository / "config" / track)
        for file in (repository / "config" / "timings").glob("*.yaml"):
            timing = load_result(file)
            assert timing.served(config) == list(timing.rows), file


def test_mistakes(config, tmp_path):
    row = {"method": "m", "restorer": "esrgan-x3"}
    with pytest.raises(UserError, match="did you mean 'esrgan-x"):
        Timing.model_validate(TIMING | {"rows": [row]}).stores(config)
    file = tmp_path / "timings" / "t.yaml"
    file.parent.mkdir()
    file.write_text("repeats: 2")
    with pytest.raises(UserError, match=r"timings/t.yaml: title: Field required"):
        load_result(file)
