"""The page as a folder: `index.html` with all that it needs, and `images/` beside it."""

import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from puriflow.atomic import publish
from puriflow.config import Config
from puriflow.errors import UserError, on_disk
from puriflow.site import plot
from puriflow.site.board import board
from puriflow.site.ours import Found, Gathering
from puriflow.site.reading import entries_of

BEHIND_RESULTS = False
PAGE = "index.html"
HERE = Path(__file__).parent
TITLE = "Adversarial purification, ranked protocol by protocol"
MINI = (
    "The rows of PuriFlow's mini track are of 6 to 20 images and of small networks that its "
    "authors trained, under attacks that are cut as each row says. They show what an attack does "
    "to a kind of defence, on a machine without a GPU; they are not the numbers of the published "
    "networks."
)
CHARTS: dict[str, tuple[str, Literal["log", "symlog"]]] = {
    "seconds": ("seconds an image", "log"),
    "evaluations": ("network evaluations an image", "symlog"),
}


def write_site(
    out: Path,
    records: Sequence[Path] = (),
    *,
    track: Config | None = None,
    results: Path = Path("results"),
    config: Path = Path("config"),
    configfile: Path | None = None,
) -> Found:
    """Write the page of all rows that are built, and of others' records, into a new folder.

    Args:
        out: the folder, which is not there or is empty.
        records: files of others: of `puriflow.benchmark`, or of `puriflow results --json`.
        track: of results, whose stores have rows; None for `records` alone.
        results: the folder of its stores.
        config: the folder of its tables; see `Gathering`.
        configfile: see there.

    Returns:
        The rows of this track, and which were left out.

    Raises:
        UserError: there is no row, a file is no record, or the folder is not empty.
    """
    with on_disk(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} is there, and is no empty folder: name a new one")
        theirs = [entry for file in records for entry in entries_of(file)]
        scripts = plot.scripts()  # before anything is read that takes long
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as made:
            folder = Path(made, "site")
            folder.mkdir()
            found = Found()
            if track is not None:
                found = Gathering(track, results, config, folder, configfile).found()
                theirs += _taken_in(results)
            protocols = board([*found.entries, *theirs])
            if not protocols:
                raise UserError(_why_empty(found, None if track is None else results))
            mini = track is not None and track.track == "mini" and bool(found.entries)
            text = page(protocols, found.quoted, scripts, MINI if mini else "")
            (folder / PAGE).write_text(text, encoding="utf-8")
            publish(folder, out)
    return found


def _taken_in(results: Path) -> Iterable[Any]:
    """Records of others that `puriflow results --add` took in."""
    for file in sorted((results / "leaderboard").glob("*.json")):
        yield from entries_of(file)


def _why_empty(found: Found, results: Path | None) -> str:
    broken = next((f"; {title}: {why}" for title, why in found.broken.items()), "")
    where = "no records are given" if results is None else f"nothing is built below {results}"
    cure = "build a table (snakemake results/table7.csv) first, or name files of records"
    return f"{where}, so there is no row{broken}: {cure}"


def page(
    protocols: list[dict[str, Any]], quoted: list[dict[str, Any]], scripts: str, note: str
) -> str:
    """The page as HTML, with its style, scripts, charts and data in it.

    Args:
        protocols: see `board`.
        quoted: rows that were not run, and why.
        scripts: that draw charts.
        note: what a reader must know of the numbers.
    """
    charts = {
        cost: {"title": title, "spec": plot.spec(cost, title, scale)}
        for cost, (title, scale) in CHARTS.items()
    }
    data = {"protocols": protocols, "quoted": quoted, "charts": charts}
    parts = {
        "title": html.escape(TITLE),
        "note": html.escape(note),
        "style": (HERE / "page.css").read_text(encoding="utf-8"),
        # No text of a record can end the element that it stands in.
        "data": json.dumps(data, allow_nan=False, ensure_ascii=True).replace("<", "\\u003c"),
        "vega": scripts.replace("</script", "<\\/script"),
        "script": (HERE / "page.js").read_text(encoding="utf-8"),
    }
    text = (HERE / "page.html").read_text(encoding="utf-8")
    before, *pieces = text.split("{{")
    for piece in pieces:
        name, _, after = piece.partition("}}")
        before += parts[name] + after
    return before
