"""Laws of tasks: each loss written out in numpy, and each prediction in the form it promises."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jangin.models.tasks import Task, predict, row_losses

VALUES = st.floats(-30, 30, width=32)


@given(arrays(np.float32, (5, 3), elements=VALUES), arrays(np.float32, (5, 3), elements=VALUES))
def test_regression_is_the_squared_error_averaged_over_targets(outputs: np.ndarray, targets: np.ndarray) -> None:
    losses = row_losses(Task.REGRESSION, torch.from_numpy(outputs), torch.from_numpy(targets))
    expected = ((outputs.astype(np.float64) - targets) ** 2).sum(axis=1) / 3
    assert np.allclose(losses, expected, rtol=1e-4, atol=1e-6)


@given(arrays(np.float32, (5, 1), elements=VALUES), arrays(np.int64, 5, elements=st.integers(0, 1)))
def test_binary_is_the_logistic_loss_of_class_one(outputs: np.ndarray, targets: np.ndarray) -> None:
    losses = row_losses(Task.BINARY, torch.from_numpy(outputs), torch.from_numpy(targets))
    signed = np.where(targets == 1, 1, -1) * outputs[:, 0].astype(np.float64)
    assert np.allclose(losses, np.logaddexp(0, -signed), rtol=1e-4, atol=1e-6)


@given(arrays(np.float32, (5, 4), elements=VALUES), arrays(np.int64, 5, elements=st.integers(0, 3)))
def test_multiclass_is_the_cross_entropy(outputs: np.ndarray, targets: np.ndarray) -> None:
    losses = row_losses(Task.MULTICLASS, torch.from_numpy(outputs), torch.from_numpy(targets))
    logits = outputs.astype(np.float64)
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(5), targets]
    assert np.allclose(losses, expected, rtol=1e-4, atol=1e-5)


def test_two_classes_and_one_logit_are_the_same_loss() -> None:
    logits, targets = torch.tensor([[2.0], [-1.0], [0.5]]), torch.tensor([1, 1, 0])
    both = torch.cat([torch.zeros(3, 1), logits], dim=1)
    one, two = row_losses(Task.BINARY, logits, targets), row_losses(Task.MULTICLASS, both, targets)
    assert torch.allclose(one, two)
    assert torch.allclose(predict(Task.BINARY, logits), predict(Task.MULTICLASS, both)[:, 1])


def test_predictions_have_their_form() -> None:
    outputs = torch.tensor([[0.0, 1.0], [3.0, -200.0]])
    assert torch.equal(predict(Task.REGRESSION, outputs), outputs)
    assert predict(Task.BINARY, outputs[:, :1]).tolist() == pytest.approx([0.5, 0.952574], rel=1e-5)
    classes = predict(Task.MULTICLASS, outputs)
    assert classes.shape == (2, 2)
    assert torch.allclose(classes.sum(dim=1), torch.ones(2))


def test_what_is_no_task_is_refused() -> None:
    for call in (lambda: predict("rank", torch.zeros(1, 1)), lambda: row_losses("rank", *torch.zeros(2, 1, 1))):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="Expected a task: 'rank'"):
            call()
