"""Small made sets, simulation files over them, and a handful of blows of a converter."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from jangin.codec.document import assign
from jangin.records.checks import validate
from jangin.records.generate import generate

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # typer imports names that click is about to rename
    import typer  # noqa: F401

Write = Callable[..., Path]
Rows = Callable[..., dict[str, np.ndarray]]

PRIVATE = {
    "strategy.batch": 42,
    "privacy.epsilon": 8,
    "privacy.delta": 1e-3,
    "privacy.nominal_units": 42,
    "privacy.scaling_share": 0,
    "data.x_range": [-8, 8],
    "data.y_range": [-40, 40],
}
BASE: dict[str, Any] = {
    "model": {"name": "linear"},
    "strategy": {"name": "fedavg", "rounds": 3, "local_steps": 2, "batch": 8, "lr": 0.05, "finetune_steps": 5},
    "baselines": [],
}


def made_rows(task: str, shape: tuple[int, ...] = (3,), sizes: tuple[int, ...] = (40, 48, 56)) -> dict[str, np.ndarray]:
    """A set whose targets are linear in the inputs, with a site's own offset; a quarter of each site is test."""
    stream = np.random.default_rng(5)
    silo = np.repeat(np.arange(len(sizes)), sizes)
    columns = stream.normal(size=(len(silo), shape[0])) + silo[:, None]
    inputs = columns.reshape(len(silo), shape[0], *[1] * (len(shape) - 1)) + 0.1 * stream.normal(
        size=(len(silo), *shape)
    )
    score = columns @ np.linspace(-2, 3, shape[0]) + silo + 0.1 * stream.normal(size=len(silo))
    classes = np.digitize(score, np.quantile(score, [1 / 3, 2 / 3]))
    targets = {"regression": score, "binary": (score > np.median(score)).astype(np.int64), "multiclass": classes}
    return {
        "X": inputs.astype(np.float32),
        "y": targets[task].astype(np.float32) if task == "regression" else targets[task].astype(np.int64),
        "silo": silo,
        "unit": np.arange(len(silo)),
        "split": (np.concatenate([np.arange(size) for size in sizes]) % 4 == 3).astype(np.int64),
    }


@pytest.fixture
def rows() -> Rows:
    """Arrays of a made set: task, shape of one input, sizes of the sites."""
    return made_rows


@pytest.fixture
def private() -> dict[str, Any]:
    """What turns BASE's regression into a private one; nothing in it is left to be assumed."""
    return dict(PRIVATE)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a set and a simulation of it; dotted keys lay other values over BASE. Returns the simulation file."""

    def write(
        arrays: Mapping[str, np.ndarray] | None = None, sets: Mapping[str, Any] = {}, task: str = "regression"
    ) -> Path:
        np.savez(tmp_path / "set.npz", **(made_rows(task) if arrays is None else arrays))
        tree = yaml.safe_load(yaml.safe_dump(BASE | {"data": {"npz": str(tmp_path / "set.npz"), "task": task}}))
        for key, value in sets.items():
            assign(tree, key, value)
        file = tmp_path / "simulation.yaml"
        file.write_text(yaml.safe_dump(tree))
        return file

    return write


@pytest.fixture(scope="session")
def blows(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two validated records folders of steel.bof_blow, 12 episodes and 2 masters each; not to be changed."""
    made = generate("steel.bof_blow", tmp_path_factory.mktemp("blows"), sites=2, masters=2, episodes=12, seed=3)
    for folder in made:
        assert validate(folder).passed
    return made
