"""Laws of the run folder: what it holds, that it can be run again, and that it is there whole or not at all."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from matplotlib.image import imread
from safetensors import safe_open
from safetensors.numpy import load_file

from jangin import simulate
from jangin.errors import SimulationError
from jangin.privacy.recount import Verdict, recount
from jangin.simulation.run_folder import RunFolder

Write = Callable[..., Path]
FILES = [
    "environment.json",
    "final.safetensors",
    "history.csv",
    "history.parquet",
    "metric_by_round.png",
    "per_site.png",
    "plan.yaml",
    "result.json",
    "scaling.json",
    "statement.html",
    "statement.json",
]


def test_a_run_folder_holds_plan_environment_history_plots_and_model(write: Write, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "one"
    result = simulate(write(sets={"baselines": ["local", "constant"]}), out=out, **{"strategy.rounds": 4})
    assert sorted(path.name for path in out.iterdir()) == ["better_off.png", *FILES]
    assert [path.name for path in out.parent.iterdir()] == ["one"]
    model = load_file(out / "final.safetensors")
    assert model.keys() == {"parameters"}
    np.testing.assert_array_equal(model["parameters"], result.parameters)
    table = pyarrow.parquet.read_table(out / "history.parquet")
    assert table.equals(result.history)
    assert pyarrow.csv.read_csv(out / "history.csv").to_pylist() == table.to_pylist()
    said = json.loads((out / "result.json").read_text())
    assert said["metric"] == dict(result.metric)
    assert said["per_site"] == {name: list(figures) for name, figures in result.per_site.items()}
    assert (said["sites"], said["union"]) == (list(result.sites), dict(result.union))
    environment = json.loads((out / "environment.json").read_text())
    assert {"plan_sha256", "python", "machine", "cores", "jangin", "torch", "numpy"} <= environment.keys()
    assert len(environment["plan_sha256"]) == 64


def test_a_run_without_privacy_is_kept_with_these_words(write: Write, tmp_path: Path) -> None:
    simulate(write(), out=tmp_path / "run")
    found = recount((tmp_path / "run" / "statement.json").read_bytes())
    assert found.verdict is Verdict.NO_DIFFERENTIAL_PRIVACY
    assert "NO DIFFERENTIAL PRIVACY" in (tmp_path / "run" / "statement.html").read_text(encoding="utf-8")


def test_the_statement_that_is_kept_holds_and_is_that_of_the_run(
    write: Write, private: dict[str, Any], tmp_path: Path
) -> None:
    result = simulate(write(sets=private), out=tmp_path / "run", accept_noise=True)
    content = (tmp_path / "run" / "statement.json").read_bytes()
    assert recount(content).verdict is Verdict.HOLDS
    tree = json.loads(content)
    assert isinstance(result.privacy, Mapping)
    figures = tree["privacy_loss"]["readings"]["secure_sum"]
    assert figures["epsilon"] == pytest.approx(result.privacy["epsilon"], rel=1e-6)
    assert figures["events"][0]["noise_multiplier"] == result.privacy["noise_multiplier"]
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert tree["deployment"]["plan_hash"] == environment["plan_sha256"]


def test_the_model_explains_itself(write: Write, tmp_path: Path) -> None:
    block = {"model": {"name": "mlp", "hidden": [4], "personal": ["head"]}}
    simulate(write(sets=block), out=tmp_path / "run")
    with safe_open(tmp_path / "run" / "final.safetensors", "np") as file:
        parts, vector = json.loads(file.metadata()["layout"]), file.get_tensor("parameters")
    assert [tuple(part["shape"]) for part in parts] == [(4, 3), (4,)]
    assert not any(part["name"].startswith("head") for part in parts)  # what is personal is not in it
    pieces = [vector[part["offset"] : part["offset"] + prod(part["shape"])] for part in parts]
    np.testing.assert_array_equal(np.concatenate(pieces), vector)


def test_the_plan_that_was_kept_runs_again_to_the_same_model(write: Write, tmp_path: Path) -> None:
    first = simulate(write(), seed=5, out=tmp_path / "one", **{"strategy.lr": 0.02})
    again = simulate(tmp_path / "one" / "plan.yaml", out=tmp_path / "two")
    np.testing.assert_array_equal(first.parameters, again.parameters)
    assert (tmp_path / "one" / "plan.yaml").read_text() == (tmp_path / "two" / "plan.yaml").read_text()


def test_made_records_stay_in_the_run_folder(tmp_path: Path, write: Write) -> None:
    data = {"process": "steel.bof_blow", "model_line": "national-bof-blow", "sites": 2, "masters": 2, "episodes": 12}
    out = tmp_path / "run"
    simulate(write(sets={"data": data, "strategy.lr": 0.01}), out=out)
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "records"])
    assert sorted(path.name for path in (out / "records").iterdir()) == ["site-0", "site-1"]


def test_plots_are_pictures_that_fit_a_page(
    write: Write, rows: Callable[..., dict[str, np.ndarray]], tmp_path: Path
) -> None:
    block = {"baselines": ["constant"], "strategy.rounds": 2}
    simulate(write(sets=block), out=tmp_path / "few")
    simulate(write(rows("regression", sizes=(8,) * 80), block), out=tmp_path / "many")
    for folder in ("few", "many"):
        for name in ("metric_by_round.png", "per_site.png"):
            height, width, colours = imread(tmp_path / folder / name).shape
            assert 400 <= height <= 700
            assert 900 <= width <= 5200
            assert colours == 4
    for name in ("metric_by_round.png", "per_site.png"):
        picture = imread(tmp_path / "few" / name)[:, :, :3]
        blue = np.abs(picture - np.array([0x00, 0x72, 0xB2]) / 255).max(axis=2) < 0.02
        assert blue.sum() > 100  # the federation is drawn


def broken_off(out: Path, half: Path) -> None:
    """A run that has written one file when it fails."""
    with RunFolder(out) as folder:
        assert folder.path is not None
        (half if half.is_absolute() else folder.path / half).write_text("x")
        raise ZeroDivisionError


def test_an_error_takes_back_every_folder_that_was_made(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ZeroDivisionError):
        broken_off(tmp_path / "there" / "new" / "run", Path("half"))
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_folder_that_somebody_else_uses_meanwhile_stays(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        broken_off(tmp_path / "new" / "run", tmp_path / "new" / "theirs")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["theirs"]


def test_a_run_folder_is_never_written_over(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match=r"JG-sim-001 --out: .* exists already"):
        RunFolder(tmp_path)


def test_without_a_folder_nothing_is_kept(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    simulate(file)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def long_run(write: Write, tmp_path: Path) -> Any:
    """A command in the middle of a run that would take minutes; it has a process group of its own."""
    file = write(sets={"strategy.rounds": 10**7})
    # The child says when its first round is over: that is the middle.
    script = (
        "import sys; import jangin.simulation as s; run = s.simulate\n"
        "def told(file, progress, **rest):\n"
        "    def advance(what, done, total):\n"
        "        print(what, flush=True) if done == 1 else progress(what, done, total)\n"
        "    return run(file, progress=advance, **rest)\n"
        "s.simulate = told\n"
        "from jangin.cli import main; main()"
    )
    arguments = ["simulate", str(file), "--out", str(tmp_path / "runs" / "run")]
    child = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "round\n"
        yield child
    finally:
        child.kill()
        child.communicate()


@pytest.mark.kill
@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_stop_leaves_nothing_and_says_so(long_run: Any, tmp_path: Path, asked: int) -> None:
    assert [path.suffix for path in (tmp_path / "runs").iterdir()] == [".part"]
    os.kill(long_run.pid, asked)
    _, err = long_run.communicate(timeout=30)
    assert long_run.returncode == 128 + asked
    assert "nothing half-written stays" in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.kill
def test_a_killed_run_leaves_nothing_under_the_final_name(long_run: Any, tmp_path: Path) -> None:
    long_run.kill()
    assert long_run.wait(timeout=30) == -signal.SIGKILL
    assert not (tmp_path / "runs" / "run").exists()
    assert [path.suffix for path in (tmp_path / "runs").iterdir()] == [".part"]
