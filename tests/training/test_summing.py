"""Vectors in the ring: mechanism M2 replayed on all that leaves a site, its noise, and sums that come back as given.

What leaves is one vector of whole steps a round, and one of moments before the first. The law: with equal draws one
unit more or less moves it by at most s C (1 + 1e-5) + sqrt(d) steps in L2, whatever its records are.
"""

from collections.abc import Callable
from dataclasses import replace
from math import nan, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from fusions import FUSION, ROW
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from jangin.errors import PrivacyError
from jangin.models.flat import FlatModel
from jangin.models.networks import build
from jangin.models.spec import Cnn1dSpec, GruSpec, LinearSpec, MlpSpec, ModelSpec, TransformerSpec
from jangin.models.tasks import Task, row_losses
from jangin.plan.blocks import FedAvgBlock
from jangin.plan.messages import Kind, Order
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import GaussianRelease, Guarantee, LocalDpSgd, Mechanism, Relation, SharedSum, Unit
from jangin.privacy.sampling import UnitIndex
from jangin.records.examples import Examples
from jangin.strategies import LocalRule
from jangin.strategies.fedavg import FedAvg
from jangin.training.loop import Learner
from jangin.training.scaling import Scaling
from jangin.training.site import Site
from jangin.training.summing import Encoding, Summing

CHANNELS, LENGTH, SITES, LR, NOMINAL = 2, 16, 20, 0.3, 40
MODELS: dict[str, tuple[ModelSpec, tuple[int, ...]]] = {
    "linear": (LinearSpec(name="linear"), (CHANNELS,)),
    "mlp": (MlpSpec(name="mlp", hidden=(6,)), (CHANNELS,)),
    "cnn1d": (Cnn1dSpec(name="cnn1d", channels=(4, 4), kernel=3, groups=2), (CHANNELS, LENGTH)),
    "gru": (GruSpec(name="gru", hidden=4), (CHANNELS, LENGTH)),
    "transformer": (TransformerSpec(name="transformer", patch=4, width=8, heads=2, layers=1), (CHANNELS, LENGTH)),
    "fusion": (FUSION, ROW),
}
BLOCK = FedAvgBlock(name="fedavg", rounds=3, local_steps=1, batch=20, lr=LR)
PROMISE = Guarantee(Unit.EPISODE, Relation.ADD_OR_REMOVE, 1.0, 1e-5)
M2 = SharedSum(
    clip=0.5,
    share=GaussianRelease(0.8, 1.0, 3),
    sites=SITES,
    c_max=3,
    n_min_final=14,
    scaling=GaussianRelease(2.0, 1.0, 1),
    guarantee=PROMISE,
    coalition=PROMISE,
    divisor=20.0,
    windows=4,
)
SCALE = Order(Kind.SCALE, 0, np.empty(0, np.float32))


class Tape(SecureRandom):
    """Everyone is drawn; rounding, and noise where it is wanted, come from a tape that can be played again."""

    def __init__(self, size: int, *, noise: bool) -> None:
        self._size, self._noise = size, noise
        self._rounding, self._normal = np.random.default_rng(5), np.random.default_rng(6)

    def uniform(self, count: int) -> NDArray[np.float64]:
        return self._rounding.random(count) if count == self._size else np.zeros(count)

    def gaussian(self, count: int) -> NDArray[np.float64]:
        return self._normal.normal(size=count) * self._noise

    def fill_gaussian(self, values: NDArray[np.float32], deviation: float) -> None:
        values[:] = (deviation * self.gaussian(len(values))).astype(np.float32)


def records(shape: tuple[int, ...], loud: float = 1.0) -> Examples:
    """Thirteen units of one to three examples; unit 3 is `loud` times as large as the others."""
    rng = np.random.default_rng(11)
    units = np.repeat(np.arange(13), np.arange(13) % 3 + 1)
    inputs = rng.normal(size=(len(units), *shape)).astype(np.float32)
    targets = rng.normal(size=(len(units), 1)).astype(np.float32)
    inputs[units == 3] *= loud
    targets[units == 3] *= loud
    return Examples(inputs, targets, units)


