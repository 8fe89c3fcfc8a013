"""How vectors of a campaign become whole steps that are added modulo 2**32, and how their sum becomes updates again.

The law: sites and server compute the same encoding from public constants; what is lost is rounding, once, at the site.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jangin.privacy.ring import Grid

__all__ = ["Encoding"]


@dataclass(frozen=True)
class Encoding:
    """The encoding of one kind of vector in one campaign; public.

    Attributes:
        grid: of whole steps.
        factor: by which a sum on the grid becomes a sum of updates, or of moments.
    """

    grid: Grid
    factor: float

    def total(self, steps: NDArray[np.int32]) -> NDArray[np.float64]:
        """The sum that so many steps are, (size,)."""
        return self.grid.value(steps.astype(np.int64)) * self.factor
