"""Small stores, whose batches are written without a stage, and what they say made them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from puriflow import atomic
from puriflow.store import Writer
from puriflow.store.manifest import as_text, digest, files_of


def made_by(stage: str, **changes: Any) -> dict[str, Any]:
    """A provenance of nothing in particular."""
    plain = {"parameters": {}, "seed": None, "code": "c0de" * 16}
    return {"stage": stage, **plain, "weights": {}, "versions": {}, "upstream": {}, **changes}


def writer(folder, images, machine=None, **changes):
    count = len(images)
    return Writer(
        folder,
        "images",
        labels=np.arange(count, dtype=np.int64),
        indices=100 + np.arange(count, dtype=np.int64),
        provenance=made_by("restore", **changes),
        machine=machine,
    )


def written(folder, images, runs=((0, 4), (4, 8), (8, 11)), **changes):
    made = writer(folder, images, **changes)
    for start, stop in runs:
        loss = np.arange(start, stop, dtype=np.float32)
        made.write(start, {"images": images[start:stop], "loss": loss}, seconds=0.5)
    return made.finish()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a stage but its timings, which differ from run to run."""
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in folder.rglob("*")
        if f.is_file() and f.name != "timing.json"
    }


def resealed(folder: Path, **changes) -> None:
    """Write a manifest of the files as they are now, which may say something else as well."""
    file = folder / "manifest.json"
    said = {**json.loads(file.read_text()), **changes}
    said["files"] = {n: atomic.sha256(f) for n, f in files_of(folder / "images.zarr").items()}
    file.write_text(as_text({**said, "digest": digest(said)}))
