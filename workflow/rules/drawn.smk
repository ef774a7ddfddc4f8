# What the rule of figures looks up, beside rules/common.smk.
from puriflow.results.figures import figure as figures

FIGURES = Path("config/figures")


def figure_file(wildcards):
    """The file that says what is in a figure."""
    return str(FIGURES / f"{wildcards.figure}.yaml")


def figure_names():
    """All figures of config/figures."""
    return sorted(file.stem for file in FIGURES.glob("*.yaml"))


@orderly
def stores_of_figure(wildcards):
    """The manifests of all stores that a figure reads."""
    if wildcards.figure not in figure_names():
        raise unknown("figure", wildcards.figure, figure_names())
    figure = figures.load_figure(figure_file(wildcards))
    folders = figures.needed(figure, figures.served(figure, TRACK))
    return [f"results/{folder}/manifest.json" for folder in folders]


def named_in(wildcards):
    """All that a figure needs of the configuration."""
    return figures.served(figures.load_figure(figure_file(wildcards)), TRACK)


@orderly
def roles_of_figure(wildcards):
    """The same as JSON."""
    return json.dumps(named_in(wildcards), sort_keys=True)


@orderly
def weights_of_figure(wildcards):
    """The zoo's files that a figure loads."""
    return zoo_files(figures.specs_of(named_in(wildcards)))


@orderly
def version_of_figure(wildcards):
    """A hash of the code and the weights behind a figure."""
    kind = figures.load_figure(figure_file(wildcards)).kind
    own = [f"puriflow.results.figures.{kind}", "puriflow.results.figures.writing"]
    specs = figures.specs_of(named_in(wildcards))
    for key, spec in specs.items():
        own += modules_of(figures.FAMILIES[key.split()[0]], spec)
    return " ".join([code_hash(*own), *sorted(weights_identities(specs).values())])
