"""Claims, their verdicts, and the documents that say them."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml
from docutils.core import publish_parts

from puriflow import claims as judging
from puriflow.claims import Claim, Comparison, judge, load_claims, row_of, verdict, write_claims
from puriflow.config import load_config
from puriflow.errors import Problem
from puriflow.metrics.accuracy import wilson
from puriflow.pages import Grid, Heading, as_html, as_markdown
from puriflow.summary import document, load_sources, write_summary
from puriflow.tables import Table, load_table, served

TABLE = {
    "title": "a title",
    "source": "Table 0",
    "dataset": "cifar10",
    "classifier": "wrn-28-10",
    "attack": "pgd-linf8",
    "rows": [
        {"method": "a | b", "type": "t", "paper": {"standard": 90, "robust": 50}},
        {"method": "c", "type": "t", "restorer": "mdsr-x2", "paper": {"robust": 40}},
        {"method": "q", "type": "t", "quoted": "them", "paper": {"robust": 45}},
        {"method": "d", "type": "t", "classifier": "gowal2020-wrn-28-10"},
    ],
}
ROBUST = {"column": "robust", "higher": "a | b", "lower": "c"}


@pytest.fixture(scope="module")
def config(repository):
    return load_config(repository / "config" / "config.yaml")


def values(right: list, **more) -> dict[str, np.ndarray]:
    """A row's outcomes of each image."""
    right = np.array(right, dtype=float)
    return {"robust": right, "standard": right, "index": np.arange(len(right)), **more}


def claim(*says: dict) -> tuple[Claim, ...]:
    return (Claim(table="t", section="5", quote="it *is* so", says=says),)


@pytest.mark.parametrize(
    ("higher", "lower", "said"),
    [
        ([1] * 6 + [0] * 4, [0] * 10, "holds"),
        ([0] * 10, [1] * 6 + [0] * 4, "does not hold"),
        ([1] * 5 + [0] * 5, [0] * 10, "not decidable"),
        ([1, 0] * 5, [1, 0] * 5, "not decidable"),
    ],
)
def test_verdicts(higher, lower, said):
    found = verdict(Comparison(**ROBUST), values(higher), values(lower))
    assert found["verdict"] == said
    assert found["n"] == 10
    assert found["difference"] == pytest.approx(100 * (np.mean(higher) - np.mean(lower)))


def test_cross_entropy_is_not_in_percent():
    said = Comparison(column="cross_entropy", higher="a", lower="c")
    rows = [values([0] * 9, cross_entropy=np.linspace(5, 6, 9) - shift) for shift in (0, 2.5)]
    rows[1]["cross_entropy"][0] += 0.5
    found = verdict(said, *rows)
    assert (found["ours_higher"], found["verdict"]) == (5.5, "holds")
    assert 2 < found["low"] < found["difference"] < found["high"] < 3


def test_other_images_are_not_compared():
    other = values([1, 0]) | {"index": np.array([3, 4])}
    with pytest.raises(Problem, match="not of the same images"):
        verdict(Comparison(**ROBUST), values([1, 0]), other)


def test_rows_that_were_not_run_say_why(config, monkeypatch, tmp_path):
    measured = {"a | b": values([1] * 6), "c": values([0] * 6)}
    monkeypatch.setattr(judging, "values_of", lambda *_: lambda row: measured[row.method])
    table = Table.model_validate(TABLE)
    roles = served(table, config)
    said = claim(ROBUST, ROBUST | {"lower": "q"}, ROBUST | {"lower": "d"})
    done, quoted, absent = judge(said, "t", table, roles, tmp_path)
    assert (done["verdict"], done["paper_higher"], done["paper_lower"]) == ("holds", 50, 40)
    assert (quoted["verdict"], quoted["note"]) == ("not measured", "q is quoted from them")
    assert absent["note"].startswith("classifier gowal2020-wrn-28-10: an official checkpoint")
    assert judge(said, "other", table, roles, tmp_path) == []


def test_a_claim_names_one_row_of_its_table():
    table = Table.model_validate(TABLE)
    with pytest.raises(Problem, match=r"unknown method of t 'a \| c': did you mean"):
        row_of(table, "t", "a | c")
    twice = Table.model_validate(TABLE | {"rows": TABLE["rows"][:1] * 2})
    with pytest.raises(Problem, match="2 rows"):
        row_of(twice, "t", "a | b")


def test_the_paper_s_claims_agree_with_its_own_numbers(repository):
    for one in load_claims(repository / "config" / "claims.yaml"):
        table = load_table(repository / "config" / "tables" / f"{one.table}.yaml")
        for said in one.says:
            rows = [row_of(table, one.table, method) for method in (said.higher, said.lower)]
            if said.column != "cross_entropy":
                higher, lower = (getattr(row.paper, said.column) for row in rows)
                assert higher > lower, said


