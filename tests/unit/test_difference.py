"""How two stores, tables or records differ, and why."""

import numpy as np
import pytest
import torch
from test_benchmark import Mean, data, few_steps
from tiny_stores import written

from puriflow import benchmark
from puriflow.errors import UserError
from puriflow.sharing.difference import differences


def images(value=0.5):
    return np.full((11, 3, 4, 4), value, dtype=np.float32)


def test_stores_differ_in_what_made_them_and_in_their_samples(tmp_path):
    other = images()
    other[3, 0, 1, 1] += 0.25
    written(tmp_path / "a", images(), parameters={"attack": {"n_iter": 20}})
    written(tmp_path / "b", other, parameters={"attack": {"n_iter": 40}}, code="beef" * 16)
    written(tmp_path / "c", images(), parameters={"attack": {"n_iter": 20}}, machine={"cpu": "x"})
    assert differences(tmp_path / "a", tmp_path / "b") == [
        "parameters.attack.n_iter: 20 | 40",
        "code: c0dec0dec0de | beefbeefbeef",
        "images: 1 of 11 samples differ, by up to 0.25",
    ]
    assert differences(tmp_path / "a", tmp_path / "a" / "manifest.json") == []
    assert differences(tmp_path / "a", tmp_path / "c") == ["machine.cpu: (nothing) | x"]


def test_tables_differ_in_cells_and_in_the_stores_below(tmp_path):
    for name, robust, code in (("a", 50, "c0de"), ("b", 55, "beef")):
        written(tmp_path / name / "purify" / "x", images(), code=code * 16)
        (tmp_path / name / "table7.csv").write_text(f"method,robust\nSR,{robust}\nnone,0\n")
    assert differences(tmp_path / "a" / "table7.csv", tmp_path / "b" / "table7.csv") == [
        "row 1, SR: robust: 50 | 55",
        "stores: 1 of 1 in the same place of both were made otherwise, in:",
        "  code (1)",
    ]


def test_records_differ_in_numbers_and_attacks(tmp_path):
    for name, steps in (("a", 3), ("b", 1)):
        attack = few_steps()
        attack.n_iter = attack.n_steps = steps
        torch.manual_seed(0)
        benchmark(Mean().eval(), *data(), attack=attack, out=tmp_path / name)
    found = differences(tmp_path / "a", tmp_path / "b" / "benchmark.json")
    assert "attacks.PGD.options.n_iter: 3 | 1" in found
    assert "robust.average.share: 0.5 | 0.8" in found
    assert "images: 6 of 20 fared otherwise" in found


def test_what_cannot_be_compared_is_refused(tmp_path):
    written(tmp_path / "a", images())
    (tmp_path / "b.csv").write_text("x\n1\n")
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(UserError, match=r"a is a store, but .*b.csv is a table: give two"):
        differences(tmp_path / "a", tmp_path / "b.csv")
    with pytest.raises(UserError, match="is no store"):
        differences(tmp_path, tmp_path / "a")
    with pytest.raises(UserError, match="No such file"):
        differences(tmp_path / "none", tmp_path / "a")
    with pytest.raises(UserError, match=r"record .*c.json"):
        differences(tmp_path / "c.json", tmp_path / "c.json")