def learner_of(name: str, mechanism: Mechanism | None = M2) -> Learner:
    spec, shape = MODELS[name]
    return Learner(FlatModel(build(spec, shape, 1, seed=5)), Task.REGRESSION, mechanism)


def site_of(
    name: str, rows: Examples, mechanism: Mechanism | None = M2, update_clip: float = 1.0
) -> tuple[Site, Callable[[Kind, int], Encoding]]:
    """A site, and how its campaign adds up."""

    def encoding(kind: Kind, size: int) -> Encoding:
        return Summing(SITES, update_clip, NOMINAL).encoding(kind, mechanism, LR, size)

    scaling = Scaling.public(rows, Task.REGRESSION, None, None, private=True)
    return Site("site-0", rows, scaling, learner_of(name, mechanism), 0, encoding=encoding), encoding


def contributed(site: Site, order: Order, random: SecureRandom | None = None) -> NDArray[np.uint32]:
    if random is not None:
        site._random = random
    return site.contribution(order, BLOCK, LocalRule())


def start_of(name: str, number: int = 0) -> Order:
    start = learner_of(name).model.read()
    start += np.random.default_rng(number).normal(size=len(start)).astype(np.float32) * number
    return Order(Kind.TRAIN, 1 + number, start)


@pytest.mark.parametrize("loud", [1e-4, 1.0, 1e3, nan])
@pytest.mark.parametrize("lot", [20.0, 0.01], ids=["within the box", "beyond the box"])
@pytest.mark.parametrize("name", MODELS)
def test_one_unit_moves_all_that_leaves_in_a_round_by_at_most_the_sensitivity(
    name: str, lot: float, loud: float
) -> None:
    mechanism, rows = replace(M2, divisor=lot), records(MODELS[name][1], loud)
    for number in range(2):
        order, left, grid = start_of(name, number), [], None
        for some in (rows, rows[rows.units != 3]):
            site, encoding = site_of(name, some, mechanism)
            grid = encoding(Kind.TRAIN, len(order.vector)).grid
            left.append(contributed(site, order, Tape(grid.size, noise=True)))
            assert (left[-1].dtype, left[-1].shape) == (np.uint32, (grid.size,))
        moved = float(np.linalg.norm((left[0] - left[1]).view(np.int32).astype(float)))
        assert moved <= grid.sensitivity
        if lot > 1:
            assert (moved > 1e-6 * grid.sensitivity) == bool(loud == loud)  # what is less is the company in a batch
            assert moved > 0.99 * grid.scale * grid.clip or not loud > 1


@pytest.mark.parametrize("loud", [1e-4, 1.0, 1e3, nan])
def test_one_unit_moves_the_moments_that_leave_by_at_most_the_sensitivity(loud: float) -> None:
    rows, left = records((CHANNELS,), loud), []
    for some in (rows, rows[rows.units != 3]):
        site, encoding = site_of("linear", some)
        left.append(contributed(site, SCALE, Tape(7, noise=True)))
    grid = encoding(Kind.SCALE, 7).grid
    moved = np.linalg.norm((left[0] - left[1]).view(np.int32).astype(float))
    assert moved <= grid.sensitivity
    assert (moved > 0) == bool(loud == loud)


def test_after_a_second_local_step_one_unit_would_have_moved_the_sum_by_more_than_the_clip() -> None:
    """Why there is none: it has moved the parameters at which everybody's gradients are taken."""
    rows, sums = records((CHANNELS,), 30.0), []
    for some in (rows, rows[rows.units != 3]):
        learner = learner_of("mlp")
        data, units = (torch.from_numpy(some.inputs), torch.from_numpy(np.asarray(some.targets))), UnitIndex(some.units)
        steps = []
        for _ in range(10):
            steps.append(learner.clipped_sum(*data, units, Tape(25, noise=False)))
            learner.model.vector.sub_(torch.from_numpy(steps[-1].astype(np.float32)), alpha=0.1)
        sums.append(np.cumsum(steps, axis=0))
    moved = np.linalg.norm(sums[0] - sums[1], axis=1) / M2.clip
    assert moved[0] <= 1 + 1e-5
    assert (moved[1:] > 1.5).all()
    assert moved[9] > 5.0


