"""The rule of sweeps on the tiny track: long form, pictures, and no stage computed twice."""

import pandas as pd
import yaml

LEVELS = {
    "title": "tiny levels",
    "source": "tests",
    "dataset": "imagenet",
    "classifier": "resnet50",
    "attack": "pgd-linf4",
    "restorer": "none",
    "purifier": ["none", "vpsde-t10"],
    "along": "purifier.t",
    "features": "vgg19-conv2-2",
}
RESTORERS = {
    **LEVELS,
    "restorer": ["none", "wavelet"],
    "purifier": "vpsde-t10",
    "along": "restorer",
}
OTHERS = {**LEVELS, "purifier": "of-another-track", "track": "others"}
STAGES = ("store_images", "attack_images", "restore_images", "purify_images", "classify_images")


def stored(project) -> dict:
    """When each store was finished."""
    found = (project.folder / "results").rglob("manifest.json")
    return {file: file.stat().st_mtime_ns for file in found}


def test_two_sweeps_compute_what_they_share_once(empty):
    folder = empty.folder / "config" / "sweeps"
    folder.mkdir()
    for name, sweep in (("levels", LEVELS), ("restorers", RESTORERS), ("others", OTHERS)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(sweep))

    # of clean and of attacked images; one chain of each sweep is the other's too
    alone = empty.planned("results/sweeps/restorers.csv")
    together = empty.planned("sweeps")
    assert [alone[stage] for stage in STAGES] == [1, 1, 2, 4, 4]
    assert [together[stage] for stage in STAGES] == [1, 1, 2, 4, 6]

    empty.snakemake("results/sweeps/levels.csv")
    before = stored(empty)
    assert len(before) == 1 + 1 + 2 + 4
    empty.snakemake("sweeps")
    after = stored(empty)
    assert {file: after[file] for file in before} == before
    assert len(after) == sum(together[stage] for stage in STAGES)
    assert empty.planned("sweeps") == {}

    for name, places in (("levels", {0, 10}), ("restorers", set(RESTORERS["restorer"]))):
        results = empty.folder / "results" / "sweeps"
        assert set(pd.read_csv(results / f"{name}.csv")["along"]) == places
        assert all(
            (results / f"{name}.{ending}").stat().st_size > 1000 for ending in ("png", "svg")
        )

    levels = pd.read_csv(results / "levels.csv").set_index(["purifier", "metric"])["value"]
    assert levels["none", "content_distance_clean"] == 0
    assert levels["none", "content_distance_attacked"] > 0
    assert levels["vpsde-t10", "content_distance_clean"] > 0

    said = empty.snakemake("results/sweeps/others.csv", "--dry-run", check=False)
    assert "unknown purifier 'of-another-track'" in said
    said = empty.snakemake("results/sweeps/level.csv", "--dry-run", check=False)
    assert "unknown result 'level': did you mean 'levels'?" in said

    said = empty.snakemake("results/levels.csv", "--dry-run", check=False)
    assert "levels is a result of config/sweeps: ask for results/sweeps/levels.csv" in said
    said = empty.snakemake("results/pages/levels.html", "--dry-run", check=False)
    assert "results of config/sweeps, as levels, have no claims and no page" in said
