"""The paper track in small: official layouts, tiny sizes, two images of each data set."""

import shutil

import pytest
import yaml
from rehearsal import cut_track
from stand_ins import write_cifar10, write_imagenet, write_zoo
from tiny_parts import OPTIONS
from tiny_track import Project, write
from warm import warm_puriflow

from puriflow.config import load_config
from puriflow.zoo.catalogue import Entry, Zoo

# What makes a network small, by kind or by name; others have the sizes of `tiny_parts`, and those
# of Bai et al. and VGG-19 but one.
KINDS = {
    "adm": {**OPTIONS["networks"]["adm"], "out_channels": 6, "integer_steps": True},
    "bai2021": {},
    "pretrained": {"name": "shufflenet_v2_x0_5"},
    "robustbench": {"model": "Wong2020Fast"},
    "vgg19": {},
}
NAMES = {
    "deit-s": {"name": "mobilenetv3_small_050"},
    "engstrom2019-res50": {"model": "Salman2020Do_R18"},
    "salman2020-res50": {"model": "Salman2020Do_R18"},
    "wong2020-res50": {"model": "Salman2020Do_R18"},
}


def tiny(name: str, entry: Entry) -> Entry:
    """An entry of the zoo whose network is tiny, where the architecture allows it."""
    options = KINDS.get(entry.part["kind"], OPTIONS[entry.family].get(entry.part["kind"], {}))
    return entry.model_copy(update={"part": {**entry.part, **options, **NAMES.get(name, {})}})


@pytest.fixture(scope="session")
def tiny_zoo() -> dict[str, Entry]:
    """All entries of the catalogue, with tiny networks."""
    return {name: tiny(name, entry) for name, entry in Zoo().known().items()}


@pytest.fixture(scope="module")  # no longer, since other tests have another command and weights
def project(tmp_path_factory, repository, tiny_zoo):
    """A folder with the cut track and stand-ins of what it reads; its jobs start at once."""
    folder = tmp_path_factory.mktemp("rehearsal")
    shutil.copytree(repository / "config", folder / "config")
    for file in (folder / "config" / "timings").iterdir():
        file.write_text(
            yaml.safe_dump({**yaml.safe_load(file.read_text()), "repeats": 2, "warmup": 1})
        )
    weights = folder / "weights"
    weights.mkdir()
    write_zoo(tiny_zoo, weights)
    write_imagenet(folder / "data" / "imagenet" / "val", 4)
    md5 = write_cifar10(folder / "data", 4)
    paper = load_config(repository / "config" / "paper.yaml")
    track = cut_track(paper, weights / "zoo.yaml", images=2)
    for name, role in paper.purifiers.items():
        if "resize" in role.model_extra:
            track["purifiers"][name]["resize"] = 32
    write(folder, {"rehearsal": track})
    with warm_puriflow(md5) as command, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(command), prepend=":")
        patch.setenv("PURIFLOW_CACHE", str(folder / "cache"))
        patch.setenv("PURIFLOW_WEIGHTS", str(weights))
        yield Project(folder, repository)
    shutil.rmtree(folder)  # a gigabyte
