rule classify_images:
    input:
        manifest=source_of("classify"),
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
        gpu=1,
        mem_mb=8000,
        runtime=60,
    params:
        spec=specification("classifier"),
        version=version_of("classify", "classifier"),
    message:
        "Classify {wildcards.dataset} under {wildcards.attack} after {wildcards.restorer}"
        " and {wildcards.purifier} by {wildcards.classifier} ({wildcards.shard})"
    shell:
        "puriflow classify {input.manifest} --out {output.store}"
        " --classifier {wildcards.classifier} --spec {params.spec:q}"
        " --threads {threads} --gpus {resources.gpu} > {log} 2>&1"


# A random purifier asked several times: purify and classify at once, keeping the logits only.
rule evaluate_images:
    input:
        manifest=source_of("evaluate"),
        weights=weights_of("purifier", "classifier"),
    output:
        store=directory(
            "results/evaluate/{dataset}/{attack}/{victim}/{restorer}/{purifier}/{classifier}/{draws}/{shard}"
        ),
        manifest=ensure(
            "results/evaluate/{dataset}/{attack}/{victim}/{restorer}/{purifier}/{classifier}/{draws}/{shard}/manifest.json",
            non_empty=True,
        ),
    log:
        "logs/evaluate/{dataset}/{attack}/{victim}/{restorer}/{purifier}/{classifier}/{draws}/{shard}.log",
    benchmark:
        "results/benchmarks/evaluate/{dataset}/{attack}/{victim}/{restorer}/{purifier}/{classifier}/{draws}/{shard}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=1440,
    params:
        spec=specifications("purifier", "classifier"),
        seed=TRACK.seed,
        version=version_of("evaluate", "purifier", "classifier"),
    message:
        "Ask {wildcards.restorer}, {wildcards.purifier} and {wildcards.classifier} {wildcards.draws}"
        " times about {wildcards.dataset} under {wildcards.attack} ({wildcards.shard})"
    shell:
        "puriflow evaluate {input.manifest} --out {output.store} --draws {wildcards.draws}"
        " --purifier {wildcards.purifier} --classifier {wildcards.classifier}"
        " --spec {params.spec:q} --seed {params.seed}"
        " --threads {threads} --gpus {resources.gpu} > {log} 2>&1"
