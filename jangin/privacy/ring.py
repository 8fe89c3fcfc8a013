"""Fixed point for sums of integers modulo 2**32: a vector becomes whole steps of a grid, with noise in whole steps.

The law: rounding is inside the sensitivity by which noise is measured, and what does not fit harms the model, never a
promise: the box is applied to the sum before its noise and brings no two sums further apart.
"""

from bisect import bisect_right
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from jangin.errors import PrivacyError
from jangin.privacy.randomness import SecureRandom

__all__ = ["ROUNDING", "Grid"]

ROUNDING = 1e-5
"""By how much of a clip the sum of clipped float64 vectors may be off."""

_LARGEST = 2**31 - 1
_TAIL = 7.0  # standard deviations of the summed noise that still fit
_FINEST_ENOUGH = 100.0  # clip over the length of one step in every coordinate


@dataclass(frozen=True)
class Grid:
    """The grid of one campaign's sums; every value is public.

    Stochastic rounding moves each coordinate by less than one step, hence two neighbouring sums, rounded by the same
    draws, are at most `sensitivity` apart; their noise has `noise_multiplier` times that in deviation. What is
    released is a Gaussian release rounded to integers, which is post-processing.

    Not covered: several rounded shares add up to a rounded Gaussian only as far as a deviation of many steps makes it.

    Attributes:
        scale: steps in one unit of the vector.
        clip: most that one privacy unit moves a vector, L2.
        box: most of any coordinate, by absolute value; beyond it is cut.
        noise_multiplier: deviation of one site's noise over the sensitivity; 0 where what is added up needs none here.
        size: number of values.
    """

    scale: float
    clip: float
    box: float
    noise_multiplier: float
    size: int

    @classmethod
    def fitting(cls, clip: float, box: float, noise_multiplier: float, size: int, sites: int) -> "Grid":
        """The finest grid on which so many sites' sum, with 7 deviations of its noise, stays below 2**31.

        It solves n (s box + 1) + 7 sqrt(n) z (s clip (1 + 1e-5) + sqrt(d)) = 2**31 - 1 for s.

        Raises:
            PrivacyError: JG-privacy-017, so coarse that rounding costs more than a hundredth of the clip; it says how
                many sites, or values, would not be too many.
        """

        def finest(sites: int, size: float) -> float:
            tail = _TAIL * sqrt(sites) * noise_multiplier
            return (_LARGEST - sites - tail * sqrt(size)) / (sites * box + tail * clip * (1 + ROUNDING))

        def enough(sites: int, size: float) -> bool:
            return finest(sites, size) * clip >= _FINEST_ENOUGH * sqrt(size)

        scale = finest(sites, size)
        if not enough(sites, size):
            raise PrivacyError(
                "JG-privacy-017",
                where="privacy.clip",
                steps=scale * clip,
                least=_FINEST_ENOUGH * sqrt(size),
                size=size,
                sites=sites,
                most_size=bisect_right(range(1, size), False, key=lambda few: not enough(sites, few)),
                most_sites=bisect_right(range(1, sites), False, key=lambda few: not enough(few, size)),
            )
        return cls(scale, clip, box, noise_multiplier, size)

    @property
    def sensitivity(self) -> float:
        """Most that one privacy unit moves a rounded vector, in steps, L2: s C (1 + 1e-5) + sqrt(d)."""
        return self.scale * self.clip * (1 + ROUNDING) + sqrt(self.size)

    def released(self, total: NDArray[np.float64], random: SecureRandom) -> NDArray[np.int64]:
        """A sum of clipped vectors, (size,), in the box, rounded and noised; (size,), in steps.

        A value that is not a number counts as 0.

        Guarantee: one Gaussian release of `noise_multiplier`; none where that is 0.
        """
        boxed = np.nan_to_num(total, nan=0.0).clip(-self.box, self.box) * self.scale
        steps = np.floor(boxed + random.uniform(self.size)).astype(np.int64)
        if self.noise_multiplier:
            steps += random.rounded_gaussian(self.size, self.noise_multiplier * self.sensitivity)
        return steps

    def value(self, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """A vector or a sum of them, (size,), from its steps."""
        return steps / self.scale