@pytest.mark.parametrize("kind", [Kind.TRAIN, Kind.SCALE])
def test_the_noise_of_a_sum_is_that_of_its_sites_and_no_two_share_any(kind: Kind) -> None:
    rows = records((CHANNELS,))
    site, encoding = site_of("mlp", rows)
    order = start_of("mlp") if kind is Kind.TRAIN else SCALE
    size = len(order.vector) or 7
    grid = encoding(kind, size).grid
    still = contributed(site, order, Tape(size, noise=False))
    sums = []
    for _ in range(60):
        all_sites = [contributed(site, order, SecureRandom()) - still for _ in range(SITES)]
        assert (all_sites[0] != all_sites[1]).all()
        sums.append(np.sum(all_sites, axis=0, dtype=np.uint32).view(np.int32))
    noise = np.stack(sums).astype(float)
    share = 0.8 if kind is Kind.TRAIN else 2.0
    expected = sqrt(SITES) * share * (grid.scale * grid.clip * (1 + 1e-5) + sqrt(size))
    assert noise.std() == pytest.approx(expected, rel=5 / sqrt(2 * noise.size))
    assert abs(noise.mean()) < 5 * expected / sqrt(noise.size)


@given(st.integers(1, SITES), st.integers(1, 40), st.integers(0, 2**31), st.sampled_from([0.1, 1.0, 50.0]))
def test_a_sum_modulo_2_to_the_32_is_the_sum_of_the_steps_to_the_last_one(
    sites: int, size: int, seed: int, loud: float
) -> None:
    encoding = Summing(SITES, 1.0, NOMINAL).encoding(Kind.TRAIN, M2, LR, size)
    rng = np.random.default_rng(seed)
    steps = [encoding.grid.released(rng.normal(size=size) * loud, Tape(size, noise=True)) for _ in range(sites)]
    added = np.zeros(size, np.uint32)
    for one in steps:
        added += one.astype(np.uint32)
    np.testing.assert_array_equal(added.view(np.int32), np.sum(steps, axis=0))
    np.testing.assert_array_equal(
        encoding.total(added.view(np.int32)), np.sum(steps, axis=0) / encoding.grid.scale * (-LR / 20.0)
    )


@pytest.mark.parametrize("name", MODELS)
def test_with_everyone_drawn_and_no_noise_a_round_is_one_step_of_clipped_gradient_descent(name: str) -> None:
    rows, order, sites = records(MODELS[name][1], 5.0), start_of(name), 3
    added, expected = np.zeros(len(order.vector), np.uint32), np.zeros(len(order.vector))
    for number in range(sites):
        some = rows[rows.units % sites == number]
        site, encoding = site_of(name, some)
        added += contributed(site, order, Tape(len(added), noise=False))
        model, (inputs, targets) = learner_of(name).model, site.scaling.apply(some)
        for unit in np.unique(some.units):
            mine = torch.from_numpy(some.units == unit)
            loss = row_losses(Task.REGRESSION, model.module(inputs[mine]), targets[mine]).mean()
            gradient = model.backward(loss).double().numpy()
            expected += gradient * min(1.0, M2.clip / np.linalg.norm(gradient))
    whole = encoding(Kind.TRAIN, len(added))
    total = whole.total(added.view(np.int32))
    parameters, _ = FedAvg(2.0).update(order.vector, total, sites)
    step = 2.0 * LR * expected / (sites * M2.divisor)
    np.testing.assert_allclose(parameters, order.vector - step, atol=2e-6 * np.abs(order.vector - step).max())
    assert np.linalg.norm(total / -LR * M2.divisor - expected) < 1e-5 * np.linalg.norm(expected)


