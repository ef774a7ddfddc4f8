"""Every command, module and configuration in the documentation is run, in a tiny copy of this."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from blocks import REPOSITORY, Block, all_blocks, blocks_of, documents

from puriflow.config import Config
from puriflow.results import load_result

LANGUAGES = {"bash", "python", "yaml", "text"}
# Markdown files without a command; so are the cards beside weights.
WITHOUT_COMMANDS = {"CHANGELOG.md"}
WEIGHTS = ".safetensors"


class Substitute(NamedTuple):
    """What is run in the place of a command."""

    pattern: str
    replacement: str
    reason: str


SUBSTITUTES = [
    Substitute(r"^make (.*)", r"make -n \1", "sets up an environment; takes minutes to hours"),
    Substitute(
        r"^python3 -m venv (.*)",
        r"python3 -m venv --without-pip \1",
        "an environment in which nothing is installed needs no pip",
    ),
    Substitute(r"^pip install puriflow$", "pip --version", "tests/installed does it"),
    Substitute(
        r"^pip install (.*)",
        r"pip install --dry-run --no-deps --no-index --no-build-isolation \1",
        "the tests' environment is left as it is",
    ),
    Substitute(r"^pytest$", "pytest tests/unit/test_randomness.py", "all tests hold this one"),
    Substitute(r"^pytest (.+)", r"pytest --collect-only -q \1", "minutes; `pytest` runs them"),
    Substitute(
        r"^(ruff|snakefmt|pyrefly) .*",
        r"\1 --version",
        "tests/workflow/test_style.py runs it; the snippets in the copy have no docstrings",
    ),
    Substitute(
        r"^(snakemake .*)--workflow-profile profiles/(slurm|cluster)(.*)",
        r"\1--workflow-profile profiles/\2 --executor local --dry-run\3",
        "there is no cluster",
    ),
    Substitute(
        r"^(snakemake .*--configfile config/(?:paper|large).yaml.*?)( --dry-run)?$",
        r"\1 --dry-run",
        "they need ImageNet, and the paper track a GPU and the official weights as well",
    ),
    Substitute(
        r"^puriflow audit .*",
        "puriflow audit --help",
        "minutes; tests/unit/test_audit_result.py runs the command",
    ),
    Substitute(
        r"^puriflow demo .*",
        "puriflow demo --help",
        "it serves until it is ended; tests/demo runs it",
    ),
    Substitute(r"^aws s3 sync .*", "true", "there is no bucket; tests/elsewhere copies to one"),
    Substitute(
        r"^puriflow (\w+) .*s3://.*",
        r"puriflow \1 --help",
        "there is no bucket; tests/elsewhere reads one",
    ),
    Substitute(
        r"^(snakemake train_zoo .*)",
        r"\1 --dry-run",
        "hours; tests/workflow trains a tiny track",
    ),
]
# What must be so before a command says what is quoted of it.
PHOTOS = "puriflow stage images imagenet --subset 2 --out my/clean"
BEFORE = {
    "puriflow stage classify my/clean --out my/new --classifier bai2021-deit-s": PHOTOS,
    "puriflow stage restore my/clean --out my --restorer edsr-x2": PHOTOS,
    "snakemake results/table7.png": "rm -f results/table7.png; mkdir -p .snakemake/locks;"
    " echo results/table7.png | tee .snakemake/locks/0.input.lock > .snakemake/locks/0.output.lock",
    "puriflow init my": "mkdir -p my/clean",
    "puriflow inspect my/unfinished": "mkdir -p my/unfinished",
    "puriflow inspect my/damaged": f"{PHOTOS} --out my/damaged;"
    " echo > my/damaged/images.zarr/images/c/0/0/0/0",
    "puriflow purify photo.jpg --out my/taken --restorer edsr-x2": "mkdir -p my/taken;"
    " touch my/taken/photo.png",
}
# The names that snippets of Python take as given.
GIVEN = """
import torch
images, indices = torch.rand(1, 3, 224, 224), [0]
"""


def inline_commands() -> list[str]:
    """Calls of snakemake within sentences, without those that stand for many (`NAME`)."""
    text = "".join((REPOSITORY / file).read_text() for file in documents())
    found = re.findall(r"`(snakemake [^`\n]+)`", text)
    return sorted(
        {command for command in found if not re.search("[A-Z]|--unlock|--report", command)}
    )


def substituted(command: str) -> str:
    """The command that is run."""
    for substitute in SUBSTITUTES:
        if re.search(substitute.pattern, command):
            return re.sub(substitute.pattern, substitute.replacement, command)
    return command


class Shell:
    """Runs commands in the tiny copy, each once."""

    def __init__(self, folder: Path, surroundings: dict[str, str]):
        self.folder, self.surroundings = folder, surroundings
        self.ended: dict[Block, tuple[int, str]] = {}

    def result(self, block: Block) -> tuple[int, str]:
        """Exit status and output of a block, after the README and what its file has before it."""
        for earlier in [*blocks_of("README.md"), *blocks_of(block.file)]:
            if block in self.ended:
                break
            if earlier not in self.ended:
                self.ended[earlier] = self.run(earlier)
        return self.ended[block]

    def run(self, block: Block) -> tuple[int, str]:
        """Run a command or a snippet, or put a module or an entry in its place."""
        if block.language == "bash":
            return self.command(substituted(block.text))
        if command := quoted_command(block):
            if command in BEFORE:
                self.command(BEFORE[command])
            return self.command(command)
        if file := named_file(block):
            (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / file).write_text(block.text)
        elif block.language == "yaml":
            self.configure(yaml.safe_load(block.text))
        elif block.language == "python":
            (self.folder / "snippet.py").write_text(GIVEN + block.text)
            return self.command("python snippet.py")
        return 0, ""

    def configure(self, entries: dict) -> None:
        """Add entries to the tiny track; those of names that it has stay as they are."""
        file = self.folder / "config" / "config.yaml"
        config = yaml.safe_load(file.read_text())
        if entries.keys() <= Config.model_fields.keys():
            for section, named in entries.items():
                config[section] = named | config.get(section, {})
            file.write_text(yaml.safe_dump(config))

    def command(self, line: str) -> tuple[int, str]:
        """Run a line as a shell does."""
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=self.folder,
            env=self.surroundings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return ended.returncode, ended.stdout


@pytest.fixture(scope="session")
def shell(tiny_copy, surroundings):
    return Shell(tiny_copy, surroundings)


def quoted_command(block: Block) -> str | None:
    """The command of a block that quotes what one says."""
    quoted = block.language == "text" and block.text.startswith("$ ")
    return block.text.splitlines()[0].removeprefix("$ ") if quoted else None


def named_file(block: Block) -> str | None:
    """The file that a block is, if its first line says so."""
    found = re.match(r"# ((?:puriflow|config)/\S+\.(?:py|yaml))\n", block.text)
    return found[1] if found else None


@pytest.mark.parametrize("block", all_blocks("bash"), ids=str)
def test_a_command_runs(shell, block):
    status, said = shell.result(block)
    assert status == 0, said


@pytest.mark.parametrize("command", inline_commands())
def test_a_command_within_a_sentence_is_planned(shell, command):
    status, said = shell.command(f"{command} --dry-run")
    assert status == 0, said


@pytest.mark.parametrize("block", all_blocks("python"), ids=str)
def test_python_runs(shell, block):
    status, said = shell.result(block)
    assert status == 0, said


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=str)
def test_a_configuration_is_valid(shell, block):
    """A file of config/ can be loaded; entries fit the tiny track, and the paper track too."""
    shell.result(block)
    file = named_file(block)
    if file and Path(file).parent.name != "config":
        load_result(shell.folder / file)
        return
    program = check_of_file(file) if file else check_of_entries(yaml.safe_load(block.text))
    status, said = shell.command(f"python -c {shlex.quote(program)}")
    assert status == 0, said


def check_of_file(track: str) -> str:
    """A program that checks a track, where the one that it extends is found, or a zoo."""
    if track.endswith("-zoo.yaml"):
        return f"from puriflow.zoo.catalogue import Zoo; Zoo(entries={track!r}).known()"
    if track == "config/benchmark.yaml":
        return f"from puriflow.benchmarking.asked import load_asked; load_asked({track!r})"
    return f"from puriflow.config import load_config; load_config({track!r})"


def check_of_entries(entries: dict) -> str:
    """A program that checks the tiny and the paper track with entries added or replaced."""
    return f"""
