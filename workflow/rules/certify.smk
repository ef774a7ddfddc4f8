# Certificates of smoothed classifiers on clean images, beside the chain of stages.
SMOOTHED = ("restorer", "denoiser", "purifier", "classifier")


rule certify_images:
    input:
        manifest="results/images/{dataset}/{shard}/manifest.json",
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
        runtime=1440,
    params:
        entries=entries_of(*SMOOTHED),
        draws=TRACK.certification.model_dump(),
        seed=TRACK.seed,
        version=version_of("certify", *SMOOTHED),
    message:
        "Certify {wildcards.classifier} after {wildcards.restorer}, {wildcards.denoiser} and"
        " {wildcards.purifier} on {wildcards.dataset}, sigma {wildcards.sigma} ({wildcards.shard})"
    shell:
        "puriflow stage certify {input.manifest} --out {output.store} --config {resources.track}"
        " --restorer {wildcards.restorer} --denoiser {wildcards.denoiser}"
        " --purifier {wildcards.purifier} --classifier {wildcards.classifier}"
        " --sigma {wildcards.sigma} --threads {threads} --gpus {resources.gpu} > {log} 2>&1"
