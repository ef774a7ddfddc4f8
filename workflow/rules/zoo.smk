# The cache may be anywhere; a stage lists the zoo's files that it needs among its inputs.
rule fetch_weights:
    output:
        f"{TRACK.zoo.cache_folder}/{{entry}}/{{file}}",
    log:
        "logs/zoo/{entry}-{file}.log",
    benchmark:
        "results/benchmarks/zoo/{entry}-{file}.jsonl"
    wildcard_constraints:
        entry="[a-z0-9-]+",
        file="[^/]+",
    retries: 3
    localrule: True
    conda:
        "../envs/puriflow.yaml"
    resources:
        track=TRACK_FILE,
    message:
        "Fetch {wildcards.entry} into the cache"
    shell:
        "puriflow zoo --config {resources.track} fetch {wildcards.entry} > {log} 2>&1"
