"""Sensitivity of all that a site releases, replayed: neighbouring records, equal draws, no noise, every model.

What leaves in a campaign is one vector of moments and the updates; an update is computed from the noised sums of its
local steps, each at parameters that the ones before made. So each sum is compared at the same parameters, and an
update of one step as a whole. The law: one unit more or less moves a sum by at most clip * (1 + 1e-5).
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from jangin.models.flat import FlatModel
from jangin.models.networks import build
from jangin.models.spec import Cnn1dSpec, GruSpec, LinearSpec, MlpSpec, ModelSpec, TransformerSpec
from jangin.models.tasks import Task
from jangin.plan.blocks import FedAvgBlock
from jangin.plan.messages import Kind, Order
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import LocalDpSgd
from jangin.privacy.sampling import UnitIndex
from jangin.records.examples import Examples
from jangin.strategies import build as strategy
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
}
Records = Callable[..., Examples]


class Still(SecureRandom):
    """Everyone is drawn, and nothing is added."""

    def uniform(self, count: int) -> NDArray[np.float64]:
        return np.zeros(count)

    def gaussian(self, count: int) -> NDArray[np.float64]:
        return np.zeros(count)


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


def learner_of(name: str, mechanism: LocalDpSgd) -> Learner:
    spec, shape = MODELS[name]
    return Learner(FlatModel(build(spec, shape, 1, seed=5), ()), Task.REGRESSION, mechanism)


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
