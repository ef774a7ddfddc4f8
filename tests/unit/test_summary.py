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
from puriflow.metrics.paired import signed_rank_interval
from puriflow.results import find, judged_results, load_result, paper_results
from puriflow.results.base import EVIDENCE
from puriflow.results.claims import (
    COLUMNS,
    Claim,
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
from puriflow.results.summary import claims_grid, document, source_of, write_page, write_summary
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
ROBUST = {"column": "robust", "higher": "a | b", "lower": "c"}


@pytest.fixture(scope="module")
def config(repository):
    return load_config(repository / "config" / "config.yaml")


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


@pytest.mark.parametrize(
    ("factor", "said", "speaking"),
    [(1.5, "holds", 8), (3.9, "holds", 7), (4.5, "not decidable", 5), (8, "does not hold", 0)],
)
def test_a_factor_is_part_of_the_claim(factor, said, speaking):
    """By the interval of the ratio: here 3.99 to 6.01 times."""
    ratios = np.array([3.5, 4.0, 4.2, 4.8, 5.0, 5.2, 5.8, 6.0])
    lower = np.linspace(1, 3, 8)
    one = Comparison(column="seconds", higher="a", lower="c", factor=factor)
    found = verdict(one, values(ratios * lower), values(lower))
    assert (found["verdict"], found["wins"], found["losses"]) == (said, speaking, 8 - speaking)
    bounds = [found[f"ours_factor{bound}"] for bound in ("_low", "", "_high")]
    assert bounds == sorted(bounds)
    interval = np.exp(signed_rank_interval(np.log(ratios)))
    np.testing.assert_allclose(bounds, interval[[1, 0, 2]], rtol=1e-3)


@pytest.mark.parametrize("ratio", [1.10, 50, 107.9])
def test_faster_is_not_108_times_faster(ratio):
    said = Comparison(column="seconds", higher="a", lower="c", factor=108)
    slow = np.linspace(1, 1.2, 20)
    assert verdict(said, values(ratio * slow), values(slow))["verdict"] == "does not hold"
    assert verdict(said, values(110 * slow), values(slow))["verdict"] == "holds"


def test_a_factor_of_counted_numbers_is_reached_or_not():
    for factor, said in ((3.9, "holds"), (4, "holds"), (4.1, "does not hold")):
        one = Comparison(column="macs_g", higher="a", lower="c", factor=factor)
        found = verdict(one, values([8.0]), values([2.0]))
        assert (found["verdict"], found["ours_factor"]) == (said, 4)


def test_shares_have_no_factor_and_zero_has_none():
    with pytest.raises(ValueError, match="robust of an image may be 0: it has no factor"):
        Comparison(column="robust", higher="a", lower="c", factor=2)
    said = Comparison(column="seconds", higher="a", lower="c", factor=2)
    with pytest.raises(UserError, match="seconds has values of 0"):
        verdict(said, values([1.0] * 9), values([0.0] * 9))


def test_the_page_has_the_factors_with_our_interval():
    says = {"column": "seconds", "higher": "a", "lower": "c", "factor": 2.5}
    slow = np.linspace(1, 1.2, 20)
    numbers = verdict(Comparison(**says), values(4 * slow), values(slow))
    line = {"section": "1", "quote": "q", "claim_verdict": "holds", "paper_factor": 2.5}
    grid = claims_grid(frame([line | says | numbers], COLUMNS))
    assert grid.rows[1][1] == "2.5 times"
    assert grid.rows[1][2].endswith("; 4 (4 to 4) times")
    assert grid.rows[1][3:] == ("20 for, 0 not", "holds at n = 20")


def test_counted_numbers_are_exact():
    said = Comparison(column="macs_g", higher="a", lower="c")
    few, many = values([224.94]), values([899.5])
    assert verdict(said, few, many)["verdict"] == "does not hold"
    assert verdict(said, many, few)["verdict"] == "holds"
    assert verdict(said, many, many)["verdict"] == "not decidable"


def test_other_images_are_not_compared():
    with pytest.raises(UserError, match="not of the same images"):
        verdict(Comparison(**ROBUST), values([1, 0]), pd.Series([1.0, 0.0], index=[3, 4]))


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


def test_a_claim_names_one_row_of_its_table(config, given, tmp_path):
    table = Table.model_validate(TABLE)
    with pytest.raises(UserError, match=r"unknown method of t 'a \| c': did you mean"):
        table.evidence(config, "t", tmp_path, ["a | c"])
    twice = Table.model_validate(TABLE | {"rows": TABLE["rows"][:1] * 2})
    with pytest.raises(UserError, match="2 rows"):
        twice.evidence(config, "t", tmp_path, ["a | b"])


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
    for one in load_claims(repository / "config" / "claims.yaml"):
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
    for one in load_claims(repository / "config" / "claims.yaml"):
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
    claimed = {one.about for one in load_claims(repository / "config" / "claims.yaml")}
    results = set(paper_results(repository / "config"))
    assert {name for name in results if not name.startswith(("table", "figure"))} == set()
    assert claimed == results - {"table8-times"}  # of which the paper says nothing but numbers


def test_a_claim_is_about_something_that_is_there(tmp_path):
    said = claim(ROBUST)[0].model_dump(exclude_none=True, mode="json")
    file = write(tmp_path / "claims.yaml", {"claims": [said | {"about": "table77"}]})
    with pytest.raises(UserError, match="'table77': did you mean 'table7'"):
        load_claims(file, ["table7", "figure2"])
    write(tmp_path / "tables" / "table7.yaml", TABLE)
    with pytest.raises(UserError, match="'table77': did you mean 'table7'"):
        load_claims(file)


def test_a_claim_is_about_a_column_that_claims_may_speak_of(tmp_path):
    said = claim(ROBUST)[0].model_dump(exclude_none=True, mode="json")
    said["says"] = [ROBUST | {"column": "robusst"}]
    file = write(tmp_path / "claims.yaml", {"claims": [said]})
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
    (said,) = claim(ROBUST, ROBUST | {"lower": "q"})
    said = said.model_dump(exclude_none=True, mode="json") | {"about": "table10"}
    claims = write(tmp_path / "config" / "claims.yaml", {"claims": [said]})
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
