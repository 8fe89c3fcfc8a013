"""Laws of learning from meters, sound and pictures at once: on every engine the same, and in private as promised."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from jangin import simulate
from jangin.errors import PlanError
from jangin.models.lines import read_line
from jangin.records.checks import validate
from jangin.records.generate import generate

LINE = "national-tig-defect"


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulation over a few passes of two pipe shops, with the line's own model."""
    folder = tmp_path_factory.mktemp("passes")
    made = generate("pipe.tig_weld", folder / "records", sites=2, masters=2, episodes=8, seed=3)
    for records in made:
        seeded = np.random.default_rng(5).bytes
        validate(records, level=1, unit="episode", random_bytes=seeded).require(records)
    tree: dict[str, Any] = {
        "data": {"records": [str(records) for records in made], "model_line": LINE, "one_class_sites": "keep"},
        "model": read_line(LINE).model.model_dump(mode="json"),
        "strategy": {"name": "fedavg", "rounds": 2, "local_steps": 2, "batch": 4, "lr": 0.1},
        "baselines": [],
    }
    file = folder / "simulation.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def test_sites_that_train_together_learn_what_each_would_in_turn(campaign: Path) -> None:
    one, other = (simulate(campaign, engine=engine) for engine in ("sequential", "stacked"))
    assert np.linalg.norm(one.parameters - other.parameters) <= 1e-5 * np.linalg.norm(one.parameters)
    assert len(one.scaling.mean) < 20  # a channel's window is one column, however many values it has


def test_episodes_of_sound_and_pictures_are_learnt_from_in_private(campaign: Path, private: dict[str, Any]) -> None:
    sets = {key: value for key, value in private.items() if not key.startswith("data.")} | {"strategy.rounds": 3}
    result = simulate(campaign, accept_noise=True, sets=sets)
    assert result.privacy["unit"] == "episode"
    assert result.privacy["epsilon"] <= 8
    assert np.isfinite(result.parameters).all()


def test_a_model_of_other_parts_than_its_line_has_is_refused(campaign: Path) -> None:
    parts = read_line(LINE).model.model_dump(mode="json")["parts"]
    with pytest.raises(PlanError, match=r"JG-plan-065 model\.parts"):
        simulate(campaign, sets={"model.parts": parts[::-1]})
