"""Documents (what YAML and JSON files say) that are changed in one place, for property tests."""

import copy
from typing import Any

from hypothesis import strategies as st

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([10**9, 10**30, -(10**30), 1e308, 1e-320])
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["none", "1", "4.0", "true", "nan", "../x", "a b", "$(x)", "`x`", "\n", "é"])
)
KEYS = st.text(max_size=6) | st.sampled_from(["kind", "network", "weights", "extends", "none"])
ODD = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=4,
)
Place = tuple[Any, ...]  # keys and positions, from the outermost


def places(document: Any, at: Place = ()) -> list[Place]:
    """All places of a document, itself among them."""
    keys = document.keys() if isinstance(document, dict) else ()
    keys = range(len(document)) if isinstance(document, list) else keys
    return [at, *(place for key in keys for place in places(document[key], (*at, key)))]


def value_at(document: Any, place: Place) -> Any:
    """What a place holds; LookupError or TypeError if there is no such place."""
    for key in place:
        document = document[key]
    return document


@st.composite
def changed(draw: st.DrawFn, document: Any) -> tuple[Any, Place, Any]:
    """A document with another value in one place, the place, and the value."""
    place, value = draw(st.sampled_from(places(document))), draw(ODD)
    if not place:
        return value, place, value
    found = copy.deepcopy(document)
    value_at(found, place[:-1])[place[-1]] = value
    return found, place, value


@st.composite
def misspelt(draw: st.DrawFn, document: Any) -> Any:
    """A document in which one mapping lost a key, has one more, or has one of another name."""
    mappings = [p for p in places(document) if isinstance(value_at(document, p), dict)]
    found = copy.deepcopy(document)
    mapping = value_at(found, draw(st.sampled_from(mappings)))
    value = ODD
    if mapping and draw(st.booleans()):
        value = st.just(mapping.pop(draw(st.sampled_from(list(mapping)))))
    if draw(st.booleans()):
        mapping[draw(KEYS)] = draw(value)
    return found


def same(given: Any, kept: Any) -> bool:
    """Whether a value was kept as it was given.

    A list may be a tuple, a whole number a float, and one value the only one of a list.
    """
    match given, kept:
        case dict(), dict():
            return given.keys() <= kept.keys() and all(same(given[k], kept[k]) for k in given)
        case list(), list() | tuple():
            return len(given) == len(kept) and all(map(same, given, kept))
        case ((list() | dict()), _):
            return False
        case _, (list() | tuple() | dict()):
            inner = kept.values() if isinstance(kept, dict) else kept
            return any(same(given, one) for one in inner)
        case bool(), _:
            return given is kept
        case int(), float():
            return float(given) == kept
    return type(given) is type(kept) and (given == kept or given != given)
