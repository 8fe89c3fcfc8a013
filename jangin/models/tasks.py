"""Tasks: how a model's outputs become a loss for each row and a prediction.

| task | outputs | loss of a row | prediction |
| regression | one a target | mean squared error over targets, scaled | scaled targets |
| binary | 1 logit | logistic loss | probability of class 1 |
| multiclass | one logit a class | cross-entropy | probabilities |
"""

from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Task", "predict", "row_losses"]


class Task(StrEnum):
    """What is predicted."""

    REGRESSION = "regression"
    BINARY = "binary"
    MULTICLASS = "multiclass"


def row_losses(task: Task, outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of every row, shape (rows,).

    Args:
        task: what is predicted.
        outputs: of the model, shape (rows, outputs).
        targets: of a regression, scaled, of the shape of `outputs`; class numbers, shape (rows,), else.

    Raises:
        ValueError: `task` is none.
    """
    match task:
        case Task.REGRESSION:
            return (outputs - targets).square().mean(dim=1)
        case Task.BINARY:
            return functional.binary_cross_entropy_with_logits(
                outputs[:, 0], targets.to(outputs.dtype), reduction="none"
            )
        case Task.MULTICLASS:
            return functional.cross_entropy(outputs, targets, reduction="none")
        case _:
            raise ValueError(f"Expected a task: {task!r}.")


def predict(task: Task, outputs: Tensor) -> Tensor:
    """Scaled targets (rows, k), probabilities of class 1 (rows,), or of every class (rows, classes).

    Raises:
        ValueError: `task` is none.
    """
    match task:
        case Task.REGRESSION:
            return outputs
        case Task.BINARY:
            return torch.sigmoid(outputs[:, 0])
        case Task.MULTICLASS:
            return torch.softmax(outputs, dim=1)
        case _:
            raise ValueError(f"Expected a task: {task!r}.")
