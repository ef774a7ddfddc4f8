"""A tiny track, of four images and networks with random weights, in a folder of its own."""

import subprocess
from pathlib import Path

import torch
import yaml

from puriflow.registry import part_of
from puriflow.zoo.weights import save_weights

EDSR = {"kind": "edsr", "n_feats": 8, "n_resblocks": 1}
BY_HAND = {  # an entry of the zoo, but for its file
    "family": "restorers",
    "part": EDSR,
    "by_hand": "from me",
    "licence": "MIT",
    "input": "[0, 1]",
    "source": "tests",
}
TABLE = {
    "title": "a tiny table",
    "source": "tests",
    "dataset": "imagenet",
    "classifier": "resnet50",
    "attack": "pgd-linf4",
    "purifier": "vpsde-t10",
    "rows": [
        {"method": "undefended", "type": "none", "purifier": "none"},
        {"method": "EDSR", "type": "SR", "restorer": "edsr-x2", "paper": {"robust": 68.73}},
        {"method": "wavelet", "type": "denoising", "restorer": "wavelet"},
        {"method": "DeiT-S", "type": "none", "classifier": "bai2021-deit-s", "note": "said so"},
        {
            "method": "EDSR, adaptive",
            "type": "SR",
            "restorer": "edsr-x2",
            "attack": ["pgd-linf4", {"attack": "pgd-eot-tiny", "victim": "defence"}],
            "evaluation": "three",
        },
        {"method": "others", "type": "quoted", "quoted": "them", "paper": {"standard": 95}},
    ],
}
CLAIMS = {
    "margins": {"points": 3, "ratio": 1.05},
    "claims": [
        {
            "about": "tabletiny",
            "section": "0",
            "quote": "EDSR is above all",
            "says": [
                {"column": "robust", "higher": "EDSR", "lower": "undefended"},
                {"column": "cross_entropy", "higher": "undefended", "lower": "EDSR"},
                {"column": "standard", "higher": "EDSR, adaptive", "lower": "DeiT-S"},
            ],
        },
        {
            "about": "figuretiny",
            "section": "1",
            "quote": "a wavelet is nearer to the truth",
            "says": [
                {"column": "content_distance", "layer": "each", "higher": "AE", "lower": "wavelet"}
            ],
        },
        {
            "about": "timetiny",
            "section": "2",
            "quote": "it is fast",
            "says": [{"column": "seconds", "higher": "EDSR, classify", "lower": "EDSR, restore"}],
        },
    ],
}
FIGURE = {
    "kind": "content",
    "title": "a tiny figure",
    "source": "Figure 0",
    "claim": "the paper's *words*",
    "how": "ours.",
    "dataset": "imagenet",
    "classifier": "resnet50",
    "attack": "pgd-linf4",
    "features": "vgg19",
    "definition": "eq7",
    "reference": "AE",
    "count": 2,
    "panels": {"a": "tiny"},
    "lines": [{"label": "AE"}, {"label": "wavelet", "restorer": "wavelet"}],
}
TIMING = {
    "title": "tiny times",
    "source": "tests",
    "dataset": "imagenet",
    "classifier": "resnet50",
    "repeats": 2,
    "paper_device": "theirs",
    "rows": [{"method": "EDSR", "restorer": "edsr-x2", "paper": {"restore": 0.01}}],
}
PGD_EOT = {
    "kind": "pgd",
    "eps": "4/255",
    "step_size": 0.007,
    "n_iter": 1,
    "random_start": False,
    "eot_iter": 2,
    "note": "one step",
}


class Project:
    """A folder with a configuration, in which snakemake runs."""

    def __init__(self, folder: Path, repository: Path):
        self.folder = folder
        self.repository = repository

    @property
    def config_file(self) -> Path:
        return self.folder / "config" / "config.yaml"

    def edit(self, change) -> None:
        config = yaml.safe_load(self.config_file.read_text())
        change(config)
        self.config_file.write_text(yaml.safe_dump(config))

    def snakemake(self, *arguments: str, check: bool = True) -> str:
        """Run snakemake as a user would; returns what it printed."""
        command = ["snakemake", "--snakefile", str(self.repository / "Snakefile"), *arguments]
        ended = subprocess.run(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if check and ended.returncode != 0:
            raise AssertionError(ended.stdout)
        self.status = ended.returncode
        return ended.stdout

    def planned(self, *arguments: str) -> dict[str, int]:
        """How many jobs of each rule a dry run lists."""
        text = self.snakemake(*arguments, "--dry-run")
        if "Nothing to be done" in text:
            return {}
        lines = text.split("Job stats:")[1].splitlines()[3:]
        counted = (line.split() for line in lines)
        jobs = {}
        for words in counted:
            if not words:
                break
            jobs[words[0]] = int(words[1])
        return {rule: count for rule, count in jobs.items() if rule != "total"}


def with_weights(folder: Path, role: str, entry: dict, name: str) -> dict:
    """An entry of a track with random weights, which are written to `folder`."""
    torch.manual_seed(0)
    part = part_of(role, name, {**entry, "weights": None}).build()
    save_weights(part.network, folder / f"{name}.safetensors")
    return {**entry, "weights": f"{name}.safetensors"}


def write(folder: Path, files: dict[str, dict]) -> None:
    """Files of config/, by their names without the ending."""
    for name, what in files.items():
        file = folder / "config" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(what))


def make_project(folder: Path, repository: Path, network: dict) -> Project:
    """The tiny track in `folder`."""
    config = yaml.safe_load((repository / "config" / "config.yaml").read_text())
    config["datasets"]["imagenet"]["subset"] = 4
    config["attacks"]["pgd-linf4"]["n_iter"] = 2
    config["attacks"]["pgd-eot-tiny"] = PGD_EOT
    config["evaluations"]["three"] = {"n_draws": 3, "rule": "average"}
    config["restorers"]["edsr-x2"] = with_weights(folder, "restorer", EDSR, "edsr")
    config["networks"]["adm"] = with_weights(folder, "network", network, "adm")
    files = {
        "config": config,
        "claims": CLAIMS,
        "tables/tabletiny": TABLE,
        "timings/timetiny": TIMING,
        "figures/figuretiny": FIGURE,
    }
    write(folder, files)
    return Project(folder, repository)
