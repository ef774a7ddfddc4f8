"""Tables of the paper as data: rows are chains of roles with the paper's own numbers beside them.

config/tables/NAME.yaml says which chains a table compares, how they are attacked and how judged.
A row that the track cannot serve says why, and has no numbers; a row that the paper only quotes has
the paper's numbers and their source. puriflow.results.measures builds any table from the stores.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from puriflow.chain import Chain, shard_names, victim_name
from puriflow.config import NONE, Config, Evaluation, Model, validated
from puriflow.errors import UserError
from puriflow.store import open_stage

# Families of the roles that a row names.
ROLES = {
    "dataset": "datasets",
    "restorer": "restorers",
    "purifier": "purifiers",
    "classifier": "classifiers",
}

# Of `kind name`: what serves it, why it is unavailable, its note, (for a data set) its shards and
# (where costs are counted, for a restorer) its specification; of `evaluation name`, its numbers.
Roles = dict[str, dict[str, Any]]


class Paper(BaseModel):
    """The paper's numbers of a row, accuracies in percent; None where it has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    standard: float | None = Field(None, ge=0, le=100)
    robust: float | None = Field(None, ge=0, le=100)
    n: int | None = Field(None, description="of images, where it is known")
    source: str | None = Field(None, description="whose numbers these are, if not the paper's own")
    macs_g: float | None = Field(None, ge=0, description="of the restorer; the paper's FLOPs")
    params_m: float | None = Field(None, ge=0, description="of the restorer")


class Threat(BaseModel):
    """An attack, and through what it goes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attack: str
    victim: Literal["classifier", "defence"] = Field(
        "classifier", description="preprocessor-blind, or adaptive"
    )
    surrogate: str | None = Field(
        None, description="purifier that the attack goes through in place of the defence's"
    )


def _threats(given: object) -> object:
    """One attack may be written as its name or its mapping alone."""
    listed = given if isinstance(given, list | tuple) else [given]
    return [{"attack": threat} if isinstance(threat, str) else threat for threat in listed]


Threats = Annotated[tuple[Threat, ...], BeforeValidator(_threats), Field(min_length=1)]


class Row(BaseModel):
    """One chain: its roles, where they differ from the table's.

    Several attacks give the worst of them, by the evaluation's `minimum`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    type: str
    dataset: str | None = None
    classifier: str | None = None
    attack: Threats | None = None
    restorer: str | None = None
    purifier: str | None = None
    evaluation: str | None = None
    quoted: str | None = Field(None, description="whose numbers the paper quotes; nothing is run")
    paper: Paper = Paper()
    note: str = ""


class Table(BaseModel):
    """A table: the roles that its rows share, and the rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    source: str
    dataset: str
    classifier: str
    attack: Threats
    restorer: str = NONE
    purifier: str = NONE
    evaluation: str = "single"
    costs: bool = Field(False, description="also count the restorers' MACs and parameters")
    rows: tuple[Row, ...] = Field(min_length=1)

    def role(self, row: Row, name: str) -> Any:
        """The role of a row (or its attacks, or its evaluation), or else the table's."""
        own = getattr(row, name)
        return getattr(self, name) if own is None else own

    def run(self) -> tuple[Row, ...]:
        """The rows that are computed, and not quoted."""
        return tuple(row for row in self.rows if row.quoted is None)

    def clean(self, row: Row, draws: int) -> Chain:
        """The chain of clean images, each purified `draws` times."""
        roles = {name: self.role(row, name) for name in ROLES}
        return Chain(**roles, draws=1 if roles["purifier"] == NONE else draws)

    def attacked(self, row: Row, draws: int) -> list[Chain]:
        """The chains of attacked images, one for each attack."""
        clean = self.clean(row, draws)
        chains = []
        for threat in self.role(row, "attack"):
            victim = clean.classifier
            if threat.victim == "defence":
                purifier = threat.surrogate or clean.purifier
                victim = victim_name(clean.restorer, purifier, clean.classifier)
            chains.append(replace(clean, attack=threat.attack, victim=victim))
        return chains


def load_table(path: str | Path) -> Table:
    """Read and check a table's file.

    Raises:
        UserError: it is missing, or says something that is not known.
    """
    return load(Table, path, "table")


