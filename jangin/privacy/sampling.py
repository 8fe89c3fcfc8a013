"""Poisson sampling of units, and of a unit's examples within a draw. Secret and fresh each time.

The law: what is drawn is the unit, never an example. Drawing examples and clipping per unit would make a claimed
epsilon several times too small (Poisson sampling as analysed by Mironov et al. 2019, arXiv 1908.10530).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jangin.privacy.randomness import SecureRandom

__all__ = ["Draw", "UnitIndex"]


@dataclass(frozen=True)
class Draw:
    """The examples of the units that a draw took.

    Attributes:
        rows: positions of examples, shape (rows,), the examples of one unit side by side.
        units: which drawn unit each row belongs to, shape (rows,), ascending numbers 0 .. count - 1.
        count: number of units drawn; may be 0.
    """

    rows: NDArray[np.intp]
    units: NDArray[np.intp]
    count: int


class UnitIndex:
    """The examples of each unit of a site, prepared for drawing."""

    def __init__(self, units: NDArray[np.int64]) -> None:
        """Group examples by their unit numbers, shape (examples,)."""
        self._rows = np.argsort(units, kind="stable")
        _, self._starts, self._sizes = np.unique(units[self._rows], return_index=True, return_counts=True)

    @classmethod
    def side_by_side(cls, indices: Sequence["UnitIndex"]) -> "UnitIndex":
        """The units of several sites as one index, whose examples stand one site after another; none of them meet.

        Each unit is drawn by itself, so a draw of the whole is an independent draw of each site.
        """
        whole, before = cls(np.empty(0, np.int64)), np.cumsum([0, *(one.examples for one in indices)])
        shifted = list(zip(indices, before.tolist(), strict=False))
        whole._rows = np.concatenate([one._rows + first for one, first in shifted])
        whole._starts = np.concatenate([one._starts + first for one, first in shifted])
        whole._sizes = np.concatenate([one._sizes for one in indices])
        return whole

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(self._rows)

    @property
    def most(self) -> int:
        """The largest number of examples of a unit."""
        return int(self._sizes.max(initial=0))

    def draw(self, probability: float, windows: int, random: SecureRandom) -> Draw:
        """Take each unit with `probability`, and of each at most `windows` examples, all equally likely.

        Args:
            probability: of each unit, independently, 0 < q <= 1.
            windows: most examples of one unit, >= 1.
            random: secret; fresh values for every draw.
        """
        taken = np.flatnonzero(random.uniform(len(self)) < probability)
        sizes = self._sizes[taken]
        units = np.repeat(np.arange(len(taken)), sizes)
        within = np.arange(len(units)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rows = self._rows[np.repeat(self._starts[taken], sizes) + within]
        if len(taken) and sizes.max() > windows:
            # A random order within each unit; then the first `windows` of it.
            order = np.lexsort((random.uniform(len(rows)), units))
            keep = within < windows
            rows, units = rows[order][keep], units[keep]
        return Draw(rows, units, len(taken))
