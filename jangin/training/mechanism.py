"""From a privacy block to the mechanism that runs: every constant public, the noise calibrated once."""

from dataclasses import replace
from functools import cache
from math import ceil, sqrt

from jangin.errors import PrivacyError
from jangin.plan.blocks import LocalSteps, PrivacyBlock, check_delta
from jangin.plan.training_plan import Evaluation
from jangin.privacy.accounting import calibrate, epsilon_pld
from jangin.privacy.losses import loss_deviation
from jangin.privacy.releases import (
    GaussianRelease,
    Guarantee,
    LocalDpSgd,
    MasterSum,
    Mechanism,
    Relation,
    SharedNoise,
    SharedSum,
    Unit,
    honest_shares,
    together,
)
from jangin.privacy.secure_sum.policy import threshold

__all__ = [
    "FIGURE_LIMIT",
    "MASTERS_NOISE_LIMIT",
    "NOISE_LIMIT",
    "figure_noise",
    "mechanism",
    "noise_limit",
    "noise_to_signal",
    "refuse_noise",
    "refuse_vague_figures",
]

NOISE_LIMIT = 0.07
"""Most `noise_to_signal` of a plan that is run without asking; measured in docs/decisions/0006 for M1, 0018 for M2."""
MASTERS_NOISE_LIMIT = 0.008
"""The same for M3; measured in docs/decisions/0015."""
FIGURE_LIMIT = 0.1
"""Most noise of a figure on hold-outs, in parts of its bound's width; docs/decisions/0020."""
HELD_OUT_PART = 0.25
"""Units of a site's hold-out for one that it trains on: a fifth of all is set aside (records/split.py)."""


@cache
def mechanism(
    privacy: PrivacyBlock, strategy: LocalSteps, nominal_units: int, evaluation: Evaluation | None = None
) -> Mechanism | None:
    """The mechanism of these blocks; None where epsilon is none.

    The release for scaling and those of all evaluations are each calibrated to their shares of epsilon and delta; the
    rest then to what the whole, composed with them, leaves; spare rounds are counted. M1: sigma from (q, T, epsilon,
    delta), q = min(1, batch / nominal_units), T = rounds * local_steps. M2, M3: z from (q, rounds, epsilon, delta), q =
    1 under M3, of which each site adds the share max(z / sqrt(H), floor) of H = `honest_shares`; the floor keeps
    `coalition_epsilon` with a single share.

    Raises:
        PlanError: JG-plan-020, delta too large. PrivacyError: JG-privacy-002, no noise is enough.
    """
    if privacy.epsilon == "none":
        return None
    check_delta(privacy.delta, privacy.sharing_sites * nominal_units)
    match privacy.mechanism:
        case "M1":
            return _local(privacy, strategy, nominal_units, privacy.epsilon, evaluation)
        case "M2":
            q = min(1.0, strategy.batch / nominal_units)
            shared = _shared(privacy, Unit.EPISODE, q, strategy.rounds, privacy.epsilon, evaluation)
            return SharedSum(**vars(shared), divisor=q * nominal_units, windows=privacy.windows_per_episode)
        case "M3":
            shared = _shared(privacy, Unit.MASTER, 1.0, strategy.rounds, privacy.epsilon, evaluation)
            return MasterSum(**vars(shared), masters=nominal_units)
        case _:
            raise ValueError(f"Expected a mechanism: {privacy.mechanism!r}.")


def _local(
    privacy: PrivacyBlock, strategy: LocalSteps, nominal_units: int, epsilon: float, evaluation: Evaluation | None
) -> LocalDpSgd:
    q = min(1.0, strategy.batch / nominal_units)
    count = privacy.charged_rounds(strategy.rounds) * strategy.local_steps
    beside = _beside(privacy, epsilon, evaluation, strategy.rounds)
    steps = calibrate(epsilon, privacy.delta, q, count, _given(*beside))
    return LocalDpSgd(
        unit=privacy.unit,
        clip=privacy.clip,
        steps=steps,
        divisor=q * nominal_units,
        windows=privacy.windows_per_episode,
        scaling=beside[0],
        guarantee=_promised(privacy, privacy.unit, epsilon, steps, *_given(*beside)),
        evaluation=beside[1],
    )


def _shared(
    privacy: PrivacyBlock, unit: Unit, q: float, rounds: int, epsilon: float, evaluation: Evaluation | None
) -> SharedNoise:
    """Shares of noise that keep epsilon with H of them and `coalition_epsilon` with one."""
    sites, count = privacy.sharing_sites, privacy.charged_rounds(rounds)
    n_min_final = privacy.n_min_final or threshold(sites)
    honest = honest_shares(sites, privacy.c_max, n_min_final)

    def calibrated(epsilon: float) -> tuple[GaussianRelease, GaussianRelease | None, GaussianRelease | None]:
        beside = _beside(privacy, epsilon, evaluation, rounds)
        return calibrate(epsilon, privacy.delta, q, count, _given(*beside)), *beside

    whole, least = calibrated(epsilon), calibrated(privacy.coalition_epsilon)
    share = _share(whole[0], honest, least[0])
    scaling, evaluating = (
        _share(one, honest, floor) if one and floor else None for one, floor in zip(whole[1:], least[1:], strict=True)
    )

    def promised(epsilon: float, shares: int) -> Guarantee:
        return _promised(privacy, unit, epsilon, *(together(one, shares) for one in _given(share, scaling, evaluating)))

    return SharedNoise(
        clip=privacy.clip,
        share=share,
        sites=sites,
        c_max=privacy.c_max,
        n_min_final=n_min_final,
        scaling=scaling,
        guarantee=promised(epsilon, honest),
        coalition=promised(privacy.coalition_epsilon, 1),
        evaluation=evaluating,
    )