def load(model: type[Model], path: str | Path, what: str) -> Model:
    """Read a YAML file of results to build, and check it by its model.

    Raises:
        UserError: it is missing, or says something that is not known.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{what} {path}: {' '.join(str(error).split())}") from None
    return validated(model, raw, f"{what} {path}")


def serving(config: Config, family: str, name: str) -> dict[str, Any]:
    """What serves a role, why it is unavailable, its note, and (for a data set) its shards.

    Raises:
        UserError: the configuration does not know the role.
    """
    role = config.role(family, name)
    return {
        "served_by": role.served_by or role.zoo or name,
        "unavailable": config.why_unavailable(family, name),
        "note": role.note,
        "shards": getattr(role, "shards", None),
    }


def named(table: Table, row: Row) -> Iterator[tuple[str, str]]:
    """Kind and name of every role of a row, without `none`."""
    for kind in ROLES:
        if (name := table.role(row, kind)) != NONE:
            yield kind, name
    for threat in table.role(row, "attack"):
        yield "attack", threat.attack
        if threat.surrogate is not None:
            yield "purifier", threat.surrogate


def served(table: Table, config: Config) -> Roles:
    """What a table says of the roles that it names: all that it needs of a configuration.

    Raises:
        UserError: a row names a role or an evaluation that the configuration does not know.
    """
    roles: Roles = {}
    for row in table.run():
        for kind, name in named(table, row):
            roles[f"{kind} {name}"] = serving(config, f"{kind}s", name)
        name = table.role(row, "evaluation")
        roles[f"evaluation {name}"] = config.evaluation(name).model_dump()
        restorer = table.role(row, "restorer")
        if table.costs and restorer != NONE and unavailable(table, row, roles) is None:
            roles[f"restorer {restorer}"]["spec"] = config.spec("restorers", restorer)
        _check_verdict(table, row, roles)
    return roles


def _check_verdict(table: Table, row: Row, roles: Roles) -> None:
    """An attack's verdict is about its victim: refuse to take it for one about another defence."""
    if evaluation(table, row, roles).rule == "attack":
        for chain in chains(table, row, roles)[1]:
            if not chain.adaptive:
                raise UserError(
                    f"table row {row.method!r}: {chain.attack} goes through {chain.victim}, so its "
                    "own verdict (rule `attack`) is not about this defence; name another evaluation"
                )


def evaluation(table: Table, row: Row, roles: Roles) -> Evaluation:
    """How a row is judged."""
    return Evaluation(**roles[f"evaluation {table.role(row, 'evaluation')}"])


def chains(table: Table, row: Row, roles: Roles) -> tuple[Chain, list[Chain]]:
    """The chain of clean images and those of attacked ones."""
    how = evaluation(table, row, roles)
    # An attack's own verdict is in its store; clean images are asked several times beside it.
    attacked = 1 if how.rule == "attack" else how.draws
    return table.clean(row, how.draws), table.attacked(row, attacked)


def unavailable(table: Table, row: Row, roles: Roles) -> str | None:
    """Why this track cannot serve a row; None if it can."""
    for kind, name in named(table, row):
        if reason := roles[f"{kind} {name}"]["unavailable"]:
            return f"{kind} {name}: {reason}"
    return None


def shards_of(chain: Chain, roles: Roles) -> list[str]:
    """Names of the shards of a chain's data set."""
    return shard_names(roles[f"dataset {chain.dataset}"]["shards"])


def needed(table: Table, roles: Roles) -> list[str]:
    """Folders, below the results, of all stores that a table reads, once each."""
    folders: dict[str, None] = {}
    for row in table.run():
        if unavailable(table, row, roles) is None:
            clean, attacked = chains(table, row, roles)
            for chain in (clean, *attacked):
                for shard in shards_of(chain, roles):
                    folders.update({chain.folder(stage, shard): None for stage in chain.stages()})
    return list(folders)


def final_images(
    table: Table, roles: Roles, results: Path, count: int
) -> Iterator[tuple[str, np.ndarray]]:
    """For a contact sheet: clean and attacked images (n, 3, H, W), then each row's purified."""
    shown: set[str] = set()
    for row in table.run():
        if unavailable(table, row, roles) is not None:
            continue
        for chain in chains(table, row, roles)[1]:
            shard = shards_of(chain, roles)[0]
            last = chain.before(chain.last)
            final = row.method if chain.draws == 1 else f"{row.method}: not purified"
            for label, stage in (("clean", "images"), ("attacked", "attack"), (final, last)):
                if (folder := chain.folder(stage, shard)) not in shown:
                    shown.add(folder)
                    yield label, open_stage(results / folder).read("images", 0, count)
