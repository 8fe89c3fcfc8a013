"""Laws of the demo's federation: it trains what a simulation trains, and its processes end with it."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from jangin import simulate

SMALL = {
    "data": {
        "process": "steel.bof_blow",
        "model_line": "national-bof-blow",
        "sites": 2,
        "masters": 2,
        "episodes": 20,
    },
    "model": {"name": "mlp", "hidden": [4]},
    "strategy": {"name": "fedadam", "rounds": 2, "local_steps": 2, "batch": 8, "lr": 0.01},
    "baselines": ["local", "constant"],
    "metric": "mae",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


def demo(file: Path, keep: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "jangin", "demo", "--from", str(file), "--keep", str(keep), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def contents(folders: list[Path]) -> dict[Path, tuple[int, str]]:
    """Every file with the time of its last change and a digest of what it holds."""
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
    return {file: (file.stat().st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files}


def below(marker: str) -> list[int]:
    """Processes whose command line names a path under `marker`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if marker in line:
                found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "strategy"), [pytest.param("process", "fedavg", marks=pytest.mark.soak), ("records", "median")]
)
def test_real_processes_train_what_a_simulation_trains(
    file: Path, blows: list[Path], tmp_path: Path, form: str, strategy: str
) -> None:
    tree = yaml.safe_load(file.read_text())
    tree["strategy"]["name"] = strategy
    if form == "records":
        tree["data"] = {"records": [str(folder) for folder in blows], "model_line": "national-bof-blow"}
    file.write_text(yaml.safe_dump(tree))
    before = contents(blows)
    child = demo(file, tmp_path / "kept")
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    assert "NO DIFFERENTIAL PRIVACY" in out
    trained = load_file(tmp_path / "kept" / "final.safetensors")["parameters"]
    for engine in ("sequential", "flower"):
        simulated = simulate(file, engine=engine).parameters
        assert np.linalg.norm(trained - simulated) <= 1e-6 * np.linalg.norm(simulated)
    assert (tmp_path / "kept" / "records").exists() == (form == "process")
    assert contents(blows) == before
    assert below(str(tmp_path)) == []


SWALLOWED = """
import contextlib, signal
from jangin.simulation.loopback import _signals_kept

before = signal.getsignal(signal.SIGINT)
with _signals_kept() as still_wanted:
    still_wanted()
    with contextlib.suppress(KeyboardInterrupt):  # as a library's C code does at times
        signal.raise_signal(signal.SIGINT)
    try:
        still_wanted()
    except KeyboardInterrupt:
        print("heard")
assert signal.getsignal(signal.SIGINT) is before
"""


def test_a_ctrl_c_that_was_swallowed_is_heard_at_the_next_look() -> None:
    """In a process of its own: signals belong to a main thread."""
    done = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True, check=True)
    assert done.stdout == "heard\n"


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what kill -9 leaves is the kernel's word only on Linux")
@pytest.mark.parametrize("asked", [pytest.param(signal.SIGINT, marks=pytest.mark.soak), signal.SIGKILL])
def test_no_process_outlives_the_demo(file: Path, tmp_path: Path, asked: int) -> None:
    child = demo(file, tmp_path / "kept", "--rounds", "100000")
    deadline = time.monotonic() + 90
    while len(below(f"{tmp_path}/.kept")) < 3 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)  # until the server and both sites are there
    assert len(below(f"{tmp_path}/.kept")) >= 3, child.communicate()
    child.send_signal(asked)
    child.communicate(timeout=60)
    while below(str(tmp_path)) and time.monotonic() < deadline + 60:
        time.sleep(0.1)
    assert below(str(tmp_path)) == []
    assert not (tmp_path / "kept").exists()
