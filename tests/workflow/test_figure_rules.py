"""The rule of figures, on the tiny track."""

import pandas as pd

TARGETS = [f"results/figuretiny.{ending}" for ending in ("csv", "png", "svg")]


def test_a_figure_is_built_with_what_is_missing_and_again_for_other_layers(empty):
    empty.snakemake(*TARGETS)
    table = pd.read_csv(empty.folder / TARGETS[0])
    assert list(table["line"]) == ["AE", "wavelet"] * 5
    assert all((empty.folder / target).stat().st_size > 1000 for target in TARGETS)
    values = pd.read_csv(empty.folder / "results" / "measures" / "figuretiny.csv")
    assert list(values.columns) == ["line", "layer", "index", "metric", "value", "note"]
    assert len(values) == 2 * 5 * 2
    assert empty.planned(TARGETS[0]) == {}

    empty.edit(lambda config: config["features"]["vgg19"].update(layers=["stem"]))
    assert empty.planned(TARGETS[0]) == {"build_figure": 1}
    assert "figuretiny.csv" in empty.snakemake("all", "--dry-run")

    said = empty.snakemake("results/figuretinny.csv", "--dry-run", check=False)
    assert "unknown result 'figuretinny': did you mean 'figuretiny'?" in said
