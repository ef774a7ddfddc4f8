# Helpers of the rules. No torch is imported here: parts are looked up as text.
import json
import sys
from pathlib import Path

from puriflow.chain import STAGES, Chain, victim_roles
from puriflow.config import TRAINABLE, check_config
from puriflow.errors import UserError, unknown
from puriflow.registry import module_of, modules_of, modules_of_defence
from puriflow.provenance import code_hash, weights_identities, weights_in
from puriflow.results.table import load_table, needed, served
from puriflow.zoo.catalogue import (
    PREFIX,
    by_hand,
    cache_folder,
    entry,
    find,
    ready_file,
)

try:
    TRACK = check_config(config)
except UserError as problem:
    sys.exit(f"puriflow: error: {problem}")

TABLES = Path("config/tables")
TIMINGS = Path("config/timings")
FAMILIES = {
    "dataset": "datasets",
    "attack": "attacks",
    "restorer": "restorers",
    "denoiser": "networks",
    "purifier": "purifiers",
    "classifier": "classifiers",
}


def orderly(function):
    """Turn a UserError into one line and an exit, instead of Snakemake's traceback."""

    def checked(wildcards):
        try:
            return function(wildcards)
        except UserError as problem:
            sys.exit(f"puriflow: error: {problem}")

    return checked


def part_of(wildcard, wildcards):
    """The specification of what a wildcard names; of a victim, that of each of its parts."""
    name = getattr(wildcards, wildcard)
    if wildcard == "victim":
        return TRACK.defence(victim_roles(name))
    return TRACK.spec(FAMILIES[wildcard], name)


def modules_behind(wildcard, spec):
    """The modules that build what a wildcard names."""
    if wildcard == "victim":
        return modules_of_defence(spec)
    return modules_of(FAMILIES[wildcard], spec)


def specification(wildcard):
    """The part that a wildcard names, as JSON: the rule reruns when its entry changes."""
    return orderly(lambda wildcards: json.dumps(part_of(wildcard, wildcards)))


def specifications(*wildcards_used):
    """The parts that several wildcards name, as JSON."""
    return orderly(
        lambda wildcards: json.dumps({w: part_of(w, wildcards) for w in wildcards_used})
    )


def version_of(stage, *wildcards_used):
    """A hash of the code and the weights behind a stage: the rule reruns when these change."""

    def version(wildcards):
        specs = {w: part_of(w, wildcards) for w in wildcards_used}
        modules = [m for w, spec in specs.items() for m in modules_behind(w, spec)]
        code = code_hash(f"puriflow.stages.{stage}", *modules)
        return " ".join([code, *sorted(weights_identities(specs).values())])

    return orderly(version)


def source_of(stage):
    """The manifest that a stage reads: of the nearest earlier stage that is not `none`."""

    def manifest(wildcards):
        roles = {role: getattr(wildcards, role) for role in STAGES[stage]}
        chain = Chain(**{**roles, "draws": int(roles.get("draws", 1))})
        return f"results/{chain.folder(chain.before(stage), wildcards.shard)}/manifest.json"

    return orderly(manifest)


def weights_of(*wildcards_used):
    """The zoo's files that a stage loads: those in the cache are fetched by a rule.

    They do not count as changed by their time: the version holds their published hash.
    """

    return orderly(
        lambda wildcards: zoo_files({w: part_of(w, wildcards) for w in wildcards_used})
    )


def zoo_files(specs):
    """The zoo's files that specifications name."""
    names = [w.removeprefix(PREFIX) for w in weights_in(specs) if PREFIX in w]
    for name in names:
        what = entry(name)
        if not (what.url or find(name, what.ready) or find(name, what.file)):
            raise by_hand(name)
    return [ancient(str(ready_file(name))) for name in dict.fromkeys(names)]


def gpus_of(wildcard):
    """One GPU for a part that has a network, none for a classical denoiser."""

    def gpus(wildcards):
        return int(
            "weights" in TRACK.spec(FAMILIES[wildcard], getattr(wildcards, wildcard))
        )

    return orderly(gpus)


@orderly
def subset_of(wildcards):
    """The options that choose a data set's images."""
    dataset = TRACK.role("datasets", wildcards.dataset)
    size = "" if dataset.subset is None else f"--subset {dataset.subset}"
    seeds = dataset.subset_seed
    seeds = [seeds] if isinstance(seeds, int) else seeds
    return " ".join([size, *(f"--subset-seed {seed}" for seed in seeds)])


def table_file(wildcards):
    """The file that says what is in a table."""
    return str(TABLES / f"{wildcards.table}.yaml")


def table_names():
    """All tables of config/tables."""
    return sorted(file.stem for file in TABLES.glob("*.yaml"))


def timing_names():
    """All timings of config/timings."""
    return sorted(file.stem for file in TIMINGS.glob("*.yaml"))


def paper_tables():
    """The tables of accuracies that are the paper's own."""
    return [name for name in table_names() if name.startswith("table")]


@orderly
def stores_of_table(wildcards):
    """The manifests of all stores that a table reads."""
    if wildcards.table not in table_names():
        raise unknown("table", wildcards.table, table_names())
    table = load_table(table_file(wildcards))
    folders = needed(table, served(table, TRACK))
    return [f"results/{folder}/manifest.json" for folder in folders]


@orderly
def roles_of_table(wildcards):
    """What a table says of the roles that it names, as JSON."""
    return json.dumps(served(load_table(table_file(wildcards)), TRACK), sort_keys=True)


@orderly
def recipe_of(wildcards):
    """A training recipe as JSON."""
    return json.dumps(TRACK.training.recipe(wildcards.family, wildcards.name))


@orderly
def trained_part(wildcards):
    """The part to be trained, as JSON."""
    return json.dumps(TRACK.spec(wildcards.family, wildcards.name))


@orderly
def trainer_version(wildcards):
    """A hash of the code that trains a part, and of the part's own."""
    own = module_of(wildcards.family, TRACK.spec(wildcards.family, wildcards.name))
    return code_hash("puriflow.training.runs", own)


@orderly
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


@orderly
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
