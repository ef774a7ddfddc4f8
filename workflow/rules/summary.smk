# Verdicts on the paper's claims, and the pages that hold the paper beside our results.
CLAIMS = "config/claims.yaml"


rule judge_claims:
    input:
        file=table_file,
        claims=CLAIMS,
        stores=stores_of_table,
    output:
        "results/claims/{table}.csv",
    log:
        "logs/claims/{table}.log",
    benchmark:
        "results/benchmarks/claims/{table}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    params:
        roles=roles_of_table,
        version=code_hash("puriflow.claims"),
    message:
        "Judge the paper's claims about {wildcards.table}"
    shell:
        "puriflow claims {input.file} --claims {input.claims} --out {output}"
        " --roles {params.roles:q} > {log} 2>&1"


rule write_page:
    input:
        file=table_file,
        csv="results/{table}.csv",
        claims="results/claims/{table}.csv",
    output:
        page=report(
            "results/pages/{table}.html",
            caption="../report/page.rst",
            category="tables",
            labels={"table": "{table}", "form": "page"},
        ),
        caption="results/pages/{table}.rst",
    log:
        "logs/pages/{table}.log",
    benchmark:
        "results/benchmarks/pages/{table}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    params:
        version=code_hash("puriflow.summary"),
    message:
        "Write the page of {wildcards.table}"
    shell:
        "puriflow summary {input.file} --out {output.page} --out {output.caption} > {log} 2>&1"


rule write_timing_page:
    input:
        file=timing_file,
        csv="results/{timing}.csv",
    output:
        report(
            "results/pages/{timing}.html",
            caption="../report/timing.rst",
            category="tables",
            labels={"table": "{timing}", "form": "page"},
        ),
    log:
        "logs/pages/{timing}.log",
    benchmark:
        "results/benchmarks/pages/{timing}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    params:
        version=code_hash("puriflow.summary"),
    message:
        "Write the page of {wildcards.timing}"
    shell:
        "puriflow summary --timing {input.file} --out {output} > {log} 2>&1"


rule write_summary:
    input:
        tables=collect("config/tables/{table}.yaml", table=paper_tables()),
        timings=collect("config/timings/{timing}.yaml", timing=timing_names()),
        csvs=collect("results/{table}.csv", table=[*paper_tables(), *timing_names()]),
        claims=collect("results/claims/{table}.csv", table=paper_tables()),
    output:
        markdown="results/summary.md",
        page=report(
            "results/summary.html",
            caption="../report/summary.rst",
            category="summary",
            labels={"table": "all", "form": "page"},
        ),
    log:
        "logs/summary.log",
    benchmark:
        "results/benchmarks/summary.jsonl"
    conda:
        "../envs/puriflow.yaml"
    params:
        timings=timing_options,
        version=code_hash("puriflow.summary"),
    message:
        "Write the paper beside our results"
    shell:
        "puriflow summary {input.tables} {params.timings}"
        " --out {output.markdown} --out {output.page} > {log} 2>&1"
