"""YAML as all files of PuriFlow are read: the core schema of YAML 1.2, and nothing ambiguous.

What YAML 1.1 and 1.2 read differently (`on`, `012`, `1:30`, a date) is refused rather than guessed,
but for `1e-3`, which is a number. So are a key that is given twice, a key that is no text, tags,
and what would fill the memory: aliases of aliases, or a thousand lists in each other.
"""

import math
import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

from puriflow.errors import UserError

BEHIND_RESULTS = False
LARGEST = 1 << 20  # bytes of a file
DEEPEST = 50  # lists and mappings in each other
MOST = 100_000  # values of a file, those behind an alias as often as it is used
STR, FLOAT, MERGE = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "float", "merge"))
PLAIN = {  # what is no text, when it is not quoted
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9][0-9]*)",
    "float": r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": "<<",
}
BEFORE = yaml.resolver.Resolver()  # YAML 1.1
OCTAL = re.compile(r"[-+]?0o?[0-9]+")  # one of both versions reads an octal number


def read_yaml(path: str | Path, what: str) -> Any:
    """The content of a YAML file: mappings with keys of text, lists, text, numbers and so on.

    Args:
        path: of the file, at most 1 MiB of UTF-8.
        what: it is, in the words of an error.

    Raises:
        UserError: there is no such file, or it is not as above.
    """
    path, where = Path(path), f"{what} {path}"
    try:
        size = path.stat().st_size
        if not path.is_file():  # a folder, or a pipe that never ends
            raise UserError(f"{where}: not a file")
        if size > LARGEST:
            raise UserError(f"{where}: {size} bytes; at most {LARGEST} are read")
        return parse_yaml(path.read_bytes().decode("utf-8-sig"), where)
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 at byte {error.start}") from None
    except ValueError:  # a NUL in it
        raise UserError(f"{what} {str(path)!r}: no name of a file") from None


def parse_yaml(text: str, where: str) -> Any:
    """The content of a text in YAML; see `read_yaml`.

    Args:
        text: one document.
        where: it is from, in the words of an error.
    """
    try:
        return _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(filter(None, (error.context, error.problem)))
        line = f" (line {mark.line + 1})" if mark else ""
        raise UserError(f"{where}: {' '.join(said.split())}{line}") from None
    except (yaml.YAMLError, ValueError) as error:  # a number of thousands of digits, for one
        raise UserError(f"{where}: {' '.join(str(error).split())}") from None


def dump_yaml(data: Any) -> str:
    """Plain data as YAML, which is read as the same again, by these rules and by others.

    What is not ASCII is escaped: of the line breaks of Unicode, PyYAML would make others.
    """
    return yaml.dump(data, Dumper=_Dumper, sort_keys=True, width=100)


class _Loader(yaml.SafeLoader):
    """PyYAML's loader of plain data, with the rules above."""

    def __init__(self, text: str):
        super().__init__(text)
        self.depth = 0
        self.measured: dict[int, tuple[int, int]] = {}  # number of values and depth, by node

    def refuse(self, problem: str, mark: yaml.Mark) -> NoReturn:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        mark = event.start_mark
        if getattr(event, "tag", None) is not None:
            self.refuse(f"the tag {event.tag} is not read here", mark)
        self.depth += 1
        if self.depth > DEEPEST:
            self.refuse(f"more than {DEEPEST} lists and mappings in each other", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self.measured:
                self.refuse(f"*{event.anchor} is part of itself", mark)
        else:
            self.measured[id(node)] = self.measure(node)
        size, depth = self.measured[id(node)]
        if size > MOST or depth > DEEPEST:
            self.refuse(f"more than {MOST} values, or {DEEPEST} in each other, by aliases", mark)
        return node

    def measure(self, node: Any) -> tuple[int, int]:
        """The number of values in a node, and how deep it is."""
        if isinstance(node, yaml.ScalarNode):
            return 1, 1
        if isinstance(node, yaml.MappingNode):
            self.check_keys(node)
            inner = [self.measured[id(value)] for _, value in node.value]
        else:
            inner = [self.measured[id(value)] for value in node.value]
        return 1 + sum(size for size, _ in inner), 1 + max((d for _, d in inner), default=0)

    def check_keys(self, node: yaml.MappingNode) -> None:
        seen: dict[str, int] = {}
        for key, value in node.value:
            # PyYAML lets the wrong value win where a merged mapping merges another one.
            if key.tag == MERGE and any(inner.tag == MERGE for inner, _ in _pairs(value)):
                self.refuse("<< takes a mapping that has no << itself", key.start_mark)
            if key.tag not in (STR, MERGE):
                named = key.value if isinstance(key, yaml.ScalarNode) else "of a mapping"
                self.refuse(f"the key {named} is no text: put it in quotes", key.start_mark)
            line = key.start_mark.line + 1
            if key.value in seen:
                both = f"lines {seen[key.value]} and {line}"
                self.refuse(f"the key {key.value!r} is given twice, in {both}", key.start_mark)
            seen[key.value] = line

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        if node.style is None and _ambiguous(node.value, node.tag):
            self.refuse(
                f"{node.value[:40]} is not the same in all versions of YAML: put it in quotes, or "
                "write true, false or a decimal number",
                node.start_mark,
            )
        return node

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        number = super().construct_yaml_float(node)
        if not math.isfinite(number):
            self.refuse(f"{node.value[:40]} is no finite number", node.start_mark)
        return number


def _pairs(node: yaml.Node) -> list[tuple[yaml.Node, yaml.Node]]:
    """Keys and values of a mapping, or of all mappings in a list."""
    if isinstance(node, yaml.SequenceNode):
        return [pair for inner in node.value for pair in _pairs(inner)]
    return node.value if isinstance(node, yaml.MappingNode) else []


def _ambiguous(text: str, tag: str) -> bool:
    """Whether versions of YAML do not agree that something unquoted is of this tag."""
    before = BEFORE.resolve(yaml.ScalarNode, text, (True, False))
    octal = OCTAL.fullmatch(text) is not None and text.lstrip("+-") != "0"
    return octal or (before != tag and (before, tag) != (STR, FLOAT))


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper of plain data, which quotes the text that would be none to `_Loader`."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        tag = super().resolve(kind, value, implicit)
        if kind is yaml.ScalarNode and implicit[0] and tag == STR:
            tag = READER.resolve(kind, value, implicit)
            return FLOAT if tag == STR and _ambiguous(value, tag) else tag
        return tag


_Loader.yaml_implicit_resolvers = {}  # none of those of YAML 1.1
for _kind, _pattern in PLAIN.items():
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(rf"^({_pattern})$"), None
    )
_Loader.add_constructor(FLOAT, _Loader.construct_yaml_float)
READER = _Loader("")
