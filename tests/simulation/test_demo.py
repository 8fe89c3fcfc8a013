"""Laws of the demo."""

import json
import shutil
from importlib.resources import files
from math import isnan
from pathlib import Path

import pytest
import yaml

from jangin.errors import PlanError, SimulationError
from jangin.simulation import demo

OF_RECORDS = {
    "model": {"name": "linear"},
    "strategy": {"name": "fedavg", "rounds": 1, "local_steps": 1, "batch": 8, "lr": 0.01},
    "baselines": [],
}


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


@pytest.mark.slow
def test_the_demo_says_what_its_contract_says(small: Path) -> None:
    outcome, result = demo.run_demo(
        "steel.bof_blow", sites=2, rounds=2, keep=small / "kept", progress=lambda what, done, total: None
    )
    said = json.loads(json.dumps(outcome, allow_nan=False))
    assert said.keys() == {
        *(
            "sites",
            "rounds",
            "seconds_per_round",
            "metric",
            "privacy",
            "secure_aggregation",
            "rss_mb",
            "abstained",
            "ok",
        ),
    }
    assert said["metric"].keys() == {
        *("name", "local", "federated", "pooled", "local_trees", "constant", "local_own", "federated_own"),
    }
    assert said["privacy"].keys() == {"unit", "epsilon", "delta", "mechanism"}
    assert said["privacy"]["epsilon"] <= 8
    assert said["rss_mb"].keys() == {"server", "site_median"}
    assert (said["sites"], said["rounds"], len(said["seconds_per_round"])) == (2, 2, 2)
    assert (said["abstained"], said["ok"]) == ([], True)
    assert not said["secure_aggregation"]  # which two sites cannot have, and that is said
    assert "JG-sim-012" in {warning.code for warning in result.warnings}
    assert said["metric"]["local"] == result.union["local"]
    assert said["metric"]["local_own"] == result.metric["local"]
    assert (small / "kept" / "records" / "site-1" / "manifest.json").exists()
    stated = json.loads((small / "kept" / "statement.json").read_bytes())  # the server's own
    assert (stated["deployment"]["kind"], stated["deployment"]["rounds_charged"]) == ("campaign", 2)
    assert stated["privacy_loss"]["readings"]["secure_sum"]["epsilon"] == pytest.approx(said["privacy"]["epsilon"])
    judged = [not isnan(row["federated"]) for row in result.rounds]
    assert judged == [False, True]  # the federation shows its final model alone
    shutil.rmtree(small / "kept")


def test_there_is_no_demo_of_another_process() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-003 --process: .*'steel\.rolling'.*steel\.bof_blow"):
        demo.run_demo("steel.rolling", sites=2, rounds=1, keep=None, progress=lambda what, done, total: None)


def quick(file: Path, sites: int | None = None) -> None:
    """A demo that is refused before it trains."""
    demo.run_demo(
        "steel.bof_blow", sites=sites, rounds=1, keep=None, progress=lambda what, done, total: None, file=file
    )


def test_an_npz_set_is_refused_with_the_way_out(tmp_path: Path) -> None:
    file = tmp_path / "npz.yaml"
    file.write_text(yaml.safe_dump(OF_RECORDS | {"data": {"npz": "some.npz", "task": "regression"}}))
    with pytest.raises(PlanError, match=r"JG-plan-024 .*npz\.yaml: data\.npz: .*some\.npz.*data\.records"):
        quick(file)


def test_records_are_as_many_sites_as_there_are_folders(tmp_path: Path, blows: list[Path]) -> None:
    file = tmp_path / "records.yaml"
    records = [str(folder) for folder in blows]
    file.write_text(yaml.safe_dump(OF_RECORDS | {"data": {"records": records, "model_line": "national-bof-blow"}}))
    with pytest.raises(PlanError, match=r"JG-plan-003 --sites: the value 3 .*each of the \d+ folders .* is a site"):
        quick(file, sites=3)


def test_a_folder_that_is_there_is_answered_by_the_option_that_named_it(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match=rf"JG-sim-001 --keep: {tmp_path} exists"):
        demo.run_demo("steel.bof_blow", sites=2, rounds=1, keep=tmp_path, progress=lambda what, done, total: None)


def test_a_line_that_is_a_file_is_no_federations(tmp_path: Path, blows: list[Path]) -> None:
    own = files("jangin.configs").joinpath("lines", "national-bof-blow.yaml")
    file = tmp_path / "own.yaml"
    records = [str(folder) for folder in blows]
    file.write_text(yaml.safe_dump(OF_RECORDS | {"data": {"records": records, "model_line": str(own)}}))
    with pytest.raises(PlanError, match=r"JG-plan-003 model_line: .*never a file"):
        quick(file)


def test_every_demo_has_its_file() -> None:
    folder = files("jangin.configs").joinpath("simulations")
    for process, name in demo.DEMOS.items():
        assert yaml.safe_load(folder.joinpath(name).read_text())["data"]["process"] == process
