include: "swept.smk"


# One rule builds the CSV and the pictures of any sweep of config/sweeps.
rule build_sweep:
    input:
        file=sweep_file,
        stores=stores_of_sweep,
    output:
        csv=report(
            "results/sweeps/{sweep}.csv",
            caption="../report/sweep.rst",
            category="sweeps",
            labels={"result": "{sweep}", "form": "CSV"},
        ),
        png=report(
            "results/sweeps/{sweep}.png",
            caption="../report/sweep.rst",
            category="sweeps",
            labels={"result": "{sweep}", "form": "picture"},
        ),
        svg="results/sweeps/{sweep}.svg",
    log:
        "logs/sweeps/{sweep}.log",
    benchmark:
        "results/benchmarks/sweeps/{sweep}.jsonl"
    wildcard_constraints:
        sweep=r"[a-z0-9-]+",
    conda:
        "../envs/puriflow.yaml"
    params:
        roles=roles_of_sweep,
        title=title_of_sweep,
        version=code_hash("puriflow.results.sweep", "puriflow.plots.sweep"),
    message:
        "Build the sweep {wildcards.sweep}"
    shell:
        "puriflow sweep {input.file} --out {output.csv}"
        " --picture {output.png} --picture {output.svg} --roles {params.roles:q} > {log} 2>&1"


rule sweeps:
    input:
        sweep_files(),
