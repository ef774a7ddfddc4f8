"""Stores: what a stage leaves behind, and how it is finished, checked and read.

A stage's directory holds `images.zarr` (or whatever its main array is called) and `manifest.json`,
which is written last and names every file with its sha256. Arrays are sharded Zarr v3 with a
checksum in every chunk. Work that is under way lives beside the directory, in `.NAME.work`, where a
killed job finds its finished batches again.
"""

from puriflow.store.manifest import MANIFEST, Manifest, Provenance, read_manifest
from puriflow.store.reader import Stage, open_stage
from puriflow.store.writer import Writer, batches

BEHIND_RESULTS = False
__all__ = [
    "MANIFEST",
    "Manifest",
    "Provenance",
    "Stage",
    "Writer",
    "batches",
    "open_stage",
    "read_manifest",
]
