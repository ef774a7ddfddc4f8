"""The `puriflow` command: one subcommand a stage, and some to look at, build and train things.

The workflow's rules call nothing else. A part is given by its name in the configuration, or (as the
rules do) by its name and its whole specification as JSON. Nothing heavy is imported before a
command needs it.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from puriflow.cli.zoo import app as zoo
from puriflow.errors import UserError, unknown

if TYPE_CHECKING:
    import torch

    from puriflow.config import Config

app = typer.Typer(
    help="Adversarial purification via super-resolution and diffusion.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.add_typer(zoo, name="zoo")

Source = Annotated[Path, typer.Argument(help="a finished stage: its folder or manifest.json")]
Out = Annotated[Path, typer.Option(help="folder of the new store")]
Spec = Annotated[str | None, typer.Option(help="the part as JSON, instead of the config's entry")]
ConfigFile = Annotated[Path, typer.Option("--config", help="track that names are looked up in")]
Roles = Annotated[str | None, typer.Option(help="of the table as JSON, instead of the config's")]
Seed = Annotated[int, typer.Option(help="of all random draws")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; default: torch's choice")]
Gpus = Annotated[int, typer.Option(help="GPUs to lease, where there are any")]
Batch = Annotated[int | None, typer.Option(help="images between two saves; default: by device")]
DEFAULT_CONFIG = Path("config/config.yaml")


def _json(text: str, what: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{what} is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise UserError(f"{what} is {text}, but must be a JSON object, as {{...}}")
    return given


class GivenRoles(dict):
    """Of `--roles`, at both levels: what a command misses in them is a UserError."""

    def __missing__(self, key: str) -> None:
        raise UserError(f"--roles has no {key!r}, only {', '.join(self) or 'nothing'}")


def _roles(
    given: str | None, served: "Callable[[Any, Config], dict]", what: Any, config: Path
) -> dict[str, dict[str, Any]]:
    """What the configuration says of the roles that a file names, or what is given as JSON."""
    if given is None:
        from puriflow.config import load_config

        return served(what, load_config(config))
    roles = _json(given, "--roles")
    for name, role in roles.items():
        if not isinstance(role, dict):
            raise UserError(f"--roles says {role!r} of {name!r}, but must say a JSON object")
    return GivenRoles({name: GivenRoles(role) for name, role in roles.items()})


def _make_folders(*files: Path) -> None:
    """Make the folders of files that will be written, before anything is computed."""
    for file in files:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"folder {file.parent} cannot be made: {error.strerror}") from None
        if file.is_dir():
            raise UserError(f"{file} is a folder: name a file")


def _check_pictures(*files: Path) -> None:
    """Refuse pictures of other kinds, before anything is computed."""
    for file in files:
        if file.suffix not in (".png", ".svg"):
            raise UserError(f"picture {file}: must end in .png or .svg")


def _spec(spec: str | None, config: Path, family: str, name: str) -> dict[str, Any]:
    if spec is not None:
        return _json(spec, f"--spec of {family}.{name}")
    from puriflow.config import load_config

    return load_config(config).spec(family, name)


@contextmanager
def _device(gpus: int, threads: int | None) -> Iterator["torch.device"]:
    from puriflow.compute import lease, start

    with lease(gpus):
        yield start(gpu=gpus > 0, threads=threads)


@app.command()
def images(
    dataset: Annotated[str, typer.Argument(help="name of the data set")],
    out: Out,
    spec: Spec = None,
    subset: Annotated[
        int | None,
        typer.Option(help="images drawn at random; default: the config's entry's, or all"),
    ] = None,
    subset_seed: Annotated[
        list[int] | None, typer.Option(help="of the draw; again for the union of several")
    ] = None,
    shard: Annotated[str, typer.Option(help="which part of how many: 0-of-1")] = "0-of-1",
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Store the images of a data set."""
    from puriflow.stages.images import write_images

    try:
        index, count = (int(part) for part in shard.split("-of-"))
    except ValueError:
        raise UserError(f"shard {shard!r} is not of the form 0-of-1") from None
    if spec is None:
        from puriflow.config import load_config

        role = load_config(config).role("datasets", dataset)
        subset = role.subset if subset is None else subset
        seeds = role.subset_seed
        subset_seed = subset_seed or ([seeds] if isinstance(seeds, int) else seeds)
    write_images(
        out,
        dataset,
        _spec(spec, config, "datasets", dataset),
        subset=subset,
        subset_seed=subset_seed or [0],
        shard=index,
        shards=count,
    )


