"""What the changelog and the citation say is so."""

import re
import tomllib

import yaml

from puriflow import renames


def test_the_changelog_has_every_rename(repository):
    lines = (repository / "CHANGELOG.md").read_text().splitlines()
    rows = [set(re.findall("`([^`]+)`", line)) for line in lines if line.startswith("|")]
    sections = [renames.KINDS_RENAMED, *renames.OPTIONS_RENAMED.values()]
    pairs = {pair for kinds in sections for names in kinds.values() for pair in names.items()}
    pairs |= {(old.rpartition(".")[2], new) for old, new in renames.KEYS_RENAMED.items()}
    assert [pair for pair in sorted(pairs) if not any(set(pair) <= row for row in rows)] == []
    commands = {name.removeprefix("puriflow ") for row in rows for name in row}
    assert renames.COMMANDS_RENAMED.keys() <= commands


def test_the_citation_is_of_this_software_and_the_paper(repository):
    cited = yaml.safe_load((repository / "CITATION.cff").read_text())
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    readme = " ".join((repository / "README.md").read_text().split())
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert cited["title"].partition(": ")[2].capitalize() in readme
    paper = cited["preferred-citation"]
    assert f'"{paper["title"]}" (ICCV {paper["year"]})' in readme
    assert all({"given-names", "family-names"} <= author.keys() for author in paper["authors"])
