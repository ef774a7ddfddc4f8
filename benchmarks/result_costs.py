"""What every result of a track asks of its diffusion networks, and the CPU seconds of that.

    python benchmarks/result_costs.py [config/large.yaml [RESULT ...]]

Counted are images times evaluations of every store that a result reads, as puriflow.evaluations
does: a gradient through an evaluation is three, and no attack succeeds, so adaptive ones cost at
most this. Each line is a result alone; results share stores, so all together are fewer. Start-up,
attacks on classifiers, restorers, classifiers, and what figures compute come on top.
"""

import sys
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from puriflow.config import Config, load_config
from puriflow.evaluations import Evaluations
from puriflow.lineage import Place
from puriflow.results import find, load_result, names

# Of an evaluation on one core: at 224, and at 32, where attacks ask for several at once (of ncsn
# measured as what two attacks on it took, gradients and evaluations together).
SECONDS = {"adm": 0.2, "edm": 0.01, "ncsn": 0.007}


class Costs(Evaluations):
    """The evaluations of the stores of a track."""

    def __init__(self, track: Config):
        super().__init__(track)
        self.all_of = cache(self._all_of)

    def of_all(self, store: str) -> Counter[str]:
        """The evaluations of all images of a store, below the results, by network."""
        place = Place.of(Path("results", store))
        if place is None or not (count := self.of(place)):
            return Counter()
        return Counter({self.network(place): count * self.images(place)})

    def images(self, place: Place) -> int:
        """How many images a store has."""
        dataset, name = self.track.dataset(place.names["dataset"]), place.names["dataset"]
        return (dataset.most or self.all_of(name)) // dataset.shards

    def _all_of(self, name: str) -> int:
        """How many images a data set has of which the track takes all."""
        return len(self.track.part("dataset", name).build())


def main(track: Config, wanted: list[str]) -> None:
    """Print a line for each result, or each of those that are wanted, and for all of them."""
    costs, config, counted = Costs(track), Path("config"), {}
    known = [
        n for folder in ("tables", "figures", "sweeps", "certified") for n in names(config)[folder]
    ]
    if strange := set(wanted) - set(known):
        sys.exit(f"no such result: {', '.join(strange)}; there are {', '.join(known)}")
    print(f"{'result':16} {'CPU s':>9}  evaluations by network")
    for name in wanted or known:
        result = load_result(find(name, config))
        if getattr(result, "track", None) in (None, track.track):  # or a sweep of other parts
            own = {store: costs.of_all(store) for store in result.stores(track)}
            counted |= own
            print(line(name, own), flush=True)
    print(line("all together", counted))


def line(name: str, stores: Mapping[str, Counter[str]]) -> str:
    """CPU seconds, where they are known, and evaluations by network, of some stores."""
    asked = sum(stores.values(), Counter())
    known = asked.keys() <= SECONDS.keys()
    seconds = f"{sum(SECONDS[n] * count for n, count in asked.items()):,.0f}" if known else "-"
    return f"{name:16} {seconds:>9}  " + ", ".join(f"{n} {c:,}" for n, c in asked.items())


if __name__ == "__main__":
    main(load_config([*sys.argv, "config/large.yaml"][1]), sys.argv[2:])
