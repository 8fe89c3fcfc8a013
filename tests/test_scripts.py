"""The scripts beside the package are alive: each runs once at a tiny size, and the pages made by one are up to date."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jangin.client.workbench import MEMORY_SETTINGS
from jangin.records.catalogue import FOLDER_VARIABLE

pytestmark = pytest.mark.no_cover
ROOT = Path(__file__).resolve().parents[1]
SETTINGS = MEMORY_SETTINGS | {"OMP_NUM_THREADS": "1"}  # a script that wants them starts once where it has them


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a script as `python script` would, but in this process, which has loaded torch already."""

    def _run(script: str, *arguments: str) -> subprocess.CompletedProcess:
        monkeypatch.setattr(sys, "argv", [str(there(script)), *arguments])
        monkeypatch.syspath_prepend(str(there(script).parent))
        status: object = None
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as ended:
            status = ended.code
        return subprocess.CompletedProcess(sys.argv, status or 0, *capsys.readouterr())

    return _run


@pytest.fixture
def start():
    """Run a script in a process of its own: one that starts others itself."""

    def _start(script: str, *arguments: str, seconds: int = 120) -> subprocess.CompletedProcess:
        command = [sys.executable, str(there(script)), *arguments]
        return subprocess.run(
            command, env=os.environ | SETTINGS, capture_output=True, text=True, timeout=seconds, check=False
        )

    return _start


def there(script: str) -> Path:
    if not (ROOT / script).exists():
        pytest.skip(f"{script} is not in this tree (an sdist has no scripts but the examples)")
    return ROOT / script


