"""What a plan costs whom, before anything runs, and where its knobs yield only noise.

The law: the figures are those that the mechanism and the statement would give; a threshold named here is one at which
the plan learns, found with the other keys as they are.
"""

from collections.abc import Callable
from functools import cache
from math import ceil, erfc, exp, expm1, log, sqrt
from typing import Literal

from jangin.codec.document import Document
from jangin.plan.blocks import LocalSteps, PrivacyBlock
from jangin.plan.training_plan import Evaluation
from jangin.privacy.accounting import epsilon_pld, epsilon_rdp
from jangin.privacy.releases import (
    NO_DIFFERENTIAL_PRIVACY,
    Charge,
    GaussianRelease,
    LocalDpSgd,
    Reading,
    Unit,
)
from jangin.privacy.renyi import epsilon_at, filter_budget, filter_order, renyi
from jangin.privacy.statement import BUDGETS, promise_of
from jangin.training.mechanism import NOISE_LIMIT, figure_noise, mechanism, noise_limit, noise_to_signal

__all__ = ["Explanation", "Group", "ReadingCost", "RoundCost", "Thresholds", "explain", "group_promise"]

_PARTS = (0.25, 0.5, 0.75, 1.0)
_GROUPS = (10, 100)
_GRID = 1e-3
_EPSILONS = (1e-3, 100.0)  # what a privacy block may say
_MOST_SHARE = 0.99
_SPARE = 1.005  # calibrated noise is the least to half a percent: a threshold leaves room for that
_LOOSE = 3.0  # where the bound by Renyi divergence is beyond so many times epsilon, the tight one is beyond it too


class RoundCost(Document):
    """What has been spent after so many rounds."""

    rounds: int
    epsilon: float


class ReadingCost(Document):
    """What one unit pays towards one observer.

    Attributes:
        by_rounds: epsilon at the plan's delta after a quarter, a half, three quarters and all of the rounds; upper
            bounds that are looser by about 1e-4 than the promise.
        budget_epsilon: of the budget at whose order the filter's figures are.
        order: of the filter.
        renyi_divergence: what the whole campaign adds to the filter.
        filter_epsilon: the same as an epsilon at the plan's delta.
        budget_share: part of such a budget that the whole campaign takes; above 1 it is not admitted.
    """

    by_rounds: tuple[RoundCost, ...]
    budget_epsilon: float
    order: int
    renyi_divergence: float
    filter_epsilon: float
    budget_share: float


class Group(Document):
    """What the promise for one unit is worth for several of one person.

    Attributes:
        units: of one person.
        epsilon, delta: of all of them together.
        promised: whether that is any promise: delta below 1.
    """

    units: int
    epsilon: float
    delta: float
    promised: bool


class Thresholds(Document):
    """Where the plan begins to learn, one key at a time with the others as they are; None where no value does.

    Attributes:
        epsilon: the lowest, to 1 %.
        sites: the fewest.
        nominal_units: the fewest, within what delta allows.
        batch: the fewest units a step.
        scaling_share: the largest, to 0.01.
    """

    epsilon: float | None
    sites: int | None
    nominal_units: int | None
    batch: int | None
    scaling_share: float | None


class Explanation(Document):
    """A plan's price.

    Attributes:
        unit: whose presence is hidden.
        mechanism: its name.
        trust: the name of its trust model.
        epsilon, delta: the promise for the whole campaign.
        sites: that are invited.
        nominal_units: public number of units of a site.
        rounds: of the plan.
        steps: noised sums of a site, T; spare rounds with them.
        sampling_probability: q.
        noise_multiplier: sigma of a step; of one site's share under M2 and M3.
        scaling_noise_multiplier: of the release before the first round; None where there is none.
        evaluations: how often models are judged on the hold-outs.
        evaluation_noise_multiplier: of each of these releases; None where there is none.
        figure_noise: deviation of one figure's noise in parts of its bound's width, with a fifth of all units held out;
            None where there is none.
        readings: what a unit pays, towards whom.
        groups: what somebody with many units may read from it; none where the unit is the person or the site.
        noise_ratio: noise over signal of the whole run (`mechanism.noise_to_signal`).
        noise_limit: above it the plan yields only noise.
        learns: whether it is not above.
        thresholds: of its knobs; None under M2 and M3, where sites share noise.
        c_max, n_plan, honest_shares: M2, M3: by which noise is shared (`releases.SharedNoise`); else None.
    """

    unit: Unit
    mechanism: str
    trust: str
    epsilon: float
    delta: float
    sites: int
    nominal_units: int
    rounds: int
    steps: int
    sampling_probability: float
    noise_multiplier: float
    scaling_noise_multiplier: float | None
    evaluations: int
    evaluation_noise_multiplier: float | None
    figure_noise: float | None
    readings: dict[Reading, ReadingCost]
    groups: tuple[Group, ...]
    noise_ratio: float
    noise_limit: float
    learns: bool
    thresholds: Thresholds | None
    c_max: int | None = None
    n_plan: int | None = None
    honest_shares: int | None = None


