"""Accounting: what releases cost, and how much noise a promise needs. Curves and composition by dp-accounting.

dp-accounting is loaded on first use: importing this file is cheap. The law: a release that is not known here is
refused, never guessed; every figure is an upper bound. What a filter adds up is in `renyi`, without any library.
"""

from collections.abc import Callable, Sequence
from math import exp, inf, log
from typing import Any, Final

from jangin.errors import PrivacyError
from jangin.privacy.releases import GaussianRelease
from jangin.privacy.renyi import known

__all__ = [
    "calibrate",
    "epsilon_curve",
    "epsilon_pld",
    "epsilon_rdp",
]

# Integer orders only: dp-accounting's fractional ones stall where q is near .44 and the noise is large.
_ORDERS: Final[Sequence[int]] = [*range(2, 65), 80, 96, 128, 192, 256, 512, 1024]
_COARSE, _FINE = 1e-3, 1e-4
_LARGEST_NOISE = 2.0**20
_MOST_SECANTS = 6
_FLATTEST = -0.01


def epsilon_pld(releases: Sequence[GaussianRelease], delta: float, interval: float | None = None) -> float:
    """An upper bound on epsilon at `delta` of all releases together, by privacy loss distributions.

    Composition by Koskela et al. 2020 (arXiv 2006.07134) with the pessimistic discretisation of Doroshenko et al.
    2022 (arXiv 2207.04380); `interval` is the grid of the privacy loss: a smaller one is tighter and slower. Without
    one it is 1e-4, or 1e-4 of epsilon where that is smaller, 1e-5 of it where that is larger.
    """
    if interval is None:
        interval = _grid(_FINE, epsilon_rdp(releases, delta))
    return epsilon_curve(releases, [delta], interval)[0]


def epsilon_curve(releases: Sequence[GaussianRelease], deltas: Sequence[float], interval: float) -> list[float]:
    """As `epsilon_pld`, at several deltas for the price of one: what is composed is composed once."""
    from dp_accounting.pld import PLDAccountant

    accountant = _composed(PLDAccountant(value_discretization_interval=interval), releases)
    return [float(accountant.get_epsilon(delta)) for delta in deltas]


def epsilon_rdp(releases: Sequence[GaussianRelease], delta: float) -> float:
    """A looser upper bound by Renyi differential privacy (Mironov et al. 2019, arXiv 1908.10530)."""
    from dp_accounting.rdp import RdpAccountant

    return float(_composed(RdpAccountant(orders=_ORDERS), releases).get_epsilon(delta))


def calibrate(
    epsilon: float, delta: float, sampling_probability: float, count: int, beside: Sequence[GaussianRelease] = ()
) -> GaussianRelease:
    """The release with the least noise, to half a percent, that keeps (epsilon, delta) together with `beside`.

    Bracketed by RDP and bisected by PLD, or by the closed form where nobody is left out of any release: the result is
    on the safe side.

    Raises:
        PrivacyError: JG-privacy-002, no noise is enough (the releases beside it have spent the budget).
    """

    def releases(noise: float) -> list[GaussianRelease]:
        return [GaussianRelease(noise, sampling_probability, count), *beside]

    def loosely(noise: float) -> float:
        return epsilon_rdp(releases(noise), delta)

    high = 0.5
    while loosely(high) > epsilon:
        high *= 2.0
        if high > _LARGEST_NOISE:
            raise PrivacyError("JG-privacy-002", where="privacy.epsilon", epsilon=epsilon, delta=delta)
    _, high = _bisect(_keeps(loosely, epsilon, high, 0.01), high / 2, high, 0.01)
    grid = _grid(_COARSE, epsilon)
    sampled = any(release.sampling_probability < 1.0 for release in releases(high))

    def spent(noise: float) -> float:
        all_of_them = releases(noise)
        return epsilon_pld(all_of_them, delta, grid) if sampled else (1 + _FINE) * _epsilon_gaussian(all_of_them, delta)

    _, high = _bisect(_keeps(spent, epsilon, high, 0.002), high / 1.5, high, 0.002)
    return GaussianRelease(high, sampling_probability, count)


def _epsilon_gaussian(releases: Sequence[GaussianRelease], delta: float) -> float:
    """Epsilon at `delta` of releases without sampling, to 1e-9: together they are one Gaussian release.

    Balle and Wang 2018 (arXiv 1805.06530), Theorem 8, at mu^2 = sum of count / sigma^2.
    """
    from scipy.special import log_ndtr, ndtr

    mu = sum(release.count / release.noise_multiplier**2 for release in releases) ** 0.5
    low, high = 0.0, epsilon_rdp(releases, delta)
    while high - low > 1e-9 * high:
        middle = (low + high) / 2.0
        exceeds = ndtr(mu / 2 - middle / mu) - exp(middle + log_ndtr(-mu / 2 - middle / mu)) > delta
        low, high = (middle, high) if exceeds else (low, middle)
    return high


def _grid(fineness: float, epsilon: float) -> float:
    """The grid of the privacy loss, whose own error has to stay small beside epsilon."""
    return fineness * max(min(1.0, epsilon), epsilon / 10.0)


def _keeps(spent: Callable[[float], float], epsilon: float, noise: float, tolerance: float) -> Callable[[float], bool]:
    """Whether a noise spends no more than epsilon: the answers that a bisection asks for, from half as many figures.

    What is spent falls as noise grows, nearly as a power of it: from `noise` on secants of the logarithms look for two
    noises on either side of the edge, within a relative `tolerance`; only what lies between is worked out when asked.
    """
    fails, fits = 0.0, inf

    def look(noise: float) -> float:
        nonlocal fails, fits
        figure = spent(noise)
        fails, fits = (fails, noise) if figure <= epsilon else (noise, fits)
        return figure

    def keeps(noise: float) -> bool:
        if fails < noise < fits:
            look(noise)
        return noise >= fits

    slope, before = -1.5, (0.0, 0.0)
    for step in range(_MOST_SECANTS):
        figure = look(noise)
        if fits <= fails * (1.0 + tolerance) or not 0.0 < figure < inf:
            break
        here = log(noise), log(figure / epsilon)
        if step and here[1] != before[1]:
            slope = (here[1] - before[1]) / (here[0] - before[0])
        if slope > _FLATTEST:  # what is beside it has spent nearly everything: a secant would lead anywhere
            break
        beyond = tolerance / 3 if figure > epsilon else -tolerance / 3
        noise, before = exp(here[0] - here[1] / slope + beyond), here
        if not fails < noise < fits:
            break
    return keeps


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
    for release in map(known, releases):
        accountant.compose(_event(release), release.count)
    return accountant


def _event(release: GaussianRelease) -> Any:
    """The release as dp-accounting knows it."""
    import dp_accounting

    if release.sampling_probability == 1.0:
        return dp_accounting.GaussianDpEvent(release.noise_multiplier)
    return dp_accounting.PoissonSampledDpEvent(
        release.sampling_probability, dp_accounting.GaussianDpEvent(release.noise_multiplier)
    )
