"""The benchmarks that run real processes are alive, each at a tiny size, and nothing that they start outlives them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"
DEPLOY = """
import pathlib, sys
sys.path.append(sys.argv[2])
import stock
with stock.deployment(pathlib.Path(sys.argv[1]) / "stock", 1) as flower:
    stock.until(lambda: len(stock.tree(flower.nodes[0].pid)) > 1, 60, flower.nodes)
    print("up", flush=True)
    sys.stdin.read()
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read /proc"),
    pytest.mark.skipif(not SCRIPTS.exists(), reason="an sdist has no scripts but the examples"),
]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One by which every process of a test is known, however deep."""
    return {**os.environ, "TMPDIR": str(tmp_path)}


@pytest.fixture
def left(tmp_path: Path) -> Iterator[Callable[[], list[str]]]:
    """Command lines of the processes that are left of a test."""

    def left() -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    known, line = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if f"TMPDIR={tmp_path}\0".encode() in known and line:
                    found.append(line.decode(errors="replace").replace("\0", " "))
        return found

    return left


@pytest.mark.parametrize(
    ("script", "rows"),
    [
        pytest.param("federation.py", 2, marks=pytest.mark.soak),
        pytest.param("site.py", 3, marks=pytest.mark.soak),
        pytest.param("server.py", 5, marks=pytest.mark.soak),
    ],
)
def test_rows_stand_beside_flower_and_no_process_is_left(
    script: str, rows: int, environment: dict[str, str], left: Callable[[], list[str]]
) -> None:
    command = [sys.executable, str(SCRIPTS / script), "--json", "--quick"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == rows
    for line in lines:
        assert set(line) == {"name", "figure", "beside", "ratio", "goal", "holds"}
        free = "CPU" in line["name"] or "overhead" in line["name"]  # in so short a time there may be none
        assert line["figure"] > 0 or free
        assert all(figure > 0 or free for figure in line["beside"].values())
    assert left() == []


@pytest.mark.kill
def test_a_stock_deployment_ends_when_the_benchmark_is_killed(
    tmp_path: Path, environment: dict[str, str], left: Callable[[], list[str]]
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", DEPLOY, str(tmp_path), str(SCRIPTS)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        assert len(left()) >= 4
        child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while left():
        assert time.monotonic() < deadline, left()
        threading.Event().wait(0.1)