@app.command()
def attack(
    source: Source,
    out: Out,
    attack: Annotated[str, typer.Option(help="name of the attack")],
    victim: Annotated[str, typer.Option(help="classifier, or restorer.purifier.classifier")],
    spec: Spec = None,
    victim_spec: Annotated[str | None, typer.Option(help="the victim's parts as JSON")] = None,
    seed: Seed = 0,
    threads: Threads = None,
    gpus: Gpus = 1,
    batch: Batch = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Make adversarial images of a victim: a bare classifier, or a whole defence."""
    from puriflow.store import open_stage

    stage = open_stage(source)
    part = _spec(spec, config, "attacks", attack)
    if victim_spec is None:
        from puriflow.chain import victim_roles
        from puriflow.config import load_config

        victim_specs = load_config(config).defence(victim_roles(victim))
    else:
        victim_specs = _json(victim_spec, f"--victim-spec of {victim}")
    with _device(gpus, threads) as device:
        from puriflow.stages.attack import write_attack

        write_attack(
            stage,
            out,
            attack,
            part,
            victim,
            victim_specs,
            seed=seed,
            device=device,
            batch=batch,
        )


@app.command()
def restore(
    source: Source,
    out: Out,
    restorer: Annotated[str, typer.Option(help="name of the restorer")],
    spec: Spec = None,
    threads: Threads = None,
    gpus: Gpus = 1,
    batch: Batch = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Restore images: super-resolution and back, or a classical denoiser."""
    from puriflow.store import open_stage

    stage = open_stage(source)
    part = _spec(spec, config, "restorers", restorer)
    with _device(gpus, threads) as device:
        from puriflow.stages.restore import write_restored

        write_restored(stage, out, restorer, part, device=device, batch=batch)


@app.command()
def purify(
    inputs: Annotated[
        list[Path], typer.Argument(help="PNG, JPEG, npy, npz, Zarr, folders of these; or a stage")
    ],
    out: Annotated[Path, typer.Option(help="folder of the purified images, or of the new store")],
    purifier: Annotated[str, typer.Option(help="name of the purifier")] = "none",
    restorer: Annotated[str, typer.Option(help="name of the restorer that goes before")] = "none",
    compare: Annotated[bool, typer.Option("--compare", help="draw compare.png")] = False,
    classifier: Annotated[str, typer.Option(help="whose predictions it shows")] = "none",
    spec: Spec = None,
    seed: Seed = 0,
    threads: Threads = None,
    gpus: Gpus = 1,
    batch: Batch = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Purify images: your own, or those of a finished stage.

    Your own keep their names, formats and sizes; JPEG becomes PNG. A finished stage alone, with a
    purifier alone, becomes a finished stage, as the workflow needs it; --spec and --batch are of
    these.
    """
    from puriflow.store import is_stage, open_stage

    chain = (restorer, classifier, compare) != ("none", "none", False) or purifier == "none"
    if len(inputs) == 1 and not chain and (is_stage(inputs[0]) or spec is not None):
        stage = open_stage(inputs[0])
        part = _spec(spec, config, "purifiers", purifier)
        with _device(gpus, threads) as device:
            from puriflow.stages.purify import write_purified

            write_purified(stage, out, purifier, part, seed=seed, device=device, batch=batch)
        return
    if spec is not None or batch is not None:
        raise UserError("--spec and --batch are for a finished stage alone, with a purifier alone")
    from puriflow.config import load_config
    from puriflow.image_files.running import Names, purify_files

    purify_files(
        inputs,
        out,
        load_config(config),
        Names(restorer, purifier, classifier),
        compare=compare,
        seed=seed,
        device=_device(gpus, threads),
    )


@app.command()
def classify(
    source: Source,
    out: Out,
    classifier: Annotated[str, typer.Option(help="name of the classifier")],
    spec: Spec = None,
    threads: Threads = None,
    gpus: Gpus = 1,
    batch: Batch = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Store a classifier's logits of images."""
    from puriflow.store import open_stage

    stage = open_stage(source)
    part = _spec(spec, config, "classifiers", classifier)
    with _device(gpus, threads) as device:
        from puriflow.stages.classify import write_logits

        write_logits(stage, out, classifier, part, device=device, batch=batch)


@app.command()
def evaluate(
    source: Source,
    out: Out,
    purifier: Annotated[str, typer.Option(help="name of the purifier")],
    classifier: Annotated[str, typer.Option(help="name of the classifier")],
    draws: Annotated[int, typer.Option(help="how often each image is purified", min=1)],
    spec: Annotated[str | None, typer.Option(help="purifier and classifier as JSON")] = None,
    seed: Seed = 0,
    threads: Threads = None,
    gpus: Gpus = 1,
    batch: Batch = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Purify and classify several times: the logits of every draw."""
    from puriflow.store import open_stage

    stage = open_stage(source)
    roles = {"purifier": purifier, "classifier": classifier}
    if spec is None:
        from puriflow.config import load_config

        specs = load_config(config).defence(roles)
    else:
        specs = _json(spec, f"--spec of {purifier} and {classifier}")
    with _device(gpus, threads) as device:
        from puriflow.stages.evaluate import write_answers

        write_answers(stage, out, roles, specs, draws=draws, seed=seed, device=device, batch=batch)


@app.command()
def table(
    file: Annotated[Path, typer.Argument(help="config/tables/NAME.yaml")],
    out: Annotated[Path, typer.Option(help="the CSV")],
    measures: Annotated[Path, typer.Option(help="CSV of everything measured, in long form")],
    results: Annotated[Path, typer.Option(help="where the stores are")] = Path("results"),
    roles: Roles = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Build a table from the stores of its chains."""
    from puriflow.results.measures import write_table
    from puriflow.results.table import load_table, served

    what = load_table(file)
    named = _roles(roles, served, what, config)
    _make_folders(out, measures)
    write_table(what, named, results, out, measures)


@app.command()
def plot(
    csv: Annotated[Path, typer.Argument(help="a table's CSV")],
    file: Annotated[Path, typer.Argument(help="config/tables/NAME.yaml, for the title")],
    out: Annotated[Path, typer.Option(help=".png or .svg")],
) -> None:
    """Draw a table's bars beside the paper's values."""
    from puriflow.plots.bars import plot_table
    from puriflow.results.table import load_table

    spec = load_table(file)
    _check_pictures(out)
    _make_folders(out)
    plot_table(csv, f"{spec.source}: {spec.title}", out)


@app.command()
def sheet(
    file: Annotated[Path, typer.Argument(help="config/tables/NAME.yaml")],
    out: Annotated[Path, typer.Option(help="the picture")],
    results: Annotated[Path, typer.Option(help="where the stores are")] = Path("results"),
    count: Annotated[int, typer.Option(help="images of a row", min=1)] = 8,
    roles: Roles = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Draw the images of a table: clean, attacked, and purified by every row."""
    from puriflow.plots.sheets import contact_sheet
    from puriflow.results.table import final_images, load_table, served

    what = load_table(file)
    named = _roles(roles, served, what, config)
    _make_folders(out)
    contact_sheet(final_images(what, named, results, count), out)


@app.command()
def claims(
    file: Annotated[
        Path, typer.Argument(help="config/tables/NAME.yaml, or results/measures/NAME.csv")
    ],
    out: Annotated[Path, typer.Option(help="the CSV")],
    claims: Annotated[Path, typer.Option(help="what the paper says")] = Path("config/claims.yaml"),
    results: Annotated[Path, typer.Option(help="where the stores are")] = Path("results"),
    roles: Roles = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Judge the paper's claims about a table, a figure or times, image by image."""
    from puriflow.results.claims import load_claims, write_claims
    from puriflow.results.evidence import MeasuredEvidence, TableEvidence
    from puriflow.results.table import load_table, served

    said = [claim for claim in load_claims(claims) if claim.about == file.stem]
    if file.suffix == ".csv":
        evidence = MeasuredEvidence(file)
    else:
        what = load_table(file)
        named = _roles(roles, served, what, config)
        evidence = TableEvidence(file.stem, what, named, results)
    _make_folders(out)
    write_claims(said, evidence, out)


@app.command()
def summary(
    files: Annotated[
        list[Path], typer.Argument(help="config/tables/NAME.yaml, of timings/ or figures/ too")
    ],
    out: Annotated[list[Path], typer.Option(help=".md, .html or .rst (a caption); again for more")],
    results: Annotated[Path, typer.Option(help="where the CSVs are")] = Path("results"),
) -> None:
    """Write the paper beside our results, with a verdict on each claim."""
    from puriflow.results.summary import load_sources, write_summary

    sources = load_sources(files)
    _make_folders(*out)
    write_summary(sources, results, out)


@app.command()
def timing(
    file: Annotated[Path, typer.Argument(help="config/timings/NAME.yaml")],
    out: Annotated[Path, typer.Option(help="the CSV")],
    measures: Annotated[Path, typer.Option(help="CSV of every repeat")],
    results: Annotated[Path, typer.Option(help="where the stores are")] = Path("results"),
    roles: Roles = None,
    threads: Threads = None,
    gpus: Gpus = 1,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Time the parts of chains on this machine, image by image, all in one run."""
    from puriflow.results.timing import load_timing, served, write_times

    what = load_timing(file)
    named = _roles(roles, served, what, config)
    _make_folders(out, measures)
    with _device(gpus, threads) as device:
        write_times(what, named, results, out, measures, device)


@app.command()
def figure(
    file: Annotated[Path, typer.Argument(help="config/figures/NAME.yaml")],
    out: Annotated[Path, typer.Option(help="the CSV behind it")],
    measures: Annotated[Path, typer.Option(help="CSV of the values of each image")],
    picture: Annotated[list[Path], typer.Option(help=".png or .svg; again for both")],
    results: Annotated[Path, typer.Option(help="where the stores are")] = Path("results"),
    roles: Roles = None,
    threads: Threads = None,
    gpus: Gpus = 1,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Build and draw a figure from the stores of its chains."""
    from puriflow.results.figures.base import load_figure, served

    what = load_figure(file)
    named = _roles(roles, served, what, config)
    _check_pictures(*picture)
    _make_folders(out, measures, *picture)
    with _device(gpus, threads) as device:
        from puriflow.results.figures.writing import write_figure

        write_figure(what, named, results, out, measures, picture, device)


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="config/sweeps/NAME.yaml")],
    out: Annotated[Path, typer.Option(help="the CSV, in long form")],
    picture: Annotated[list[Path], typer.Option(help=".png or .svg; again for both")],
    results: Annotated[Path, typer.Option(help="where the stores are")] = Path("results"),
    roles: Roles = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Build and draw a sweep from the stores of its chains."""
    from puriflow.plots.sweep import write_sweep
    from puriflow.results.sweep import build_sweep, load_sweep, served

    what = load_sweep(file)
    named = _roles(roles, served, what, config)
    _check_pictures(*picture)
    _make_folders(out, *picture)
    write_sweep(what, build_sweep(what, named, results), out, picture)


@app.command()
def certify(
    source: Source,
    out: Out,
    classifier: Annotated[str, typer.Option(help="name of the classifier")],
    sigma: Annotated[float, typer.Option(help="standard deviation of the noise, on [0, 1]")],
    restorer: Annotated[str, typer.Option(help="name of the restorer")] = "none",
    denoiser: Annotated[str, typer.Option(help="name of the network that takes it away")] = "none",
    purifier: Annotated[str, typer.Option(help="in place of a denoiser")] = "none",
    spec: Annotated[
        str | None, typer.Option(help="n0, n, alpha and the parts as JSON, instead of the config's")
    ] = None,
    seed: Seed = 0,
    threads: Threads = None,
    gpus: Gpus = 1,
    batch: Annotated[int, typer.Option(help="images between two saves")] = 1,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Certify images by randomised smoothing: classes and L2 radii."""
    from puriflow.store import open_stage

    stage = open_stage(source)
    if spec is None:
        from puriflow.config import load_config
        from puriflow.results.certified import smoothing_spec

        roles = {"restorer": restorer, "denoiser": denoiser, "purifier": purifier}
        what = smoothing_spec(load_config(config), {**roles, "classifier": classifier})
    else:
        what = _json(spec, "--spec")
    with _device(gpus, threads) as device:
        from puriflow.stages.certify import write_certified

        write_certified(stage, out, {**what, "sigma": sigma}, seed=seed, device=device, batch=batch)


@app.command()
def radii(
    file: Annotated[Path, typer.Argument(help="config/certified/NAME.yaml")],
    out: Annotated[Path, typer.Option(help="the CSV")],
    picture: Annotated[Path, typer.Option(help=".png or .svg")],
    results: Annotated[Path, typer.Option(help="where the stores are")] = Path("results"),
    roles: Roles = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Build and draw curves of certified accuracy against radius."""
    from puriflow.results.certified import load_curves, plot_curves, served, write_curves

    curves = load_curves(file)
    named = _roles(roles, served, curves, config)
    _check_pictures(picture)
    _make_folders(out, picture)
    write_curves(curves, named, results, out)
    plot_curves(out, f"{curves.title}\n{curves.source}", picture)


@app.command()
def inspect(
    path: Source,
    sheet: Annotated[Path | None, typer.Option(help="also draw its images as this PNG")] = None,
    count: Annotated[int, typer.Option(help="images of the sheet", min=1)] = 40,
) -> None:
    """Say what a store is, verify it, and maybe draw its images."""
    from puriflow.inspecting import describe
    from puriflow.store import open_stage

    stage = open_stage(path)
    typer.echo(describe(stage))
    if sheet is not None:
        from puriflow.plots.sheets import grid

        if "images" not in stage.manifest["arrays"]:
            raise UserError(f"store {path} has no images to draw, only {stage.manifest['store']}")
        grid(stage.read("images", 0, count), sheet)
        typer.echo(f"sheet    {sheet}")


@app.command()
def train(
    family: Annotated[str, typer.Argument(help="restorers, networks or classifiers")],
    name: Annotated[str, typer.Argument(help="name in the configuration")],
    images: Annotated[Path, typer.Option(help="folder of images to train on")],
    out: Annotated[Path, typer.Option(help="folder for the weights, the card and the log")],
    spec: Spec = None,
    recipe: Annotated[str | None, typer.Option(help="the recipe as JSON")] = None,
    held_out: Annotated[int, typer.Option(help="photographs kept for measuring")] = 50,
    threads: Threads = None,
    gpus: Gpus = 1,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Train a network of the track from a folder of images; resumes what was begun."""
    from puriflow.config import TRAINABLE, load_config

    if family not in TRAINABLE:
        raise unknown("family to train", family, TRAINABLE)
    part = _spec(spec, config, family, name)
    if recipe is None:
        numbers = load_config(config).training.recipe(family, name)
    else:
        numbers = _json(recipe, "--recipe")
    with _device(gpus, threads) as device:
        from puriflow.training.runs import train_part

        train_part(
            family, name, part, numbers, images=images, held_out=held_out, out=out, device=device
        )


def main() -> None:
    """Run the command line; a UserError becomes one line and exit status 2."""
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        app()
    except UserError as problem:
        print(f"puriflow: error: {problem}", file=sys.stderr)
        sys.exit(2)
