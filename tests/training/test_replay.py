"""Sensitivity of all that a site releases, replayed: neighbouring records, equal draws, no noise, every model.

What leaves in a campaign is one vector of moments and the updates; an update is computed from the noised sums of its
local steps, each at parameters that the ones before made. So each sum is compared at the same parameters, and an
update of one step as a whole. The law: one unit more or less moves a sum by at most clip * (1 + 1e-5).

What a site keeps between rounds is no release, but later ones are computed from it. Two neighbouring sites that are
given the same noised sums must therefore keep the same, personal parts and all: the last two tests.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from fusions import FUSION, ROW
from numpy.typing import NDArray

from jangin.models.flat import FlatModel
from jangin.models.layout import Vector
from jangin.models.networks import build
from jangin.models.spec import Cnn1dSpec, GruSpec, LinearSpec, MlpSpec, ModelSpec, TransformerSpec
from jangin.models.tasks import Task
from jangin.plan.blocks import FedAvgBlock, MrMtlBlock, ScaffoldBlock, StrategyBlock
from jangin.plan.messages import Kind, Order
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import LocalDpSgd
from jangin.privacy.sampling import UnitIndex
from jangin.privacy.step import noised_mean
from jangin.records.examples import Examples
from jangin.strategies import build as strategy
from jangin.training import loop
from jangin.training.loop import Learner
from jangin.training.scaling import Scaling
from jangin.training.site import Site

CHANNELS, LENGTH, STEPS, LR = 2, 16, 4, 0.3
MODELS: dict[str, tuple[ModelSpec, tuple[int, ...]]] = {
    "linear": (LinearSpec(name="linear"), (CHANNELS,)),
    "mlp": (MlpSpec(name="mlp", hidden=(6,)), (CHANNELS,)),
    "cnn1d": (Cnn1dSpec(name="cnn1d", channels=(4, 4), kernel=3, groups=2), (CHANNELS, LENGTH)),
    "gru": (GruSpec(name="gru", hidden=4), (CHANNELS, LENGTH)),
    "transformer": (TransformerSpec(name="transformer", patch=4, width=8, heads=2, layers=1), (CHANNELS, LENGTH)),
    "fusion": (FUSION, ROW),
}
Records = Callable[..., Examples]


class Still(SecureRandom):
    """Everyone is drawn, and nothing is added."""

    def uniform(self, count: int) -> NDArray[np.float64]:
        return np.zeros(count)

    def gaussian(self, count: int) -> NDArray[np.float64]:
        return np.zeros(count)

    def fill_gaussian(self, values: NDArray[np.float32], deviation: float) -> None:
        values.fill(0.0)


@pytest.fixture
def still(private: LocalDpSgd) -> LocalDpSgd:
    return replace(private, divisor=1.0, windows=4)


def records(shape: tuple[int, ...], loud: float, without: int | None = None) -> Examples:
    """Ten units of one to three examples; unit 3 is `loud` times as large as the others."""
    rng = np.random.default_rng(11)
    units = np.repeat(np.arange(10), np.arange(10) % 3 + 1)
    inputs = rng.normal(size=(len(units), *shape)).astype(np.float32)
    targets = rng.normal(size=(len(units), 1)).astype(np.float32)
    inputs[units == 3] *= loud
    targets[units == 3] *= loud
    return (
        Examples(inputs, targets, units)[units != without] if without is not None else Examples(inputs, targets, units)
    )


def learner_of(name: str, mechanism: LocalDpSgd, personal: tuple[str, ...] = ()) -> Learner:
    spec, shape = MODELS[name]
    return Learner(FlatModel(build(spec, shape, 1, seed=5), personal), Task.REGRESSION, mechanism)


@pytest.mark.parametrize("loud", [1e-4, 1.0, 1e3])
@pytest.mark.parametrize("name", MODELS)
def test_one_unit_moves_the_sum_of_every_local_step_by_at_most_the_clip(
    name: str, loud: float, still: LocalDpSgd
) -> None:
    learners = [learner_of(name, still) for _ in range(2)]
    shape = MODELS[name][1]
    runs = []
    for learner, without in zip(learners, (None, 3), strict=True):
        rows = records(shape, loud, without)
        data = torch.from_numpy(rows.inputs), torch.from_numpy(np.asarray(rows.targets))
        runs.append(learner.private_gradients(*data, UnitIndex(rows.units), STEPS, Still()))
    moved = []
    for one, other in zip(*runs, strict=True):
        moved.append(float((one.double() - other.double()).norm()))
        for learner in learners:
            learner.model.vector.sub_(one, alpha=LR)
    assert len(moved) == STEPS
    assert max(moved) <= still.clip * (1 + 1e-5)
    assert max(moved) > (0.99 if loud > 1 else 1e-9) * still.clip


@pytest.mark.parametrize("name", MODELS)
def test_one_unit_moves_an_update_of_one_step_by_at_most_a_step_of_the_clip(name: str, still: LocalDpSgd) -> None:
    block = FedAvgBlock(name="fedavg", rounds=1, local_steps=1, batch=4, lr=LR)
    rule, updates = strategy(block).local, []
    for without in (None, 3):
        learner = learner_of(name, still)
        rows = records(MODELS[name][1], 50.0, without)
        site = Site("site-0", rows, Scaling.public(rows, Task.REGRESSION, None, None, private=True), learner, 0)
        site._random = Still()
        shared = learner.model.read()[learner.model.layout.shared]
        update = site.answer(Order(Kind.TRAIN, 1, shared), block, rule).update
        assert update is not None
        updates.append(update.astype(np.float64))
    moved = float(np.linalg.norm(updates[0] - updates[1]))
    assert 0.1 * LR * still.clip < moved <= LR * still.clip * (1 + 1e-5) + 1e-6


@pytest.mark.parametrize("loud", [1e-4, 1.0, 1e3])
@pytest.mark.parametrize("name", ["linear", "cnn1d"])
def test_one_unit_moves_the_moments_by_at_most_their_bound(name: str, loud: float, still: LocalDpSgd) -> None:
    """docs/privacy.md: each unit gives (1, x, x^2) of columns in [-1, 1], clipped to the square root of 1 + 2 d."""
    sums = []
    for without in (None, 3):
        rows = records(MODELS[name][1], loud, without)
        scaling = Scaling.public(rows, Task.REGRESSION, None, None, private=True)
        sums.append(scaling.moments(rows, still.scaling, Still()))
    columns = (len(sums[0]) - 1) // 2
    assert np.linalg.norm(sums[0] - sums[1]) <= np.sqrt(1 + 2 * columns) * (1 + 1e-5)


class Taped(Still):
    """Everyone is drawn; the noise is that of a tape."""

    def __init__(self) -> None:
        self._tape = np.random.default_rng(2)

    def fill_gaussian(self, values: NDArray[np.float32], deviation: float) -> None:
        values[:] = (deviation * self._tape.normal(size=len(values))).astype(np.float32)


def replayed(
    name: str, block: StrategyBlock, personal: str, mechanism: LocalDpSgd, patch: pytest.MonkeyPatch, bare: bool = False
) -> tuple[list[float], list[Vector]]:
    """Two rounds at two neighbouring sites, the second given the noised sums that the first one made.

    Returns:
        How far apart the sums of each step are, and what each site keeps at the end. With `bare` the personal part
        is trained on its own sums without noise.
    """
    sums: list[list[NDArray[np.float64]]] = []
    released: list[NDArray[np.float64]] = []
    kept = []
    for without in (None, 3):
        learner = learner_of(name, mechanism, (personal,))
        layout = learner.model.layout
        own = np.setdiff1d(np.arange(layout.size), layout.shared)
        mine: list[NDArray[np.float64]] = []
        sums.append(mine)

        def given(
            total: NDArray[np.float64],
            mechanism: LocalDpSgd,
            random: SecureRandom,
            mine: list[NDArray[np.float64]] = mine,
            own: NDArray[np.intp] = own,
        ) -> NDArray[np.float64]:
            mine.append(total)
            noised = noised_mean(total, mechanism, random)
            if len(mine) > len(released):
                released.append(noised)
            answer = released[len(mine) - 1].copy()
            if bare:
                answer[own] = total[own] / mechanism.divisor
            return answer

        patch.setattr(loop, "noised_mean", given)
        rows = records(MODELS[name][1], 50.0, without)
        site = Site("site-0", rows, Scaling.public(rows, Task.REGRESSION, None, None, private=True), learner, 0)
        site._random = Taped()
        made, shared = strategy(block), learner.model.read()[layout.shared]
        state = made.init(shared)
        for number in (1, 2):
            order = Order(Kind.TRAIN, number, made.local.carried(shared, state))
            update = site.answer(order, block, made.local).update
            assert update is not None
            shared, state = made.update(state, update.astype(np.float64), 2)
        vector = site.kept()
        assert vector is not None
        kept.append(vector)
    return [float(np.linalg.norm(one - other)) for one, other in zip(*sums, strict=True)], kept


FIVE_STEPS = {"rounds": 2, "local_steps": 5, "batch": 4, "lr": LR}
FEDAVG, MRMTL = FedAvgBlock(name="fedavg", **FIVE_STEPS), MrMtlBlock(name="mrmtl", lam=0.5, **FIVE_STEPS)
SCAFFOLD = ScaffoldBlock(name="scaffold", **FIVE_STEPS)


@pytest.mark.parametrize("block", [FEDAVG, MRMTL, SCAFFOLD], ids=lambda block: block.name)
@pytest.mark.parametrize("name", MODELS)
def test_what_a_site_keeps_is_made_of_noised_sums_alone_and_no_step_moves_more_than_the_clip(
    name: str, block: StrategyBlock, still: LocalDpSgd, monkeypatch: pytest.MonkeyPatch
) -> None:
    personal = {"linear": "head.bias", "fusion": "fusion.head"}.get(name, "head")
    moved, (one, other) = replayed(name, block, personal, still, monkeypatch)
    assert len(moved) == 10
    assert 0.1 * still.clip < max(moved) <= still.clip * (1 + 1e-5)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("block", [FEDAVG, MRMTL], ids=lambda block: block.name)
def test_a_head_trained_without_noise_would_be_seen(
    block: StrategyBlock, still: LocalDpSgd, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved, (one, other) = replayed("mlp", block, "head", still, monkeypatch, bare=True)
    assert max(moved) > 2 * still.clip
    assert (one != other).any()
