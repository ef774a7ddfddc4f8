"""The demo: what it computes, what it refuses, and the page in a browser on one CIFAR-10 image."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from browser import chromium, opened
from PIL import Image

from puriflow.config import load_config
from puriflow.demo.bench import ATTACKS, DRAWS, Asked, Bench
from puriflow.demo.page import ENDS, KEPT, pictures, summary
from puriflow.errors import UserError

ON_CLASSIFIER, IDENTITY, EXACT, SQUARE = list(ATTACKS)[1:]
CNN = "wrn-28-10"


@pytest.fixture(scope="module")
def bench(repository):
    return Bench(load_config(repository / "config" / "config.yaml"), torch.device("cpu"))


@pytest.fixture(scope="module")
def cat(bench):
    """The first image of CIFAR-10's samples, and its label."""
    return bench.sample(CNN, 0)


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_stage_is_shown(bench, cat, attack):
    asked = Asked(CNN, "mdsr-x2", "osd-t100", attack=attack, eps=4, steps=2)
    found = bench.tried(*cat, asked)
    attacked = [] if attack == "none" else ["attacked"]
    assert [seen.what for seen in found.stages] == ["clean", *attacked, "restored", "purified"]
    assert len(found.answers) == DRAWS
    assert found.label == "cat"
    assert len(pictures(found)) == len(found.stages) + len(attacked) + 1
    if attacked:
        change = np.abs(found.stages[1].image - found.stages[0].image).max()
        assert 0 < change <= 4 / 255 + 1e-6
    assert f"of {DRAWS} fresh answers" in summary(found)


def test_without_a_label_the_attack_is_on_the_first_answer(bench, cat):
    found = bench.tried(cat[0], None, Asked(CNN, attack=ON_CLASSIFIER, steps=3))
    assert [seen.what for seen in found.stages] == ["clean", "attacked"]
    assert found.label == found.stages[0].answer
    assert "the attack is on the first answer" in summary(found)


def test_t_and_solver_take_the_place_of_the_entry_s(bench):
    def options(**changes):
        part = bench.purifier(Asked(CNN, purifier="vpsde-t100", **changes))
        return {key: part.options.get(key) for key in ("t", "solver", "evaluations", "correction")}

    entry = {"t": 100, "solver": "sde-dpmpp-2m", "evaluations": 10, "correction": "heun"}
    assert options() == entry
    assert options(t=30) == {**entry, "t": 30}
    plain = {"t": 100, "solver": "euler-maruyama", "evaluations": None, "correction": None}
    assert options(solver="euler-maruyama") == plain


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"eps": 17}, "eps is 17, but must be from 0 to 16"),
        ({"steps": 10**9}, "steps is 1000000000, but must be from 1 to 40"),
        ({"steps": 0}, "steps is 0"),
        ({"t": "9"}, "t is '9'"),
        ({"t": float("nan")}, "t is nan"),
        ({"attack": "PDG"}, "unknown attack 'PDG'"),
        ({"solver": "heun"}, "unknown solver 'heun'"),
        ({"classifier": "wrn"}, "unknown classifier 'wrn'"),
        ({"purifier": "scoreopt-o", "t": 50}, r"purifier scoreopt-o \(scoreopt\) has no t"),
        ({"purifier": "ode-t100", "solver": "sde-dpmpp"}, "unknown solver .*did you mean 'dpmpp-"),
    ],
)
def test_what_is_out_of_bounds_is_refused(bench, cat, changes, says):
    with pytest.raises(UserError, match=says):
        bench.tried(*cat, Asked(**{"classifier": CNN, **changes}))


def test_time_and_size_are_bounded(bench, cat, tmp_path, monkeypatch):
    impatient = Bench(bench.track, bench.device, limit=0)
    found = impatient.tried(*cat, Asked(CNN, "none", "osd-t100", attack=EXACT, steps=5))
    assert any("stopped after 1 of 5 steps" in note for note in found.notes)
    assert len(found.answers) == 1
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    assert bench.opened(tmp_path / "red.png").shape == (1, 3, 30, 40)
    monkeypatch.setattr("puriflow.demo.bench.LARGEST", 1000)
    with pytest.raises(UserError, match=r"red.png has more than 1000 pixels"):
        bench.opened(tmp_path / "red.png")


def test_a_picture_of_any_size_is_brought_to_the_classifier_s(bench):
    image = torch.rand(1, 3, 50, 80, generator=torch.Generator().manual_seed(0))
    found = bench.tried(image, None, Asked(CNN))
    assert found.stages[0].image.shape == (3, 32, 32)


# How it ends

WRITES = """
import os, signal, tempfile, threading, time
from contextlib import suppress
from pathlib import Path
from puriflow.demo.page import own_folder
def write(folder):  # as Gradio does behind a request, which makes the folder if it is missing
    while True:
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
            (folder / "picture.png").touch()
with own_folder() as made:
    threading.Thread(target=write, args=(made,)).start()
    print(tempfile.gettempdir(), signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, flush=True)
    while True:
        time.sleep(0.1)
"""


def heard():
    """Whoever started the tests may have had signals ignored, and children take that over."""
    for number in ENDS:
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("before", "number"), [*(((), number) for number in ENDS), (("nohup",), signal.SIGTERM)]
)
def test_whatever_ends_it_its_folder_is_gone_though_a_thread_writes(
    repository, tmp_path, before, number
):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(repository)}
    started = subprocess.Popen(
        [*before, sys.executable, "-c", WRITES],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heard,
    )
    folder, ignored = started.stdout.readline().split()
    (made,) = tmp_path.iterdir()
    assert (Path(folder), ignored) == (made, str(bool(before)))
    started.send_signal(number)
    try:
        assert started.wait(timeout=60) == 0
    finally:
        started.kill()
    assert list(tmp_path.iterdir()) == []


