"""A records folder on disk: written whole or not at all, read as a training view and a hold-out view.

The law: a view holds the episodes of one side of the split and nothing else can be read through it; every
file is hashed as it is read and must be the file that was validated.
"""

import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from jangin.codec.document import nearest
from jangin.errors import DataError
from jangin.records.card import Card, Stream
from jangin.records.manifest import CARD_FILE, Manifest, open_validated
from jangin.records.media import SUFFIXES, Counts, Values, media_name, read_media, write_media
from jangin.records.parts import ROW_GROUP_BYTES, Part, in_form, row_bytes
from jangin.records.split import SplitUnit

__all__ = [
    "CARD_FILE",
    "EPISODES_FILE",
    "JUDGEMENTS_FILE",
    "SPLIT_COLUMN",
    "EpisodeView",
    "Records",
    "card_text",
    "episode_schema",
    "fits",
    "judgement_schema",
    "media_files",
    "optional_columns",
    "refuse_filled",
    "stream_parts",
    "stream_schema",
    "write_records",
]

EPISODES_FILE = "episodes.parquet"
JUDGEMENTS_FILE = "judgements.parquet"

SPLIT_COLUMN: Mapping[SplitUnit, str] = {"episode": "episode_id", "master": "master"}
"""The column of episodes.parquet that names the unit of the split."""


def episode_schema(card: Card) -> pa.Schema:
    """The columns of episodes.parquet: numbers float64, choices strings, timestamps in UTC.

    `outcome_utc`, which may lack, is when the outcome was known.
    """
    return pa.schema(
        [
            ("episode_id", pa.string()),
            ("master", pa.string()),
            ("start_utc", pa.timestamp("us", tz="UTC")),
            ("duration_s", pa.float64()),
            *((name, pa.float64() if field.range else pa.string()) for name, field in card.columns().items()),
            ("consent_id", pa.string()),
            ("outcome_utc", pa.timestamp("us", tz="UTC")),
        ]
    )


def judgement_schema() -> pa.Schema:
    """The columns of judgements.parquet: one row for what one judge said of one episode, a number as its digits."""
    return pa.schema(
        [
            ("episode_id", pa.string()),
            ("judge", pa.string()),
            ("judgement", pa.string()),
            ("value", pa.string()),
            ("said_utc", pa.timestamp("us", tz="UTC")),
        ]
    )


def stream_schema(stream: Stream) -> pa.Schema:
    """The columns of a stream's part files: episode_id, t in seconds (float64), one float32 a channel."""
    channels = [(channel.name, pa.float32()) for channel in stream.channels]
    return pa.schema([("episode_id", pa.string()), ("t", pa.float64()), *channels])


def optional_columns(described: Card | Stream) -> frozenset[str]:
    """The columns of `episode_schema` or `stream_schema` that a site may lack."""
    if isinstance(described, Card):
        return frozenset(name for name, field in described.columns().items() if field.optional) | {"outcome_utc"}
    return frozenset(channel.name for channel in described.channels if channel.optional)


def card_text(card: Card) -> str:
    """card.yaml, without what it need not say."""
    return yaml.safe_dump(card.model_dump(mode="json", exclude_defaults=True), allow_unicode=True, sort_keys=False)


def stream_parts(names: Iterable[str], stream: str) -> list[str]:
    """Those of a folder's files that hold rows of `stream`, in the order of their names."""
    return sorted(name for name in names if fnmatchcase(name, f"streams/{stream}/part-*.parquet"))


def media_files(names: Collection[str], stream: str, episode: str) -> list[str]:
    """Those of a folder's files that are media of one episode: one, where it has passed."""
    media = (f"media/{stream}/{episode}{suffix}" for suffix in SUFFIXES)
    return [name for name in media if name in names]


