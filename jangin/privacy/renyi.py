"""Renyi divergence at one integer order: what releases add up to, and what a budget allows. No library, no search.

The law: every figure is exact up to rounding, and a release that is not known here is refused, never guessed.
"""

from collections.abc import Sequence
from math import ceil, comb, exp, expm1, log, log1p

from jangin.errors import PrivacyError
from jangin.privacy.releases import GaussianRelease

__all__ = ["epsilon_at", "filter_budget", "filter_order", "known", "renyi"]


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
    return sum(release.count * _renyi(release, order) for release in map(known, releases))


def epsilon_at(order: int, divergence: float, delta: float) -> float:
    """Epsilon at `delta` of a mechanism of this Renyi divergence at this order.

    Canonne, Kamath and Steinke 2020 (arXiv 2004.00010), Proposition 12.
    """
    return max(0.0, divergence + log1p(-1.0 / order) - log(delta * order) / (order - 1))


def filter_budget(order: int, epsilon: float, delta: float) -> float:
    """The Renyi divergence at this order that (epsilon, delta) allows: what `epsilon_at` turns into epsilon.

    Negative where even a mechanism that releases nothing would not be shown to keep it at this order.
    """
    return epsilon - log1p(-1.0 / order) + log(delta * order) / (order - 1)


def filter_order(epsilon: float, delta: float) -> int:
    """The order at which a filter of this budget admits most: the integer alpha >= 2 of the largest B(alpha) / alpha.

    An unsampled Gaussian's divergence grows with alpha, so B(alpha) / alpha says how many of them fit. A filter needs
    the order fixed before anything is spent (Feldman and Zrnic 2021, arXiv 2008.11193). With M = 1 + 2 log(1/delta) /
    epsilon, B is at least epsilon / 2 at M and at most 2 epsilon anywhere, so that beyond 4 M no order is better.

    Raises:
        ValueError: a budget outside 0 < delta <= 1/2 and 2 delta <= epsilon.
    """
    if not 0 < delta <= min(0.5, epsilon / 2):
        raise ValueError(f"Expected 0 < {delta=} <= 1/2 and 2 delta <= {epsilon=}.")
    most = 4 * ceil(2.0 + 2.0 * log(1.0 / delta) / epsilon)
    return max(range(2, most + 1), key=lambda order: filter_budget(order, epsilon, delta) / order)


def known(release: object) -> GaussianRelease:
    """The release, if it is one whose price is known.

    Raises:
        PrivacyError: JG-privacy-008.
    """
    if type(release) is not GaussianRelease:
        raise PrivacyError("JG-privacy-008", where="accounting", release=type(release).__name__)
    return release


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
