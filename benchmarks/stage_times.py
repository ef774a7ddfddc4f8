"""Where the time of a workflow went: per stage, from the timings that lie beside the stores.

    python benchmarks/stage_times.py [results]

Start-up is what a job spends before its first image (Python, torch, weights). Ratios hold within
one run; absolute times are of the machine and of what else it did.
"""

import json
import sys
from pathlib import Path

import pandas as pd


def collect(results: Path) -> pd.DataFrame:
    """One row a finished job: stage, images, seconds of work, seconds of start-up."""
    rows = [
        {"stage": file.relative_to(results).parts[0], **json.loads(file.read_text())}
        for file in results.rglob("timing.json")
    ]
    if not rows:
        sys.exit(f"no timings below {results}: build something first")
    return pd.DataFrame(rows)


def summarise(jobs: pd.DataFrame) -> pd.DataFrame:
    """Jobs, seconds and the share of start-up, by stage and in all."""
    order = [
        s for s in ("images", "attack", "restore", "purify", "classify") if s in set(jobs.stage)
    ]
    sums = jobs.groupby("stage")[["images", "seconds", "startup"]].sum().loc[order]
    sums.insert(0, "jobs", jobs.groupby("stage").size())
    sums.loc["all"] = sums.sum()
    sums["s/image"] = sums.seconds / sums.images
    sums["start-up share"] = sums.startup / (sums.startup + sums.seconds)
    # What the share would be with n images a job, all else equal.
    for n in (100, 1000):
        work = n * sums["s/image"]
        sums[f"share at {n} images"] = sums.startup / sums.jobs / (sums.startup / sums.jobs + work)
    return sums


if __name__ == "__main__":
    results = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    print(summarise(collect(results)).round(3).to_string())