@pytest.fixture
def hospitals(tmp_path: Path) -> Path:
    """A folder of sets in which only a small stand-in of Fed-Heart is there."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4)).astype(np.float32)
    (tmp_path / "fed_heart").mkdir()
    np.savez(
        tmp_path / "fed_heart" / "fed_heart.npz",
        X=x,
        y=(x[:, 0] > 0).astype(np.int64),
        silo=np.arange(80) % 4,
        unit=np.arange(80),
        split=(np.arange(80) % 5 == 0).astype(np.int8),
    )
    return tmp_path


def test_the_accuracy_table_names_what_is_missing_and_measures_what_is_there(run, hospitals: Path) -> None:
    done = run("benchmarks/accuracy.py", str(hospitals), "--json", "--quick")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["name"] for row in rows[:2]] == ["fed-heart", "steel-bof-blow-masters"]
    assert {row["name"] for row in rows[2:]} >= {"fed-heart, fedavg", "fed-heart, scaffold", "fed-heart, mrmtl"}
    assert set(rows[0]) == {"name", "figure", "beside", "ratio", "goal", "holds"}
    assert done.stderr.count("left out: ") == 6


def test_benchmarks_become_one_table_with_a_line_for_each_of_their_rows(start) -> None:
    done = start("benchmarks/run.py", "accounting", "--quick")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| calibrate")]
    assert len(rows) == 2
    assert all(len(row.split(" | ")) == 6 for row in rows)


@pytest.mark.soak
def test_the_benchmark_of_the_private_step_measures_time_and_memory(start) -> None:
    done = start("benchmarks/private_step.py", "--json", "--quick", "mlp", "gru")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 5
    assert all(set(row) == {"name", "figure", "beside", "ratio", "goal", "holds"} for row in rows)


@pytest.mark.soak
def test_the_benchmark_of_the_simulation_runs_its_engines_and_a_plain_loop(start) -> None:
    done = start("benchmarks/simulation.py", "--json", "--quick")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 7
    assert all(set(row) == {"name", "figure", "beside", "ratio", "goal", "holds"} for row in rows)
    assert {"sequential", "loop"} <= set(rows[0]["beside"])


def test_the_benchmark_of_the_secure_sum_stands_beside_a_plain_sum_and_flower(start) -> None:
    done = start("benchmarks/secure_sum.py", "--json", "--quick")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 18
    assert all(set(row) == {"name", "figure", "beside", "ratio", "goal", "holds"} for row in rows)
    assert [row["figure"] for row in rows if "values that are wrong" in row["name"]] == [0]
    assert all(row["figure"] > 0 for row in rows if "wrong" not in row["name"] and "grew" not in row["name"])


def test_the_benchmark_of_records_stands_beside_a_plain_read(run) -> None:
    done = run("benchmarks/records.py", "--json", "--quick")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["name"].split(",")[0] for line in lines] == [
        "records: validate 0-4",
        "records: validate 20 unchanged episodes",
    ]
    assert all(line["figure"] > 0 and line["ratio"] > 0 for line in lines)


def test_the_error_pages_are_those_of_the_catalogue(run) -> None:
    done = run("docs/make_error_pages.py", "--check")
    assert done.returncode == 0, "run: python docs/make_error_pages.py"


def test_the_catalogues_page_is_that_of_processes_and_lines(run) -> None:
    done = run("docs/make_catalogue_page.py", "--check")
    assert done.returncode == 0, "run: python docs/make_catalogue_page.py"


def test_the_doctors_page_has_the_table_of_the_code(run) -> None:
    done = run("docs/make_doctor_page.py", "--check")
    assert done.returncode == 0, "run: python docs/make_doctor_page.py"


def test_the_protocols_tables_and_pictures_are_those_of_the_code(run) -> None:
    done = run("docs/draw_protocol.py", "--check")
    assert done.returncode == 0, "run: python docs/draw_protocol.py"


def test_the_example_compares_strategies_with_and_without_privacy(run, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(
        "data: {process: steel.bof_blow, model_line: national-bof-blow, sites: 2, masters: 2, episodes: 12}\n"
        "model: {name: linear}\n"
        "strategy: {name: fedavg, rounds: 1, local_steps: 1, batch: 4, lr: 0.1}\n"
        "privacy: {nominal_units: 480, clip: 0.5, scaling_share: 0}\n"
        "metric: mae\n"
    )
    done = run("examples/compare_strategies.py", str(file))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 8
    assert sum("NO DIFFERENTIAL PRIVACY" in line for line in lines) == 4


def test_the_example_of_personal_models_compares_three_answers_and_draws_them(run, hospitals: Path) -> None:
    file = hospitals / "small.yaml"
    npz = hospitals / "fed_heart" / "fed_heart.npz"
    file.write_text(
        f"data: {{npz: {npz}, task: binary, x_range: [-4, 4]}}\n"
        "model: {name: linear}\n"
        "strategy: {name: fedavg, rounds: 1, local_steps: 1, batch: 250, lr: 1}\n"
        "privacy: {delta: 1.0e-4, nominal_units: 250, scaling_share: 0}\n"
    )
    picture = hospitals / "picture.svg"
    done = run("examples/mrmtl.py", str(file), "--quick", "--seeds", "1", "--picture", str(picture))
    assert done.returncode == 0, done.stderr
    for answer in ("MR-MTL", "FedAvg", "alone"):
        assert f"| {answer}" in done.stdout
    assert picture.read_text().count("<svg") == 1


def test_the_example_of_shared_noise_sets_two_mechanisms_beside_each_other_and_counts_what_they_send(
    run, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    rows = 20 * 12
    np.savez(
        tmp_path / "set.npz",
        X=rng.normal(size=(rows, 42)).astype(np.float32),
        y=rng.uniform(0, 125, rows).astype(np.float32),
        silo=np.arange(rows) % 20,
        unit=np.arange(rows) // 20,
        split=(np.arange(rows) // 20 % 3 == 0).astype(np.int8),
    )
    picture = tmp_path / "picture.svg"
    done = run("examples/shared_noise.py", str(tmp_path / "set.npz"), "--quick", "--picture", str(picture))
    assert done.returncode == 0, done.stderr
    assert "H = 11 honest shares of 20 sites" in done.stdout
    sent = {line[:2]: int(line.split(" | ")[3].replace(",", "")) for line in done.stdout.splitlines()[2:]}
    assert sent["M1"] == 2 * 4 * 43
    assert sent["M2"] > 10 * sent["M1"]  # of so small a model the keys and shares weigh most
    assert picture.read_text().count("<svg") == 1


def test_the_page_that_installs_a_site_shows_the_six_commands_that_the_example_types() -> None:
    types = runpy.run_path(str(there("examples/first_round.py")))["COMMANDS"]
    shown = [line[2:] for line in there("docs/install.md").read_text().splitlines() if line.startswith("$ jangin")]
    assert len(types) == len(shown) == 6
    for typed, seen in zip(types, shown, strict=True):
        assert re.fullmatch(re.sub(r"\\\{\w+\\\}", r"\\S+", re.escape(typed)), seen), (typed, seen)


def test_the_page_of_twelve_welds_shows_the_five_commands_and_the_notes_that_its_example_types() -> None:
    typed = runpy.run_path(str(there("examples/twelve_welds.py")))
    page = there("docs/welds.md").read_text()
    shown = [line[2:] for line in page.splitlines() if line.startswith("$ jangin")]
    assert shown == list(typed["COMMANDS"])
    assert len(shown) <= 5
    assert all(f"    {stream}: {note}" in page for stream, note in typed["NOTES"].items())


@pytest.mark.soak
@pytest.mark.slow
def test_five_commands_lead_from_twelve_welds_to_a_first_baseline(start, tmp_path: Path) -> None:
    done = start("examples/twelve_welds.py", "--keep", str(tmp_path / "welds"), "--lang", "ko", seconds=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(line.startswith("$ jangin ") for line in done.stdout.splitlines()) == 5
    assert "통과: 에피소드 12개" in done.stdout
    assert "national-tig-filler: 학습용 에피소드 " in done.stdout
    assert (tmp_path / "welds" / "records-preview.html").stat().st_mode & 0o777 == 0o600


@pytest.mark.soak
@pytest.mark.slow
def test_six_commands_of_a_site_lead_to_its_first_finished_round(start, tmp_path: Path) -> None:
    done = start("examples/first_round.py", "--keep", str(tmp_path / "first"), "--lang", "ko", seconds=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(line.startswith("$ jangin ") for line in done.stdout.splitlines()) == 6
    assert "[finished: 1 of 1 rounds; " in done.stdout
    assert "장인 2명 중 2명이 동의함" in done.stdout


def test_the_importer_of_engines_writes_records_that_pass(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(there("examples/real_sets")))
    rng, cycles = np.random.default_rng(0), 40
    engines = {"id": np.repeat(np.arange(1, 16), cycles), "cycle": np.tile(np.arange(1, cycles + 1), 15)}
    columns = ["setting1", "setting2", "setting3", *(f"s{i}" for i in range(1, 22))]
    values = {name: rng.uniform(size=15 * cycles) for name in columns}
    pq.write_table(pa.table(engines | values), tmp_path / "train_fd002.parquet")
    done = run("examples/import_cmapss.py", str(tmp_path), str(tmp_path / "records"), "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("5 sites")


def test_the_importer_of_welds_writes_records_that_pass(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(there("examples/real_sets")))
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "flash_weld_wave.npz",
        wave=rng.uniform(size=(24, 6, 128)).astype(np.float32),
        length=rng.integers(640, 900, 24).astype(np.float64),
        y=np.arange(24) % 2,
        day=np.array(["2011330", "2011411"])[np.arange(24) % 2],
    )
    done = run("examples/import_flash_weld.py", str(tmp_path), str(tmp_path / "records"))
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (tmp_path / "records").iterdir()) == ["2011-03-30", "2011-04-11"]


@pytest.mark.soak
def test_the_mnist_benchmark_prints_two_accuracies_and_a_ratio(run, tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    rng = np.random.default_rng(0)
    for side in ("train", "test"):
        images = rng.integers(0, 256, (700, 28, 28), np.uint8)
        np.savez(tmp_path / "mnist" / f"{side}.npz", X=images, y=rng.integers(0, 10, 700, np.uint8))
    done = run("benchmarks/mnist.py", str(tmp_path), "--json", "--quick")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["ratio"] is None for row in rows] == [True, True, False]
    assert all(set(row) == {"name", "figure", "beside", "ratio", "goal", "holds"} for row in rows)


def test_the_audit_refutes_a_promise_whose_noise_is_a_tenth_and_not_one_that_holds(run) -> None:
    done = run("examples/audit_the_noise.py", "--runs", "1", "--promised", "2")
    assert done.returncode == 0, done.stderr
    _, kept, *_, tenth = done.stdout.splitlines()
    assert kept.endswith("kept")
    assert tenth.endswith("refuted")


def test_the_membership_attack_finds_everybody_in_plain_updates(run, tmp_path: Path) -> None:
    done = run(
        "examples/attack_membership.py", "--runs", "12", "--epsilon", "none", "--picture", str(tmp_path / "m.svg")
    )
    assert done.returncode == 0, done.stderr
    areas = [line.split(" | ")[4] for line in done.stdout.splitlines()[1:]]
    assert len(areas) == 4
    assert float(areas[2]) > 0.9
    assert (tmp_path / "m.svg").read_text(encoding="utf-8").endswith("</svg>\n")


def test_the_inversion_attack_rebuilds_a_plain_heat_and_none_under_a_mask(run, tmp_path: Path) -> None:
    small = ("--heats", "1", "--descent", "2", "--epsilon", "8")
    done = run("examples/attack_inversion.py", *small, "--pictures", str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = {name: figures for name, *figures in (line.split(" | ") for line in done.stdout.splitlines())}
    assert rows["first layer"][0].startswith("1.00")
    assert float(rows["one masked update"][0].split()[0]) < 0.9
    assert sorted(file.name for file in tmp_path.iterdir()) == ["inversion.svg", "rebuilt.svg"]


def test_the_sweep_prints_a_table_with_a_row_a_run(run) -> None:
    done = run("examples/sweep_epsilon.py", "--quick")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("NO DIFFERENTIAL PRIVACY") == 1
    assert "| privacy.epsilon | strategy.rounds | federated |" in done.stdout


def test_the_table_of_regimes_stands_beside_pooled_and_single_works(run, tmp_path: Path) -> None:
    done = run("benchmarks/regimes.py", "--quick", "--json", "--picture", str(tmp_path / "regimes.svg"))
    assert done.returncode == 0, done.stderr
    (row,) = (json.loads(line) for line in done.stdout.splitlines())
    assert set(row) == {"name", "figure", "beside", "ratio", "goal", "holds"}
    assert set(row["beside"]) == {"pooled", "local", "constant"}
    assert (tmp_path / "regimes.svg").read_text().count("<svg") == 1
