# Helpers of the rules. No torch is imported here: parts are looked up as text.
import gc
import inspect
import os
import re
import sys
from contextlib import suppress
from dataclasses import replace
from functools import cache, wraps
from pathlib import Path

from puriflow.chain import STAGES, Chain, victim_roles
from puriflow.checksums import file_hash
from puriflow.cluster import check_slurm
from puriflow.config import check_config, default_track, read_track, write_config
from puriflow.config.loading import extended
from puriflow.config.track import NAME, TRAINABLE
from puriflow.errors import UserError, unknown
from puriflow.provenance import code_hash, identified
from puriflow.registry import family_named, part_of
from puriflow.results import (
    RESULT,
    class_of,
    find,
    judged_results,
    load_result,
    misnamed,
    names,
    paper_results,
    results_folder,
)
from puriflow.results.base import shards_of
from puriflow.results.claims import claims_about
from puriflow.runtime import minutes, shape_of
from puriflow.shipped import shipped
from puriflow.zoo.fetching import check_plan

CONFIG = results_folder()  # what says which results there are
# What a plan makes stays: to look for circles after each 700 objects takes a tenth of its time.
gc.set_threshold(100_000)
os.environ.update(DOCUTILSCONFIG=str(shipped("workflow/report/docutils.conf")))
CLAIMS = str(CONFIG / "claims.yaml")


def exit_on_error(function):
    """Turn an error of the user or of the disk into one line and an exit, without a traceback."""

    @wraps(function)
    def checked(*arguments, **named):
        try:
            return function(*arguments, **named)
        except (UserError, OSError) as error:
            sys.exit(f"puriflow: error: {error}")

    # Snakemake asks for it at each call, and would find it out anew.
    checked.__signature__ = inspect.signature(function)
    return checked


@exit_on_error
def track_and_file():
    """The track, and the one file by which all commands of this run get it.

    The file is named by its content. Rules have it as a resource, neither as an input nor as a
    param, since it does not count what else is in it: what a rule depends on are its own entries, in
    its params. Jobs on a cluster read the Snakefile again and find the file there.
    """
    settings = workflow.config_settings
    if workflow.modifier.is_main_snakefile():
        # Snakemake's own reading of files and of --config has other rules: nested values are all text.
        raw = read_track(settings.configfiles, settings.config_args or ())
    elif config:  # of `module:`, a track that is in the last of the configuration files
        raw = extended(config, tuple(map(Path, workflow.configfiles[-1:])))
    else:
        raw = read_track([shipped("config/config.yaml")])
    return check_config(raw), str(write_config(raw, Path(".snakemake/puriflow")))


TRACK, TRACK_FILE = track_and_file()
RESULTS = exit_on_error(names)(CONFIG)  # names of results by folder of config/
ASKED = {"audits", "eot"}  # of which a file takes half an hour: built when asked for
for file in misnamed(CONFIG):
    print(
        f"puriflow: {str(file)!r} is left out: a result is named by A-Z, a-z, 0-9 and . _ - within",
        file=sys.stderr,
    )


# Parts of a chain


def of_parts(*roles):
    """Make what is computed of the parts that wildcards name, by role, a function of wildcards."""

    def made(compute):
        return exit_on_error(
            lambda wildcards: compute(
                parts_of(tuple((role, getattr(wildcards, role)) for role in roles))
            )
        )

    return made


@cache  # all shards of a store share them
def parts_of(named):
    """The parts of names, given as pairs of role and name; of a victim, its own."""
    roles = dict(named)
    if (victim := roles.pop("victim", None)) is not None:
        own = TRACK.parts(victim_roles(victim)).items()
        return TRACK.parts(roles) | {f"victim's {role}": part for role, part in own}
    return TRACK.parts(roles)


def entries_of(*roles):
    """The entries of the parts that wildcards name: a rule reruns when one of them changes.

    Each time anew, since Snakemake asks again when weights have been fetched.
    """
    return of_parts(*roles)(
        lambda parts: {role: identified(part) for role, part in parts.items()}
    )


