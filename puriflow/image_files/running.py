"""The command `puriflow purify` for images of one's own: check everything, compute, record."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puriflow.config import Config
from puriflow.errors import UserError
from puriflow.image_files.chain import chain_specs, provenance
from puriflow.image_files.formats import open_images
from puriflow.image_files.inputs import Input, find_inputs
from puriflow.image_files.record import Record, tree_hash
from puriflow.progress import Progress

if TYPE_CHECKING:
    import torch

    from puriflow.defence import Defence
    from puriflow.image_files.tiling import Tiling

SHEET = Path("compare.png")


@dataclass(frozen=True)
class Names:
    """The roles of a run; each may be `none`, but not both restorer and purifier."""

    restorer: str
    purifier: str
    classifier: str


def purify_files(
    paths: Sequence[Path],
    out: Path,
    config: Config,
    names: Names,
    *,
    compare: bool,
    seed: int,
    device: AbstractContextManager["torch.device"],
) -> None:
    """Purify files, Zarr stores and folders of images into a folder, under their own names.

    Args:
        paths: of the images.
        out: the folder.
        config: the track that names are looked up in.
        names: of the chain, and of the classifier whose predictions the sheet shows.
        compare: also draw `compare.png`.
        seed: of the purifier's noise.
        device: gives the device when it is needed, since importing torch takes seconds.

    Raises:
        UserError: anything is wrong with names, images or the folder; nothing was computed then.
    """
    specs = chain_specs(config, names.restorer, names.purifier)
    judging = config.defence({"classifier": names.classifier})["classifier"]
    if judging and not compare:
        raise UserError(f"classifier {names.classifier} is for the sheet: add --compare")
    inputs = find_inputs(paths, out)
    if compare and any(what.name == SHEET for what in inputs):
        raise UserError(f"an image is called {SHEET}, as the sheet would be: rename it")
    made_by = provenance(specs, seed)
    with Record(out) as record:
        if compare and not record.may_replace(SHEET):
            raise UserError(f"{out / SHEET} exists and was not made here: move it away")
        todo = [i for i in inputs if not record.is_done(i.name, whence(i, made_by))]
        for what in todo:
            record.make_room(what.name)
        with device as place:
            from puriflow.image_files.comparing import Judge, draw_sheet
            from puriflow.image_files.purifying import build_chain

            defence = build_chain(names.restorer, names.purifier, specs, seed, place)
            judge = Judge(names.classifier, judging, place) if judging else None
            write_purified(defence, todo, record, made_by, place)
            before = len(inputs) - len(todo)
            print(f"{len(inputs)} files in {out}" + (f", {before} done before" if before else ""))
            if compare:
                with record.writing(SHEET, made_by) as temporary:
                    draw_sheet(inputs, out, temporary, judge)
                print(f"sheet: {out / SHEET}")


def write_purified(
    defence: "Defence",
    inputs: Sequence[Input],
    record: Record,
    made_by: dict[str, Any],
    device: "torch.device",
) -> None:
    """Say what will be done to each file, and do it."""
    from puriflow.image_files.purifying import noise_indices, purified_blocks, tiling_for

    tilings = [tiling_for(defence, what.layout.size) for what in inputs]
    for what, tiling in zip(inputs, tilings, strict=True):
        print(f"{what.path} -> {record.folder / what.name}: {said(what, tiling)}", flush=True)
    total = sum(i.layout.count * t.count for i, t in zip(inputs, tilings, strict=True))
    unit = "images" if all(t.count == 1 for t in tilings) else "tiles"
    with Progress("purify", total=total, unit=unit) as progress:
        for what in inputs:
            opened = open_images(what.path)
            blocks = purified_blocks(
                defence,
                opened.array,
                what.layout,
                noise_indices(what.name, what.layout.count),
                device=device,
                advance=progress.advance,
            )
            with record.writing(what.name, whence(what, made_by)) as temporary:
                opened.save(temporary, what.layout, blocks)


def said(what: Input, tiling: "Tiling") -> str:
    """Size of a file's images, what is done to it, and what else is to be known."""
    count, (height, width) = what.layout.count, what.layout.size
    size = f"{width}x{height}" if count == 1 else f"{count} images of {width}x{height}"
    return "; ".join(filter(None, [size, tiling.said(), *what.notes]))


def whence(what: Input, made_by: dict[str, Any]) -> dict[str, Any]:
    """What makes one file: its source, and the run."""
    return {"source": tree_hash(what.path), **made_by}
