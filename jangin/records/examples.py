"""Examples: what training sees, cut from master records by a model line or read from an npz set.

The law: every example carries the privacy unit it was cut from, and nothing else that could name a person.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Examples", "PublicRange"]


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
