"""Metrics on hold-outs.

Regression metrics are in the units of the targets; several targets: the mean over targets, each scaled by its public
range. Ranking and F1 are scikit-learn's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jangin.models.tasks import Task

__all__ = ["METRICS", "Metric"]

Array = NDArray[Any]
Measure = Callable[[Array, Array], float]


@dataclass(frozen=True)
class Metric:
    """One way to compare predictions with the truth.

    Attributes:
        measure: from truth (examples, targets) or (examples,) and predictions as models/tasks.py shapes them.
        higher_is_better: its direction.
        tasks: where it means something.
    """

    measure: Measure
    higher_is_better: bool
    tasks: frozenset[Task]

    def __call__(self, truth: Array, predictions: Array, spans: Array | None = None) -> float:
        """The figure; NaN where it is undefined (no examples, or no positive one for a ranking).

        Args:
            truth: what happened.
            predictions: what a model said.
            spans: width of each target's public range, to weigh several targets; shape (targets,).
        """
        if not len(truth):
            return float("nan")
        if spans is not None and truth.ndim == 2 and truth.shape[1] > 1:
            truth, predictions = truth / spans, predictions / spans
        return float(self.measure(truth, predictions))

    def better(self, one: float, other: float) -> bool:
        """Whether `one` is strictly better than `other`."""
        return one > other if self.higher_is_better else one < other


def _rmse(truth: Array, predictions: Array) -> float:
    return float(np.sqrt(np.square(truth - predictions).mean(axis=0)).mean())


def _mae(truth: Array, predictions: Array) -> float:
    return float(np.abs(truth - predictions).mean())


def _mse(truth: Array, predictions: Array) -> float:
    return float(np.square(truth - predictions).mean())


def _classes(predictions: Array) -> Array:
    return predictions.argmax(axis=1) if predictions.ndim == 2 else (predictions > 0.5).astype(np.int64)


def _accuracy(truth: Array, predictions: Array) -> float:
    return float((truth == _classes(predictions)).mean())


def _macro_f1(truth: Array, predictions: Array) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(truth, _classes(predictions), average="macro", zero_division=0.0))


def _average_precision(truth: Array, predictions: Array) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(truth, predictions)) if truth.any() else float("nan")


def _auc(truth: Array, predictions: Array) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, predictions)) if 0 < truth.sum() < len(truth) else float("nan")


_REGRESSION = frozenset({Task.REGRESSION})
_BINARY = frozenset({Task.BINARY})
_CLASSES = frozenset({Task.BINARY, Task.MULTICLASS})

METRICS = {
    "rmse": Metric(_rmse, False, _REGRESSION),
    "mae": Metric(_mae, False, _REGRESSION),
    "mse": Metric(_mse, False, _REGRESSION),
    "accuracy": Metric(_accuracy, True, _CLASSES),
    "macro_f1": Metric(_macro_f1, True, _CLASSES),
    "average_precision": Metric(_average_precision, True, _BINARY),
    "auc": Metric(_auc, True, _BINARY),
}
