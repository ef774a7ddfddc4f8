"""Tracks and results that hypothesis changed: refused in one line, or read as they are written."""

import contextlib

import pytest
import yaml
from documents import changed, misspelt, same, value_at
from hypothesis import given
from hypothesis import strategies as st

from puriflow.config import check_config, load_config
from puriflow.errors import UserError
from puriflow.results.claims import Claims
from puriflow.results.finding import class_of, names
from puriflow.config import validated

FOLDERS = sorted(names())


@pytest.fixture(scope="module")
def track(repository):
    return load_config(repository / "config" / "config.yaml")


@pytest.fixture(scope="module")
def documents(repository):
    """The content of the files of config/, by their folders."""
    read = {folder: [] for folder in FOLDERS}
    for folder in FOLDERS:
        for file in sorted((repository / "config" / folder).glob("*.yaml")):
            read[folder].append(yaml.safe_load(file.read_text()))
    read["tracks"] = [yaml.safe_load((repository / "config" / "config.yaml").read_text())]
    read["claims"] = [yaml.safe_load((repository / "config" / "claims.yaml").read_text())]
    return read


def read(folder, document, track):
    """What a document says, used as the workflow does before anything is computed."""
    if folder == "claims":
        return validated(Claims, document, "claims")
    if folder == "tracks":
        return check_config(document)
    result = class_of(folder).load(document, "result")
    with contextlib.suppress(UserError):  # of a role that the track does not know
        result.stores(track)
        result.trigger(track)
        result.modules()
    return result


def is_a_line(error):
    text = str(error)
    return text == " ".join(text.split()) or len(text.splitlines()) == 1


@pytest.mark.parametrize("folder", [*FOLDERS, "tracks", "claims"])
@given(st.data())
def test_another_value_is_refused_or_kept(folder, documents, track, data):
    whole = data.draw(st.sampled_from(documents[folder]))
    document, place, value = data.draw(changed(whole))
    try:
        what = read(folder, document, track)
    except UserError as error:
        assert is_a_line(error)
        return
    with contextlib.suppress(LookupError, TypeError):  # a place that the model writes otherwise
        kept = value_at(what.model_dump(), place)
        assert same(value, kept), f"{place} is {value!r}, but {kept!r} was read"


@pytest.mark.parametrize("folder", [*FOLDERS, "tracks", "claims"])
@given(st.data())
def test_another_key_is_refused_or_kept(folder, documents, track, data):
    whole = data.draw(st.sampled_from(documents[folder]))
    try:
        read(folder, data.draw(misspelt(whole)), track)
    except UserError as error:
        assert is_a_line(error)
