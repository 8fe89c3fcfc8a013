"""Laws of a sweep: one row a combination, what is refused is said and stops nobody, what is finished is only read."""

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from jangin.errors import PlanError, SimulationError
from jangin.simulation import Sweep, simulate, sweep
from jangin.simulation.comparison import Row, csv_table, markdown
from jangin.simulation.plots import better_off_at_sites, better_off_in_runs, metric_by_epsilon

Write = Callable[..., Path]
OVER: dict[str, list[Any]] = {"privacy.epsilon": [8, "none", 0.01]}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private simulation of three sites; at epsilon 0.01 it is a plan of noise."""
    folder = tmp_path_factory.mktemp("set")
    stream = np.random.default_rng(0)
    inputs = stream.normal(size=(300, 2)).astype(np.float32)
    number = np.arange(300)
    split = (number % 4 == 3).astype(np.int64)
    np.savez(folder / "set.npz", X=inputs, y=inputs.sum(axis=1), silo=number % 3, unit=number, split=split)
    simulation = folder / "simulation.yaml"
    simulation.write_text(
        f"data: {{npz: {folder / 'set.npz'}, task: regression, x_range: [-5, 5], y_range: [-8, 8]}}\n"
        "model: {name: linear}\n"
        "strategy: {name: fedavg, rounds: 2, local_steps: 2, batch: 80, lr: 0.1, finetune_steps: 2}\n"
        "privacy: {delta: 1e-3, nominal_units: 80, scaling_share: 0}\n"
        "baselines: [local, constant]\n"
    )
    return simulation


@pytest.fixture(scope="module")
def kept(file: Path) -> tuple[Sweep, Path]:
    """A sweep and the folder that keeps it; not to be changed."""
    folder = file.parent / "kept"
    return sweep(file, OVER, out=folder), folder


def test_every_combination_is_a_row_and_the_last_key_changes_fastest(file: Path) -> None:
    over = {"strategy.lr": [0.1, 0.2], "strategy.rounds": [1, 3]}
    done = sweep(file, over, baselines=[])
    assert [tuple(row.values.values()) for row in done.rows] == [(0.1, 1), (0.1, 3), (0.2, 1), (0.2, 3)]
    assert [len(row.figures.rounds) for row in done.rows if row.figures] == [1, 3, 1, 3]
    assert done.complete


def test_two_ways_to_write_one_plan_are_one_run(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[object] = []
    module = sys.modules["jangin.simulation.sweep"]  # the package has the function by that name
    monkeypatch.setattr(module, "simulate", lambda *a, **b: (ran.append(b), simulate(*a, **b))[1])
    done = sweep(file, {"strategy.lr": [0.01, "1.0e-2", 0.02]}, baselines=[])
    assert len(ran) == 2
    assert done.rows[0].figures is done.rows[1].figures is not done.rows[2].figures


def test_a_folder_with_damaged_files_says_which(file: Path, tmp_path: Path) -> None:
    sweep(file, {"strategy.lr": [0.01]}, out=tmp_path / "kept", baselines=[])
    (result,) = (tmp_path / "kept").glob("*/result.json")
    result.write_text("{")
    with pytest.raises(SimulationError, match="JG-sim-035"):
        sweep(file, {"strategy.lr": [0.01]}, out=tmp_path / "kept", baselines=[])


def test_what_is_refused_is_a_row_and_stops_nobody(kept: tuple[Sweep, Path]) -> None:
    done, _ = kept
    assert [row.refused and row.refused.code for row in done.rows] == [None, None, "JG-privacy-005"]
    assert not done.complete


def test_a_row_is_the_run_that_its_values_give(file: Path, kept: tuple[Sweep, Path]) -> None:
    alone = simulate(file)
    row = kept[0].rows[1]
    assert row.figures is not None
    assert row.figures.metric == alone.metric
    line = kept[0].as_dict()
    assert line["sweep"] == ["privacy.epsilon"]
    run = line["runs"][1]
    assert run.pop("set") == {"privacy.epsilon": "none"}
    assert run.keys() == alone.as_dict().keys()
    assert run["metric"] == alone.as_dict()["metric"]
    assert line["runs"][2]["refused"]["code"] == "JG-privacy-005"
    json.dumps(line, allow_nan=False)


def test_a_folder_keeps_runs_tables_and_pictures(kept: tuple[Sweep, Path]) -> None:
    done, folder = kept
    pictures = {"better_off.png", "metric_by_epsilon.png", "metric_by_round.png"}
    runs = {"1-privacy.epsilon=8", "2-privacy.epsilon=none"}
    tables = {"comparison.csv", "comparison.md", "sweep.json"}
    assert {path.name for path in folder.iterdir()} == pictures | runs | tables
    assert (folder / "comparison.md").read_text(encoding="utf-8") == done.markdown()
    for name in pictures:
        height, width, _ = imread(folder / name).shape
        assert 400 <= height <= 700
        assert 900 <= width <= 5200


def test_what_is_finished_is_read_and_the_rest_is_run(
    file: Path, kept: tuple[Sweep, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def told(*arguments: Any, sets: dict[str, Any], **rest: Any) -> Any:
        ran.append(sets["privacy.epsilon"])
        return simulate(*arguments, sets=sets, **rest)

    monkeypatch.setattr(sys.modules["jangin.simulation.sweep"], "simulate", told)
    again = sweep(file, OVER, out=kept[1])
    assert ran == [0.01]
    assert again.markdown() == kept[0].markdown()
    for row, first in zip(again.rows[:2], kept[0].rows[:2], strict=True):
        assert row.figures is not None
        assert first.figures is not None
        for name in ("metric", "std", "better_off", "privacy", "sites", "per_site", "rounds"):
            assert getattr(row.figures, name) == getattr(first.figures, name)


def test_a_folder_of_something_else_is_refused(file: Path, kept: tuple[Sweep, Path], tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="JG-sim-001 --out: "):
        sweep(file, OVER, out=tmp_path)
    with pytest.raises(SimulationError, match=r"JG-sim-024 .* per_site: false"):
        sweep(file, OVER, out=kept[1], per_site=True)
    with pytest.raises(SimulationError, match=r"JG-sim-024 .* 1-privacy\.epsilon=8: another plan"):
        sweep(file, OVER, out=kept[1], seed=3)
    (tmp_path / "file").touch()
    with pytest.raises(SimulationError, match="JG-sim-003 --out: "):
        sweep(file, OVER, out=tmp_path / "file" / "below")


@pytest.mark.parametrize("over", [{"seed": [1, 2]}, {"metric": []}])
def test_a_key_that_is_set_too_or_has_no_value_is_refused(file: Path, over: dict[str, list[Any]]) -> None:
    with pytest.raises(PlanError, match="JG-plan-003 --sweep"):
        sweep(file, over, seed=7)


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_the_table_states_every_promise_its_unit_and_what_it_leaves_out(kept: tuple[Sweep, Path], lang: Any) -> None:
    lines = kept[0].markdown(lang).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 3
    assert len({row.count("|") for row in rows}) == 1
    assert "ε = 7.9" in rows[2] or "ε = 8, " in rows[2]
    assert ("per episode" if lang == "en" else "단위 에피소드") in rows[2]
    assert "NO DIFFERENTIAL PRIVACY" in rows[3]
    assert "JG-privacy-005" in rows[4]
    assert ("whose losses add up" if lang == "en" else "손실은 더해짐") in lines[-1]


def test_the_csv_has_a_number_in_every_cell_that_has_one(kept: tuple[Sweep, Path]) -> None:
    lines = list(csv.DictReader(csv_table(kept[0].rows).splitlines()))
    figures = kept[0].rows[0].figures
    assert figures is not None
    assert float(lines[0]["federated"]) == figures.metric["federated"]
    assert float(lines[0]["local_private_std"]) == figures.std["local_private"]
    assert (lines[0]["unit"], lines[0]["privacy.epsilon"], lines[1]["privacy.epsilon"]) == ("episode", "8", "none")
    assert lines[1]["epsilon"] == "NO DIFFERENTIAL PRIVACY"
    assert lines[2]["refused"] == "JG-privacy-005"


def test_one_result_is_a_table_too(kept: tuple[Sweep, Path]) -> None:
    figures = kept[0].rows[1].figures
    assert figures is not None
    head, _, row = (line for line in markdown([Row(figures)]).splitlines() if line.startswith("|"))
    assert head.startswith("| federated |")
    assert row.startswith(f"| {figures.metric['federated']:.4g} |")


def colour(file: Path, name: str) -> int:
    """Number of points of a picture in a colour."""
    wanted = np.array([int(name[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return int((np.abs(imread(file)[:, :, :3] - wanted).max(axis=2) < 0.02).sum())


def test_pictures_show_who_gains_and_who_does_not_and_a_line_for_each_other_value(
    kept: tuple[Sweep, Path], tmp_path: Path
) -> None:
    figures = kept[0].rows[1].figures
    assert figures is not None
    own = figures.per_site["local"]
    other = {"federated": tuple(np.add(own, (-0.1, 0.1, np.nan)).tolist())}  # an error: less is better
    mixed = replace(figures, per_site={**figures.per_site, **other})
    better_off_at_sites(mixed, tmp_path / "sites.png")
    better_off_in_runs([Row(mixed, {"a.b": 1})], tmp_path / "runs.png")
    for name in ("sites.png", "runs.png"):
        assert colour(tmp_path / name, "#0072B2") > 10
        assert colour(tmp_path / name, "#D55E00") > 10
    metric_by_epsilon(kept[0].rows, tmp_path / "one.png")
    assert colour(tmp_path / "one.png", "#CC79A7") > 10  # each alone at the same epsilon
    rows = [Row(row.figures, {**row.values, "a.b": number}) for row in kept[0].rows[:2] for number in (1, 2)]
    metric_by_epsilon(rows, tmp_path / "two.png")
    assert colour(tmp_path / "two.png", "#CC79A7") == 0  # federated lines alone, in a colour each
    assert colour(tmp_path / "two.png", "#D55E00") > 10
