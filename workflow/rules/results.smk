AT_THE_TOP = ("tables", "figures", "timings")  # whose files are results/NAME.csv


# One rule a kind of result: a file of config/ says what it is, the stores of stages what it reads.
rule build_table:
    input:
        file=file_of_result(*AT_THE_TOP),
        stores=stores_of_result,
        missed=missed_by("build_table", stores_of_result),
        weights=weights_of_result,
    output:
        csv=report(
            "results/{result}.csv",
            caption="../report/table.rst",
            category=category_of_result,
            labels={"result": "{result}", "form": "CSV"},
        ),
        measures="results/measures/{result}.csv",
        png=report(
            "results/{result}.png",
            caption="../report/picture.rst",
            category=category_of_result,
            labels={"result": "{result}", "form": "picture"},
        ),
        sheet=report(
            "results/sheets/{result}.png",
            caption="../report/images.rst",
            category=category_of_result,
            labels={"result": "{result}", "form": "images"},
        ),
    log:
        "logs/tables/{result}.log",
    benchmark:
        "results/benchmarks/tables/{result}.jsonl"
    wildcard_constraints:
        result=rf"(?!(?:{named(*AT_THE_TOP[1:])})\.(?:csv|png)$){RESULT}",
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        track=TRACK_FILE,
        gpu=0,
        mem_mb=4000,
        runtime=at_most(60),
    params:
        track=track_of_result,
        version=version_of_result,
    message:
        "Build {wildcards.result}"
    shell:
        "puriflow result {input.file:q} --config {resources.track:q}"
        " --gpus {resources.gpu:q} > {log:q} 2>&1"


rule build_figure:
    input:
        file=file_of_result("figures"),
        stores=stores_of_result,
        missed=missed_by("build_figure", stores_of_result),
        weights=weights_of_result,
    output:
        csv=report(
            "results/{result}.csv",
            caption="../report/figure.rst",
            category="figures",
            labels={"result": "{result}", "form": "CSV"},
        ),
        png=report(
            "results/{result}.png",
            caption="../report/figure.rst",
            category="figures",
            labels={"result": "{result}", "form": "picture"},
        ),
        svg="results/{result}.svg",
        measures="results/measures/{result}.csv",
    log:
        "logs/figures/{result}.log",
    benchmark:
        "results/benchmarks/figures/{result}.jsonl"
    wildcard_constraints:
        result=named("figures"),
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        track=TRACK_FILE,
        gpu=1,
        mem_mb=16000,
        runtime=at_most(240),
    params:
        track=track_of_result,
        version=version_of_result,
    message:
        "Draw {wildcards.result}"
    shell:
        "puriflow result {input.file:q} --config {resources.track:q}"
        " --gpus {resources.gpu:q} > {log:q} 2>&1"


rule measure_times:
    input:
        file=file_of_result("timings"),
        stores=stores_of_result,
        missed=missed_by("measure_times", stores_of_result),
        weights=weights_of_result,
    output:
        csv=report(
            "results/{result}.csv",
            caption="../report/timing.rst",
            category="tables",
            labels={"result": "{result}", "form": "CSV"},
        ),
        measures="results/measures/{result}.csv",
    log:
        "logs/timings/{result}.log",
    benchmark:
        "results/benchmarks/timings/{result}.jsonl"
    wildcard_constraints:
        result=named("timings"),
    conda:
        "../envs/puriflow.yaml"
    # of the whole machine, so that nothing else is timed with it
    threads: workflow.resource_settings.cores or 4
    resources:
        track=TRACK_FILE,
        gpu=1,
        mem_mb=16000,
        runtime=at_most(120),
    params:
        track=track_of_result,
        version=version_of_result,
    message:
        "Time {wildcards.result}"
    shell:
        "puriflow result {input.file:q} --config {resources.track:q}"
        " --threads {threads:q} --gpus {resources.gpu:q} > {log:q} 2>&1"


rule build_sweep:
    input:
        file=file_of_result("sweeps"),
        stores=stores_of_result,
        missed=missed_by("build_sweep", stores_of_result),
        weights=weights_of_result,
    output:
        csv=report(
            "results/sweeps/{result}.csv",
            caption="../report/sweep.rst",
            category="sweeps",
            labels={"result": "{result}", "form": "CSV"},
        ),
        png=report(
            "results/sweeps/{result}.png",
            caption="../report/sweep.rst",
            category="sweeps",
            labels={"result": "{result}", "form": "picture"},
        ),
        svg="results/sweeps/{result}.svg",
    log:
        "logs/sweeps/{result}.log",
    benchmark:
        "results/benchmarks/sweeps/{result}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        track=TRACK_FILE,
        gpu=0,
        mem_mb=4000,
        runtime=at_most(60),
    params:
        track=track_of_result,
        version=version_of_result,
    message:
        "Build the sweep {wildcards.result}"
    shell:
        "puriflow result {input.file:q} --config {resources.track:q}"
        " --gpus {resources.gpu:q} > {log:q} 2>&1"


