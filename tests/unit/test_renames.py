"""Old names of kinds and options are answered with the new ones, which are there."""

import pytest

from puriflow.errors import UserError
from puriflow.registry import family_named, kinds, part_of
from puriflow.renames import KINDS_RENAMED, OPTIONS_RENAMED

KINDS = [(s, old, new) for s, pairs in KINDS_RENAMED.items() for old, new in pairs.items()]
OPTIONS = [
    (section, kind, old, new)
    for section, by_kind in OPTIONS_RENAMED.items()
    for kind, pairs in by_kind.items()
    for old, new in pairs.items()
]


@pytest.mark.parametrize(("section", "old", "new"), KINDS)
def test_an_old_kind_names_the_new_one(section, old, new):
    assert new in kinds(section)
    with pytest.raises(UserError, match=f"kind '{old}' is now '{new}'"):
        part_of(family_named(section).roles[0], "x", {"kind": old})


@pytest.mark.parametrize(("section", "kind", "old", "new"), OPTIONS)
def test_an_old_option_names_the_new_one(section, kind, old, new):
    assert new in kinds(section)[kind].options
    with pytest.raises(UserError, match=f"option '{old}' of {kind} is now '{new}'"):
        part_of(family_named(section).roles[0], "x", {"kind": kind, old: 1})