def test_an_empty_draw_is_nothing_but_noise_and_is_sent_all_the_same() -> None:
    class Nobody(Tape):
        def uniform(self, count: int) -> NDArray[np.float64]:
            return np.full(count, 0.5 if count == self._size else 1.0 - 2**-53)

    sampled, order = replace(M2, share=replace(M2.share, sampling_probability=0.5)), start_of("mlp")
    site, _ = site_of("mlp", records((CHANNELS,)), sampled)
    assert not contributed(site, order, Nobody(25, noise=False)).any()
    assert contributed(site, order, Nobody(25, noise=True)).all()


@pytest.mark.parametrize("private", [True, False])
def test_an_update_of_m1_or_without_privacy_comes_back_from_its_sum_clipped_to_the_public_bound(
    private: bool,
) -> None:
    m1 = LocalDpSgd(Unit.EPISODE, 0.5, GaussianRelease(2.0, 1.0, 3), 20.0, 4, None, PROMISE) if private else None
    order, rows = start_of("mlp"), records((CHANNELS,))
    bare = Site("site-0", rows, site_of("mlp", rows)[0].scaling, learner_of("mlp", m1), 0)
    found = {}
    for bound in (100.0, 1e-3):
        site, encoding = site_of("mlp", rows, m1, bound)
        if private:
            site._random, bare._random = Tape(25, noise=True), Tape(25, noise=True)
        update: Any = bare.answer(order, BLOCK, LocalRule()).update
        on_ring = encoding(Kind.TRAIN, 25)
        found[bound] = on_ring.total(site.contribution(order, BLOCK, LocalRule()).view(np.int32))
        update = update * min(1.0, bound / np.linalg.norm(update))
        np.testing.assert_allclose(found[bound], update, atol=1 / on_ring.grid.scale + 1e-7 * bound)
    assert np.linalg.norm(found[1e-3]) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("mechanism", [None, M2, replace(M2, scaling=None)], ids=["none", "M2", "M2 without moments"])
def test_a_site_whose_vectors_are_added_up_shows_none_by_itself(mechanism: Mechanism | None) -> None:
    site, _ = site_of("mlp", records((CHANNELS,)), mechanism)
    for order in (start_of("mlp"), SCALE):
        with pytest.raises(PrivacyError, match="JG-privacy-033"):
            site.answer(order, BLOCK, LocalRule())


def test_two_attempts_of_a_round_tell_nothing_new_under_noise_and_everything_without() -> None:
    """A server that leaves a site out of the second attempt has its vector, as what the two sums differ by."""
    order, rows = start_of("mlp"), records((CHANNELS,))
    site, _ = site_of("mlp", rows, None)
    once, again = (contributed(site, order).view(np.int32).astype(np.int64) for _ in range(2))
    assert np.abs(once - again).max() <= 1  # a step of the grid, from rounding
    site, encoding = site_of("mlp", rows)
    once, again = (contributed(site, order).view(np.int32).astype(np.int64) for _ in range(2))
    assert np.linalg.norm(once - again) > encoding(Kind.TRAIN, 25).grid.sensitivity


def test_moments_without_a_release_are_not_contributed_either() -> None:
    site, _ = site_of("mlp", records((CHANNELS,)), replace(M2, scaling=None))
    with pytest.raises(PrivacyError, match="JG-privacy-007"):
        site.contribution(SCALE, BLOCK, LocalRule())


def test_a_site_that_adds_nothing_up_has_nothing_to_contribute() -> None:
    rows = records((CHANNELS,))
    site = Site("site-0", rows, site_of("mlp", rows)[0].scaling, learner_of("mlp", None), 0)
    with pytest.raises(ValueError, match="ring"):
        site.contribution(start_of("mlp"), BLOCK, LocalRule())
