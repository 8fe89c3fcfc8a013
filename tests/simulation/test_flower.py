"""Laws of the engine `flower`: the way over Flower's messages changes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jangin import simulate

Write = Callable[..., Path]


@pytest.mark.parametrize(
    "sets",
    [
        {},
        {"strategy": {"name": "fedadam", "rounds": 3, "local_steps": 2, "batch": 8, "lr": 0.05}},
        {"strategy": {"name": "median", "rounds": 3, "local_steps": 2, "batch": 8, "lr": 0.05}},
        {"strategy": {"name": "mrmtl", "rounds": 3, "local_steps": 2, "batch": 8, "lr": 0.05}},
        {"strategy": {"name": "scaffold", "rounds": 3, "local_steps": 2, "batch": 8, "lr": 0.05}},
        {"strategy": {"name": "flower", "rule": "FedAdam", "rounds": 3, "local_steps": 2, "batch": 8, "lr": 0.05}},
        {"model": {"name": "mlp", "hidden": [4], "personal": ["head"]}},
    ],
)
def test_the_engines_give_the_same_parameters(write: Write, sets: dict[str, Any]) -> None:
    file = write()
    one, other = (simulate(file, engine=engine, sets=sets).parameters for engine in ("sequential", "flower"))
    assert np.linalg.norm(one - other) <= 1e-6 * np.linalg.norm(one)


def test_a_private_federation_runs_over_messages(write: Write, private: dict[str, Any]) -> None:
    result = simulate(write(sets=private | {"privacy.scaling_share": 0.2}), engine="flower")
    assert result.privacy["epsilon"] <= 8
