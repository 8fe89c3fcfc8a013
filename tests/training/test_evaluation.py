"""Laws of evaluations: paid for in full, right on what was held out, and one vector is all that leaves."""

from dataclasses import replace
from math import inf, nan, sqrt
from typing import Any

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant

from jangin.errors import PrivacyError
from jangin.models.spec import LinearSpec
from jangin.models.tasks import Task
from jangin.plan.blocks import FedAvgBlock, PrivacyBlock
from jangin.plan.messages import Kind, Order
from jangin.plan.training_plan import Evaluation
from jangin.privacy.losses import loss_clip
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.recount import Verdict, confirm, recount
from jangin.privacy.releases import GaussianRelease, Guarantee, LocalDpSgd, Mechanism, Reading, Relation, Unit
from jangin.privacy.statement import Deployment, promise_of, state
from jangin.records.examples import Examples, PublicRange
from jangin.training.evaluation import Evaluator, figures
from jangin.training.explanation import Explanation, explain
from jangin.training.mechanism import FIGURE_LIMIT, figure_noise, mechanism, refuse_vague_figures
from jangin.training.recipe import Recipe
from jangin.training.summing import Summing

STRATEGY = FedAvgBlock(name="fedavg", rounds=6, local_steps=1, batch=20, lr=0.1)
BOTH = Evaluation(metrics=("mae", "rmse", "mse"), bound=(0.0, 3.0), every=4, epsilon_share=0.2)
UNITS, SITES = 40, 6


def block(name: str = "M1", **changes: object) -> PrivacyBlock:
    shared = {} if name == "M1" else {"n_plan": 20, "secure_aggregation": "required", "coalition_epsilon": 20.0}
    unit = "master" if name == "M3" else "episode"
    given = {"mechanism": name, "unit": unit, "epsilon": 4.0, "delta": 1e-5, "nominal_units": UNITS, **shared}
    return PrivacyBlock.model_validate(given | changes)


def made_of(privacy: PrivacyBlock, evaluation: Evaluation | None = BOTH) -> Mechanism:
    found = mechanism(privacy, STRATEGY, UNITS, evaluation)
    assert found is not None
    return found


@pytest.fixture(scope="module", params=["M1", "M2", "M3"])
def made(request: Any) -> Mechanism:
    return made_of(block(request.param))


def spent(made: Mechanism, reading: Reading, rounds: int) -> float:
    """By dp-accounting, from the charge alone."""
    accountant = PLDAccountant(value_discretization_interval=1e-4)
    for one in made.cost(rounds)[reading].releases():
        event = dp_accounting.GaussianDpEvent(one.noise_multiplier)
        if one.sampling_probability < 1:
            event = dp_accounting.PoissonSampledDpEvent(one.sampling_probability, event)
        accountant.compose(event, one.count)
    return float(accountant.get_epsilon(1e-5))


@pytest.mark.no_cover
def test_scaling_evaluations_and_training_together_keep_epsilon_in_both_readings(made: Mechanism) -> None:
    rounds = 6 if isinstance(made, LocalDpSgd) else 8
    asked = {Reading.SECURE_SUM: 4.0, Reading.COALITION: 4.0 if isinstance(made, LocalDpSgd) else 20.0}
    for reading, epsilon in asked.items():
        charge = made.cost(rounds)[reading]
        assert [one.count for one in charge.evaluations] == [2]  # after rounds 4 and 6
        assert len(charge.opening) == 1
        assert spent(made, reading, rounds) <= epsilon * 1.001
    assert spent(made, Reading.SECURE_SUM, rounds) > 0.9 * 4.0 or not isinstance(made, LocalDpSgd)


def test_all_evaluations_are_paid_with_the_opening_and_none_without(made: Mechanism) -> None:
    rounds = 6 if isinstance(made, LocalDpSgd) else 8
    for reading, charge in made.cost(rounds).items():
        assert charge.releases(0) == (*charge.opening, *charge.evaluations)
        assert not any(one in charge.releases(3, opened=False) for one in charge.evaluations)
        assert made_of_none(made).cost(rounds)[reading].evaluations == ()
        if charge.unit is Unit.MASTER:
            halved = [one.noise_multiplier / 2 for one in charge.evaluations]
            assert [one.noise_multiplier for one in charge.for_episodes().evaluations] == halved


def made_of_none(made: Mechanism) -> Mechanism:
    return replace(made, evaluation=None)


def test_a_plan_that_evaluates_trains_with_more_noise() -> None:
    with_, without = made_of(block()), made_of(block(), None)
    assert isinstance(with_, LocalDpSgd)
    assert isinstance(without, LocalDpSgd)
    assert with_.steps.noise_multiplier > without.steps.noise_multiplier
    assert with_.scaling == without.scaling
    fewer = made_of(block(), BOTH.model_copy(update={"every": 6}))
    assert fewer.evaluation is not None
    assert with_.evaluation is not None
    ratio = with_.evaluation.noise_multiplier / fewer.evaluation.noise_multiplier
    assert ratio == pytest.approx(sqrt(2), rel=0.01)


