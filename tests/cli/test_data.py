"""Laws of `jangin data`: make records, check them, set the hold-out aside."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Jangin = Callable[..., Any]
SIZE = ("--sites", 2, "--masters", 2, "--episodes", 12, "--seed", 1)


PASSED = "passed: 24 episodes, "


def test_what_is_made_passes_and_what_passes_can_be_learnt_from(jangin: Jangin, tmp_path: Path) -> None:
    made = jangin("data", "generate", "steel.bof_blow", tmp_path / "records", *SIZE, "--format", "json")
    line = json.loads(made.out)
    folders = line["folders"]
    assert (made.status, line["ok"], line["episodes"]) == (0, True, 24)
    assert made.err.startswith(PASSED)
    assert folders == [str(tmp_path / "records" / f"site-{number}") for number in (0, 1)]
    for folder in folders:
        before = (Path(folder) / "manifest.json").read_bytes()
        checked = jangin("data", "validate", folder, "--level", 1, "--format", "json")
        said = json.loads(checked.out.splitlines()[-1])
        assert (checked.status, said["ok"], said["episodes"]) == (0, True, 12)
        assert 0 < said["holdout"] < 12
        assert (Path(folder) / "manifest.json").read_bytes() == before
    file = tmp_path / "simulation.yaml"
    file.write_text(
        f"data: {{records: {json.dumps(folders)}, model_line: national-bof-blow}}\n"
        "model: {name: linear}\n"
        "strategy: {name: fedavg, rounds: 1, local_steps: 1, batch: 8, lr: 0.01}\n"
        "baselines: [constant]\n"
    )
    assert json.loads(jangin("simulate", file, "--format", "json").out)["metric"]["constant"] > 0


def test_text_is_the_folders_alone(jangin: Jangin, tmp_path: Path) -> None:
    said = jangin("data", "generate", "steel.bof_blow", tmp_path, "--sites", 1, "--masters", 1, "--episodes", 2)
    assert (said.out, said.err) == (f"{tmp_path / 'site-0'}\n", "passed: 2 episodes, 1 set aside as hold-out\n")


@pytest.mark.parametrize(("lang", "word"), [("en", "passed: 12 episodes"), ("ko", "통과: 에피소드 12개")])
def test_a_passed_check_says_how_many_are_set_aside(jangin: Jangin, tmp_path: Path, lang: str, word: str) -> None:
    jangin("data", "generate", "steel.bof_blow", tmp_path, *SIZE)
    said = jangin("data", "validate", tmp_path / "site-0", "--level", 1, "--lang", lang)
    assert (said.status, said.out) == (0, "")
    assert said.err.startswith(word)


def test_level_0_writes_nothing(jangin: Jangin, tmp_path: Path) -> None:
    jangin("data", "generate", "steel.bof_blow", tmp_path, *SIZE)
    (tmp_path / "site-0" / "manifest.json").unlink()
    assert jangin("data", "validate", tmp_path / "site-0", "--level", 0).status == 0
    assert not (tmp_path / "site-0" / "manifest.json").exists()


def test_a_check_goes_through_all_levels_unless_told_otherwise(jangin: Jangin, tmp_path: Path) -> None:
    jangin("data", "generate", "steel.bof_blow", tmp_path, *SIZE)
    folder = tmp_path / "site-0"
    episodes = pq.read_table(folder / "episodes.parquet")
    said = [(one, judge) for one in episodes["episode_id"].to_pylist() for judge in ("a", "b")]
    judged = {"episode_id": [one for one, _ in said], "judge": [judge for _, judge in said]}
    values = [str(1 + number * number % 4) for number in range(len(said))]
    table = pa.table({**judged, "judgement": ["flame_clarity"] * len(said), "value": values})
    pq.write_table(table, folder / "judgements.parquet")
    checked = jangin("data", "validate", folder, "--format", "json")
    *findings, last = map(json.loads, checked.out.splitlines())
    assert (checked.status, last["ok"], last["episodes"]) == (0, True, 12)
    assert {one["code"] for one in findings} == {"JG-data-145", "JG-data-146", "JG-data-159"}
    (agreement,) = last["agreement"]
    assert (agreement["statistic"], agreement["judges"], agreement["episodes"]) == ("ICC(2,1)", 2, 12)
    spoken = jangin("data", "validate", folder).out
    assert f"agreement on flame_clarity: ICC(2,1) {agreement['value']:.3f} (2 masters, 12 episodes)" in spoken
    assert jangin("data", "validate", folder, "--level", 2).out == ""


def test_the_unit_of_the_hold_out_stands(jangin: Jangin, tmp_path: Path) -> None:
    assert jangin("data", "generate", "steel.bof_blow", tmp_path, *SIZE, "--unit", "master").status == 0
    assert jangin("data", "validate", tmp_path / "site-0", "--unit", "master").status == 0
    again = jangin("data", "validate", tmp_path / "site-0", "--unit", "episode", "--format", "json")
    assert (again.status, json.loads(again.out.splitlines()[-1])["code"]) == (1, "JG-data-030")


def test_each_finding_is_a_line_and_the_last_line_names_the_first_error(jangin: Jangin, tmp_path: Path) -> None:
    jangin("data", "generate", "steel.bof_blow", tmp_path, *SIZE)
    folder = tmp_path / "site-0"
    (folder / "note.txt").write_bytes("쇳물".encode("cp949"))
    (folder / "card.yaml").unlink()
    said = jangin("data", "validate", folder, "--format", "json")
    *findings, last = map(json.loads, said.out.splitlines())
    assert said.status == 1
    assert {finding["code"] for finding in findings} == {"JG-data-011", "JG-data-014"}
    assert all(finding.keys() == {"severity", "code", "message", "why", "hint", "where"} for finding in findings)
    assert last["ok"] is False
    assert {key: last[key] for key in ("code", "message", "hint", "where")}.items() <= findings[0].items()
    korean = jangin("data", "validate", folder, "--lang", "ko")
    assert korean.status == 1
    assert all(finding["code"] in korean.out and finding["message"] not in korean.out for finding in findings)


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        (("generate", "steel.bof", "x"), "JG-data-060", 1),
        (("generate", "steel.bof_blow", "x", "--seed", -1), "JG-data-061", 1),
        (("generate", "steel.bof_blow", "x", "--unit", "site"), "JG-plan-003", 2),
        (("generate", "steel.bof_blow", "taken", "--sites", 1), "JG-data-002", 1),
        (("validate", "x"), "JG-data-011", 1),
        (("validate", "x", "--unit", "site"), "JG-plan-003", 2),
    ],
)
def test_a_mistake_has_a_code(
    jangin: Jangin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    code: str,
    status: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken" / "site-0").mkdir(parents=True)
    (tmp_path / "taken" / "site-0" / "card.yaml").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    said = jangin("data", *arguments, "--format", "json")
    line = json.loads(said.out.splitlines()[-1])
    assert (said.status, line["ok"], line["code"]) == (status, False, code)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("option", [("--level", 5), ("--unit", "shift"), ("--level", "deep")])
def test_an_option_beyond_its_bounds_is_wrong_usage(jangin: Jangin, option: tuple[str, object]) -> None:
    assert jangin("data", "validate", "x", *option).status == 2
