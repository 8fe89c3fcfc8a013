"""Attacks: exact where theory says so, no better than chance under masks, and never above what the noise leaves."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jangin.models.flat import FlatModel
from jangin.models.networks import build
from jangin.models.spec import LinearSpec, MlpSpec
from jangin.models.tasks import Task
from jangin.plan.blocks import FedAvgBlock
from jangin.plan.messages import Kind, Order
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import GaussianRelease, Guarantee, LocalDpSgd, Relation, Unit
from jangin.records.examples import Examples, PublicRange
from jangin.server.rounds import Progress, gather, rounds
from jangin.simulation.attacks.gradients import of_rows
from jangin.simulation.attacks.inversion import by_descent, crafted, from_crafted, from_first_layer, resemblance
from jangin.simulation.attacks.membership import (
    likelihood_ratios,
    loss_scores,
    most_true_positives,
    roc,
    update_scores,
)
from jangin.simulation.attacks.view import Overheard, masked, unmasked_sum
from jangin.simulation.sequential import SequentialExchange
from jangin.strategies import build as build_strategy
from jangin.training.loop import Learner
from jangin.training.scaling import Scaling
from jangin.training.site import Site

FEATURES, TARGETS, LR = 12, 2, 0.1
SHARES = np.linspace(0.0, 1.0, 101)
GUARANTEE = Guarantee(Unit.EPISODE, Relation.ADD_OR_REMOVE, 1.0, 1e-5)


def made(records: int, seed: int = 0) -> Examples:
    """Records that are linear and noise, well inside [-1, 1]."""
    stream = np.random.default_rng(seed)
    inputs = stream.uniform(-0.9, 0.9, (records, FEATURES))
    targets = inputs[:, :TARGETS] * 0.5 + stream.normal(0, 0.1, (records, TARGETS))
    return Examples(inputs.astype(np.float32), targets.astype(np.float32), np.arange(records))


def learner(mechanism: LocalDpSgd | None = None, hidden: int = 32) -> Learner:
    module = build(MlpSpec(name="mlp", hidden=(hidden,)), (FEATURES,), TARGETS, seed=1)
    return Learner(FlatModel(module), Task.REGRESSION, mechanism)


def private(noise: float, clip: float = 0.1, probability: float = 0.5) -> LocalDpSgd:
    steps = GaussianRelease(noise, probability, 1)
    return LocalDpSgd(Unit.EPISODE, clip, steps, 10.0 * probability, 1, None, GUARANTEE)


def scaling() -> Scaling:
    ranges = [PublicRange(np.full(columns, -1.0), np.full(columns, 1.0)) for columns in (FEATURES, TARGETS)]
    return Scaling.public(made(1), Task.REGRESSION, *ranges, private=True)


def exchange(learner: Learner, sites: list[Examples], batch: int = 100) -> SequentialExchange:
    block = FedAvgBlock(name="fedavg", rounds=3, local_steps=1, batch=batch, lr=LR)
    members = [Site(f"site-{number}", train, scaling(), learner, seed=0) for number, train in enumerate(sites)]
    return SequentialExchange(members, block, build_strategy(block))


def updates(learner: Learner, sites: list[Examples], parameters: np.ndarray | None = None) -> np.ndarray:
    start = learner.model.read() if parameters is None else parameters
    _, rows = gather(exchange(learner, sites), Order(Kind.TRAIN, 1, start), single=True)
    learner.model.load(start)
    return rows.astype(np.float32)


def nearest(reconstructed: torch.Tensor, record: np.ndarray) -> float:
    return resemblance(reconstructed, torch.from_numpy(record), torch.zeros(FEATURES), torch.full((FEATURES,), 0.5))


def test_the_server_in_the_middle_hears_what_the_sum_is_made_of() -> None:
    ours, strategy = learner(), build_strategy(FedAvgBlock(name="fedavg", rounds=1, local_steps=1, batch=1, lr=LR))
    server = Overheard(exchange(ours, [made(5), made(6, seed=1)]))
    start = ours.model.read()
    (_, first), (_, second) = rounds(strategy, partial(gather, server), Progress.start(strategy, start), 2)
    assert [(order.round, reply.site) for order, reply in server.heard] == [
        (number, site) for number in (1, 2) for site in ("site-0", "site-1")
    ]
    heard = np.stack([reply.update for _, reply in server.heard])
    np.testing.assert_allclose(first.parameters, start + heard[:2].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(second.parameters, first.parameters + heard[2:].mean(axis=0), atol=1e-6)


@given(sites=st.integers(2, 6), size=st.integers(1, 40), seed=st.integers(0, 99))
def test_masks_cancel_in_the_sum_and_only_there(sites: int, size: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(sites, size)).astype(np.float32)
    words = masked(values, 2.0**20, SecureRandom())
    assert words.dtype == np.uint32
    np.testing.assert_allclose(unmasked_sum(words, 2.0**20), values.sum(axis=0), atol=sites * 2.0**-20)


def test_all_but_one_masked_updates_are_uniform_whatever_they_hold() -> None:
    from scipy.stats import kstest

    words = masked(np.full((3, 20_000), 0.25, np.float32), 2.0**20, SecureRandom())
    for seen in (words[0], words[2], words[0] + words[1], words[:2].ravel()):
        assert kstest(seen / 2.0**32, "uniform").pvalue > 1e-6


def test_a_sum_that_leaves_the_words_is_refused() -> None:
    with pytest.raises(ValueError, match="sum"):
        masked(np.ones((2, 3), np.float32), 2.0**30, SecureRandom())


def test_rows_gradients_add_up_to_the_batchs() -> None:
    ours, rows = learner(), made(7)
    data = torch.from_numpy(rows.inputs), torch.from_numpy(rows.targets)
    each = of_rows(ours.model, ours.task, ours.model.vector, *data)
    update = updates(ours, [rows])[0]
    np.testing.assert_allclose(-LR * each.mean(dim=0).numpy(), update, atol=1e-6)


def test_a_plain_update_tells_exactly_who_is_in_it() -> None:
    ours, candidates = learner(), made(40)
    used = np.random.default_rng(3).random(40) < 0.5
    (update,) = updates(ours, [candidates[used]])
    scores = update_scores(ours, ours.model.read(), update, LR, *scaling().apply(candidates))
    np.testing.assert_allclose(scores, used / used.sum(), atol=1e-3)


def test_noise_hides_who_is_in_an_update_and_little_noise_does_not() -> None:
    candidates = made(20)
    used = np.arange(20) % 2 == 0
    areas = {}
    for noise in (1e-3, 30.0):
        ours = learner(private(noise, probability=1.0))
        several = [updates(ours, [candidates[used]])[0] for _ in range(20)]
        known = ours.model.read(), LR, *scaling().apply(candidates)
        scores = [update_scores(ours, known[0], update, *known[1:]) for update in several]
        areas[noise] = roc(np.stack(scores), np.tile(used, (20, 1))).area
    assert areas[1e-3] > 0.99
    assert abs(areas[30.0] - 0.5) < 0.2


def test_losses_accuse_what_a_model_has_learnt_by_heart() -> None:
    ours, candidates = learner(hidden=64), made(20)
    known = scaling().apply(candidates)
    inputs, targets = (part[:10] for part in known)
    ours.descend(ours.seeded_gradients(inputs, targets, 10, 1000, "key"), 0.1)
    scores = loss_scores(ours, ours.model.read(), *known)
    assert roc(scores, np.arange(20) < 10).area > 0.9


def test_likelihood_ratios_are_those_of_the_shadows_normal_distributions() -> None:
    from scipy.stats import norm

    stream = np.random.default_rng(1)
    used = stream.permuted(np.tile([[True], [False]], (6, 3)), axis=0)
    shadows = stream.normal(size=(12, 3)) + used * [0.0, 1.0, 5.0] + 100.0
    scores = stream.normal(size=(4, 3)) + 100.0
    ratios = likelihood_ratios(scores, shadows, used)
    for run, one in np.ndindex(4, 3):
        sides = [shadows[used[:, one] == side, one] for side in (True, False)]
        densities = [norm.logpdf(scores[run, one], side.mean(), side.std(ddof=1)) for side in sides]
        assert ratios[run, one] == pytest.approx(densities[0] - densities[1], rel=1e-9)


def test_too_few_shadows_are_refused() -> None:
    used = np.arange(12).reshape(6, 2) % 6 == 0
    with pytest.raises(ValueError, match="two shadows"):
        likelihood_ratios(np.zeros((1, 2)), np.zeros((6, 2)), used)


def test_a_curve_is_that_of_all_thresholds() -> None:
    scores, used = np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False])
    curve = roc(scores, used)
    assert curve.false_positives.tolist() == [0.0, 0.0, 0.5, 1.0]
    assert curve.true_positives.tolist() == [0.0, 0.5, 1.0, 1.0]
    assert (curve.area, curve.advantage, curve.at(0.4)) == (0.875, 0.5, 0.5)


def test_constant_scores_are_a_coin() -> None:
    curve = roc(np.zeros(10), np.arange(10) < 3)
    assert (curve.area, curve.advantage, curve.at(0.5)) == (0.5, 0.0, 0.0)


@given(epsilon=st.floats(0.0, 8.0), delta=st.floats(0.0, 0.5))
def test_the_limit_is_symmetric_between_who_is_accused_and_who_is_not(epsilon: float, delta: float) -> None:
    most = most_true_positives(SHARES, epsilon, delta)
    assert (np.diff(most) >= 0).all()
    assert (most >= SHARES - 1e-12).all()
    assert (most <= 1.0).all()
    # Who accuses nobody that is in and who accuses nobody that is out are the same curve mirrored.
    inside = most < 1.0
    mirrored = most_true_positives(1.0 - most[inside], epsilon, delta)
    assert (mirrored >= 1.0 - SHARES[inside] - 1e-9).all()


def test_randomised_response_reaches_the_limit() -> None:
    """Truth with probability e^eps / (1 + e^eps) is (eps, 0)-private, and accusing on `yes` is the best there is."""
    epsilon = 1.3
    truth = np.exp(epsilon) / (1 + np.exp(epsilon))
    assert most_true_positives(np.array([1 - truth]), epsilon, 0.0)[0] == pytest.approx(truth)
    assert most_true_positives(np.array([0.0]), epsilon, 0.01)[0] == pytest.approx(0.01)


@pytest.mark.parametrize("spec", [LinearSpec(name="linear"), MlpSpec(name="mlp", hidden=(16, 8))], ids=lambda s: s.name)
def test_an_update_of_one_record_is_that_record(spec: LinearSpec | MlpSpec) -> None:
    ours = Learner(FlatModel(build(spec, (FEATURES,), TARGETS, seed=1)), Task.REGRESSION, None)
    record = made(1)
    found = from_first_layer(ours.model, updates(ours, [record])[0], torch.full((FEATURES,), 0.1))
    np.testing.assert_allclose(found[0].numpy(), record.inputs[0], atol=1e-4)


def test_made_up_parameters_take_a_sum_of_many_sites_apart_and_noise_does_not_let_them() -> None:
    sites = [made(1, seed=number) for number in range(8)]
    other = made(8, seed=99).inputs
    figures = []
    for mechanism in (None, private(1.0, probability=1.0)):
        ours = learner(mechanism, hidden=200)
        trap = crafted(ours.model, torch.from_numpy(made(500, seed=100).inputs), seed=0)
        found = from_crafted(ours.model, updates(ours, sites, trap).sum(axis=0))
        figures.append(np.mean([nearest(found, site.inputs[0]) for site in sites]))
        chance = np.mean([nearest(found, record) for record in other])
    assert figures[0] > 0.95
    assert figures[1] < chance + 0.2


def test_a_model_without_one_hidden_layer_cannot_be_made_up() -> None:
    module = build(LinearSpec(name="linear"), (FEATURES,), TARGETS, seed=1)
    with pytest.raises(ValueError, match="two affine layers"):
        crafted(FlatModel(module), torch.zeros(3, FEATURES), seed=0)


def test_nothing_is_rebuilt_from_a_masked_update() -> None:
    ours, sites = learner(), [made(1, seed=number) for number in range(2)]
    plain = updates(ours, sites)
    usual = torch.full((FEATURES,), 0.1)
    blind = [
        nearest(from_first_layer(ours.model, unmasked_sum(words[:1], 2.0**24), usual)[:1], sites[0].inputs[0])
        for words in (masked(plain, 2.0**24, SecureRandom()) for _ in range(50))
    ]
    assert nearest(from_first_layer(ours.model, plain[0], usual)[:1], sites[0].inputs[0]) > 0.999
    assert abs(np.mean(blind)) < 0.25


def test_descent_finds_a_record_with_the_same_gradient() -> None:
    ours, record = learner(), made(1)
    (update,) = updates(ours, [record])
    start, aims = torch.zeros(1, FEATURES), torch.zeros(1, TARGETS)
    found = by_descent(ours.model, ours.task, ours.model.read(), -update, start, aims, steps=300)
    assert nearest(found, record.inputs[0]) > 0.95


def test_what_all_records_have_in_common_is_no_resemblance() -> None:
    usual, deviation = torch.linspace(-1, 1, FEATURES), torch.full((FEATURES,), 0.01)
    record = usual + 0.01 * torch.tensor([1.0, -1.0] * (FEATURES // 2))
    assert resemblance(usual[None], record, usual, deviation) == 0.0
    assert resemblance(torch.stack([usual, record]), record, usual, deviation) == pytest.approx(1.0)
    broken = torch.full((1, FEATURES), torch.nan)
    assert resemblance(broken, record, usual, deviation) == 0.0
