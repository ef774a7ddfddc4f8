"""What is ranked with what, and how: protocols, the rows of each, and their ranks."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from theirs import another, attacked, judged, written

from puriflow.benchmarking.presets import options_of
from puriflow.config import load_config
from puriflow.results import load_result
from puriflow.results.base import served_by
from puriflow.results.rows import Row
from puriflow.sharing.leaderboard import through
from puriflow.site.board import board
from puriflow.site.ours import Gathering
from puriflow.site.ranking import front, ranks
from puriflow.site.reading import entries_of


def test_only_rows_of_one_protocol_stand_together(small, tmp_path):
    found = Gathering(*small, tmp_path).found()
    assert (found.missing, found.broken) == (0, {})
    first, second = board(found.entries)
    assert [first["gradient"], second["gradient"]] == ["exact", "classifier's alone"]
    assert (first["dataset"], first["threat"], first["n"]) == ("four", "Linf 8/255", 4)
    assert [row["titles"] for row in first["rows"]] == [["small: MDSR, adaptive"]]
    assert sorted(row["titles"][0] for row in second["rows"]) == [
        "small: MDSR",
        "small: SR and one shot",
        "small: undefended",
    ]
    assert [one["name"] for one in found.quoted] == ["theirs"]
    undefended = next(row for row in second["rows"] if "undefended" in row["titles"][0])
    assert undefended["claims"][0]["robust"] == 1.5
    assert undefended["command"] == "snakemake results/small.csv"
    assert undefended["chain"]["victim"] == "wrn-28-10"
    assert undefended["evaluations"] == 0


@pytest.mark.parametrize(
    ("change", "alone"),
    [
        ({}, False),
        ({"n_draws": 5}, False),  # of a mean
        ({"eps": 4 / 255}, True),
        ({"norm": "L2"}, True),
        ({"labels": "0" * 64}, True),
        ({"images": "0" * 64}, True),
        ({"options": {"n_iter": 3}}, True),
        ({"through": "its surrogate"}, True),
        ({"through": "the defence, full"}, False),
        ({"through": "the defence with another"}, True),
        ({"through": "classifier"}, True),
    ],
)
def test_whatever_defines_a_protocol_sets_a_row_apart(records, tmp_path, change, alone):
    (one,) = (r for r in records["records"] if r["title"] == "small: MDSR, adaptive")
    other = json.loads(json.dumps(another(one, "Theirs")))
    for key, value in change.items():
        if key in ("images", "labels"):
            other["made_by"][key] = value
        elif key in ("options", "through"):
            attack = other["attacks"][0]
            attack[key] = {**attack[key], **value} if key == "options" else value
        else:
            other[key] = value
    file = written(tmp_path, records, records=[one, other])
    assert [len(p["rows"]) for p in board(entries_of(file))] == ([1, 1] if alone else [2])


def test_a_benchmark_s_record_stands_with_the_track_s_rows(small, records, tmp_path):
    (own,) = (r for r in records["records"] if r["title"] == "small: MDSR, adaptive")
    theirs = json.loads(json.dumps(another(own, "Theirs")))
    attack = small[0].part("attack", "pgd-linf8").build()
    theirs["attacks"][0] |= {"options": options_of(attack), "through": "the defence"}
    assert theirs["attacks"][0]["options"]["kind"] == "PGD"  # and not an entry's `pgd`
    (protocol,) = board(entries_of(written(tmp_path, records, records=[own, theirs])))
    assert len(protocol["rows"]) == 2


def test_one_answer_of_a_deterministic_defence_stands_for_any_number(records, tmp_path):
    board_of = json.loads(json.dumps(records["records"]).replace('"average"', '"majority"'))
    by_title = {record["title"]: record for record in board_of}
    random, fixed = by_title["small: SR and one shot"], by_title["small: MDSR"]
    five = another(random, "Five", n_draws=5)
    file = written(tmp_path, records, records=[random, fixed, five])
    found = board(entries_of(file))
    assert sorted(protocol["rule"] for protocol in found) == [
        "majority, 2 answers",
        "majority, 5 answers",
    ]
    assert all(len(protocol["rows"]) == 2 for protocol in found)
    ids = [row["id"] for protocol in found for row in protocol["rows"]]
    assert len(set(ids)) == 4


def test_no_module_is_imported_for_a_record(records, tmp_path):
    one = json.loads(json.dumps(records["records"][0]))
    one["attacks"][0]["options"] = {"kind": "antigravity.this"}
    board(entries_of(written(tmp_path, one)))
    assert "antigravity" not in sys.modules


def test_a_record_that_is_given_twice_is_one_row(records, tmp_path):
    one = records["records"][0]
    other = {**one, "title": "elsewhere: the same"}
    (protocol,) = board(entries_of(written(tmp_path, records, records=[one, other, one])))
    (row,) = protocol["rows"]
    assert row["titles"] == [one["title"], "elsewhere: the same"]


def test_ranks_are_as_wide_as_chance():
    good, middle, bad = np.ones(30), np.repeat([1.0, 0.0], 15), np.zeros(30)
    assert ranks([bad, good, middle, good]) == [(4, 4), (1, 2), (3, 3), (1, 2)]
    assert ranks([]) == []
    assert ranks([good]) == [(1, 1)]


def test_ranks_are_corrected_for_how_many_pairs_there_are():
    good, middle, bad = np.ones(6), np.repeat([1.0, 0.0], 3), np.zeros(6)
    assert ranks([good, bad]) == [(1, 1), (2, 2)]  # p = 0.031
    assert ranks([good, middle, bad]) == [(1, 3), (1, 3), (1, 3)]  # of three pairs


def test_the_line_of_pareto_has_what_nothing_beats():
    assert front([3.0, 1.0, None, 2.0, 1.0], [50, 20, 99, 20, 10]) == [1, 0]
    assert front([None], [1]) == []


# What an attack knows


@pytest.fixture
def adaptive(records):
    return next(r for r in records["records"] if r["title"] == "small: MDSR, adaptive")


def protocols(folder, *given):
    """The protocols of records, as gradient, knowledge, attack and number of rows."""
    found = board(entries_of(written(folder, {"schema": 1, "records": given})))
    return [(p["gradient"], p["knows"], p["attack"], len(p["rows"])) for p in found]


def test_rows_attacked_through_other_surrogates_are_never_ranked_together(adaptive, tmp_path):
    a, b, c = (
        attacked(another(adaptive, name), through=f"the defence with {solver}")
        for name, solver in (("A", "ode"), ("B", "osd"), ("C", "osd"))
    )
    c["defence"]["sha256"] = "cd" * 32
    words = "pgd-linf8 (2 steps, 1 draw) through the defence with"
    assert protocols(tmp_path, a, b, c, adaptive) == [
        ("exact", 2, "pgd-linf8 (2 steps, 1 draw)", 1),
        ("a surrogate's", 0, f"{words} osd", 2),
        ("a surrogate's", 0, f"{words} ode", 1),
    ]


def test_a_defence_that_is_its_own_surrogate_is_attacked_itself(repository):
    track = load_config(repository / "config" / "large.yaml")
    table = load_result(repository / "config" / "sweeps" / "solvers-transfer.yaml").table
    said = set()
    for purifier in ("vpsde-t100", "ode-t100"):
        row = Row(method="m", type="t", purifier=purifier)
        for threat, chain in zip(table.attack, table.chains(track, row)[1], strict=True):
            said.add((purifier, threat.surrogate, through(track, threat, chain)))
    assert len(said) == 8
    for purifier, surrogate, words in said:
        other = served_by(track, "purifier", surrogate)
        assert words == ("the defence" if purifier == surrogate else f"the defence with {other}")


@pytest.mark.parametrize(
    ("change", "gradient", "knows"),
    [
        ({}, "exact", 2),
        ({"options": {"kind": "PGD"}}, "exact", 2),  # the class, as a benchmark says it
        ({"options": {"kind": "their.attack"}}, "not said", 0),
        ({"options": {"kind": "TheirAttack", "gradient": "full"}}, "not said", 0),
        ({"options": {"gradient": "inexact"}}, "not said", 0),
        ({"options": {"gradient": "identity"}}, "identity (BPDA)", 1),
        ({"options": {"gradient": "blind"}}, "none of the defence's", 0),
        ({"options": {"kind": "bpda-eot", "gradient": None}}, "identity (BPDA)", 1),
        ({"options": {"kind": "diffattack", "gradient": None}}, "exact", 2),
        ({"options": {"kind": "Square"}}, "black box", 1),
        ({"options": {"kind": "AutoAttack", "attacks": [{"kind": "Square"}]}}, "black box", 1),
        (
            {"options": {"kind": "AutoAttack", "attacks": [{"kind": "FABT"}, {"kind": "Square"}]}},
            "exact",
            2,
        ),
        ({"options": {"kind": "AutoAttack", "attacks": [{"kind": "Theirs"}]}}, "not said", 0),
        ({"through": "classifier"}, "not said", 0),
        ({"through": "the defence, but for its purifier"}, "not said", 0),
        ({"through": "the defence, blind"}, "exact", 2),  # by its options, which decide
        ({"through": "the classifier"}, "classifier's alone", 0),
        ({"through": "its surrogate"}, "a surrogate's", 0),
    ],
)
def test_nobody_is_believed_to_know_a_defence_unasked(adaptive, tmp_path, change, gradient, knows):
    ((said, known, _, _),) = protocols(tmp_path, attacked(another(adaptive, "Theirs"), **change))
    assert (said, known) == (gradient, knows)


def test_the_heading_says_why_an_attack_knows_nothing(small, adaptive, tmp_path):
    theirs = written(tmp_path, attacked(adaptive, options={"kind": "their.attack"}))
    found = board([*Gathering(*small, tmp_path).found().entries, *entries_of(theirs)])
    assert {p["gradient"]: p["blind"] for p in found} == {
        "exact": "",
        "classifier's alone": "the attack does not know what defends the classifier",
        "not said": "nobody says what the attack knows",
    }


def test_our_own_rows_stand_where_their_records_do(small, records, tmp_path):
    """A leaderboard that is exported and read again has the very same protocols."""
    own = board(Gathering(*small, tmp_path).found().entries)
    read = board(entries_of(written(tmp_path, records)))
    of = ("gradient", "knows", "attack", "rule", "images")
    assert [[p[key] for key in of] for p in own] == [[p[key] for key in of] for p in read]
    assert [len(p["rows"]) for p in own] == [len(p["rows"]) for p in read]


@pytest.mark.parametrize(
    ("rule", "change", "alone"),
    [
        ("average", {"n_draws": 5}, False),
        ("worst", {"n_draws": 5}, True),
        ("majority", {"n_draws": 5}, True),
        ("mean-logits", {"n_draws": 5}, True),
        ("in-loop-worst", {"n_draws": 5}, False),  # of which those in the loop are counted
        ("in-loop-worst", {"options": {"n_eval": 5}}, True),
        ("in-loop-majority", {"options": {"n_eval": 5}}, True),
    ],
)
def test_more_answers_are_another_protocol_where_they_change_it(
    records, tmp_path, rule, change, alone
):
    said = json.dumps(records["records"]).replace('"average"', f'"{rule}"')
    one = next(r for r in json.loads(said) if r["title"] == "small: SR and one shot")
    other = another(one, "Theirs")
    other = attacked(other, **change) if "options" in change else {**other, **change}
    assert len(protocols(tmp_path, one, other)) == 1 + alone


def test_an_attack_that_helped_has_no_rank_whoever_made_the_record(adaptive, tmp_path):
    helped = judged(another(adaptive, "Helped"), [0.0] * 8 + [1.0], [1.0] * 9)
    chance = judged(another(adaptive, "Chance"), [0.0] * 2 + [1.0] * 7, [1.0] * 9)
    chance["defence"]["sha256"] = "cd" * 32
    file = written(tmp_path, {"schema": 1, "records": [helped, chance]})
    (protocol,) = board(entries_of(file))
    rows = {row["name"]: row for row in protocol["rows"]}
    assert rows["Helped"]["failed_attack"].startswith("100.0 % is right under it, 11.1 without")
    assert "rank" not in rows["Helped"]
    assert "front" not in rows["Helped"]
    assert rows["Chance"]["failed_attack"] == ""
    assert rows["Chance"]["rank"] == (1, 1)
    assert rows["Chance"]["front"] == ["evaluations"]


def test_all_claims_of_a_row_are_kept(small, tmp_path):
    (entry,) = (e for e in Gathering(*small, tmp_path).found().entries if "undef" in e.record.title)
    other = replace(entry, more=entry.more | {"paper": entry.more["paper"] | {"robust": 2.5}})
    nothing = replace(entry, more=entry.more | {"paper": dict.fromkeys(entry.more["paper"])})
    (protocol,) = board([entry, other, nothing])
    (row,) = protocol["rows"]
    assert [claim["robust"] for claim in row["claims"]] == [1.5, 2.5]
