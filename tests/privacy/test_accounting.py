"""Accounting against reference values, closed forms and its own other derivation."""

from dataclasses import replace
from functools import cache
from math import exp, sqrt

import dp_accounting
import mpmath
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opacus.accountants.prv import PRVAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from jangin.errors import PrivacyError
from jangin.privacy.accounting import calibrate, epsilon_curve, epsilon_pld, epsilon_rdp
from jangin.privacy.releases import GaussianRelease
from jangin.privacy.renyi import epsilon_at, filter_budget, filter_order, renyi

# 10,000 units, lots of 128, 781 steps, delta 1e-5: epsilon -> noise multiplier.
pytestmark = pytest.mark.no_cover
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


def test_what_is_released_beside_is_paid_from_the_same_budget() -> None:
    beside = calibrate(0.4, 1e-6, 1.0, 1)
    alone, together = calibrate(2.0, DELTA, 0.1, 50), calibrate(2.0, DELTA, 0.1, 50, [beside])
    assert epsilon_pld([together, beside], DELTA) <= 2.0
    assert together.noise_multiplier > alone.noise_multiplier
    assert epsilon_pld([alone, beside], DELTA) > 2.0


releases = st.builds(
    GaussianRelease,
    noise_multiplier=st.floats(0.8, 20.0),
    sampling_probability=st.floats(0.001, 1.0),
    count=st.integers(1, 100),
)


INHERITED = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.differing_executors])


class AccountantContract:
    """What holds for every accountant, however it computes; `slack` is its own numerical error, relative."""

    slack = 1e-9

    def epsilon(self, spent: list[GaussianRelease], delta: float) -> float:
        raise NotImplementedError

    @INHERITED
    @given(before=releases, added=releases)
    def test_spending_never_decreases(self, before: GaussianRelease, added: GaussianRelease) -> None:
        spent = self.epsilon([before, added], DELTA)
        assert spent >= self.epsilon([before], DELTA) * (1 - self.slack)
        assert self.epsilon([before, replace(added, count=added.count + 1)], DELTA) >= spent * (1 - self.slack)

    @INHERITED
    @given(release=releases)
    def test_more_noise_less_sampling_fewer_steps_and_more_delta_never_cost_more(
        self, release: GaussianRelease
    ) -> None:
        spent = self.epsilon([replace(release, count=release.count + 1)], DELTA) * (1 + self.slack)
        more = replace(release, count=release.count + 1)
        assert self.epsilon([release], DELTA) <= spent
        assert self.epsilon([replace(more, noise_multiplier=1.2 * more.noise_multiplier)], DELTA) <= spent
        assert self.epsilon([replace(more, sampling_probability=more.sampling_probability / 1.2)], DELTA) <= spent
        assert self.epsilon([more], 2 * DELTA) <= spent

    @pytest.mark.parametrize("noise", [1.0, 3.0, 40.0])
    def test_it_bounds_one_gaussian_from_above(self, noise: float) -> None:
        bound = self.epsilon([GaussianRelease(noise, 1.0, 1)], DELTA)
        assert bound >= gaussian_epsilon(noise, DELTA) * (1 - self.slack)

    def test_many_at_once_cost_as_one_by_one(self) -> None:
        together = self.epsilon([GaussianRelease(2.0, 0.1, 6)], DELTA)
        assert self.epsilon([GaussianRelease(2.0, 0.1, 1)] * 6, DELTA) == pytest.approx(
            together, rel=max(self.slack, 1e-9)
        )

    def test_what_it_does_not_know_is_refused(self) -> None:
        class Better(GaussianRelease):
            """As a release, but what it promises is its own affair."""

        for unknown in (Better(1.0, 0.1, 1), dp_accounting.LaplaceDpEvent(1.0), "gaussian"):
            with pytest.raises(PrivacyError, match="JG-privacy-008"):
                self.epsilon([unknown], DELTA)  # type: ignore[list-item]


class TestPld(AccountantContract):
    def epsilon(self, spent: list[GaussianRelease], delta: float) -> float:
        return epsilon_pld(spent, delta, 1e-2)


class TestRdp(AccountantContract):
    def epsilon(self, spent: list[GaussianRelease], delta: float) -> float:
        return epsilon_rdp(spent, delta)


class TestRenyiAtOneOrder(AccountantContract):
    def epsilon(self, spent: list[GaussianRelease], delta: float) -> float:
        return epsilon_at(8, renyi(spent, 8), delta)


