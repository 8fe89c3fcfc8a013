"""Laws of a records folder: written whole, read only as validated, hold-out out of reach."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jangin.codec.document import read
from jangin.errors import DataError
from jangin.records.card import Card
from jangin.records.checks import validate
from jangin.records.dataset import Records, episode_schema, stream_schema, write_records


def ids(table: pa.Table) -> set[str]:
    return set(table["episode_id"].to_pylist())


def test_written_records_are_what_was_given(folder: Path, card: Card, episodes: pa.Table, torch_rows: pa.Table) -> None:
    assert read(folder / "card.yaml", Card) == card
    written = pq.read_table(folder / "episodes.parquet")
    assert written["action.speed"].to_pylist() == episodes["action.speed"].to_pylist()
    assert pq.read_table(folder / "streams" / "torch" / "part-000.parquet").equals(torch_rows)


def test_a_folder_that_holds_something_is_left_alone(folder: Path, card: Card, episodes: pa.Table) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(DataError, match="JG-data-002"):
        write_records(folder, card, episodes, {})
    assert sorted(folder.rglob("*")) == before


def test_an_empty_folder_is_filled(tmp_path: Path, card: Card, episodes: pa.Table) -> None:
    (tmp_path / "new").mkdir()
    write_records(tmp_path / "new", card, episodes, {})
    assert (tmp_path / "new" / "card.yaml").exists()


def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, card: Card, episodes: pa.Table, torch_rows: pa.Table
) -> None:
    text = torch_rows.set_column(2, "current", torch_rows["current"].cast(pa.string()))
    for code, rows, streams in (
        ("003 episodes.parquet: the column 'action.speed'", episodes.drop_columns("action.speed"), {}),
        (
            "003 streams/torch/part-000.parquet: the column 't'",
            episodes,
            {"torch": torch_rows.drop_columns("t")},
        ),
        ("008 .*'torc'.*'torch'", episodes, {"torc": torch_rows}),
        ("020 streams/torch/part-000.parquet: current: .*string", episodes, {"torch": text}),
    ):
        with pytest.raises(DataError, match=f"JG-data-{code}"):
            write_records(tmp_path / "new", card, rows, streams)
        assert list(tmp_path.iterdir()) == []


def test_records_open_only_after_a_passed_validation(folder: Path) -> None:
    with pytest.raises(DataError, match="JG-data-004"):
        Records.open(folder)
    validate(folder, level=0)
    with pytest.raises(DataError, match="JG-data-004"):
        Records.open(folder)
    validate(folder)
    assert Records.open(folder).card.site == "site-0"


@pytest.mark.parametrize("unit", ["episode", "master"])
def test_a_view_never_yields_a_row_of_the_other_side(folder: Path, episodes: pa.Table, unit: str) -> None:
    assert validate(folder, unit=unit).passed  # type: ignore[arg-type]
    records = Records.open(folder)
    train, holdout = records.train(), records.holdout()
    column = "episode_id" if unit == "episode" else "master"
    assert set(train.episodes[column].to_pylist()) == set(records.manifest.train)
    assert set(holdout.episodes[column].to_pylist()) == set(records.manifest.holdout)
    assert ids(train.episodes) | ids(holdout.episodes) == ids(episodes)
    for view in (train, holdout):
        assert ids(view.stream("torch")) == ids(view.episodes)
    assert not ids(train.stream("torch")) & ids(holdout.stream("torch"))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(40)), st.permutations(range(200)))
def test_stream_rows_come_in_the_order_of_episodes_and_time(
    folder: Path, card: Card, episodes: pa.Table, torch_rows: pa.Table, order: list[int], rows: list[int]
) -> None:
    shutil.rmtree(folder)
    write_records(folder, card, episodes.take(order), {"torch": torch_rows.take(rows)})
    validate(folder)
    view = Records.open(folder).train()
    read = view.stream("torch")
    place = {episode: number for number, episode in enumerate(view.episodes["episode_id"].to_pylist())}
    keys = list(zip((place[e] for e in read["episode_id"].to_pylist()), read["t"].to_pylist(), strict=True))
    assert keys == sorted(keys)
    assert len(keys) == 5 * len(place)


def test_parts_of_a_stream_are_one_stream(folder: Path, torch_rows: pa.Table) -> None:
    path = folder / "streams" / "torch"
    half = len(torch_rows) // 2
    with_voltage = torch_rows.slice(half).append_column("voltage", pa.array(np.ones(half, np.float32)))
    pq.write_table(torch_rows.slice(0, half), path / "part-000.parquet")
    pq.write_table(with_voltage, path / "part-001.parquet")
    validate(folder)
    records = Records.open(folder)
    rows = pa.concat_tables([records.train().stream("torch"), records.holdout().stream("torch")])
    assert len(rows) == len(torch_rows)
    assert rows["voltage"].null_count == half


def test_tables_have_the_cards_columns_and_null_where_the_site_has_none(folder: Path, card: Card) -> None:
    validate(folder)
    view = Records.open(folder).train()
    assert view.episodes.schema == episode_schema(card)
    assert view.stream("torch").schema == stream_schema(card.streams[0])
    assert view.episodes["context.humidity"].null_count == len(view.episodes)


def test_columns_that_the_card_does_not_name_are_not_read(folder: Path, episodes: pa.Table) -> None:
    named = episodes.append_column("real_name", pa.array(["x"] * len(episodes)))
    pq.write_table(named, folder / "episodes.parquet")
    report = validate(folder)
    assert [(finding.severity, finding.code) for finding in report.findings] == [("warning", "JG-data-028")]
    assert "real_name" not in Records.open(folder).train().episodes.column_names


@pytest.mark.parametrize("name", ["card.yaml", "episodes.parquet", "streams/torch/part-000.parquet"])
def test_a_file_that_changed_is_refused_when_it_is_read(folder: Path, name: str) -> None:
    validate(folder)
    listed = Records.open(folder).manifest.files[name]
    (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    with pytest.raises(DataError, match=rf"JG-data-005 .*{name}: .*changed.*{listed}.*validate"):
        Records.open(folder).train().stream("torch")


def test_files_that_came_or_went_are_refused(folder: Path) -> None:
    validate(folder)
    shutil.copy(folder / "episodes.parquet", folder / "streams" / "torch" / "part-001.parquet")
    with pytest.raises(DataError, match=r"JG-data-006 .*1 files.*part-001\.parquet"):
        Records.open(folder)


def test_an_unknown_stream_names_the_nearest(folder: Path) -> None:
    validate(folder)
    with pytest.raises(DataError, match=r"JG-data-008.*'torh'.*'torch'"):
        Records.open(folder).train().stream("torh")
