"""What an episode holds, as one digest: the name by which a privacy budget knows it.

The law: the digest is over the values of the episode's streams alone, of those streams and channels that its process
demands - no id, no file, no folder, no label, no order of columns and nothing optional enters it - so that a recording
keeps it when it is renamed, copied, relabelled, ingested anew, or told of with one sensor more or less. An episode
without values there is known by all its streams, and one without any by its row of episodes.parquet without ids.
Not covered: a recording that was cut, resampled or converted anew has other values, and so another digest.
"""

import hashlib
from collections.abc import Collection, Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jangin.records.card import Stream
from jangin.records.dataset import SPLIT_COLUMN, EpisodeView, media_files, stream_parts
from jangin.records.manifest import Contents
from jangin.records.process import Process
from jangin.records.split import SplitUnit

__all__ = ["contents"]

_IDS = frozenset({"episode_id", "master", "consent_id"})


def contents(view: EpisodeView, process: Process, unit: SplitUnit) -> Contents:
    """The digest of each episode of a view of this process: `{unit: {episode_id: SHA-256 in hex}}`.

    Raises:
        DataError: JG-data-005, a file has changed.
    """
    rows = view.episodes.to_pylist()
    digests = {row["episode_id"]: hashlib.sha256(b"jangin/episode\0") for row in rows}
    streams = {stream.name: stream for stream in view.card.streams}
    everything = {name: {channel.name for channel in stream.channels} for name, stream in streams.items()}
    empty = set(digests)
    for chosen in (_demanded(process), everything):
        filled = set()
        for stream in sorted(chosen.keys() & everything.keys()) if empty else ():
            for episode, values in _held(view, streams[stream], chosen[stream]):
                if episode in empty:
                    digests[episode].update(f"{stream}\0{values}\0".encode())
                    filled.add(episode)
        empty -= filled
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        episode = row["episode_id"]
        if episode in empty:
            known = sorted((name, value) for name, value in row.items() if value is not None and name not in _IDS)
            digests[episode].update(repr(known).encode())
        found.setdefault(row[SPLIT_COLUMN[unit]], {})[episode] = digests[episode].hexdigest()
    return found


def _demanded(process: Process) -> dict[str, set[str]]:
    """What no site's records lack: the streams of a process with their channels, without the optional ones."""
    return {
        stream.name: {channel.name for channel in stream.channels if not channel.optional}
        for stream in process.streams
        if not stream.optional
    }


def _held(view: EpisodeView, stream: Stream, chosen: Collection[str]) -> Iterator[tuple[str, str]]:
    """Each episode that has something of a stream, with its digest; media are known by all their values."""
    if stream_parts(view.files, stream.name):
        yield from _values(view.stream(stream.name), chosen)
    for episode in view.episodes["episode_id"].to_pylist() if stream.media else ():
        if media_files(view.files, stream.name, episode):
            values = view.media(stream.name, episode)
            yield episode, hashlib.sha256(repr(values.shape).encode() + values.astype("<f4").tobytes()).hexdigest()


def _values(table: pa.Table, chosen: Collection[str]) -> Iterator[tuple[str, str]]:
    """Each episode that has values in the chosen channels of a stream, with the digest of its times and of them."""
    channels = sorted(name for name in table.column_names if name in chosen)
    if not channels:
        return
    times = _floats(table["t"])
    values = np.stack([_floats(table[name]) for name in channels], axis=1)
    for episode, start, stop in _runs(table["episode_id"]):
        rows = values[start:stop]
        there = np.flatnonzero(~np.isnan(rows).all(axis=0))
        names = ",".join(channels[number] for number in there)
        if not len(there):
            continue
        content = names.encode() + b"\0" + times[start:stop].tobytes() + rows[:, there].tobytes()
        yield episode, hashlib.sha256(content).hexdigest()


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Little-endian float64; what is missing is one NaN, and there is one zero."""
    values: NDArray[np.float64] = column.to_numpy().astype("<f8") + 0.0
    values[np.isnan(values)] = np.nan
    return values


def _runs(ids: pa.ChunkedArray) -> Iterator[tuple[str, int, int]]:
    """Where each episode's rows stand, which are side by side."""
    encoded = ids.combine_chunks().dictionary_encode()
    numbers, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    edges = np.flatnonzero(np.diff(numbers, prepend=-1, append=-1))
    for start, stop in pairwise(edges):
        yield names[numbers[start]], int(start), int(stop)
