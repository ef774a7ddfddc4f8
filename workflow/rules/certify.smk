# Certificates of smoothed classifiers on clean images, beside the chain of stages.
SMOOTHED = ("restorer", "denoiser", "purifier", "classifier")


rule certify_images:
    input:
        manifest="results/images/{dataset}/{shard}/manifest.json",
        missed=missed_by(
            "certify_images", "results/images/{dataset}/{shard}/manifest.json"
        ),
        weights=weights_of(*SMOOTHED),
    output:
        store=directory(
            "results/certify/{dataset}/{restorer}/{denoiser}/{purifier}/{classifier}/{sigma}/{shard}"
        ),
        manifest=ensure(
            "results/certify/{dataset}/{restorer}/{denoiser}/{purifier}/{classifier}/{sigma}/{shard}/manifest.json",
            non_empty=True,
        ),
    log:
        "logs/certify/{dataset}/{restorer}/{denoiser}/{purifier}/{classifier}/{sigma}/{shard}.log",
    benchmark:
        "results/benchmarks/certify/{dataset}/{restorer}/{denoiser}/{purifier}/{classifier}/{sigma}/{shard}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        track=TRACK_FILE,
        gpu=1,
        mem_mb=16000,
        runtime=runtime_of(*SMOOTHED),
    params:
        entries=entries_of(*SMOOTHED),
        draws=TRACK.certification.model_dump(),
        seed=TRACK.seed,
        version=version_of("certify", *SMOOTHED),
    message:
        "Certify {wildcards.classifier} after {wildcards.restorer}, {wildcards.denoiser} and"
        " {wildcards.purifier} on {wildcards.dataset}, sigma {wildcards.sigma} ({wildcards.shard})"
    shell:
        "puriflow stage certify {input.manifest:q} --out {output.store:q} --config {resources.track:q}"
        " --restorer {wildcards.restorer:q} --denoiser {wildcards.denoiser:q}"
        " --purifier {wildcards.purifier:q} --classifier {wildcards.classifier:q}"
        " --sigma {wildcards.sigma:q} --gpus {resources.gpu:q} > {log:q} 2>&1"
