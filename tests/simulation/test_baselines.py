"""Laws of what a federation is compared with."""

import numpy as np
import pytest

from jangin.models.tasks import Task
from jangin.records.examples import Examples
from jangin.simulation.baselines import boosted_trees, constant, pooled

STREAM = np.random.default_rng(0)


def examples(targets: np.ndarray, units: np.ndarray | None = None) -> Examples:
    inputs = STREAM.normal(size=(len(targets), 2)).astype(np.float32)
    return Examples(inputs, targets, np.arange(len(targets)) if units is None else units)


def test_the_pool_has_all_rows_and_keeps_units_of_different_sites_apart() -> None:
    one = examples(np.zeros((4, 1), np.float32), np.array([5, 5, 9, 9]))
    other = examples(np.ones((3, 1), np.float32), np.array([9, 5, 5]))
    pool = pooled([one, other])
    np.testing.assert_array_equal(pool.inputs, np.concatenate([one.inputs, other.inputs]))
    assert pool.targets[:, 0].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert pool.units.tolist() == [0, 0, 1, 1, 3, 2, 2]


def test_the_constant_is_the_mean_of_the_targets_or_the_share_of_the_classes() -> None:
    train, test = examples(np.array([[1.0, 10], [3, 20]], np.float32)), examples(np.zeros((3, 2), np.float32))
    assert constant(train, test, Task.REGRESSION, 2).tolist() == [[2, 15]] * 3
    train, test = examples(np.array([0, 2, 2, 1])), examples(np.array([0, 1]))
    assert constant(train, test, Task.MULTICLASS, 4).tolist() == [[0.25, 0.25, 0.5, 0]] * 2
    assert constant(examples(np.array([0, 1, 1, 1])), test, Task.BINARY, 2).tolist() == [0.75, 0.75]


def test_trees_fit_each_target_and_predict_each_test_set() -> None:
    targets = STREAM.normal(size=(60, 2)).astype(np.float32)
    train = examples(targets)
    train = Examples(np.sign(targets) + 0 * train.inputs, np.sign(targets), train.units)
    one, other = boosted_trees(train, [train[:30], train[30:]], Task.REGRESSION, 2, 0)
    np.testing.assert_allclose(np.concatenate([one, other]), train.targets, atol=0.05)


def test_trees_take_windows_flattened() -> None:
    windows = Examples(STREAM.normal(size=(40, 2, 5)).astype(np.float32), np.arange(40) % 2, np.arange(40))
    (shares,) = boosted_trees(windows, [windows[:7]], Task.BINARY, 2, 0)
    assert shares.shape == (7,)
    assert ((shares >= 0) & (shares <= 1)).all()


@pytest.mark.parametrize("seen", [(0, 2), (2,)])
def test_trees_give_a_class_that_they_never_saw_no_share(seen: tuple[int, ...]) -> None:
    train = examples(np.resize(seen, 60))
    (shares,) = boosted_trees(train, [train[:9]], Task.MULTICLASS, 4, 0)
    assert shares.shape == (9, 4)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (shares[:, [c for c in range(4) if c not in seen]] == 0).all()


def test_trees_of_one_class_are_sure_of_it() -> None:
    train = examples(np.ones(10, np.int64))
    assert boosted_trees(train, [train[:3]], Task.BINARY, 2, 0)[0].tolist() == [1, 1, 1]