def explain(
    privacy: PrivacyBlock,
    strategy: LocalSteps,
    nominal_units: int,
    sites: int,
    evaluation: Evaluation | None = None,
) -> Explanation | Literal["NO DIFFERENTIAL PRIVACY"]:
    """The price of these blocks for a unit of each of so many sites.

    Raises:
        PlanError: JG-plan-020, delta too large. PrivacyError: JG-privacy-002, no noise is enough.
    """
    privacy = privacy.among(sites)
    made = mechanism(privacy, strategy, nominal_units, evaluation)
    if made is None:
        return NO_DIFFERENTIAL_PRIVACY
    promise, ratio = promise_of(made, privacy.charged_rounds(strategy.rounds)), noise_to_signal(made, sites)
    guarantee = promise.guarantee
    thresholds = (
        _Knobs(privacy, strategy, made, nominal_units, sites, evaluation).thresholds()
        if isinstance(made, LocalDpSgd)
        else None
    )
    steps = made.steps if isinstance(made, LocalDpSgd) else made.share
    constants, limit = promise.mechanism, noise_limit(made)
    return Explanation(
        unit=guarantee.unit,
        mechanism=promise.mechanism.name,
        trust=promise.trust,
        epsilon=guarantee.epsilon,
        delta=guarantee.delta,
        sites=sites,
        nominal_units=nominal_units,
        rounds=strategy.rounds,
        steps=steps.count,
        sampling_probability=steps.sampling_probability,
        noise_multiplier=steps.noise_multiplier,
        scaling_noise_multiplier=made.scaling.noise_multiplier if made.scaling else None,
        evaluations=made.evaluation.count if made.evaluation else 0,
        evaluation_noise_multiplier=made.evaluation.noise_multiplier if made.evaluation else None,
        figure_noise=figure_noise(made, len(evaluation.metrics), nominal_units, sites) if evaluation else None,
        readings={reading: _spent(promise.cost[reading], BUDGETS[reading], guarantee.delta) for reading in Reading},
        groups=tuple(group_promise(guarantee.epsilon, guarantee.delta, units) for units in _GROUPS)
        if guarantee.unit is Unit.EPISODE
        else (),
        noise_ratio=ratio,
        noise_limit=limit,
        learns=ratio <= limit,
        thresholds=thresholds,
        c_max=constants.c_max,
        n_plan=constants.n_plan,
        honest_shares=constants.honest_shares,
    )


def group_promise(epsilon: float, delta: float, units: int) -> Group:
    """What (epsilon, delta) for one unit is for so many: (k epsilon, delta (e^(k epsilon) - 1) / (e^epsilon - 1)).

    Group privacy (Dwork and Roth 2014, Theorem 2.2; Vadhan 2017, Lemma 2.2 with the sum in full).
    """
    total = units * epsilon
    # In logarithms: e^(k epsilon) is beyond floating point where nothing is left to promise.
    grown = total - epsilon + log(expm1(-total) / expm1(-epsilon)) if epsilon else log(units)
    whole = exp(min(0.0, log(delta) + grown))
    return Group(units=units, epsilon=total, delta=whole, promised=whole < 1.0)


def _spent(charge: Charge, budget: float, delta: float) -> ReadingCost:
    order = filter_order(budget, delta)
    divergence = renyi(charge.releases(), order)
    return ReadingCost(
        by_rounds=tuple(RoundCost(rounds=rounds, epsilon=epsilon) for rounds, epsilon in _by_rounds(charge, delta)),
        budget_epsilon=budget,
        order=order,
        renyi_divergence=divergence,
        filter_epsilon=epsilon_at(order, divergence, delta),
        budget_share=divergence / filter_budget(order, budget, delta),
    )


