"""Bad input ends in a coded error, in both languages, that names place and value, and leaves nothing half-written."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from jangin.cli import main

Arrays = dict[str, np.ndarray]
Write = Callable[..., Path]
Rows = Callable[..., Arrays]


@dataclass(frozen=True)
class Case:
    """One mistake.

    Attributes:
        code: what it is called.
        named: words of the message: file, key, channel, value.
        exit: 2 for what the plan asks for, 1 for the rest.
        sets: keys of the simulation file.
        change: what is done to the set's arrays.
        options: of the command line.
    """

    code: str
    named: tuple[str, ...]
    exit: int
    sets: Mapping[str, Any] = field(default_factory=dict)
    change: Callable[[Arrays], object] = lambda arrays: None
    options: tuple[str, ...] = ()
    task: str = "regression"


def drop(key: str) -> Callable[[Arrays], object]:
    return lambda arrays: arrays.pop(key)


def put(key: str, make: Callable[[Arrays], np.ndarray]) -> Callable[[Arrays], object]:
    return lambda arrays: arrays.update({key: make(arrays)})


def hole(arrays: Arrays) -> None:
    arrays["X"][7, 2] = np.nan


def one_class(arrays: Arrays) -> None:
    arrays["y"][arrays["silo"] == 1] = 1


def odd_class(value: int) -> Callable[[Arrays], object]:
    def change(arrays: Arrays) -> None:
        arrays["y"][3] = value

    return change


PRIVATE = {"privacy.epsilon": 8, "privacy.delta": 1e-3, "data.y_range": [-40, 40]}
TWO = put("y", lambda a: np.column_stack([a["y"], a["y"]]))
PROCESS = {"process": "steel.bof_blow", "model_line": "national-bof-blow", "sites": 2, "masters": 2, "episodes": 12}

CASES = {
    "unknown key": Case("JG-plan-001", ("simulation.yaml", "strategy.ruonds", "rounds"), 2, {"strategy.ruonds": 3}),
    "unknown key by option": Case("JG-plan-001", ("data.nzp", "npz"), 2, options=("--set", "data.nzp=x")),
    "missing key": Case("JG-plan-002", ("simulation.yaml", "data.npz"), 2, {"data": {"task": "regression"}}),
    "wrong kind": Case("JG-plan-003", ("strategy.rounds", "'many'"), 2, options=("--set", "strategy.rounds=many")),
    "set without value": Case("JG-plan-003", ("--set", "a.b"), 2, options=("--set", "a.b")),
    "set that is no YAML": Case("JG-plan-003", ("strategy.lr", "[1"), 2, options=("--set", "strategy.lr=[1")),
    "set into a value": Case("JG-plan-003", ("seeds.x", "seeds"), 2, {"seeds": 1}, options=("--set", "seeds.x=1")),
    "unknown strategy": Case("JG-plan-003", ("strategy", "fedavgg"), 2, {"strategy.name": "fedavgg"}),
    "unknown model": Case("JG-plan-003", ("model", "trees"), 2, {"model": {"name": "trees"}}),
    "unknown baseline": Case("JG-plan-003", ("baselines", "best"), 2, {"baselines": ["best"]}),
    "unknown engine": Case("JG-plan-003", ("--engine", "warp", "sequential"), 2, options=("--engine", "warp")),
    "unknown metric": Case("JG-plan-003", ("metric", "'f2'", "macro_f1"), 2, {"metric": "f2"}),
    "metric of another task": Case("JG-plan-003", ("metric", "'auc'", "regression"), 2, {"metric": "auc"}),
    "unknown task": Case("JG-plan-003", ("data.task", "ranking"), 2, {"data.task": "ranking"}),
    "negative seed": Case("JG-plan-003", ("seed", "-1"), 2, options=("--seed", "-1")),
    "range upside down": Case("JG-plan-003", ("data.y_range", "[5, 1]"), 2, {"data.y_range": [5, 1]}),
    "one range upside down": Case("JG-plan-003", ("data.y_range.1", "[5, 1]"), 2, {"data.y_range": [[1, 5], [5, 1]]}),
    "no range at all": Case("JG-plan-003", ("data.y_range", "[]"), 2, {"data.y_range": []}),
    "ranges of other targets": Case("JG-plan-003", ("data.y_range", "1 targets"), 2, {"data.y_range": [[0, 1]] * 2}),
    "model of another shape": Case("JG-plan-011", ("model", "cnn1d", "(3)"), 2, {"model": {"name": "cnn1d"}}),
    "personal part of nothing": Case(
        "JG-plan-010", ("model.personal", "'hed'", "'head"), 2, {"model": {"name": "linear", "personal": ["hed"]}}
    ),
    "normalisation of a model without": Case(
        "JG-plan-045",
        ("model.name", "linear", "cnn2d or transformer", "fedavg"),
        2,
        {"strategy.name": "fedbn"},
    ),
    "a rule of Flower's on single updates": Case(
        "JG-plan-046", ("strategy.rule", "Krum", "FedAdagrad"), 2, {"strategy.name": "flower", "strategy.rule": "Krum"}
    ),
    "a seed for the noise": Case("JG-plan-001", ("privacy.seed",), 2, PRIVATE | {"privacy.seed": 42}),
    "a rate that is not the plan's own": Case(
        "JG-plan-001", ("privacy.sampling_probability",), 2, PRIVATE | {"privacy.sampling_probability": 0.1}
    ),
    "units that are not public": Case(
        "JG-plan-003", ("privacy.nominal_units", "'true'"), 2, PRIVATE | {"privacy.nominal_units": "true"}
    ),
    "delta too large": Case(
        "JG-plan-020", ("privacy.delta", "0.01", "42"), 2, PRIVATE | {"privacy.delta": 1e-2, "privacy.epsilon": 1}
    ),
    "single updates under secure aggregation": Case(
        *("JG-plan-021", ("strategy.name", "median", "fedavg"), 2),
        {"strategy.name": "median", "privacy.secure_aggregation": "required"},
    ),
    "too few sites for sums": Case(
        *("JG-plan-033", ("privacy.n_plan", "3 sites", "c_max 3"), 2),
        {"privacy.secure_aggregation": "required", "data.y_range": [-40, 40]},
    ),
    "a sum of targets without a range": Case(
        "JG-privacy-006", ("data.y_range",), 1, {"privacy.secure_aggregation": "required"}
    ),
    "several local steps of shared noise": Case(
        "JG-plan-035", ("strategy.local_steps", "not 2"), 2, PRIVATE | {"privacy.mechanism": "M2"}
    ),
    "unit site": Case("JG-plan-023", ("privacy.unit",), 2, PRIVATE | {"privacy.unit": "site"}),
    "private without range": Case("JG-privacy-006", ("data.y_range",), 1, PRIVATE | {"data.y_range": None}),
    "no such file": Case("JG-data-040", ("nowhere.npz",), 1, {"data.npz": "nowhere.npz"}),
    "missing array": Case("JG-data-041", ("set.npz", "'unit'"), 1, change=drop("unit")),
    "wrong dtype": Case(
        "JG-data-042", ("set.npz", "X", "float64"), 1, change=put("X", lambda a: a["X"].astype(np.float64))
    ),
    "wrong shape": Case("JG-data-043", ("set.npz", "'silo'", "(143,)"), 1, change=put("silo", lambda a: a["silo"][1:])),
    "NaN": Case("JG-data-044", ("set.npz", "X", "row 7", "column 2", "nan"), 1, change=hole),
    "empty site": Case(
        "JG-data-046", ("set.npz", "silo 1", "test"), 1, change=put("split", lambda a: a["split"] * (a["silo"] != 1))
    ),
    "site with one class": Case("JG-data-080", ("set.npz", "site-1", "class, 1"), 1, change=one_class, task="binary"),
    "third class of two": Case(
        "JG-data-081", ("set.npz", "2", "binary", "to 1"), 1, change=odd_class(2), task="binary"
    ),
    "negative class": Case("JG-data-081", ("set.npz", "-1"), 1, change=odd_class(-1), task="multiclass"),
    "class beyond those given": Case(
        "JG-data-081", ("set.npz", "7", "to 3"), 1, {"data.classes": 4}, odd_class(7), task="multiclass"
    ),
    "classes that are numbers": Case("JG-data-081", ("set.npz", "multiclass"), 1, {"data.task": "multiclass"}),
    "classes in two columns": Case("JG-data-081", ("set.npz", "(144, 2)"), 1, change=TWO, task="binary"),
    "targets without ranges": Case("JG-data-082", ("data.y_range", "2 targets", "set.npz"), 1, change=TWO),
    "run folder that exists": Case("JG-sim-001", ("--out", "taken"), 1, options=("--out", "taken")),
    "run folder below a file": Case(
        "JG-sim-003", ("--out", "simulation.yaml/run"), 1, options=("--out", "simulation.yaml/run")
    ),
    "training that diverges": Case("JG-sim-002", ("round", "1000"), 1, {"strategy.lr": 1e3, "strategy.rounds": 30}),
    "unknown process": Case(
        "JG-data-060", ("steel.bof", "steel.bof_blow"), 1, {"data": PROCESS | {"process": "steel.bof"}}
    ),
    "unknown line": Case(
        "JG-data-062", ("national-bof", "national-bof-blow"), 1, {"data": PROCESS | {"model_line": "national-bof"}}
    ),
    "records that are not there": Case(
        "JG-data-004", ("nowhere",), 1, {"data": {"records": ["nowhere"], "model_line": "national-bof-blow"}}
    ),
}


def said(file: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
    """Exit status, last line of stdout, and stderr of `jangin simulate` in this process."""
    arguments = ["simulate", str(file), *options, "--format", "json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["jangin", *arguments])
        with pytest.raises(SystemExit) as leaving:
            main()
    out, err = capsys.readouterr()
    return leaving.value.code, json.loads(out.splitlines()[-1]), err


def has_korean(text: str) -> bool:
    return any("가" <= letter <= "힣" for letter in text)


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_has_a_code_a_place_a_value_and_a_way_out_and_leaves_nothing(
    name: str,
    write: Write,
    rows: Rows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    case = CASES[name]
    arrays = rows(case.task)
    case.change(arrays)
    file = write(arrays, case.sets, case.task)
    (tmp_path / "taken").mkdir()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    out = () if "--out" in case.options else ("--out", "new/run")
    for lang in ("en", "ko"):
        status, line, err = said(file, (*case.options, *out, "--lang", lang), capsys)
        assert line.keys() == {"ok", "code", "message", "hint", "where"}
        assert (line["ok"], line["code"], status) == (False, case.code, case.exit)
        assert has_korean(line["message"]) == has_korean(line["hint"]) == (lang == "ko")
        assert line["message"] in err
        assert line["hint"] in err
        assert "Traceback" not in err
        if lang == "en":
            assert [
                word for word in case.named if word not in f"{line['where']} {line['message']} {line['hint']}"
            ] == []
        assert sorted(tmp_path.rglob("*")) == before


def records_file(folders: list[Path], tmp_path: Path, **sets: Any) -> Path:
    block = {"name": "fedavg", "rounds": 1, "local_steps": 1, "batch": 8, "lr": 0.01}
    tree = {
        "data": {"records": [str(folder) for folder in folders], "model_line": "national-bof-blow"},
        "model": {"name": "linear"},
        "strategy": block,
    }
    file = tmp_path / "records.yaml"
    file.write_text(yaml.safe_dump(tree | sets))
    return file


def rewrite_episodes(folder: Path) -> None:
    path = folder / "episodes.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def lose_channel(folder: Path) -> None:
    part = folder / "streams/sound/part-000.parquet"
    pq.write_table(pq.read_table(part).drop_columns(["level"]), part)


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (rewrite_episodes, "JG-data-005", "site-1/episodes.parquet"),
        (lose_channel, "JG-data-005", "site-1/streams/sound/part-000.parquet"),
        (lambda folder: (folder / "streams/sound/part-000.parquet").unlink(), "JG-data-006", "streams/sound"),
        (lose_manifest, "JG-data-004", "site-1"),
    ],
)
def test_records_that_are_not_what_was_validated_are_refused(
    change: Callable[[Path], object],
    code: str,
    named: str,
    blows: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine = [Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in blows]
    change(mine[1])
    status, line, _ = said(records_file(mine, tmp_path), ("--out", str(tmp_path / "run")), capsys)
    assert (line["code"], status) == (code, 1)
    assert named in line["message"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["records.yaml", "site-0", "site-1"]


def test_a_missing_channel_is_named_when_records_are_validated_again(
    blows: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = Path(shutil.copytree(blows[0], tmp_path / "site-0"))
    lose_channel(mine)
    monkeypatch.setattr("sys.argv", ["jangin", "data", "validate", str(mine), "--format", "json"])
    with pytest.raises(SystemExit) as leaving:
        main()
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (leaving.value.code, line["ok"], line["code"]) == (1, False, "JG-data-003")
    assert "'level'" in line["message"]


@pytest.mark.parametrize("epsilon", ["none", 8])
def test_a_hold_out_drawn_by_episode_says_nothing_about_masters(
    epsilon: str | int, blows: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = records_file(blows, tmp_path, privacy={"unit": "master", "epsilon": epsilon})
    status, line, _ = said(file, (), capsys)
    assert (status, line["code"]) == (1, "JG-data-083")
    assert "site-0" in line["where"]
    assert "--unit master" in line["hint"]


def test_a_folder_is_one_site_once(blows: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, line, _ = said(records_file([blows[0], blows[0]], tmp_path), (), capsys)
    assert (status, line["code"]) == (2, "JG-plan-003")
    assert "data.records" in line["message"]
