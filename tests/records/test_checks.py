"""Laws of the checks: what each finds, and that a failed one writes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from jangin.codec.document import parse
from jangin.errors import DataError
from jangin.records import checks
from jangin.records.card import Card
from jangin.records.checks import Finding, Report, check_card, validate
from jangin.records.manifest import KEY_FILE, MANIFEST_FILE, Manifest, read_manifest
from jangin.records.process import Process

TORCH = "streams/torch/part-000.parquet"


def codes(report: Report) -> list[str]:
    return [finding.code for finding in report.findings]


def said(report: Report) -> list[dict[str, object]]:
    return [finding.as_dict() for finding in report.findings]


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values))


def manifest_of(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest


def test_good_records_pass_and_get_a_manifest_and_a_key(folder: Path) -> None:
    report = validate(folder)
    assert report.passed
    assert report.findings == ()
    assert report.episodes == 40
    assert report.holdout == len(manifest_of(folder).holdout) > 0
    assert manifest_of(folder).validation.level == 1


def test_level_0_writes_nothing(folder: Path) -> None:
    assert validate(folder, level=0).passed
    assert not (folder / MANIFEST_FILE).exists()


FILES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "card is missing": ("JG-data-011", lambda f: (f / "card.yaml").unlink()),
    "episodes are missing": ("JG-data-011", lambda f: (f / "episodes.parquet").unlink()),
    "not Parquet": ("JG-data-012", lambda f: (f / "episodes.parquet").write_bytes(b"PAR1, or so")),
    "no bytes": ("JG-data-013", lambda f: (f / TORCH).write_bytes(b"")),
    "no rows": ("JG-data-013", lambda f: pq.write_table(pq.read_table(f / TORCH).slice(0, 0), f / TORCH)),
    "cp949": ("JG-data-014", lambda f: (f / "note.txt").write_bytes("전류".encode("cp949"))),
    "no encoding": ("JG-data-014", lambda f: (f / "note.txt").write_bytes(b"\xff\xff\xff")),
    "twice": ("JG-data-015", lambda f: (f / "copy.parquet").write_bytes((f / TORCH).read_bytes())),
    "stream is missing": ("JG-data-016", lambda f: (f / TORCH).unlink()),
}


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("case", FILES)
def test_level_0_finds(folder: Path, case: str, level: Any) -> None:
    code, spoil = FILES[case]
    spoil(folder)
    report = validate(folder, level=level)
    assert code in codes(report)
    assert not report.passed
    assert not (folder / MANIFEST_FILE).exists()
    assert not (folder / KEY_FILE).exists()


def test_the_encoding_that_was_found_is_named(folder: Path) -> None:
    (folder / "card.yaml").write_bytes((folder / "card.yaml").read_bytes().decode().encode("cp949"))
    (finding,) = validate(folder).findings
    assert finding.text() == f"{folder / 'card.yaml'}: the text is not UTF-8 (found: cp949)."


def test_a_folder_that_is_not_there_lacks_both_files(tmp_path: Path) -> None:
    assert codes(validate(tmp_path / "nowhere")) == ["JG-data-011", "JG-data-011"]


EPISODES: dict[str, tuple[str, str, Any]] = {
    "id is null": ("JG-data-023", "episode_id", [None, *(f"e{i:03d}" for i in range(1, 40))]),
    "id twice": ("JG-data-022", "episode_id", ["e001", *(f"e{i:03d}" for i in range(1, 40))]),
    "ids are numbers": ("JG-data-020", "episode_id", np.arange(40)),
    "times are text": ("JG-data-020", "start_utc", ["2026-01-01"] * 40),
    "numbers are text": ("JG-data-020", "action.speed", ["3"] * 40),
    "a number is NaN": ("JG-data-025", "outcome.defects", np.where(np.arange(40) == 3, np.nan, 1.0)),
    "time runs backwards": ("JG-data-026", "duration_s", np.arange(40) - 1.0),
    "out of enum": ("JG-data-021", "context.position", ["sideways"] * 40),
    "impossible action": ("JG-data-027", "action.speed", np.arange(40)),
}


@pytest.mark.parametrize("case", EPISODES)
def test_level_1_finds_in_episodes(folder: Path, episodes: pa.Table, case: str) -> None:
    code, column, values = EPISODES[case]
    pq.write_table(with_column(episodes, column, values), folder / "episodes.parquet")
    report = validate(folder)
    assert code in codes(report)
    assert any(column in finding.text() or code == "JG-data-022" for finding in report.findings)
    assert not (folder / MANIFEST_FILE).exists()


@pytest.mark.parametrize("column", ["episode_id", "master", "context.position", "action.speed", "consent_id"])
def test_level_1_misses_a_column(folder: Path, episodes: pa.Table, column: str) -> None:
    pq.write_table(episodes.drop_columns(column), folder / "episodes.parquet")
    report = validate(folder)
    assert codes(report) == ["JG-data-003"]
    assert f"'{column}'" in report.findings[0].text()


def test_a_finding_counts_the_rows_and_shows_the_first(folder: Path, episodes: pa.Table) -> None:
    pq.write_table(with_column(episodes, "action.speed", [3, 99, 0] + [5] * 37), folder / "episodes.parquet")
    (finding,) = validate(folder).findings
    assert "2 actions lie outside the public range 1.0..20.0 mm/s, first row 2: 99" in finding.text()


TORCHES: dict[str, tuple[str, Callable[[pa.Table], pa.Table]]] = {
    "no channel": ("JG-data-003", lambda t: t.drop_columns("current")),
    "no time": ("JG-data-003", lambda t: t.drop_columns("t")),
    "no ids": ("JG-data-003", lambda t: t.drop_columns("episode_id")),
    "double": ("JG-data-020", lambda t: with_column(t, "current", np.zeros(len(t)))),
    "integer": ("JG-data-020", lambda t: with_column(t, "current", np.zeros(len(t), np.int32))),
    "a time is null": ("JG-data-023", lambda t: with_column(t, "t", [None, *([0.0] * (len(t) - 1))])),
    "NaN": ("JG-data-025", lambda t: with_column(t, "current", np.full(len(t), np.nan, np.float32))),
    "infinite": ("JG-data-025", lambda t: with_column(t, "current", np.full(len(t), np.inf, np.float32))),
    "stray": ("JG-data-024", lambda t: with_column(t, "episode_id", ["nobody"] * len(t))),
}


@pytest.mark.parametrize("case", TORCHES)
def test_level_1_finds_in_streams(folder: Path, torch_rows: pa.Table, case: str) -> None:
    code, spoil = TORCHES[case]
    pq.write_table(spoil(torch_rows), folder / TORCH)
    assert codes(validate(folder)) == [code]
    assert not (folder / MANIFEST_FILE).exists()


def test_null_is_how_missing_is_written(folder: Path, torch_rows: pa.Table) -> None:
    pq.write_table(with_column(torch_rows, "current", pa.nulls(len(torch_rows), pa.float32())), folder / TORCH)
    assert validate(folder).passed


def test_text_may_be_dictionary_encoded(folder: Path, episodes: pa.Table) -> None:
    for column in ("episode_id", "master", "context.position"):
        episodes = episodes.set_column(
            episodes.column_names.index(column), column, pc.dictionary_encode(episodes[column])
        )
    pq.write_table(episodes, folder / "episodes.parquet")
    assert validate(folder, unit="master").passed


def test_a_page_that_broke_is_unreadable(folder: Path) -> None:
    content = bytearray((folder / TORCH).read_bytes())
    content[4:60] = bytes(56)
    (folder / TORCH).write_bytes(content)
    assert codes(validate(folder)) == ["JG-data-012"]


def test_an_unknown_unit_is_a_finding_of_the_card(folder: Path) -> None:
    content = yaml.safe_load((folder / "card.yaml").read_text(encoding="utf-8"))
    content["actions"][0]["unit"] = "mm/sec"
    (folder / "card.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    (finding,) = validate(folder).findings
    assert "actions.0.unit" in finding.text()
    assert "'mm/s'" in finding.text()


def test_an_unknown_process_is_a_finding(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> Process:
        raise DataError("JG-data-001", where=name, nearest="steel.bof_blow")

    monkeypatch.setattr(checks, "read_process", unknown)
    assert codes(validate(folder)) == ["JG-data-001"]


CARDS: dict[str, tuple[list[str], Callable[[dict[str, Any]], object]]] = {
    "same": ([], lambda c: None),
    "optional channel left out": ([], lambda c: c["streams"][0]["channels"].pop(1)),
    "optional context left out": ([], lambda c: c["context"].pop(1)),
    "judgement left out": ([], lambda c: c["judgements"].clear()),
    "another rate": ([], lambda c: c["streams"][0].update(rate_hz=25)),
    "more than demanded": (
        [],
        lambda c: c["actions"].append({"name": "weave", "unit": "mm", "range": [0, 9]}),
    ),
    "no stream": (["JG-data-017"], lambda c: c["streams"].clear()),
    "no channel": (["JG-data-017"], lambda c: c["streams"][0]["channels"].pop(0)),
    "no context": (["JG-data-017"], lambda c: c["context"].pop(0)),
    "no action": (["JG-data-017"], lambda c: c["actions"].clear()),
    "another kind": (["JG-data-018"], lambda c: c["streams"][0].update(kind="motion")),
    "another unit": (["JG-data-018"], lambda c: c["streams"][0]["channels"][0].update(unit="mA")),
    "another range": (["JG-data-018"], lambda c: c["outcomes"][0].update(range=[0, 60])),
    "another choice": (["JG-data-018"], lambda c: c["judgements"][0].update(values=["good"])),
    "optional here alone": (["JG-data-018"], lambda c: c["actions"][0].update(optional=True)),
}


@pytest.mark.parametrize("case", CARDS)
def test_a_card_is_checked_against_its_process(card: Card, process: Process, case: str) -> None:
    expected, change = CARDS[case]
    content = card.model_dump(mode="json")
    change(content)
    assert [finding.code for finding in check_card(parse(content, Card, "card"), process)] == expected


def test_a_difference_names_both_values(card: Card, process: Process) -> None:
    content = card.model_dump(mode="json")
    content["actions"][0]["unit"] = "m/min"
    (finding,) = check_card(parse(content, Card, "card"), process)
    assert finding.text() == "card.yaml: 'action.speed' has unit 'm/min'; the process says 'mm/s'."


def append_episodes(folder: Path, episodes: pa.Table, number: int) -> None:
    more = with_column(episodes.slice(0, number), "episode_id", [f"new{i}" for i in range(number)])
    pq.write_table(pa.concat_tables([episodes, more]), folder / "episodes.parquet")


def test_new_episodes_are_drawn_and_earlier_ones_stay(folder: Path, episodes: pa.Table) -> None:
    validate(folder)
    before, key = manifest_of(folder), (folder / KEY_FILE).read_bytes()
    append_episodes(folder, episodes, 40)
    assert validate(folder).episodes == 80
    after = manifest_of(folder)
    assert (folder / KEY_FILE).read_bytes() == key
    assert set(before.train) < set(after.train)
    assert set(before.holdout) <= set(after.holdout)


def test_earlier_episodes_stay_even_when_the_key_is_lost(folder: Path) -> None:
    validate(folder)
    before = manifest_of(folder)
    (folder / KEY_FILE).unlink()
    validate(folder)
    assert manifest_of(folder).split == before.split


def test_the_kept_key_draws_the_same_split_without_a_manifest(folder: Path) -> None:
    validate(folder)
    before = manifest_of(folder)
    (folder / MANIFEST_FILE).unlink()
    validate(folder)
    assert manifest_of(folder) == before


def test_validating_twice_changes_nothing(folder: Path) -> None:
    first = validate(folder)
    before = (folder / MANIFEST_FILE).read_bytes()
    again = validate(folder)
    assert (again.episodes, again.holdout) == (first.episodes, first.holdout)
    assert (folder / MANIFEST_FILE).read_bytes() == before


def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened from now on."""
    opened: list[str] = []
    look = checks.look
    monkeypatch.setattr(
        checks, "look", lambda folder, piece, level: opened.append(piece.name) or look(folder, piece, level)
    )
    return opened


