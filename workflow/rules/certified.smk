# What the rules of certificates look up, beside rules/common.smk.
from puriflow.results import radii
from puriflow.config import NONE

CERTIFIED = Path("config/certified")


def curves_file(wildcards):
    """The file that says which curves are drawn."""
    return str(CERTIFIED / f"{wildcards.curves}.yaml")


def curves_names():
    """All files of config/certified."""
    return sorted(file.stem for file in CERTIFIED.glob("*.yaml"))


@orderly
def stores_of_curves(wildcards):
    """The manifests of all stores that the curves read."""
    if wildcards.curves not in curves_names():
        raise unknown("file of curves", wildcards.curves, curves_names())
    curves = radii.load_curves(curves_file(wildcards))
    folders = radii.needed(curves, radii.served(curves, TRACK))
    return [f"results/{folder}/manifest.json" for folder in folders]


@orderly
def roles_of_curves(wildcards):
    """What a file of curves says of the roles that it names, as JSON."""
    curves = radii.load_curves(curves_file(wildcards))
    return json.dumps(radii.served(curves, TRACK), sort_keys=True)


def smoothed_roles(wildcards):
    """The kinds of role that a smoothed chain has."""
    kinds = [kind for kind in radii.ROLES if kind != "dataset"]
    return [kind for kind in kinds if getattr(wildcards, kind) != NONE]


@orderly
def smoothing_of(wildcards):
    """The smoothed chain and its numbers of draws, as JSON."""
    roles = {kind: getattr(wildcards, kind) for kind in smoothed_roles(wildcards)}
    return json.dumps(radii.smoothing_spec(TRACK, roles))


def weights_of_smoothed(wildcards):
    """The zoo's files that a smoothed chain loads."""
    return weights_of(*smoothed_roles(wildcards))(wildcards)


def version_of_smoothed(wildcards):
    """A hash of the code and the weights behind a certificate."""
    return version_of("certify", *smoothed_roles(wildcards))(wildcards)
