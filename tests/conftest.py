"""What several folders of tests share: fixtures, and how many random cases are tried.

Tests that draw their cases by hypothesis try the same few hundred each time, so that CI is quick
and never fails by chance. `pytest --storm` runs these tests alone, with ten times as many random
cases, kills and flipped bits, drawn anew, and may take long.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings
from tiny_parts import ADM

from puriflow.registry import part_of
from puriflow.stages.images import write_images

REPOSITORY = Path(__file__).parents[1]
LONG = {
    "cluster": 0,
    "workflow": 1,
    "docs": 2,
}  # folders of tests, each with a tiny track of its own

# No test is timed, so there is no deadline; a case may build a network, which is slow.
shared = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", shared, max_examples=100, derandomize=True)
settings.register_profile("storm", shared, max_examples=1000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--storm", action="store_true", help="only random cases, and ten times as many"
    )
    parser.addoption(
        "--rehearsal", action="store_true", help="all of the paper's results from stand-ins"
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("storm" if config.getoption("storm") else "ci")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Side by side, tests that share fixtures stay together, in the order of their collection."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFixtures(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.partition("::")[0])
            return file.parent.name if file.parent.name in LONG else str(file)

    config.option.loadscopereorder = False
    return ByFixtures(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # What takes longest begins; the others fill the time of who waits for it.
    items.sort(key=lambda item: LONG.get(item.path.parent.name, len(LONG)))
    if config.getoption("storm"):
        config.hook.pytest_deselected(items=[item for item in items if not draws(item)])
        items[:] = [item for item in items if draws(item)]


def draws(item: pytest.Item) -> bool:
    """Whether a test draws its cases at random."""
    assert isinstance(item, pytest.Function)
    return "storm" in item.fixturenames or is_hypothesis_test(item.obj)


@pytest.fixture(scope="session")
def storm(request: pytest.FixtureRequest) -> bool:
    """Whether many cases are wanted, of tests that draw theirs without hypothesis."""
    return request.config.getoption("storm")


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def tiny_adm() -> dict:
    """An ADM that takes 30 ms for a 224 image, with random weights."""
    return dict(ADM)


@pytest.fixture(scope="session")
def four_images(tmp_path_factory):
    """A finished store of four real ImageNet images, 224 pixels."""
    entry = {"kind": "foolbox", "sample": "imagenet", "resize": 256, "crop": 224}
    out = tmp_path_factory.mktemp("stores") / "images" / "imagenet" / "0-of-1"
    return write_images(out, part_of("dataset", "imagenet", entry), subset=4)


@pytest.fixture
def small_images() -> np.ndarray:
    """Three random images (3, 3, 16, 16) in [0, 1]."""
    return np.random.default_rng(0).random((3, 3, 16, 16), dtype=np.float32)