rule build_certified:
    input:
        file=file_of_result("certified"),
        stores=stores_of_result,
        missed=missed_by("build_certified", stores_of_result),
        weights=weights_of_result,
    output:
        csv="results/certified/{result}.csv",
        png=report(
            "results/certified/{result}.png",
            caption="../report/certified.rst",
            category="certified",
            labels={"result": "{result}", "form": "picture"},
        ),
    log:
        "logs/certified/{result}.log",
    benchmark:
        "results/benchmarks/certified/{result}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        track=TRACK_FILE,
        gpu=0,
        mem_mb=4000,
        runtime=at_most(60),
    params:
        track=track_of_result,
        version=version_of_result,
    message:
        "Draw certified accuracy against radius for {wildcards.result}"
    shell:
        "puriflow result {input.file:q} --config {resources.track:q}"
        " --gpus {resources.gpu:q} > {log:q} 2>&1"


rule run_audit:
    input:
        file=file_of_result("audits"),
        stores=stores_of_result,
        missed=missed_by("run_audit", stores_of_result),
        weights=weights_of_result,
    output:
        json="results/audits/{result}.json",
        csv=report(
            "results/audits/{result}.csv",
            caption="../report/audit.rst",
            category="audits",
            labels={"result": "{result}", "form": "CSV"},
        ),
        png=report(
            "results/audits/{result}.png",
            caption="../report/audit.rst",
            category="audits",
            labels={"result": "{result}", "form": "picture"},
        ),
    log:
        "logs/audits/{result}.log",
    benchmark:
        "results/benchmarks/audits/{result}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        track=TRACK_FILE,
        gpu=1,
        mem_mb=16000,
        runtime=at_most(600),
    params:
        track=track_of_result,
        version=version_of_result,
    message:
        "Audit {wildcards.result}"
    shell:
        "puriflow result {input.file:q} --config {resources.track:q}"
        " --gpus {resources.gpu:q} > {log:q} 2>&1"


rule count_draws:
    input:
        file=file_of_result("eot"),
        stores=stores_of_result,
        missed=missed_by("count_draws", stores_of_result),
        weights=weights_of_result,
    output:
        csv=report(
            "results/eot/{result}.csv",
            caption="../report/eot.rst",
            category="draws of a gradient",
            labels={"result": "{result}", "form": "CSV"},
        ),
        png=report(
            "results/eot/{result}.png",
            caption="../report/eot.rst",
            category="draws of a gradient",
            labels={"result": "{result}", "form": "picture"},
        ),
        svg="results/eot/{result}.svg",
    log:
        "logs/eot/{result}.log",
    benchmark:
        "results/benchmarks/eot/{result}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        track=TRACK_FILE,
        gpu=1,
        mem_mb=16000,
        runtime=at_most(1440),
    params:
        track=track_of_result,
        version=version_of_result,
    message:
        "Count the draws that a gradient needs: {wildcards.result}"
    shell:
        "puriflow result {input.file:q} --config {resources.track:q}"
        " --gpus {resources.gpu:q} > {log:q} 2>&1"


# Verdicts on the paper's claims, and the pages that hold the paper beside our results.


rule judge_claims:
    input:
        claims=CLAIMS,
        file=file_of_judged,
        measures="results/measures/{result}.csv",
        stores=stores_of_result,
        missed=missed_by(
            "judge_claims", "results/measures/{result}.csv", stores_of_result
        ),
    output:
        "results/claims/{result}.csv",
    log:
        "logs/claims/{result}.log",
    benchmark:
        "results/benchmarks/claims/{result}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    resources:
        track=TRACK_FILE,
    params:
        track=track_of_result,
        version=code_hash("puriflow.results.claims"),
    message:
        "Judge the paper's claims about {wildcards.result}"
    shell:
        "puriflow result {input.claims:q} --about {wildcards.result:q} --config {resources.track:q} > {log:q} 2>&1"


rule write_page:
    input:
        file=file_of_judged,
        claims=CLAIMS,
        csv="results/{result}.csv",
        verdicts="results/claims/{result}.csv",
        missed=missed_by(
            "write_page", "results/{result}.csv", "results/claims/{result}.csv"
        ),
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
    conda:
        "../envs/puriflow.yaml"
    params:
        version=code_hash("puriflow.results.summary"),
    message:
        "Write the page of {wildcards.result}"
    shell:
        "puriflow result {input.claims:q} --page {wildcards.result:q} > {log:q} 2>&1"


SUMMED = collect("results/{result}.csv", result=paper_results(CONFIG))
SUMMED_VERDICTS = collect("results/claims/{result}.csv", result=paper_results(CONFIG))


rule write_summary:
    input:
        claims=CLAIMS,
        files=files_of_paper,
        csvs=SUMMED,
        verdicts=SUMMED_VERDICTS,
        missed=missed_by("write_summary", *SUMMED, *SUMMED_VERDICTS),
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
        "puriflow result {input.claims:q} > {log:q} 2>&1"


# The paper's tables and times, and no others.
rule tables:
    input:
        outputs("timings", forms=("csv",)),
        outputs("tables", only=paper_results(CONFIG)),


rule sweeps:
    input:
        sweeps_of_track,
