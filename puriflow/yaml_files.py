"""Reading YAML of the user's: tracks, results, claims, and the zoo's own entries.

PyYAML reads YAML 1.1, lets the last of two equal keys win, and takes files that are small on the
disk and endless in memory. Here a number such as 1e-3 is one, as in YAML 1.2, and such files are
refused.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from puriflow.errors import UserError

BEHIND_RESULTS = False
LARGEST = 2**20  # bytes of a file
DEEPEST = 50  # levels of nesting
MOST = 100_000  # values, every alias counted as what it stands for
MERGE = "tag:yaml.org,2002:merge"  # the key <<
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # YAML 1.1 wants a point and a sign


def read_yaml(path: str | Path, what: str) -> Any:
    """The content of a YAML file.

    Args:
        path: of a file in UTF-8.
        what: the file is, in errors.

    Raises:
        UserError: the file cannot be read, is not YAML of plain values, has a key twice, or is
            larger or deeper than any file of ours.
    """
    where, path = f"{what} {path}", Path(path)
    try:
        # Of a pipe nobody knows how long it is, nor whether it ends.
        if not path.is_file() and path.exists() and not path.is_dir():
            raise UserError(f"{where} is no regular file")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise UserError(f"{where} has more than {LARGEST} bytes")
        return yaml.load(content.decode(), Loader)  # noqa: S506, a SafeLoader
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8: {error.reason} at byte {error.start}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f", line {mark.line + 1}"
        said = error.problem or error.context
        raise UserError(f"{where}{line}: {' '.join(str(said).split())[:200]}") from None
    except yaml.YAMLError as error:  # of a character that no YAML has
        raise UserError(f"{where}: {' '.join(str(error).split())[:200]}") from None


class Loader(yaml.SafeLoader):
    """Plain values, each key once, no value that contains itself, and no more than there is room.

    All is checked when a node is composed, before any value is made of it.
    """

    def __init__(self, text: str):
        super().__init__(text)
        self._level = 0
        self._measured: dict[yaml.Node, tuple[int, int]] = {}  # values in it, and levels

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """See yaml.Composer."""
        mark, is_alias = self.peek_event().start_mark, self.check_event(yaml.AliasEvent)
        self._level += 1
        if self._level > DEEPEST:
            raise _refused(f"nested more than {DEEPEST} deep", mark)
        node = super().compose_node(parent, index)
        self._level -= 1
        if node is not None and node not in self._measured:
            if is_alias:  # of a node that is not finished yet
                raise _refused("a value contains itself", mark)
            self._measured[node] = self._measure(node)
        return node

    def _measure(self, node: yaml.Node) -> tuple[int, int]:
        """How many values a node has, and how many levels; what is in it is measured before."""
        if isinstance(node, yaml.ScalarNode):
            self._value(node)
            return 1, 1
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            inner = [one for pair in node.value for one in pair]
        else:
            inner = node.value
        measured = [self._measured[one] for one in inner]
        values = 1 + sum(values for values, _ in measured)
        levels = 1 + max((levels for _, levels in measured), default=0)
        if values > MOST:
            raise _refused(f"it stands for more than {MOST} values", node.start_mark)
        if levels > DEEPEST:
            raise _refused(f"nested more than {DEEPEST} deep", node.start_mark)
        return values, levels

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen: dict[Any, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refused("a key is no plain value", key.start_mark)
            # PyYAML lets the wrong value win where several mappings are merged.
            if key.tag == MERGE and (not isinstance(value, yaml.MappingNode) or _merges(value)):
                raise _refused("<< takes one mapping, which has no << itself", key.start_mark)
            found, line = self._value(key), key.start_mark.line + 1
            if found in seen:
                raise _refused(
                    f"{key.value} is there already, on line {seen[found]}", key.start_mark
                )
            seen[found] = line

    def _value(self, node: yaml.ScalarNode) -> Any:
        if node.tag == MERGE:
            return node.value
        try:
            return self.construct_object(node)
        except (ValueError, TypeError, AttributeError, LookupError):  # as 2001-99-99, or !!bool x
            kind = node.tag.rpartition(":")[2]
            raise _refused(f"{node.value[:50]} is no {kind}", node.start_mark) from None


def _merges(node: yaml.MappingNode) -> bool:
    return any(key.tag == MERGE for key, _ in node.value)


def _refused(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(f"^{NUMBER.pattern}$"), [*"-+.0123456789"]
)
