"""Laws of `jangin data init` and `ingest`: templates that can be filled in, findings a line, and a key that stays."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jangin.records.process import read_process

Jangin = Callable[..., Any]
PROCESS = "steel.bof_blow"


@pytest.fixture
def drop(jangin: Jangin, tmp_path: Path) -> Path:
    """A template whose columns were filled in, with one recording of every stream."""
    folder = tmp_path / "투입"
    assert jangin("data", "init", folder, "--process", PROCESS, "--site", "제철소").status == 0
    head = next(csv.reader((folder / "episodes.csv").read_text(encoding="utf-8-sig").splitlines()))
    process = read_process(PROCESS)
    inside = [field.values[0] if field.values else sum(field.range or ()) / 2 for field in process.columns().values()]
    text = ",".join(head) + "\r\n" + ",".join(map(str, ["001", "홍길동", "2026-11-21 오후 3:05", *inside])) + "\r\n"
    (folder / "episodes.csv").write_bytes(text.encode("cp949"))
    (folder / "001").mkdir()
    for stream in process.streams:
        lines = [
            ",".join(str(channel.ko) for channel in stream.channels),
            *[",".join("1" for _ in stream.channels)] * 3,
        ]
        (folder / "001" / f"{stream.name}.csv").write_bytes("\r\n".join(lines).encode("cp949"))
    return folder


def test_a_template_that_is_filled_in_becomes_records(jangin: Jangin, drop: Path, tmp_path: Path) -> None:
    assert "jangin data ingest" in (drop / "README.txt").read_text(encoding="utf-8-sig")
    said = jangin("data", "ingest", drop, tmp_path / "records", "--format", "json")
    assert (said.status, json.loads(said.out)) == (
        0,
        {"ok": True, "folder": str(tmp_path / "records"), "masters": 1, "added": 1, "known": 0, "filled": 0},
    )
    assert jangin("data", "validate", tmp_path / "records", "--level", 0).status == 0
    names = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert names == {"투입", "투입.masters.key", "투입.masters.csv", "records"}
    assert "홍길동" in (tmp_path / "투입.masters.csv").read_text(encoding="utf-8-sig")
    again = jangin("data", "ingest", drop, tmp_path / "records", "--lang", "ko")
    assert (again.status, again.out.strip()) == (0, str(tmp_path / "records"))
    assert "기존 1개" in again.err


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_findings_are_lines_and_nothing_is_made(jangin: Jangin, drop: Path, tmp_path: Path, lang: str) -> None:
    (drop / "001" / "sound.csv").write_text("level(Pa),x\n1,2\n")
    said = jangin("data", "ingest", drop, tmp_path / "records", "--lang", lang, "--format", "json")
    *findings, last = map(json.loads, said.out.splitlines())
    assert said.status == 1
    assert {"JG-data-106", "JG-data-105", "JG-data-125"} == {finding["code"] for finding in findings}
    assert (last["ok"], last["code"]) == (False, findings[0]["code"])
    text = jangin("data", "ingest", drop, tmp_path / "records", "--lang", lang)
    assert all(finding["message"] in text.out + text.err for finding in findings)
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("init", "x", "--process", "steel.bof"), "JG-data-001"),
        (("ingest", "x", "y"), "JG-data-100"),
        (("ingest", "투입", "y", "--state", "x"), "JG-site-304"),
        (("import", "mcap", "x", "투입"), "JG-data-128"),
        (("import", "opcua", "opc.tcp://x", "투입", "--from", "어제", "--to", "2026-11-21"), "JG-plan-003"),
    ],
)
def test_a_mistake_has_a_code_and_makes_no_key(
    jangin: Jangin, drop: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], code: str
) -> None:
    monkeypatch.chdir(drop.parent)
    said = jangin("data", *arguments, "--format", "json")
    assert json.loads(said.out.splitlines()[-1])["code"] == code
    assert [path.name for path in drop.parent.iterdir()] == ["투입"]


def test_a_history_becomes_a_folder_that_waits_for_its_line(jangin: Jangin, drop: Path, tmp_path: Path) -> None:
    message = {"tst": "2026-11-21T06:05:07Z", "topic": "lance_height", "payload": "1.5"}
    (tmp_path / "shift.json").write_text(json.dumps(message))
    said = jangin("data", "import", "mqtt", tmp_path / "shift.json", drop, "--episode", "002", "--format", "json")
    told = {"folder": str(drop / "002"), "files": ["telemetry.csv"], "samples": 1, "unread": []}
    assert (said.status, json.loads(said.out)) == (0, {"ok": True, **told})
    assert (drop / "002" / "telemetry.csv").read_text().splitlines() == [
        "t,telemetry.lance_height",
        "2026-11-21T06:05:07.000000+00:00,1.5",
    ]
    assert "JG-data-114" in jangin("data", "ingest", drop, tmp_path / "records").out
