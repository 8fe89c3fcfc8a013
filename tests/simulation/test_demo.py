"""Laws of the demo."""

import json
import shutil
from importlib.resources import files
from math import isnan
from pathlib import Path

import pytest
import yaml

from jangin.errors import PlanError
from jangin.simulation import demo


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo's simulation with fewer episodes, where the demo looks for it."""
    own = files("jangin.configs").joinpath("simulations", demo.DEMOS["steel.bof_blow"])
    tree = yaml.safe_load(own.read_text())
    tree["data"]["episodes"] = 60
    tree["privacy"]["nominal_units"] = tree["strategy"]["batch"] = 48
    (tmp_path / "simulations").mkdir()
    (tmp_path / "simulations" / demo.DEMOS["steel.bof_blow"]).write_text(yaml.safe_dump(tree))
    monkeypatch.setattr(demo, "files", lambda package: tmp_path)
    return tmp_path


def test_the_demo_says_what_its_contract_says(small: Path) -> None:
    outcome, result = demo.run_demo(
        "steel.bof_blow", sites=2, rounds=2, keep=small / "kept", progress=lambda what, done, total: None
    )
    said = json.loads(json.dumps(outcome, allow_nan=False))
    assert said.keys() == {
        *("sites", "rounds", "seconds_per_round", "metric", "privacy", "rss_mb", "abstained", "ok"),
    }
    assert said["metric"].keys() == {
        *("name", "local", "federated", "pooled", "local_trees", "constant", "local_own", "federated_own"),
    }
    assert said["privacy"].keys() == {"unit", "epsilon", "delta", "mechanism"}
    assert said["privacy"]["epsilon"] <= 8
    assert said["rss_mb"].keys() == {"server", "site_median"}
    assert (said["sites"], said["rounds"], len(said["seconds_per_round"])) == (2, 2, 2)
    assert (said["abstained"], said["ok"]) == ([], True)
    assert said["metric"]["local"] == result.union["local"]
    assert said["metric"]["local_own"] == result.metric["local"]
    assert (small / "kept" / "records" / "site-1" / "manifest.json").exists()
    judged = [not isnan(row["federated"]) for row in result.rounds]
    assert judged == [False, True]  # the federation shows its final model alone
    shutil.rmtree(small / "kept")


def test_there_is_no_demo_of_another_process() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-003 --process: .*'steel\.rolling'.*steel\.bof_blow"):
        demo.run_demo("steel.rolling", sites=2, rounds=1, keep=None, progress=lambda what, done, total: None)


def test_every_demo_has_its_file() -> None:
    folder = files("jangin.configs").joinpath("simulations")
    for process, name in demo.DEMOS.items():
        assert yaml.safe_load(folder.joinpath(name).read_text())["data"]["process"] == process
