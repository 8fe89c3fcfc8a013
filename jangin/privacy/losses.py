"""Losses on a hold-out: the clipped sum by which a federation judges a model, with noise when privacy is on.

A unit gives (1, v_1, ..., v_k): v_m is its mean loss of metric m, clipped to a public [low, high] and scaled to [0, 1].
Its L2 norm is at most sqrt(1 + k), so one unit moves the sum by at most that. One Gaussian release with q = 1 an
evaluation. The law: what leaves a site is this vector and nothing else; without a release it is the site's plain sum.
"""

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import GaussianRelease

__all__ = ["Bounds", "clipped_loss_sum", "loss_clip", "loss_deviation", "loss_sum", "mean_losses"]

Losses = NDArray[np.float64]
Bounds = tuple[Losses, Losses]
"""Public lowest and highest loss of a unit, each (metrics,)."""


def loss_clip(metrics: int) -> float:
    """The largest L2 norm of one unit's vector: sqrt(1 + metrics)."""
    return sqrt(1 + metrics)


def clipped_loss_sum(losses: Losses, units: NDArray[np.int64], bounds: Bounds) -> Losses:
    """The units' vectors, clipped and summed without noise, shape (1 + metrics,); zeros where there is no unit.

    Sensitivity: one unit moves it by at most `loss_clip`. A unit with a loss that is not a number gives nothing.

    Args:
        losses: of each example, shape (examples, metrics); infinite where nothing is worse.
        units: unit of each example, shape (examples,).
        bounds: beyond them a unit's mean is clipped.
    """
    low, high = bounds
    _, of_example, sizes = np.unique(units, return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), losses.shape[1]))
    np.add.at(sums, of_example, losses)
    means = sums / sizes[:, None]
    vectors = np.hstack([np.ones((len(sizes), 1)), (means.clip(low, high) - low) / (high - low)])
    vectors[np.isnan(means).any(axis=1)] = 0.0
    bound = loss_clip(losses.shape[1])
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors *= np.minimum(1.0, bound / np.maximum(norms, bound))
    total: Losses = vectors.sum(axis=0)
    return total


def loss_sum(
    losses: Losses, units: NDArray[np.int64], bounds: Bounds, release: GaussianRelease, random: SecureRandom
) -> Losses:
    """`clipped_loss_sum` with noise, shape (1 + metrics,).

    Guarantee: one Gaussian release of the release's `noise_multiplier` and of sensitivity `loss_clip`.
    """
    total = clipped_loss_sum(losses, units, bounds)
    total += random.gaussian(len(total)) * release.noise_multiplier * loss_clip(losses.shape[1])
    return total


def mean_losses(total: Losses, bounds: Bounds) -> Losses:
    """Each metric's mean over units, (metrics,), from a sum over sites of `clipped_loss_sum`, noised or not.

    Post-processing: within the bounds, whatever the noise.
    """
    low, high = bounds
    means: Losses = low + (high - low) * (total[1:] / max(total[0], 1.0)).clip(0.0, 1.0)
    return means


def loss_deviation(release: GaussianRelease | None, metrics: int, units: float, sites: int) -> float:
    """Standard deviation of the noise in a mean over `units` units of `sites` sites, in parts of the bounds' width.

    For a mean in the middle of its bounds; the noise of the number of units is in it.
    """
    middle = 0.5
    noise = 0.0 if release is None else release.noise_multiplier * loss_clip(metrics) * sqrt(sites)
    return noise * sqrt(1 + middle**2) / units
