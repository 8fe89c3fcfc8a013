"""Accounting against reference values, closed forms and its own other derivation."""

from functools import cache
from math import exp, sqrt

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from jangin.errors import PrivacyError
from jangin.privacy.accounting import calibrate, epsilon_pld, epsilon_rdp
from jangin.privacy.releases import GaussianRelease

# 10,000 units, lots of 128, 781 steps, delta 1e-5: epsilon -> noise multiplier.
REFERENCE = {1.0: 1.559, 2.0: 1.030, 4.0: 0.772, 8.0: 0.609}
Q, STEPS, DELTA = 128 / 10_000, 781, 1e-5

calibrated = cache(calibrate)


def gaussian_delta(epsilon: float, noise: float) -> float:
    """Balle and Wang 2018 (arXiv 1805.06530), Theorem 8 with sensitivity 1: the exact delta of one Gaussian."""
    return float(
        norm.cdf(1 / (2 * noise) - epsilon * noise) - exp(epsilon) * norm.cdf(-1 / (2 * noise) - epsilon * noise)
    )


def gaussian_epsilon(noise: float, delta: float) -> float:
    return float(brentq(lambda epsilon: gaussian_delta(epsilon, noise) - delta, 0.0, 60.0, xtol=1e-12))


@pytest.mark.parametrize("epsilon", REFERENCE)
def test_calibration_finds_the_reference_noise_from_above(epsilon: float) -> None:
    release = calibrated(epsilon, DELTA, Q, STEPS)
    assert release == GaussianRelease(release.noise_multiplier, Q, STEPS)
    assert release.noise_multiplier == pytest.approx(REFERENCE[epsilon], rel=0.01)
    assert 0.985 * epsilon <= epsilon_pld([release], DELTA) <= epsilon


@pytest.mark.parametrize("epsilon", REFERENCE)
def test_the_tight_bound_lies_below_the_loose_one(epsilon: float) -> None:
    release = calibrated(epsilon, DELTA, Q, STEPS)
    assert epsilon_pld([release], DELTA, 1e-3) <= epsilon_rdp([release], DELTA)


def test_less_noise_than_calibrated_would_not_do() -> None:
    release = calibrated(2.0, DELTA, Q, STEPS)
    assert epsilon_pld([GaussianRelease(0.995 * release.noise_multiplier, Q, STEPS)], DELTA) > 2.0


@pytest.mark.parametrize("noise", [0.7, 2.0])
def test_poisson_equals_gaussian_when_everyone_is_sampled(noise: float) -> None:
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(dp_accounting.PoissonSampledDpEvent(1.0, dp_accounting.GaussianDpEvent(noise)), 3)
    everyone = epsilon_pld([GaussianRelease(noise, 1.0, 3)], DELTA, 1e-3)
    assert everyone == pytest.approx(accountant.get_epsilon(DELTA), rel=1e-6)
    assert epsilon_pld([GaussianRelease(noise, 1.0 - 1e-9, 3)], DELTA, 1e-3) == pytest.approx(everyone, rel=1e-4)


@pytest.mark.parametrize(("noise", "delta"), [(0.5, 1e-5), (1.0, 1e-5), (3.0, 1e-6), (40.0, 1e-5)])
def test_one_gaussian_costs_what_its_closed_form_says(noise: float, delta: float) -> None:
    exact = gaussian_epsilon(noise, delta)
    assert exact - 1e-9 <= epsilon_pld([GaussianRelease(noise, 1.0, 1)], delta) <= exact + 2e-4
    assert epsilon_rdp([GaussianRelease(noise, 1.0, 1)], delta) >= exact


@pytest.mark.parametrize("epsilon", [0.01, 1.0, 8.0])
def test_one_gaussian_is_calibrated_to_half_a_percent_of_the_exact_noise(epsilon: float) -> None:
    exact = brentq(lambda noise: gaussian_delta(epsilon, noise) - DELTA, 0.05, 1000.0)
    assert exact <= calibrate(epsilon, DELTA, 1.0, 1).noise_multiplier <= 1.005 * exact


@pytest.mark.parametrize("count", [4, 25])
def test_k_gaussians_cost_as_one_with_a_kth_of_the_variance(count: int) -> None:
    many = epsilon_pld([GaussianRelease(5.0, 1.0, count)], DELTA)
    assert many == pytest.approx(epsilon_pld([GaussianRelease(5.0 / sqrt(count), 1.0, 1)], DELTA), abs=2e-3)
    assert many >= gaussian_epsilon(5.0 / sqrt(count), DELTA) - 1e-9


def test_releases_one_by_one_cost_as_together() -> None:
    one = GaussianRelease(2.0, 0.1, 1)
    assert epsilon_rdp([one] * 6, DELTA) == pytest.approx(epsilon_rdp([GaussianRelease(2.0, 0.1, 6)], DELTA))


def test_what_is_released_beside_is_paid_from_the_same_budget() -> None:
    beside = calibrate(0.4, 1e-6, 1.0, 1)
    alone, together = calibrate(2.0, DELTA, 0.1, 50), calibrate(2.0, DELTA, 0.1, 50, [beside])
    assert epsilon_pld([together, beside], DELTA) <= 2.0
    assert together.noise_multiplier > alone.noise_multiplier
    assert epsilon_pld([alone, beside], DELTA) > 2.0


releases = st.builds(
    GaussianRelease,
    noise_multiplier=st.floats(0.5, 20.0),
    sampling_probability=st.floats(0.001, 1.0),
    count=st.integers(1, 500),
)


@settings(max_examples=20, deadline=None)
@given(before=st.lists(releases, max_size=2), added=releases, delta=st.floats(1e-9, 1e-4))
def test_spending_never_decreases(before: list[GaussianRelease], added: GaussianRelease, delta: float) -> None:
    spent = epsilon_rdp([*before, added], delta)
    assert spent >= epsilon_rdp(before, delta) * (1 - 1e-12)
    one_more = GaussianRelease(added.noise_multiplier, added.sampling_probability, added.count + 1)
    assert epsilon_rdp([*before, one_more], delta) >= spent * (1 - 1e-12)


@settings(max_examples=10, deadline=None)
@given(noise=st.floats(0.8, 5.0), q=st.floats(0.01, 0.9), count=st.integers(1, 20))
def test_more_noise_less_sampling_and_fewer_steps_never_cost_more(noise: float, q: float, count: int) -> None:
    spent = epsilon_pld([GaussianRelease(noise, q, count + 1)], DELTA, 1e-2)
    for cheaper in (
        GaussianRelease(noise * 1.2, q, count + 1),
        GaussianRelease(noise, q / 1.2, count + 1),
        GaussianRelease(noise, q, count),
    ):
        assert epsilon_pld([cheaper], DELTA, 1e-2) <= spent * (1 + 1e-9)


@pytest.mark.parametrize(
    ("epsilon", "delta", "beside"),
    [(1.0, 1e-5, [GaussianRelease(0.5, 1.0, 1)]), (1e-9, 1e-12, [])],
    ids=["spent beside", "next to nothing"],
)
def test_what_no_noise_reaches_is_refused_with_its_figures(
    epsilon: float, delta: float, beside: list[GaussianRelease]
) -> None:
    with pytest.raises(PrivacyError) as refused:
        calibrate(epsilon, delta, 0.1, 10, beside)
    assert refused.value.code == "JG-privacy-002"
    assert f"epsilon {epsilon:g} at delta {delta:g}" in str(refused.value)
