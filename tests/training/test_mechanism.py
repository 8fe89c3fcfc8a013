"""From a privacy block to a mechanism: public constants only, and never more than was asked."""

from dataclasses import replace
from math import exp, sqrt

import numpy as np
import pytest
from scipy.stats import norm

from jangin.errors import PlanError, PrivacyError
from jangin.plan.blocks import FedAvgBlock, PrivacyBlock
from jangin.privacy.accounting import epsilon_pld
from jangin.privacy.moments import moment_clip, moment_sum
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import (
    LocalDpSgd,
    MasterSum,
    Mechanism,
    Reading,
    Relation,
    SharedSum,
    Unit,
    honest_shares,
)
from jangin.training.mechanism import (
    MASTERS_NOISE_LIMIT,
    NOISE_LIMIT,
    mechanism,
    noise_to_signal,
    refuse_noise,
)

STRATEGY = FedAvgBlock(name="fedavg", rounds=6, local_steps=5, batch=20, lr=0.1)
UNITS = 200


def test_noise_is_found_where_what_stands_beside_has_spent_nearly_everything() -> None:
    block = FedAvgBlock(name="fedavg", rounds=20, local_steps=1, batch=UNITS, lr=0.1)
    found = mechanism(asked(epsilon=1.0, unit="episode", scaling_share=0.92), block, UNITS)
    assert isinstance(found, LocalDpSgd)
    assert found.guarantee.epsilon <= 1.0
    assert 40 < found.steps.noise_multiplier < 50


def asked(**block: object) -> PrivacyBlock:
    return PrivacyBlock.model_validate({"epsilon": 4.0, "unit": "master"} | block)


def m1(found: Mechanism | None) -> LocalDpSgd:
    assert isinstance(found, LocalDpSgd)
    return found


@pytest.fixture(scope="module")
def summed() -> MasterSum:
    found = mechanism(asked(mechanism="M3", epsilon=8.0, n_plan=60, scaling_share=0.2), STRATEGY, 5)
    assert isinstance(found, MasterSum)
    return found


ONE_STEP = FedAvgBlock(name="fedavg", rounds=30, local_steps=1, batch=20, lr=0.1)
EVERYBODY = ONE_STEP.model_copy(update={"batch": UNITS})  # whose noise is calibrated by the closed form, at once


@pytest.fixture(scope="module")
def gradients() -> SharedSum:
    settings = {"unit": "episode", "mechanism": "M2", "epsilon": 2.0, "n_plan": 20, "scaling_share": 0.2, "clip": 0.7}
    found = mechanism(asked(**settings), ONE_STEP, UNITS)
    assert isinstance(found, SharedSum)
    return found


@pytest.fixture(scope="module")
def made() -> LocalDpSgd:
    return m1(mechanism(asked(clip=0.7, windows_per_episode=3), STRATEGY, UNITS))


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
    found = m1(mechanism(asked(scaling_share=0), STRATEGY, UNITS))
    assert found.scaling is None
    assert found.steps.noise_multiplier < made.steps.noise_multiplier
    assert 0.98 * 4.0 <= found.guarantee.epsilon <= 4.0


def test_a_batch_larger_than_the_nominal_units_takes_everybody() -> None:
    found = m1(mechanism(asked(scaling_share=0), STRATEGY.model_copy(update={"batch": 1000}), UNITS))
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


def gaussian_delta(epsilon: float, noises: list[float]) -> float:
    """Balle and Wang 2018 (arXiv 1805.06530), Theorem 8: unsampled Gaussians are one, their 1 / sigma^2 added up."""
    mu = sqrt(sum(1 / noise**2 for noise in noises))
    return float(norm.cdf(mu / 2 - epsilon / mu) - exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu))


@pytest.mark.parametrize("reading", Reading)
def test_both_readings_of_m3_keep_what_they_say_by_the_closed_form(summed: MasterSum, reading: Reading) -> None:
    said = {Reading.SECURE_SUM: summed.guarantee, Reading.COALITION: summed.coalition}[reading]
    assert (said.unit, said.relation, said.delta) == (Unit.MASTER, Relation.ADD_OR_REMOVE, 1e-5)
    releases = summed.cost(STRATEGY.rounds)[reading].releases()
    noises = [release.noise_multiplier for release in releases for _ in range(release.count)]
    assert len(noises) == STRATEGY.rounds + 1
    assert gaussian_delta(said.epsilon, noises) <= said.delta
    assert gaussian_delta(0.995 * said.epsilon, noises) > said.delta


