"""YAML as every file is read: what it is, what is refused and in which line."""

import os
from contextlib import suppress

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from puriflow.config import load_config, read_track
from puriflow.errors import UserError
from puriflow.results import load_result
from puriflow.results.claims import load_claims
from puriflow.yaml_files import DEEPEST, LARGEST, dump_yaml, parse_yaml, read_yaml
from puriflow.zoo.catalogue import Zoo

# A mapping of ten mappings of ten mappings ..., each of which is written once.
BOMB = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{{', '.join(f'k{i}: *{before}' for i in range(10))}}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
REFUSED = {
    "a: on": "on is not the same in all versions of YAML",
    "a: No": "No is not the same",
    "a: 012": "012 is not the same",
    "a: 08": "08 is not the same",
    "a: 0o17": "0o17 is not the same",
    "a: 1:30": "1:30 is not the same",
    "a: 1_000": "1_000 is not the same",
    "a: 2026-01-02": "2026-01-02 is not the same",
    "off: 1": "off is not the same",
    "a: 1\nb: 2\na: 3": r"the key 'a' is given twice, in lines 1 and 3 \(line 3\)",
    "a: {b: 1,\n  b: 2}": "the key 'b' is given twice, in lines 1 and 2",
    "a:\n  <<: {}\n  <<: {}": "the key '<<' is given twice, in lines 2 and 3",
    "1: a": "the key 1 is no text",
    "? [a]\n: b": "the key of a mapping is no text",
    "a: 1e999": "1e999 is no finite number",
    "a: .nan": ".nan is no finite number",
    "a: " + "9" * 5000: "4300 digits",
    "a: !!python/object/apply:os.system [x]": "the tag .* is not read here",
    "a: !!str 1": "the tag .* is not read here",
    "&a [*a]": r"\*a is part of itself",
    "[" * 20_000: f"more than {DEEPEST} lists and mappings in each other",
    "{a: " * 20_000: f"more than {DEEPEST} lists and mappings in each other",
    BOMB: "more than 100000 values",
    "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(99)).replace("*a0", "&a0 x"): "aliases",
    "a: *b": "undefined alias 'b'",
    "a\n---\nb": "expected a single document",
    "a: [": r"while parsing a flow node.* \(line 1\)",
    "a: \x07": "special characters are not allowed",
    "a: <<": "merge",
    "a: &a {x: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b}": r"<< takes a mapping that has no << itself",
    "a: &a {x: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: [*a, *b]}": r"a mapping that has no << itself",
}


@pytest.mark.parametrize(
    ("text", "message"), REFUSED.items(), ids=[m[:30] for m in REFUSED.values()]
)
def test_what_is_ambiguous_or_endless_is_one_line(text, message):
    with pytest.raises(UserError, match=f"^here: .*{message}") as caught:
        parse_yaml(text, "here")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300


def test_numbers_texts_and_merges_are_those_of_the_core_schema():
    text = """
    a: [1e-3, -1E3, .5, 2., +3, 0, 1.5e-7, true, ~, null, 'on', "012", 1.2.3, 8/255, y, x-]
    b: &b {c: 1, d: 2}
    e: {<<: *b, d: 3}
    """
    found = parse_yaml(text, "here")
    numbers = [0.001, -1000.0, 0.5, 2.0, 3, 0, 1.5e-7]
    assert found["a"] == [*numbers, True, None, None, "on", "012", "1.2.3", "8/255", "y", "x-"]
    assert [type(number) for number in found["a"][:6]] == [float, float, float, float, int, int]
    assert found["e"] == {"c": 1, "d": 3}
    assert parse_yaml("", "here") is None


def test_every_file_of_the_project_is_what_it_was(repository):
    files = [*(repository / "config").rglob("*.yaml"), repository / "puriflow/zoo/entries.yaml"]
    assert len(files) > 20
    for file in files:
        assert read_yaml(file, "file") == yaml.safe_load(file.read_text()), file


texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["on", "012", "1e-3", "08", "0o7", "1:30", "=", "<<", "~", "2026-01-02", "1_0"]
    ),
)
numbers = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
plain = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(plain)
@example({"\x85": "a\x85 b", "\u2028": ["\u2029", "\xe4", "\U0001fae8", " \n ", "\r", "\t"]})
def test_what_is_written_is_read_again(data):
    assert parse_yaml(dump_yaml(data), "here") == data


@settings(deadline=None)
@given(st.text(alphabet="ab01 :-,[]{}&*!'\"\n#<>|e.~?", max_size=40))
def test_any_text_is_data_or_one_line(text):
    with suppress(UserError):
        found = parse_yaml(text, "here")
        assert parse_yaml(dump_yaml(found), "here") == found


@pytest.fixture
def damaged(tmp_path):
    """Makes a file that cannot be read as YAML; returns it, and what is said of it."""
    folder = tmp_path / "tables"
    folder.mkdir()
    file = folder / "t.yaml"

    def made(how: str) -> tuple:
        match how:
            case "folder":
                file.mkdir()
                return file, "not a file"
            case "pipe":
                os.mkfifo(file)
                return file, "not a file"
            case "huge":
                file.write_text("a" * (LARGEST + 1))
                return file, f"at most {LARGEST} are read"
            case "latin-1":
                file.write_bytes("a: \xe9".encode("latin-1"))
                return file, "not UTF-8 at byte 3"
            case "link":
                file.symlink_to("nowhere")
                return file, "No such file"
            case _:
                file.write_text(how)
                return file, ""

    return made


READERS = {
    "track": load_config,
    "overlay": lambda file: read_track([file]),
    "result": load_result,
    "claims": lambda file: load_claims(file, ["t"]),
    "zoo": lambda file: Zoo(entries=str(file)).known(),
}
DAMAGES = (
    "folder",
    "pipe",
    "huge",
    "latin-1",
    "link",
    "[" * 20_000,
    BOMB,
    "a: 1\na: 2",
    "- 1",
    "1",
)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("how", DAMAGES, ids=[how[:8] for how in DAMAGES])
def test_every_reader_refuses_a_file_that_is_none_in_one_line(damaged, monkeypatch, reader, how):
    monkeypatch.delenv("PURIFLOW_ZOO", raising=False)
    file, message = damaged(how)
    with pytest.raises(UserError) as caught:
        READERS[reader](file)
    said = str(caught.value)
    assert str(file) in said
    assert message in said
    assert len(said.splitlines()) == 1


def test_a_mark_at_the_beginning_of_a_file_is_no_letter(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml(tmp_path / "a.yaml", "file") == {"a": 1}
