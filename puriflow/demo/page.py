"""The page of the demo, by Gradio: what is chosen, and what came out."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from puriflow.config import NONE
from puriflow.demo.bench import (
    ATTACKS,
    ENTRY,
    MOST_EPS,
    MOST_STEPS,
    MOST_T,
    SOLVERS,
    Asked,
    Bench,
    Tried,
)
from puriflow.errors import UserError
from puriflow.image_files.comparison import framed
from puriflow.plots.sheets import difference

BEHIND_RESULTS = False
HOST = "127.0.0.1"  # nobody else reaches it
LARGEST = "10mb"  # of a file that is dropped
WAITING = 4  # requests that wait for the one that is computed
KEPT = (60, 3600)  # seconds between two looks for old files, and those that a file is kept
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what asks a process to end
SHOWN = 10  # samples to choose from
OWN = "the picture below"
INTRODUCTION = """# PuriFlow: try a purifier
One image, an attack on it, and what restorer and purifier make of that. Everything is computed on
this machine and stays on it. An attack here is short, and finds less than the published ones."""


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for all that Gradio writes, which is gone at the end, whatever is computed then."""
    with tempfile.TemporaryDirectory(prefix="puriflow-demo-") as made:
        os.environ |= {
            "GRADIO_TEMP_DIR": made,
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": made,
            "MPLCONFIGDIR": made,
            "TMPDIR": made,
        }
        before, tempfile.tempdir = tempfile.tempdir, made  # it has looked at TMPDIR already

        def end(*_: object) -> None:
            for number in ENDS:
                signal.signal(number, signal.SIG_IGN)
            # In this process's place: so no thread that computes is waited for, or writes again.
            os.execvp("rm", ["rm", "-rf", made])  # noqa: S606, no shell is needed

        for number in ENDS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as behind nohup
                signal.signal(number, end)
        try:
            yield Path(made)
        finally:
            tempfile.tempdir = before


def serve(bench: Bench, port: int | None) -> None:
    """Serve the page to this machine, until the process is stopped.

    Args:
        bench: that computes.
        port: None for the first that is free.

    Raises:
        UserError: Gradio is not installed, or the port is taken.
    """
    with own_folder():
        try:
            import gradio  # pyrefly: ignore[missing-import]
        except ImportError:
            raise UserError("a demo needs Gradio: pip install 'puriflow[demo]'") from None
        page = built(gradio, bench)
        page.queue(max_size=WAITING, default_concurrency_limit=1)
        try:
            _, address, _ = page.launch(
                server_name=HOST,
                server_port=port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                footer_links=["gradio"],
                max_file_size=LARGEST,
                theme=gradio.themes.Default(font=["sans-serif"], font_mono=["monospace"]),
            )
        except OSError as error:
            raise UserError(f"port {port} of {HOST} cannot be had: {error}") from None
        print(f"{address} is open on this machine; Ctrl-C ends it", flush=True)
        page.block_thread()


