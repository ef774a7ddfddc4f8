"""A benchmark as a file: what it may say, and objects of one's own."""

import pytest
import torch

from puriflow.benchmarking.asked import data_of, load_asked, object_of
from puriflow.config import load_config
from puriflow.errors import UserError

MODULE = """
from torch import nn
import torch

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.eval()

net = Net()
data = (torch.zeros(4, 3, 8, 8), [0, 1, 2, 3])
three = (1, 2, 3)

def fails():
    raise KeyError("gone\\nnow")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "own_judged.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(folder, **said):
    lines = {"defence": "own_judged:net", "data": "own_judged:data", "out": "o", **said}
    text = "".join(f"{key}: {value}\n" for key, value in lines.items() if value is not None)
    (folder / "asked.yaml").write_text(text)
    return load_asked(folder / "asked.yaml")


def test_objects_are_taken_as_they_are_and_classes_and_functions_called(here):
    assert type(object_of("own_judged:Net", "defence")).__name__ == "Net"
    assert object_of("own_judged:net", "defence") is object_of("own_judged:net", "defence")
    for name, says in {
        "own_judged:nets": "did you mean 'net'",
        "own_jugded:net": "did you mean 'own_judged'",
        "own_judged:fails": "defence own_judged:fails: KeyError: .*gone",
    }.items():
        with pytest.raises(UserError, match=says) as error:
            object_of(name, "defence")
        assert "\n" not in str(error.value)


def test_data_are_a_pair_or_the_first_images_of_a_data_set(here):
    images, labels = data_of(asked(here, count=3), load_config())
    assert images.shape == (3, 3, 8, 8)
    assert labels == [0, 1, 2]
    track = load_config()
    images, labels = data_of(asked(here, data=None, dataset="cifar10", count=2), track)
    samples = track.part("dataset", "cifar10").build()
    assert torch.equal(images[1], torch.from_numpy(samples.image(1)))
    assert labels.tolist() == list(samples.labels[:2])
    with pytest.raises(UserError, match="three is tuple, but must be images and labels"):
        data_of(asked(here, data="own_judged:three"), track)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"defence": "own_judged"}, "is 'own_judged', but must be module:object"),
        ({"defence": None}, "give a defence, module:object, or a classifier of the track"),
        ({"classifier": "wrn-28-10"}, "give a defence, module:object, or a classifier"),
        ({"data": None}, "give data, module:object, or a dataset of the track"),
        ({"n_draws": 0}, "n_draws"),
        ({"eps": "8/0"}, "eps"),
        ({"atack": "quick"}, "atack"),
        ({"out": None}, "out"),
    ],
)
def test_a_file_that_says_something_else_is_refused(here, said, says):
    with pytest.raises(UserError, match=says):
        asked(here, **said)
