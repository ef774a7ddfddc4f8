# Helpers of the rules. No torch is imported here: parts are looked up as text.
import re
import sys
from functools import wraps
from pathlib import Path

from puriflow.chain import STAGES, Chain, victim_roles
from puriflow.config import NONE, check_config, write_config
from puriflow.config.track import TRAINABLE
from puriflow.errors import UserError, unknown
from puriflow.provenance import code_hash, weights_identities
from puriflow.registry import family_named
from puriflow.results import (
    find,
    find_judged,
    judged_results,
    load_result,
    names,
    paper_results,
)
from puriflow.results.claims import load_claims

CONFIG = Path("config")
CLAIMS = str(CONFIG / "claims.yaml")


def exit_on_error(function):
    """Turn a UserError into one line and an exit, instead of Snakemake's traceback."""

    @wraps(function)
    def checked(*arguments):
        try:
            return function(*arguments)
        except UserError as error:
            sys.exit(f"puriflow: error: {error}")

    return checked


@exit_on_error
def track_and_file():
    """The track, and the one file by which all commands of this run get it.

    The file is named by its content. Rules have it as a resource, neither as an input nor as a
    param, since it does not count what else is in it: what a rule depends on are its own entries, in
    its params. Jobs on a cluster read the Snakefile again and find the file there.
    """
    return check_config(config), write_config(config, Path(".snakemake/puriflow"))


TRACK, TRACK_FILE = track_and_file()
RESULTS = exit_on_error(names)(CONFIG)  # names of results by folder of config/


# Parts of a chain


def parts_of(wildcards, *roles):
    """The parts that wildcards name, by role; of a victim, its own."""
    named = {role: getattr(wildcards, role) for role in roles}
    if (victim := named.pop("victim", None)) is not None:
        own = TRACK.parts(victim_roles(victim)).items()
        return TRACK.parts(named) | {f"victim's {role}": part for role, part in own}
    return TRACK.parts(named)


def entries_of(*roles):
    """The entries of the parts that wildcards name: a rule reruns when one of them changes."""
    return exit_on_error(
        lambda wildcards: {
            role: part.entry() for role, part in parts_of(wildcards, *roles).items()
        }
    )


def version_of(stage, *roles):
    """A hash of the code and the weights behind a stage: the rule reruns when these change."""
    return exit_on_error(
        lambda wildcards: version(
            [f"puriflow.stages.{stage}"], parts_of(wildcards, *roles).values()
        )
    )


def version(modules, parts):
    """A hash of modules, and of the code and the weights of parts."""
    parts = list(parts)
    own = [module for part in parts for module in part.modules()]
    identities = weights_identities(parts).values()
    return " ".join([code_hash(*modules, *own), *sorted(identities)])


def weights_of(*roles):
    """The zoo's files that the parts of wildcards load, which a rule fetches into the cache."""
    return exit_on_error(
        lambda wildcards: zoo_files(parts_of(wildcards, *roles).values())
    )


def zoo_files(parts):
    """The zoo's files that parts load.

    They do not count as changed by their time: the version holds their published hash.
    """
    files = [w for part in parts for w in part.files() if w.published is not None]
    for weights in files:
        name = weights.name.partition(":")[2]
        what = TRACK.zoo.entry(name)
        if not (what.url or weights.file.is_file() or TRACK.zoo.find(name, what.file)):
            raise TRACK.zoo.by_hand(name)
    return [ancient(file) for file in dict.fromkeys(str(w.file) for w in files)]


def source_of(stage):
    """The manifest that a stage reads: of the nearest earlier stage that is not `none`."""

    def manifest(wildcards):
        roles = {role: getattr(wildcards, role) for role in STAGES[stage]}
        chain = Chain(**{**roles, "n_draws": int(roles.get("n_draws", 1))})
        return f"results/{chain.folder(chain.before(stage), wildcards.shard)}/manifest.json"

    return exit_on_error(manifest)


@exit_on_error
def gpus_of_restorer(wildcards):
    """One GPU for a restorer that has a network, none for a classical denoiser."""
    return int(bool(TRACK.part("restorer", wildcards.restorer).files()))


@exit_on_error
def subset_of(wildcards):
    """What chooses a data set's images."""
    dataset = TRACK.dataset(wildcards.dataset)
    return [dataset.subset, dataset.subset_seeds]


# Results


def named(*folders):
    """A pattern of the names of results of some folders of config/."""
    listed = [re.escape(name) for folder in folders for name in RESULTS[folder]]
    return "|".join(listed) or "none"


def result_of(wildcards):
    """The result that a wildcard names."""
    return load_result(find(wildcards.result, CONFIG))


def file_of_result(*folders):
    """The file that says what a result is, if it is in one of these folders of config/."""

    def file(wildcards):
        name = wildcards.result
        known = [name for folder in folders for name in RESULTS[folder]]
        if name in known:
            return str(find(name, CONFIG))
        for folder in RESULTS:
            if name in RESULTS[folder]:
                files = ", ".join(outputs(folder, only=name))
                raise UserError(
                    f"{name} is a result of config/{folder}: ask for {files}"
                )
        raise unknown("result", name, known)

    return exit_on_error(file)


@exit_on_error
def file_of_judged(wildcards):
    """The file of a result that claims are about, and that has a page."""
    find_judged(wildcards.result, CONFIG)
    return str(find(wildcards.result, CONFIG))


@exit_on_error
def stores_of_result(wildcards):
    """The manifests of all stores that a result reads."""
    return [
        f"results/{folder}/manifest.json"
        for folder in result_of(wildcards).stores(TRACK)
    ]


@exit_on_error
def weights_of_result(wildcards):
    """The zoo's files that a result loads."""
    return zoo_files(result_of(wildcards).parts(TRACK))


@exit_on_error
def track_of_result(wildcards):
    """All of the track that a result depends on: the rule reruns when it changes."""
    return result_of(wildcards).trigger(TRACK)


@exit_on_error
def version_of_result(wildcards):
    """A hash of the code and the weights behind a result."""
    result = result_of(wildcards)
    return version(result.modules(), result.parts(TRACK))


def category_of_result(wildcards):
    """Where the report shows a result: with the paper's, or with our own evaluation."""
    name = wildcards.result
    if name in RESULTS["figures"]:
        return "figures"
    return "tables" if name in paper_results(CONFIG) else "our own tables"


@exit_on_error
def claims_file(wildcards):
    """The claims, of which each is about something that is there."""
    load_claims(CLAIMS, judged_results(CONFIG))
    return CLAIMS


def outputs(*folders, forms=None, only=None):
    """The files of all results of some folders of config/, or of one of them."""
    return [
        f"results/{path}"
        for folder in folders
        for name in RESULTS[folder]
        if only in (None, name)
        for form, path in load_result(find(name, CONFIG)).outputs(name).items()
        if forms is None or form in forms
    ]


@exit_on_error
def everything():
    """All that is built."""
    pages = [f"results/pages/{name}.html" for name in judged_results(CONFIG)]
    return [*outputs(*RESULTS), *pages, "results/summary.md"]


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
    """Its entry."""
    return trained_part(wildcards).entry()


@exit_on_error
def trainer_version(wildcards):
    """A hash of the code that trains a part, and of the part's own."""
    own = trained_part(wildcards).module
    return code_hash("puriflow.training.runs", "puriflow.compute", own)


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
    return TRACK.training.images[name]


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
