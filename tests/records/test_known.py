"""Laws of what is known: it saves work and decides nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jangin.records import checks
from jangin.records.checks import validate
from jangin.records.contents import contents
from jangin.records.dataset import Records
from jangin.records.manifest import MANIFEST_FILE, Manifest, read_manifest
from jangin.records.process import Process

PART, SECOND, KNOWN = "streams/torch/part-000.parquet", "streams/torch/part-001.parquet", ".checked.json"

LAYOUTS: dict[str, Callable[[pa.Table], list[pa.Table]]] = {
    "one part": lambda rows: [rows],
    "two parts": lambda rows: [rows.slice(0, 100), rows.slice(100)],
    "an episode in two parts": lambda rows: [rows.slice(0, 98), rows.slice(98)],
    "episodes that lie apart": lambda rows: [rows.take(pa.array(np.argsort(np.arange(len(rows)) % 5, kind="stable")))],
    "an episode without values": lambda rows: [rows.set_column(2, "current", emptied(rows["current"]))],
}


def emptied(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([None if row < 5 else value for row, value in enumerate(column.to_pylist())], pa.float32())


def laid(folder: Path, parts: list[pa.Table]) -> None:
    for number, rows in enumerate(parts):
        pq.write_table(rows, folder / f"streams/torch/part-{number:03d}.parquet")


def manifest_of(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    look = checks.look

    def seen(folder: Path, piece: Any, level: Any) -> Any:
        names.append(piece.name)
        return look(folder, piece, level)

    monkeypatch.setattr(checks, "look", seen)
    return names


@pytest.mark.parametrize("layout", LAYOUTS)
def test_content_is_the_same_whether_it_was_seen_by_the_check_or_is_read(
    folder: Path, torch_rows: pa.Table, process: Process, layout: str
) -> None:
    laid(folder, LAYOUTS[layout](torch_rows))
    assert validate(folder).passed
    records = Records.open(folder)
    read = {
        unit: held
        for view in (records.train(), records.holdout())
        for unit, held in contents(view, process, "episode").items()
    }
    assert manifest_of(folder).contents == read
    (folder / MANIFEST_FILE).unlink()  # the key stays, and with it the split
    assert validate(folder).passed
    assert manifest_of(folder).contents == read


def test_only_what_is_new_is_opened(folder: Path, episodes: pa.Table, torch_rows: pa.Table, opened: list[str]) -> None:
    laid(folder, [torch_rows.slice(0, 100)])
    pq.write_table(episodes.slice(0, 20), folder / "episodes.parquet")
    assert validate(folder, level=2).passed
    laid(folder, [torch_rows.slice(0, 100), torch_rows.slice(100)])
    pq.write_table(episodes, folder / "episodes.parquet")
    report = validate(folder, level=2)
    assert opened == [PART, SECOND]
    grown = manifest_of(folder).contents
    (folder / KNOWN).unlink()
    (folder / MANIFEST_FILE).unlink()
    whole = validate(folder, level=2)
    assert opened == [PART, SECOND, PART, SECOND]
    assert manifest_of(folder).contents == grown
    assert [one.as_dict() for one in report.findings] == [one.as_dict() for one in whole.findings]


def test_warnings_are_told_again_wherever_the_folder_lies(folder: Path, torch_rows: pa.Table) -> None:
    pq.write_table(torch_rows.append_column("curent", torch_rows["current"]), folder / PART)
    first = [one.as_dict() for one in validate(folder, level=2).findings]
    assert {one["code"] for one in first} >= {"JG-data-028", "JG-data-137"}
    moved = folder.rename(folder.parent / "moved")
    again = [one.as_dict() for one in validate(moved, level=2).findings]
    assert [one["where"] for one in again if one["code"] == "JG-data-028"] == [str(moved / PART)]
    assert sorted(str(one["code"]) for one in again) == sorted(str(one["code"]) for one in first)


def spoil(folder: Path) -> None:
    (folder / KNOWN).write_text('{"files": 3}')


def recard(folder: Path) -> None:
    (folder / "card.yaml").write_text((folder / "card.yaml").read_text() + "# read again\n")


@pytest.mark.parametrize("change", [spoil, recard, lambda folder: (folder / KNOWN).unlink()])
def test_what_is_not_known_for_sure_is_opened(
    folder: Path, opened: list[str], change: Callable[[Path], object]
) -> None:
    assert validate(folder).passed
    change(folder)
    assert validate(folder).passed
    assert opened == [PART, PART]


def test_another_tool_or_a_higher_level_opens_again(
    folder: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    validate(folder)
    validate(folder, level=2)
    validate(folder, level=1)
    assert opened == [PART, PART]
    monkeypatch.setattr(checks, "__version__", "0.0.0")
    validate(folder, level=1)
    assert opened == [PART, PART, PART]


def test_a_failed_check_is_not_remembered(folder: Path, torch_rows: pa.Table) -> None:
    pq.write_table(torch_rows.drop_columns("current"), folder / PART)
    assert not validate(folder).passed
    assert not (folder / KNOWN).exists()


def test_progress_counts_each_file_hashed_and_each_file_opened(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    validate(folder, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 6), (2, 6), (3, 6), (4, 6)]


def test_a_look_changes_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    looked = validate(folder, level=4, draw=False)
    assert (looked.passed, looked.episodes, looked.holdout) == (True, 40, 0)
    assert sorted(folder.rglob("*")) == before
