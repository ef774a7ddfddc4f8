"""The card of a trained network: what it is, what it was trained on, and how good it is."""

from collections.abc import Iterable, Mapping, Sequence


def card(name: str, facts: Mapping[str, str], quality: Sequence[str]) -> str:
    """Markdown of facts by what they are about, and the lines of a table."""
    lines = [f"- {about}: {fact}" for about, fact in facts.items()]
    return "\n".join([f"# {name}", "", *lines, "", *quality, ""])


def table(sentence: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table, below a sentence that says what is in it."""
    cells = [f"| {' | '.join(row)} |" for row in (columns, *rows)]
    return [sentence, "", cells[0], "|" + "---|" * len(columns), *cells[1:]]
