"""The leaderboard: all rows of tables and sweeps that are built, and records of others, as JSON.

A row becomes a record of the schema of `puriflow.benchmark`, with what made it. A record of
somebody else's is taken in as a file of `leaderboard/` below the results, if it fits the schema and
is of the same images as a data set here: others could not be compared.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from puriflow.atomic import write_text
from puriflow.attacks.ball import fraction
from puriflow.benchmarking.presets import weaknesses
from puriflow.benchmarking.record import (
    CLASSIFIER,
    DEFENCE,
    SCHEMA,
    Accuracies,
    Accuracy,
    Attacked,
    Benchmark,
    Defended,
    MadeBy,
    Outcome,
    digest_of,
)
from puriflow.chain import Chain
from puriflow.config import NONE, Config
from puriflow.errors import UserError, on_disk
from puriflow.metrics.accuracy import wilson
from puriflow.metrics.rules import Rule
from puriflow.provenance import identified
from puriflow.results import find, load_result, names
from puriflow.results.base import served_by
from puriflow.results.measures import Stores
from puriflow.results.rows import Row, Threat
from puriflow.results.sweep import Sweep
from puriflow.results.table import Table
from puriflow.store import Stage

BEHIND_RESULTS = False
FOLDER = "leaderboard"  # of what others made, below the results


def board(track: Config, results: Path, config: Path) -> tuple[list[Benchmark], dict[str, str]]:
    """All records, and why rows have none: not built, or of another track.

    Args:
        track: of the results.
        results: the folder of all stores and results.
        config: the folder whose `tables/` say what rows there are.
    """
    records, left_out = [], {}
    stores = Stores(track, results)
    for title, table, row in rows_of(track, config):
        try:
            records.append(record_of(title, table, row, stores))
        except UserError as error:
            left_out[title] = str(error)
    return [*records, *added(results)], left_out


def rows_of(track: Config, config: Path) -> Iterator[tuple[str, Table, Row]]:
    """The rows of all tables and sweeps that a track serves, and what each is called."""
    known = names(config)
    for name in [*known.get("tables", []), *known.get("sweeps", [])]:
        result = load_result(find(name, config))
        if isinstance(result, Table):
            yield from ((f"{name}: {row.method}", result, row) for row in result.served(track))
        elif isinstance(result, Sweep) and result.track in (None, track.track):
            for row in result.served(track):
                _, (attacked,) = result.table.chains(track, row)
                roles = (attacked.restorer, attacked.purifier, attacked.classifier)
                said = ", ".join((attacked.dataset, attacked.attack, *roles))
                yield f"{name}: {said}", result.table, row


def written(records: list[Benchmark]) -> str:
    """The leaderboard as JSON."""
    said = [record.model_dump(by_alias=True) for record in records]
    return json.dumps({"schema": SCHEMA, "records": said}, indent=1, allow_nan=False) + "\n"


def added(results: Path) -> list[Benchmark]:
    """The records of others."""
    files = sorted((results / FOLDER).glob("*.json"))
    return [Benchmark.from_json(file, where=str(file)) for file in files]


def add(file: Path, track: Config, results: Path) -> Path:
    """Take a record of somebody else's in: the file that it has here.

    Raises:
        UserError: it does not fit the schema, or is of no data set of the track that is stored
            here; or another record has its name.
    """
    record = Benchmark.from_json(file, where=f"record {file}")
    stores = Stores(track, results)
    here = dict(_digests(track, stores))
    if not here:
        raise UserError(f"no images are stored below {results}, to compare the record's with")
    mine = (record.made_by.images, record.made_by.labels)
    if mine not in here.values():
        known = ", ".join(here)
        raise UserError(
            f"record {file} is of other images or labels (by their sha256) than {known} of track "
            f"{track.track}: it cannot stand beside them"
        )
    place = results / FOLDER / file.name
    text = record.to_json()
    with on_disk(place):
        if place.is_file() and place.read_text() != text:
            raise UserError(f"{place} is another record: rename {file}")
        place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, text)
    return place


def _digests(track: Config, stores: Stores) -> Iterator[tuple[str, tuple[str, str]]]:
    """Hashes of images and of labels of each data set that is stored."""
    for name in track.datasets:
        try:
            yield name, hashes(Chain(name), stores)
        except UserError:
            continue  # it is not there


@cache
def hashes(chain: Chain, stores: Stores) -> tuple[str, str]:
    """Hashes of the clean images of a chain, and of their labels, as `puriflow.benchmark`'s."""
    images, labels = (stores.read(chain, "images", array) for array in ("images", "label"))
    return digest_of(images), digest_of(labels)


