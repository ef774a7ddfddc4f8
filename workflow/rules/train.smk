# Training writes to results/; publishing to resources/ is no declared output, so that building a
# table never trains.
rule train_part:
    input:
        images=training_images,
        start=training_start,
    output:
        multiext("results/training/{family}/{name}", ".safetensors", ".md", ".png"),
    log:
        "logs/training/{family}/{name}.log",
    benchmark:
        "results/benchmarks/training/{family}/{name}.jsonl"
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        track=TRACK_FILE,
        gpu=1,
        mem_mb=8000,
        runtime=at_most(1440),
    params:
        entry=trained_entry,
        recipe=recipe_of,
        held_out=TRACK.training.held_out,
        version=trainer_version,
    message:
        "Train {wildcards.family} {wildcards.name}"
    shell:
        "puriflow train {wildcards.family:q} {wildcards.name:q} --images {input.images:q}"
        " --out results/training/{wildcards.family:q} --config {resources.track:q}"
        " --threads {threads:q} --gpus {resources.gpu:q} > {log:q} 2>&1"


# The networks of Table 7 are wanted first.
use rule train_part as train_part_of_table7 with:
    wildcard_constraints:
        family="restorers|networks",
        name="(drln|edsr|esrgan|mdsr)-x2|esrgan-x2-l1|adm",
    priority: 1


ruleorder: train_part_of_table7 > train_part


rule train_zoo:
    input:
        trained(),
    output:
        touch("results/training/zoo.published"),
    log:
        "logs/training/zoo.log",
    benchmark:
        "results/benchmarks/training/zoo.jsonl"
    conda:
        "../envs/puriflow.yaml"
    shell:
        # The sums are written last: what was copied in part is refused by those of before.
        "(mkdir -p resources && cp -v {input:q} resources/ && cd resources"
        " && sha256sum *.safetensors > .sums && mv .sums SHA256SUMS) > {log:q} 2>&1"
