"""Real research sets as master records: what the importers of `examples/` write is what was measured."""

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jangin import simulate
from jangin.records.catalogue import FOLDER_VARIABLE
from jangin.simulation.demo import run_demo

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
REAL = ROOT / "examples" / "real_sets"


@pytest.fixture(scope="module", autouse=True)
def catalogue() -> Iterator[None]:
    """The processes and lines beside the importers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(REAL))
        yield


def importer(name: str) -> dict[str, Any]:
    """What a script defines."""
    if not (DATA / name).is_dir():
        pytest.skip(f"the set {name} does not lie in ../shared/data")
    return runpy.run_path(str(ROOT / "examples" / f"import_{name}.py"))


def imported(name: str, out: Path, *fleets: int) -> list[Path]:
    folders: list[Path] = importer(name)[f"import_{name}"](DATA / name, out, *([fleets] if fleets else []))
    return folders


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return imported("cmapss", tmp_path_factory.mktemp("engines"), 1)


@pytest.fixture(scope="module")
def welds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return imported("flash_weld", tmp_path_factory.mktemp("welds"))


def of(folder: Path, stream: str) -> pa.Table:
    return pq.read_table(folder / "streams" / stream / "part-000.parquet")


def simulation(
    tmp_path: Path, name: str, folders: list[Path], model: dict[str, Any] | None = None, **block: Any
) -> Path:
    """A shipped simulation of these sites in two rounds."""
    tree = yaml.safe_load((REAL / f"{name}.yaml").read_text(encoding="utf-8"))
    tree["data"]["records"] = [str(folder) for folder in folders]
    tree |= {"baselines": ["constant"], "model": model or tree["model"]}
    tree["strategy"] |= {"rounds": 2, **block}
    (tmp_path / "simulation.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path / "simulation.yaml"


def of_fleet(fleet: int) -> pa.Table:
    """The raw cycles of a fleet's engines."""
    raw = pq.read_table(DATA / "cmapss" / f"train_fd{fleet:03}.parquet")
    return raw.sort_by([("id", "ascending"), ("cycle", "ascending")])


def compare(fleet: int, folders: list[Path]) -> int:
    """Each cycle of a fleet is at its operator as it was measured; how many engines there are."""
    raw, engines = of_fleet(fleet), 0
    for operator, folder in enumerate(folders):
        theirs = raw.filter(pa.array(raw["id"].to_numpy() % 5 == operator))
        cycles, life, episodes = of(folder, "cycles"), of(folder, "life"), pq.read_table(folder / "episodes.parquet")
        assert (cycles["t"].to_numpy() == theirs["cycle"].to_numpy() - 1).all()
        for channel, column in zip(cycles.column_names[2:], theirs.column_names[2:26], strict=True):
            assert (cycles[channel].to_numpy() == theirs[column].to_numpy().astype(np.float32)).all()
        assert (life["remaining"].to_numpy() == np.minimum(theirs["RUL"].to_numpy(), 125)).all()
        assert episodes["duration_s"].to_numpy().sum() == len(theirs)
        engines += len(episodes)
    return engines


def test_every_cycle_of_an_engine_is_at_its_operator_as_it_was_measured(engines: list[Path]) -> None:
    assert compare(1, engines) == 100


@pytest.mark.soak
def test_every_cycle_of_709_engines_is_at_its_operator_as_it_was_measured(tmp_path: Path) -> None:
    folders = imported("cmapss", tmp_path)
    assert sum(compare(fleet, folders[5 * (fleet - 1) : 5 * fleet]) for fleet in (1, 2, 3, 4)) == 709


def test_sensors_are_beside_what_is_usual_at_each_of_six_operating_points() -> None:
    beside_usual = importer("cmapss")["beside_usual"]
    raw = of_fleet(2)
    beside, altitude = beside_usual(raw), raw["setting1"].to_numpy().round(2)
    points = [point for point in np.unique(altitude) if (altitude == point).sum() > 1000]
    assert len(points) == 6
    for point in points:
        assert np.abs(beside[altitude == point].mean(axis=0)).max() < 0.1
        assert beside[altitude == point].std(axis=0) == pytest.approx(np.ones(14), abs=0.1)


def test_every_sample_of_2050_welds_is_at_its_day_and_at_its_time(welds: list[Path]) -> None:
    with np.load(DATA / "flash_weld" / "flash_weld_wave.npz") as file:
        wave, length, bad = file["wave"], file["length"], file["y"]
        days = [f"{day[:4]}-0{day[4]}-{int(day[5:]):02}" for day in file["day"]]
    seen = []
    for folder in welds:
        episodes, rows = pq.read_table(folder / "episodes.parquet"), of(folder, "wave")
        numbers = [int(name.removeprefix("weld-")) for name in episodes["episode_id"].to_pylist()]
        assert {days[number] for number in numbers} == {folder.name}
        values = np.stack([rows[name].to_numpy() for name in rows.column_names[2:]], axis=1).reshape(-1, 128, 6)
        assert (values.transpose(0, 2, 1) == wave[numbers]).all()
        assert rows["t"].to_numpy().reshape(-1, 128)[:, -1] == pytest.approx((length[numbers] - 1) / 10)
        assert (episodes["outcome.bad"].to_numpy() == bad[numbers]).all()
        seen += numbers
    assert sorted(seen) == list(range(2050))


@pytest.mark.soak
def test_everybody_draws_the_same_hold_out(welds: list[Path], tmp_path: Path) -> None:
    again = imported("flash_weld", tmp_path)
    held = [[json.loads((day / "manifest.json").read_text())["holdout"] for day in days] for days in (welds, again)]
    assert held[0] == held[1]


def test_five_operators_learn_more_of_their_engines_than_the_mean(engines: list[Path], tmp_path: Path) -> None:
    result = simulate(simulation(tmp_path, "cmapss", engines, local_steps=20))
    assert result.metric["federated"] < 0.7 * result.metric["constant"]


def test_two_days_learn_to_tell_bad_welds(welds: list[Path], tmp_path: Path) -> None:
    result = simulate(simulation(tmp_path, "flash-weld", welds[:2], {"name": "linear"}))
    assert result.metric["federated"] > 5 * result.metric["constant"]


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("name", ["cmapss-private", "flash-weld"])
def test_a_federation_of_processes_learns_from_a_real_set(name: str, tmp_path: Path, request: Any) -> None:
    folders = request.getfixturevalue("welds" if name == "flash-weld" else "engines")[:5]
    outcome, _ = run_demo(
        "",
        sites=None,
        rounds=None,
        keep=None,
        progress=lambda what, done, total: None,
        file=simulation(tmp_path, name, folders),
    )
    assert (outcome["sites"], outcome["rounds"], outcome["abstained"], outcome["ok"]) == (5, 2, [], True)
    assert outcome["secure_aggregation"]