def built(gradio: Any, bench: Bench) -> Any:
    """The page: what is chosen on the left, what came out on the right."""
    classifiers = bench.names("classifier")
    first = "wrn-28-10" if "wrn-28-10" in classifiers else classifiers[0]
    title = "PuriFlow: try a purifier"
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=KEPT) as page:
        gradio.Markdown(INTRODUCTION)
        with gradio.Row():
            with gradio.Column(scale=1):
                classifier = gradio.Dropdown(classifiers, value=first, label="Classifier")
                sample = gradio.Dropdown(**_samples(bench, first), label="Image")
                picture = gradio.File(
                    type="filepath", file_types=["image"], label="Your own picture", height=120
                )
                attack = gradio.Dropdown(list(ATTACKS), value=list(ATTACKS)[1], label="Attack")
                eps = gradio.Slider(0, MOST_EPS, value=8, step=0.5, label="eps (255ths, Linf)")
                steps = gradio.Slider(1, MOST_STEPS, value=10, step=1, label="Steps of the attack")
                restorer = _choice(gradio, bench, "restorer", "mdsr-x2")
                purifier = _choice(gradio, bench, "purifier", "vpsde-t100")
                t = gradio.Slider(0, MOST_T, value=0, step=1, label="t' (0: as its entry says)")
                solver = gradio.Dropdown(list(SOLVERS), value=ENTRY, label="Solver")
                button = gradio.Button("Try it", variant="primary")
            with gradio.Column(scale=2):
                gallery = gradio.Gallery(
                    label="Stages", columns=3, height="auto", object_fit="contain", format="png"
                )
                said = gradio.Markdown()
        inputs = [sample, picture, classifier, restorer, purifier, t, solver, attack, eps, steps]

        def compute(number: int | None, file: str | None, *chosen: Any) -> tuple[list[Any], str]:
            asked = Asked(*chosen)
            try:
                if number is None and file is None:
                    raise UserError(f"{OWN} is not there: drop one, or choose an image")
                if number is None:
                    image, label = bench.opened(Path(str(file))), None
                else:
                    image, label = bench.sample(asked.classifier, int(number))
                found = bench.tried(image, label, asked)
            except UserError as error:
                said = str(error).replace(f"{Path(file).parent}/" if file else "", "")
                raise gradio.Error(said, print_exception=False) from None
            return pictures(found), summary(found)

        # A press while another request is computed counts behind it; by default Gradio ignores it.
        outputs, mode = [gallery, said], "always_last"
        button.click(compute, inputs, outputs, concurrency_limit=1, trigger_mode=mode)
        classifier.change(lambda name: gradio.Dropdown(**_samples(bench, name)), classifier, sample)
        picture.upload(lambda: None, None, sample)
    return page


def _choice(gradio: Any, bench: Bench, role: str, first: str) -> Any:
    """A list of the parts of a role, and none."""
    names = [NONE, *bench.names(role)]
    return gradio.Dropdown(names, value=first if first in names else NONE, label=role.capitalize())


def _samples(bench: Bench, classifier: str) -> dict[str, Any]:
    """The images to choose from for a classifier: their classes, and their places."""
    samples, names = bench.samples(classifier), bench.classifier(classifier).names
    labels = [] if samples is None else samples.labels[:SHOWN]
    choices: list[tuple[str, int | None]] = [
        (f"{number}: {names[int(label)]}", number) for number, label in enumerate(labels)
    ]
    return {"choices": [*choices, (OWN, None)], "value": 0 if choices else None}


def pictures(found: Tried) -> list[tuple[Image.Image, str]]:
    """The stages as pictures with their captions, each change from the clean image enlarged."""
    clean = found.stages[0].image
    shown = []
    for seen in found.stages:
        caption = f"{seen.what}: {seen.answer}, {100 * seen.confidence:.0f} %"
        shown.append((framed(seen.image), caption))
        if seen.what in ("attacked", "purified"):
            change, gain = difference(clean, seen.image)
            shown.append((framed(change), f"{seen.what} less clean, x {gain} about grey"))
    return shown


def summary(found: Tried) -> str:
    """What came out as Markdown: a line a stage, the fresh answers, and remarks."""
    lines = [f"The image is a **{found.label}**.", "", "| stage | answer | confidence | seconds |"]
    lines.append("|---|---|---|---|")
    for seen in found.stages:
        mark = "✓" if seen.answer == found.label else "✗"
        cells = (f"{mark} {seen.answer}", f"{100 * seen.confidence:.0f} %", f"{seen.seconds:.2f}")
        lines.append(f"| {seen.what} | {' | '.join(cells)} |")
    if found.answers:
        right = sum(answer == found.label for answer in found.answers)
        count, listed = len(found.answers), ", ".join(found.answers)
        lines += ["", f"{right} of {count} fresh answers of the defence are right: {listed}."]
    return "\n".join([*lines, "", *found.notes])