def version_of(stage, *roles):
    """A hash of the code behind a stage: the rule reruns when it changes."""
    return of_parts(*roles)(
        lambda parts: version([f"puriflow.stages.{stage}"], parts.values())
    )


def version(modules, parts):
    """A hash of modules, and of the code of parts."""
    return hash_once(*modules, *(module for part in parts for module in part.modules()))


hash_once = cache(code_hash)  # a run has the code that it began with


def weights_of(*roles):
    """The marks of the zoo's files that the parts of wildcards load: a rule fetches what is not here."""
    return of_parts(*roles)(lambda parts: marks(parts.values()))


def marks(parts):
    """The marks of the zoo's files that parts load.

    They do not count as changed by their time: what tells these files from others is in the params.
    Whatever is missing, or not what it should be, is said before anything runs, of all that is asked
    for at once.
    """
    files = dict.fromkeys(weights for part in parts for weights in part.files())
    return [ancient(mark) for mark in marks_of(tuple(files))]


@cache  # all shards of a store share them
def marks_of(files):
    """The marks of those of some files that are the zoo's, all of which are checked."""
    try:
        check_plan(TRACK.zoo, files)
    except UserError:
        check_plan(TRACK.zoo, [*files, *weights_asked_for()])
        raise
    named = (
        weights.name.partition(":")[2]
        for weights in files
        if weights.published is not None
    )
    return [mark_of(name) for name in dict.fromkeys(named)]


def weights_asked_for():
    """The weights behind this run's targets; behind all results if these are neither results nor stores."""
    from puriflow.lineage import Place

    targets = set(workflow.dag_settings.targets)
    rules_named = [workflow.get_rule(t) for t in targets if workflow.is_rule(t)]
    targets |= {str(file) for rule in rules_named for file in rule.input}
    stems = {Path(target).stem for target in targets}  # its page and verdicts, too
    results = [name for folder in RESULTS for name in known(folder)]
    stores = [p for p in (Place.of(Path(t).parent) for t in targets) if p is not None]
    named = [name for name in results if name in stems] or ([] if stores else results)
    found = []
    for name in named:
        with suppress(UserError):  # of what cannot be planned, something else is said
            found += result_named(name).weights(TRACK)
    for place in (p for store in stores for p in (store, *store.before())):
        with suppress(UserError):
            for part in TRACK.parts(place.parts).values():
                found += part.files()
    return found


def mark_of(name):
    """The mark by which a file of the zoo is known to be here, and to be the one that was checked."""
    mark, weights = Path(f"results/zoo/{name}.fetched"), TRACK.zoo.weights(name)
    known = mark.is_file() and weights.is_current
    if not known or file_hash(weights.file) not in mark.read_text():
        mark.unlink(missing_ok=True)
    return str(mark)


def source_of(stage):
    """The manifest that a stage reads: of the nearest earlier stage that is not `none`."""

    def manifest(wildcards):
        roles = {role: getattr(wildcards, role) for role in STAGES[stage]}
        chain = Chain(**{**roles, "n_draws": int(roles.get("n_draws", 1))})
        return f"results/{chain.folder(chain.before(stage), wildcards.shard)}/manifest.json"

    return exit_on_error(manifest)


@exit_on_error
def source_of_audit(wildcards):
    """The manifest of the images that an audit attacks: the first of a data set."""
    shard = shards_of(TRACK, wildcards.dataset)[0]
    return f"results/{Chain(wildcards.dataset).folder('images', shard)}/manifest.json"


@of_parts("attack", "victim")
def version_of_audit(parts):
    """A hash of the code behind an audit."""
    return version(["puriflow.auditing.audit"], parts.values())


@of_parts("restorer")
def gpus_of_restorer(parts):
    """One GPU for a restorer that has a network, none for a classical denoiser."""
    return int(bool(parts["restorer"].files()))


