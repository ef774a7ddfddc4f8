"""Claims, their verdicts, and the documents that say them."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml
from docutils.core import publish_parts

from puriflow.config import load_config
from puriflow.errors import UserError
from puriflow.metrics.accuracy import wilson
from puriflow.results.claims import (
    Claim,
    Comparison,
    judge,
    load_claims,
    overall,
    verdict,
    write_claims,
)
from puriflow.results.evidence import MeasuredEvidence, TableEvidence
from puriflow.results.figures.base import load_figure
from puriflow.results.pages import Grid, Heading, as_html, as_markdown
from puriflow.results.summary import document, load_sources, write_summary
from puriflow.results.table import Table, load_table, served
from puriflow.results.timing import load_timing

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


def values(right: list) -> dict[int, float]:
    """Outcomes by image."""
    return dict(enumerate(map(float, right)))


class Rows(TableEvidence):
    """A table whose outcomes of each image are given."""

    def __init__(self, table, roles, outcomes):
        super().__init__("t", table, roles, None)
        self.outcomes = outcomes

    def values(self, name, column, layer):
        return self.outcomes[name]


@pytest.fixture
def evidence(config):
    table = Table.model_validate(TABLE)
    return Rows(table, served(table, config), {"a | b": values([1] * 6), "c": values([0] * 6)})


def claim(*says: dict) -> tuple[Claim, ...]:
    return (Claim(about="t", section="5", quote="it *is* so", says=says),)


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


def test_cross_entropy_is_not_in_percent_and_one_image_does_not_drown_the_others():
    said = Comparison(column="cross_entropy", higher="a", lower="c")
    first = np.linspace(5, 6, 9)
    second = first - 1
    second[0] -= 60
    found = verdict(said, values(first), values(second))
    assert (found["ours_higher"], found["difference"], found["verdict"]) == (5.5, 1, "holds")
    assert (found["low"], found["high"]) == (1, 31)


def test_times_say_how_many_times_as_high(tmp_path):
    said = Comparison(column="seconds", higher="a", lower="c", factor=1054)
    found = verdict(said, values([4.0] * 9), values([1.0] * 8 + [2]))
    assert (found["verdict"], found["ours_factor"]) == ("holds", 4)


def test_counted_numbers_are_exact():
    said = Comparison(column="macs_g", higher="a", lower="c")
    assert verdict(said, {0: 224.94}, {0: 899.5})["verdict"] == "does not hold"
    assert verdict(said, {0: 899.5}, {0: 224.94})["verdict"] == "holds"
    assert verdict(said, {0: 899.5}, {0: 899.5})["verdict"] == "not decidable"


def test_other_images_are_not_compared():
    with pytest.raises(UserError, match="not of the same images"):
        verdict(Comparison(**ROBUST), values([1, 0]), {3: 1.0, 4: 0.0})


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (["holds", "holds", "not measured"], "holds"),
        (["holds", "does not hold", "not decidable"], "does not hold"),
        (["holds", "not decidable"], "not decidable"),
        (["not measured"], "not measured"),
    ],
)
def test_a_claim_is_as_good_as_its_comparisons(verdicts, said):
    assert overall(verdicts) == said


def test_rows_that_were_not_run_say_why(evidence):
    said = claim(ROBUST, ROBUST | {"lower": "q"}, ROBUST | {"lower": "d"})
    done, quoted, absent = judge(said, evidence)
    assert (done["verdict"], done["paper_higher"], done["paper_lower"]) == ("holds", 50, 40)
    assert (quoted["verdict"], quoted["note"]) == ("not measured", "q is quoted from them")
    assert absent["note"].startswith("classifier gowal2020-wrn-28-10: an official checkpoint")
    assert {line["claim_verdict"] for line in (done, quoted, absent)} == {"holds"}


def test_a_claim_names_one_row_of_its_table(evidence):
    with pytest.raises(UserError, match=r"unknown method of t 'a \| c': did you mean"):
        evidence.row("a | c")
    twice = Table.model_validate(TABLE | {"rows": TABLE["rows"][:1] * 2})
    with pytest.raises(UserError, match="2 rows"):
        Rows(twice, evidence.roles, {}).row("a | b")


MEASURED = [
    *({"line": "SR", "layer": "one", "index": i, "value": 1.0 + i} for i in range(6)),
    *({"line": "SR", "layer": "two", "index": i, "value": 9.0} for i in range(6)),
    *({"line": "AE", "layer": "one", "index": i, "value": 3.0 + i} for i in range(6)),
    *({"line": "AE", "layer": "two", "index": i, "value": 5.0} for i in range(6)),
    {"line": "lost", "note": "no such network"},
]


@pytest.fixture
def measured(tmp_path):
    file = tmp_path / "figure9.csv"
    pd.DataFrame(MEASURED).assign(metric="content_distance").to_csv(file, index=False)
    return MeasuredEvidence(file)


def test_a_figure_is_judged_layer_by_layer(measured):
    said = {"column": "content_distance", "higher": "AE", "lower": "SR"}
    each = judge(claim(said | {"layer": "each"}), measured)
    assert [(line["layer"], line["verdict"]) for line in each] == [
        ("one", "holds"),
        ("two", "does not hold"),
    ]
    (first,) = judge(claim(said | {"layer": "first"}), measured)
    assert (first["difference"], first["n"], first["claim_verdict"]) == (2, 6, "holds")
    (lost,) = judge(claim(said | {"lower": "lost", "layer": "each"}), measured)
    assert (lost["verdict"], lost["note"]) == ("not measured", "no such network")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lower": "SR2"}, "unknown line of figure9 'SR2': did you mean 'SR'"),
        ({"column": "mse"}, "'AE' has no mse"),
        ({"layer": None}, "content_distance needs a layer"),
    ],
)
def test_mistakes_in_a_claim_about_a_figure(measured, change, message):
    said = {"column": "content_distance", "higher": "AE", "lower": "SR", "layer": "first"}
    with pytest.raises(UserError, match=message):
        judge(claim(said | change), measured)


def sources_of(repository) -> dict:
    """All tables, figures and timings of the project, by name."""
    loaders = {"tables": load_table, "figures": load_figure, "timings": load_timing}
    return {
        file.stem: loader(file)
        for folder, loader in loaders.items()
        for file in (repository / "config" / folder).glob("*.yaml")
    }


def test_the_paper_s_claims_agree_with_its_own_numbers(repository):
    checked = 0
    sources = sources_of(repository)
    for one in load_claims(repository / "config" / "claims.yaml", sources):
        if isinstance(sources[one.about], Table):
            evidence = TableEvidence(one.about, sources[one.about], {}, None)
            for said in one.says:
                higher = evidence.paper(said.higher, said.column)
                lower = evidence.paper(said.lower, said.column)
                if said.column != "cross_entropy":
                    assert higher > lower, said
                    checked += 1
    assert checked > 70


def test_claims_about_figures_and_times_name_their_lines(repository):
    sources = sources_of(repository)
    states = ("attacked", "restored", "diffused", "purified")
    for one in load_claims(repository / "config" / "claims.yaml"):
        what = sources[one.about]
        if isinstance(what, Table):
            continue
        if hasattr(what, "lines"):
            labels = {line.label for line in what.lines}
            labels |= {f"{label}, {state}" for label in labels for state in states}
        else:
            parts = [(row.method, part) for row in what.rows for part in what.chain(row)]
            labels = {f"{method}, {part}" for method, part in parts}
        for said in one.says:
            assert {said.higher, said.lower} <= labels


def test_every_result_of_the_paper_has_claims(repository):
    claimed = {one.about for one in load_claims(repository / "config" / "claims.yaml")}
    results = {name for name in sources_of(repository) if name.startswith(("table", "figure"))}
    assert claimed == results - {"table8-times"}  # of which the paper says nothing but numbers


def test_a_claim_is_about_something_that_is_there(tmp_path):
    file = tmp_path / "claims.yaml"
    said = claim(ROBUST)[0].model_dump(exclude_none=True, mode="json")
    file.write_text(yaml.safe_dump({"claims": [said | {"about": "table77"}]}))
    with pytest.raises(UserError, match="'table77': did you mean 'table7'"):
        load_claims(file, ["table7", "figure2"])


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


FIGURE = {
    "kind": "rounds",
    "title": "rounds",
    "source": "Figure 1",
    "claim": "it *falls*",
    "how": "as it is.",
    "dataset": "imagenet",
    "classifier": "resnet50",
    "attack": "pgd-linf4",
    "lines": [{"label": "AE"}],
}


@pytest.fixture
def results(evidence, tmp_path):
    """CSVs as the other commands write them: sources, and the folder."""
    files = {
        "tables/table10": TABLE,
        "tables/table2": TABLE | {"source": "Table 2"},
        "figures/figure1": FIGURE,
    }
    for name, what in files.items():
        file = tmp_path / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(what))
    rows = [_line(row, hits) for row, hits in zip(TABLE["rows"], (6, 0, None, None), strict=True)]
    folder = tmp_path / "results"
    (folder / "claims").mkdir(parents=True)
    for name in ("table10", "table2", "figure1"):
        own = claim(ROBUST, ROBUST | {"lower": "q"}) if name == "table10" else ()
        write_claims(own, evidence, folder / "claims" / f"{name}.csv")
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    drawn = {"line": "AE", "dataset": "imagenet-foolbox20", "restorer": "none", "note": "a note"}
    pd.DataFrame([drawn]).to_csv(folder / "figure1.csv", index=False)
    return load_sources([tmp_path / f"{name}.yaml" for name in files]), folder


def test_a_document_has_the_paper_beside_ours_and_the_verdicts(results):
    blocks = document(*results)
    assert [b.text for b in blocks if isinstance(b, Heading)][1:] == [
        "Table 2: a title",
        "Table 0: a title",
        "Figure 1: rounds",
    ]
    assert (
        "Verdicts on 1 claims: holds 1, does not hold 0, not decidable 0, not measured 0." in blocks
    )
    verdicts = "holds 1, does not hold 0, not decidable 0, not measured 1"
    assert f"Verdicts on 2 comparisons: {verdicts}." in blocks
    assert "Here: as it is. Served by dataset imagenet-foolbox20. a note." in blocks
    grids = [block for block in blocks if isinstance(block, Grid)]
    assert [len(grid.rows) for grid in grids] == [1, 4, 4, 3]  # only Table 10 has claims
    verdicts, *grids = grids
    assert verdicts.rows == (("Table 0", "“it *is* so” (5)", "holds (1 holds, 1 not measured)"),)
    first, quoted = grids[1].rows[0], grids[1].rows[2]
    low, high = wilson(6, 6)
    assert first[5:7] == (f"100.00 ({100 * low:.2f} to {100 * high:.2f})", "50.00")
    assert quoted[5:7] == ("", "45.00")
    assert grids[2].rows[0][-1] == "holds (1 holds, 1 not measured)"
    assert grids[2].rows[1][1:] == (
        "50, 40",
        f"100 ({100 * (2 * 0.025 ** (1 / 6) - 1):.4g} to 100)",
        "6 for, 0 not",
        "holds at n = 6",
    )
    assert grids[2].rows[2][-1] == "not measured: q is quoted from them"


def test_documents_are_well_formed(results, tmp_path):
    sources, folder = results
    outs = [tmp_path / f"out/summary.{ending}" for ending in ("md", "html", "rst")]
    write_summary(sources, folder, outs)
    markdown, page, caption = (out.read_text() for out in outs)
    for block in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1, block
    assert page.count("<table>") == page.count("</table>") == 4
    strict = {"report_level": 2, "halt_level": 2}
    body = publish_parts(caption, writer_name="html", settings_overrides=strict)["body"]
    assert "it *is* so" in body
    assert "it *falls*" in body
    assert "holds at n = 6" in body


def test_markup_is_escaped():
    blocks = [Heading("<h>", 2), "a & b", Grid(("x|y",), (("<td>",),))]
    assert "&lt;h&gt;" in as_html(blocks)
    assert "&lt;td&gt;" in as_html(blocks)
    assert "x\\|y" in as_markdown(blocks)


def test_mistakes(results, tmp_path):
    sources, folder = results
    with pytest.raises(UserError, match=r"must end in \.md"):
        write_summary(sources, folder, [tmp_path / "summary.txt"])
    with pytest.raises(UserError, match=r"unknown kind of result .*tabels"):
        load_sources([tmp_path / "tabels" / "table2.yaml"])
    (folder / "claims" / "table2.csv").unlink()
    with pytest.raises(UserError, match="build it first"):
        write_summary(sources, folder, [tmp_path / "summary.md"])