def _beside(
    privacy: PrivacyBlock, epsilon: float, evaluation: Evaluation | None, rounds: int
) -> tuple[GaussianRelease | None, GaussianRelease | None]:
    """The release of moments, and those of all evaluations: each keeps its share of epsilon and delta."""

    def of(share: float, count: int) -> GaussianRelease | None:
        return calibrate(share * epsilon, share * privacy.delta, 1.0, count) if share else None

    evaluating = of(evaluation.epsilon_share, len(evaluation.rounds(rounds))) if evaluation else None
    return of(privacy.scaling_share, 1), evaluating


def _given(*releases: GaussianRelease | None) -> list[GaussianRelease]:
    """Those that there are."""
    return [release for release in releases if release is not None]


def _share(whole: GaussianRelease, honest: int, least: GaussianRelease) -> GaussianRelease:
    return replace(whole, noise_multiplier=max(whole.noise_multiplier / sqrt(honest), least.noise_multiplier))


def _promised(privacy: PrivacyBlock, unit: Unit, epsilon: float, *releases: GaussianRelease) -> Guarantee:
    """What they spend together, checked against what was asked."""
    spent = epsilon_pld(releases, privacy.delta)
    if spent > epsilon:
        raise PrivacyError("JG-privacy-002", where="privacy.epsilon", epsilon=epsilon, delta=privacy.delta)
    return Guarantee(unit, Relation.ADD_OR_REMOVE, spent, privacy.delta)


def noise_to_signal(mechanism: Mechanism, sites: int) -> float:
    """Noise over the largest signal of a whole run along any one direction: sigma / (L sqrt(n T)).

    The mean of T releases of n sites carries noise of deviation sigma C / (L sqrt(n T)) in every coordinate, and a
    vector of norm C at most; under M2 and M3 sigma is one site's share, and under M3 L the public number of its
    masters. The number of parameters does not enter: models of 43, 705 and 6,977 parameters were measured to fail at
    the same value (docs/decisions/0006).
    """
    match mechanism:
        case LocalDpSgd():
            release, divisor = mechanism.steps, mechanism.divisor
        case SharedSum():
            release, divisor = mechanism.share, mechanism.divisor
        case MasterSum():
            release, divisor = mechanism.share, float(mechanism.masters)
        case _:
            raise TypeError(f"Expected a mechanism: {mechanism!r}.")
    return release.noise_multiplier / (divisor * sqrt(sites * release.count))


def noise_limit(mechanism: Mechanism) -> float:
    """The most `noise_to_signal` of a plan that is run without asking."""
    return MASTERS_NOISE_LIMIT if isinstance(mechanism, MasterSum) else NOISE_LIMIT


def refuse_noise(mechanism: Mechanism, sites: int) -> None:
    """Refuse a plan that could only yield noise.

    Raises:
        PrivacyError: JG-privacy-005, `noise_to_signal` above `NOISE_LIMIT`; JG-privacy-016, under M3 above
            `MASTERS_NOISE_LIMIT`.
    """
    ratio, limit = noise_to_signal(mechanism, sites), noise_limit(mechanism)
    if ratio <= limit:
        return
    if isinstance(mechanism, MasterSum):
        enough = ceil(ratio * mechanism.masters * sites / limit)
        masters = mechanism.masters
        raise PrivacyError(
            "JG-privacy-016", where="privacy", ratio=ratio, masters=masters, sites=sites, limit=limit, enough=enough
        )
    raise PrivacyError("JG-privacy-005", where="privacy", ratio=ratio, sites=sites, limit=limit)


def figure_noise(mechanism: Mechanism | None, metrics: int, nominal_units: int, sites: int) -> float:
    """Standard deviation of the noise in one figure on hold-outs, in parts of its bound's width (`loss_deviation`).

    For as many units on a site's hold-out as a site of so many training units has.
    """
    release = mechanism.evaluation if mechanism else None
    return loss_deviation(release, metrics, HELD_OUT_PART * nominal_units * sites, sites)


def refuse_vague_figures(mechanism: Mechanism, metrics: int, nominal_units: int, sites: int) -> None:
    """Refuse a plan whose evaluations would show nothing but noise.

    Raises:
        PrivacyError: JG-privacy-037, `figure_noise` above `FIGURE_LIMIT`.
    """
    noise = figure_noise(mechanism, metrics, nominal_units, sites)
    if noise > FIGURE_LIMIT:
        raise PrivacyError(
            "JG-privacy-037",
            where="evaluate",
            noise=noise,
            limit=FIGURE_LIMIT,
            sites=sites,
            enough=ceil(sites * (noise / FIGURE_LIMIT) ** 2),
            units=ceil(nominal_units * noise / FIGURE_LIMIT),
        )