def test_every_table_of_accuracies_has_claims(repository):
    claimed = {one.table for one in load_claims(repository / "config" / "claims.yaml")}
    tables = {file.stem for file in (repository / "config" / "tables").glob("table*.yaml")}
    assert claimed == tables


def _line(row: dict, hits: int | None) -> dict:
    """A row of a table's CSV with as many of six images robust; None for a row that was not run."""
    empty = ("standard", "standard_low", "standard_high", "paper_standard", "note")
    line = dict.fromkeys((*empty, "n", "robust", "robust_low", "robust_high"))
    line |= {"method": row["method"], "type": "t"}
    line["paper_robust"] = row.get("paper", {}).get("robust")
    if hits is not None:
        low, high = wilson(hits, 6)
        line |= {"n": 6, "robust": 100 * hits / 6, "robust_low": 100 * low}
        line["robust_high"] = 100 * high
    return line


@pytest.fixture
def results(config, tmp_path, monkeypatch):
    """CSVs as the other commands write them: sources, and the folder."""
    for name, what in [("table10", TABLE), ("table2", TABLE | {"source": "Table 2"})]:
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(what))
    rows = [_line(row, hits) for row, hits in zip(TABLE["rows"], (6, 0, None, None), strict=True)]
    folder = tmp_path / "results"
    (folder / "claims").mkdir(parents=True)
    table = Table.model_validate(TABLE)
    measured = {"a | b": values([1] * 6), "c": values([0] * 6)}
    monkeypatch.setattr(judging, "values_of", lambda *_: lambda row: measured[row.method])
    said = claim(ROBUST, ROBUST | {"lower": "q"})
    for name in ("table10", "table2"):
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
        out = folder / "claims" / f"{name}.csv"
        own = said if name == "table10" else ()
        own = tuple(c.model_copy(update={"table": name}) for c in own)
        write_claims(own, name, table, served(table, config), folder, out)
    sources = load_sources([tmp_path / "table10.yaml", tmp_path / "table2.yaml"], [])
    return sources, folder


def test_a_document_has_the_paper_beside_ours_and_the_verdicts(results):
    blocks = document(*results)
    assert [b.text for b in blocks if isinstance(b, Heading)][1:] == [
        "Table 2: a title",
        "Table 0: a title",
    ]
    verdicts = "holds 1, does not hold 0, not decidable 0, not measured 1"
    assert f"Verdicts on 2 comparisons: {verdicts}." in blocks
    grids = [block for block in blocks if isinstance(block, Grid)]
    assert [len(grid.rows) for grid in grids] == [4, 4, 2]  # Table 2 has no claims
    first, quoted = grids[1].rows[0], grids[1].rows[2]
    low, high = wilson(6, 6)
    assert first[5:7] == (f"100.00 ({100 * low:.2f} to {100 * high:.2f})", "50.00")
    assert quoted[5:7] == ("", "45.00")
    assert grids[2].rows[0][2:] == (
        "50.00 against 40.00",
        f"100.00 ({100 * (2 * 0.025 ** (1 / 6) - 1):.2f} to 100.00)",
        "6 for, 0 not",
        "holds at n = 6",
    )
    assert grids[2].rows[1][-1] == "not measured: q is quoted from them"


def test_documents_are_well_formed(results, tmp_path):
    sources, folder = results
    outs = [tmp_path / f"out/summary.{ending}" for ending in ("md", "html", "rst")]
    write_summary(sources, folder, outs)
    markdown, page, caption = (out.read_text() for out in outs)
    for block in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1, block
    assert page.count("<table>") == page.count("</table>") == 3
    strict = {"report_level": 2, "halt_level": 2}
    body = publish_parts(caption, writer_name="html", settings_overrides=strict)["body"]
    assert "it *is* so" in body
    assert "holds at n = 6" in body


def test_markup_is_escaped():
    blocks = [Heading("<h>", 2), "a & b", Grid(("x|y",), (("<td>",),))]
    assert "&lt;h&gt;" in as_html(blocks)
    assert "&lt;td&gt;" in as_html(blocks)
    assert "x\\|y" in as_markdown(blocks)


def test_mistakes(results, tmp_path):
    sources, folder = results
    with pytest.raises(Problem, match=r"must end in \.md"):
        write_summary(sources, folder, [tmp_path / "summary.txt"])
    (folder / "claims" / "table2.csv").unlink()
    with pytest.raises(Problem, match="build it first"):
        write_summary(sources, folder, [tmp_path / "summary.md"])
