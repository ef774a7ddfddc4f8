"""Claims, their verdicts, and the documents that say them."""

import html
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from docutils.core import publish_parts

from puriflow.config import load_config
from puriflow.errors import UserError
from puriflow.metrics.accuracy import wilson
from puriflow.metrics.paired import compare
from puriflow.results import find, judged_results, load_result, paper_results
from puriflow.results.base import EVIDENCE
from puriflow.results.claims import (
    COLUMNS,
    VERDICTS,
    Claim,
    Claims,
    Comparison,
    Evidence,
    judge,
    judge_result,
    load_claims,
    overall,
    verdict,
)
from puriflow.results.columns import frame, write_csv
from puriflow.results.documents import Grid, Heading, as_html, as_markdown, escaped
from puriflow.results.summary import (
    claims_grid,
    claims_of,
    corrected,
    counts,
    decided,
    document,
    source_of,
    write_page,
    write_summary,
)
from puriflow.results.table import Table

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
MARGINS = {"points": 3, "ratio": 1.1}
ROBUST = {"column": "robust", "higher": "a | b", "lower": "c"}


@pytest.fixture(scope="module")
def config(repository):
    return load_config(repository / "config" / "config.yaml")


SECONDS = {"column": "seconds", "higher": "a", "lower": "c"}
MACS = SECONDS | {"column": "macs_g"}
ALIKE = "no difference that matters"


def values(right) -> pd.Series:
    """Outcomes by image."""
    return pd.Series([float(x) for x in right])


@pytest.fixture
def given(monkeypatch):
    """Lets the rows of a table have given outcomes of each image, whatever the stores say."""
    right = {"a | b": np.ones(6), "c": np.zeros(6)}

    def values(table, track, row, stores):
        by_image = dict(enumerate(right[row.method].tolist()))
        return dict.fromkeys(("standard", "robust", "gap", "cross_entropy"), by_image)

    monkeypatch.setattr(Table, "values", values)
    monkeypatch.setattr(Table, "failed", lambda *_: {})


@pytest.fixture
def evidence(config, given, tmp_path):
    table = Table.model_validate(TABLE)
    methods = [row.method for row in table.rows]
    return Evidence("t", table.evidence(config, "t", tmp_path, methods))


def claim(*says: dict) -> Claims:
    one = Claim(about="t", section="5", quote="it *is* so", says=says)
    return Claims(margins=MARGINS, claims=(one,))


def judged(says: dict, higher, lower, margin: float = 0.03) -> dict:
    """The verdict on values of two rows."""
    return verdict(Comparison(**says), values(higher), values(lower), margin)


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
    found = judged(ROBUST, higher, lower)
    assert found["verdict"] == said
    assert found["n"] == 10
    assert found["difference"] == pytest.approx(100 * (np.mean(higher) - np.mean(lower)))


@pytest.mark.parametrize(
    ("wins", "losses", "n", "said"),
    [
        (0, 0, 122, ALIKE),  # 1 - 0.025^(1/122) is below 0.03
        (0, 0, 121, "not decidable"),
        (7, 7, 1000, ALIKE),
        (6, 0, 1000, "holds"),  # though 0 to 1.3 points is within the margin, too
        (0, 6, 1000, "does not hold"),
        (50, 35, 1000, "not decidable"),
    ],
)
def test_within_the_margin_there_is_no_difference_that_matters(wins, losses, n, said):
    order = np.arange(n)
    found = judged(ROBUST, order < wins, (order >= wins) & (order < wins + losses))
    assert (found["verdict"], found["margin"]) == (said, 3)
    outside = not -3 < found["low"] <= found["high"] < 3
    assert (found["p_within"] >= 0.05) == outside
    assert (found["n_needed"] is None) == (said != "not decidable")


def test_the_images_that_would_decide():
    assert judged(ROBUST, [0] * 20, [0] * 20)["n_needed"] == 122
    assert judged(ROBUST, [0] * 20, [0] * 20, margin=0)["n_needed"] is None
    assert judged(ROBUST, [1] * 5 + [0] * 15, [0] * 20)["n_needed"] == 22


