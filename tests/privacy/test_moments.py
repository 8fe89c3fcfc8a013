"""Moments: bounded by construction, replayed on neighbours, and right where there is no noise."""

from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jangin.privacy.moments import means_and_deviations, moment_clip, moment_sum, noise_deviation
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import GaussianRelease

RELEASE = GaussianRelease(2.0, 1.0, 1)
Tape = Callable[[object], SecureRandom]


class Silent(SecureRandom):
    """Noise patched out: what is left is the clipped sum."""

    def gaussian(self, count: int) -> np.ndarray:
        return np.zeros(count)


@pytest.mark.parametrize("columns", [1, 7, 100])
def test_no_unit_within_its_ranges_is_longer_than_the_clip(columns: int) -> None:
    corner = moment_sum(np.ones((3, columns)), np.zeros(3, np.int64), None, None)
    assert np.linalg.norm(corner) == pytest.approx(moment_clip(columns)) == sqrt(1 + 2 * columns)
    inside = np.random.default_rng(0).uniform(-1, 1, (3, columns))
    assert np.linalg.norm(moment_sum(inside, np.zeros(3, np.int64), None, None)) < moment_clip(columns)


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    columns=st.integers(1, 5),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 50.0, 1e30]),
    broken=st.sampled_from([None, np.nan, np.inf]),
    samples=st.sampled_from([(), (4,)]),
)
def test_one_unit_more_or_less_moves_the_sum_by_at_most_the_clip(
    seed: int, sizes: list[int], columns: int, scale: float, broken: float | None, samples: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(seed)
    units = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    values = rng.uniform(-1, 1, (len(units), columns, *samples))
    gone = units == rng.integers(len(sizes))
    values[gone] = rng.choice([-1.0, 1.0], values[gone].shape) * scale
    if broken is not None:
        values[np.flatnonzero(gone)[0]] = broken
    whole = moment_sum(values, units, RELEASE, Silent())
    less = moment_sum(values[~gone], units[~gone], RELEASE, Silent())
    assert np.linalg.norm(whole - less) <= moment_clip(columns) * (1 + 1e-12)


def test_a_unit_counts_once_however_many_examples_it_has() -> None:
    values, units = np.array([[0.5], [0.5], [0.5], [-1.0]]), np.array([3, 3, 3, 8])
    np.testing.assert_allclose(moment_sum(values, units, None, None), [2, -0.5, 1.25])


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_unit_with_a_value_that_is_not_finite_gives_nothing(broken: float) -> None:
    values, units = np.array([[0.5, 0.1], [0.2, broken], [0.3, 0.4]]), np.array([0, 0, 1])
    np.testing.assert_allclose(moment_sum(values, units, None, None), [1, 0.3, 0.4, 0.09, 0.16])


def test_noise_has_the_deviation_that_is_priced(tape: Tape) -> None:
    random, zeros = tape("moments"), np.empty((0, 4))
    noise = np.stack([moment_sum(zeros, np.empty(0, np.int64), RELEASE, random) for _ in range(4000)])
    assert stats.kstest(noise.ravel() / (2.0 * moment_clip(4)), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(noise.T) - np.eye(9)).max() < 5 / sqrt(4000)


def test_a_release_without_randomness_is_refused() -> None:
    with pytest.raises(ValueError, match="source of randomness"):
        moment_sum(np.ones((1, 1)), np.zeros(1, np.int64), RELEASE, None)


def test_sites_sums_give_the_mean_and_deviation_of_all_their_units() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal([0.1, -40.0, 3e-9], [0.2, 3.0, 1e-9], (500, 3))
    parts = [moment_sum(part, np.arange(len(part)), None, None) for part in np.split(values, [20, 300])]
    means, deviations = means_and_deviations(np.sum(parts, axis=0), 0.0)
    np.testing.assert_allclose(means, values.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(deviations, values.std(axis=0), rtol=1e-6)


def test_samples_over_time_count_each() -> None:
    values = np.random.default_rng(4).normal(0.3, 2.0, (50, 3, 40))
    means, deviations = means_and_deviations(moment_sum(values, np.arange(50), None, None), 0.0)
    np.testing.assert_allclose(means, values.mean(axis=(0, 2)))
    np.testing.assert_allclose(deviations, values.std(axis=(0, 2)))


@pytest.mark.parametrize("exponent", [-80, -20, 20, 60])
def test_deviations_follow_the_unit_of_measurement(exponent: int) -> None:
    values = np.random.default_rng(5).normal(1.0, 0.3, (100, 2))
    scale = 2.0**exponent
    one, other = (
        means_and_deviations(moment_sum(part, np.arange(100), None, None), 0.0) for part in (values, values * scale)
    )
    np.testing.assert_allclose(np.array(other), np.array(one) * scale, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e4, 1e-9])
def test_a_column_that_does_not_vary_keeps_deviation_one(value: float) -> None:
    means, deviations = means_and_deviations(moment_sum(np.full((77, 1), value), np.arange(77) // 3, None, None), 0.0)
    assert deviations[0] == 1.0
    assert means[0] == pytest.approx(value)


def test_a_variance_is_floored_at_the_deviation_of_its_noise() -> None:
    total = np.array([100.0, 20.0, 100 * (0.2**2 + 1e-4)])
    assert means_and_deviations(total, 0.0)[1][0] == pytest.approx(1e-2)
    assert means_and_deviations(total, 0.04)[1][0] == pytest.approx(0.2)
    below_zero = np.array([100.0, 20.0, -5.0])
    assert means_and_deviations(below_zero, 0.04)[1][0] == pytest.approx(0.2)


def test_noise_never_leads_outside_the_public_range_or_to_a_count_below_one() -> None:
    means, deviations = means_and_deviations(np.array([-3.0, 50.0, -7.0, 1.0, 2.0]), 0.1)
    assert means.tolist() == [1.0, -1.0]
    assert np.isfinite(deviations).all()
    assert (deviations > 0).all()


def test_noise_deviation_is_that_of_a_mean_over_all_sites(tape: Tape) -> None:
    random, sites, units = tape("federation"), 5, 400.0
    noise = [
        sum(moment_sum(np.empty((0, 3)), np.empty(0, np.int64), RELEASE, random) for _ in range(sites)) / units
        for _ in range(1500)
    ]
    assert np.std(noise) == pytest.approx(noise_deviation(RELEASE, 3, units, sites), rel=0.03)
    assert noise_deviation(None, 3, units, sites) == 0.0
