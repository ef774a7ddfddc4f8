"""What a store is, in a few lines of text."""

import json

from puriflow.store import Stage


def describe(stage: Stage) -> str:
    """Stage, arrays, parameters and provenance of a verified store."""
    m = stage.manifest
    lines = [f"stage    {m['stage']}, {m['n']} samples, every file as its manifest says"]
    for name, array in m["arrays"].items():
        lines.append(f"array    {name} {array['dtype']} {tuple(array['shape'])}")
    size = sum(f.stat().st_size for f in stage.store.rglob("*") if f.is_file())
    lines.append(f"store    {stage.store} ({size / 2**20:.1f} MiB)")
    lines.append(f"made by  {json.dumps(m['parameters'], sort_keys=True)}")
    lines += [f"weights  {path} sha256 {sha[:16]}" for path, sha in m["weights"].items()]
    lines += [f"from     {path} (manifest {sha[:16]})" for path, sha in m["upstream"].items()]
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    lines.append(f"code     {m['code'][:16]}, seed {m['seed']}, {versions}")
    if (seconds := stage.seconds_per_image) is not None:
        lines.append(f"time     {seconds:.4g} s an image")
    lines.append(f'open     xarray.open_zarr("{stage.store}", consolidated=False)')
    return "\n".join(lines)
