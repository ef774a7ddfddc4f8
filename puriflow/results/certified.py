"""Certified accuracy against radius as data: rows are smoothed chains, config/certified/NAME.yaml.

One function builds the curves of any file from the stores of `certify`, another draws them. A row
that the track cannot serve says why, and has no numbers.
"""

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from puriflow.chain import shard_names
from puriflow.config import NONE, Config
from puriflow.metrics.accuracy import wilson
from puriflow.metrics.certified import ABSTAIN, certified_hits
from puriflow.results.table import Roles, load, serving
from puriflow.store import Stage, open_stage

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Families of the roles that a row names, in the order of the path of a store.
ROLES = {
    "dataset": "datasets",
    "restorer": "restorers",
    "denoiser": "networks",
    "purifier": "purifiers",
    "classifier": "classifiers",
}
COLUMNS = (
    "method",
    *ROLES,
    "sigma",
    "n0",
    "draws",
    "alpha",
    "n",
    "radius",
    "certified_accuracy",
    "low",
    "high",
    "standard",
    "abstained",
    "note",
)


class Row(BaseModel):
    """One smoothed chain: its noise, and its roles where they differ from the file's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    sigma: float = Field(gt=0, description="standard deviation of the noise, on [0, 1]")
    dataset: str | None = None
    restorer: str | None = None
    denoiser: str | None = None
    purifier: str | None = None
    classifier: str | None = None
    note: str = ""


class Curves(BaseModel):
    """A file of curves: the roles that its rows share, the radii, and the rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    source: str
    dataset: str
    classifier: str
    restorer: str = NONE
    denoiser: str = NONE
    purifier: str = NONE
    radii: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)
    rows: tuple[Row, ...] = Field(min_length=1)

    def chain(self, row: Row) -> dict[str, str]:
        """The role of each kind in a row."""
        return {kind: getattr(row, kind) or getattr(self, kind) for kind in ROLES}


def load_curves(path: str | Path) -> Curves:
    """Read and check a file of curves.

    Raises:
        UserError: it is missing, or says something that is not known.
    """
    return load(Curves, path, "curves")


def smoothing_spec(config: Config, roles: dict[str, str]) -> dict[str, Any]:
    """What `puriflow certify` takes beside sigma: the track's numbers of draws, and the parts.

    Raises:
        UserError: a role is unknown or unavailable on this track.
    """
    used = {kind: name for kind, name in roles.items() if name != NONE}
    parts = {kind: config.spec(ROLES[kind], name) for kind, name in used.items()}
    return {**config.certification.model_dump(), **parts}


def folder(chain: dict[str, str], sigma: float, shard: str) -> str:
    """Path of a store below the results: stage, roles, sigma, shard."""
    return str(PurePosixPath("certify", *(chain[kind] for kind in ROLES), f"{sigma:g}", shard))


def served(curves: Curves, config: Config) -> Roles:
    """What a file of curves says of the roles that it names: all it needs of a configuration.

    Raises:
        UserError: a row names a role that the configuration does not know.
    """
    roles: Roles = {}
    for row in curves.rows:
        for kind, name in curves.chain(row).items():
            if name != NONE:
                roles[f"{kind} {name}"] = serving(config, ROLES[kind], name)
    return roles


def unavailable(chain: dict[str, str], roles: Roles) -> str | None:
    """Why this track cannot serve a chain; None if it can."""
    for kind, name in chain.items():
        if name != NONE and (reason := roles[f"{kind} {name}"]["unavailable"]):
            return f"{kind} {name}: {reason}"
    return None


def stores(chain: dict[str, str], sigma: float, roles: Roles) -> list[str]:
    """Folders, below the results, of the stores of a chain: one for each shard."""
    shards = shard_names(roles[f"dataset {chain['dataset']}"]["shards"])
    return [folder(chain, sigma, shard) for shard in shards]


def needed(curves: Curves, roles: Roles) -> list[str]:
    """Folders, below the results, of all stores that the curves read, once each."""
    chains = [(curves.chain(row), row.sigma) for row in curves.rows]
    found = [stores(*one, roles) for one in chains if unavailable(one[0], roles) is None]
    return list(dict.fromkeys(folder for folders in found for folder in folders))


@dataclass(frozen=True)
class Measures:
    """What is measured of one smoothed chain.

    Attributes:
        n: images.
        draws: n0, draws (Cohen et al.'s n) and alpha, as the stores say.
        hits: images certified at each radius.
        right: images that PREDICT answers rightly.
        abstained: images for which CERTIFY abstains.
    """

    n: int
    draws: dict[str, float]
    hits: list[int]
    right: int
    abstained: int


