"""Where the sites of a world operate: places spread evenly over public ranges, each site around a place of its own.

The law: a site's place depends on its number and the seed alone.

Source:
    Richtmyer, Los Alamos report LA-1342 (1951): evenly spread points from square roots of primes.
"""

from collections.abc import Mapping

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

__all__ = ["Regime", "around", "centre"]

Regime = Mapping[str, tuple[float, float, float]]
"""By quantity: low end, high end, and the prime whose square root spreads the sites.

Each site works within a tenth of the range to either side of its place.
"""


def centre(regime: Regime, site: int, seed: int) -> dict[str, float]:
    """The centre of a site's operation: places {shift + site sqrt(prime)}, shifted by the seed."""
    shift = default_rng(SeedSequence(seed)).random(len(regime))
    places = (shift + site * np.sqrt([prime for *_, prime in regime.values()])) % 1.0
    return {
        name: low + (high - low) * (0.1 + 0.8 * place)
        for (name, (low, high, _)), place in zip(regime.items(), places.tolist(), strict=True)
    }


def around(
    rng: Generator, regime: Regime, middle: Mapping[str, float], episodes: int
) -> dict[str, NDArray[np.float64]]:
    """Each episode's values, (episodes,), evenly within a tenth of the range of `middle`."""
    return {
        name: middle[name] + (high - low) * rng.uniform(-0.1, 0.1, episodes) for name, (low, high, _) in regime.items()
    }
