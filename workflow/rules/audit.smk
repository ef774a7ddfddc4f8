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
    conda:
        "../envs/puriflow.yaml"
    threads: 1
    resources:
        track=TRACK_FILE,
        gpu=1,
        mem_mb=16000,
        runtime=at_most(720),
    params:
        entries=entries_of("attack", "victim"),
        victim=lambda wildcards: victim_roles(wildcards.victim),
        seed=TRACK.seed,
        version=version_of_audit,
    message:
        "Audit {wildcards.attack} on {wildcards.victim} and {wildcards.dataset}"
    shell:
        # an audit in which a check failed is written, too, with exit status 1
        "puriflow audit --quick --restorer {params.victim[restorer]:q}"
        " --purifier {params.victim[purifier]:q} --classifier {params.victim[classifier]:q}"
        " --attack {wildcards.attack:q} --out {output:q}"
        " --dataset {wildcards.dataset:q} --count {wildcards.images:q} --config {resources.track:q}"
        " --gpus {resources.gpu:q} > {log:q} 2>&1 || test -s {output:q}"