# The page

SERVES = """
from puriflow.cli import main
from puriflow.demo import bench, page
page.KEPT = {kept}
tried = bench.Bench.tried
def told(self, *given):
    print("computes", flush=True)
    return tried(self, *given)
bench.Bench.tried = told
main()
"""


class Served:
    """A process that serves the page, with a home, a working and a temporary folder of its own."""

    def __init__(self, python, repository, folder, kept):
        self.home, self.work, self.temporary = (folder / name for name in ("home", "cwd", "tmp"))
        for made in (self.home, self.work, self.temporary):
            made.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/"
        own = {"HOME": str(self.home), "TMPDIR": str(self.temporary)}
        own |= {"PYTHONPATH": str(repository), "PYTHONDONTWRITEBYTECODE": "1"}
        code = SERVES.format(kept=kept)
        self.process = subprocess.Popen(
            [python, "-c", code, "demo", "--port", str(self.port), "--threads", "1"],
            cwd=self.work,
            env=os.environ | own,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said = self.process.stdout.readline()

    @property
    def pictures(self):
        """Those that it has on the disk."""
        return sorted(self.temporary.rglob("*.png"))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@pytest.fixture
def served(repository, tmp_path_factory, request):
    beside = repository / ".venv" / "demo" / "bin" / "python"
    here = importlib.util.find_spec("gradio") is not None
    if not beside.is_file() and not here:
        pytest.skip(f"needs Gradio in {beside}, which `make test` makes")
    python = sys.executable if here else str(beside)
    kept = getattr(request, "param", KEPT)
    started = Served(python, repository, tmp_path_factory.mktemp("served"), kept)
    yield started
    if started.process.poll() is None:
        started.process.kill()
        started.process.wait()


LONG = 300_000  # milliseconds, in which any request is answered
CHOSEN = """([label, name]) =>
    !document.querySelector('[role=listbox]') &&
    document.querySelector(`input[aria-label="${label}"]`).value === name"""
GRADIOS = "warning: Method not implemented."


def choose(page, label, name):
    """Choose by the mouse: Enter chooses from the list as it is, filtered or not yet."""
    page.get_by_label(label, exact=True).first.fill(name)
    page.get_by_role("option", name=name, exact=True).click()
    page.wait_for_function(CHOSEN, arg=[label, name])


def drop(page, file):
    """Drop a picture, and wait until it is the image that is chosen."""
    page.locator("input[type=file]").set_input_files(file)
    page.wait_for_function("document.querySelector('input[aria-label=Image]').value === ''")


def run(page, text):
    """Press the button, and wait for a text."""
    page.get_by_role("button", name="Try it").click()
    page.get_by_text(text).first.wait_for()


def test_the_page_tries_an_image_and_leaves_nothing(served, tmp_path):
    assert served.said == f"{served.address} is open on this machine; Ctrl-C ends it\n"
    connections = psutil.Process(served.process.pid).net_connections("inet")
    assert {c.laddr.ip for c in connections if c.status == "LISTEN"} == {"127.0.0.1"}
    with chromium() as browser, opened(browser, served.address, forgiven=GRADIOS) as page:
        page.set_default_timeout(LONG)
        page.get_by_role("button", name="Try it").click()
        assert served.process.stdout.readline() == "computes\n"
        choose(page, "Image", "1: ship")
        run(page, "The image is a ship")  # a press meanwhile counts
        assert page.get_by_text("fresh answers of the defence").count() == 1
        assert page.get_by_role("cell", name="purified").count() == 1
        captions = page.locator(".caption-label").all_inner_texts()
        assert [text.partition(":")[0].partition(",")[0] for text in captions] == [
            "clean",
            "attacked",
            "attacked less clean",
            "restored",
            "purified",
            "purified less clean",
        ]
        choose(page, "Purifier", "scoreopt-o-t250")
        choose(page, "Solver", "euler-maruyama")
        run(page, "purifier scoreopt-o-t250 (scoreopt) has no solver")
        (tmp_path / "text.png").write_text("no picture")
        drop(page, tmp_path / "text.png")
        run(page, "text.png cannot be read: ")
        page.reload()
        Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
        drop(page, tmp_path / "red.png")
        choose(page, "Purifier", "osd-t100")
        run(page, "Nobody said what is on it")
    inside = list(served.temporary.iterdir())
    assert len(inside) == 1  # its own folder
    assert inside[0].name.startswith("puriflow-demo-")
    assert served.stop() == 0
    assert [*served.temporary.iterdir(), *served.work.iterdir(), *served.home.iterdir()] == []


def test_a_request_that_is_computed_does_not_outlive_it(served):
    with chromium() as browser, opened(browser, served.address, forgiven=GRADIOS) as page:
        page.set_default_timeout(LONG)
        choose(page, "Attack", EXACT)
        page.get_by_role("button", name="Try it").click()
        assert served.process.stdout.readline() == "computes\n"
    assert served.stop() == 0
    assert list(served.temporary.iterdir()) == []


@pytest.mark.parametrize("served", [(1, 5)], indirect=True)
def test_pictures_are_removed_after_a_while(served, tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    with chromium() as browser, opened(browser, served.address, forgiven=GRADIOS) as page:
        page.set_default_timeout(LONG)
        choose(page, "Purifier", "none")
        run(page, "The image is a")
        drop(page, tmp_path / "red.png")
        assert served.pictures
        for _ in range(LONG // 1000):
            if served.pictures:
                time.sleep(1)
        assert served.pictures == []
        run(page, "red.png cannot be read: ")