@exit_on_error
def subset_of(wildcards):
    """What chooses a data set's images."""
    dataset = TRACK.dataset(wildcards.dataset)
    return [dataset.subset, dataset.subset_seeds]


# What is asked of a cluster


def runtime_of(*roles):
    """Minutes by the work of a stage, whose images are looked at once they are there."""

    @exit_on_error
    def asked(wildcards, input, attempt):
        shape, named = shape_of(input.manifest), dict(wildcards.items())
        if shape is None:
            return TRACK.compute.longest
        own = tuple((role, named[role]) for role in roles)
        counted = minutes_of(own, shape, int(named.get("n_draws", 1)), "sigma" in named)
        return at_most(counted * 2 ** (attempt - 1))  # on a CPU, or on a slow GPU

    return asked


@cache  # a plan asks of all shards, and again whenever one has ended
def minutes_of(own, shape, draws, certified):
    """What a stage of some parts asks for; certificates have draws of their own."""
    parts = {r.removeprefix("victim's "): p for r, p in parts_of(own).items()}
    if certified:
        draws = TRACK.certification.n0 + TRACK.certification.n
    return minutes(parts, shape, draws)


def at_most(minutes):
    """Minutes, or as many as the cluster gives a job."""
    return min(minutes, TRACK.compute.longest)


@exit_on_error
def ask_cluster():
    """Whether Slurm would take the jobs of this run: said before the first is submitted.

    Not where options of the plugin decide what is asked for.
    """
    options = workflow.executor_settings
    own = ("partition_config", "reservation", "qos")
    if workflow.executor_plugin.name == "slurm" and not any(
        getattr(options, name, None) for name in own
    ):
        jobs = (job for job in workflow.dag.needrun_jobs() if not job.is_local)
        check_slurm(job.resources for job in jobs)


# Results


def named(*folders):
    """A pattern of the names of results of some folders of config/."""
    listed = [re.escape(name) for folder in folders for name in known(folder)]
    return "|".join(listed) or "(?!)"


def known(folder):
    """The names of the results of a folder of config/."""
    return RESULTS.get(folder, [])


def result_of(wildcards):
    """The result that a wildcard names."""
    return result_named(wildcards.result)


@cache  # read once for all that a rule asks of it
def result_named(name):
    """The result of a name."""
    return load_result(find(name, CONFIG))


@cache
def stores_read_by(name):
    """The manifests of all stores that the result of a name reads, and the audits."""
    result = result_named(name)
    manifests = [f"{folder}/manifest.json" for folder in result.stores(TRACK)]
    return [f"results/{file}" for file in (*manifests, *result.files(TRACK))]


def file_of_result(*folders):
    """The file that says what a result is, if it is in one of these folders of config/."""

    def file(wildcards):
        file = find(wildcards.result, CONFIG)
        folder, name = file.parent.name, file.stem
        if folder not in folders:
            files = ", ".join(outputs(folder, only=[name]))
            raise UserError(f"{name} is a result of config/{folder}: ask for {files}")
        return str(file)

    return exit_on_error(file)


@exit_on_error
def file_of_judged(wildcards):
    """The file of a result that has a page; what claims say of it is about lines that it has."""
    file = str(find(wildcards.result, CONFIG))
    claims_about(CLAIMS, wildcards.result)
    return file


@exit_on_error
def stores_of_result(wildcards):
    """The manifests of all stores that the result of a wildcard reads, and the audits."""
    return [*stores_read_by(wildcards.result)]


@exit_on_error
def weights_of_result(wildcards):
    """The marks of the zoo's files that a result loads."""
    return marks(result_of(wildcards).parts(TRACK))


@exit_on_error
def track_of_result(wildcards):
    """All of the track that a result depends on: the rule reruns when it changes."""
    return result_of(wildcards).trigger(TRACK)


