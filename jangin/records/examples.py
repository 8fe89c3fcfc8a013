"""Examples: what training sees, cut from master records by a model line or read from an npz set.

The law: every example carries the privacy unit it was cut from, and nothing else that could name a person.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from jangin.records.aside import RowFile

__all__ = ["Examples", "ExamplesAside", "PublicRange", "row_slices"]

_ROWS_AT_ONCE: Final = 8192
_VALUES_AT_ONCE: Final = 2**16


@dataclass(frozen=True)
class PublicRange:
    """A range known without looking at anybody's records, in the channel's own unit.

    Attributes:
        low: lower end, shape (columns,), float64.
        high: upper end, shape (columns,), float64, above `low` everywhere.
        places: how many places of the examples' second axis each column takes, shape (columns,), int64; None: one.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    places: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Examples:
    """Inputs, targets and units of one split of one site.

    Attributes:
        inputs: shape (examples, features), (examples, channels, length) or (examples, channels, height, width),
            float32.
        targets: shape (examples, targets) float32 for regression; (examples,) int64 class numbers else.
        units: shape (examples,), int64; examples with one number belong to one privacy unit.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.float32] | NDArray[np.int64]
    units: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> "Examples":
        """The same view on some rows."""
        return Examples(self.inputs[rows], self.targets[rows], self.units[rows])

    def parts(self) -> Iterator["Examples"]:
        """All of them, some at a time and in their order; none are one part too."""
        return (self[rows] for rows in row_slices(self.inputs.shape))


@dataclass(frozen=True)
class ExamplesAside:
    """The same with inputs on disk. Targets and units are in memory.

    Attributes:
        inputs, targets, units: as of `Examples`.
    """

    inputs: RowFile
    targets: NDArray[np.float32] | NDArray[np.int64]
    units: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.inputs)

    def parts(self) -> Iterator[Examples]:
        """As `Examples.parts`, each read when it is asked for."""
        for rows in row_slices(self.inputs.shape):
            inputs = self.inputs.read(np.arange(rows.start, rows.stop))
            yield Examples(inputs, self.targets[rows], self.units[rows])


def row_slices(shape: tuple[int, ...]) -> list[slice]:
    """Consecutive rows of (rows, ...) that are few enough to work on at once; at least one slice."""
    most = min(_ROWS_AT_ONCE, max(1, _VALUES_AT_ONCE // max(1, prod(shape[1:]))))
    return [slice(first, last) for first, last in pairwise([*range(0, max(1, shape[0]), most), shape[0]])]
