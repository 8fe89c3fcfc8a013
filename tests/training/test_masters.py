"""Mechanism M3 inside a site, replayed: neighbouring records, equal draws, no noise, every model.

What leaves is one vector a round, made of that round's public parameters. The law: one master more or less moves it by
at most the clip, one episode of his by at most twice that, and rounding to the grid is inside the sensitivity.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import sqrt

import numpy as np
import pytest
import torch
from fusions import FUSION, ROW
from numpy.typing import NDArray
from torch import nn

from jangin.errors import PlanError, PrivacyError
from jangin.models.flat import FlatModel
from jangin.models.networks import build
from jangin.models.spec import Cnn1dSpec, GruSpec, LinearSpec, MlpSpec, ModelSpec, TransformerSpec
from jangin.models.tasks import Task
from jangin.plan.blocks import FedAvgBlock, FedProxBlock
from jangin.plan.messages import Kind, Order
from jangin.privacy.moments import moment_clip
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import GaussianRelease, Guarantee, MasterSum, Reading, Relation, Unit
from jangin.privacy.renyi import renyi
from jangin.records.examples import Examples
from jangin.strategies import LocalRule
from jangin.strategies.fedprox import FedProx
from jangin.training.loop import Learner
from jangin.training.masters import master_sum
from jangin.training.scaling import Scaling
from jangin.training.site import Site
from jangin.training.summing import Summing

CHANNELS, LENGTH, CLIP = 2, 16, 0.5
BLOCK = FedAvgBlock(name="fedavg", rounds=3, local_steps=4, batch=2, lr=0.05)
NO_RULE = LocalRule()
MODELS: Mapping[str, tuple[ModelSpec, tuple[int, ...]]] = {
    "linear": (LinearSpec(name="linear"), (CHANNELS,)),
    "mlp": (MlpSpec(name="mlp", hidden=(6,)), (CHANNELS,)),
    "cnn1d": (Cnn1dSpec(name="cnn1d", channels=(4, 4), kernel=3, groups=2), (CHANNELS, LENGTH)),
    "gru": (GruSpec(name="gru", hidden=4), (CHANNELS, LENGTH)),
    "transformer": (TransformerSpec(name="transformer", patch=4, width=8, heads=2, layers=1), (CHANNELS, LENGTH)),
    "fusion": (FUSION, ROW),
}
PROMISE = Guarantee(Unit.MASTER, Relation.ADD_OR_REMOVE, 1.0, 1e-5)
MECHANISM = MasterSum(
    clip=CLIP,
    share=GaussianRelease(0.5, 1.0, 3),
    sites=20,
    c_max=3,
    n_min_final=14,
    scaling=GaussianRelease(0.4, 1.0, 1),
    guarantee=PROMISE,
    coalition=replace(PROMISE, epsilon=9.0),
    masters=8,
)


ON_GRID = Summing(20, 1.0, 8).encoding(Kind.TRAIN, MECHANISM, BLOCK.lr, 3)


class Still(SecureRandom):
    """The first examples are drawn, rounding goes down, and nothing is added."""

    def uniform(self, count: int) -> NDArray[np.float64]:
        return np.zeros(count)

    def gaussian(self, count: int) -> NDArray[np.float64]:
        return np.zeros(count)


def records(shape: tuple[int, ...], loud: float = 1.0, masters: int = 6) -> Examples:
    """Masters of one to three episodes; master 3 is `loud` times as large as the others."""
    rng = np.random.default_rng(11)
    units = np.repeat(np.arange(masters), np.arange(masters) % 3 + 1)
    inputs = rng.normal(size=(len(units), *shape)).astype(np.float32)
    targets = rng.normal(size=(len(units), 1)).astype(np.float32)
    inputs[units == 3] *= loud
    targets[units == 3] *= loud
    return Examples(inputs, targets, units)


def learner_of(name: str, mechanism: MasterSum = MECHANISM) -> Learner:
    spec, shape = MODELS[name]
    return Learner(FlatModel(build(spec, shape, 1, seed=5)), Task.REGRESSION, mechanism)


def rounds_of(name: str, rows: Examples, random: Callable[[], SecureRandom] = Still) -> list[NDArray[np.float64]]:
    """The sums of three rounds, each from parameters that do not depend on `rows`."""
    learner, data = learner_of(name), (torch.from_numpy(rows.inputs), torch.from_numpy(np.asarray(rows.targets)))
    masters = [np.flatnonzero(rows.units == master) for master in np.unique(rows.units)]
    initial, sums = learner.model.read(), []
    for number in range(3):
        start = initial + np.random.default_rng(number).normal(size=len(initial)).astype(np.float32) * number
        sums.append(master_sum(learner, CLIP, start, data, masters, BLOCK, NO_RULE, random()))
    return sums


def site(rows: Examples, mechanism: MasterSum = MECHANISM, enrolled: list[int] | None = None) -> Site:
    public = Scaling.public(rows, Task.REGRESSION, None, None, private=True)
    learner = learner_of("linear", mechanism)
    encoding = partial(Summing(20, 1.0, 8).encoding, mechanism=mechanism, lr=BLOCK.lr)
    own = None if enrolled is None else np.array(enrolled)
    return Site("site-0", rows, public, learner, 0, own, lambda kind, size: encoding(kind, size=size))


def update(trained: Site, random: SecureRandom | None = None, rule: LocalRule = NO_RULE) -> NDArray[np.float64]:
    trained._random = random or Still()
    start = np.linspace(-1, 1, 3, dtype=np.float32)
    steps = trained.contribution(Order(Kind.TRAIN, 1, start), BLOCK, rule)
    return ON_GRID.total(steps.view(np.int32))


@pytest.mark.parametrize("loud", [1e-4, 1.0, 30.0])
@pytest.mark.parametrize("name", MODELS)
def test_one_master_moves_every_rounds_sum_by_at_most_the_clip(name: str, loud: float) -> None:
    rows = records(MODELS[name][1], loud)
    runs = [rounds_of(name, some) for some in (rows, rows[rows.units != 3])]
    moved = [float(np.linalg.norm(one - other)) for one, other in zip(*runs, strict=True)]
    assert max(moved) <= CLIP * (1 + 1e-5)
    assert max(moved) > (0.99 if loud > 1 else 1e-6) * CLIP


@pytest.mark.parametrize("name", MODELS)
def test_one_episode_of_a_master_moves_every_rounds_sum_by_at_most_twice_the_clip(name: str) -> None:
    """And that is what an episode pays: half the noise multiplier, in `Charge.for_episodes`."""
    rows = records(MODELS[name][1])
    first = int(np.flatnonzero(rows.units == 2)[0])
    turned, gone = rows.targets.copy(), np.arange(len(rows)) != first
    turned[first] *= -1e4
    whole = rounds_of(name, rows)
    for other in (rounds_of(name, Examples(rows.inputs, turned, rows.units)), rounds_of(name, rows[gone])):
        moved = [float(np.linalg.norm(one - two)) for one, two in zip(whole, other, strict=True)]
        assert 1e-6 < max(moved) <= 2 * CLIP * (1 + 1e-5)


def test_an_episode_can_move_the_sum_by_almost_twice_the_clip_so_half_the_noise_is_no_more_than_it_pays() -> None:
    rows = Examples(np.ones((1, 2), np.float32), np.full((1, 1), 1e6, np.float32), np.zeros(1, np.int64))
    up, down = (rounds_of("linear", replace(rows, targets=sign * rows.targets))[0] for sign in (1, -1))
    assert np.linalg.norm(up - down) == pytest.approx(2 * CLIP, rel=1e-3)
    for reading in Reading:
        master = MECHANISM.cost(3)[reading]
        episode = master.for_episodes()
        assert (master.unit, episode.unit) == (Unit.MASTER, Unit.EPISODE)
        assert renyi(episode.releases(), 8) == pytest.approx(4 * renyi(master.releases(), 8))


@pytest.mark.parametrize("loud", [1.0, 1e3, np.nan])
def test_one_master_moves_what_leaves_the_site_by_at_most_the_sensitivity_of_the_grid(loud: float) -> None:
    rows = records((CHANNELS,))
    rows.inputs[rows.units == 3] *= loud
    whole, without = (update(site(some)) for some in (rows, rows[rows.units != 3]))
    moved = float(np.linalg.norm(whole - without)) * MECHANISM.masters
    assert moved <= ON_GRID.grid.sensitivity / ON_GRID.grid.scale
    assert (moved == 0.0) == bool(np.isnan(loud))


def test_a_master_without_episodes_gives_nothing_and_one_who_is_not_enrolled_neither() -> None:
    rows = records((CHANNELS,))
    everybody = update(site(rows))
    np.testing.assert_array_equal(update(site(rows, enrolled=[0, 1, 2, 3, 4, 5, 77])), everybody)
    np.testing.assert_array_equal(update(site(rows, enrolled=[5, 4, 3, 3, 2, 1, 0])), everybody)
    left = update(site(rows, enrolled=[0, 1, 2, 4, 5]))
    np.testing.assert_array_equal(left, update(site(rows[rows.units != 3])))
    assert (left != everybody).any()


def test_moments_are_of_enrolled_masters_one_vector_each_with_a_share_of_the_noise() -> None:
    rows, asked = records((CHANNELS,)), Order(Kind.SCALE, 0, np.empty(0, np.float32))
    trained, alone = site(rows, enrolled=[0, 1, 77]), site(rows[rows.units < 2])
    trained._random = alone._random = Still()
    encoding = Summing(20, 1.0, 8).encoding(Kind.SCALE, MECHANISM, BLOCK.lr, 7)

    def moments(some: Site) -> NDArray[np.float64]:
        return encoding.total(some.contribution(asked, BLOCK, NO_RULE).view(np.int32))

    still = moments(trained)
    np.testing.assert_array_equal(still, moments(alone))
    trained._random = SecureRandom()
    noise = np.stack([moments(trained) for _ in range(500)]) - still
    assert noise.std() == pytest.approx(0.4 * moment_clip(3), rel=5 / sqrt(2 * noise.size))


def test_the_order_of_masters_changes_nothing_so_no_one_hears_of_another() -> None:
    rows = records((CHANNELS,))
    turned = np.argsort(-rows.units, kind="stable")
    for name in ("linear", "mlp"):
        renamed = Examples(rows.inputs[turned], rows.targets[turned], rows.units.max() - rows.units[turned])
        for one, other in zip(rounds_of(name, rows), rounds_of(name, renamed), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-12)


def test_two_rounds_of_one_site_share_no_noise_and_its_size_is_one_share_over_the_public_number() -> None:
    rows = records((CHANNELS,), masters=1)
    trained = site(rows)
    still = update(trained)
    noise = np.stack([update(trained, SecureRandom()) for _ in range(600)]) - still
    assert (noise[0] != noise[1]).all()
    expected = MECHANISM.share.noise_multiplier * CLIP / MECHANISM.masters
    assert noise.std() == pytest.approx(expected, rel=5 / sqrt(2 * noise.size))


def test_a_rule_pulls_inside_the_clip() -> None:
    block = FedProxBlock(name="fedprox", rounds=1, local_steps=4, batch=2, lr=0.01, mu=30.0)
    rows, start = records((CHANNELS,)), np.zeros(3, np.float32)
    changes = []
    for rule in (NO_RULE, FedProx(1.0, block.mu).local):
        trained = site(rows)
        trained._random = Still()
        changes.append(trained.contribution(Order(Kind.TRAIN, 1, start), block, rule).view(np.int32).astype(float))
    assert np.linalg.norm(changes[1]) < np.linalg.norm(changes[0])


def test_a_model_that_keeps_statistics_of_records_is_refused() -> None:
    model = FlatModel(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)))
    with pytest.raises(PrivacyError, match="JG-privacy-003"):
        Learner(model, Task.REGRESSION, MECHANISM)


def test_what_carries_a_share_of_the_noise_is_shown_to_nobody_by_itself() -> None:
    start = np.linspace(-1, 1, 3, dtype=np.float32)
    for order in (Order(Kind.TRAIN, 1, start), Order(Kind.SCALE, 0, np.empty(0, np.float32))):
        with pytest.raises(PrivacyError, match="JG-privacy-033"):
            site(records((CHANNELS,))).answer(order, BLOCK, NO_RULE)


def test_a_part_that_stays_at_the_site_is_refused() -> None:
    """It would carry a single share of noise into rounds that start from it, and no sum hides it there."""
    module = build(MODELS["mlp"][0], (CHANNELS,), 1, seed=5)
    with pytest.raises(PlanError, match="JG-plan-026"):
        Learner(FlatModel(module, ("head",)), Task.REGRESSION, MECHANISM)


def test_a_campaigns_rounds_cost_both_readings_what_their_shares_of_noise_say() -> None:
    cost = MECHANISM.cost(3)
    assert MECHANISM.honest == 2 * 20 // 3 + 1 - 3 == 11
    for reading, shares in ((Reading.SECURE_SUM, 11), (Reading.COALITION, 1)):
        assert cost[reading].releases() == (
            GaussianRelease(0.4 * sqrt(shares), 1.0, 1),
            GaussianRelease(0.5 * sqrt(shares), 1.0, 3),
        )
    with pytest.raises(ValueError, match="4"):
        MECHANISM.cost(4)


def test_private_gradients_of_another_mechanism_are_refused() -> None:
    learner, rows = learner_of("linear"), records((CHANNELS,))
    data = torch.from_numpy(rows.inputs), torch.from_numpy(np.asarray(rows.targets))
    with pytest.raises(ValueError, match="M1"):
        next(learner.private_gradients(*data, site(rows).units, 1, Still()))
