"""What an episode holds, as one digest: the name by which a privacy budget knows it.

The law: the digest is over the values of the episode's streams alone, of those streams and channels that its process
demands - no id, no file, no folder, no label, no order of columns and nothing optional enters it - so that a recording
keeps it when it is renamed, copied, relabelled, ingested anew, or told of with one sensor more or less. An episode
without values there is known by all its streams, and one without any by its row of episodes.parquet without ids.
Not covered: a recording that was cut, resampled or converted anew has other values, and so another digest.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jangin.records.card import Stream
from jangin.records.dataset import SPLIT_COLUMN, EpisodeView, media_files, stream_parts
from jangin.records.manifest import Contents
from jangin.records.media import Values
from jangin.records.process import Process
from jangin.records.split import SplitUnit

__all__ = ["contents", "demanded", "media_digest", "row_digests", "runs"]

_IDS = frozenset({"episode_id", "master", "consent_id"})


def contents(
    view: EpisodeView, process: Process, unit: SplitUnit, seen: Mapping[str, Mapping[str, str]] = MappingProxyType({})
) -> Contents:
    """The digest of each episode of a view of this process: `{unit: {episode_id: SHA-256 in hex}}`.

    Args:
        view: the episodes.
        process: theirs.
        unit: what the hold-out is drawn by.
        seen: by stream and episode id, what `row_digests` or `media_digest` gave for the channels that the process
            demands, empty where an episode has nothing there; what is not in it is read.

    Raises:
        DataError: JG-data-005, a file has changed.
    """
    rows = view.episodes.to_pylist()
    digests = {row["episode_id"]: hashlib.sha256(b"jangin/episode\0") for row in rows}
    streams = {stream.name: stream for stream in view.card.streams}
    everything = {name: {channel.name for channel in stream.channels} for name, stream in streams.items()}
    empty = set(digests)
    for chosen, known in ((demanded(process), seen), (everything, {})):
        filled = set()
        for stream in sorted(chosen.keys() & everything.keys()) if empty else ():
            held = {episode: values for episode, values in known.get(stream, {}).items() if values}
            unseen = empty - known.get(stream, {}).keys()
            if unseen:
                held |= _held(view.narrowed(unseen), streams[stream], chosen[stream])
            for episode, values in held.items():
                if episode in empty:
                    digests[episode].update(f"{stream}\0{values}\0".encode())
                    filled.add(episode)
        empty -= filled
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        episode = row["episode_id"]
        if episode in empty:
            of_row = sorted((name, value) for name, value in row.items() if value is not None and name not in _IDS)
            digests[episode].update(repr(of_row).encode())
        found.setdefault(row[SPLIT_COLUMN[unit]], {})[episode] = digests[episode].hexdigest()
    return found


def demanded(process: Process) -> dict[str, set[str]]:
    """What no site's records lack: the streams of a process with their channels, without the optional ones."""
    return {
        stream.name: {channel.name for channel in stream.channels if not channel.optional}
        for stream in process.streams
        if not stream.optional
    }


def row_digests(table: pa.Table, chosen: Collection[str]) -> dict[str, str]:
    """Of each episode that has values in the chosen channels of a stream, the digest of its times and of them.

    Args:
        table: rows of a stream, each episode's side by side and in order of t.
        chosen: names of channels; those that the table has count.
    """
    channels = sorted(name for name in table.column_names if name in chosen)
    if not channels:
        return {}
    times, values = table["t"].to_numpy().astype("<f8") + 0.0, np.empty((len(table), len(channels)), "<f8")
    for number, name in enumerate(channels):
        values[:, number] = table[name].to_numpy()
    values += 0.0  # there is one zero, and what is missing is one NaN
    missing = np.isnan(values)
    gaps = bool(missing.any())
    if gaps:
        values[missing] = np.nan
    found = {}
    for episode, start, stop in runs(table["episode_id"]):
        there = np.flatnonzero(~missing[start:stop].all(axis=0)) if gaps else np.arange(len(channels))
        if len(there):
            digest = hashlib.sha256(",".join(channels[number] for number in there).encode() + b"\0")
            digest.update(times[start:stop].data)
            whole = len(there) == len(channels)
            digest.update((values[start:stop] if whole else values[start:stop, there]).reshape(-1).data)
            found[episode] = digest.hexdigest()
    return found


def media_digest(values: Values) -> str:
    """The digest of one episode's media: of all its values."""
    digest = hashlib.sha256(repr(values.shape).encode())
    digest.update(values.astype("<f4", copy=False).reshape(-1).data)
    return digest.hexdigest()


def _held(view: EpisodeView, stream: Stream, chosen: Collection[str]) -> dict[str, str]:
    """Each episode that has something of a stream, with its digest; media are known by all their values."""
    held = {}
    if stream_parts(view.files, stream.name):
        held = row_digests(view.stream(stream.name), chosen)
    for episode in view.episodes["episode_id"].to_pylist() if stream.media else ():
        if media_files(view.files, stream.name, episode):
            held[episode] = media_digest(view.media(stream.name, episode))
    return held


def runs(ids: pa.ChunkedArray) -> Iterator[tuple[str, int, int]]:
    """Where each episode's rows stand, which are side by side: (id, start, stop)."""
    coded = ids.unify_dictionaries() if pa.types.is_dictionary(ids.type) else pc.dictionary_encode(ids)
    encoded = coded.combine_chunks()
    numbers, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    edges = np.flatnonzero(np.diff(numbers, prepend=-1, append=-1))
    for start, stop in pairwise(edges):
        yield names[numbers[start]], int(start), int(stop)
