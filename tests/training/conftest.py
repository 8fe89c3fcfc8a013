"""A small federation's parts: examples of several windows a unit, a learner, and a mechanism made by hand."""

from collections.abc import Callable

import numpy as np
import pytest

from jangin.models.flat import FlatModel
from jangin.models.networks import build
from jangin.models.spec import MlpSpec
from jangin.models.tasks import Task
from jangin.privacy.releases import GaussianRelease, Guarantee, LocalDpSgd, Relation, Unit
from jangin.records.examples import Examples
from jangin.training.loop import Learner

FEATURES = 3


@pytest.fixture
def examples() -> Callable[..., Examples]:
    def made(units: int = 12, seed: int = 0) -> Examples:
        rng = np.random.default_rng(seed)
        unit = np.repeat(np.arange(units), np.arange(units) % 3 + 1)
        inputs = rng.normal(size=(len(unit), FEATURES)).astype(np.float32)
        targets = (inputs @ [[1.0], [-2.0], [0.5]] + 0.1 * rng.normal(size=(len(unit), 1))).astype(np.float32)
        return Examples(inputs, targets, unit)

    return made


@pytest.fixture
def private() -> LocalDpSgd:
    guarantee = Guarantee(Unit.EPISODE, Relation.ADD_OR_REMOVE, 1.0, 1e-5)
    return LocalDpSgd(Unit.EPISODE, 0.5, GaussianRelease(2.0, 0.4, 40), 8.0, 4, GaussianRelease(1.0, 1.0, 1), guarantee)


@pytest.fixture
def learner() -> Callable[..., Learner]:
    def made(mechanism: LocalDpSgd | None = None, personal: tuple[str, ...] = ()) -> Learner:
        module = build(MlpSpec(name="mlp", hidden=(4,)), (FEATURES,), 1, seed=3)
        return Learner(FlatModel(module, personal), Task.REGRESSION, mechanism)

    return made
