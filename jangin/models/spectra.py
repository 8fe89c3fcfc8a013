"""Windows of sound and pictures as numbers of one size, whatever a site's microphone or camera gives. Numpy only.

The law: what a band or a pixel holds is shared out by overlap, so that power and brightness are neither lost nor
counted twice.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["averaged_down", "band_levels"]

Array = NDArray[np.float64]


def band_levels(
    samples: NDArray[Any], rate_hz: float, bands: int, frames: int, low_hz: float, high_hz: float, floor_db: float
) -> Array:
    """How loud bands of frequency are over time: 10 log10(2 P_b) dB, at least `floor_db` and at most 0.

    Each of the frames, which overlap by half and cover all samples, is N samples x under a Hann window w. Its power in
    a band, P_b = 2 / (N sum w^2) * sum over the band of |sum_n w_n x_n exp(-2 pi i j n / N)|^2 (Welch 1967, IEEE Trans.
    Audio Electroacoust. 15, 70-73; zero and half the rate count once, not twice), is the mean square of what it holds;
    that of a sine of full scale is 1/2, which gives 0 dB. Bands are as wide as they are high; a bin of the transform,
    rate / N wide, is shared out among the bands that it overlaps.

    Args:
        samples: in parts of full scale, shape (..., samples).
        rate_hz: samples a second.
        bands: from `low_hz` to `high_hz`, edges low (high / low)^(b / bands).
        frames: in which the samples are cut.
        low_hz: above 0.
        high_hz: what is above half the rate is not there, and at the floor.
        floor_db: below 0.

    Returns:
        Shape (..., bands, frames), dB of full scale.
    """
    # 1. Frames under their window.
    length = max(2, 2 * samples.shape[-1] // (frames + 1))
    starts = np.arange(frames) * (samples.shape[-1] - length) // max(1, frames - 1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    cut = samples[..., starts[:, None] + np.arange(length)] * hann
    # 2. Their power in each bin of the transform.
    power = np.abs(np.fft.rfft(cut, axis=-1)) ** 2 * (2 / (length * (hann**2).sum()))
    power[..., 0] /= 2
    if length % 2 == 0:
        power[..., -1] /= 2
    # 3. What of it is in each band.
    middles = (np.arange(power.shape[-1] - 1) + 0.5) * (rate_hz / length)
    bins = np.concatenate([[0.0], middles, [rate_hz / 2]])
    edges = low_hz * (high_hz / low_hz) ** (np.arange(bands + 1) / bands)
    in_band = power @ (_overlaps(edges, bins) / np.diff(bins)).T
    levels = 10 * np.log10(np.maximum(2 * in_band, 10 ** (floor_db / 10)))
    found: Array = np.minimum(levels, 0.0).swapaxes(-1, -2)
    return found


def averaged_down(pictures: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Pictures (..., h, w) as (..., height, width): a pixel is the mean of the area that it covers."""
    for axis, size in ((-2, height), (-1, width)):
        old = pictures.shape[axis]
        if old != size:
            edges = np.arange(size + 1) * (old / size)
            shares = (_overlaps(edges, np.arange(old + 1.0)) * (size / old)).astype(np.float32)
            pictures = shares @ pictures if axis == -2 else pictures @ shares.T
    return pictures


def _overlaps(edges: Array, others: Array) -> Array:
    """How much of each interval between `others` lies within each between `edges`, (edges - 1, others - 1)."""
    lower, upper = (np.maximum.outer, np.minimum.outer)
    return (upper(edges[1:], others[1:]) - lower(edges[:-1], others[:-1])).clip(min=0.0)
