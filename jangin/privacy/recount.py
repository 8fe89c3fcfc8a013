"""The recount: every figure of a privacy statement computed anew from its events, by code that made none of them.

It reads the statement's JSON and nothing else; of our own accounting it uses nothing. Renyi divergence by
dp-accounting's RdpAccountant (ours: `accounting.renyi`); epsilon by dp-accounting's distributions on another grid and
by the privacy random variable (Gopi, Lee and Wutschitz 2021, arXiv 2106.02848) as Opacus computes it. The law: a
figure that cannot be computed anew does not hold, and one that claims less than a proven lower bound does not either.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from math import isfinite, log, log1p
from typing import TypeGuard

import numpy as np

from jangin.errors import PrivacyError
from jangin.privacy.releases import Charge, Cost, Reading
from jangin.privacy.statement import SAMPLED_GAUSSIAN, Event, PrivacyLoss, ReadingFigures, Statement, read_statement

__all__ = ["Figure", "Recount", "Verdict", "confirm", "recount"]

_FILTER_TOLERANCE = 1e-6
_EPSILON_TOLERANCE = 1e-2
_PRV_ERROR = 1e-3
_GRID = 1e-4
_ORDERS = [*range(2, 65), 128, 256, 512]
_TINY_DELTA = 1e-12
_LEAST, _LEAST_PRV = 1e-4, 1e-2  # epsilon below which the grids get no finer

Released = tuple[tuple[float, float, int], ...]
"""Noise multiplier, sampling probability and how often, all rounds together."""


class Verdict(StrEnum):
    """What a recount came to."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "DOES NOT HOLD"
    NO_DIFFERENTIAL_PRIVACY = "NO DIFFERENTIAL PRIVACY"


@dataclass(frozen=True)
class Figure:
    """One figure of a statement beside its recount.

    Attributes:
        reading: towards whom.
        name: which figure, and by what it was computed anew.
        stated: in the statement.
        recounted: anew; None where it cannot be computed.
        tolerance: relative; None where the stated figure has to be at least the recounted one.
        holds: whether they agree.
    """

    reading: Reading
    name: str
    stated: float
    recounted: float | None
    tolerance: float | None
    holds: bool


@dataclass(frozen=True)
class Recount:
    """All figures, and what they come to."""

    verdict: Verdict
    figures: tuple[Figure, ...]

    @property
    def failed(self) -> tuple[Figure, ...]:
        """Those that do not hold."""
        return tuple(figure for figure in self.figures if not figure.holds)


def recount(content: bytes, where: str = "statement") -> Recount:
    """Compute every figure of a statement anew.

    Args:
        content: the statement's JSON.
        where: names its source in messages.

    Raises:
        PrivacyError: JG-privacy-040, an event whose price is not known; JG-privacy-041, no statement.
    """
    statement = read_statement(content, where)
    loss = statement.privacy_loss
    if not isinstance(loss, PrivacyLoss):
        return Recount(Verdict.NO_DIFFERENTIAL_PRIVACY, ())
    if set(loss.readings) != set(Reading):
        raise PrivacyError("JG-privacy-041", where=where, problem=f"readings: expected {', '.join(Reading)}")
    figures = tuple(
        figure
        for reading, stated in loss.readings.items()
        for figure in _compared(reading, stated, _released(statement, stated, where))
    ) + tuple(_shares(loss))
    return Recount(Verdict.HOLDS if all(figure.holds for figure in figures) else Verdict.DOES_NOT_HOLD, figures)


def confirm(content: bytes, cost: Cost | None, where: str = "statement") -> None:
    """Check that a statement's events are those that a ledger reserved for its campaign.

    Args:
        content: the statement's JSON.
        cost: of the ledger's entry; None for NO DIFFERENTIAL PRIVACY.
        where: names the statement in messages.

    Raises:
        PrivacyError: JG-privacy-041, no statement; JG-privacy-044, other events, naming the readings.
    """
    loss = read_statement(content, where).privacy_loss
    stated = {reading: _paid(of.events) for reading, of in loss.readings.items()} if _is_promise(loss) else None
    held = None if cost is None else {reading: _charged(charge) for reading, charge in cost.items()}
    if stated != held:
        readings = sorted(
            reading.value for reading in Reading if stated is None or held is None or stated[reading] != held[reading]
        )
        raise PrivacyError("JG-privacy-044", where=where, readings=", ".join(readings))