def measure(opened: list[Stage], radii: tuple[float, ...]) -> Measures:
    """Measure a smoothed chain from its stores, one for each shard."""

    def read(name: str) -> np.ndarray:
        return np.concatenate([stage.read(name) for stage in opened])

    made = opened[0].manifest["parameters"]
    labels, predictions = read("label"), read("prediction")
    return Measures(
        n=len(labels),
        draws={"n0": made["n0"], "draws": made["n"], "alpha": made["alpha"]},
        hits=certified_hits(predictions, read("radius"), labels, radii),
        right=int((read("answer") == labels).sum()),
        abstained=int((predictions == ABSTAIN).sum()),
    )


def build_curves(curves: Curves, roles: Roles, results: Path) -> list[dict[str, Any]]:
    """The rows of the CSV: one for each chain and radius; shares of images in percent."""
    rows = []
    for row in curves.rows:
        chain = curves.chain(row)
        said = _described(row, chain, roles)
        if unavailable(chain, roles) is not None:
            rows.append(said)
            continue
        opened = [open_stage(results / store) for store in stores(chain, row.sigma, roles)]
        found = measure(opened, curves.radii)
        said |= {
            **found.draws,
            "n": found.n,
            "standard": _percent(found.right / found.n),
            "abstained": _percent(found.abstained / found.n),
        }
        for radius, hits in zip(curves.radii, found.hits, strict=True):
            shares = (hits / found.n, *wilson(hits, found.n))
            names = ("certified_accuracy", "low", "high")
            percents = dict(zip(names, map(_percent, shares), strict=True))
            rows.append({**said, "radius": radius, **percents})
    return rows


def _described(row: Row, chain: dict[str, str], roles: Roles) -> dict[str, Any]:
    """A row without our numbers: what serves its roles, and the notes."""
    used = {kind: roles[f"{kind} {name}"] for kind, name in chain.items() if name != NONE}
    names = {kind: used[kind]["served_by"] if kind in used else NONE for kind in chain}
    notes = [unavailable(chain, roles), row.note, *(role["note"] for role in used.values())]
    note = "; ".join(filter(None, dict.fromkeys(notes)))
    return {"method": row.method, **names, "sigma": row.sigma, "note": note}


def _percent(share: float) -> float:
    return round(100 * share, 2)


def write_curves(curves: Curves, roles: Roles, results: Path, out: Path) -> None:
    """Write the CSV of a file of curves."""
    import pandas as pd

    rows = build_curves(curves, roles, results)
    whole = dict.fromkeys(("n0", "draws", "n"), "Int64")
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(whole)
    out.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out, index=False)


def plot_curves(csv: Path, title: str, out: Path) -> None:
    """Draw certified accuracy against radius: a panel for each sigma, a colour for each method.

    Args:
        csv: of `write_curves`.
        title: above the picture.
        out: .png or .svg.
    """
    import pandas as pd

    from puriflow.plots.style import save, styled

    rows = pd.read_csv(csv, keep_default_na=False, na_values=[""]).dropna(subset="radius")
    with styled(text=10):
        save(_panels(rows, title), [out])


def _panels(rows: "pd.DataFrame", title: str) -> "Figure":
    """All panels, and what they share."""
    from matplotlib import pyplot as plt

    sigmas = sorted(rows["sigma"].unique())
    count = max(len(sigmas), 1)
    reached = rows.loc[rows["certified_accuracy"] > 0, "radius"].max()
    size = (1 + 3.6 * count, 4)
    drawn, places = plt.subplots(1, count, figsize=size, sharey=True, squeeze=False)
    wheel = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    colours = dict(zip(rows["method"].unique(), cycle(wheel), strict=False))
    for axes, sigma in zip(places[0], sigmas, strict=False):
        _draw(axes, rows[rows["sigma"] == sigma], colours)
        axes.set_xlim(0, 1.2 * reached if reached > 0 else None)
        axes.set_title(f"$\\sigma$ = {sigma:g}")
    places[0, 0].set_ylabel("certified accuracy (%)")
    if len(rows):
        n, draws, alpha = rows[["n", "draws", "alpha"]].iloc[0]
        title += f"\n{n:.0f} images, {draws:.0f} draws, alpha = {alpha:g}, 95 % Wilson intervals"
        handles, names = places[0, 0].get_legend_handles_labels()
        drawn.legend(handles, names, loc="outside lower center", ncols=len(names))
    drawn.suptitle(title, fontsize="medium")
    return drawn


def _draw(axes: "Axes", curves: "pd.DataFrame", colours: dict[str, str]) -> None:
    """One panel. Between two radii a curve has the value of the larger: it is certified there."""
    for method, curve in curves.groupby("method", sort=False):
        x, y, colour = curve["radius"], curve["certified_accuracy"], colours[method]
        axes.step(x, y, where="pre", color=colour, marker="", label=method)
        axes.fill_between(x, curve["low"], curve["high"], step="pre", color=colour, alpha=0.1, lw=0)
    axes.set_ylim(0, 100)
    axes.set_xlabel(r"$\ell_2$ radius on [0, 1] images")
