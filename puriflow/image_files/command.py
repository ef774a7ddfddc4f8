"""The command `puriflow purify`: check everything, compute, record."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from itertools import chain, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puriflow.config import Config
from puriflow.errors import UserError, printable
from puriflow.image_files.chain import chain_parts, provenance
from puriflow.image_files.files import tree_hash
from puriflow.image_files.formats import open_images
from puriflow.image_files.inputs import ImageFile, check_room, find_images
from puriflow.image_files.layout import layout_of
from puriflow.image_files.open_file import OpenFile
from puriflow.image_files.record import Record
from puriflow.image_files.tiles import KeptTiles, discard
from puriflow.progress import Progress

if TYPE_CHECKING:
    import torch

    from puriflow.image_files.purify import Image, Purification
    from puriflow.image_files.tiling import Tiling

BEHIND_RESULTS = False
log = logging.getLogger(__name__)
SHEET = Path("compare.png")


def purify_files(
    paths: Sequence[Path],
    out: Path,
    config: Config,
    names: Mapping[str, str],
    *,
    compare: bool,
    seed: int,
    batch: int | None = None,
    device: AbstractContextManager["torch.device"],
) -> None:
    """Purify files, Zarr stores and folders of images into `out`, under their own names.

    The names in the track are those of `restorer` and `purifier`, one of which may be `none`, and
    of the `classifier` whose predictions are on the sheet that `compare` draws, or `none`. `batch`
    is how many images or tiles a GPU purifies at once, by default what fits. `device` gives the
    device when it is entered, since importing torch takes seconds.

    Raises:
        UserError: anything is wrong with names, images or the folder; nothing was computed then.
    """
    parts = chain_parts(config, names["restorer"], names["purifier"])
    classifier = config.parts({"classifier": names["classifier"]}).get("classifier")
    if classifier and not compare:
        raise UserError(f"classifier {classifier.name} is for the sheet: add --compare")
    images = find_images(paths, out)
    if compare and any(image.output == SHEET for image in images):
        raise UserError(f"an image is called {SHEET}, as the sheet would be: rename it")
    made_by = provenance(parts, seed)
    with closing(Record(out)) as record:
        if compare and not record.may_replace(SHEET):
            raise UserError(f"{out / SHEET} exists and was not made here: move it away")
        made = {i.output: {"source": tree_hash(i.path), **made_by} for i in images}
        done = {i.output for i in images if record.is_done(i.output, made[i.output])}
        for name in done:
            discard(out, name)  # as a run that was killed behind its last tile has not
        todo = [image for image in images if image.output not in done]
        for image in todo:
            record.make_folder(image.output)
        with device as torch_device:
            from puriflow.defence import Defence
            from puriflow.image_files.comparison import ImageClassifier, draw_sheet
            from puriflow.image_files.purify import Purification

            defence = Defence.from_parts(parts, seed=seed).to(torch_device)
            predict = ImageClassifier(classifier, torch_device) if classifier else None
            write_purified(Purification(defence, parts, torch_device, batch), todo, record, made)
            before = f", {len(done)} done before" if done else ""
            log.info(f"{len(images)} files in {out}{before}")
            if compare:
                with record.writing(SHEET, made_by) as temporary:
                    draw_sheet(images, out, temporary, predict)
                log.info(f"sheet: {out / SHEET}")


def write_purified(
    purification: "Purification",
    images: Sequence[ImageFile],
    record: Record,
    made: Mapping[Path, dict[str, Any]],
) -> None:
    """Say what will be done to each file, and do it; `made` says of outputs what makes them."""
    from puriflow.image_files.purify import tiling_for

    tilings = {i.output: tiling_for(purification.defence, i.layout.size) for i in images}
    kept: dict[Path, KeptTiles] = {}
    for image in images:
        name, tiling = image.output, tilings[image.output]
        log.info(printable(f"{image.path} -> {record.folder / name}: {describe(image, tiling)}"))
        if tiling.count > 1:
            size = tiling.rows.size, tiling.columns.size
            kept[name] = KeptTiles(record.folder, name, made[name], size)
    total = sum(image.layout.count * tilings[image.output].count for image in images)
    unit = "images" if all(tiling.count == 1 for tiling in tilings.values()) else "tiles"
    results = sum(image.size for image in images)
    sizes = (
        tiles.size * (image.layout.count * tilings[image.output].count - tiles.count)
        for image in images
        if (tiles := kept.get(image.output)) is not None
    )
    check_room(
        record.folder,
        results + max(sizes, default=0),
        "the results, and the tiles of a large image until it is written,",
    )
    before = sum(tiles.count for tiles in kept.values())
    with Progress("purify", total=total, unit=unit, done=before) as progress:
        purification = replace(purification, advance=progress.advance)
        for size, of_size in groupby(images, key=lambda image: image.layout.size):
            write_alike(purification, list(of_size), size, record, made, kept)


def write_alike(
    purification: "Purification",
    images: Sequence[ImageFile],
    size: tuple[int, int],
    record: Record,
    made: Mapping[Path, dict[str, Any]],
    kept: Mapping[Path, KeptTiles],
) -> None:
    """Purify and write files whose images all have one size; some may be read ahead."""
    from puriflow.image_files.purify import images_of, noise_indices

    opened: dict[Path, OpenFile] = {}

    def read() -> "Iterator[Image]":
        for image in images:
            file = opened[image.output] = open_again(image)
            indices = noise_indices(image.output, image.layout.count)
            tiles = kept.get(image.output)
            yield from images_of(file.array, image.layout, indices, str(image.path), tiles)

    purified = purification.purified(read(), size)
    for image in images:
        # The first is there before its file is written: then that is open.
        first = image.layout.encode(next(purified)[None])
        count = image.layout.count
        others = (image.layout.encode(one[None]) for one in islice(purified, count - 1))
        with record.writing(image.output, made[image.output]) as temporary:
            opened.pop(image.output).save(temporary, image.layout, chain((first,), others))
            if tree_hash(image.path) != made[image.output]["source"]:
                raise changed(image)
        discard(record.folder, image.output)


def open_again(image: ImageFile) -> OpenFile:
    """Open a file that was looked at before; a UserError if it is not as it was."""
    file = open_images(image.path)
    if layout_of(file.array.shape, file.array.dtype, str(image.path)) != image.layout:
        raise changed(image)
    return file


def changed(image: ImageFile) -> UserError:
    """That a file is not what was looked at when the run began."""
    return UserError(f"{image.path} has changed since this run began: start it again")


def describe(image: ImageFile, tiling: "Tiling") -> str:
    """Size of a file's images, what is done to it, and what else is to be known."""
    count, (height, width) = image.layout.count, image.layout.size
    size = f"{width}x{height}" if count == 1 else f"{count} images of {width}x{height}"
    return "; ".join(note for note in (size, tiling.describe(), *image.notes) if note)
