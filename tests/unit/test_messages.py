"""What the command says, and where: results on standard output, all else on standard error."""

import json
import logging
import os
import pty
import re
import shutil
import subprocess
import sys

import pytest
from tiny_parts import tiny

from puriflow.cli import main
from puriflow.messages import LOGGER, OnStderr
from puriflow.progress import Cell, Log, Nowhere, Progress, Terminal
from puriflow.stages.images import write_images

COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-79]|38;5;\d+|9\d)[0-9;]*m")
ADVANCES = """
import sys, time
from puriflow.progress import Progress
with Progress("purify", total=4, unit="tiles") as progress:
    for _ in range(4):
        time.sleep(0.05)
        progress.advance(1)
"""


@pytest.fixture(autouse=True)
def level():
    """The logger is left as it was."""
    before = LOGGER.level
    yield
    LOGGER.setLevel(before)


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs `puriflow`; its status, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["puriflow", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run


@pytest.fixture
def store(four_images):
    return four_images.folder


# --quiet and --verbose


def test_quiet_says_results_and_what_is_wrong_and_nothing_else(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # without a track of its own, which is said
    status, out, err = command("zoo", "list")
    assert (status, "score-sde-cifar10" in out) == (0, True)
    status, quiet, said = command("--quiet", "zoo", "list")
    assert (status, quiet, said) == (0, out, "")
    status, out, err = command("--quiet", "inspect", "nothing")
    assert (status, out, err) == (2, "", "puriflow: error: store nothing does not exist\n")


@pytest.mark.parametrize("quiet", [True, False])
def test_a_stage_says_what_it_does_unless_it_is_to_be_quiet(
    command, repository, tmp_path, monkeypatch, quiet
):
    monkeypatch.chdir(repository)
    stage = ("stage", "images", "cifar10", "--subset", 2, "--out", tmp_path / "s")
    status, out, err = command(*(["--quiet"] if quiet else []), *stage)
    assert (status, out) == (0, "")
    begun = [
        line for line in err.splitlines() if line.startswith("puriflow: images of 2 images on")
    ]
    assert (len(begun), err == "") == (not quiet, quiet), err


@pytest.mark.parametrize("how", [(), ("--quiet",), ("-q",), ("--verbose",), ("-v",)])
def test_levels(command, repository, monkeypatch, how):
    monkeypatch.chdir(repository)
    status, out, err = command(*how, "audit", "--classifier", "none")
    lines = err.splitlines()
    assert (status, out) == (2, "")
    assert lines[-1].startswith("puriflow: error: a defence without a classifier")
    loud = how in (("--verbose",), ("-v",))
    assert (len(lines) > 1, "Traceback (most recent call last):" in lines) == (loud, loud)
    assert ("puriflow: track config/config.yaml" in lines) == loud


def test_both_are_refused(command):
    status, out, err = command("--quiet", "--verbose", "zoo", "list")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "--quiet and --verbose" in err


@pytest.mark.parametrize("word", ["--quiet", "--verbose"])
@pytest.mark.parametrize(
    ("given", "name"), [(("inspect", "x"), "inspect"), (("zoo", "list"), "zoo list")]
)
def test_behind_the_command_they_are_refused_with_their_place(command, word, given, name):
    status, out, err = command(*given, word)
    assert (status, out) == (2, "")
    assert err == f"puriflow: error: {word} goes before the command: puriflow {word} {name} ...\n"


def test_no_progress_where_puriflow_is_quiet(capsys):
    LOGGER.setLevel(logging.WARNING)
    with Progress("purify", total=1, done=0) as progress:
        progress.advance(1)
    assert isinstance(progress.view, Nowhere)
    assert capsys.readouterr() == ("", "")


def test_progress_in_a_log_is_on_standard_error(capsys):
    with Progress("purify", total=3, done=1) as progress:
        progress.advance(2)
    assert isinstance(progress.view, Log)
    out, err = capsys.readouterr()
    assert out == ""
    first, last = err.splitlines()
    assert first == "puriflow: purify: 1/3 images were done before"
    assert re.fullmatch(r"puriflow: purify: 3/3 images, \S+ images/s, 0:00 left", last)


def test_the_time_left_is_known_when_a_rate_and_the_total_are(monkeypatch):
    monkeypatch.setattr("puriflow.progress.time.monotonic", iter((0.0, 20.0, 0.0, 1.0)).__next__)
    with Progress("purify", total=8, done=1) as progress:
        assert str(progress) == "purify: 1/8 images, 0 images/s, ? left"
        progress.advance(2)
        assert str(progress) == "purify: 3/8 images, 0.1 images/s, 0:50 left"
    with Progress("a.pt", total=0, unit="bytes") as unknown:  # a download of no known size
        unknown.advance(5)
        assert str(unknown) == "a.pt: 5/0 bytes, 5 bytes/s, ? left"


def test_somebody_s_own_handlers_are_left_alone(monkeypatch):
    from puriflow.messages import speak

    assert sum(isinstance(handler, OnStderr) for handler in LOGGER.handlers) == 1
    own = logging.NullHandler()
    monkeypatch.setattr(LOGGER, "handlers", [own])
    LOGGER.setLevel(logging.ERROR)
    speak()
    assert LOGGER.handlers == [own]
    assert LOGGER.level == logging.ERROR


# On a terminal and in a notebook


def on_a_terminal(command, **variables):
    """What a terminal shows of a command."""
    ours, theirs = pty.openpty()
    without = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    environment = {**without, "TERM": "xterm-256color", "COLUMNS": "120", **variables}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as running:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # its end has closed
                break
    os.close(ours)
    assert running.returncode == 0, shown
    return shown.decode()


def test_a_terminal_has_a_bar_with_the_time_left_in_colours_unless_it_wants_none():
    command = [sys.executable, "-c", ADVANCES]
    plain, coloured = on_a_terminal(command, NO_COLOR="1"), on_a_terminal(command)
    for shown in (plain, coloured):
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
        assert "4/4" in text
        assert "tiles/s" in text
        assert re.search(r"\d:\d\d:\d\d", text)
    assert COLOUR.search(coloured)
    assert not COLOUR.search(plain)


def test_help_has_colours_unless_a_terminal_wants_none():
    command = [sys.executable, "-c", "from puriflow.cli import main; main()", "--help"]
    assert COLOUR.search(on_a_terminal(command))
    assert not COLOUR.search(on_a_terminal(command, NO_COLOR="1"))


def test_a_notebook_has_one_line_that_is_written_anew(monkeypatch):
    shown = []

    class Handle:
        def update(self, data, raw):
            shown.append(data["text/plain"])

    def display(data, raw, display_id):
        shown.append(data["text/plain"])
        return Handle()

    display_module = pytest.importorskip("IPython.display")
    monkeypatch.setattr(display_module, "display", display)
    monkeypatch.setattr("puriflow.progress._in_notebook", lambda: True)
    with Progress("purify", total=2, unit="tiles") as progress:
        progress.advance(1)
        progress.advance(1)
    assert isinstance(progress.view, Cell)
    assert re.fullmatch(r"\| {30}\| purify: 0/2 tiles, 0 tiles/s, \? left", shown[0])
    assert re.fullmatch(r"\|#{30}\| purify: 2/2 tiles, \S+ tiles/s, 0:00 left", shown[-1])


def test_a_notebook_s_kernel_is_known_by_itself():
    """In a kernel, and not where IPython is only imported."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(ADVANCES)])
    nbclient.NotebookClient(notebook, timeout=120).execute()
    (output,) = notebook.cells[0].outputs  # the line as it was last
    assert "purify: 4/4 tiles, " in output["data"]["text/plain"]
    code = "import IPython; from puriflow.progress import Log, _view; assert type(_view()) is Log"
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)


def test_a_bar_is_a_terminal_s(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert isinstance(Progress("purify", total=1).view, Terminal)


# --json


def test_inspect_says_what_a_store_is_as_json(command, store):
    status, out, err = command("inspect", store, "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert (found["stage"], found["n"]) == ("images", 4)
    assert found["bytes"] > 0
    assert found["arrays"]["images"] == {"dtype": "float32", "shape": [4, 3, 224, 224]}


def test_the_zoo_lists_its_entries_as_json(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = command("zoo", "list", "--json")
    entries = {entry["name"]: entry for entry in json.loads(out)}
    assert status == 0
    assert entries["guided-diffusion-256"]["role"] == "network"
    assert entries["guided-diffusion-256"]["bytes"] == 2_211_383_297


@pytest.mark.parametrize("damaged", [False, True])
def test_verify_says_what_is_wrong_as_json(command, tmp_path, monkeypatch, damaged):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results" / "images" / "cifar10" / "0-of-1"
    write_images(folder, tiny("datasets", "foolbox", sample="cifar10"), subset=2)
    if damaged:
        (folder / "images.zarr" / "label" / "zarr.json").write_text("{}")
    status, out, _ = command("verify", "--json")
    found = json.loads(out)
    assert (status, found["stores"], len(found["broken"])) == (int(damaged), 1, int(damaged))
    assert found["changed"] == {}
    if damaged:
        assert "label/zarr.json" in found["broken"]["results/images/cifar10/0-of-1"]


def test_benchmark_says_its_record_as_json(command, repository, tmp_path, monkeypatch):
    """The example's model: a record that can be read again, and nothing else beside it."""
    shutil.copytree(repository / "docs" / "example", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    lines = ("defence: mymodel:plain", "data: mymodel:data", "attack: quick", "out: judged")
    (tmp_path / "plain.yaml").write_text("\n".join(lines))
    status, out, _ = command("benchmark", "plain.yaml", "--json", "--gpus", 0)
    assert status == 0
    assert out == (tmp_path / "judged" / "benchmark.json").read_text()
    assert json.loads(out)["defence"]["name"] == "Linear"