def test_a_known_part_is_not_opened_again(folder: Path, episodes: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = looked_at(monkeypatch)
    first = validate(folder, level=2)
    assert opened == [TORCH]
    assert said(validate(folder, level=2)) == said(first) != []
    assert validate(folder, level=1).passed
    assert opened == [TORCH]
    pq.write_table(episodes.slice(1), folder / "episodes.parquet")
    assert codes(validate(folder)) == ["JG-data-024"]
    assert opened == [TORCH]


def test_the_unit_of_the_split_stays(folder: Path) -> None:
    validate(folder, unit="master")
    before = (folder / MANIFEST_FILE).read_bytes()
    report = validate(folder, unit="episode")
    assert codes(report) == ["JG-data-030"]
    assert (folder / MANIFEST_FILE).read_bytes() == before


def test_a_failed_validation_leaves_the_manifest_as_it_was(folder: Path) -> None:
    validate(folder)
    before = (folder / MANIFEST_FILE).read_bytes()
    (folder / TORCH).write_bytes(b"")
    assert not validate(folder).passed
    assert (folder / MANIFEST_FILE).read_bytes() == before


def test_one_master_cannot_be_split(folder: Path, episodes: pa.Table) -> None:
    pq.write_table(with_column(episodes, "master", ["m0"] * 40), folder / "episodes.parquet")
    assert codes(validate(folder, unit="master")) == ["JG-data-029"]
    assert not (folder / KEY_FILE).exists()


def test_two_masters_can_be_split(folder: Path, episodes: pa.Table) -> None:
    pq.write_table(with_column(episodes, "master", ["m0", "m1"] * 20), folder / "episodes.parquet")
    assert validate(folder, unit="master").holdout == 20


def test_a_broken_manifest_is_a_finding_and_is_not_written_over(folder: Path) -> None:
    (folder / MANIFEST_FILE).write_text("{")
    assert codes(validate(folder)) == ["JG-data-007"]
    assert (folder / MANIFEST_FILE).read_text() == "{"


def test_a_report_that_failed_refuses_with_its_first_error(folder: Path) -> None:
    validate(folder).require(folder)
    (folder / TORCH).write_bytes(b"")
    with pytest.raises(DataError, match=r"JG-data-031 .*1 errors, the first is JG-data-013"):
        validate(folder).require(folder)


def test_a_finding_speaks_both_languages() -> None:
    finding = Finding("warning", "JG-data-028", where="episodes.parquet", column="x", nearest="y")
    assert finding.as_dict() == {
        "severity": "warning",
        "code": "JG-data-028",
        "message": "episodes.parquet: nobody reads the column 'x'.",
        "hint": "The nearest known column is 'y'; rename it, or describe it in the card.",
        "where": "episodes.parquet",
        "why": "It may be a misspelt name, and its values stay unused.",
    }
    assert "아무도" in str(finding.as_dict("ko")["message"])