@pytest.mark.parametrize(
    ("column", "paper", "margin"),
    [
        ("robust", (60, 50), 0.03),
        ("robust", (60, 59.5), 0.005),
        ("robust", (59.5, 60), 0.03),  # the paper's numbers are not as it says
        ("robust", (2, 0), 0.02),
        ("gap", (None, None), 0.03),
        ("seconds", (None, 3.0), 0.2),
        ("seconds", (3.06, 3.0), 0.04),
        ("cross_entropy", (9, 3.0), 0.2),
    ],
)
def test_the_margin_is_the_paper_s_own_difference_if_that_is_smaller(column, paper, margin):
    says = Comparison(column=column, higher="a", lower="c")
    margins = claim(ROBUST).margins
    assert margins.of(says, paper, np.array([1, 2.0, 90])) == pytest.approx(margin)


def test_errors_are_alike_within_a_ratio():
    lower = np.linspace(1, 2, 40)
    said = SECONDS | {"column": "mse"}
    for by, alike in ((0.2, True), (1.5, False)):
        found = judged(said, lower + by * np.linspace(-1, 1, 40), lower, margin=0.15)
        assert (found["verdict"] == ALIKE) == alike, found


def test_gaps_may_lie_two_apart():
    """One more image, in which one row has a gap of 1 and the other of -1, weighs twice."""
    found = judged(ROBUST | {"column": "gap"}, [0] * 20, [0] * 20)
    assert found["high"] == pytest.approx(200 * (1 - 0.025 ** (1 / 20)), rel=1e-3)


def test_cross_entropy_is_not_in_percent_and_one_image_does_not_drown_the_others():
    said = {"column": "cross_entropy", "higher": "a", "lower": "c"}
    first = np.linspace(5, 6, 9)
    second = first - 1
    second[0] -= 60
    found = judged(said, first, second)
    assert (found["ours_higher"], found["difference"], found["verdict"]) == (5.5, 1, "holds")
    assert (found["low"], found["high"]) == (1, 31)


@pytest.mark.parametrize(
    ("factor", "said", "speaking"),
    [(1.5, "holds", 8), (3.9, "holds", 7), (4.5, "not decidable", 5), (8, "does not hold", 0)],
)
def test_a_factor_is_part_of_the_claim(factor, said, speaking):
    """By the interval of the ratio: here 3.99 to 6.01 times."""
    ratios = np.array([3.5, 4.0, 4.2, 4.8, 5.0, 5.2, 5.8, 6.0])
    lower = np.linspace(1, 3, 8)
    found = judged(SECONDS | {"factor": factor}, ratios * lower, lower)
    assert (found["verdict"], found["wins"], found["losses"]) == (said, speaking, 8 - speaking)
    bounds = [found[f"ours_factor{bound}"] for bound in ("_low", "", "_high")]
    assert bounds == sorted(bounds)
    interval = compare(np.log(ratios), np.zeros(8), reach=None)
    logs = (interval.interval[0], interval.difference, interval.interval[1])
    np.testing.assert_allclose(bounds, np.exp(logs), rtol=1e-3)
    assert (found["p"] < 0.05) == (found["verdict"] in ("holds", "does not hold"))
    assert (found["margin"], found["p_within"]) == (None, None)


@pytest.mark.parametrize("ratio", [1.10, 50, 107.9])
def test_faster_is_not_108_times_faster(ratio):
    said = SECONDS | {"factor": 108}
    slow = np.linspace(1, 1.2, 20)
    assert judged(said, ratio * slow, slow)["verdict"] == "does not hold"
    assert judged(said, 110 * slow, slow)["verdict"] == "holds"


def test_a_factor_of_counted_numbers_is_reached_or_not():
    for factor, said in ((3.9, "holds"), (4, "holds"), (4.1, "does not hold")):
        found = judged(MACS | {"factor": factor}, [8.0], [2.0])
        assert (found["verdict"], found["ours_factor"]) == (said, 4)


def test_shares_have_no_factor_and_zero_has_none():
    with pytest.raises(ValueError, match="robust of an image may be 0: it has no factor"):
        Comparison(column="robust", higher="a", lower="c", factor=2)
    with pytest.raises(UserError, match="seconds has values of 0"):
        judged(SECONDS | {"factor": 2}, [1.0] * 9, [0.0] * 9)


