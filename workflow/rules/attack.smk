rule attack_images:
    input:
        manifest=source_of("attack"),
        missed=missed_by("attack_images", source_of("attack")),
        weights=weights_of("victim"),
    output:
        store=directory("results/attack/{dataset}/{attack}/{victim}/{shard}"),
        manifest=ensure(
            "results/attack/{dataset}/{attack}/{victim}/{shard}/manifest.json",
            non_empty=True,
        ),
    log:
        "logs/attack/{dataset}/{attack}/{victim}/{shard}.log",
    benchmark:
        "results/benchmarks/attack/{dataset}/{attack}/{victim}/{shard}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        track=TRACK_FILE,
        gpu=1,
        mem_mb=8000,
        runtime=runtime_of("attack", "victim"),
    params:
        entries=entries_of("attack", "victim"),
        seed=TRACK.seed,
        version=version_of("attack", "attack", "victim"),
    message:
        "Attack {wildcards.victim} with {wildcards.attack} on {wildcards.dataset} ({wildcards.shard})"
    shell:
        "puriflow stage attack {input.manifest:q} --out {output.store:q} --config {resources.track:q}"
        " --attack {wildcards.attack:q} --victim {wildcards.victim:q}"
        " --gpus {resources.gpu:q} > {log:q} 2>&1"
