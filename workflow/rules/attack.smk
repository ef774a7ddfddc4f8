rule attack_images:
    input:
        manifest=source_of("attack"),
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
        gpu=1,
        mem_mb=8000,
        runtime=720,
    params:
        spec=specification("attack"),
        victim=specification("victim"),
        seed=TRACK.seed,
        version=version_of("attack", "attack", "victim"),
    message:
        "Attack {wildcards.victim} with {wildcards.attack} on {wildcards.dataset} ({wildcards.shard})"
    shell:
        "puriflow attack {input.manifest} --out {output.store}"
        " --attack {wildcards.attack} --spec {params.spec:q}"
        " --victim {wildcards.victim} --victim-spec {params.victim:q}"
        " --seed {params.seed} --threads {threads} --gpus {resources.gpu} > {log} 2>&1"
