# The figures of config/figures: one rule builds the CSV and the pictures of any of them.
from puriflow.pictures import figure as figures

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
def caption_of_figure(wildcards):
    """What the report says of a figure."""
    figure = figures.load_figure(figure_file(wildcards))
    return {"claim": figure.claim, "how": figure.how}


@orderly
def weights_of_figure(wildcards):
    """The zoo's files that a figure loads."""
    return zoo_files(figures.specs_of(named_in(wildcards)))


@orderly
def version_of_figure(wildcards):
    """A hash of the code and the weights behind a figure."""
    kind = figures.load_figure(figure_file(wildcards)).kind
    own = [f"puriflow.pictures.{kind}", "puriflow.pictures.writing"]
    specs = figures.specs_of(named_in(wildcards))
    for key, spec in specs.items():
        own += modules_of(figures.FAMILIES[key.split()[0]], spec)
    return " ".join([code_hash(*own), *sorted(weights_identities(specs).values())])


rule build_figure:
    input:
        file=figure_file,
        stores=stores_of_figure,
        weights=weights_of_figure,
    output:
        csv="results/{figure}.csv",
        png=report(
            "results/{figure}.png",
            caption="../report/figure.rst",
            category="figures",
            labels={"figure": "{figure}", "format": "PNG"},
        ),
        svg=report(
            "results/{figure}.svg",
            caption="../report/figure.rst",
            category="figures",
            labels={"figure": "{figure}", "format": "SVG"},
        ),
    log:
        "logs/figures/{figure}.log",
    benchmark:
        "results/benchmarks/figures/{figure}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=240,
    params:
        roles=roles_of_figure,
        figure=caption_of_figure,
        version=version_of_figure,
    message:
        "Draw {wildcards.figure}"
    shell:
        "puriflow figure {input.file} --out {output.csv}"
        " --picture {output.png} --picture {output.svg} --roles {params.roles:q}"
        " --threads {threads} --gpus {resources.gpu} > {log} 2>&1"
