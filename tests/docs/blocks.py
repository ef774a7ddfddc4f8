"""The fenced blocks of the documentation, and the commands in them."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FENCE = re.compile(r"^ *```(\w*)$")


@dataclass(frozen=True)
class Block:
    """A piece of documentation that can be run or read by a program.

    Attributes:
        file: relative to the repository.
        line: where it begins.
        language: of the fence.
        text: a whole block, but of bash one command.
    """

    file: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {' '.join(self.text.split())[:60]}"


def documents() -> list[str]:
    """All Markdown files of which every block is tested."""
    found = [*(REPOSITORY / "docs").glob("*.md"), *REPOSITORY.glob("[!.]*/README.md")]
    inner = sorted(str(file.relative_to(REPOSITORY)) for file in found)
    return ["README.md", "CONTRIBUTING.md", *inner]


@cache
def blocks_of(file: str) -> list[Block]:
    """The fenced blocks of a file, with a block for each command of those of bash."""
    found: list[Block] = []
    fence, start, inside = None, 0, []
    for number, line in enumerate((REPOSITORY / file).read_text().splitlines(), start=1):
        fenced = FENCE.match(line)
        if fence is None and fenced:
            fence, start, inside = fenced[1], number + 1, []
        elif fenced:
            block = Block(file, start, fence, "\n".join(inside) + "\n")
            found += commands_of(block) if fence == "bash" else [block]
            fence = None
        else:
            inside.append(line)
    return found


def commands_of(block: Block) -> list[Block]:
    """The commands of a block of bash: its lines, those that end in a backslash with the next."""
    joined = re.sub(r"\\\n", lambda _: " \x00", block.text)
    commands, line = [], block.line
    for text in joined.splitlines():
        command = re.sub(r"(^| +)#.*$", "", text).replace("\x00", "")
        if command.strip():
            commands.append(Block(block.file, line, "bash", " ".join(command.split())))
        line += 1 + text.count("\x00")
    return commands


def all_blocks(language: str | None = None) -> list[Block]:
    """Of all documents, in order."""
    blocks = [block for file in documents() for block in blocks_of(file)]
    return [block for block in blocks if language in (None, block.language)]
