# Training writes to results/; publishing to resources/ is no declared output, so that building a
# table never trains.
rule train_part:
    input:
        images=training_images,
    output:
        multiext("results/training/{family}/{name}", ".safetensors", ".md"),
    log:
        "logs/training/{family}/{name}.log",
    benchmark:
        "results/benchmarks/training/{family}/{name}.jsonl"
    wildcard_constraints:
        family="restorers|networks",
        name="[a-z0-9-]+",
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=1440,
    params:
        spec=trained_part,
        recipe=recipe_of,
        held_out=TRACK.training.held_out,
        version=trainer_version,
    message:
        "Train {wildcards.family} {wildcards.name}"
    shell:
        "puriflow train {wildcards.family} {wildcards.name} --images {input.images:q}"
        " --out results/training/{wildcards.family}"
        " --spec {params.spec:q} --recipe {params.recipe:q} --held-out {params.held_out}"
        " --threads {threads} --gpus {resources.gpu} > {log} 2>&1"


rule train_restorers:
    input:
        trained("restorers"),
    output:
        touch("results/training/restorers.published"),
    log:
        "logs/training/restorers.log",
    benchmark:
        "results/benchmarks/training/restorers.jsonl"
    conda:
        "../envs/puriflow.yaml"
    shell:
        "mkdir -p resources && cp -v {input} resources/ > {log} 2>&1"


rule train_diffusion:
    input:
        trained("networks"),
    output:
        touch("results/training/networks.published"),
    log:
        "logs/training/networks.log",
    benchmark:
        "results/benchmarks/training/networks.jsonl"
    conda:
        "../envs/puriflow.yaml"
    shell:
        "mkdir -p resources && cp -v {input} resources/ > {log} 2>&1"
