"""Moments: the clipped sum from which a federation learns its scaling, with noise when privacy is on.

For columns brought to [-1, 1] by public ranges, a unit gives m = (1, x, x*x), its examples' means: its L2 norm
is at most sqrt(1 + 2 d) for d columns, so one unit moves the sum by at most that. One Gaussian release with
q = 1. The law: what leaves a site is this vector and nothing else; without a release it is the site's plain statistics.
"""

from collections.abc import Iterable
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import GaussianRelease

__all__ = ["clipped_moment_sum", "means_and_deviations", "moment_clip", "moment_sum", "noise_deviation"]

Columns = NDArray[np.float64]


def moment_clip(columns: int) -> float:
    """The largest L2 norm of one unit's moments: sqrt(1 + 2 * columns)."""
    return sqrt(1 + 2 * columns)


def moment_sum(
    values: Columns | Iterable[Columns],
    units: NDArray[np.int64],
    release: GaussianRelease | None,
    random: SecureRandom | None,
    places: NDArray[np.int64] | None = None,
) -> Columns:
    """The units' summed moments, shape (1 + 2 * columns,): number of units, sums of means, sums of mean squares.

    Guarantee: with a release, one sampled-Gaussian release of sensitivity `moment_clip`; without, none.

    Args:
        values: shape (examples, columns) or (examples, columns, ...), averaged over what follows the columns; within
            [-1, 1] when a release is asked for. A unit with a value that is not finite gives nothing. Or parts of them,
            at least one, one after another.
        units: unit of each example, shape (examples,).
        release: how much noise; None for no differential privacy.
        random: where the noise comes from.
        places: how many places of the second axis each column takes, shape (columns,); None: one.

    Raises:
        ValueError: a release without a source of randomness.
    """
    if release is None:
        total: Columns = _moments(values, units, places).sum(axis=0)
        return total
    if random is None:
        raise ValueError("Expected a source of randomness beside a release.")
    noised: Columns = clipped_moment_sum(values, units, places)
    noised += random.gaussian(len(noised)) * release.noise_multiplier * moment_clip(len(noised) // 2)
    return noised


def clipped_moment_sum(
    values: Columns | Iterable[Columns], units: NDArray[np.int64], places: NDArray[np.int64] | None = None
) -> Columns:
    """The units' moments as in `moment_sum`, each clipped and all summed, without noise; shape (1 + 2 * columns,).

    Sensitivity: one unit moves it by at most `moment_clip`.
    """
    moments = _moments(values, units, places)
    bound = moment_clip(moments.shape[1] // 2)
    norms = np.linalg.norm(moments, axis=1, keepdims=True)
    moments *= np.minimum(1.0, bound / np.maximum(norms, bound))
    total: Columns = moments.sum(axis=0)
    return total


def _moments(
    values: Columns | Iterable[Columns], units: NDArray[np.int64], places: NDArray[np.int64] | None
) -> Columns:
    """Every unit's own, shape (units, 1 + 2 * columns); zeros where a value is not finite."""
    _, of_example, sizes = np.unique(units, return_inverse=True, return_counts=True)
    sums, first = np.zeros((2, len(sizes), 0)), 0
    for part in [values] if isinstance(values, np.ndarray) else values:
        over_time, last = tuple(range(2, part.ndim)), first + len(part)
        if not first:
            sums = np.zeros((2, len(sizes), part.shape[1] if places is None else len(places)))
        for number, columns in enumerate((part, part**2)):
            means = columns.mean(axis=over_time)
            if places is not None:
                means = np.add.reduceat(means, np.cumsum(places) - places, axis=1) / places
            np.add.at(sums[number], of_example[first:last], means)
        first = last
    moments = np.hstack([np.ones((len(sizes), 1)), *(sums / sizes[:, None])])
    moments[~np.isfinite(moments).all(axis=1)] = 0.0
    return moments


def noise_deviation(release: GaussianRelease | None, columns: int, units: float, sites: int) -> float:
    """Standard deviation of the noise in a mean over `units` units of `sites` sites, in the columns' [-1, 1]."""
    return 0.0 if release is None else release.noise_multiplier * moment_clip(columns) * sqrt(sites) / units


def means_and_deviations(total: Columns, noise: float) -> tuple[Columns, Columns]:
    """Means and standard deviations, each (columns,), from a sum over sites of `moment_sum`.

    Post-processing. A variance is floored at the deviation `noise` of its own noise (what is smaller cannot be told
    from noise), and a column that does not vary, up to rounding, keeps deviation 1.

    Args:
        total: shape (1 + 2 * columns,).
        noise: of `noise_deviation`; 0 without a release.
    """
    count, (sums, squares) = max(total[0], 1.0), np.split(total[1:], 2)
    means = sums / count
    if noise:
        means = means.clip(-1.0, 1.0)
    variances = np.maximum(squares / count - means**2, noise)
    return means, np.where(variances > (1e-6 * means) ** 2, np.sqrt(np.maximum(variances, 0.0)), 1.0)
