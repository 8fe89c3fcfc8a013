"""The npz form of research sets: one file, all silos, arrays alone.

The law: nothing in the file is executed, nothing is guessed, and every silo has rows to train and to test.
"""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jangin.codec.document import nearest
from jangin.errors import DataError, one_line
from jangin.records.split import HOLDOUT_SHARE, fraction

__all__ = ["PUBLIC_SPLIT_KEY", "NpzSet", "read_npz"]

PUBLIC_SPLIT_KEY = b"jangin: test split of npz sets, 1"
"""The key of the test split where a file brings none. It is public and the same for all files: a research set
hides nothing, and everybody must draw the same split."""

_KEYS = ("X", "y", "silo", "unit")


@dataclass(frozen=True)
class NpzSet:
    """All silos of a research set, row by row.

    Attributes:
        inputs: shape (rows, features), (rows, channels, length) or (rows, channels, height, width), float32.
        targets: shape (rows,) or (rows, targets); int64 where the file has integers, else float32.
        silo: shape (rows,), int64, not negative: whose row it is.
        unit: shape (rows,), int64: what the privacy unit groups by.
        split: shape (rows,), int8: 0 train, 1 test.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.float32] | NDArray[np.int64]
    silo: NDArray[np.int64]
    unit: NDArray[np.int64]
    split: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.inputs)


def read_npz(path: Path) -> NpzSet:
    """Read `X`, `y`, `silo`, `unit` and, where it is there, `split`; other keys are not opened.

    Without `split` a unit is a test unit when HMAC-SHA256(`PUBLIC_SPLIT_KEY`, unit in decimal digits), as a
    fraction, is below 20 %.

    Raises:
        DataError: JG-data-040 not there or not npz; 041 a key is missing; 042 dtype; 043 shape; 044 NaN or
            infinite; 045 negative silo; 046 a silo without training or test rows; 047 a split but 0 and 1.
    """
    arrays = _load(path)
    _check_types(path, arrays)
    _check_shapes(path, arrays)
    inputs = arrays["X"]
    targets = _as_targets(arrays["y"])
    silo, unit = (arrays[key].astype(np.int64, copy=False) for key in ("silo", "unit"))
    for key, values in (("X", inputs), ("y", targets)):
        _check_finite(path, key, values, silo)
    if silo.min() < 0:
        raise DataError("JG-data-045", where=str(path), row=int(silo.argmin()), silo=int(silo.min()))
    split = arrays["split"] if "split" in arrays else _public_split(unit)
    _check_split(path, split, silo)
    return NpzSet(inputs, targets, silo, unit, split.astype(np.int8, copy=False))


def _load(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of the known keys that the file has."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            arrays = {key: archive[key] for key in (*_KEYS, "split") if key in names}
    except (OSError, ValueError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError("JG-data-040", where=str(path), problem=one_line(error)) from None
    for key in _KEYS:
        if key not in arrays:
            raise DataError("JG-data-041", where=str(path), key=key, nearest=nearest(key, names) or "-")
    return arrays


def _as_targets(values: NDArray[Any]) -> NDArray[np.float32] | NDArray[np.int64]:
    """Integers as int64, the rest as float32; what is too large for it becomes infinite, and is refused."""
    if values.dtype.kind != "f":
        return values.astype(np.int64, copy=False)
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def _check_types(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    for key, array in arrays.items():
        kind, whole = array.dtype.kind, np.can_cast(array.dtype, np.int64)
        match key:
            case "X":
                sound, expected = array.dtype == np.float32, "float32"
            case "y":
                sound, expected = kind == "f" or whole, "float32 or int64"
            case _:
                sound, expected = kind in "iu" and whole, "int64"
        if not sound:
            raise DataError("JG-data-042", where=str(path), key=key, found=array.dtype, expected=expected)


def _check_shapes(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    rows = arrays["X"].shape[0] if arrays["X"].ndim else 0
    dimensions = {"X": (2, 3, 4), "y": (1, 2)}
    for key, array in arrays.items():
        if array.ndim not in dimensions.get(key, (1,)) or array.size == 0 or len(array) != rows:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise DataError("JG-data-043", where=str(path), key=key, shapes=shapes)


def _check_finite(path: Path, key: str, values: NDArray[Any], silo: NDArray[np.int64]) -> None:
    odd = np.argwhere(~np.isfinite(values))
    if len(odd):
        row, *column = (int(index) for index in odd[0])
        value = float(values[tuple(odd[0])])
        column_text = ", ".join(map(str, column)) or "-"
        raise DataError(
            "JG-data-044",
            where=str(path),
            key=key,
            row=row,
            column=column_text,
            silo=int(silo[row]),
            value=value,
            number=len(odd),
        )


def _check_split(path: Path, split: NDArray[Any], silo: NDArray[np.int64]) -> None:
    odd = np.flatnonzero((split != 0) & (split != 1))
    if len(odd):
        raise DataError("JG-data-047", where=str(path), row=int(odd[0]), value=int(split[odd[0]]))
    for number, side in enumerate(("training", "test")):
        without = np.setdiff1d(silo, silo[split == number])
        if len(without):
            raise DataError("JG-data-046", where=str(path), silo=int(without[0]), side=side, number=number)


def _public_split(unit: NDArray[np.int64]) -> NDArray[np.int8]:
    """1 for the rows of units whose fraction is below the share, shape (rows,)."""
    units, row_of = np.unique(unit, return_inverse=True)
    tested = [fraction(PUBLIC_SPLIT_KEY, str(number)) < HOLDOUT_SHARE for number in units]
    return np.array(tested, np.int8)[row_of]
