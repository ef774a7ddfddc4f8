"""Tracks, results, claims and manifests changed at random: refused in one line, or kept."""

import contextlib
import json
from collections.abc import Generator

import numpy as np
import pytest
from changed import changed, misspelt, same, value_at
from hypothesis import given
from hypothesis import strategies as st
from tiny_stores import written

from puriflow.config import check_config, load_config, validated
from puriflow.errors import UserError
from puriflow.results import names, results_folder
from puriflow.results.claims import Claims
from puriflow.results.finding import class_of
from puriflow.store import MANIFEST, open_stage
from puriflow.store.manifest import digest
from puriflow.yaml_files import read_yaml

KINDS = [*sorted(names(results_folder())), "tracks", "claims"]


@pytest.fixture(scope="module")
def track(repository):
    return load_config(repository / "config" / "config.yaml")


@pytest.fixture(scope="module")
def documents(repository):
    """What the files of config/ say, by their folders."""
    config = repository / "config"
    found = {kind: sorted((config / kind).glob("*.yaml")) for kind in KINDS}
    found["tracks"], found["claims"] = [config / "config.yaml"], [config / "claims.yaml"]
    return {kind: [read_yaml(file, kind) for file in files] for kind, files in found.items()}


def load(kind, document, track):
    """Use a document as the workflow does before anything is computed."""
    if kind == "claims":
        return validated(Claims, document, "claims")
    if kind == "tracks":
        return check_config(document)
    result = class_of(kind).load(document, "result")
    with contextlib.suppress(UserError):  # of a role that the track does not know
        result.trigger(track)
        result.stores(track)
    return result


@contextlib.contextmanager
def refused_or_fine() -> Generator[None]:
    """Nothing but a UserError of one line may come out."""
    try:
        yield
    except UserError as error:
        lines = str(error).splitlines()
        assert len(lines) == 1, lines  # being refused is as good


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_another_value_is_refused_or_kept(kind, documents, track, data):
    document, place, value = data.draw(changed(data.draw(st.sampled_from(documents[kind]))))
    with refused_or_fine():
        kept = load(kind, document, track).model_dump()
        with contextlib.suppress(LookupError, TypeError):  # a place that the model keeps otherwise
            assert same(value, value_at(kept, place)), (place, value)


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_a_key_too_many_or_too_few_is_refused_or_read(kind, documents, track, data):
    document = data.draw(misspelt(data.draw(st.sampled_from(documents[kind]))))
    with refused_or_fine():
        load(kind, document, track)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """The file of a finished store."""
    images = np.zeros((4, 3, 4, 4), np.float32)
    return written(tmp_path_factory.mktemp("stores") / "a", images, runs=[(0, 4)]).folder / MANIFEST


@given(st.data())
def test_a_manifest_with_another_value_is_refused_or_kept(manifest, data):
    """Its digest is right, as of somebody who means harm."""
    whole = json.loads(manifest.read_bytes())
    document, place, value = data.draw(changed(whole))
    if isinstance(document, dict) and place != ("digest",):
        document["digest"] = digest(document)
    before = manifest.read_bytes()
    manifest.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    try:
        with refused_or_fine():
            assert same(value, value_at(open_stage(manifest).manifest, place))
    finally:
        manifest.write_bytes(before)
