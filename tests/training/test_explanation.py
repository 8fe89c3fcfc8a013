"""Laws of the explanation: its figures are the mechanism's, and at each threshold a plan just learns."""

from math import exp
from typing import Any

import pytest
from scipy.stats import norm

from jangin.plan.blocks import FedAvgBlock, PrivacyBlock
from jangin.privacy.accounting import epsilon_pld
from jangin.privacy.releases import Reading, SharedSum
from jangin.training.explanation import Explanation, explain, group_promise
from jangin.training.mechanism import NOISE_LIMIT, mechanism, noise_to_signal

UNITS, SITES = 50, 3
PRIVACY = PrivacyBlock(epsilon=2, delta=1e-4, nominal_units=UNITS, scaling_share=0.0)
STRATEGY = FedAvgBlock(name="fedavg", rounds=8, local_steps=2, batch=UNITS, lr=0.1)


def explained(**changes: Any) -> Explanation:
    found = explain(PRIVACY.model_copy(update=changes), STRATEGY, UNITS, SITES)
    assert isinstance(found, Explanation)
    return found


def ratio(epsilon: float, units: int = UNITS, sites: int = SITES, batch: int = UNITS, share: float = 0.0) -> float:
    block = PRIVACY.model_copy(update={"epsilon": epsilon, "scaling_share": share})
    made = mechanism(block, STRATEGY.model_copy(update={"batch": batch}), units)
    assert made is not None
    return noise_to_signal(made, sites)


def test_without_an_epsilon_there_is_nothing_to_explain() -> None:
    assert explain(PRIVACY.model_copy(update={"epsilon": "none"}), STRATEGY, UNITS, SITES) == "NO DIFFERENTIAL PRIVACY"


def test_what_is_explained_is_what_would_run() -> None:
    found, made = explained(), mechanism(PRIVACY, STRATEGY, UNITS)
    assert made is not None
    assert (found.epsilon, found.noise_multiplier) == (made.guarantee.epsilon, made.steps.noise_multiplier)
    assert (found.steps, found.sampling_probability, found.scaling_noise_multiplier) == (16, 1.0, None)
    assert found.noise_ratio == noise_to_signal(made, SITES)
    for reading, cost in found.readings.items():
        assert [part.rounds for part in cost.by_rounds] == [2, 4, 6, 8]
        for part in cost.by_rounds:
            spent = epsilon_pld(made.cost(8)[reading].releases(part.rounds), 1e-4)
            assert part.epsilon == pytest.approx(spent, rel=1e-3)
        assert cost.filter_epsilon >= found.epsilon
    assert found.readings[Reading.SECURE_SUM].budget_epsilon == 8
    assert found.readings[Reading.SECURE_SUM].budget_share < 1


@pytest.mark.parametrize("n_plan", [20, None])
def test_shared_noise_is_explained_by_its_share_and_the_shares_that_count(n_plan: int | None) -> None:
    sharing = {"mechanism": "M2", "n_plan": n_plan, "delta": 1e-5, "secure_aggregation": "required"}
    block, one_step = PRIVACY.model_copy(update=sharing), STRATEGY.model_copy(update={"local_steps": 1})
    found, made = explain(block, one_step, UNITS, 20), mechanism(block.among(20), one_step, UNITS)
    assert isinstance(found, Explanation)
    assert isinstance(made, SharedSum)
    assert (found.mechanism, found.trust, found.noise_multiplier) == ("M2", "secure_sum", made.share.noise_multiplier)
    assert (found.c_max, found.n_plan, found.honest_shares) == (3, 20, 11)
    assert (found.rounds, found.steps) == (8, 10)  # two of them spare
    assert (found.noise_limit, found.learns, found.thresholds) == (NOISE_LIMIT, True, None)
    for reading, said in ((Reading.SECURE_SUM, made.guarantee), (Reading.COALITION, made.coalition)):
        assert found.readings[reading].by_rounds[-1].epsilon == pytest.approx(said.epsilon, rel=1e-3)
    assert found.readings[Reading.COALITION].budget_epsilon == 50


def test_at_each_threshold_the_plan_learns_and_just_beside_it_there_is_only_noise() -> None:
    limits = explained().thresholds
    assert limits.epsilon is not None
    assert limits.nominal_units is not None
    assert limits.sites is not None
    assert ratio(limits.epsilon) <= NOISE_LIMIT < ratio(0.97 * limits.epsilon)
    # Fewer units than a step draws are all drawn: the noise stays as it is and the signal shrinks.
    assert ratio(2, units=limits.nominal_units) <= NOISE_LIMIT < ratio(2, units=limits.nominal_units - 1)
    assert ratio(2, sites=limits.sites) <= NOISE_LIMIT
    assert limits.sites == 1 or ratio(2, sites=limits.sites - 1) > NOISE_LIMIT


def test_a_batch_and_a_share_have_thresholds_too() -> None:
    found = explained(epsilon=0.8).thresholds
    assert found.batch is not None
    assert found.scaling_share is not None
    assert ratio(0.8, batch=found.batch) <= NOISE_LIMIT < ratio(0.8, batch=int(0.95 * found.batch) - 1)
    assert ratio(0.8, share=found.scaling_share) <= NOISE_LIMIT < ratio(0.8, share=found.scaling_share + 0.02)


def test_a_plan_that_no_key_mends_alone_says_so() -> None:
    found = explain(PRIVACY.model_copy(update={"epsilon": 0.01}), STRATEGY, 2, 1)
    assert isinstance(found, Explanation)
    assert not found.learns
    limits = found.thresholds
    assert (limits.batch, limits.scaling_share) == (None, None)
    assert limits.sites is not None
    assert limits.sites > 1000


@pytest.mark.parametrize("noise", [1.0, 5.0, 30.0])
@pytest.mark.parametrize("units", [1, 3, 10])
def test_a_group_is_promised_no_more_than_is_true_of_one_gaussian(noise: float, units: int) -> None:
    """Balle and Wang 2018 (arXiv 1805.06530), Theorem 8: k units move the sum by k clips."""

    def delta(epsilon: float, shift: float) -> float:
        left, right = shift / (2 * noise), epsilon * noise / shift
        return float(norm.cdf(left - right) - exp(epsilon) * norm.cdf(-left - right))

    epsilon = 1.0
    group = group_promise(epsilon, delta(epsilon, 1.0), units)
    assert group.epsilon == units * epsilon
    assert group.delta >= delta(units * epsilon, units) * (1 - 1e-9)
    assert group.promised == (group.delta < 1)
    if units == 1:
        assert group.delta == pytest.approx(delta(epsilon, 1.0))


def test_a_master_with_many_episodes_is_promised_nothing() -> None:
    assert [group.units for group in explained().groups] == [10, 100]
    assert not group_promise(8.0, 1e-5, 100).promised
    assert group_promise(8.0, 1e-5, 100).delta == 1.0
