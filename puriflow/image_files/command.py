"""The command `puriflow purify`: check everything, compute, record."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puriflow.config import Config
from puriflow.errors import UserError, printable
from puriflow.image_files.chain import chain_parts, provenance
from puriflow.image_files.files import tree_hash
from puriflow.image_files.formats import open_images
from puriflow.image_files.inputs import ImageFile, find_images
from puriflow.image_files.layout import layout_of
from puriflow.image_files.record import Record
from puriflow.progress import Progress
from puriflow.registry import Parts

if TYPE_CHECKING:
    import torch

    from puriflow.defence import Defence
    from puriflow.image_files.tiling import Tiling

BEHIND_RESULTS = False
SHEET = Path("compare.png")


def purify_files(
    paths: Sequence[Path],
    out: Path,
    config: Config,
    names: Mapping[str, str],
    *,
    compare: bool,
    seed: int,
    device: AbstractContextManager["torch.device"],
) -> None:
    """Purify files, Zarr stores and folders of images into `out`, under their own names.

    The names in the track are those of `restorer` and `purifier`, one of which may be `none`, and
    of the `classifier` whose predictions are on the sheet that `compare` draws, or `none`. `device`
    gives the device when it is entered, since importing torch takes seconds.

    Raises:
        UserError: anything is wrong with names, images or the folder; nothing was computed then.
    """
    chain = chain_parts(config, names["restorer"], names["purifier"])
    classifier = config.parts({"classifier": names["classifier"]}).get("classifier")
    if classifier and not compare:
        raise UserError(f"classifier {classifier.name} is for the sheet: add --compare")
    images = find_images(paths, out)
    if compare and any(image.output == SHEET for image in images):
        raise UserError(f"an image is called {SHEET}, as the sheet would be: rename it")
    made_by = provenance(chain, seed)
    with closing(Record(out)) as record:
        if compare and not record.may_replace(SHEET):
            raise UserError(f"{out / SHEET} exists and was not made here: move it away")
        made = {i.output: {"source": tree_hash(i.path), **made_by} for i in images}
        todo = [i for i in images if not record.is_done(i.output, made[i.output])]
        for image in todo:
            record.make_folder(image.output)
        with device as torch_device:
            from puriflow.defence import Defence
            from puriflow.image_files.comparison import ImageClassifier, draw_sheet

            defence = Defence.from_parts(chain, seed=seed).to(torch_device)
            predict = ImageClassifier(classifier, torch_device) if classifier else None
            write_purified(defence, chain, todo, record, made, torch_device)
            before = len(images) - len(todo)
            print(f"{len(images)} files in {out}" + (f", {before} done before" if before else ""))
            if compare:
                with record.writing(SHEET, made_by) as temporary:
                    draw_sheet(images, out, temporary, predict)
                print(f"sheet: {out / SHEET}")


def write_purified(
    defence: "Defence",
    parts: Parts,
    images: Sequence[ImageFile],
    record: Record,
    made: Mapping[Path, dict[str, Any]],
    device: "torch.device",
) -> None:
    """Say what will be done to each file, and do it; `made` says of outputs what makes them."""
    from puriflow.image_files.purify import noise_indices, purified_blocks, tiling_for

    tilings = [tiling_for(defence, image.layout.size) for image in images]
    for image, tiling in zip(images, tilings, strict=True):
        to = record.folder / image.output
        print(printable(f"{image.path} -> {to}: {describe(image, tiling)}"), flush=True)
    total = sum(i.layout.count * t.count for i, t in zip(images, tilings, strict=True))
    unit = "images" if all(t.count == 1 for t in tilings) else "tiles"
    with Progress("purify", total=total, unit=unit) as progress:
        for image in images:
            changed = UserError(f"{image.path} has changed since this run began: start it again")
            file = open_images(image.path)
            if layout_of(file.array.shape, file.array.dtype, str(image.path)) != image.layout:
                raise changed
            indices = noise_indices(image.output, image.layout.count)
            blocks = purified_blocks(
                *(defence, parts, file.array, image.layout, indices, device),
                str(image.path),
                progress.advance,
            )
            with record.writing(image.output, made[image.output]) as temporary:
                file.save(temporary, image.layout, blocks)
                if tree_hash(image.path) != made[image.output]["source"]:
                    raise changed


def describe(image: ImageFile, tiling: "Tiling") -> str:
    """Size of a file's images, what is done to it, and what else is to be known."""
    count, (height, width) = image.layout.count, image.layout.size
    size = f"{width}x{height}" if count == 1 else f"{count} images of {width}x{height}"
    return "; ".join(note for note in (size, tiling.describe(), *image.notes) if note)
