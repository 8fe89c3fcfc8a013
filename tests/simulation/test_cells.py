"""Laws of cells in a simulation: a robust rule over the means of secure sums, and what it is worth against one liar."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jangin import simulate
from jangin.errors import PlanError, ServerError
from jangin.flower_link.wire import Wire
from jangin.plan.cells import split
from jangin.privacy.secure_sum.table import Step
from jangin.simulation.experiment import read_experiment
from jangin.simulation.sums import SummingSites
from jangin.strategies.median import Median
from jangin.training.site import Site

Write = Callable[..., Path]
Rows = Callable[..., dict[str, np.ndarray]]
Wrong = Callable[[str, Wire], bool]

CELLS = {
    "strategy.name": "median",
    "privacy.secure_aggregation": "required",
    "privacy.c_max": 1,
    "privacy.cells": 3,
}
ONE_SUM = CELLS | {"strategy.name": "fedavg", "privacy.cells": 1}


@pytest.fixture
def file(write: Write, rows: Rows) -> Path:
    return write(rows("regression", sizes=(16,) * 12), {"data.x_range": [-14, 14], "data.y_range": [-90, 90]})


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.float64]]:
    """What the median was taken of, round by round."""
    rows: list[NDArray[np.float64]] = []
    update = Median.update

    def updated(self: Median, state: Any, gathered: Any, cohort: int) -> Any:
        rows.append(gathered)
        return update(self, state, gathered, cohort)

    monkeypatch.setattr(Median, "update", updated)
    return rows


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of the sites of the last simulation of sums, in their order."""
    found: list[str] = []
    made = SummingSites.__init__

    def make(self: SummingSites, recipe: Any, sites: Sequence[Site], *rest: Any) -> None:
        found[:] = [site.name for site in sites]
        made(self, recipe, sites, *rest)

    monkeypatch.setattr(SummingSites, "__init__", make)
    return found


def cells_of(file: Path, names: Sequence[str], sets: dict[str, Any]) -> list[list[int]]:
    """The sites of each cell by their places."""
    campaign = read_experiment(file, sets).digest("simulation")
    return [sorted(names.index(site) for site in cell) for cell in split(campaign, names, sets["privacy.cells"])]


@pytest.mark.parametrize("engine", ["sequential", "flower"])
def test_a_median_over_cells_is_that_of_the_means_of_plain_updates(
    file: Path, names: list[str], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure = simulate(file, engine=engine, sets=CELLS).parameters
    cells, update = cells_of(file, names, CELLS), Median.update

    def of_means(self: Median, state: Any, gathered: Any, cohort: int) -> Any:
        return update(self, state, np.stack([gathered[cell].mean(axis=0) for cell in cells]), cohort)

    monkeypatch.setattr(Median, "update", of_means)
    plain = simulate(file, sets={"strategy.name": "median"}).parameters
    assert np.linalg.norm(plain - secure) <= 1e-5 * np.linalg.norm(plain)


def test_one_liar_moves_a_median_over_cells_less_than_a_mean_and_not_past_the_honest_cells(
    file: Path, names: list[str], seen: list[NDArray[np.float64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_round = {"strategy.rounds": 1}
    honest = {name: simulate(file, sets=sets | one_round).parameters for name, sets in (("c", CELLS), ("s", ONE_SUM))}
    liar, told = names[4], Site._update

    def lie(self: Site, *arguments: Any) -> Any:
        update = told(self, *arguments)
        return np.full_like(update, -1e6) if self.name == liar else update

    monkeypatch.setattr(Site, "_update", lie)
    lied = {name: simulate(file, sets=sets | one_round).parameters for name, sets in (("c", CELLS), ("s", ONE_SUM))}
    moved = {name: np.linalg.norm(lied[name] - honest[name]) for name in lied}
    assert moved["c"] < moved["s"] / 2
    clean, poisoned = seen
    (wrong,) = [number for number, cell in enumerate(cells_of(file, names, CELLS | one_round)) if 4 in cell]
    others = np.delete(clean, wrong, axis=0)
    step = np.median(poisoned, axis=0)
    slack = 1e-5 * np.abs(clean).max()
    assert np.abs(poisoned[wrong] - clean[wrong]).max() > np.ptp(others, axis=0).max()
    assert (step >= others.min(axis=0) - slack).all()
    assert (step <= others.max(axis=0) + slack).all()


def out_of(wrong: Wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sites answer some messages with what is none of the protocol's."""
    answered = SummingSites._answered

    def spoil(self: SummingSites, place: int, asked: Wire) -> Wire:
        wire = answered(self, place, asked)
        name = self._sites[place].name
        return Wire(wire.kind, wire.campaign, wire.round, b"no answer") if wrong(name, asked) else wire

    monkeypatch.setattr(SummingSites, "_answered", spoil)


def test_a_cell_whose_sum_fails_is_left_out_of_its_round_and_is_back_in_the_next(
    write: Write, rows: Rows, seen: list[NDArray[np.float64]], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ranges = {"data.x_range": [-18, 18], "data.y_range": [-120, 120]}
    file, sets = write(rows("regression", sizes=(16,) * 16), ranges), CELLS | {"privacy.cells": 4}
    campaign = read_experiment(file, sets).digest("simulation")

    def wrong(name: str, asked: Wire) -> bool:
        first = sorted(split(campaign, names, 4)[0])
        return asked.round == 2 and asked.kind == Step.MASK.value and name in first[:2]

    out_of(wrong, monkeypatch)
    simulate(file, sets=sets)
    assert [len(rows) for rows in seen] == [4, 3, 4]


def test_a_round_of_fewer_than_three_cells_ends_with_the_names_of_the_others(
    file: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = read_experiment(file, CELLS).digest("simulation")

    def wrong(name: str, asked: Wire) -> bool:
        return asked.round == 2 and asked.kind == Step.MASK.value and name in split(campaign, names, 3)[1]

    out_of(wrong, monkeypatch)
    with pytest.raises(ServerError, match="JG-server-001 round 2, 2 of 3 cells") as caught:
        simulate(file, sets=CELLS)
    assert set(caught.value.coded.values["missing"]) == split(campaign, names, 3)[1]


def test_cells_carry_noise_of_their_own(file: Path, private: dict[str, Any]) -> None:
    result = simulate(file, sets=private | {"data.x_range": [-14, 14]} | CELLS, accept_noise=True)
    assert result.privacy["mechanism"] == "M1"
    assert result.privacy["epsilon"] <= 8


@pytest.mark.parametrize("asked", [{"privacy.cells": 4}, {"privacy.n_plan": 5}])
def test_cells_too_small_for_a_sum_are_refused(file: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=r"JG-plan-03[34] "):
        simulate(file, sets=CELLS | asked)
