"""The command in this process, and a small set to simulate."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # typer imports names that click is about to rename
    import typer  # noqa: F401


@dataclass(frozen=True)
class Said:
    """What a command left: exit status and both streams."""

    status: int
    out: str
    err: str


Jangin = Callable[..., Said]


@pytest.fixture
def jangin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Jangin:
    """Run `jangin ARGUMENTS...` in this process, by the function that the installed command calls."""
    from jangin.cli import main

    def run(*arguments: object) -> Said:
        monkeypatch.setattr("sys.argv", ["jangin", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            main()
        return Said(leaving.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def simulation(tmp_path: Path) -> Path:
    """A simulation file of two sites that takes a tenth of a second."""
    stream = np.random.default_rng(0)
    inputs = stream.normal(size=(40, 3)).astype(np.float32)
    number = np.arange(40)
    arrays = {"X": inputs, "y": inputs.sum(axis=1), "silo": number // 20, "unit": number}
    np.savez(tmp_path / "set.npz", split=(number % 4 == 3).astype(np.int64), **arrays)
    tree = {
        "data": {"npz": str(tmp_path / "set.npz"), "task": "regression"},
        "model": {"name": "linear"},
        "strategy": {"name": "fedavg", "rounds": 2, "local_steps": 2, "batch": 8, "lr": 0.05},
    }
    file = tmp_path / "simulation.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file
