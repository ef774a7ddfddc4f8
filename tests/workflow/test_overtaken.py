"""A job of a cluster whose store another run has made since it was planned: it is used."""


def test_a_job_of_a_cluster_uses_a_store_that_is_there(empty):
    """Snakemake there removes what a job is to make, and makes its folder anew, before the job."""
    target = "results/images/imagenet/0-of-1/manifest.json"
    empty.snakemake(target)
    store = (empty.folder / target).parent
    before = {file: file.stat().st_ino for file in store.rglob("*") if file.is_file()}
    remote = ["--cores", "1", "--mode", "remote", "--force", "--allowed-rules", "store_images"]
    jobs = ["--target-jobs", "store_images:dataset=imagenet,shard=0-of-1"]
    empty.snakemake(target, *remote, *jobs)
    log = (empty.folder / "logs/images/imagenet/0-of-1.log").read_text()
    assert "is there: it is used" in log
    kept = {file: file.stat().st_ino for file in store.rglob("*") if file.is_file()}
    assert {file: kept.get(file) for file in before} == before
    assert not list(empty.folder.glob("results/**/.*.work"))
