"""Stores: what a stage leaves behind, and how it is finished, checked and read.

A stage's directory holds `images.zarr` (or whatever its main array is called) and `manifest.json`,
which names every file with its sha256. Arrays are sharded Zarr v3 with a
checksum in every chunk. Work that is under way lives beside the directory, in `.NAME.work`, where a
killed job finds its finished batches again. The manifest takes its place with all the rest.
"""

from puriflow.store.arrays import AXES
from puriflow.store.manifest import MANIFEST, Manifest, Provenance, read_manifest
from puriflow.store.reader import Stage, open_stage
from puriflow.store.work import damaged_work, work_under_way
from puriflow.store.writer import Writer, batches

BEHIND_RESULTS = False
__all__ = [
    "AXES",
    "MANIFEST",
    "Manifest",
    "Provenance",
    "Stage",
    "Writer",
    "batches",
    "damaged_work",
    "open_stage",
    "read_manifest",
    "work_under_way",
]
