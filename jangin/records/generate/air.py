"""The air of a workshop: how much water it holds.

Source:
    Alduchov and Eskridge, Journal of Applied Meteorology 35 (1996) 601-609: Magnus form of vapour pressure.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["absolute_humidity", "vapour_pressure"]

Array = NDArray[np.float64]


def vapour_pressure(relative: Array, temperature: Array) -> Array:
    """Pressure of water in Pa in air of `relative` humidity in % and `temperature` in Cel.

    p = RH 6.1094 exp(17.625 T / (243.04 + T)), Alduchov and Eskridge's equation (21), in hPa for RH from 0 to 1.
    """
    pressure: Array = 6.1094 * np.exp(17.625 * temperature / (243.04 + temperature)) * relative
    return pressure


def absolute_humidity(relative: Array, temperature: Array) -> Array:
    """Water in g/m3 of air of `relative` humidity in % (ideal gas law: 2.1668 g K/J)."""
    return 2.1668 * vapour_pressure(relative, temperature) / (temperature + 273.15)
