"""Finished stores in their places below a folder of results, as the stages would leave them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from tiny_stores import made_by

from puriflow.chain import Chain
from puriflow.config import Config
from puriflow.lineage import Place
from puriflow.provenance import weights_hashes
from puriflow.results.measures import Stores
from puriflow.store import MANIFEST, Stage, Writer, open_stage

ATTACKED = Chain("cifar10", "pgd-linf8", "wrn-28-10", "mdsr-x2", "none", "wrn-28-10")
CLEAN = replace(ATTACKED, attack="none", victim="none")
OTHER = replace(ATTACKED, attack="pgd-linf4")
ANOTHER = replace(ATTACKED, classifier="wrn-70-16")
SHARD = "0-of-1"
MACHINE = {"device": "cpu"}
SEED = 0


def put(
    results: Path,
    folder: str,
    track: Config,
    arrays: dict[str, np.ndarray],
    *,
    labels: np.ndarray,
    indices: np.ndarray,
    name: str = "images",
    **numbers: float,
) -> Stage:
    """Write the store of a folder, by the parts of a track, from the store before it if there is.

    `numbers` are parameters of the stage, beside its parts and what its place says.
    """
    place = Place.of(results / folder)
    assert place is not None
    parts, source = track.parts(place.parts), place.source
    made_from = source is not None and (source.folder / MANIFEST).is_file()
    upstream = open_stage(source.folder) if made_from else None
    if place.stage == "images":
        drawn = track.dataset(place.names["dataset"])
        numbers = {"subset": drawn.subset, "subset_seeds": drawn.subset_seeds, **numbers}
    entries = {role: part.entry() for role, part in parts.items()}
    provenance = made_by(
        place.stage,
        parameters={**entries, **place.numbers, **numbers},
        seed=SEED,
        weights=weights_hashes(parts.values()),
        upstream={} if upstream is None else {source.stage: upstream.identity},
    )
    samples = {"labels": labels, "indices": indices}
    writer = Writer(results / folder, name, provenance=provenance, machine=MACHINE, **samples)
    writer.write(0, arrays, 1.0)
    return writer.finish()


class Made:
    """Stores of chains below a folder, of four images unless another number is asked for."""

    def __init__(self, results, track):
        self.results, self.track = results, track

    def copied(self, results):
        """The same below another folder."""
        shutil.copytree(self.results, results)
        return Made(results, self.track)

    def put_all(self, *chains):
        """Write the stores of chains."""
        for chain in chains:
            for stage in chain.stages():
                if not self.place(chain, stage).is_dir():
                    self.put(chain, stage)

    def place(self, chain, stage, shard=SHARD):
        return self.results / chain.folder(stage, shard)

    def put(self, chain, stage, *, seed=0, n=4, first=0, shard=SHARD):
        """Write a store, in place of one that is there; `seed` is of its values."""
        folder = chain.folder(stage, shard)
        shutil.rmtree(self.results / folder, ignore_errors=True)
        random = np.random.default_rng([seed, *folder.encode()])
        shape = (n, 3, 8, 8) if stage != "classify" else (n, 10)
        name = "images" if stage != "classify" else "logits"
        arrays = {name: random.random(shape, dtype=np.float32)}
        if stage == "attack":
            arrays["success"] = np.ones(n, dtype=bool)
        numbers = np.arange(first, first + n)
        samples = {"labels": numbers % 10, "indices": numbers, "name": name}
        return put(self.results, folder, self.track, arrays, **samples)

    def copy(self, source, chain, stage):
        """Put the store of one chain in the place of another."""
        shutil.rmtree(self.place(chain, stage))
        shutil.copytree(self.place(source, stage), self.place(chain, stage))

    def measure(self):
        return Stores(self.track, self.results).measure(ATTACKED)