def write_records(
    folder: Path,
    card: Card,
    episodes: pa.Table,
    streams: Mapping[str, pa.Table],
    media: Mapping[str, Mapping[str, Counts]] = MappingProxyType({}),
) -> None:
    """Write card.yaml, episodes.parquet, one part file a stream and its media; the folder appears whole or not at all.

    Args:
        folder: where to; absent or empty.
        card: what it is.
        episodes: one row an episode, columns of `episode_schema`; optional ones may lack, others are dropped.
        streams: by the card's stream names, tables with columns of `stream_schema`. Missing values are null.
        media: by the card's stream names, of each episode id what `write_media` takes.

    Raises:
        DataError: JG-data-002 the folder holds something; 019 it cannot be made; 003 a column is missing; 008 the
            card has no such stream; 020 a column has another type; 033 media of another form than the card's; 034 an
            episode id that is no file name.
    """
    refuse_filled(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise DataError("JG-data-019", where=str(folder), problem=error.strerror) from None
    try:
        (partial / CARD_FILE).write_text(card_text(card), encoding="utf-8")
        table = _written(episodes, episode_schema(card), optional_columns(card), EPISODES_FILE)
        pq.write_table(table, partial / EPISODES_FILE)
        for name, rows in streams.items():
            stream, part = _stream(card, name), f"streams/{name}/part-000.parquet"
            table = _written(rows, stream_schema(stream), optional_columns(stream), part)
            (partial / part).parent.mkdir(parents=True)
            group = max(1, ROW_GROUP_BYTES // row_bytes(table.schema))
            pq.write_table(table, partial / part, row_group_size=group)
        for name, of_episode in media.items():
            stream = _stream(card, name)
            for episode, counts in of_episode.items():
                write_media(partial / media_name(stream, episode), stream, counts)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def refuse_filled(folder: Path) -> None:
    """Refuse a folder for new records that holds something already.

    Raises:
        DataError: JG-data-002, it does, or it is no folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError("JG-data-002", where=str(folder))


class EpisodeView:
    """The episodes of one side of the split, with their stream rows.

    Guarantee: whatever is read through a view belongs to an episode of `episodes`.

    Attributes:
        card: what the folder holds.
    """

    def __init__(
        self,
        folder: Path,
        card: Card,
        manifest: Manifest,
        units: Collection[str],
        only: Collection[str] | None = None,
    ) -> None:
        """Take a validated folder.

        Args:
            folder: where it is.
            card: what it is.
            manifest: what was validated.
            units: of one side, episodes or masters as the manifest says.
            only: ids of the episodes to which the view is narrowed; None: all of these units.
        """
        self._folder, self.card, self._manifest = folder, card, manifest
        table = self._read(EPISODES_FILE, episode_schema(card))
        ours = pc.is_in(table[SPLIT_COLUMN[manifest.unit]], value_set=pa.array(units, pa.string()))
        if only is not None:
            ours = pc.and_(ours, pc.is_in(table["episode_id"], value_set=pa.array(only, pa.string())))
        self._episodes = table.filter(ours)
        self._opened: Mapping[str, Sequence[Part]] = {}
        self._first = 0

    @property
    def files(self) -> Collection[str]:
        """The folder's files as the manifest lists them."""
        return self._manifest.files

    @property
    def episodes(self) -> pa.Table:
        """One row an episode, in the file's order, columns of `episode_schema`; what is missing is null."""
        return self._episodes

    def narrowed(self, only: Collection[str]) -> "EpisodeView":
        """A view of those of `episodes` that have these ids."""
        units = self._episodes[SPLIT_COLUMN[self._manifest.unit]].unique().to_pylist()
        return EpisodeView(self._folder, self.card, self._manifest, units, only)

    def stream(self, name: str) -> pa.Table:
        """The rows of a stream, sorted by the order of `episodes`, then by t; columns of `stream_schema`.

        Raises:
            DataError: JG-data-005 a file has changed; JG-data-008 the card has no such stream; JG-data-016 it
                has no part file (sound and pictures have none).
        """
        schema = stream_schema(_stream(self.card, name))
        parts = stream_parts(self._manifest.files, name)
        if not parts:
            raise DataError("JG-data-016", where=str(self._folder), stream=name)
        ids = self._episodes["episode_id"].combine_chunks()
        if name in self._opened:
            last = self._first + len(ids)
            rows = pa.concat_tables([part.read(self._first, last, ids, schema) for part in self._opened[name]])
        else:
            rows = pa.concat_tables([self._read(part, schema) for part in parts])
        position = pc.index_in(rows["episode_id"], value_set=ids)
        ours = pc.is_valid(position)
        return _in_order(rows.filter(ours), position.filter(ours))

    def media(self, name: str, episode: str) -> Values:
        """What the media file of one of `episodes` holds, float32 in the channels' units.

        Returns:
            Of sound (channels, samples), of pictures (channels, frames, height, width); the first sample or frame is at
            the episode's start.

        Raises:
            DataError: JG-data-005 the file has changed; 008 the card has no such stream; 016 no file of this episode;
                032 it cannot be read; 033 it has another form than the card says.
        """
        stream = _stream(self.card, name)
        ours = pc.is_in(pa.scalar(episode), value_set=self._episodes["episode_id"].combine_chunks()).as_py()
        files = media_files(self._manifest.files, name, episode) if ours else []
        if not files:
            raise DataError("JG-data-016", where=f"{self._folder}: {episode}", stream=name)
        return read_media(self._manifest.read(self._folder, files[0]), stream, self._folder / files[0])

    def weight(self, streams: Collection[str]) -> int:
        """About how many bytes reading these streams as a whole takes: part files, all their rows twice, and media.

        A file that is none of Parquet's weighs more than any room: whoever reads it says why.
        """
        total = int(self._media_bytes(streams).sum())
        for name, part in self._parts(streams):
            path = self._folder / part
            try:
                rows = pq.read_metadata(path).num_rows
                total += path.stat().st_size + 2 * rows * row_bytes(stream_schema(_stream(self.card, name)))
            except (OSError, pa.ArrowException):
                return 2**62
        return total

    def blocks(self, streams: Collection[str], most_bytes: int, beside: NDArray[np.int64]) -> Iterator["EpisodeView"]:
        """The same episodes a few at a time, in their order; what a block is read for is to be done before the next.

        A part file is hashed once, and a row group read where a block has rows in it: wherever an episode's rows lie,
        they are found, and where they lie side by side each group is read about once.

        Args:
            streams: those whose rows are asked for.
            most_bytes: of a block's rows, twice, and of what is made of them; one episode may take more.
            beside: what is made of each episode, in bytes, shape (episodes,).

        Raises:
            DataError: JG-data-005, -012, a file is not what was validated; JG-data-221, one was written to meanwhile.
        """
        places = {name: place for place, name in enumerate(self._episodes["episode_id"].to_pylist())}
        opened: dict[str, list[Part]] = {}
        weights = beside + self._media_bytes(streams)
        with ExitStack() as files:
            for name, file in self._parts(streams):
                part = files.enter_context(Part(self._folder, self._manifest, file, places))
                weights += 2 * part.rows * row_bytes(stream_schema(_stream(self.card, name)))
                opened.setdefault(name, []).append(part)
            before, first = np.cumsum([0, *weights]), 0
            while first < len(weights):
                fitting = int(np.searchsorted(before, before[first] + most_bytes, side="right")) - 1
                last = max(first + 1, fitting)
                block = copy(self)
                block._episodes, block._opened, block._first = self._episodes.slice(first, last - first), opened, first
                yield block
                first = last

    def _media_bytes(self, streams: Collection[str]) -> NDArray[np.int64]:
        """What each episode's media take in memory by rate and form, shape (episodes,)."""
        a_second = 0.0
        for stream in self.card.streams:
            if stream.name in streams and stream.media is not None:
                pixels = stream.frame.width * stream.frame.height if stream.frame else 1
                a_second += 4 * len(stream.channels) * pixels * stream.rate_hz
        durations: NDArray[np.float64] = self._episodes["duration_s"].to_numpy()
        return (durations * a_second).astype(np.int64)

    def _parts(self, streams: Collection[str]) -> list[tuple[str, str]]:
        """The part files of these streams, each as (stream, file)."""
        return [(name, part) for name in streams for part in stream_parts(self._manifest.files, name)]

    def _read(self, name: str, schema: pa.Schema) -> pa.Table:
        """One file in the form of `schema`: its columns alone, null where the file has none."""
        with pq.ParquetFile(pa.BufferReader(self._manifest.read(self._folder, name))) as file:
            return in_form(file.read(columns=schema.names), schema)


@dataclass(frozen=True)
class Records:
    """A validated records folder.

    Attributes:
        folder: where it is.
        card: what it is.
        manifest: what was validated, and the split.
    """

    folder: Path
    card: Card
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path) -> "Records":
        """Open a folder whose validation passed.

        Raises:
            DataError: JG-data-004 no passed validation; 005 the card has changed; 006 files came or went;
                007 the manifest cannot be read.
            PlanError: JG-plan-001..006 the card or the manifest has another form.
        """
        return cls(folder, *open_validated(folder))

    def train(self, only: Collection[str] | None = None) -> EpisodeView:
        """The episodes to learn from; of them those with these ids alone, where any are given.

        Raises:
            DataError: JG-data-005 a file has changed.
        """
        return EpisodeView(self.folder, self.card, self.manifest, self.manifest.train, only)

    def holdout(self, only: Collection[str] | None = None) -> EpisodeView:
        """The episodes set aside for evaluation; of them those with these ids alone, where any are given.

        Raises:
            DataError: JG-data-005 a file has changed.
        """
        return EpisodeView(self.folder, self.card, self.manifest, self.manifest.holdout, only)


def fits(found: pa.DataType, expected: pa.DataType) -> bool:
    """Whether values of one Arrow type can be read as another without a change of meaning."""
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_floating(expected):
        same = pa.types.is_floating(found) or pa.types.is_integer(found)
    elif pa.types.is_timestamp(expected):
        same = pa.types.is_timestamp(found)
    else:
        same = pa.types.is_string(found) or pa.types.is_large_string(found)
    return bool(same or pa.types.is_null(found))


def _written(table: pa.Table, schema: pa.Schema, optional: Collection[str], where: str) -> pa.Table:
    """The columns of `schema` that are there, in its types."""
    missing = [name for name in schema.names if name not in table.column_names]
    for name in missing:
        if name not in optional:
            raise DataError("JG-data-003", where=where, column=name, nearest=nearest(name, table.column_names) or "-")
    fields = [field for field in schema if field.name not in missing]
    for field in fields:
        found = table.schema.field(field.name).type
        if not fits(found, field.type):
            raise DataError("JG-data-020", where=f"{where}: {field.name}", found=found, expected=field.type)
    return table.select([field.name for field in fields]).cast(pa.schema(fields), safe=False)


def _stream(card: Card, name: str) -> Stream:
    stream = card.stream(name)
    if stream is None:
        raise DataError(
            "JG-data-008",
            where=CARD_FILE,
            stream=name,
            nearest=nearest(name, [s.name for s in card.streams]) or "-",
        )
    return stream


def _in_order(rows: pa.Table, position: pa.ChunkedArray) -> pa.Table:
    """Rows by the position of their episode, then by t; rows that are in order already are not copied."""
    place, t = position.to_numpy(), rows["t"].to_numpy()
    step = np.diff(place)
    if np.all((step > 0) | ((step == 0) & (np.diff(t) >= 0))):
        return rows
    return rows.take(pa.array(np.lexsort((t, place))))