@cache
def _by_rounds(charge: Charge, delta: float) -> tuple[tuple[int, float], ...]:
    """Epsilon after parts of the rounds, on a coarse grid."""
    grid = _GRID * min(1.0, max(epsilon_rdp(charge.releases(), delta), _EPSILONS[0]))
    parts = sorted({ceil(part * charge.rounds) for part in _PARTS})
    return tuple((rounds, epsilon_pld(charge.releases(rounds), delta, grid)) for rounds in parts)


class _Knobs:
    """The keys of a plan, each turned alone until the noise is small enough."""

    def __init__(
        self,
        privacy: PrivacyBlock,
        strategy: LocalSteps,
        made: LocalDpSgd,
        units: int,
        sites: int,
        evaluation: Evaluation | None,
    ) -> None:
        self._epsilon, self._delta, self._share = float(privacy.epsilon), privacy.delta, privacy.scaling_share
        self._units, self._sites, self._made = units, sites, made
        self._batch, self._steps = strategy.batch, made.steps.count
        evaluations = made.evaluation.count if made.evaluation else 0
        self._evaluated = (evaluation.epsilon_share if evaluation else 0.0, evaluations)

    def thresholds(self) -> Thresholds:
        """Of each key; that of sites follows from the noise that the plan has."""
        noise_of_a_site = self._made.steps.noise_multiplier / (self._made.divisor * sqrt(self._steps))
        return Thresholds(
            epsilon=_lowest(lambda value: self._learns(epsilon=value)),
            sites=max(1, ceil((noise_of_a_site / NOISE_LIMIT) ** 2)),
            nominal_units=_fewest(lambda value: self._learns(units=value), int(1 / (10 * self._delta))),
            batch=_fewest(lambda value: self._learns(batch=value), self._units),
            scaling_share=_largest_share(lambda value: self._learns(share=value)),
        )

    def _learns(
        self,
        *,
        epsilon: float | None = None,
        units: int | None = None,
        batch: int | None = None,
        share: float | None = None,
    ) -> bool:
        """Whether the most noise that a plan may have, sigma = limit L sqrt(n T), keeps its epsilon."""
        epsilon, units = epsilon or self._epsilon, units or self._units
        share = self._share if share is None else share
        drawn = min(batch or self._batch, units)
        noise = NOISE_LIMIT * drawn * sqrt(self._sites * self._steps) / _SPARE
        releases = [GaussianRelease(noise, drawn / units, self._steps)]
        for part, count in ((share, 1), self._evaluated):
            if part:  # so many Gaussian releases are one with sqrt(count) times less noise
                alone = _gaussian_noise(part * epsilon, part * self._delta)
                releases.append(GaussianRelease(alone * sqrt(count), 1.0, count))
        loose = epsilon_rdp(releases, self._delta)
        if loose <= epsilon or loose > _LOOSE * epsilon:
            return loose <= epsilon
        return epsilon_pld(releases, self._delta, _GRID * min(1.0, epsilon)) <= epsilon


def _gaussian_noise(epsilon: float, delta: float) -> float:
    """The least noise multiplier of one Gaussian release at (epsilon, delta), exact where calibration is on a grid.

    Balle and Wang 2018 (arXiv 1805.06530), Theorem 8 with sensitivity 1:
    delta(sigma) = Phi(1/(2 sigma) - epsilon sigma) - e^epsilon Phi(-1/(2 sigma) - epsilon sigma).
    """

    def phi(value: float) -> float:
        return 0.5 * erfc(-value / sqrt(2.0))

    low, high = 1e-3, 1e9
    while high / low > 1.0 + 1e-6:
        noise = sqrt(low * high)
        left, right = 1.0 / (2.0 * noise), epsilon * noise
        kept = phi(left - right) - exp(epsilon) * phi(-left - right) <= delta
        low, high = (low, noise) if kept else (noise, high)
    return high


def _lowest(learns: Callable[[float], bool]) -> float | None:
    """The lowest epsilon to 1 %."""
    low, high = _EPSILONS
    if not learns(high):
        return None
    if learns(low):
        return low
    while high / low > 1.01:
        middle = sqrt(low * high)
        low, high = (low, middle) if learns(middle) else (middle, high)
    return high


def _fewest(learns: Callable[[int], bool], most: int) -> int | None:
    """The least whole number from 1 to `most`."""
    if most < 1 or not learns(most):
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if learns(middle) else (middle, high)
    return high


def _largest_share(learns: Callable[[float], bool]) -> float | None:
    """The largest share of epsilon and delta for scaling, in hundredths."""
    if not learns(0.0):
        return None
    low, high = 0, round(100 * _MOST_SHARE) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if learns(middle / 100) else (low, middle)
    return low / 100