def test_statement_recount_and_ledger_name_the_evaluations() -> None:
    """By hand: what is composed of few unsampled releases is quickly recounted."""
    promise = Guarantee(Unit.EPISODE, Relation.ADD_OR_REMOVE, 4.0, 1e-5)
    one, two = GaussianRelease(6.0, 1.0, 1), GaussianRelease(8.0, 1.0, 2)
    made = LocalDpSgd(Unit.EPISODE, 1.0, GaussianRelease(4.0, 1.0, 6), 20.0, 4, one, promise, two)
    rounds = 6
    deployment = Deployment(
        kind="campaign",
        name="x",
        plan_hash="0f" * 32,
        model_line=None,
        process=None,
        sites=20,
        rounds_planned=6,
        rounds_done=4,
        rounds_charged=5,
    )
    stated = state(deployment, promise_of(made, rounds))
    events = {event.when: event for event in stated.privacy_loss.readings[Reading.SECURE_SUM].events}  # type: ignore[union-attr]
    assert list(events) == ["opening", "evaluations", "each_round"]
    assert events["evaluations"].count == 2
    assert {hazard.name: hazard.status for hazard in stated.privacy_hazards}["evaluation"] == "charged"
    assert recount(stated.as_json()).verdict is Verdict.HOLDS
    confirm(stated.as_json(), made.cost(rounds))
    with pytest.raises(PrivacyError, match="JG-privacy-044"):
        confirm(stated.as_json(), made_of_none(made).cost(rounds))
    bare = stated.as_json().replace(b'"evaluations"', b'"each_round"')
    assert recount(bare).verdict is Verdict.DOES_NOT_HOLD


def test_the_explanation_says_how_often_and_how_vague() -> None:
    found, made = explain(block(), STRATEGY, UNITS, SITES, BOTH), made_of(block())
    assert isinstance(found, Explanation)
    assert made.evaluation is not None
    assert (found.evaluations, found.evaluation_noise_multiplier) == (2, made.evaluation.noise_multiplier)
    assert found.figure_noise == figure_noise(made, 3, UNITS, SITES) > FIGURE_LIMIT
    assert found.epsilon == made.guarantee.epsilon
    plain = explain(block(), STRATEGY, UNITS, SITES)
    assert isinstance(plain, Explanation)
    assert (plain.evaluations, plain.evaluation_noise_multiplier, plain.figure_noise) == (0, None, None)
    assert plain.thresholds is not None
    assert found.thresholds is not None
    assert (found.thresholds.epsilon or inf) >= (plain.thresholds.epsilon or inf)


def test_vague_figures_are_refused_with_what_would_do() -> None:
    made = made_of(block())
    with pytest.raises(PrivacyError, match="JG-privacy-037") as refused:
        refuse_vague_figures(made, 3, UNITS, SITES)
    values = refused.value.coded.values
    refuse_vague_figures(made, 3, UNITS, values["enough"])
    refuse_vague_figures(made, 3, values["units"], SITES)
    with pytest.raises(PrivacyError, match="JG-privacy-037"):
        refuse_vague_figures(made, 3, UNITS, values["enough"] - 1)


def recipe(
    made: Mechanism | None = None, evaluation: Evaluation | None = BOTH, summing: Summing | None = None
) -> Recipe:
    """A line y = w x + b on inputs within [-2, 2] and targets within [-4, 4]."""
    ranges = [PublicRange(np.array([-edge]), np.array([edge])) for edge in (2.0, 4.0)]
    spec = LinearSpec(name="linear")
    return Recipe(spec, STRATEGY, made, Task.REGRESSION, (1,), 1, *ranges, UNITS, 3, summing, evaluation)


def held_out() -> Examples:
    inputs = np.array([[0.0], [1.0], [2.0], [-1.0]], np.float32)
    return Examples(inputs, np.array([[0.5], [0.5], [1.0], [-2.0]], np.float32), np.array([4, 4, 4, 9]))


def order(slope: float = 1.0) -> Order:
    """The model y = 2 slope x, in the units of targets: both ranges are scaled to [-1, 1]."""
    return Order(Kind.EVALUATE, 4, np.array([slope, 0.0], np.float32), (np.zeros(2), np.ones(2)))


