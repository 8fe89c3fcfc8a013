"""Laws of a run that breaks off: the same run goes on from its last rounds to the result it would have had."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from random import randrange
from typing import Any

import numpy as np
import pytest

from jangin import simulate
from jangin.errors import SimulationError
from jangin.privacy.recount import Verdict, recount
from jangin.simulation import unfinished
from jangin.simulation.result import Result
from jangin.simulation.unfinished import Stand, Unfinished

Write = Callable[..., Path]
Rows = Callable[..., dict[str, np.ndarray]]

MLP = {"name": "mlp", "hidden": [4]}
RUNS = {
    "fedavg": {"baselines": ["local", "constant"]},
    "a state at the server": {"strategy.name": "fedadam"},
    "models of their own": {"strategy.name": "mrmtl", "strategy.lam": 0.5, "baselines": ["personalised"]},
    "paths": {"model": {"name": "mlp", "hidden": [128, 128]}},  # few rows of wide maps: training/paths.py
    "a part of their own": {"model": MLP | {"personal": ["head"]}, "baselines": ["personalised"]},
}


@pytest.fixture
def every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round is kept, however short it was."""
    monkeypatch.setattr(unfinished, "_SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(unfinished, "_COSTS_AT_MOST", inf)


class Stopping:
    """A progress that stops the run after so many rounds, and remembers what it was told."""

    def __init__(self, after: float = inf) -> None:
        self.told: list[tuple[str, int, int]] = []
        self._left = after

    def __call__(self, what: str, done: int, total: int) -> None:
        self.told.append((what, done, total))
        self._left -= what == "round"
        if not self._left:
            raise KeyboardInterrupt


def stopped(file: Path, out: Path, after: int, **options: Any) -> list[tuple[str, int, int]]:
    """What was told of a run that is stopped after so many rounds of its own."""
    progress = Stopping(after)
    with pytest.raises(KeyboardInterrupt):
        simulate(file, out=out, progress=progress, **options)
    assert not out.exists()
    return progress.told


def assert_same(result: Result, other: Result) -> None:
    np.testing.assert_array_equal(result.parameters, other.parameters)
    assert [{**row, "seconds": 0} for row in result.rounds] == [{**row, "seconds": 0} for row in other.rounds]
    for name in ("metric", "std", "better_off", "per_site", "union", "privacy", "sites", "layout", "warnings"):
        assert getattr(result, name) == getattr(other, name)
    assert result.scaling.as_dict() == other.scaling.as_dict()


@pytest.mark.usefixtures("every_round")
@pytest.mark.parametrize("engine", [("stacked", 1), ("stacked", 2), ("sequential", 1)], ids=str)
@pytest.mark.parametrize("sets", RUNS.values(), ids=RUNS)
def test_a_run_that_was_stopped_twice_ends_with_the_same_bits(
    write: Write, tmp_path: Path, sets: dict[str, Any], engine: tuple[str, int]
) -> None:
    file, out = write(sets=sets | {"seeds": 2}), tmp_path / "run"
    how: dict[str, Any] = dict(zip(("engine", "threads"), engine, strict=True))
    undisturbed = simulate(file, **how)
    assert stopped(file, out, 2, **how)[0] == ("round", 1, 3)
    assert stopped(file, out, 2, **how)[:2] == [("resumed", 2, 6), ("round", 3, 3)]
    last = Stopping()
    assert_same(simulate(file, out=out, progress=last, **how), undisturbed)
    assert last.told[0] == ("resumed", 4, 6)
    assert sum(what == "round" for what, _, _ in last.told) == 2
    assert [path.name for path in tmp_path.iterdir() if "run" in path.name] == ["run"]
    assert not (out / "unfinished").exists()


@pytest.mark.usefixtures("every_round")
@pytest.mark.parametrize("run", ["models of their own", "models tuned at the sites"])
def test_a_run_that_was_stopped_when_all_rounds_were_done_does_none_again(
    write: Write, tmp_path: Path, run: str
) -> None:
    file, out, last = write(sets=RUNS.get(run, {"baselines": ["personalised"]})), tmp_path / "run", Stopping()
    stopped(file, out, 3)
    assert_same(simulate(file, out=out, progress=last), simulate(file))
    assert "round" not in {what for what, _, _ in last.told}


@pytest.fixture
def half(write: Write, tmp_path: Path, every_round: None) -> tuple[Path, Path]:
    """A simulation of which one round of three is done, and its folder that is to appear."""
    file, out = write(), tmp_path / "run"
    stopped(file, out, 1)
    return file, out


@pytest.mark.parametrize(
    ("differs", "options"),
    [
        ("plan", {"strategy.lr": 0.01}),
        ("plan", {"seed": 5}),
        ("engine", {"engine": "sequential"}),
        ("threads", {"threads": 2}),
        ("per_site", {"per_site": True}),
        ("examples", {}),
    ],
)
def test_another_run_in_the_way_is_named_and_stays(
    half: tuple[Path, Path], rows: Rows, tmp_path: Path, differs: str, options: dict[str, Any]
) -> None:
    file, out = half
    before = simulate(file)
    arrays = rows("regression")
    if differs == "examples":
        np.savez(tmp_path / "set.npz", **arrays | {"y": arrays["y"] + (arrays["unit"] == 3)})
    with pytest.raises(SimulationError, match=rf"JG-sim-029 .*\.run\.part holds .* {differs} was") as refused:
        simulate(file, out=out, **options)
    assert str(tmp_path / ".run.part") in refused.value.coded.text("hint")
    np.savez(tmp_path / "set.npz", **arrays)
    assert_same(simulate(file, out=out), before)


def test_two_runs_never_work_on_one_folder(write: Write, tmp_path: Path) -> None:
    file, out, refused = write(), tmp_path / "run", []

    def again(what: str, done: int, total: int) -> None:
        with pytest.raises(SimulationError, match=r"JG-sim-028 .*another run works here now"):
            simulate(file, out=out)
        refused.append(what)

    simulate(file, out=out, progress=again)
    assert refused
    assert out.exists()


def test_a_damaged_file_is_never_gone_on_from(half: tuple[Path, Path], tmp_path: Path) -> None:
    file, out = half
    for name, content in (("seed-0.safetensors", b"\0" * 40), ("run.json", b"[1")):
        (tmp_path / ".run.part" / "unfinished" / name).write_bytes(content)
        with pytest.raises(SimulationError, match=rf"JG-sim-035 .*{name}"):
            simulate(file, out=out)


@pytest.mark.usefixtures("every_round")
def test_a_run_that_diverged_leaves_nothing_to_go_on_from(write: Write, tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="JG-sim-002"):
        simulate(write(), out=tmp_path / "new" / "run", **{"strategy.lr": 1e15, "strategy.rounds": 20})
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("every_round")
def test_records_that_were_made_are_not_made_again_and_a_part_of_them_is_not_used(write: Write, tmp_path: Path) -> None:
    data = {"process": "steel.bof_blow", "model_line": "national-bof-blow", "sites": 2, "masters": 2, "episodes": 12}
    file, out, last = write(sets={"data": data, "strategy.lr": 0.01}), tmp_path / "run", Stopping()
    (tmp_path / ".run.part" / "records" / "site-0").mkdir(parents=True)  # as kill -9 leaves them
    assert ("generate", 2, 2) in stopped(file, out, 1)
    result = simulate(file, out=out, progress=last)
    assert not {"generate", "validate"} & {what for what, _, _ in last.told}
    assert_same(result, simulate(file))


@pytest.mark.usefixtures("every_round")
@pytest.mark.parametrize("sums", ["none", "required"])
def test_with_privacy_a_run_that_goes_on_does_each_round_once_and_keeps_its_promise(
    write: Write, rows: Rows, private: dict[str, Any], tmp_path: Path, sums: str
) -> None:
    summed = {"privacy.secure_aggregation": "required", "privacy.c_max": 1} if sums == "required" else {}
    file, out = write(rows("regression", sizes=(40,) * 4), private | summed), tmp_path / "run"
    stopped(file, out, 2, accept_noise=True)
    result = simulate(file, out=out, accept_noise=True)
    assert [row["round"] for row in result.rounds] == [1, 2, 3]
    assert recount((out / "statement.json").read_bytes()).verdict is Verdict.HOLDS


def test_writing_takes_a_fiftieth_of_the_time_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    stand = Stand(unfinished.Progress(0, np.zeros(2, np.float32), np.zeros(2, np.float32)))

    def slow(*_: object) -> None:
        nonlocal now
        now += 3.0

    with Unfinished(tmp_path) as held:
        assert not held.due
        now += 2.0
        assert held.due
        monkeypatch.setattr(held, "_write", slow)
        held.save(0, stand)
        now += 149.0
        assert not held.due
        now += 1.0
        assert held.due
    assert not Unfinished(None).due


# The child keeps every round, and says so; it never comes to its end.
SCRIPT = """
import sys
from jangin.cli import main
from jangin.cli.talk import Advance
from jangin.simulation import unfinished
unfinished._SECONDS_BETWEEN, unfinished._COSTS_AT_MOST = 0.0, float("inf")
def told(self, what, done, total):
    print(what, done, flush=True)
    if done == 100:
        sys.stdin.read()
Advance.__call__ = told
main()
"""


@pytest.fixture
def child(tmp_path: Path, write: Write) -> Iterator["subprocess.Popen[str]"]:
    """A run of 120 rounds, each of which is kept, in a process with a temporary folder of its own."""
    (tmp_path / "temporary").mkdir()
    file = write(sets={"strategy.rounds": 120, "strategy.lr": 1e-3})
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "simulate", str(file), "--out", str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path / "temporary")},
        start_new_session=True,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.kill
def test_a_killed_run_leaves_no_process_and_goes_on_to_the_same_bits(
    child: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    moment = randrange(1, 100)
    assert child.stdout is not None
    while child.stdout.readline() != f"round {moment}\n":
        assert child.poll() is None
    child.kill()
    child.wait(30)
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)
    assert list((tmp_path / "temporary").iterdir()) == []
    file, last = tmp_path / "simulation.yaml", Stopping()
    result = simulate(file, out=tmp_path / "run", progress=last)
    assert last.told[0][0] == "resumed"
    assert moment <= last.told[0][1] <= 100
    assert_same(result, simulate(file))
    assert json.loads((tmp_path / "run" / "result.json").read_text())["metric"] == dict(result.metric)