def record_of(title: str, table: Table, row: Row, stores: Stores) -> Benchmark:
    """The record of a row of a table, or of what a sweep has of one.

    Raises:
        UserError: its stores are not there, or are not what the track says.
    """
    track = stores.track
    clean, attacked = table.chains(track, row)
    evaluation = track.evaluation(table.role(row, "evaluation"))
    rule = evaluation.rule
    right = table.outcomes(track, row, stores)
    under = [stores.measure(chain).by(rule) for chain in attacked]
    worst = np.argmin(under, axis=0)
    threats = zip(table.role(row, "attack"), attacked, under, strict=True)
    made = [attack_of(track, rule, *threat, stores) for threat in threats]
    ball = ball_of(made[0].options)
    notes = [note for chain in attacked for note in weaker(track, chain)]
    return Benchmark(
        schema=SCHEMA,
        title=title,
        defence=defence_of(track, clean),
        attack=", ".join(attack.name for attack in made),
        cut="; ".join(dict.fromkeys(filter(None, notes))),
        norm=ball["norm"],
        eps=ball["eps"],
        n=len(right["robust"]),
        n_draws=clean.n_draws,
        seed=track.seed,
        standard=accuracy_of(rule, right["standard"]),
        robust=accuracy_of(rule, right["robust"]),
        attacks=made,
        images=[
            Outcome(
                label=int(label),
                standard={rule: float(right["standard"][i])},
                robust={rule: float(right["robust"][i])},
                attack=made[worst[i]].name,
            )
            for i, label in enumerate(stores.read(clean, "images", "label"))
        ],
        audit=audit_of(table, row, stores),
        made_by=made_by(
            [*stages(clean, stores), *(s for c in attacked for s in stages(c, stores))],
            hashes(Chain(clean.dataset), stores),
        ),
    )


def weaker(track: Config, chain: Chain) -> Iterator[str]:
    """What makes the attack of a chain weaker than it might be."""
    yield track.served("attack", chain.attack).note
    options = track.part("attack", chain.attack).complete()
    yield from weaknesses(options, random=chain.purifier != NONE)
    if not chain.adaptive:
        yield f"{chain.attack} goes through {chain.victim}, and does not know the whole defence"


def accuracy_of(rule: Rule, right: np.ndarray) -> Accuracies:
    """The accuracy by a rule, of how right a row is about each image (n,)."""
    interval = wilson(float(right.sum()), len(right))
    return {rule: Accuracy(share=float(right.mean()), interval=interval)}


def through(track: Config, threat: Threat, chain: Chain) -> str:
    """What an attack of a table goes through, in words; a surrogate by the name of what serves it.

    A defence that is its own surrogate is attacked itself.
    """
    if threat.victim == "classifier":
        return CLASSIFIER
    if chain.adaptive or threat.surrogate is None:
        return DEFENCE
    return f"{DEFENCE} with {served_by(track, 'purifier', threat.surrogate)}"


def attack_of(
    track: Config, rule: Rule, threat: Threat, chain: Chain, under: np.ndarray, stores: Stores
) -> Attacked:
    """What an attack on a row left."""
    stored = stores.shards(chain, "attack")
    seconds = [s for stage in stored if (s := stage.seconds_per_image) is not None]
    return Attacked(
        name=chain.attack,
        through=through(track, threat, chain),
        options=dict(stored[0].manifest["parameters"]["attack"]),
        robust=accuracy_of(rule, under),
        passes=float(np.concatenate([stage.read("queries") for stage in stored]).mean()),
        seconds=float(np.mean(seconds)) if seconds else 0.0,
    )


def ball_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The norm and the radius of an attack's options."""
    return {"norm": options.get("norm", "Linf"), "eps": fraction(options["eps"])}


def defence_of(track: Config, chain: Chain) -> Defended:
    """What a row judges, by the names and the identities of its parts."""
    roles = {role: getattr(chain, role) for role in ("restorer", "purifier", "classifier")}
    named = [served_by(track, role, name) for role, name in roles.items() if name != NONE]
    entries = {role: identified(part) for role, part in track.parts(roles).items()}
    digest = hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
    return Defended(
        name=" + ".join(named),
        random=chain.purifier != NONE,
        parameters=None,
        network_evaluations=None,
        sha256=digest,
    )


def stages(chain: Chain, stores: Stores) -> list[Stage]:
    """The stores along a chain."""
    return [store for stage in chain.stages() for store in stores.shards(chain, stage)]


def made_by(stored: list[Stage], images: tuple[str, str]) -> MadeBy:
    """What made the stores behind a row: the newest of versions and machines, and all code."""
    manifests = [stage.manifest for stage in stored]
    codes = sorted({manifest["code"] for manifest in manifests})
    found: dict[str, str] = {}
    for manifest in manifests:
        found |= manifest["versions"]
    return MadeBy(
        puriflow=found["puriflow"],
        code=hashlib.sha256("".join(codes).encode()).hexdigest(),
        versions=found,
        images=images[0],
        labels=images[1],
        machine=dict(manifests[-1]["machine"]),
    )


def audit_of(table: Table, row: Row, stores: Stores) -> dict[str, Any] | str:
    """The audit of a row's attack, or why there is none."""
    if table.audit is None:
        return "the table asks for none"
    name = table.audit_of(stores.track, row)
    file = stores.results / name
    with on_disk(file):
        return json.loads(file.read_text()) if file.is_file() else f"{name} is not built"
