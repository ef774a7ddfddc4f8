"""Evaluations of diffusion networks for all tables of the mini track, against the fewest possible.

    python benchmarks/fewest_evaluations.py [config/config.yaml]

`own stores` is what the tables would ask if each computed its own stores, beside what one run for
all of them asks, in which a path is the output of one job: `jobs` are those that Snakemake plans,
beside the different stores. `computed` is that one run beside the fewest evaluations possible: each
different work once. A work is the attack of an image, or one answer of a purifier to it, by all
that it depends on (data, image, attack and victim, restorer, purifier, number of the draw). So two
roles of the same entry, two data sets of the same images, a draw that two stores have, and a
purification for two classifiers are one work. Evaluations are counted as result_costs.py does;
audits are not.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from ratios import Row, one_thread, report
from result_costs import Costs

from puriflow.config import Config, load_config
from puriflow.datasets.samples import chosen_indices
from puriflow.lineage import Place
from puriflow.provenance import identified
from puriflow.registry import NONE
from puriflow.results import find, load_result, names

ROOT = Path(__file__).parents[1]
Work = tuple[str, ...]


class Works:
    """The works of stores, with the evaluations of each."""

    def __init__(self, track: Config):
        self.track, self.costs = track, Costs(track)
        self.part_of = cache(self._part_of)
        self.images_of = cache(self._images_of)

    def of(self, store: str) -> Iterator[tuple[Work, int]]:
        """Every work of a store, if it asks a diffusion network."""
        place = Place.of(Path("results", store))
        if place is None or not (count := self.costs.of(place)):
            return
        draws = int(place.numbers.get("n_draws", 1))
        before = [self.words(one) for one in place.before() if one.stage != "images"]
        stage, own = place.stage, self.words(place)
        if stage in ("purify", "evaluate"):
            stage, own = "answer", self.part_of("purifier", place.parts["purifier"])
        for image in self.images_of(place.names["dataset"], place.shard):
            for draw in range(draws):
                yield (stage, own, *before, image, str(draw)), count // draws

    def words(self, place: Place) -> str:
        """The parts with which a stage computes, as text."""
        return json.dumps({role: self.part_of(role, name) for role, name in place.parts.items()})

    def _part_of(self, role: str, name: str) -> str:
        """All that a part is, as text that is the same for two names of one part."""
        if name == NONE:
            return NONE
        found = {k: v for k, v in identified(self.track.part(role, name)).items() if k != "name"}
        return json.dumps(found, sort_keys=True, default=str)

    def _images_of(self, dataset: str, shard: str) -> list[str]:
        """The images of a store: their data set, as its entry has it, and indices in it."""
        entry, part = self.track.dataset(dataset), self.track.part("dataset", dataset)
        which, of = map(int, shard.split("-of-"))
        indices = chosen_indices(
            part.build(), subset=entry.subset, seeds=entry.subset_seeds, shard=which, shards=of
        )
        return [f"{self.part_of('dataset', dataset)} {index}" for index in indices]


def planned(file: str, tables: Iterable[str]) -> int:
    """Jobs that Snakemake plans for the stores of tables, where nothing is there yet."""
    targets = [f"results/{name}.csv" for name in tables]
    command = ["snakemake", *targets, "--snakefile", str(ROOT / "Snakefile"), "--dry-run"]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("config", "resources"):
            (Path(folder) / name).symlink_to(ROOT / name)
        command += ["--configfile", str(Path(file).resolve()), "--cores", "1"]
        said = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    counts = dict(re.findall(r"^(\w+_images) +(\d+)$", said.stdout, flags=re.MULTILINE))
    return sum(map(int, counts.values()))


def main(file: str) -> None:
    """Print and write the counts and their ratios."""
    track = load_config(file)
    works, config = Works(track), Path("config")
    tables = names(config)["tables"]
    read = {name: load_result(find(name, config)).stores(track) for name in tables}
    asked: Counter[str] = Counter()
    fewest: dict[Work, int] = {}
    for store in sorted({store for own in read.values() for store in own}):
        for work, count in works.of(store):
            asked[store] += count
            fewest[work] = count
    own = sum(asked[store] for stores in read.values() for store in stores)
    union, least = sum(asked.values()), sum(fewest.values())
    listed = [store for stores in read.values() for store in stores]
    stores = len({*listed})
    print(f"{len(tables)} tables list {len(listed)} stores, {stores} of them different;")
    print(f"{len(asked)} ask a diffusion network, for {len(fewest):,} different works")
    rows = [
        Row("own stores", own, union, "calls"),
        Row("jobs", planned(file, tables), stores, "stores"),
        Row("computed", union, least, "calls"),
    ]
    report(__file__, rows, by_table={n: sum(asked[s] for s in own) for n, own in read.items()})


if __name__ == "__main__":
    one_thread()
    main(sys.argv[1] if len(sys.argv) > 1 else "config/config.yaml")