def test_the_page_has_the_factors_with_our_interval():
    says = SECONDS | {"factor": 2.5}
    slow = np.linspace(1, 1.2, 20)
    numbers = judged(says, 4 * slow, slow)
    line = {"section": "1", "quote": "q", "claim_verdict": "holds", "paper_factor": 2.5}
    grid = claims_grid(frame([line | says | numbers], COLUMNS))
    assert grid.rows[1][1] == "2.5 times"
    assert grid.rows[1][2].endswith("; 4 (4 to 4) times")
    assert grid.rows[1][3:] == ("20 for, 0 not", "holds at n = 20 (p = 2e-06)")


def test_counted_numbers_are_exact():
    few, many = [224.94], [899.5]
    assert judged(MACS, few, many)["verdict"] == "does not hold"
    assert judged(MACS, many, few)["verdict"] == "holds"
    assert judged(MACS, many, many)["verdict"] == "no difference that matters"


def test_other_images_are_not_compared():
    with pytest.raises(UserError, match="not of the same images"):
        verdict(Comparison(**ROBUST), values([1, 0]), pd.Series([1.0, 0.0], index=[3, 4]), 0)


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (["holds", "holds", "not measured"], "holds"),
        (["holds", "does not hold", "not decidable"], "does not hold"),
        (["holds", "not decidable"], "not decidable"),
        (["holds", ALIKE, "not measured"], ALIKE),
        (["holds", ALIKE, "not decidable"], "not decidable"),
        ([ALIKE, "does not hold"], "does not hold"),
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


def test_a_claim_names_one_row_of_its_table(config, given, tmp_path):
    table = Table.model_validate(TABLE)
    with pytest.raises(UserError, match=r"unknown method of t 'a \| c': did you mean"):
        table.evidence(config, "t", tmp_path, ["a | c"])
    twice = Table.model_validate(TABLE | {"rows": TABLE["rows"][:1] * 2})
    with pytest.raises(UserError, match="2 rows"):
        twice.evidence(config, "t", tmp_path, ["a | b"])


def test_a_table_without_claims_has_no_evidence(config, tmp_path):
    evidence = Table.model_validate(TABLE).evidence(config, "t", tmp_path, [])
    assert evidence.empty
    assert list(evidence.columns) == [*EVIDENCE, "paper"]


def test_costs_come_from_the_table_s_csv(config, given, tmp_path):
    table = Table.model_validate(TABLE | {"costs": True})
    costs = [{"method": "a | b"}, {"method": "c", "macs_g": 224.94, "params_m": 16.7}]
    write_csv(costs, table.columns(), tmp_path / "t.csv")
    evidence = Evidence("t", table.evidence(config, "t", tmp_path, ["a | b", "c"]))
    assert evidence.values("c", "macs_g", None).tolist() == [224.94]
    assert (evidence.paper("c", "robust"), evidence.paper("c", "macs_g")) == (40, None)
    with pytest.raises(UserError, match="'c' has no mse"):
        evidence.values("c", "mse", None)


MEASURED = [
    *({"line": "SR", "layer": "one", "index": i, "value": 1.0 + i} for i in range(6)),
    *({"line": "SR", "layer": "two", "index": i, "value": 9.0} for i in range(6)),
    *({"line": "AE", "layer": "one", "index": i, "value": 3.0 + i} for i in range(6)),
    *({"line": "AE", "layer": "two", "index": i, "value": 5.0} for i in range(6)),
    {"line": "lost", "note": "no such network"},
]


@pytest.fixture
def measured(tmp_path):
    rows = [{"metric": "content_distance"} | row for row in MEASURED]
    (tmp_path / "measures").mkdir()
    write_csv(rows, EVIDENCE, tmp_path / "measures" / "figure9.csv")
    figure = load_result(write(tmp_path / "figures" / "figure9.yaml", FIGURE))
    return Evidence("figure9", figure.evidence(None, "figure9", tmp_path, []))


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


def results_of(repository) -> dict:
    """All results of the project that claims may be about, by name."""
    config = repository / "config"
    return {name: load_result(find(name, config)) for name in judged_results(config)}


def test_the_paper_s_claims_agree_with_its_own_numbers(repository):
    checked = 0
    results = results_of(repository)
    for one in load_claims(repository / "config" / "claims.yaml").claims:
        if isinstance(result := results[one.about], Table):
            for said in one.says:
                papers = (result.row(one.about, m).paper for m in (said.higher, said.lower))
                higher, lower = (getattr(paper, said.column, None) for paper in papers)
                if said.column != "cross_entropy":
                    assert higher > lower, said
                    checked += 1
    assert checked > 70


