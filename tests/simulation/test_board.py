"""Laws of what TensorBoard is shown, read back from the event files."""

import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jangin import simulate
from jangin.errors import SimulationError
from jangin.simulation import unfinished

Write = Callable[..., Path]


def events(run: Path) -> Iterator[Any]:
    """The events of a run, oldest file first: length (uint64), its checksum, the event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for file in sorted(run.iterdir()):
        content = file.read_bytes()
        while content:
            (size,) = struct.unpack("<Q", content[:8])
            yield Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]


def scalars(run: Path) -> dict[str, dict[int, float]]:
    """Each tag's values by step; a later one of the same step counts, as TensorBoard has it."""
    found: dict[str, dict[int, float]] = {}
    for event in events(run):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def shown(values: dict[int, float]) -> Any:
    return pytest.approx(values, rel=1e-6)  # event files hold float32


def test_every_round_and_every_comparison_is_shown(write: Write, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="it is an extra")
    board = tmp_path / "board"
    result = simulate(write(sets={"seeds": 2, "baselines": ["local", "constant"]}), tensorboard=board)
    runs = ["constant", "federated-seed-0", "federated-seed-1", "local"]
    assert sorted(path.name for path in board.iterdir()) == runs
    for seed in (0, 1):
        rows = [row for row in result.rounds if row["seed"] == seed]
        found = scalars(board / f"federated-seed-{seed}")
        assert found["rmse"] == shown({row["round"]: row["federated"] for row in rows})
        assert found["seconds"] == shown({row["round"]: row["seconds"] for row in rows})
    for name in ("local", "constant"):
        assert scalars(board / name) == {"rmse": shown({1: result.metric[name], 3: result.metric[name]})}
    values = [value for event in events(board / runs[2]) for value in event.summary.value]
    (promise,) = (value for value in values if value.tag.startswith("privacy"))
    assert promise.tensor.string_val[:] == [b"NO DIFFERENTIAL PRIVACY"]


def test_a_run_that_goes_on_shows_its_rounds_once(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboardX", reason="it is an extra")
    monkeypatch.setattr(unfinished, "_SECONDS_BETWEEN", 0.0)
    file, board, out = write(), tmp_path / "board", tmp_path / "run"

    def stop(what: str, done: int, total: int) -> None:
        if (what, done) == ("round", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(file, out=out, tensorboard=board, progress=stop)
    result = simulate(file, out=out, tensorboard=board)
    run = board / "federated-seed-0"
    assert scalars(run)["rmse"] == shown({row["round"]: row["federated"] for row in result.rounds})
    restarts = [event for event in events(run) if event.HasField("session_log")]
    assert [event.step for event in restarts][-1] == 0  # whatever was shown from there on before is hidden


def test_without_the_library_nothing_is_trained_and_the_extra_is_named(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(SimulationError, match=r"JG-sim-036 .*pip install \"jangin\[tensorboard\]\""):
        simulate(write(), tensorboard=tmp_path / "board")
    assert not (tmp_path / "board").exists()


def test_a_board_that_cannot_be_written_has_a_code(write: Write, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="it is an extra")
    (tmp_path / "plain").touch()
    with pytest.raises(SimulationError, match="JG-sim-003 --tensorboard"):
        simulate(write(), tensorboard=tmp_path / "plain")