def test_a_share_of_m3_is_no_smaller_than_either_reading_asks(summed: MasterSum) -> None:
    assert summed.honest == 2 * 60 // 3 + 1 - 3
    assert (summed.masters, summed.sites, summed.share.sampling_probability) == (5, 60, 1.0)
    assert summed.guarantee.epsilon <= 8.0
    assert summed.coalition.epsilon <= 50.0
    # The coalition's bound is the tighter one here; with nearly none of its own, the sum's is.
    assert summed.coalition.epsilon > 0.98 * 50.0
    loose = mechanism(asked(mechanism="M3", epsilon=1.0, n_plan=60, scaling_share=0), STRATEGY, 5)
    assert isinstance(loose, MasterSum)
    assert 0.98 <= loose.guarantee.epsilon <= 1.0
    assert loose.guarantee.epsilon < loose.coalition.epsilon < 50.0


@pytest.mark.parametrize(("sites", "honest"), [(1, 1), (3, 1), (6, 2), (10, 4), (20, 11), (60, 38)])
def test_honest_shares_are_those_of_two_thirds_less_the_dishonest_and_ones_own(sites: int, honest: int) -> None:
    assert honest_shares(sites, 3) == honest


def test_a_site_by_itself_adds_all_of_the_noise(summed: MasterSum) -> None:
    alone = mechanism(asked(mechanism="M3", epsilon=8.0, scaling_share=0), STRATEGY, 10)
    assert isinstance(alone, MasterSum)
    assert alone.guarantee == alone.coalition
    assert 0.98 * 8.0 <= alone.guarantee.epsilon <= 8.0
    refuse_noise(summed, 60)
    with pytest.raises(PrivacyError) as refused:
        refuse_noise(alone, 1)
    ratio = alone.share.noise_multiplier / (10 * sqrt(STRATEGY.rounds))
    expected = {"ratio": ratio, "masters": 10, "sites": 1, "limit": MASTERS_NOISE_LIMIT}
    assert refused.value.code == "JG-privacy-016"
    assert refused.value.coded.values == pytest.approx(expected | {"enough": refused.value.coded.values["enough"]})
    enough = replace(alone, masters=refused.value.coded.values["enough"])
    refuse_noise(enough, 1)
    with pytest.raises(PrivacyError, match="JG-privacy-016"):
        refuse_noise(replace(enough, masters=enough.masters - 1), 1)


def by_dp_accounting(noises: dict[float, int], q: float, delta: float) -> tuple[float, float]:
    """Epsilon from below and above by privacy loss distributions on a grid of our own choice, of 1e-3.

    Args:
        noises: of the sampled releases, with how often; the one of moments, q = 1, is at 0.
        q: of the others.
        delta: at which.
    """
    from dp_accounting.pld import privacy_loss_distribution as pld

    bounds = []
    for pessimistic in (False, True):
        whole = pld.identity(1e-3, pessimistic_estimate=pessimistic)
        for number, (noise, count) in enumerate(noises.items()):
            one = pld.from_gaussian_mechanism(
                noise,
                pessimistic_estimate=pessimistic,
                value_discretization_interval=1e-3,
                sampling_prob=q if number else 1.0,
                use_connect_dots=pessimistic,
            )
            whole = whole.compose(one.self_compose(count))
        bounds.append(float(whole.get_epsilon_for_delta(delta)))
    return bounds[0], bounds[1]


@pytest.mark.parametrize("reading", Reading)
def test_both_readings_of_m2_are_sampled_gaussians_of_the_shares_that_count(
    gradients: SharedSum, reading: Reading
) -> None:
    """PoissonSampled(q, Gaussian(sqrt(H) z_site)) towards the server, PoissonSampled(q, Gaussian(z_site)) for all."""
    shares = {Reading.SECURE_SUM: 11, Reading.COALITION: 1}[reading]
    said = {Reading.SECURE_SUM: gradients.guarantee, Reading.COALITION: gradients.coalition}[reading]
    assert gradients.scaling is not None
    opening = gradients.scaling.noise_multiplier * sqrt(shares)
    each = gradients.share.noise_multiplier * sqrt(shares)
    low, high = by_dp_accounting({opening: 1, each: ONE_STEP.rounds}, 20 / UNITS, said.delta)
    assert low <= said.epsilon <= 1.01 * high
    charge = gradients.cost(ONE_STEP.rounds)[reading]
    assert (charge.unit, said.unit, said.relation) == (Unit.EPISODE, Unit.EPISODE, Relation.ADD_OR_REMOVE)
    assert charge.for_episodes() == charge
    (first,), (one,) = charge.opening, charge.each_round
    assert (first.noise_multiplier, first.sampling_probability, first.count) == (pytest.approx(opening), 1.0, 1)
    assert (one.noise_multiplier, one.sampling_probability, one.count) == (pytest.approx(each), 20 / UNITS, 1)


