rule classify_images:
    input:
        manifest=source_of("classify"),
        missed=missed_by("classify_images", source_of("classify")),
        weights=weights_of("classifier"),
    output:
        store=directory(
            "results/classify/{dataset}/{attack}/{victim}/{restorer}/{purifier}/{classifier}/{shard}"
        ),
        manifest=ensure(
            "results/classify/{dataset}/{attack}/{victim}/{restorer}/{purifier}/{classifier}/{shard}/manifest.json",
            non_empty=True,
        ),
    log:
        "logs/classify/{dataset}/{attack}/{victim}/{restorer}/{purifier}/{classifier}/{shard}.log",
    benchmark:
        "results/benchmarks/classify/{dataset}/{attack}/{victim}/{restorer}/{purifier}/{classifier}/{shard}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        track=TRACK_FILE,
        gpu=1,
        mem_mb=8000,
        runtime=runtime_of("classifier"),
    params:
        entries=entries_of("classifier"),
        version=version_of("classify", "classifier"),
    message:
        "Classify {wildcards.dataset} under {wildcards.attack} after {wildcards.restorer}"
        " and {wildcards.purifier} by {wildcards.classifier} ({wildcards.shard})"
    shell:
        "puriflow stage classify {input.manifest:q} --out {output.store:q} --config {resources.track:q}"
        " --classifier {wildcards.classifier:q}"
        " --gpus {resources.gpu:q} > {log:q} 2>&1"
