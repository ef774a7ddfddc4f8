# Verdicts on the paper's claims, and the pages that hold the paper beside our results.
include: "summed.smk"


rule judge_table:
    input:
        file=table_file,
        claims=claims_file,
        csv="results/{table}.csv",
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
        version=code_hash("puriflow.results.claims", "puriflow.results.evidence"),
    message:
        "Judge the paper's claims about {wildcards.table}"
    shell:
        "puriflow claims {input.file} --claims {input.claims} --out {output}"
        " --roles {params.roles:q} > {log} 2>&1"


# Of figures and times, whose values by image or repeat lie beside their CSV.
rule judge_measured:
    input:
        measures="results/measures/{measured}.csv",
        claims=claims_file,
    output:
        "results/claims/{measured}.csv",
    log:
        "logs/claims/{measured}.log",
    benchmark:
        "results/benchmarks/claims/{measured}.jsonl"
    wildcard_constraints:
        measured=MEASURED,
    conda:
        "../envs/puriflow.yaml"
    params:
        version=code_hash("puriflow.results.claims", "puriflow.results.evidence"),
    message:
        "Judge the paper's claims about {wildcards.measured}"
    shell:
        "puriflow claims {input.measures} --claims {input.claims} --out {output} > {log} 2>&1"


rule write_page:
    input:
        file=file_of_result,
        csv="results/{result}.csv",
        claims="results/claims/{result}.csv",
    output:
        page=report(
            "results/pages/{result}.html",
            caption="../report/page.rst",
            category=category_of_result,
            labels={"result": "{result}", "form": "page"},
        ),
        caption="results/pages/{result}.rst",
    log:
        "logs/pages/{result}.log",
    benchmark:
        "results/benchmarks/pages/{result}.jsonl"
    wildcard_constraints:
        result=r"[a-z0-9-]+",
    conda:
        "../envs/puriflow.yaml"
    params:
        version=code_hash("puriflow.results.summary"),
    message:
        "Write the page of {wildcards.result}"
    shell:
        "puriflow summary {input.file} --out {output.page} --out {output.caption} > {log} 2>&1"


rule write_summary:
    input:
        files=[result_file(name) for name in paper_results()],
        csvs=collect("results/{result}.csv", result=paper_results()),
        claims=collect("results/claims/{result}.csv", result=paper_results()),
    output:
        markdown="results/summary.md",
        page=report(
            "results/summary.html",
            caption="../report/summary.rst",
            category="summary",
            labels={"result": "all", "form": "page"},
        ),
    log:
        "logs/summary.log",
    benchmark:
        "results/benchmarks/summary.jsonl"
    conda:
        "../envs/puriflow.yaml"
    params:
        version=code_hash("puriflow.results.summary"),
    message:
        "Write the paper beside our results"
    shell:
        "puriflow summary {input.files} --out {output.markdown} --out {output.page} > {log} 2>&1"
