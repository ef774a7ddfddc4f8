"""The rule that counts draws of a gradient, on the tiny track."""

import pandas as pd
import yaml
from PIL import Image

EOT = {
    "title": "tiny draws",
    "source": "tests",
    "dataset": "imagenet",
    "classifier": "resnet50",
    "attack": "pgd-eot-tiny",
    "count": 2,
    "draws": 2,
    "eot_iter": [1],
    "n_draws": 2,
    "rows": [
        {"method": "EDSR", "restorer": "edsr-x2"},
        {"method": "one evaluation", "purifier": "osd-t10"},
    ],
}


def test_draws_are_counted_in_a_job_of_their_own_and_again_for_another_purifier(empty):
    file = empty.folder / "config" / "eot" / "tiny.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(EOT))
    empty.snakemake("results/eot/tiny.csv")
    folder = empty.folder / "results" / "eot"
    assert sorted(f.name for f in folder.iterdir()) == ["tiny.csv", "tiny.png", "tiny.svg"]
    table = pd.read_csv(folder / "tiny.csv", dtype={"recommended": str})
    asked = table[table.metric == "draws_for_0.9"].set_index("method").recommended
    assert list(asked["EDSR"]) == ["1", "1"]  # nothing is random in it
    cosines = table[(table.metric == "split_half_cosine") & (table.method == "one evaluation")]
    assert list(cosines.draws) == [1, 2] * 2
    assert cosines.value.between(-1, 0.9).all()
    success = table[table.metric == "success_average"]
    assert list(success.draws.dropna()) == [1, 2] * 2  # the attack's own are two
    with Image.open(folder / "tiny.png") as picture:
        assert picture.size == (2610, 863)

    assert empty.planned("results/eot/tiny.svg") == {}
    empty.edit(lambda config: config["purifiers"]["osd-t10"].update(t=11))
    assert empty.planned("results/eot/tiny.svg") == {"count_draws": 1}
