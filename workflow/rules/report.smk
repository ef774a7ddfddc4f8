include: "reported.smk"


# All that `all` builds but the report, which is about it.
rule everything:
    input:
        everything(),


# Snakemake writes its report about what is there: it is asked again when everything is.
rule report:
    input:
        everything(),
    output:
        "results/report.html",
    log:
        "logs/report.log",
    benchmark:
        "results/benchmarks/report.jsonl"
    localrule: True
    conda:
        "../envs/puriflow.yaml"
    params:
        command=report_command(),
    message:
        "Write the report"
    shell:
        "{params.command} --report {output} > {log} 2>&1"
