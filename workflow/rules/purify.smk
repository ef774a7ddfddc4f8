rule purify_images:
    input:
        manifest=source_of("purify"),
        missed=missed_by("purify_images", source_of("purify")),
        weights=weights_of("purifier"),
    output:
        store=directory(
            "results/purify/{dataset}/{attack}/{victim}/{restorer}/{purifier}/{shard}"
        ),
        manifest=ensure(
            "results/purify/{dataset}/{attack}/{victim}/{restorer}/{purifier}/{shard}/manifest.json",
            non_empty=True,
        ),
    log:
        "logs/purify/{dataset}/{attack}/{victim}/{restorer}/{purifier}/{shard}.log",
    benchmark:
        "results/benchmarks/purify/{dataset}/{attack}/{victim}/{restorer}/{purifier}/{shard}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        track=TRACK_FILE,
        gpu=1,
        mem_mb=16000,
        runtime=runtime_of("purifier"),
    params:
        entries=entries_of("purifier"),
        seed=TRACK.seed,
        version=version_of("purify", "purifier"),
    message:
        "Purify {wildcards.dataset} under {wildcards.attack} by {wildcards.restorer}"
        " and {wildcards.purifier} ({wildcards.shard})"
    shell:
        "puriflow stage purify {input.manifest:q} --out {output.store:q} --config {resources.track:q}"
        " --purifier {wildcards.purifier:q}"
        " --gpus {resources.gpu:q} > {log:q} 2>&1"
