"""Accounting: what releases cost, and how much noise a promise needs. Curves and composition by dp-accounting.

dp-accounting is loaded on first use: importing this file is cheap. The law: a release that is not known here is
refused, never guessed; every figure is an upper bound.
"""

from collections.abc import Callable, Sequence
from math import ceil, comb, exp, expm1, log, log1p
from typing import Any

from jangin.errors import PrivacyError
from jangin.privacy.releases import GaussianRelease

__all__ = [
    "calibrate",
    "epsilon_at",
    "epsilon_curve",
    "epsilon_pld",
    "epsilon_rdp",
    "filter_budget",
    "filter_order",
    "renyi",
]

# Integer orders only: dp-accounting's fractional ones stall where q is near .44 and the noise is large.
_RDP_ORDERS = [*range(2, 65), 80, 96, 128, 192, 256, 512, 1024]
_COARSE, _FINE = 1e-3, 1e-4
_LARGEST_NOISE = 2.0**20


def epsilon_pld(releases: Sequence[GaussianRelease], delta: float, interval: float | None = None) -> float:
    """An upper bound on epsilon at `delta` of all releases together, by privacy loss distributions.

    Composition by Koskela et al. 2020 (arXiv 2006.07134) with the pessimistic discretisation of Doroshenko et al.
    2022 (arXiv 2207.04380); `interval` is the grid of the privacy loss: a smaller one is tighter and slower. Without
    one it is 1e-4, or 1e-4 of epsilon where that is smaller.
    """
    if interval is None:
        interval = _FINE * min(1.0, epsilon_rdp(releases, delta))
    return epsilon_curve(releases, [delta], interval)[0]


def epsilon_curve(releases: Sequence[GaussianRelease], deltas: Sequence[float], interval: float) -> list[float]:
    """As `epsilon_pld`, at several deltas for the price of one: what is composed is composed once."""
    from dp_accounting.pld import PLDAccountant

    accountant = _composed(PLDAccountant(value_discretization_interval=interval), releases)
    return [float(accountant.get_epsilon(delta)) for delta in deltas]


def epsilon_rdp(releases: Sequence[GaussianRelease], delta: float) -> float:
    """A looser upper bound by Renyi differential privacy (Mironov et al. 2019, arXiv 1908.10530)."""
    from dp_accounting.rdp import RdpAccountant

    return float(_composed(RdpAccountant(orders=_RDP_ORDERS), releases).get_epsilon(delta))


def renyi(releases: Sequence[GaussianRelease], order: int) -> float:
    """The Renyi divergence of all releases together at one integer order: what a filter adds up.

    Mironov, Talwar and Zhang 2019 (arXiv 1908.10530), section 3.3: at noise multiplier sigma and probability q,
    log(sum over k = 0..alpha of C(alpha, k) (1 - q)^(alpha - k) q^k exp(k (k - 1) / (2 sigma^2))) / (alpha - 1),
    which is alpha / (2 sigma^2) at q = 1; releases add up, each `count` times.

    Args:
        releases: all of them Gaussian.
        order: alpha, >= 2.

    Raises:
        PrivacyError: JG-privacy-008, a release that is not known here.
        ValueError: an order below 2.
    """
    if order < 2:
        raise ValueError(f"Expected {order=} >= 2.")
    return sum(release.count * _renyi(release, order) for release in map(_known, releases))


def epsilon_at(order: int, divergence: float, delta: float) -> float:
    """Epsilon at `delta` of a mechanism of this Renyi divergence at this order.

    Canonne, Kamath and Steinke 2020 (arXiv 2004.00010), Proposition 12.
    """
    return max(0.0, divergence + log1p(-1.0 / order) - log(delta * order) / (order - 1))


def filter_budget(order: int, epsilon: float, delta: float) -> float:
    """The most Renyi divergence at this order that keeps (epsilon, delta): the inverse of `epsilon_at`.

    B(alpha) = epsilon - log(1 - 1/alpha) + log(delta alpha) / (alpha - 1); below 0 nothing may be spent at this order.
    """
    return epsilon - log1p(-1.0 / order) + log(delta * order) / (order - 1)


