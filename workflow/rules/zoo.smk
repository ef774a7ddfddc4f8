# A stage lists the marks of the zoo's files that it needs among its inputs. The files themselves may be
# anywhere, and may be moved: that reruns nothing. A mark has the hash of the file that was checked.
rule fetch_weights:
    output:
        "results/zoo/{entry}.fetched",
    log:
        "logs/zoo/{entry}.log",
    benchmark:
        "results/benchmarks/zoo/{entry}.jsonl"
    retries: 3
    localrule: True
    conda:
        "../envs/puriflow.yaml"
    resources:
        track=TRACK_FILE,
    message:
        "Fetch {wildcards.entry} into the cache"
    shell:
        "puriflow zoo --config {resources.track:q} fetch {wildcards.entry:q} > {output:q} 2> {log:q}"
