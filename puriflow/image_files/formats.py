"""Opening image files by what they are: pictures, npy, npz and Zarr.

A file is opened as an array of images, and knows how to save its purified images as a file of the
same format. Nothing of a file is kept but what only it can tell, such as its alpha channel.
"""

from pathlib import Path

from puriflow.errors import UserError, reading
from puriflow.image_files import arrays, pictures
from puriflow.image_files.open_file import OpenFile
from puriflow.image_files.zarr_stores import is_zarr, zarr_store

OPENERS = {
    **dict.fromkeys(pictures.ENDINGS, pictures.picture),
    ".npy": arrays.npy,
    ".npz": arrays.npz,
}
ENDINGS = ", ".join(OPENERS)


def open_images(path: Path) -> OpenFile:
    """Open a file or a Zarr store; a UserError if it has another format, or cannot be read."""
    opener = zarr_store if is_zarr(path) else OPENERS.get(path.suffix.lower())
    if opener is None:
        raise UserError(
            f"{path} is not an image: give {ENDINGS}, a Zarr store or a folder of these"
        )
    with reading(path):
        if opener is not zarr_store and path.exists() and not path.is_file():
            raise UserError(f"{path} cannot be read: it is a pipe, a device or the like")
        return opener(path)
