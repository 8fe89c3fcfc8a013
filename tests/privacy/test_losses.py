"""Losses on a hold-out: bounded by construction, replayed on neighbours, and means where there is no noise."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jangin.privacy.losses import clipped_loss_sum, loss_clip, loss_deviation, loss_sum, mean_losses
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import GaussianRelease

RELEASE = GaussianRelease(2.0, 1.0, 4)


def bounds(metrics: int, low: float = 0.0, high: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    return np.full(metrics, low), np.full(metrics, high)


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    metrics=st.integers(1, 4),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 50.0, 1e300]),
    broken=st.sampled_from([None, np.nan, np.inf]),
)
def test_one_unit_more_or_less_moves_the_whole_vector_by_at_most_the_clip(
    seed: int, sizes: list[int], metrics: int, scale: float, broken: float | None
) -> None:
    rng = np.random.default_rng(seed)
    units = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    losses = rng.exponential(size=(len(units), metrics))
    gone = units == rng.integers(len(sizes))
    losses[gone] *= scale
    if broken is not None:
        losses[np.flatnonzero(gone)[0], 0] = broken
    whole = clipped_loss_sum(losses, units, bounds(metrics))
    less = clipped_loss_sum(losses[~gone], units[~gone], bounds(metrics))
    assert whole.shape == less.shape == (1 + metrics,)
    assert np.linalg.norm(whole - less) <= loss_clip(metrics) * (1 + 1e-12)


def test_the_worst_unit_is_as_long_as_the_clip() -> None:
    worst = clipped_loss_sum(np.full((3, 2), 9.0), np.zeros(3, np.int64), bounds(2))
    assert np.linalg.norm(worst) == pytest.approx(loss_clip(2)) == sqrt(3)


def test_every_unit_counts_once_and_is_clipped_as_a_whole() -> None:
    losses, units = np.array([[0.0], [2.0], [1.0], [9.0]]), np.array([3, 3, 3, 8])
    np.testing.assert_allclose(clipped_loss_sum(losses, units, bounds(1)), [2, 0.5 + 1.0])
    np.testing.assert_allclose(mean_losses(np.array([2, 1.5]), bounds(1)), [1.5])


def test_what_is_not_a_number_gives_nothing_and_what_is_infinite_is_as_bad_as_can_be() -> None:
    losses, units = np.array([[np.nan, 0.1], [0.2, np.inf], [0.3, 0.4]]), np.array([0, 1, 2])
    np.testing.assert_allclose(clipped_loss_sum(losses, units, bounds(2)), [2, 0.25, 1.2])


def test_nobody_gives_zeros_and_a_figure_stays_within_its_bounds_whatever_the_noise() -> None:
    assert not clipped_loss_sum(np.zeros((0, 2)), np.zeros(0, np.int64), bounds(2)).any()
    for total in ([-5.0, 3.0, -3.0], [10.0, 99.0, -99.0]):
        np.testing.assert_allclose(mean_losses(np.array(total), bounds(2, 1.0, 4.0)), [4.0, 1.0])


def test_noise_has_the_deviation_that_is_priced() -> None:
    random, nobody = SecureRandom(), (np.zeros((0, 3)), np.zeros(0, np.int64))
    drawn = np.concatenate([loss_sum(*nobody, bounds(3), RELEASE, random) for _ in range(5000)])
    sigma = RELEASE.noise_multiplier * loss_clip(3)
    assert stats.kstest(drawn / sigma, "norm").pvalue > 1e-6
    low, high = stats.chi2.ppf([1e-7, 1 - 1e-7], len(drawn))
    assert low <= (drawn / sigma) @ (drawn / sigma) <= high


def test_a_figures_noise_is_foreseen() -> None:
    sites, units, rng = 7, 2000.0, np.random.default_rng(3)
    total = np.array([units, units / 2])
    noise = rng.normal(size=(20_000, 2)) * RELEASE.noise_multiplier * loss_clip(1) * sqrt(sites)
    shown = [mean_losses(total + one, bounds(1))[0] / 2 for one in noise]
    assert np.std(shown) == pytest.approx(loss_deviation(RELEASE, 1, units, sites), rel=0.03)
    assert loss_deviation(None, 1, units, sites) == 0.0