@settings(max_examples=60, deadline=None)
@given(release=releases, order=st.sampled_from([2, 3, 8, 32, 64, 256]))
def test_the_divergence_is_that_of_the_other_derivation(release: GaussianRelease, order: int) -> None:
    event = dp_accounting.GaussianDpEvent(release.noise_multiplier)
    if release.sampling_probability < 1:
        event = dp_accounting.PoissonSampledDpEvent(release.sampling_probability, event)
    other = RdpAccountant(orders=[order])
    other.compose(event, release.count)
    ours = renyi([release], order)
    assert ours == pytest.approx(other._rdp[0], rel=1e-6)
    assert epsilon_at(order, ours, DELTA) == pytest.approx(other.get_epsilon(DELTA), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("order", [2, 5, 40])
@pytest.mark.parametrize(("noise", "q"), [(0.7, 0.02), (2.0, 0.4), (300.0, 1e-4)])
def test_the_divergence_is_the_integral_that_defines_it(noise: float, q: float, order: int) -> None:
    """Mironov et al. 2019, section 3.3: E over the null Gaussian of (1 - q + q exp((2z - 1) / (2 sigma^2)))^order."""
    with mpmath.workdps(40):

        def density(z: mpmath.mpf) -> mpmath.mpf:
            ratio = (1 - q) + q * mpmath.exp((2 * z - 1) / (2 * mpmath.mpf(noise) ** 2))
            return mpmath.npdf(z, 0, noise) * ratio**order

        edges = [-40 * noise, 0, order / 2, order, order + 40 * noise]
        exact = mpmath.log(mpmath.quad(density, edges)) / (order - 1)
    assert renyi([GaussianRelease(noise, q, 1)], order) == pytest.approx(float(exact), rel=1e-8)


@pytest.mark.parametrize("order", [1, 0, -3])
def test_an_order_that_has_no_divergence_is_refused(order: int) -> None:
    with pytest.raises(ValueError, match="order"):
        renyi([], order)


@pytest.mark.parametrize("epsilon", REFERENCE)
def test_privacy_loss_distributions_agree_with_the_privacy_random_variable(epsilon: float) -> None:
    """Gopi, Lee and Wutschitz 2021 (arXiv 2106.02848), in Opacus' own implementation."""
    release = calibrated(epsilon, DELTA, Q, STEPS)
    other = PRVAccountant()
    other.history = [(release.noise_multiplier, Q, STEPS)]
    prv = other.get_epsilon(DELTA, eps_error=1e-3 * epsilon)
    assert epsilon_pld([release], DELTA) == pytest.approx(prv, rel=0.01)


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


def test_a_curve_is_its_points() -> None:
    spent = [GaussianRelease(3.0, 0.3, 10), GaussianRelease(9.0, 1.0, 1)]
    deltas = [1e-7, 1e-5, 1e-3]
    assert epsilon_curve(spent, deltas, 1e-3) == [epsilon_pld(spent, delta, 1e-3) for delta in deltas]


@pytest.mark.parametrize("order", [2, 4, 40])
@pytest.mark.parametrize("epsilon", [0.5, 8.0, 50.0])
def test_what_a_filter_admits_at_most_is_exactly_its_budget(order: int, epsilon: float) -> None:
    budget = filter_budget(order, epsilon, DELTA)
    assert epsilon_at(order, budget, DELTA) == pytest.approx(epsilon, rel=1e-12)


@pytest.mark.parametrize(
    ("epsilon", "delta", "order"), [(8.0, 1e-5, 4), (50.0, 1e-5, 2), (1.0, 1e-5, 18), (0.05, 1e-6, None), (0.2, 0.1, 5)]
)
def test_no_order_admits_more_unsampled_noise_than_the_filters(epsilon: float, delta: float, order: int | None) -> None:
    """Of Gaussians, each alpha / (2 sigma^2), those fit that B(alpha) / alpha allows; far beyond the search too."""
    chosen = filter_order(epsilon, delta)
    most = max(range(2, 20_000), key=lambda alpha: filter_budget(alpha, epsilon, delta) / alpha)
    assert chosen == most
    assert order in (None, chosen)


@pytest.mark.parametrize(("epsilon", "delta"), [(1.0, 0.0), (0.0, 1e-5), (8.0, 0.6), (1e-5, 1e-5), (-1.0, 1e-5)])
def test_a_budget_that_protects_nobody_has_no_order(epsilon: float, delta: float) -> None:
    with pytest.raises(ValueError, match="delta"):
        filter_order(epsilon, delta)
