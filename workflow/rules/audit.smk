# Whether an attack of a table is to be believed: the quick checks, on the first images.
rule audit_attack:
    input:
        manifest=source_of_audit,
        missed=missed_by("audit_attack", source_of_audit),
        weights=weights_of("victim"),
    output:
        "results/audits/{dataset}/{attack}/{victim}/{images}.json",
    log:
        "logs/audits/{dataset}/{attack}/{victim}/{images}.log",
    benchmark:
        "results/benchmarks/audits/{dataset}/{attack}/{victim}/{images}.jsonl"
    wildcard_constraints:
        images=r"\d+",
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        track=TRACK_FILE,
        gpu=1,
        mem_mb=16000,
        runtime=720,
    params:
        entries=entries_of("attack", "victim"),
        roles=lambda wildcards: " ".join(
            f"--{role} {name}" for role, name in victim_roles(wildcards.victim).items()
        ),
        seed=TRACK.seed,
        version=version_of_audit,
    message:
        "Audit {wildcards.attack} on {wildcards.victim} and {wildcards.dataset}"
    shell:  # exit status 1 is an audit in which a check failed
        "puriflow audit --quick {params.roles} --attack {wildcards.attack:q} --out {output:q}"
        " --dataset {wildcards.dataset:q} --count {wildcards.images:q} --config {resources.track:q}"
        " --gpus {resources.gpu:q} > {log:q} 2>&1 || test $? -eq 1"
