"""Real research sets, where they lie beside the repository: a few rounds already tell something."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from jangin import simulate
from jangin.simulation import Result

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def run(tmp_path: Path, name: str, task: str, per_site: bool = False, **block: Any) -> Result:
    npz = DATA / name / f"{name}.npz"
    if not npz.exists():
        pytest.skip(f"the set {name} does not lie in ../shared/data")
    tree = {
        "data": {"npz": str(npz), "task": task},
        "model": {"name": "linear"},
        "strategy": {"name": "fedavg"} | block,
        "baselines": ["constant"],
    }
    file = tmp_path / "simulation.yaml"
    file.write_text(yaml.safe_dump(tree))
    return simulate(file, per_site=per_site)


def test_four_hospitals_learn_a_linear_model_of_heart_disease(tmp_path: Path) -> None:
    result = run(tmp_path, "fed_heart", "binary", per_site=True, rounds=15, local_steps=20, batch=4, lr=0.01)
    assert result.metric["federated"] > 0.66
    assert len(result.sites) == 4


def test_twenty_fleets_learn_more_of_their_engines_than_the_mean(tmp_path: Path) -> None:
    result = run(tmp_path, "cmapss", "regression", rounds=3, local_steps=20, batch=32, lr=0.01)
    assert result.metric["federated"] < 0.6 * result.metric["constant"]
    assert len(result.sites) == 20
