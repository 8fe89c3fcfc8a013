"""Laws of the commands that look at records: `data preview`, `align`, `export`, `baseline`."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import three_clocks
import yaml

from jangin.client import desk
from jangin.codec.document import parse
from jangin.models.lines import ModelLine, line_names, read_line
from jangin.records.process import process_names, read_process
from jangin.simulation.alone import Alone, Row, Score

Jangin = Callable[..., Any]


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def clocks(tmp_path: Path) -> Path:
    return three_clocks.write(tmp_path / "clocks", 6, arc_late=0.37)


@pytest.fixture
def blows(jangin: Jangin, tmp_path: Path) -> Path:
    jangin("data", "generate", "steel.bof_blow", tmp_path, "--sites", 1, "--masters", 2, "--episodes", 12, "--seed", 3)
    return tmp_path / "site-0"


def test_a_preview_is_for_its_owner_stands_beside_the_folder_and_changes_nothing_in_it(
    jangin: Jangin, clocks: Path
) -> None:
    before = held(clocks)
    said = jangin("data", "preview", clocks, "--lang", "ko")
    page = clocks.with_name("clocks-preview.html")
    assert (said.status, said.out) == (0, f"{page}\n")
    assert page.stat().st_mode & 0o777 == 0o600
    assert "JG-data-001" in page.read_text(encoding="utf-8")  # nobody installed this process
    assert held(clocks) == before
    inside = jangin("data", "preview", clocks, "--out", clocks / "page.html", "--format", "json")
    assert (inside.status, json.loads(inside.out)["code"], held(clocks)) == (1, "JG-data-194", before)


def test_a_preview_says_how_the_sites_consents_stand(jangin: Jangin, blows: Path, tmp_path: Path) -> None:
    desk.init(tmp_path / "site", "site-0", "steel.bof_blow", blows)
    grant = ("--purpose", "safety", "--channel", "all", "--until", "2099-12-31")
    assert jangin("consent", "grant", tmp_path / "site", "--master", "S0-M00", *grant).status == 0
    said = jangin("data", "preview", blows, "--site", tmp_path / "site", "--lang", "ko")
    html = Path(said.out.strip()).read_text(encoding="utf-8")
    for master, state in (("S0-M00", "유효"), ("S0-M01", "동의 없음")):
        assert re.search(rf"<td>{master}</td><td>6</td><td>\d</td><td>{state}</td>", html)


def test_a_lag_is_told_and_moved_away_on_request(jangin: Jangin, clocks: Path, tmp_path: Path) -> None:
    lag = ("--reference", "sound", "--moved", "arc.current")
    before = held(clocks)
    said = jangin("data", "align", clocks, *lag, "--apply", tmp_path / "new", "--format", "json")
    line = json.loads(said.out)
    assert (said.status, line["seconds"], line["folder"]) == (0, pytest.approx(0.37, abs=0.005), str(tmp_path / "new"))
    again = json.loads(jangin("data", "align", tmp_path / "new", *lag, "--format", "json").out)
    assert (again["seconds"], again["folder"]) == (pytest.approx(0, abs=1e-3), None)
    assert held(clocks) == before
    text = jangin("data", "align", clocks, *lag)
    assert text.out.startswith("arc.current is +0.36")


def test_outcomes_are_joined_or_told_why_not(jangin: Jangin, clocks: Path, tmp_path: Path) -> None:
    (tmp_path / "lab.csv").write_bytes("lot,기공률\nA,1.5\nB,2.5\n".encode("cp949"))
    said = jangin(
        "data", "align", clocks, "--outcomes", tmp_path / "lab.csv", "--key", "lot", "--apply", tmp_path / "new"
    )
    assert (said.status, said.out) == (0, "6 of 6 episodes get an outcome: outcome.porosity\n")
    assert "validate it" in said.err
    (tmp_path / "lab.csv").write_text("lot,porosity\nA,1.5\nA,2.5\n")
    arguments = ("--outcomes", tmp_path / "lab.csv", "--key", "lot", "--apply", tmp_path / "other", "--format", "json")
    refused = jangin("data", "align", clocks, *arguments)
    *findings, last = map(json.loads, refused.out.splitlines())
    assert (refused.status, last["ok"], last["code"], last["folder"]) == (1, False, "JG-data-187", None)
    assert [finding["code"] for finding in findings] == ["JG-data-187", "JG-data-188"]
    assert not (tmp_path / "other").exists()


def test_metadata_are_written_beside_the_records_never_among_them(jangin: Jangin, blows: Path, tmp_path: Path) -> None:
    said = jangin("data", "export", blows, "--croissant", tmp_path / "out" / "set.json", "--format", "json")
    assert (said.status, json.loads(said.out)["files"]) == (0, [str(tmp_path / "out" / "set.json")])
    assert json.loads((tmp_path / "out" / "set.json").read_text())["name"] == "steel.bof_blow master records"
    inside = jangin("data", "export", blows, "--croissant", blows / "set.json", "--format", "json")
    assert json.loads(inside.out)["code"] == "JG-data-194"
    (tmp_path / "file").write_text("")
    blocked = jangin("data", "export", blows, "--croissant", tmp_path / "file" / "set.json", "--format", "json")
    assert (blocked.status, json.loads(blocked.out)["code"]) == (1, "JG-data-193")


def test_a_schema_has_every_key_of_every_installed_document_and_no_other(jangin: Jangin, tmp_path: Path) -> None:
    assert jangin("data", "export", "--json-schema", tmp_path).status == 0
    schemas = {path.name.split(".")[0]: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert set(schemas) == {"card", "manifest", "process", "line"}
    for schema in schemas.values():
        assert schema["additionalProperties"] is False
        assert schema["$schema"].endswith("2020-12/schema")
    assert "kJ/mm" in schemas["card"]["$defs"]["Channel"]["properties"]["unit"]["enum"]
    for name in process_names():
        given = read_process(name).model_dump(exclude_unset=True)
        assert set(schemas["process"]["required"]) <= set(given) <= set(schemas["process"]["properties"])
    for name in line_names():
        document = yaml.safe_load(read_line(name).model_dump_json(exclude_unset=True))
        assert set(schemas["line"]["required"]) <= set(document) <= set(schemas["line"]["properties"])
        assert parse(document, ModelLine, name) == read_line(name)


def test_a_baseline_says_how_little_twelve_are_and_that_nothing_left(
    jangin: Jangin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = Score(0.083), Score(0.0553, 0.0341, 0.0795, "better")
    rows = (
        Row("action.filler", "m/min", "holdout", 2, {"constant": few, "linear": few, "trees": few}),
        Row("outcome.defect", None, "turns", 10, {"constant": few, "linear": many, "trees": few}),
    )
    told = Alone("national-tig-filler", "regression", "episode", 10, 2, rows)
    monkeypatch.setattr("jangin.simulation.alone.alone", lambda folder, line, progress: told)
    said = jangin("data", "baseline", tmp_path)
    head, models, first, second = said.out.splitlines()
    assert (said.status, head) == (0, "national-tig-filler: 10 episodes to learn from, 2 set aside")
    assert models.split() == ["the", "mean", "linear", "boosted", "trees"]
    assert first.split() == ["action.filler", "(m/min),", "set", "aside:", "2", "0.083", "0.083", "0.083"]
    assert second.startswith("outcome.defect (share of wrong classes), in turns: 10 ")
    assert " 0.0553 [0.0341, 0.0795] better " in second
    assert "are of 2 alone" in said.err
    assert said.err.endswith("nothing left this machine.\n")
    line = json.loads(jangin("data", "baseline", tmp_path, "--format", "json").out)
    assert (line["train"], line["rows"][1]["scores"]["linear"]["verdict"]) == (10, "better")


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        (("preview", "x"), "JG-data-011", 1),
        (("align", "x", "--reference", "a.b", "--moved", "c.d"), "JG-data-011", 1),
        (("align", "x", "--reference", "a.b"), "JG-plan-030", 2),
        (("align", "x", "--reference", "a.b", "--moved", "c.d", "--key", "heat"), "JG-plan-030", 2),
        (("align", "x", "--outcomes", "lab.csv"), "JG-plan-030", 2),
        (("export", "x"), "JG-plan-030", 2),
        (("export", "--croissant", "out.json"), "JG-plan-030", 2),
        (("export", "x", "--croissant", "out.json"), "JG-data-004", 1),
        (("baseline", "x"), "JG-data-004", 1),
    ],
)
def test_a_mistake_has_a_code(
    jangin: Jangin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: str,
    status: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = jangin("data", *arguments, "--format", "json")
    line = json.loads(said.out.splitlines()[-1])
    assert (said.status, line["ok"], line["code"], list(tmp_path.iterdir())) == (status, False, code, [])
