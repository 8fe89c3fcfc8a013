"""Laws of the three forms of data: what becomes of a set, of generated records, of records on disk."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from jangin import simulate
from jangin.errors import DataError, PlanError
from jangin.models.tasks import Task
from jangin.records.checks import validate
from jangin.records.generate import generate
from jangin.records.manifest import read_manifest
from jangin.simulation.experiment import Experiment, read_experiment
from jangin.simulation.federation import Federation, load

Write = Callable[..., Path]
Rows = Callable[..., dict[str, np.ndarray]]
LINE = "national-bof-blow"


def federation(file: Path, folder: Path = Path("unused"), **sets: Any) -> Federation:
    return load(read_experiment(file, sets), folder, lambda what, done, total: None)


@pytest.fixture
def over(tmp_path: Path) -> Callable[..., Path]:
    """A simulation file over a data block."""

    def over(data: dict[str, Any], **blocks: Any) -> Path:
        strategy = {"name": "fedavg", "rounds": 2, "local_steps": 2, "batch": 8, "lr": 0.01}
        tree = {"data": data, "model": {"name": "linear"}, "strategy": strategy, "baselines": ["constant"]}
        file = tmp_path / "simulation.yaml"
        file.write_text(yaml.safe_dump(tree | blocks))
        return file

    return over


def line_of(tmp_path: Path, **keys: Any) -> str:
    """The path of a copy of the national line with other keys."""
    line = yaml.safe_load(files("jangin.configs").joinpath("lines", f"{LINE}.yaml").read_text()) | keys
    file = tmp_path / "line.yaml"
    file.write_text(yaml.safe_dump(line))
    return str(file)


def records(folders: list[Path], line: str = LINE) -> dict[str, Any]:
    return {"records": [str(folder) for folder in folders], "model_line": line}


def test_every_row_of_a_set_is_at_its_site_on_its_side(write: Write, rows: Rows) -> None:
    arrays = rows("regression")
    made = federation(write(arrays))
    for number, silo in enumerate(made.silos):
        for side, examples in enumerate((silo.train, silo.test)):
            here = (arrays["silo"] == number) & (arrays["split"] == side)
            np.testing.assert_array_equal(examples.inputs, arrays["X"][here])
            np.testing.assert_array_equal(examples.targets[:, 0], arrays["y"][here])
            np.testing.assert_array_equal(examples.units, arrays["unit"][here])
    assert made.most_units == 42


def test_each_row_is_a_unit_where_the_file_is_asked_to_say_so(write: Write, rows: Rows) -> None:
    arrays = rows("regression")
    arrays["unit"] = arrays["unit"] // 4
    grouped, single = (federation(write(arrays, {"data.unit": unit})) for unit in ("set", "row"))
    assert (grouped.most_units, single.most_units) == (14, 42)
    for one, other in zip(grouped.silos, single.silos, strict=True):
        np.testing.assert_array_equal(one.train.inputs, other.train.inputs)


@pytest.mark.parametrize(("task", "outputs"), [("regression", 1), ("binary", 1), ("multiclass", 3)])
def test_a_model_has_as_many_outputs_as_its_task_needs(write: Write, task: str, outputs: int) -> None:
    assert federation(write(task=task)).outputs == outputs


def test_public_classes_that_nobody_has_still_have_an_output(write: Write) -> None:
    assert federation(write(sets={"data.classes": 5}, task="multiclass")).outputs == 5


def test_one_range_serves_all_targets_and_all_features(write: Write, rows: Rows) -> None:
    arrays = rows("regression")
    arrays["y"] = np.column_stack([arrays["y"]] * 2)
    made = federation(write(arrays, {"data.y_range": [-9, 9], "data.x_range": [-1, 2]}))
    assert made.targets.low.tolist() == [-9, -9]
    assert made.inputs.high.tolist() == [2, 2, 2]


def test_records_and_the_process_that_made_them_give_the_same_examples(
    over: Callable[..., Path], tmp_path: Path
) -> None:
    data = {"process": "steel.bof_blow", "model_line": LINE, "sites": 2, "masters": 2, "episodes": 12}
    made = federation(over(data, seed=3), tmp_path / "made")
    folders = generate("steel.bof_blow", tmp_path / "again", sites=2, masters=2, episodes=12, seed=3)
    for folder, silo in zip(folders, made.silos, strict=True):
        assert validate(folder).passed
        assert read_manifest(tmp_path / "made" / folder.name).unit == "episode"
        assert len(silo.train) + len(silo.test) == 12
    again = federation(over(records(folders)))
    for one, other in zip(made.silos, again.silos, strict=True):  # another key drew another hold-out
        both = [np.concatenate([silo.train.inputs, silo.test.inputs]) for silo in (one, other)]
        np.testing.assert_array_equal(np.sort(both[0], axis=0), np.sort(both[1], axis=0))
    assert made.inputs is not None
    assert made.targets.high.tolist() == [3500, 240]


def test_the_same_seed_makes_the_same_hold_out(over: Callable[..., Path], tmp_path: Path) -> None:
    data = {"process": "steel.bof_blow", "model_line": LINE, "sites": 2, "masters": 2, "episodes": 12}
    one, other = (federation(over(data), tmp_path / name) for name in ("one", "other"))
    for first, second in zip(one.silos, other.silos, strict=True):
        np.testing.assert_array_equal(first.test.inputs, second.test.inputs)
    keys = {path.read_bytes() for path in (tmp_path / "one").glob("*/holdout.key")}
    assert len(keys) == 2


def test_the_unit_master_has_masters_for_units_and_a_hold_out_of_masters(
    over: Callable[..., Path], tmp_path: Path
) -> None:
    data = {"process": "steel.bof_blow", "model_line": LINE, "sites": 2, "masters": 2, "episodes": 12}
    file = over(data, privacy={"unit": "master"})
    made = federation(file, tmp_path / "made")
    for number, silo in enumerate(made.silos):
        assert read_manifest(tmp_path / "made" / f"site-{number}").unit == "master"
        assert len(np.unique(silo.train.units)) == len(np.unique(silo.test.units)) == 1
        assert len(silo.train) == len(silo.test) == 6
    assert made.most_units == 1
    assert np.isfinite(simulate(file).metric["federated"])


def test_a_hold_out_of_masters_serves_the_unit_episode_too(over: Callable[..., Path], tmp_path: Path) -> None:
    folders = generate("steel.bof_blow", tmp_path, sites=1, masters=2, episodes=12, seed=0)
    validate(folders[0], unit="master")
    assert federation(over(records(folders))).most_units == 6


def test_records_of_another_process_are_refused(
    over: Callable[..., Path], blows: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jangin.simulation.federation.read_process", lambda name: None)
    line = line_of(tmp_path, process="steel.other")
    with pytest.raises(DataError, match=r"JG-data-071 .*site-0: .*'steel\.other'.*'steel\.bof_blow'"):
        federation(over(records(blows, line)))


def classes(task: str, low: float, high: float) -> dict[str, Any]:
    return {"task": task, "targets": [{"outcome": "hit", "range": [low, high]}]}


@pytest.mark.parametrize(("task", "high", "outputs"), [("binary", 1, 1), ("multiclass", 1, 2), ("multiclass", 4, 5)])
def test_a_line_of_classes_has_the_outputs_of_its_public_range(
    over: Callable[..., Path], blows: list[Path], tmp_path: Path, task: str, high: int, outputs: int
) -> None:
    data = records(blows, line_of(tmp_path, **classes(task, 0, high))) | {"one_class_sites": "keep"}
    made = federation(over(data))
    assert (made.task, made.outputs, made.targets) == (Task(task), outputs, None)
    assert np.isfinite(simulate(over(data)).metric["federated"])


def test_a_binary_line_has_two_classes(over: Callable[..., Path], blows: list[Path], tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"JG-plan-003 national-bof-blow: targets\.0\.range: .*\[0\.0, 3\.0\]"):
        federation(over(records(blows, line_of(tmp_path, **classes("binary", 0, 3)))))


def test_a_line_that_no_model_learns_yet_is_refused(
    over: Callable[..., Path], blows: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=r"JG-plan-003 national-bof-blow: task: .*'anomaly'"):
        federation(over(records(blows, line_of(tmp_path, **classes("anomaly", 0, 1)))))


def test_a_site_of_one_class_is_refused_in_records_too(
    over: Callable[..., Path], blows: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jangin.models.cut as module

    def all_hits(*arguments: Any) -> Any:
        made = cut(*arguments)
        return type(made)(made.inputs, np.ones_like(made.targets), made.units)

    cut = module.cut
    monkeypatch.setattr(module, "cut", all_hits)
    with pytest.raises(DataError, match=r"JG-data-080 .*/site-0: .* site-0 .* 1\."):
        federation(over(records(blows, line_of(tmp_path, **classes("binary", 0, 1)))))


def test_a_file_reads_back_as_what_it_was_written_from(write: Write) -> None:
    experiment = read_experiment(write(sets={"data.y_range": [[1, 5]], "privacy.epsilon": 4}), {})
    assert Experiment.model_validate(experiment.model_dump(mode="json")) == experiment


def test_a_value_of_set_is_read_as_yaml(write: Write) -> None:
    sets = {"privacy.epsilon": "4", "privacy.delta": "1e-5", "baselines": "[pooled]", "strategy.rounds": 9}
    experiment = read_experiment(write(), sets)
    assert (experiment.privacy.epsilon, experiment.privacy.delta) == (4, 1e-5)
    assert (experiment.baselines, experiment.strategy.rounds) == (("pooled",), 9)
