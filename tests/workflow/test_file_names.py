"""Names that reach paths and shell commands: of roles, of results, and of what lies beside them."""

import re

import pytest
import yaml
from tiny_track import FIGURE, TABLE, TIMING

from puriflow.config import check_config
from puriflow.config.track import NAME
from puriflow.errors import UserError
from puriflow.results import RESULT, find, misnamed, names

# What a shell, a pattern of Snakemake or a path would take for more than a name.
BAD = (
    *("a;b", "a b", "a$(b)", "a`b`", "a{b}", "a|b", "a&b", "a>b", "a\nb", "a/b", "../a", "a'b"),
    *('a"b', "a*b", "a(1", "-a", ".a", "", "a\\b", "a?b", "a#b", "~a", "a\n", "é"),
)


@pytest.fixture(scope="module")
def rules(repository):
    """The text of all rules, and of the Snakefile."""
    folder = repository / "workflow"
    files = [folder / "Snakefile", *sorted((folder / "rules").glob("*.smk"))]
    return {file.name: file.read_text() for file in files}


def test_every_value_in_every_shell_command_is_quoted(rules):
    commands = [
        command
        for text in rules.values()
        for command in re.findall(r'^    shell:\n((?: {8}["#][^\n]*\n)+)', text, re.MULTILINE)
    ]
    assert len(commands) == sum(text.count("    shell:") for text in rules.values()) > 15
    for command in commands:
        values = re.findall(r"\{[^}]*\}", command)
        assert values, command
        assert all(value.endswith(":q}") for value in values), command


def test_every_wildcard_is_constrained(rules):
    block = rules["Snakefile"].partition("wildcard_constraints:\n")[2].partition("\n\n")[0]
    constrained = set(re.findall(r"^    (\w+)=", block, re.MULTILINE))
    for name, text in rules.items():
        outputs = re.findall(r"^    output:\n((?: {8}.*\n)+)", text, re.MULTILINE)
        used = {wildcard for output in outputs for wildcard in re.findall(r"\{(\w+)\}", output)}
        assert used <= constrained, name


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("pattern", [NAME, RESULT], ids=["role", "result"])
def test_no_pattern_of_names_lets_a_shell_in(pattern, bad):
    assert not re.fullmatch(pattern, bad)


@pytest.mark.parametrize("bad", [*BAD, "Capital", "a" * 61])
def test_a_track_with_a_bad_name_is_refused(repository, bad):
    raw = yaml.safe_load((repository / "config" / "config.yaml").read_text())
    raw["restorers"][bad] = {"kind": "bicubic"}
    with pytest.raises(UserError, match="config: restorers") as caught:
        check_config(raw)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(UserError, match="config: track"):
        check_config({**raw, "track": f"{bad}/" if len(bad) > 60 or bad == "Capital" else bad})


def test_stray_files_beside_results_are_no_results(tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    for name in ("t", "Table_7.b", ".#t", "._t", "t(1", "a`b`", "{a}", "a\nb", "a b"):
        (folder / f"{name}.yaml").touch()
    assert names(tmp_path)["tables"] == ["Table_7.b", "t"]
    assert {file.stem for file in misnamed(tmp_path)} == {"t(1", "a`b`", "{a}", "a\nb", "a b"}
    assert find("Table_7.b", tmp_path).name == "Table_7.b.yaml"


def test_only_who_asks_for_a_broken_result_is_stopped(empty):
    """One line names each file that is left out or broken; all other targets are planned."""
    config = empty.folder / "config"
    (config / "tables" / "Table_7.b.yaml").write_text(yaml.safe_dump(TABLE))
    (config / "figures" / "attention.yaml").write_text(yaml.safe_dump(FIGURE))
    (config / "timings" / "t(1.yaml").write_text(yaml.safe_dump(TIMING))
    for name in ("a$(touch pwned)`touch pwned`;touch pwned", "{input}", "a\nb"):
        (config / "tables" / f"{name}.yaml").write_text(yaml.safe_dump(TABLE))
    (config / "tables" / ".#table7.yaml").symlink_to("me@host.1:2")
    (config / "tables" / "._t.yaml").write_bytes(b"\x00\x05\x16\x07")
    (config / "tables" / "syntax.yaml").write_text("a: [")
    targets = ("results/Table_7.b.csv", "results/attention.png", "results/tabletiny.csv")
    said = empty.snakemake(*targets, "--dry-run")
    left_out = [line for line in said.splitlines() if line.startswith("puriflow: ")]
    assert len(left_out) == 4, left_out
    assert "puriflow: 'config/timings/t(1.yaml' is left out" in said
    (config / "tables" / "folder.yaml").mkdir()
    for target, reason in (
        ("results/folder.csv", "result config/tables/folder.yaml: not a file"),
        ("results/syntax.csv", "result config/tables/syntax.yaml: while parsing a flow node"),
        ("all", "result config/tables/"),
    ):
        said = empty.snakemake(target, "--dry-run", check=False)
        assert empty.status != 0
        assert f"puriflow: error: {reason}" in said
        assert "Traceback" not in said
    assert not list(empty.folder.rglob("pwned*"))


def test_files_and_values_overlay_the_track(empty):
    """What --config gives is read as YAML, and not as text; what cannot be is one line."""
    (empty.folder / "over.yaml").write_text("seed: 7\nattacks: {pgd-linf4: {eps: 2/255}}\n")
    files = ("--configfile", "config/config.yaml", "over.yaml")
    given = ("datasets={imagenet: {subset: 3}}", 'restorers={wavelet: {note: "on"}}', "seed=8")
    empty.snakemake("results/tabletiny.csv", "--dry-run", *files, "--config", *given)
    (file,) = (empty.folder / ".snakemake" / "puriflow").glob("*.yaml")
    track = yaml.safe_load(file.read_text())
    assert track["seed"] == 8
    assert track["attacks"]["pgd-linf4"]["eps"] == "2/255"
    assert track["attacks"]["pgd-linf4"]["kind"] == "pgd"
    assert track["datasets"]["imagenet"]["subset"] == 3
    assert track["restorers"]["wavelet"]["note"] == "on"
    for wrong, reason in (
        ("datasets={imagenet: {subset: '3'}}", "config: datasets.imagenet.subset: Input should be"),
        ("datasets={imagenet: {subset: 3, subset: 4}}", "--config datasets: the key 'subset' is"),
    ):
        said = empty.snakemake("tables", "--dry-run", "--config", wrong, check=False)
        assert empty.status != 0
        assert f"puriflow: error: {reason}" in said


def test_a_checkpoint_that_is_moved_reruns_nothing(empty):
    target = "results/restore/imagenet/none/none/edsr-x2/0-of-1/manifest.json"
    empty.snakemake(target)
    (empty.folder / "elsewhere").mkdir()
    (empty.folder / "edsr.safetensors").rename(empty.folder / "elsewhere" / "e.safetensors")

    def change(config):
        config["restorers"]["edsr-x2"]["weights"] = "elsewhere/e.safetensors"

    empty.edit(change)
    assert empty.planned(target) == {}
    (empty.folder / "elsewhere" / "e.safetensors").write_bytes(b"other")
    assert empty.planned(target) == {"restore_images": 1}