def test_constants_of_m2_follow_from_the_plan_and_its_share_from_the_tighter_reading(gradients: SharedSum) -> None:
    assert (gradients.clip, gradients.windows, gradients.divisor) == (0.7, 4, 20.0)
    assert (gradients.sites, gradients.c_max, gradients.n_min_final, gradients.honest) == (20, 3, 14, 11)
    assert 0.98 * 2.0 <= gradients.guarantee.epsilon <= 2.0
    settings = {"unit": "episode", "mechanism": "M2", "epsilon": 50.0, "n_plan": 20, "scaling_share": 0}
    tight = mechanism(asked(**settings, coalition_epsilon=2.0), ONE_STEP, UNITS)
    assert isinstance(tight, SharedSum)
    assert 0.98 * 2.0 <= tight.coalition.epsilon <= 2.0
    assert tight.guarantee.epsilon < 2.0


def test_m2_spares_a_site_the_root_of_the_honest_shares_of_the_noise_that_m1_adds() -> None:
    settings = {"unit": "episode", "epsilon": 1.0, "scaling_share": 0}
    alone = m1(mechanism(asked(**settings), ONE_STEP, UNITS))
    shared = mechanism(asked(**settings, mechanism="M2", n_plan=20), ONE_STEP, UNITS)
    assert isinstance(shared, SharedSum)
    assert alone.steps.noise_multiplier / shared.share.noise_multiplier == pytest.approx(sqrt(11), rel=1e-9)
    assert noise_to_signal(alone, 20) / noise_to_signal(shared, 20) == pytest.approx(sqrt(11), rel=1e-9)


def test_spare_rounds_are_part_of_what_is_calibrated() -> None:
    settings = {"unit": "episode", "epsilon": 2.0, "scaling_share": 0, "secure_aggregation": "required"}
    found = mechanism(asked(**settings, mechanism="M2", n_plan=20), EVERYBODY, UNITS)
    assert isinstance(found, SharedSum)
    assert found.share.count == 30 + 2
    found.cost(32)
    with pytest.raises(ValueError, match="30"):
        found.cost(30)
    five_steps = EVERYBODY.model_copy(update={"rounds": 6, "local_steps": 5})
    alone = m1(mechanism(asked(**settings, spare_rounds=4), five_steps, UNITS))
    assert alone.steps.count == (6 + 4) * 5
    assert alone.cost(10)[Reading.SECURE_SUM].each_round[0].count == 5


@pytest.mark.parametrize(("n_min_final", "honest"), [(1, 4), (7, 4), (9, 6), (10, 7)])
def test_a_higher_floor_of_survivors_promises_more_honest_shares(n_min_final: int, honest: int) -> None:
    assert honest_shares(10, 3, n_min_final) == honest


def test_delta_of_m2_counts_the_episodes_of_all_sites() -> None:
    settings = {"unit": "episode", "mechanism": "M2", "scaling_share": 0}
    with pytest.raises(PlanError, match="JG-plan-020"):
        mechanism(asked(**settings, delta=1e-4, n_plan=20), ONE_STEP, UNITS)
    mechanism(asked(**settings, delta=1e-4, n_plan=5), EVERYBODY, UNITS)


def test_a_plan_of_m2_that_could_only_yield_noise_is_refused_by_the_limit_of_gradients(gradients: SharedSum) -> None:
    noise = NOISE_LIMIT * gradients.divisor * sqrt(20 * ONE_STEP.rounds)
    refuse_noise(replace(gradients, share=replace(gradients.share, noise_multiplier=0.999 * noise)), 20)
    with pytest.raises(PrivacyError, match="JG-privacy-005"):
        refuse_noise(replace(gradients, share=replace(gradients.share, noise_multiplier=1.001 * noise)), 20)


def test_delta_of_m3_counts_the_masters_of_all_sites() -> None:
    with pytest.raises(PlanError, match="JG-plan-020"):
        mechanism(asked(mechanism="M3", delta=1e-3, n_plan=60), STRATEGY, 5)
    mechanism(asked(mechanism="M3", delta=1e-3, n_plan=20, scaling_share=0), STRATEGY, 5)
