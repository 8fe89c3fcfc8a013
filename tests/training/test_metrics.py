"""Metrics against their formulas."""

from math import isnan, sqrt

import numpy as np
import pytest

from jangin.models.tasks import Task
from jangin.training.metrics import METRICS

TRUTH = np.array([[0.0, 10.0], [1.0, 30.0], [4.0, 20.0], [2.0, 20.0]])
SAID = np.array([[1.0, 10.0], [1.0, 20.0], [1.0, 40.0], [2.0, 20.0]])
SPANS = np.array([2.0, 100.0])


def test_regression_metrics_of_one_target_are_in_its_units() -> None:
    truth, said = TRUTH[:, :1], SAID[:, :1]
    expected = {"rmse": sqrt(10 / 4), "mae": 4 / 4, "mse": 10 / 4}
    for name, figure in expected.items():
        assert METRICS[name](truth, said) == pytest.approx(figure)
        assert METRICS[name](truth, said, SPANS[:1]) == pytest.approx(figure)


def test_several_targets_are_weighed_by_their_public_spans() -> None:
    expected = {
        "rmse": (sqrt(10 / 4) / 2 + sqrt(500 / 4) / 100) / 2,
        "mae": (1.0 / 2 + 7.5 / 100) / 2,
        "mse": (2.5 / 4 + 125 / 100**2) / 2,
    }
    for name, figure in expected.items():
        assert METRICS[name](TRUTH, SAID, SPANS) == pytest.approx(figure)


def test_several_targets_without_spans_count_in_their_own_units() -> None:
    assert METRICS["mae"](TRUTH, SAID) == pytest.approx((1.0 + 7.5) / 2)


def test_accuracy_counts_what_was_called_right() -> None:
    truth = np.array([0, 1, 1, 0])
    assert METRICS["accuracy"](truth, np.array([0.2, 0.9, 0.4, 0.5])) == 0.75
    shares = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3]])
    assert METRICS["accuracy"](np.array([0, 2, 1, 0]), shares) == 0.75


def test_macro_f1_counts_every_class_the_same() -> None:
    truth, said = np.array([0, 0, 0, 1]), np.array([0.1, 0.2, 0.8, 0.9])
    # class 0: precision 1, recall 2/3; class 1: precision 1/2, recall 1.
    assert METRICS["macro_f1"](truth, said) == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert METRICS["macro_f1"](np.zeros(3, np.int64), np.ones(3)) == 0.0


def test_average_precision_is_the_mean_precision_at_the_positives() -> None:
    truth, said = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    assert METRICS["average_precision"](truth, said) == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_auc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.integers(0, 2, 60), rng.integers(0, 12, 60) / 12
    pairs = said[truth == 1][:, None] - said[truth == 0][None]
    assert METRICS["auc"](truth, said) == pytest.approx(((pairs > 0) + (pairs == 0) / 2).mean())


@pytest.mark.parametrize("name", METRICS)
def test_nothing_to_compare_is_undefined(name: str) -> None:
    assert isnan(METRICS[name](np.empty(0), np.empty(0)))


@pytest.mark.parametrize(("name", "labels"), [("average_precision", [0, 0]), ("auc", [0, 0]), ("auc", [1, 1])])
def test_a_ranking_without_one_of_its_classes_is_undefined(name: str, labels: list[int]) -> None:
    assert isnan(METRICS[name](np.array(labels), np.array([0.1, 0.9])))


def test_a_perfect_prediction_cannot_be_beaten() -> None:
    perfect = {Task.REGRESSION: (TRUTH, TRUTH), Task.BINARY: (np.array([0, 1, 1]), np.array([0.0, 1.0, 1.0]))}
    for metric in METRICS.values():
        task = Task.REGRESSION if Task.REGRESSION in metric.tasks else Task.BINARY
        best = metric(*perfect[task])
        assert best == (1.0 if metric.higher_is_better else 0.0)
        worse = metric(perfect[task][0], 0.9 - perfect[task][1])
        assert metric.better(best, worse)
        assert not metric.better(worse, best)
        assert not metric.better(best, best)
        assert not metric.better(float("nan"), worse)
