rule store_images:
    input:
        missed=missed_by("store_images", changed=other_data),
    output:
        store=directory("results/images/{dataset}/{shard}"),
        manifest=ensure(
            "results/images/{dataset}/{shard}/manifest.json", non_empty=True
        ),
    log:
        "logs/images/{dataset}/{shard}.log",
    benchmark:
        "results/benchmarks/images/{dataset}/{shard}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    resources:
        track=TRACK_FILE,
        mem_mb=4000,
        runtime=at_most(60),
    params:
        entries=entries_of("dataset"),
        subset=subset_of,
        version=version_of("images", "dataset"),
    message:
        "Decode the images of {wildcards.dataset} ({wildcards.shard})"
    shell:
        "puriflow stage images {wildcards.dataset:q} --out {output.store:q} --config {resources.track:q}"
        " --shard {wildcards.shard:q} > {log:q} 2>&1"
