# Wall times of parts on this machine (Table 9), beside the chain of stages.
include: "timed.smk"


rule measure_times:
    input:
        file=timing_file,
        images=images_of_timing,
        weights=weights_of_timing,
    output:
        csv=report(
            "results/{timing}.csv",
            caption="../report/timing.rst",
            category="tables",
            labels={"result": "{timing}", "form": "CSV"},
        ),
        measures="results/measures/{timing}.csv",
    log:
        "logs/timings/{timing}.log",
    benchmark:
        "results/benchmarks/timings/{timing}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    # of the whole machine, so that nothing else is timed with it
    threads: workflow.resource_settings.cores or 4
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
        "puriflow timing {input.file} --out {output.csv} --measures {output.measures} --roles {params.roles:q}"
        " --threads {threads} --gpus {resources.gpu} > {log} 2>&1"