import yaml
from puriflow.config import check_config
for track in ("config", "paper"):
    config = yaml.safe_load(open(f"config/{{track}}.yaml"))
    for section, given in {entries!r}.items():
        config[section] = config.get(section, {{}}) | given
    check_config(config, where=track)
"""


@pytest.mark.parametrize("substitute", SUBSTITUTES, ids=lambda s: s.pattern)
def test_every_substitute_is_of_a_command(substitute):
    commands = [block.text for block in all_blocks("bash")]
    assert any(re.search(substitute.pattern, command) for command in commands)


@pytest.mark.parametrize("block", list(filter(quoted_command, all_blocks("text"))), ids=str)
def test_an_error_is_as_quoted(shell, block):
    status, said = shell.result(block)
    assert status != 0
    for line in block.text.splitlines()[1:]:
        pattern = re.escape(line).replace(re.escape("..."), ".*")
        assert re.search(pattern, said), said


@pytest.mark.parametrize("command", BEFORE)
def test_every_preparation_is_of_a_quoted_command(command):
    assert command in map(quoted_command, all_blocks("text"))


@pytest.mark.parametrize("file", documents())
def test_code_is_fenced_and_its_language_known(file):
    assert re.findall(r"\n\n(    \S.*)", unfenced(file)) == []
    assert {block.language for block in blocks_of(file)} <= LANGUAGES


def test_no_other_markdown_file():
    found = list(REPOSITORY.glob("*.md"))
    for folder in ("config", "docs", "puriflow", "resources", "tests", "workflow"):
        found += (REPOSITORY / folder).rglob("*.md")
    named = {str(f.relative_to(REPOSITORY)) for f in found if not f.with_suffix(WEIGHTS).exists()}
    assert named - WITHOUT_COMMANDS == set(documents())


def unfenced(file: str) -> str:
    """The text outside fenced blocks."""
    return re.sub(r"```.*?\n```", "", (REPOSITORY / file).read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("file", documents())
def test_links_and_pictures_are_there(file):
    text = unfenced(file)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        found = (REPOSITORY / file).parent / path if path else REPOSITORY / file
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def anchors(file: Path) -> set[str]:
    """What GitHub makes of the headings of a file."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
