# What the rule of sweeps looks up, beside rules/common.smk.
from puriflow.results import sweeps

SWEEPS = Path("config/sweeps")


def sweep_file(wildcards):
    """The file that says what is swept."""
    return str(SWEEPS / f"{wildcards.sweep}.yaml")


def sweep_names():
    """All sweeps of config/sweeps."""
    return sorted(file.stem for file in SWEEPS.glob("*.yaml"))


def sweep_files():
    """The CSV and the pictures of all sweeps."""
    return collect(
        "results/sweeps/{sweep}.{ending}",
        sweep=sweep_names(),
        ending=("csv", "png", "svg"),
    )


@orderly
def stores_of_sweep(wildcards):
    """The manifests of all stores that a sweep reads."""
    if wildcards.sweep not in sweep_names():
        raise unknown("sweep", wildcards.sweep, sweep_names())
    sweep = sweeps.load_sweep(sweep_file(wildcards))
    folders = needed(sweep.table(), sweeps.served(sweep, TRACK))
    return [f"results/{folder}/manifest.json" for folder in folders]


@orderly
def roles_of_sweep(wildcards):
    """What a sweep says of the roles that it names, as JSON."""
    sweep = sweeps.load_sweep(sweep_file(wildcards))
    return json.dumps(sweeps.served(sweep, TRACK), sort_keys=True)


@orderly
def title_of_sweep(wildcards):
    """What the report says of a sweep."""
    return sweeps.load_sweep(sweep_file(wildcards)).title
