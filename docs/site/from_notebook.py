"""A notebook as a page: its text, its code, and what it shows as it is stored."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PICTURES = ("image/png", "image/jpeg")


def as_page(notebook: Path) -> str:
    """The Markdown of a notebook."""
    cells = json.loads(notebook.read_text())["cells"]
    return "\n\n".join(part for cell in cells for part in parts_of(cell)) + "\n"


def parts_of(cell: dict[str, Any]) -> Iterator[str]:
    """A cell's text, or its code and outputs."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    magic, _, command = source.partition("\n")
    yield fenced(command, "bash") if magic.startswith("%%bash") else fenced(source, "python")
    for output in cell["outputs"]:
        data = output.get("data", {})
        text = "".join(output.get("text", data.get("text/plain", "")))
        picture = next((kind for kind in PICTURES if kind in data), None)
        if picture is None:
            yield fenced(text.rstrip("\n"), "text")
        else:
            content = "".join(data[picture]).replace("\n", "")
            yield f'<img alt="what the cell shows" src="data:{picture};base64,{content}">'


def fenced(text: str, language: str) -> str:
    """A block of code."""
    return f"```{language}\n{text}\n```"
