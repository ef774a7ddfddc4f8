"""The rules of certificates, on the tiny track with a handful of draws."""

import pandas as pd
import pytest
import yaml

from puriflow.store import open_stage

CURVES = {
    "title": "tiny curves",
    "source": "tests",
    "dataset": "imagenet",
    "classifier": "resnet50",
    "radii": [0, 0.01, 0.1],
    "rows": [
        {"method": "alone", "sigma": 0.02},
        {"method": "EDSR and ADM", "sigma": 0.02, "restorer": "edsr-x2", "denoiser": "adm"},
        {"method": "DeiT-S", "sigma": 0.02, "classifier": "bai2021-deit-s"},
    ],
}
TARGETS = ("results/certified/tiny.csv", "results/certified/tiny.png")
STORE = "results/certify/imagenet/edsr-x2/adm/none/resnet50/0.02/0-of-1"


@pytest.fixture
def certified(empty):
    """The tiny track with curves built."""
    folder = empty.folder / "config" / "certified"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(yaml.safe_dump(CURVES))
    empty.edit(lambda config: config.update(certification={"n0": 2, "n": 4, "alpha": 0.3}))
    empty.snakemake(*TARGETS)
    return empty


def test_certificates_are_built_once_and_again_for_other_draws(certified):
    table = pd.read_csv(certified.folder / TARGETS[0], keep_default_na=False)
    assert list(table.method) == ["alone"] * 3 + ["EDSR and ADM"] * 3 + ["DeiT-S"]
    assert list(table.draws[:6]) == ["4"] * 6
    assert "photographs are too few" in table.note[6]
    store = open_stage(certified.folder / STORE)
    right = store.read("prediction") == store.read("label")
    assert float(table.certified_accuracy[3]) == 25 * right.sum()
    assert store.manifest["parameters"]["denoiser"]["kind"] == "adm"

    assert certified.planned(TARGETS[0]) == {}
    certified.edit(lambda config: config["networks"]["adm"].update(integer_steps=True))
    assert certified.planned(TARGETS[0]) == {"certify_images": 1, "build_certified": 1}
    certified.edit(lambda config: config["certification"].update(n=5))
    assert certified.planned(TARGETS[0]) == {"certify_images": 2, "build_certified": 1}

    said = certified.snakemake("results/certified/tinny.csv", "--dry-run", check=False)
    assert "unknown result 'tinny': did you mean 'tiny'?" in said
