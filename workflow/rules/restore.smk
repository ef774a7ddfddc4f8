rule restore_images:
    input:
        manifest=source_of("restore"),
        missed=missed_by("restore_images", source_of("restore")),
        weights=weights_of("restorer"),
    output:
        store=directory(
            "results/restore/{dataset}/{attack}/{victim}/{restorer}/{shard}"
        ),
        manifest=ensure(
            "results/restore/{dataset}/{attack}/{victim}/{restorer}/{shard}/manifest.json",
            non_empty=True,
        ),
    log:
        "logs/restore/{dataset}/{attack}/{victim}/{restorer}/{shard}.log",
    benchmark:
        "results/benchmarks/restore/{dataset}/{attack}/{victim}/{restorer}/{shard}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        track=TRACK_FILE,
        gpu=gpus_of_restorer,
        mem_mb=8000,
        runtime=runtime_of("restorer"),
    params:
        entries=entries_of("restorer"),
        version=version_of("restore", "restorer"),
    message:
        "Restore {wildcards.dataset} under {wildcards.attack} by {wildcards.restorer} ({wildcards.shard})"
    shell:
        "puriflow stage restore {input.manifest:q} --out {output.store:q} --config {resources.track:q}"
        " --restorer {wildcards.restorer:q}"
        " --gpus {resources.gpu:q} > {log:q} 2>&1"