def _is_promise(loss: object) -> TypeGuard[PrivacyLoss]:
    return isinstance(loss, PrivacyLoss)


def _events(events: Iterable[Event]) -> list[tuple[str, float, float, int]]:
    return sorted((one.when, one.noise_multiplier, one.sampling_probability, one.count) for one in events)


def _paid(events: Iterable[Event]) -> list[tuple[str, float, float, int]]:
    """As a ledger keeps them: evaluations stand with the opening, with which they are paid."""
    kept = {"opening": "opening", "evaluations": "opening", "each_round": "each_round"}
    return sorted((kept[when], noise, q, count) for when, noise, q, count in _events(events))


def _charged(charge: Charge) -> list[tuple[str, float, float, int]]:
    parts = {"opening": charge.paid_first, "each_round": charge.each_round}
    return sorted(
        (when, one.noise_multiplier, one.sampling_probability, one.count)
        for when, releases in parts.items()
        for one in releases
    )


def _released(statement: Statement, stated: ReadingFigures, where: str) -> Released:
    """What one site released in the rounds that are charged."""
    released = []
    for event in stated.events:
        if event.event != SAMPLED_GAUSSIAN:
            raise PrivacyError("JG-privacy-040", where=where, event=event.event, known=SAMPLED_GAUSSIAN)
        times = statement.deployment.rounds_charged if event.when == "each_round" else 1
        if times:
            released.append((event.noise_multiplier, event.sampling_probability, event.count * times))
    if not released:
        raise PrivacyError("JG-privacy-041", where=where, problem="events: nothing was released")
    return tuple(released)


