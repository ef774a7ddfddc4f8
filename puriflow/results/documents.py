"""Documents of headings, paragraphs and tables, as Markdown or one HTML page; a table as LaTeX."""

import html
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

STYLE = (
    "body{font:15px/1.5 sans-serif;margin:2em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}"
    "td,th{border:1px solid #bbb;padding:.25em .6em;text-align:left;vertical-align:top}"
    "th{background:#eee}"
    # the colours of answers in pictures (puriflow.plots.colours), each with a ground of its own
    "td.good{color:#173;background:#efe}td.bad{color:#a49;background:#fef}"
    "td.alike{color:#036;background:#eff}td.open{color:#555;background:#eee}td.none{color:#777}"
)


# What a tone is to those who see no colours.
SIGNS = {
    "good": "\N{CHECK MARK}",
    "bad": "\N{BALLOT X}",
    "alike": "\N{ALMOST EQUAL TO}",
    "open": "?",
    "none": "\N{EN DASH}",
}


class Toned(str):
    """A text that is good or bad news, as HTML shows it in a table, by sign and colour.

    Attributes:
        tone: of `SIGNS`.
    """

    tone: str

    def __new__(cls, text: str, tone: str) -> Self:
        """The text with its tone."""
        made = super().__new__(cls, text)
        made.tone = tone
        return made

    @property
    def signed(self) -> str:
        """The text behind its sign."""
        return f"{SIGNS[self.tone]} {self}"


@dataclass(frozen=True)
class Heading:
    """A line above what follows; level 1 is the document's."""

    text: str
    level: int


@dataclass(frozen=True)
class Grid:
    """A table: its columns, and rows of as many cells."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = Heading | Grid | str  # a paragraph is a str


def as_markdown(blocks: list[Block]) -> str:
    """Blocks as Markdown."""

    def plain(line: str) -> str:
        return re.sub(r"([\\`*<\[\]|~])", r"\\\1", one_line(line)).replace("&", "&amp;")

    def paragraph(line: str) -> str:  # and no heading, list, quotation, rule or block of code
        return re.sub(r"^([0-9]*)([#+=>_.)-])", r"\1\\\2", plain(line).strip())

    def cells(row: tuple[str, ...]) -> str:
        return "| " + " | ".join(map(plain, row)) + " |"

    lines = []
    for block in blocks:
        if isinstance(block, Heading):
            lines.append(f"{'#' * block.level} {plain(block.text)}")
        elif isinstance(block, str):
            lines.append(paragraph(block))
        else:
            head = [cells(block.columns), cells(("---",) * len(block.columns))]
            lines.append("\n".join([*head, *map(cells, block.rows)]))
    return "\n\n".join(lines) + "\n"


def as_html(blocks: list[Block]) -> str:
    """Blocks as one page."""

    def cell(text: str, tag: str) -> str:
        if isinstance(text, Toned):
            return f'<{tag} class="{text.tone}">{html.escape(text.signed)}</{tag}>'
        return f"<{tag}>{html.escape(text)}</{tag}>"

    def cells(row: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(cell(text, tag) for text in row) + "</tr>"

    lines = [f'<!doctype html><html lang="en"><meta charset="utf-8"><style>{STYLE}</style>']
    for block in blocks:
        if isinstance(block, Heading):
            lines.append(f"<h{block.level}>{html.escape(block.text)}</h{block.level}>")
        elif isinstance(block, str):
            lines.append(f"<p>{html.escape(block)}</p>")
        else:
            body = "\n".join(cells(row, "td") for row in block.rows)
            lines.append(f"<table>\n{cells(block.columns, 'th')}\n{body}\n</table>")
    return "\n".join(lines) + "\n</html>\n"


def as_latex(grid: Grid, *, note: str = "") -> str:
    """A table as a paper prints it, with the rules of booktabs and a note below them."""

    def cells(row: tuple[str, ...]) -> str:
        return " & ".join(map(in_latex, row)) + r" \\"

    body = [cells(row) for row in grid.rows]
    head = rf"\begin{{tabular}}{{l{'r' * (len(grid.columns) - 1)}}}"
    lines = [head, r"\toprule", cells(grid.columns), r"\midrule", *body, r"\bottomrule"]
    span = rf"\multicolumn{{{len(grid.columns)}}}{{l}}"
    below = [rf"{span}{{\footnotesize {in_latex(note)}}}"] if note else []
    return "\n".join([*lines, *below, r"\end{tabular}"]) + "\n"


def in_latex(text: str) -> str:
    """A text in which LaTeX finds no command."""
    words = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(words.get(c, rf"\{c}" if c in "&%$#_{}" else c) for c in one_line(text))


def escaped(line: str) -> str:
    """A text as a line in which reStructuredText finds no markup, no directive and no link."""
    return re.sub(f"([{re.escape(string.punctuation)}])", r"\\\1", one_line(line))


def one_line(text: str) -> str:
    """A text whose lines, if it has several, are one: no line of it begins anything."""
    return " ".join(text.splitlines())


# Cells of a CSV as text, of which an empty one is no text


def text(value: object) -> str:
    """Words."""
    return value if isinstance(value, str) else ""


def fixed(value: float, digits: int = 2) -> str:
    """A number with as many digits behind the point."""
    return "" if value != value else f"{value:.{digits}f}"


def significant(value: float, digits: int = 4) -> str:
    """A number to as many digits."""
    return "" if value != value else f"{value:.{digits}g}"


def interval(value: float, low: float, high: float, say: Callable[[float], str] = fixed) -> str:
    """A number with its interval, where it has one."""
    return say(value) if low != low else f"{say(value)} ({say(low)} to {say(high)})"