def filter_order(epsilon: float, delta: float) -> int:
    """The order at which a filter of this budget admits most: the integer alpha >= 2 of the largest B(alpha) / alpha.

    An unsampled Gaussian's divergence grows with alpha, so B(alpha) / alpha says how many of them fit. Feldman and
    Zrnic 2021 (arXiv 2008.11193) fix the order when a budget is granted. With M = 1 + 2 log(1/delta) / epsilon, B is
    at least epsilon / 2 at M and at most 2 epsilon anywhere, so that beyond 4 M no order is better.

    Raises:
        ValueError: a budget outside 0 < delta <= 1/2 and 2 delta <= epsilon.
    """
    if not 0 < delta <= min(0.5, epsilon / 2):
        raise ValueError(f"Expected 0 < {delta=} <= 1/2 and 2 delta <= {epsilon=}.")
    most = 4 * ceil(2.0 + 2.0 * log(1.0 / delta) / epsilon)
    return max(range(2, most + 1), key=lambda order: filter_budget(order, epsilon, delta) / order)


def calibrate(
    epsilon: float, delta: float, sampling_probability: float, count: int, beside: Sequence[GaussianRelease] = ()
) -> GaussianRelease:
    """The release with the least noise, to half a percent, that keeps (epsilon, delta) together with `beside`.

    Bracketed by RDP, bisected and checked by PLD: the result is on the safe side of both.

    Raises:
        PrivacyError: JG-privacy-002, no noise is enough (the releases beside it have spent the budget).
    """

    def releases(noise: float) -> list[GaussianRelease]:
        return [GaussianRelease(noise, sampling_probability, count), *beside]

    high = 0.5
    while epsilon_rdp(releases(high), delta) > epsilon:
        high *= 2.0
        if high > _LARGEST_NOISE:
            raise PrivacyError("JG-privacy-002", where="privacy.epsilon", epsilon=epsilon, delta=delta)
    _, high = _bisect(lambda noise: epsilon_rdp(releases(noise), delta) <= epsilon, high / 2, high, 0.01)
    grid = _COARSE * min(1.0, epsilon)  # the grid's own error has to stay small beside epsilon
    _, high = _bisect(lambda noise: epsilon_pld(releases(noise), delta, grid) <= epsilon, high / 1.5, high, 0.002)
    return GaussianRelease(high, sampling_probability, count)


def _bisect(fits: Callable[[float], bool], low: float, high: float, tolerance: float) -> tuple[float, float]:
    """Narrow [low, high] to a relative width; `high` fits (or is taken to, where rounding differs)."""
    while fits(low):
        low /= 2.0
        if low < 1e-4:
            return low, low
    while not fits(high):
        high *= 1.0 + tolerance
    while high / low > 1.0 + tolerance:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if fits(middle) else (middle, high)
    return low, high


def _composed(accountant: Any, releases: Sequence[GaussianRelease]) -> Any:
    for release in map(_known, releases):
        accountant.compose(_event(release), release.count)
    return accountant


def _known(release: object) -> GaussianRelease:
    """The release, if it is one whose price is known."""
    if type(release) is not GaussianRelease:
        raise PrivacyError("JG-privacy-008", where="accounting", release=type(release).__name__)
    return release


def _event(release: GaussianRelease) -> Any:
    """The release as dp-accounting knows it."""
    import dp_accounting

    if release.sampling_probability == 1.0:
        return dp_accounting.GaussianDpEvent(release.noise_multiplier)
    return dp_accounting.PoissonSampledDpEvent(
        release.sampling_probability, dp_accounting.GaussianDpEvent(release.noise_multiplier)
    )


def _renyi(release: GaussianRelease, order: int) -> float:
    """Of one draw; the sum is built around its k = 0 and k = 1 terms, so that a small divergence keeps its digits."""
    q, doubled = release.sampling_probability, 2.0 * release.noise_multiplier**2
    if q == 1.0:
        return order / doubled
    # The binomial weights sum to one: sum w_k e^(x_k) = 1 + sum w_k (e^(x_k) - 1), and x_0 = x_1 = 0.
    logs = [log(comb(order, k)) + (order - k) * log1p(-q) + k * log(q) for k in range(2, order + 1)]
    powers = [k * (k - 1) / doubled for k in range(2, order + 1)]
    if max(powers) < 1.0:
        return log1p(sum(exp(weight) * expm1(power) for weight, power in zip(logs, powers, strict=True))) / (order - 1)
    first = [order * log1p(-q), log(order) + (order - 1) * log1p(-q) + log(q)]
    terms = [*first, *(weight + power for weight, power in zip(logs, powers, strict=True))]
    most = max(terms)
    return (most + log(sum(exp(term - most) for term in terms))) / (order - 1)
