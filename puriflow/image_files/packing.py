"""Arrays whose numbers stand for others, by the attributes of the CF conventions.

`scale_factor`, `add_offset`, `_FillValue`, `missing_value` and `_Unsigned` mean what xarray makes
of them: it unpacks the numbers here as well, block by block.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from puriflow.errors import UserError, reading
from puriflow.image_files.open_file import Guarded

SCALE, OFFSET, FILL, MISSING = "scale_factor", "add_offset", "_FillValue", "missing_value"
MARKS = (FILL, MISSING)  # of values that are missing
DIMENSIONS = "_ARRAY_DIMENSIONS"  # by which xarray knows an array of version 2 as its own


def meaning_of(array: Any) -> dict[str, Any]:
    """The attributes of a Zarr array that say what its numbers stand for, as xarray reads them."""
    names = (SCALE, OFFSET, *MARKS, "_Unsigned")
    found = {name: array.attrs[name] for name in names if name in array.attrs}
    if array.metadata.zarr_format == 2 and DIMENSIONS in array.attrs:
        if array.fill_value is not None:
            found[FILL] = array.fill_value
    elif isinstance(found.get(FILL), str):
        from xarray.backends.zarr import FillValueCoder  # takes a second

        found[FILL] = FillValueCoder.decode(found[FILL], array.dtype)
    return found


class Packed(Guarded):
    """An array of images as xarray reads it: what it slices are values, not stored numbers.

    Args:
        array: the numbers as they are stored.
        meaning: the attributes that say what they stand for; see `meaning_of`.

    Raises:
        UserError: purified images, which may have any value in [0, 1], could not be stored so, or
            (when it is sliced) a value is missing.
    """

    def __init__(self, array: Guarded, meaning: Mapping[str, Any]):
        super().__init__(array.path, array.array, array.needed)
        self.stored, self.meaning = self.dtype, dict(meaning)
        self.unmarked = {name: value for name, value in meaning.items() if name not in MARKS}
        scale = meaning.get(SCALE, 1), meaning.get(OFFSET, 0)
        with reading(self.path):
            self.scale, self.offset = (float(np.ravel(value)[0]) for value in scale)
            if self.scale == 0 or not np.isfinite([self.scale, self.offset]).all():
                raise UserError(f"{self.path}: {SCALE} and {OFFSET} are {scale[0]} and {scale[1]}")
            nothing = np.zeros(1, self.stored)
            self.signed = self._unpacked(nothing, ["_Unsigned"]).dtype
            self.dtype = self._unpacked(nothing).dtype
            due = np.array([0, 255] if self.dtype == np.uint8 else [0, 1], self.dtype)
            self.ends = self._unpacked(self.pack(due))  # what is read of the least and the largest
        if self.signed.kind in "iu" and (abs(self.ends - due) > abs(self.scale)).any():
            raise UserError(
                f"{self.path}: purified images may have any value in [0, 1], but packed by its "
                f"{SCALE} and {OFFSET} they lie between {min(self.ends):.4g} and "
                f"{max(self.ends):.4g}; store it in floats, or packed for all of [0, 1]"
            )

    def __getitem__(self, where: Any) -> np.ndarray:
        numbers = super().__getitem__(where)
        with reading(self.path):
            marked = self.meaning != self.unmarked
            if marked and np.isnan(self._unpacked(numbers, self.meaning)).any():
                raise UserError(f"{self.path} has missing values, or NaN ({self._said(MARKS)})")
            return self._unpacked(numbers)

    def pack(self, images: np.ndarray) -> np.ndarray:
        """Images as they are stored; beyond the last number that the type has, as that."""
        numbers = (images.astype(np.float64) - self.offset) / self.scale
        if self.signed.kind in "iu":
            limits = np.iinfo(self.signed)
            numbers = numbers.round().clip(limits.min, limits.max)
        return numbers.astype(self.signed).astype(self.stored)

    def untrue(self) -> list[str]:
        """The marks that purified images may have as a value, which would make it a missing one.

        None of their values is missing, so that they need no mark.
        """
        return [name for name in MARKS if name in self.meaning and self._may_be(self.meaning[name])]

    def notes(self) -> tuple[str, ...]:
        """What to know about how it is read and written."""
        packing, left_out = self._said((SCALE, OFFSET)), self._said(self.untrue())
        return (
            *([f"packed by {packing}"] if packing else []),
            *([f"{left_out} left out, which a colour may be"] if left_out else []),
        )

    def _said(self, names: Iterable[str]) -> str:
        return ", ".join(f"{name} {self.meaning[name]}" for name in names if name in self.meaning)

    def _may_be(self, mark: Any) -> bool:
        """Whether a number that stands for what is missing lies among those of images."""
        numbers, room = np.ravel(mark).astype(np.float64), 0.0
        if self.signed.kind in "iu":
            numbers = np.append(numbers, numbers % 2.0 ** (8 * self.stored.itemsize))  # _Unsigned
            room = abs(self.scale) / 2
        values = numbers * self.scale + self.offset
        return bool(((values >= min(self.ends) - room) & (values <= max(self.ends) + room)).any())

    def _unpacked(self, numbers: np.ndarray, by: Iterable[str] | None = None) -> np.ndarray:
        """The values of numbers, by some of the attributes: by default all but marks."""
        from xarray import Variable
        from xarray.conventions import decode_cf_variable

        attributes = {n: self.meaning[n] for n in by or self.unmarked if n in self.meaning}
        packed = Variable([f"axis {i}" for i in range(numbers.ndim)], numbers, attributes)
        return decode_cf_variable(self.path.name, packed, decode_times=False).values