def test_figures_are_means_over_units_in_the_units_of_the_targets() -> None:
    asked = recipe()
    evaluator = Evaluator("site-0", held_out(), asked)
    reply = evaluator.answer(order(0.5))
    errors = [np.array([0.5, 0.5, 1.0]), np.array([1.0])]  # y = x
    mae, mse = (np.mean([np.mean(one**power) for one in errors]) for power in (1, 2))
    shown = figures(asked, np.asarray(reply.moments), 1)
    assert shown == {
        "mae": (pytest.approx(mae), 0.0),
        "rmse": (pytest.approx(sqrt(mse)), 0.0),
        "mse": (pytest.approx(mse), 0.0),
    }
    worse = figures(asked, np.asarray(evaluator.answer(order(50.0)).moments), 1)
    assert worse["mae"][0] > mae
    assert max(value for value, _ in worse.values()) <= 9.0  # the square of the bound


def test_a_model_that_overflows_is_the_worst_and_a_broken_record_gives_nothing() -> None:
    asked, rows = recipe(), held_out()
    with np.errstate(all="ignore"):
        burst = Evaluator("site-0", rows, asked).answer(replace(order(), vector=np.array([3e38, 3e38], np.float32)))
    assert figures(asked, np.asarray(burst.moments), 1)["mae"][0] == 3.0
    broken = Examples(rows.inputs, np.where(rows.units == 9, nan, rows.targets.T).T.astype(np.float32), rows.units)
    total = np.asarray(Evaluator("site-0", broken, asked).answer(order()).moments)
    assert total[0] == 1.0


def test_an_empty_hold_out_gives_noise_and_nothing_else() -> None:
    asked = recipe(made_of(block()))
    drawn = np.asarray(Evaluator("site-0", asked.nobody(), asked).answer(order()).moments)
    again = np.asarray(Evaluator("site-0", asked.nobody(), asked).answer(order()).moments)
    assert drawn.shape == (4,)
    assert drawn.all()
    assert (drawn != again).all()


@pytest.mark.parametrize("name", ["M1", "M2", "M3", None])
@pytest.mark.parametrize("gone", [4, 9])
def test_in_the_ring_one_unit_moves_all_that_leaves_by_at_most_the_sensitivity(name: str | None, gone: int) -> None:
    class Tape(SecureRandom):
        def __init__(self) -> None:
            self._random = np.random.default_rng(7)

        def uniform(self, count: int) -> np.ndarray:
            return self._random.random(count)

        def gaussian(self, count: int) -> np.ndarray:
            return self._random.normal(size=count)

    asked = recipe(None if name is None else made_of(block(name)), summing=Summing(20, 1.0, UNITS))
    encoding = asked.encoding(Kind.EVALUATE, 4)
    assert encoding is not None
    given, rows = [], held_out()
    for some in (rows, rows[rows.units != gone]):
        evaluator = Evaluator("site-0", some, asked)
        evaluator._random = Tape()
        given.append(evaluator.contribution(order(5.0)))
        with pytest.raises(PrivacyError, match="JG-privacy-033"):
            evaluator.answer(order())
    moved = np.linalg.norm((given[0] - given[1]).view(np.int32).astype(float))
    assert 0 < moved <= encoding.grid.sensitivity
    assert encoding.grid.clip == loss_clip(3)
    if name in ("M2", "M3"):
        assert encoding.grid.noise_multiplier == asked.mechanism.evaluation.noise_multiplier  # type: ignore[union-attr]
    if name is None:
        shown = figures(asked, encoding.total(given[0].view(np.int32)), 1)
        plain = Evaluator("site-0", rows, recipe()).answer(order(5.0))
        assert shown["mae"][0] == pytest.approx(figures(recipe(), np.asarray(plain.moments), 1)["mae"][0], rel=1e-4)


def test_without_calibrated_noise_no_loss_leaves_and_nothing_else_is_answered() -> None:
    bare = made_of(block(), None)
    with pytest.raises(PrivacyError, match="JG-privacy-038"):
        Evaluator("site-0", held_out(), recipe(bare)).answer(order())
    with pytest.raises(ValueError, match="Expected a campaign that evaluates"):
        Evaluator("site-0", held_out(), recipe(evaluation=None))
    for kind in (Kind.TRAIN, Kind.SCALE):
        with pytest.raises(ValueError, match="Expected an evaluation"):
            Evaluator("site-0", held_out(), recipe()).answer(replace(order(), kind=kind))


def test_accuracy_counts_hits_of_both_kinds_of_classes() -> None:
    evaluation = Evaluation(metrics=("accuracy",), bound=(0.0, 1.0))
    asked = replace(recipe(evaluation=evaluation), task=Task.BINARY, targets=None)
    rows = Examples(held_out().inputs, np.array([0, 1, 0, 0]), np.array([1, 2, 3, 4]))
    asked_of = Order(Kind.EVALUATE, 4, np.array([1.0, -0.1], np.float32), (np.zeros(1), np.ones(1)))
    shown = figures(asked, np.asarray(Evaluator("site-0", rows, asked).answer(asked_of).moments), 1)
    assert shown == {"accuracy": (0.75, 0.0)}