def _shares(loss: PrivacyLoss) -> Iterator[Figure]:
    """Where noise is shared: H from the plan's constants, and the server's noise from H shares of the coalition's.

    H = max(floor(2 n / 3) + 1, n_min_final) - c_max, at least 1; n sites begin a sum, more than two thirds open it.
    """
    of = loss.mechanism
    if of.honest_shares is None:
        return
    honest = None
    if of.n_plan is not None and of.c_max is not None:
        honest = max(1, max(of.n_plan * 2 // 3 + 1, of.n_min_final or 0) - of.c_max)
    yield _near(Reading.SECURE_SUM, "honest shares", of.honest_shares, honest, 0.0)
    summed, single = (_events(loss.readings[reading].events) for reading in (Reading.SECURE_SUM, Reading.COALITION))
    alike = [(when, q, count) for when, _, q, count in summed] == [(when, q, count) for when, _, q, count in single]
    for (when, noise, _, _), (_, share, _, _) in zip(summed, single, strict=False):
        together = share * of.honest_shares**0.5 if alike else None
        yield _near(Reading.SECURE_SUM, f"noise of the honest shares, {when}", noise, together, _FILTER_TOLERANCE)


def _compared(reading: Reading, stated: ReadingFigures, released: Released) -> list[Figure]:
    divergence = _divergence(released, stated.filter.order)
    order, delta = stated.filter.order, stated.delta
    by_filter = max(0.0, divergence + log1p(-1 / order) - log(delta * order) / (order - 1))
    upper, *curve = _by_distributions(released, (delta, *(point.delta for point in stated.curve)), True)
    (lower,) = _by_distributions(released, (delta,), False)
    prv_lower, prv_upper = _by_random_variables(released, delta, upper)
    epsilon = stated.epsilon
    return [
        _near(reading, "filter: Renyi divergence", stated.filter.renyi_divergence, divergence, _FILTER_TOLERANCE),
        _near(reading, "filter: epsilon", stated.filter.epsilon, by_filter, _FILTER_TOLERANCE),
        _near(reading, "epsilon, PLD", epsilon, upper, _EPSILON_TOLERANCE),
        _near(reading, "epsilon, PRV", epsilon, prv_upper, _EPSILON_TOLERANCE),
        _at_least(reading, "epsilon, PLD from below", epsilon, lower),
        _at_least(reading, "epsilon, PRV from below", epsilon, prv_lower),
        *(
            _near(reading, f"curve at {point.delta:.3g}, PLD", point.epsilon, anew, _EPSILON_TOLERANCE)
            for point, anew in zip(stated.curve, curve, strict=True)
        ),
    ]


def _near(reading: Reading, name: str, stated: float, recounted: float | None, tolerance: float) -> Figure:
    holds = recounted is not None and abs(stated - recounted) <= tolerance * abs(recounted)
    return Figure(reading, name, stated, recounted, tolerance, holds)


def _at_least(reading: Reading, name: str, stated: float, recounted: float | None) -> Figure:
    return Figure(reading, name, stated, recounted, None, recounted is not None and stated >= recounted)


def _rdp(released: Released, orders: Sequence[int], delta: float) -> float:
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(orders=list(orders))
    for noise, probability, count in released:
        gaussian = dp_accounting.GaussianDpEvent(noise)
        sampled = dp_accounting.PoissonSampledDpEvent(probability, gaussian) if probability < 1 else gaussian
        accountant.compose(sampled, count)
    return float(accountant.get_epsilon(delta))


def _divergence(released: Released, order: int) -> float:
    """At one order, from dp-accounting's epsilon there; a tiny delta keeps that above 0, where it would be cut off."""
    epsilon = _rdp(released, [order], _TINY_DELTA)
    return epsilon - log1p(-1 / order) + log(_TINY_DELTA * order) / (order - 1)


@cache
def _by_distributions(released: Released, deltas: tuple[float, ...], pessimistic: bool) -> tuple[float | None, ...]:
    """Epsilon at these deltas, from above or from below, by privacy loss distributions; the grid grows with epsilon."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    grid = _GRID * max(_rdp(released, _ORDERS, deltas[0]), _LEAST)
    whole = pld.identity(grid, pessimistic_estimate=pessimistic)
    for noise, probability, count in released:
        one = pld.from_gaussian_mechanism(
            noise,
            pessimistic_estimate=pessimistic,
            value_discretization_interval=grid,
            sampling_prob=probability,
            use_connect_dots=pessimistic,
        )
        whole = whole.compose(one.self_compose(count))
    found = [float(whole.get_epsilon_for_delta(delta)) for delta in deltas]
    return tuple(epsilon if isfinite(epsilon) else None for epsilon in found)


@cache
def _by_random_variables(released: Released, delta: float, epsilon: float | None) -> tuple[float | None, float | None]:
    """Bounds of epsilon from below and above; None where they cannot be computed.

    Each to 1e-3 of `epsilon`, or to 1e-5 where that is finer: the grid would not fit into memory.
    """
    from opacus.accountants import PRVAccountant

    if not epsilon:  # a bound of 0 from above is one from below
        return epsilon, epsilon
    accountant = PRVAccountant()
    accountant.history = list(released)
    error, inner = _PRV_ERROR * max(epsilon, _LEAST_PRV), delta / 1000  # the inner error of delta is Opacus' own choice
    with warnings.catch_warnings(), np.errstate(divide="ignore"):  # the logarithm of 1 - q where everybody is drawn
        warnings.simplefilter("ignore", UserWarning)  # that its orders, which only bound the grid, could be more
        try:
            # As its get_epsilon, which keeps the upper bound alone.
            composed = accountant._get_dprv(eps_error=error, delta_error=inner)
            lower, _, upper = composed.compute_epsilon(delta, inner, error)
        except (ValueError, RuntimeError):  # it says so where floating point is not enough
            return None, None
    return float(lower), float(upper)
