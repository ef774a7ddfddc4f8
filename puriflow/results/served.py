"""What served, in the words of pictures: a name of the paper stands only beside what stood for it.

A track may serve a role by another network than the paper's: `resnet50` is EfficientNet-Lite0 on
the mini track. Whoever sees only the picture must see that too.
"""

import re
from collections.abc import Iterable, Mapping

from puriflow.config import Config

ROLES = {"classifier": "", "dataset": "on ", "attack": "under "}  # and what leads to each
OPTIONS = {  # of roles, as axes call them
    "t": "diffusion time t' of the purifier",
    "bands": "share of the lowest DCT bands left to the attack",
    "evaluations": "evaluations of the purifier's network",
}
MOST = 3  # names of a role; more are counted


def here(track: Config, named: Iterable[tuple[str, str]]) -> str:
    """What serves classifiers, data sets and attacks on a track: `here: LITE0 on FOOLBOX20`.

    Args:
        track: which serves them.
        named: roles and names; others than these three are passed over.
    """
    found: dict[str, list[str]] = {}
    for role, name in dict.fromkeys(named):
        found.setdefault(role, []).append(track.served(role, name).by)
    words = [
        leading + (_listed(by) if len(by) <= MOST else f"{len(by)} {role}s")
        for role, leading in ROLES.items()
        if (by := found.get(role))
    ]
    return f"here: {' '.join(words)}" if words else ""


def renamed(text: str, served: Mapping[str, str]) -> str:
    """A text in which what served stands where it spells the name of a role.

    `ResNet-50` spells `resnet50`: upper case and punctuation do not matter.

    Args:
        text: what the paper calls a row.
        served: by the names of its roles, what serves them.
    """
    spelled = []
    for name, by in served.items():
        letters = re.sub(r"[\W_]", "", name)
        if not letters or letters.lower() == re.sub(r"[\W_]", "", by).lower():
            continue
        pattern = r"(?<![^\W_])" + r"[\W_]*".join(letters) + r"(?![^\W_])"
        spelled += re.findall(pattern, text, re.IGNORECASE)
        text = re.sub(pattern, lambda _, by=by: by, text, flags=re.IGNORECASE)
    last = f"(for {', '.join(spelled)})".replace(" ", "\N{NO-BREAK SPACE}")  # on one line
    return f"{text} {last}" if spelled else text


def _listed(names: Iterable[str]) -> str:
    """`a, b and c`, each once."""
    *others, last = dict.fromkeys(names)
    return f"{', '.join(others)} and {last}" if others else last


def distinct(words: Mapping[str, str]) -> dict[str, str]:
    """Words by what they stand for, which follows in brackets where others have the same words."""
    said = list(words.values())
    return {k: f"{v} ({k})" if said.count(v) > 1 and v != k else v for k, v in words.items()}


def axis(along: str) -> str:
    """What an axis says along which a role lies, or an option of one: `purifier.t`."""
    role, _, option = along.partition(".")
    words = f"{option.replace('_', ' ')} of the {role}" if option else role
    return OPTIONS.get(option, words)
