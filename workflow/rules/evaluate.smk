# A random purifier asked several times: purify and classify at once, keeping the logits only.
rule evaluate_images:
    input:
        manifest=source_of("evaluate"),
        missed=missed_by("evaluate_images", source_of("evaluate")),
        weights=weights_of("purifier", "classifier"),
    output:
        store=directory(
            "results/evaluate/{dataset}/{attack}/{victim}/{restorer}/{purifier}/{classifier}/{n_draws}/{shard}"
        ),
        manifest=ensure(
            "results/evaluate/{dataset}/{attack}/{victim}/{restorer}/{purifier}/{classifier}/{n_draws}/{shard}/manifest.json",
            non_empty=True,
        ),
    log:
        "logs/evaluate/{dataset}/{attack}/{victim}/{restorer}/{purifier}/{classifier}/{n_draws}/{shard}.log",
    benchmark:
        "results/benchmarks/evaluate/{dataset}/{attack}/{victim}/{restorer}/{purifier}/{classifier}/{n_draws}/{shard}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        track=TRACK_FILE,
        gpu=1,
        mem_mb=16000,
        runtime=runtime_of("purifier", "classifier"),
    params:
        entries=entries_of("purifier", "classifier"),
        seed=TRACK.seed,
        version=version_of("evaluate", "purifier", "classifier"),
    message:
        "Ask {wildcards.restorer}, {wildcards.purifier} and {wildcards.classifier} {wildcards.n_draws}"
        " times about {wildcards.dataset} under {wildcards.attack} ({wildcards.shard})"
    shell:
        "puriflow stage evaluate {input.manifest:q} --out {output.store:q} --config {resources.track:q}"
        " --purifier {wildcards.purifier:q} --classifier {wildcards.classifier:q}"
        " --n-draws {wildcards.n_draws:q}"
        " --gpus {resources.gpu:q} > {log:q} 2>&1"
