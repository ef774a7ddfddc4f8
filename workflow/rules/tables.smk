rule build_table:
    input:
        file=table_file,
        stores=stores_of_table,
    output:
        csv=report(
            "results/{table}.csv",
            caption="../report/table.rst",
            category=category_of_result,
            labels={"result": "{table}", "form": "CSV"},
        ),
        measures="results/measures/{table}.csv",
    log:
        "logs/tables/{table}.log",
    benchmark:
        "results/benchmarks/tables/{table}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    params:
        roles=roles_of_table,
        version=code_hash("puriflow.results.measures"),
    message:
        "Build {wildcards.table}"
    shell:
        "puriflow table {input.file} --out {output.csv} --measures {output.measures}"
        " --roles {params.roles:q} > {log} 2>&1"


rule plot_table:
    input:
        csv="results/{table}.csv",
        file=table_file,
    output:
        report(
            "results/{table}.png",
            caption="../report/picture.rst",
            category=category_of_result,
            labels={"result": "{table}", "form": "picture"},
        ),
    log:
        "logs/plots/{table}.log",
    benchmark:
        "results/benchmarks/plots/{table}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    params:
        version=code_hash("puriflow.plots.bars"),
    message:
        "Draw {wildcards.table}"
    shell:
        "puriflow plot {input.csv} {input.file} --out {output} > {log} 2>&1"


rule draw_images:
    input:
        file=table_file,
        stores=stores_of_table,
    output:
        report(
            "results/sheets/{table}.png",
            caption="../report/images.rst",
            category=category_of_result,
            labels={"result": "{table}", "form": "images"},
        ),
    log:
        "logs/sheets/{table}.log",
    benchmark:
        "results/benchmarks/sheets/{table}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    params:
        roles=roles_of_table,
        version=code_hash("puriflow.plots.sheets", "puriflow.results.table"),
    message:
        "Draw the images of {wildcards.table}"
    shell:
        "puriflow sheet {input.file} --out {output} --roles {params.roles:q} > {log} 2>&1"


# The paper's tables, and no others.
rule tables:
    input:
        collect("results/{table}.csv", table=paper_tables()),
        collect("results/{table}.png", table=paper_tables()),
        collect("results/sheets/{table}.png", table=paper_tables()),
        collect("results/{timing}.csv", timing=timing_names()),