def test_claims_about_figures_and_times_name_their_lines(repository):
    results = results_of(repository)
    states = ("attacked", "restored", "diffused", "purified")
    for one in load_claims(repository / "config" / "claims.yaml").claims:
        result = results[one.about]
        if isinstance(result, Table):
            continue
        if hasattr(result, "lines") and result.folder == "figures":
            labels = {line.label for line in result.lines}
            labels |= {f"{label}, {state}" for label in labels for state in states}
        else:
            parts = [(row.method, part) for row in result.rows for part in result.chain(row)]
            labels = {f"{method}, {part}" for method, part in parts}
        for said in one.says:
            assert {said.higher, said.lower} <= labels


def test_every_result_of_the_paper_has_claims(repository):
    claimed = {one.about for one in load_claims(repository / "config" / "claims.yaml").claims}
    results = set(paper_results(repository / "config"))
    assert {
        name for name in results if not name.startswith(("table", "figure", "geometry"))
    } == set()
    assert claimed == results - {"table8-times"}  # of which the paper says nothing but numbers


def dumped(claims: Claims) -> dict:
    """Claims as their file has them."""
    return claims.model_dump(exclude_none=True, mode="json")


def test_a_claim_is_about_something_that_is_there(tmp_path):
    said = dumped(claim(ROBUST))
    said["claims"][0]["about"] = "table77"
    file = write(tmp_path / "claims.yaml", said)
    with pytest.raises(UserError, match="'table77': did you mean 'table7'"):
        load_claims(file, ["table7", "figure2"])
    write(tmp_path / "tables" / "table7.yaml", TABLE)
    with pytest.raises(UserError, match="'table77': did you mean 'table7'"):
        load_claims(file)


def test_a_claim_is_about_a_column_that_claims_may_speak_of(tmp_path):
    said = dumped(claim(ROBUST))
    said["claims"][0]["says"] = [ROBUST | {"column": "robusst"}]
    file = write(tmp_path / "claims.yaml", said)
    with pytest.raises(
        UserError, match="unknown column of a claim 'robusst': did you mean 'robust'"
    ):
        load_claims(file, ["t"])


def _line(row: dict, hits: int | None) -> dict:
    """A row of a table's CSV with as many of six images robust; None for a row that was not run."""
    line = {"method": row["method"], "type": "t"}
    line["paper_robust"] = row.get("paper", {}).get("robust")
    if hits is not None:
        low, high = wilson(hits, 6)
        line |= {"n": 6, "robust": 100 * hits / 6, "robust_low": 100 * low}
        line["robust_high"] = 100 * high
    return line


SWEEP = {
    "title": "levels",
    "source": "tests",
    "dataset": "cifar10",
    "classifier": "wrn-28-10",
    "attack": "pgd-linf8",
    "along": "attack",
}
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


