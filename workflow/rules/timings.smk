# Wall times of parts on this machine (Table 9), beside the chain of stages.
include: "timed.smk"


rule measure_times:
    input:
        file=timing_file,
        images=images_of_timing,
        weights=weights_of_timing,
    output:
        report(
            "results/{timing}.csv",
            caption="../report/timing.rst",
            category="tables",
            labels={"table": "{timing}", "form": "CSV"},
        ),
    log:
        "logs/timings/{timing}.log",
    benchmark:
        "results/benchmarks/timings/{timing}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=120,
    params:
        roles=roles_of_timing,
        version=version_of_timing,
    message:
        "Time {wildcards.timing}"
    shell:
        "puriflow timing {input.file} --out {output} --roles {params.roles:q}"
        " --threads {threads} --gpus {resources.gpu} > {log} 2>&1"