@exit_on_error
def version_of_result(wildcards):
    """A hash of the code behind a result."""
    result = result_of(wildcards)
    return version(result.modules(), result.parts(TRACK))


def category_of_result(wildcards):
    """Where the report shows a result: with the paper's, or with our own evaluation."""
    name = wildcards.result
    if name in known("figures"):
        return "figures"
    return "tables" if name in paper_results(CONFIG) else "our own tables"


def outputs(*folders, forms=None, only=None):
    """The files of all results of some folders of config/, or of some of them.

    No file of config/ is read for it: one that is broken stops those alone who ask for its result.
    """
    return [
        f"results/{path}"
        for folder in folders
        for name in known(folder)
        if only is None or name in only
        for form, path in class_of(folder).outputs(name).items()
        if forms is None or form in forms
    ]


@exit_on_error
def files_of_paper(wildcards):
    """The files that say what the paper's own results are."""
    return [str(find(name, CONFIG)) for name in paper_results(CONFIG)]


@exit_on_error
def everything(wildcards):
    """All that is built, but for what takes long and is asked for by its name."""
    asked = {name for name in known("tables") if result_named(name).asked}
    others = [folder for folder in RESULTS if folder not in {"sweeps", *ASKED}]
    built = [name for folder in others for name in known(folder) if name not in asked]
    pages = [name for name in judged_results(CONFIG) if name not in asked]
    return [
        *outputs(*others, only=built),
        *sweeps_of_track(wildcards),
        *(f"results/pages/{name}.html" for name in pages),
        "results/summary.md",
    ]


@exit_on_error
def sweeps_of_track(wildcards):
    """The files of all sweeps but those of other tracks."""
    sweeps = {name: result_named(name) for name in known("sweeps")}
    mine = [
        name for name, sweep in sweeps.items() if sweep.track in (None, TRACK.track)
    ]
    return outputs("sweeps", only=mine)


# Training


@exit_on_error
def recipe_of(wildcards):
    """A training recipe."""
    return TRACK.training.recipe(wildcards.family, wildcards.name)


def trained_part(wildcards):
    """The part to be trained."""
    return TRACK.part(family_named(wildcards.family).roles[0], wildcards.name)


@exit_on_error
def trained_entry(wildcards):
    """Its entry, without the weights that it will have."""
    return trained_part(wildcards).untrained().entry()


@exit_on_error
def trainer_version(wildcards):
    """A hash of the code that trains a part, of the part's own, and of what stands before it."""
    part = trained_part(wildcards)
    own = {part.module, *part.known.trained_by}
    if (behind := recipe_of(wildcards).get("behind")) is not None:
        own.add(part_of("purifier", "behind", behind).module)
    return code_hash("puriflow.training.runs", "puriflow.compute", *sorted(own))


@exit_on_error
def training_images(wildcards):
    """The folder of images that a recipe names."""
    recipe = TRACK.training.recipe(wildcards.family, wildcards.name)
    default = "cifar10" if wildcards.family == "classifiers" else "photographs"
    name = recipe.get("images", default)
    if not TRACK.training.images.get(name):
        raise UserError(
            f"training {wildcards.name} needs a folder of images: add "
            f"--config 'training={{images: {{{name}: DIR}}}}'"
        )
    if set(folder := TRACK.training.images[name]) & set("{}"):
        raise UserError(
            f"training.images.{name}: {folder!r}: Snakemake reads braces as wildcards"
        )
    return folder


@exit_on_error
def training_start(wildcards):
    """The weights that training starts from, of another recipe, if any."""
    start = TRACK.training.recipe(wildcards.family, wildcards.name).get("start")
    return [f"results/training/{wildcards.family}/{start}.safetensors"] if start else []


def trained():
    """Weights, card and curve of everything that has a recipe."""
    return [
        f"results/training/{family}/{name}{ending}"
        for family in TRAINABLE
        for name in getattr(TRACK.training, family)
        for ending in (".safetensors", ".md", ".png")
    ]