def write(file, what):
    """A file of config/."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(what))
    return file


@pytest.fixture
def results(config, given, tmp_path):
    """CSVs as commands write them: the file of claims, and the folder of results."""
    folder = tmp_path / "results"
    files = {
        "tables/table10": TABLE,
        "tables/table2": TABLE | {"source": "Table 2"},
        "figures/figure1": FIGURE,
        "tables/ours": TABLE,  # not the paper's
    }
    for name, what in files.items():
        write(tmp_path / "config" / f"{name}.yaml", what)
    rows = [_line(row, hits) for row, hits in zip(TABLE["rows"], (6, 0, None, None), strict=True)]
    said = dumped(claim(ROBUST, ROBUST | {"lower": "q"}))
    said["claims"][0]["about"] = "table10"
    claims = write(tmp_path / "config" / "claims.yaml", said)
    (folder / "measures").mkdir(parents=True)
    write_csv([], EVIDENCE, folder / "measures" / "figure1.csv")
    drawn = {"line": "AE", "dataset": "imagenet-foolbox20", "restorer": "none", "note": "a note"}
    write_csv([drawn], list(drawn), folder / "figure1.csv")
    for name in ("table10", "table2", "ours"):
        write_csv(rows, Table.model_validate(TABLE).columns(), folder / f"{name}.csv")
    for name in ("table10", "table2", "ours", "figure1"):
        out = folder / "claims" / f"{name}.csv"
        assert judge_result(claims, name, config, folder) == [out]
        assert tuple(pd.read_csv(out).columns) == COLUMNS
    return claims, folder


def test_a_document_has_the_paper_beside_ours_and_the_verdicts(results):
    claims, folder = results
    blocks = document([source_of(claims, x, folder) for x in ("table2", "table10", "figure1")])
    assert [b.text for b in blocks if isinstance(b, Heading)][1:] == [
        "Table 2: a title",
        "Table 0: a title",
        "Figure 1: rounds",
    ]
    verdicts = f"holds 1, does not hold 0, {ALIKE} 0, not decidable 0, not measured"
    assert f"Verdicts on 1 claims: {verdicts} 0." in blocks
    assert f"Verdicts on 2 comparisons: {verdicts} 1." in blocks
    assert f"Verdicts on 1 claims with Holm's correction: {verdicts} 0." in blocks
    assert "Here: as it is. Served by dataset imagenet-foolbox20. a note." in blocks
    grids = [block for block in blocks if isinstance(block, Grid)]
    assert [len(grid.rows) for grid in grids] == [1, 4, 4, 3]  # only Table 10 has claims
    verdicts, *grids = grids
    words = "holds (1 holds, 1 not measured)"
    assert verdicts.rows == (("Table 0", "“it *is* so” (5)", words, "holds"),)
    first, quoted = grids[1].rows[0], grids[1].rows[2]
    low, high = wilson(6, 6)
    assert first[5:7] == (f"100.00 ({100 * low:.2f} to {100 * high:.2f})", "50.00")
    assert quoted[5:7] == ("", "45.00")
    assert grids[2].rows[0][-1] == "holds (1 holds, 1 not measured)"
    assert grids[2].rows[1][1:] == (
        "50, 40",
        f"100 ({100 * (2 * 0.025 ** (1 / 6) - 1):.4g} to 100)",
        "6 for, 0 not",
        "holds at n = 6 (p = 0.031; stands with Holm's correction)",
    )
    assert grids[2].rows[2][-1] == "not measured: q is quoted from them"


def test_verdicts_are_corrected_for_their_number():
    """Of three comparisons, one of which two claims speak of; a counted one has no p-value.

    They have six hypotheses, of which three at most are true.
    """
    numbers = [
        ("a", {"p": 0.01, "p_within": 1, "verdict": "holds"}),
        ("a", {"p": 0.01, "p_within": 1, "verdict": "holds"}),
        ("b", {"p": 0.9, "p_within": 0.03, "verdict": ALIKE}),
        ("c", {"p": 0.5, "p_within": 0.2, "verdict": "not decidable", "n_needed": 90}),
        ("d", {"verdict": "holds"}),
        ("e", {"verdict": "not measured"}),
    ]
    shared = {"about": "t", "section": "1", "column": "robust", "lower": "z", "n": 9}
    shared |= {"wins": 5, "losses": 1, "margin": 3}
    rows = [
        shared | {"quote": str(i), "higher": higher, "claim_verdict": row["verdict"]} | row
        for i, (higher, row) in enumerate(numbers)
    ]
    halves = [frame(rows[:1], COLUMNS), frame(rows[1:], COLUMNS)]
    first, others = corrected(halves)
    assert first["p_holm"].tolist() == [0.03]
    np.testing.assert_allclose(others["p_holm"], [0.03, 0.09, 1, np.nan, np.nan])
    strict = ["holds", "not decidable", "not decidable", "holds", "not measured"]
    assert [one.corrected for one in claims_of(others)] == strict
    assert "for 3 comparisons, 2 of 3 that" in " ".join(counts([first, others]))
    assert [decided(row)[1] for row in others.to_dict("records")[:3]] == [
        "holds at n = 9 (p = 0.01; stands with Holm's correction)",
        f"{ALIKE} at n = 9 (margin 3; not with Holm's correction)",
        "not decidable at n = 9 (about 90 would)",
    ]


def test_of_no_p_value_nothing_is_corrected():
    shared = {"about": "t", "section": "1", "column": "robust", "higher": "a", "lower": "b"}
    rows = [shared | {"quote": "q", "verdict": word, "claim_verdict": word} for word in VERDICTS]
    (found,) = corrected([frame(rows, COLUMNS)])
    assert found["p_holm"].isna().all()


def test_documents_are_well_formed(results):
    markdown, page = write_summary(*results)
    assert (markdown.name, page.name) == ("summary.md", "summary.html")
    headings = re.findall(r"^## (.*)$", markdown.read_text(), re.MULTILINE)
    assert headings == ["Table 2: a title", "Table 0: a title", "Figure 1: rounds"]
    for block in re.findall(r"(?:^\|.*\n)+", markdown.read_text(), re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1, block
    assert page.read_text().count("<table>") == page.read_text().count("</table>") == 4


def test_tracks_stand_side_by_side(results, monkeypatch, repository, capsys):
    claims, folder = results
    monkeypatch.syspath_prepend(repository / "benchmarks")
    monkeypatch.chdir(claims.parents[1])
    import side_by_side

    (folder / "claims" / "figure1.csv").rename(folder / "elsewhere")  # is not built
    side_by_side.main(["results", "nowhere"])
    said = capsys.readouterr().out
    assert "results: holds 1.\n\nnowhere: nothing." in said
    assert re.search(r"holds \(1 holds, 1 not measured\), n = 6 \|  \|\n", said)
    assert said.count("## ") == 2
    assert "| c |  | 0.00 (0.00 to 39.03) |  | 40.00 |" in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("table10", ("it *is* so", "holds at n = 6", "robust accuracy: a | b above c")),
        ("figure1", ("it *falls*", "Here: as it is. Served by dataset imagenet-foolbox20.")),
        ("ours", ("Table 0: a title",)),
    ],
)
def test_a_page_has_a_caption_for_the_report(results, name, words):
    claims, folder = results
    page, caption = write_page(claims, name, folder)
    assert (page, caption) == tuple(folder / "pages" / f"{name}{end}" for end in (".html", ".rst"))
    assert page.read_text().count("<h2>") == 1
    strict = {"report_level": 2, "halt_level": 2}
    body = publish_parts(caption.read_text(), writer_name="html", settings_overrides=strict)["body"]
    for said in words:
        assert said in body


def test_markup_is_escaped():
    blocks = [Heading("<h>", 2), "a & b", Grid(("x|y",), (("<td>",),))]
    assert "&lt;h&gt;" in as_html(blocks)
    assert "&lt;td&gt;" in as_html(blocks)
    assert "x\\|y" in as_markdown(blocks)


TEXTS = (
    ".. raw:: html\n\n   <script>x</script>",
    "a title\n\n.. include:: /etc/passwd",
    "a\u2028.. raw:: html",
    "=====",
    "- a",
    "1. b",
    "http://x.y a_ `b`_ |c| *d* [1]_ ::",
    "<script>x</script> & [a](javascript:b)",
)


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_is_markup_in_any_document(text):
    line = " ".join(text.splitlines())
    strict = {"report_level": 1, "halt_level": 1, "output_encoding": "unicode"}
    body = publish_parts(f"{escaped(text)}\n", writer_name="html", settings_overrides=strict)[
        "body"
    ]
    assert body.strip() == f"<p>{html.escape(line)}</p>".replace("&#x27;", "'")
    blocks = [Heading(text, 2), text, Grid((text,), ((text,),))]
    markdown = as_markdown(blocks)
    assert len(markdown.splitlines()) == 7
    assert not re.search(r"(?<!\\)[<\[`*]", markdown)
    assert "<script>" not in as_html(blocks)


def test_mistakes(results, config):
    claims, folder = results
    with pytest.raises(UserError, match="unknown result 'table22': did you mean 'table2'"):
        write_page(claims, "table22", folder)
    (folder / "claims" / "table2.csv").unlink()
    with pytest.raises(UserError, match="build it first"):
        write_summary(claims, folder)
    write(claims.parent / "sweeps" / "levels.yaml", SWEEP)
    for asked in (write_page, lambda *given: judge_result(*given[:2], config, folder)):
        with pytest.raises(UserError, match="config/sweeps"):
            asked(claims, "levels", folder)


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("~~~", "\\~\\~\\~"),
        ("# h", "\\# h"),
        ("> q", "\\> q"),
        ("---", "\\---"),
        ("- a", "\\- a"),
        ("12. a", "12\\. a"),
        ("    code", "code"),
        ("1.5 and -1 > -2 # 3", "1\\.5 and -1 > -2 # 3"),
    ],
)
def test_a_paragraph_is_nothing_but_one(text, markdown):
    """A fence would swallow all that follows it."""
    assert as_markdown([text, "end"]) == f"{markdown}\n\nend\n"
