include: "drawn.smk"


# One rule builds the CSV and the pictures of any figure of config/figures.
rule build_figure:
    input:
        file=figure_file,
        stores=stores_of_figure,
        weights=weights_of_figure,
    output:
        csv=report(
            "results/{figure}.csv",
            caption="../report/figure.rst",
            category="figures",
            labels={"result": "{figure}", "form": "CSV"},
        ),
        png=report(
            "results/{figure}.png",
            caption="../report/figure.rst",
            category="figures",
            labels={"result": "{figure}", "form": "picture"},
        ),
        svg="results/{figure}.svg",
        measures="results/measures/{figure}.csv",
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
        version=version_of_figure,
    message:
        "Draw {wildcards.figure}"
    shell:
        "puriflow figure {input.file} --out {output.csv} --measures {output.measures}"
        " --picture {output.png} --picture {output.svg} --roles {params.roles:q}"
        " --threads {threads} --gpus {resources.gpu} > {log} 2>&1"
