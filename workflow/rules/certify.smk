# Certificates of smoothed classifiers on clean images, beside the chain of stages.
include: "certified.smk"


rule certify_images:
    input:
        manifest="results/images/{dataset}/{shard}/manifest.json",
        weights=weights_of_smoothed,
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
    wildcard_constraints:
        denoiser=r"[a-z0-9-]+",
        sigma=r"[0-9.]+",
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=1440,
    params:
        spec=smoothing_of,
        seed=TRACK.seed,
        version=version_of_smoothed,
    message:
        "Certify {wildcards.classifier} after {wildcards.restorer}, {wildcards.denoiser} and"
        " {wildcards.purifier} on {wildcards.dataset}, sigma {wildcards.sigma} ({wildcards.shard})"
    shell:
        "puriflow certify {input.manifest} --out {output.store} --sigma {wildcards.sigma}"
        " --restorer {wildcards.restorer} --denoiser {wildcards.denoiser}"
        " --purifier {wildcards.purifier} --classifier {wildcards.classifier}"
        " --spec {params.spec:q} --seed {params.seed} --threads {threads} --gpus {resources.gpu} > {log} 2>&1"


rule draw_radii:
    input:
        file=curves_file,
        stores=stores_of_curves,
    output:
        csv="results/certified/{curves}.csv",
        picture=report(
            "results/certified/{curves}.png",
            caption="../report/certified.rst",
            category="certified",
            labels={"result": "{curves}", "form": "picture"},
        ),
    log:
        "logs/certified/{curves}.log",
    benchmark:
        "results/benchmarks/certified/{curves}.jsonl"
    wildcard_constraints:
        curves=r"[a-z0-9-]+",
    conda:
        "../envs/puriflow.yaml"
    params:
        roles=roles_of_curves,
        version=code_hash("puriflow.results.certified"),
    message:
        "Draw certified accuracy against radius for {wildcards.curves}"
    shell:
        "puriflow radii {input.file} --out {output.csv} --picture {output.picture}"
        " --roles {params.roles:q} > {log} 2>&1"
