"""From a privacy block to a mechanism: public constants only, and never more than was asked."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from jangin.errors import PlanError, PrivacyError
from jangin.plan.blocks import FedAvgBlock, PrivacyBlock
from jangin.privacy.accounting import epsilon_pld
from jangin.privacy.moments import moment_clip, moment_sum
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import LocalDpSgd, Relation, Unit
from jangin.training.mechanism import NOISE_LIMIT, mechanism, noise_to_signal, refuse_noise

STRATEGY = FedAvgBlock(name="fedavg", rounds=6, local_steps=5, batch=20, lr=0.1)
UNITS = 200


def asked(**block: object) -> PrivacyBlock:
    return PrivacyBlock.model_validate({"epsilon": 4.0, "unit": "master"} | block)


@pytest.fixture(scope="module")
def made() -> LocalDpSgd:
    found = mechanism(asked(clip=0.7, windows_per_episode=3), STRATEGY, UNITS)
    assert found is not None
    return found


def test_no_epsilon_is_no_mechanism() -> None:
    assert mechanism(PrivacyBlock(), STRATEGY, UNITS) is None


def test_every_constant_follows_from_the_plan(made: LocalDpSgd) -> None:
    assert made.steps.sampling_probability == 20 / UNITS
    assert made.steps.count == 6 * 5
    assert made.divisor == 20.0
    assert (made.unit, made.clip, made.windows) == (Unit.MASTER, 0.7, 3)
    assert (made.guarantee.unit, made.guarantee.relation) == (Unit.MASTER, Relation.ADD_OR_REMOVE)


def test_epsilon_is_what_was_asked_within_two_percent_and_never_more(made: LocalDpSgd) -> None:
    assert made.scaling is not None
    assert made.guarantee.delta == 1e-5
    assert 0.98 * 4.0 <= made.guarantee.epsilon <= 4.0
    assert made.guarantee.epsilon == epsilon_pld([made.steps, made.scaling], 1e-5)


def test_scaling_spends_its_share_and_no_more(made: LocalDpSgd) -> None:
    assert made.scaling is not None
    assert (made.scaling.sampling_probability, made.scaling.count) == (1.0, 1)
    assert 0.98 * 0.4 <= epsilon_pld([made.scaling], 1e-6) <= 0.4


def test_without_scaling_its_share_goes_to_the_steps(made: LocalDpSgd) -> None:
    found = mechanism(asked(scaling_share=0), STRATEGY, UNITS)
    assert found is not None
    assert found.scaling is None
    assert found.steps.noise_multiplier < made.steps.noise_multiplier
    assert 0.98 * 4.0 <= found.guarantee.epsilon <= 4.0


def test_a_batch_larger_than_the_nominal_units_takes_everybody() -> None:
    found = mechanism(asked(scaling_share=0), STRATEGY.model_copy(update={"batch": 1000}), UNITS)
    assert found is not None
    assert found.steps.sampling_probability == 1.0
    assert found.divisor == UNITS


@pytest.mark.parametrize("units", [10, 10_000])
def test_delta_is_at_most_a_tenth_of_a_unit(units: int) -> None:
    delta = 1.01 / (10 * units)
    with pytest.raises(PlanError) as refused:
        mechanism(asked(delta=delta), STRATEGY, units)
    assert refused.value.code == "JG-plan-020"
    assert refused.value.coded.where == "privacy.delta"
    assert f"{delta:g}" in str(refused.value)


def test_a_share_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(PrivacyError, match="JG-privacy-002"):
        mechanism(asked(epsilon=1e-3, delta=1e-300), STRATEGY, UNITS)


def test_noise_to_signal_is_the_noise_along_one_direction_of_a_mean_over_steps_and_sites(made: LocalDpSgd) -> None:
    random, sites, steps = SecureRandom(), 3, made.steps.count
    noise = random.gaussian(2000 * sites * steps).reshape(2000, -1).mean(axis=1)
    deviation = noise.std() * made.steps.noise_multiplier * made.clip / made.divisor
    assert noise_to_signal(made, sites) == pytest.approx(deviation / made.clip, rel=0.08)


def test_a_plan_that_could_only_yield_noise_is_refused_with_its_ratio(made: LocalDpSgd) -> None:
    noise = NOISE_LIMIT * made.divisor * sqrt(made.steps.count)
    at_the_limit, twice = (
        replace(made, steps=replace(made.steps, noise_multiplier=factor * noise)) for factor in (0.999, 2.0)
    )
    refuse_noise(at_the_limit, sites=1)
    refuse_noise(twice, sites=5)
    with pytest.raises(PrivacyError) as refused:
        refuse_noise(twice, sites=1)
    assert refused.value.code == "JG-privacy-005"
    assert refused.value.coded.values == {"ratio": pytest.approx(2 * NOISE_LIMIT), "sites": 1, "limit": NOISE_LIMIT}
    assert str(refused.value)


def test_the_scaling_release_is_priced_for_the_clip_it_is_run_with(made: LocalDpSgd) -> None:
    noise = np.stack(
        [moment_sum(np.empty((0, 2)), np.empty(0, np.int64), made.scaling, SecureRandom()) for _ in range(2000)]
    )
    assert made.scaling is not None
    assert noise.std() / moment_clip(2) == pytest.approx(made.scaling.noise_multiplier, rel=5 / sqrt(2 * noise.size))
