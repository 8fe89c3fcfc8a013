"""From a privacy block to the mechanism that runs: every constant public, the noise calibrated once."""

from functools import cache
from math import sqrt

from jangin.errors import PrivacyError
from jangin.plan.blocks import LocalSteps, PrivacyBlock, check_delta
from jangin.privacy.accounting import calibrate, epsilon_pld
from jangin.privacy.releases import GaussianRelease, Guarantee, LocalDpSgd, Relation

__all__ = ["NOISE_LIMIT", "mechanism", "noise_to_signal", "refuse_noise"]

NOISE_LIMIT = 0.07
"""Most `noise_to_signal` of a plan that is run without asking; measured in docs/decisions/0006."""


@cache
def mechanism(privacy: PrivacyBlock, strategy: LocalSteps, nominal_units: int) -> LocalDpSgd | None:
    """M1 for these blocks; None where epsilon is none.

    The scaling release is calibrated to its share of epsilon and delta alone; the steps then to what the whole,
    composed with it, leaves: sigma from (q, T, epsilon, delta), q = min(1, batch / nominal_units),
    T = rounds * local_steps.

    Raises:
        PlanError: JG-plan-020, delta too large. PrivacyError: JG-privacy-002, no noise is enough.
    """
    if privacy.epsilon == "none":
        return None
    check_delta(privacy.delta, nominal_units)
    q = min(1.0, strategy.batch / nominal_units)
    share = privacy.scaling_share
    scaling = calibrate(share * privacy.epsilon, share * privacy.delta, 1.0, 1) if share else None
    beside: list[GaussianRelease] = [scaling] if scaling else []
    steps = calibrate(privacy.epsilon, privacy.delta, q, strategy.rounds * strategy.local_steps, beside)
    spent = epsilon_pld([steps, *beside], privacy.delta)
    if spent > privacy.epsilon:
        raise PrivacyError("JG-privacy-002", where="privacy.epsilon", epsilon=privacy.epsilon, delta=privacy.delta)
    return LocalDpSgd(
        unit=privacy.unit,
        clip=privacy.clip,
        steps=steps,
        divisor=q * nominal_units,
        windows=privacy.windows_per_episode,
        scaling=scaling,
        guarantee=Guarantee(privacy.unit, Relation.ADD_OR_REMOVE, spent, privacy.delta),
    )


def noise_to_signal(mechanism: LocalDpSgd, sites: int) -> float:
    """Noise over the largest signal of a whole run along any one direction: sigma / (L sqrt(n T)).

    The mean of T steps and n sites carries noise of deviation sigma C / (L sqrt(n T)) in every coordinate, and a
    gradient of norm C at most. The number of parameters does not enter: models of 43, 705 and 6,977 parameters were
    measured to fail at the same value (docs/decisions/0006).
    """
    return mechanism.steps.noise_multiplier / (mechanism.divisor * sqrt(sites * mechanism.steps.count))


def refuse_noise(mechanism: LocalDpSgd, sites: int) -> None:
    """Refuse a plan that could only yield noise.

    Raises:
        PrivacyError: JG-privacy-005, `noise_to_signal` above `NOISE_LIMIT`.
    """
    ratio = noise_to_signal(mechanism, sites)
    if ratio > NOISE_LIMIT:
        raise PrivacyError("JG-privacy-005", where="privacy", ratio=ratio, sites=sites, limit=NOISE_LIMIT)
