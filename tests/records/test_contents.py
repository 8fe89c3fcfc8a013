"""An episode is known by its content, whatever it is called."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jangin.records.checks import validate
from jangin.records.dataset import Records
from jangin.records.generate import generate
from jangin.records.manifest import Manifest, read_manifest


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return generate("steel.bof_blow", tmp_path / "made", sites=1, masters=2, episodes=6, seed=5)[0]


def validated(folder: Path, unit: str = "episode") -> Manifest:
    validate(folder, unit=unit).require(folder)  # type: ignore[arg-type]
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest


def digests(manifest: Manifest) -> list[str]:
    return sorted(digest for held in manifest.contents.values() for digest in held.values())


def rewrite(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """As if it were ingested anew, with a hold-out drawn anew."""
    (folder / "manifest.json").unlink()
    (folder / "holdout.key").unlink()
    for file in [folder / "episodes.parquet", *folder.glob("streams/*/*.parquet")]:
        pq.write_table(change(pq.ParquetFile(file).read()), file)


def renamed(table: pa.Table) -> pa.Table:
    ids = pc.binary_join_element_wise(pa.scalar("new"), table["episode_id"].cast(pa.string()), "-")
    return table.set_column(table.column_names.index("episode_id"), "episode_id", ids)


def relabelled(table: pa.Table) -> pa.Table:
    for name in table.column_names:
        if name.startswith("action.") or name == "master":
            values = pc.multiply(table[name], 0.99) if name != "master" else pa.array(["M-9"] * len(table))
            table = table.set_column(table.column_names.index(name), name, values)
    return table


def reversed_rows(table: pa.Table) -> pa.Table:
    return table.take(pa.array(range(len(table) - 1, -1, -1))).select(table.column_names[::-1])


@pytest.mark.parametrize("change", [renamed, relabelled, reversed_rows])
def test_another_name_label_or_order_is_the_same_recording(made: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    before = validated(made)
    rewrite(made, change)
    after = validated(made)
    assert digests(after) == digests(before)
    assert len(set(digests(after))) == 6
    assert after.files != before.files


def test_another_value_is_another_recording_and_no_other_is_touched(made: Path) -> None:
    before = validated(made)
    file = next(made.glob("streams/*/*.parquet"))
    table = pq.ParquetFile(file).read()
    channel = next(name for name in table.column_names if name not in ("episode_id", "t"))
    values = table[channel].to_pylist()
    values[0] = (values[0] or 0.0) + 0.5
    place = table.column_names.index(channel)
    pq.write_table(table.set_column(place, channel, pa.array(values, pa.float32())), file)
    changed = set(digests(before)) ^ set(digests(validated(made)))
    assert len(changed) == 2


def test_a_channel_that_holds_nothing_changes_nothing(made: Path) -> None:
    before = validated(made)
    optional = next(
        (stream.name, channel.name)
        for stream in Records.open(made).card.streams
        for channel in stream.channels
        if channel.optional
    )
    file = next((made / "streams" / optional[0]).glob("*.parquet"))
    table = pq.ParquetFile(file).read()
    if optional[1] in table.column_names:
        assert table[optional[1]].null_count < len(table)
        table = table.drop_columns([optional[1]])
        pq.write_table(table, file)
        before = validated(made)
    pq.write_table(table.append_column(optional[1], pa.nulls(len(table), pa.float32())), file)
    assert digests(validated(made)) == digests(before)


def test_one_sensor_more_or_less_is_the_same_recording(made: Path) -> None:
    """Else whoever leaves out an optional channel, or a whole stream, has every old recording's budget anew."""
    before = digests(validated(made))
    card = Records.open(made).card
    extra = [(stream, channel) for stream in card.streams for channel in stream.channels if channel.optional]
    assert extra
    for stream, channel in extra:
        for file in (made / "streams" / stream.name).glob("*.parquet"):
            table = pq.ParquetFile(file).read()
            if channel.name in table.column_names:
                pq.write_table(table.drop_columns([channel.name]), file)
    assert digests(validated(made)) == before


def test_masters_hold_their_episodes(made: Path) -> None:
    manifest = validated(made, "master")
    assert set(manifest.contents) == {*manifest.train, *manifest.holdout}
    assert sum(map(len, manifest.contents.values())) == 6


def test_a_view_of_some_episodes_shows_no_other(made: Path) -> None:
    manifest = validated(made)
    only = manifest.train[:2]
    view = Records.open(made).train([*only, *manifest.holdout])
    assert sorted(view.episodes["episode_id"].to_pylist()) == sorted(only)
