"""Laws of who is better off."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.simulation.result import better_off, defined
from jangin.training.metrics import METRICS

SITES = ("site-0", "site-1", "site-2", "site-3")
FIGURES = st.lists(st.floats(-9, 9), min_size=4, max_size=4)


def test_a_site_is_better_off_when_it_beats_the_best_it_could_do_alone() -> None:
    figures = {
        "local": (1.0, 3.0, 2.0, 1.0),
        "local_trees": (2.0, 2.0, 2.0, 1.0),
        "federated": (0.9, 2.5, 2.0, 1.0),
        "personalised": (1.5, 1.5, 2.1, 1.0),
    }
    said = better_off(figures, SITES, METRICS["rmse"])
    assert said == {"federated": 0.25, "personalised": 0.25, "sites_worse": ["site-2", "site-3"]}


def test_without_a_model_of_its_own_nobody_is_better_or_worse() -> None:
    said = better_off({"federated": (1.0, 1.0, 1.0, 1.0)}, SITES, METRICS["rmse"])
    assert said == {"federated": None, "personalised": None, "sites_worse": []}


def test_without_fine_tuning_the_federated_model_alone_decides() -> None:
    said = better_off({"local": (1.0, 2.0), "federated": (2.0, 1.0)}, SITES[:2], METRICS["rmse"])
    assert said == {"federated": 0.5, "personalised": None, "sites_worse": ["site-0"]}


def test_a_site_without_a_figure_is_in_no_share() -> None:
    figures = {"local": (0.5, np.nan), "federated": (0.6, np.nan)}
    assert better_off(figures, SITES[:2], METRICS["auc"]) == {
        "federated": 1.0,
        "personalised": None,
        "sites_worse": [],
    }


@given(FIGURES, FIGURES, FIGURES, FIGURES, st.floats(0.01, 5))
def test_a_better_federated_model_never_leaves_more_sites_worse_off(
    local: list[float], trees: list[float], federated: list[float], personalised: list[float], gain: float
) -> None:
    def said(raised: float) -> dict[str, object]:
        figures = {"local": local, "local_trees": trees, "personalised": personalised}
        return better_off(figures | {"federated": [f + raised for f in federated]}, SITES, METRICS["accuracy"])

    before, after = said(0), said(gain)
    assert after["federated"] >= before["federated"]
    assert set(after["sites_worse"]) <= set(before["sites_worse"])


@given(FIGURES, FIGURES, FIGURES)
def test_the_direction_of_a_metric_only_turns_the_signs(
    local: list[float], trees: list[float], federated: list[float]
) -> None:
    figures = {"local": local, "local_trees": trees, "federated": federated}
    turned = {name: [-figure for figure in values] for name, values in figures.items()}
    assert better_off(figures, SITES, METRICS["accuracy"]) == better_off(turned, SITES, METRICS["rmse"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_gets_null_for_what_it_cannot_say(value: float) -> None:
    assert defined({"a": value, "name": "rmse", "b": 0.0, "c": None}) == {
        "a": None,
        "name": "rmse",
        "b": 0.0,
        "c": None,
    }
