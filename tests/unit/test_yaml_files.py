"""YAML of the user's: every key once, numbers as in YAML 1.2, and no file that is a trap."""

import os

import pytest
import yaml

from puriflow.errors import UserError
from puriflow.yaml_files import LARGEST, read_yaml


def read(folder, text):
    file = folder / "file.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(file, "config")


def test_the_project_s_own_files_are_read_as_by_yaml_1_1(repository):
    files = [*repository.glob("config/**/*.yaml"), repository / "puriflow/zoo/entries.yaml"]
    assert len(files) > 20
    for file in files:
        assert read_yaml(file, "config") == yaml.safe_load(file.read_text()), file


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-1E5", -1e5),
        ("1e3", 1000.0),
        (".5e1", 5.0),
        ("2.5e3", 2500.0),
        ("0.001", 0.001),
        ("'1e-3'", "1e-3"),
        ("e5", "e5"),
        ("12", 12),
        ("true", True),
        ("~", None),
    ],
)
def test_a_number_in_any_form_is_one(tmp_path, text, value):
    found = read(tmp_path, f"a: {text}")["a"]
    assert (found, type(found)) == (value, type(value))


def test_what_is_merged_gives_way_to_what_is_said(tmp_path):
    found = read(tmp_path, "a: &a {x: 1, y: 1}\nb: {x: 2, <<: *a}\nc: {<<: *a, y: 2}")
    assert (found["b"], found["c"]) == ({"x": 2, "y": 1}, {"x": 1, "y": 2})


def doubling(first, item):
    lines = [f"a{i}: &a{i} {item.format(i - 1)}" for i in range(1, 40)]
    return "\n".join([f"a0: &a0 {first}", *lines])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: a is there already, on line 1"),
        ("x:\n  a: 1\n  b: {c: 1, c: 1}", "line 3: c is there already, on line 3"),
        ("1: x\ntrue: y", "line 2: true is there already, on line 1"),
        ("? [a]\n: 1", "line 1: a key is no plain value"),
        ("a: &a {x: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b}", "line 3: << takes one mapping"),
        ("a: &a {x: 1}\nb: {<<: [*a, *a]}", "line 2: << takes one mapping"),
        ("a: &a {x: 1}\nb: {<<: *a, <<: *a}", "line 2: << is there already, on line 2"),
        ("a: &a [*a]", "line 1: a value contains itself"),
        ("a: &a {b: {c: *a}}", "line 1: a value contains itself"),
        (doubling("[x, x]", "[*a{0}, *a{0}]"), "stands for more than 100000 values"),
        (doubling("[x]", "[[[[[*a{0}]]]]]"), "nested more than 50 deep"),
        ("[" * 20_000, "nested more than 50 deep"),
        ("- " * 20_000, "nested more than 50 deep"),
        ("#" * (LARGEST + 1), f"has more than {LARGEST} bytes"),
        ("a: \xe9".encode("latin-1"), "is not UTF-8: unexpected end of data at byte 3"),
        ("a: 1".encode("utf-16"), "is not UTF-8"),
        ("a: \x07", "unacceptable character"),
        ("a: 2001-99-99", "line 1: 2001-99-99 is no timestamp"),
        ("a: !!bool x", "line 1: x is no bool"),
        ("a: " + "9" * 5000, "line 1: 9+ is no int"),
        ("a: !!python/object/apply:os.abort []", "could not determine a constructor"),
        ("a: *b", "line 1: found undefined alias 'b'"),
        ("a: 1\n---\na: 1", "line 2: but found another document"),
        ("a: [", "line 1: expected the node content"),
    ],
)
def test_what_no_file_of_ours_is_gets_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=rf"^config .*file\.yaml.*{message}") as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_path_that_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, why in [
        ("pipe", " is no regular file"),
        ("nowhere", ": No such file or directory"),
        (".", ": Is a directory"),
    ]:
        with pytest.raises(UserError) as caught:
            read_yaml(tmp_path / name, "config")
        assert str(caught.value) == f"config {tmp_path / name}{why}"
