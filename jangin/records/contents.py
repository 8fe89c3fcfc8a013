"""What an episode holds, as one digest: the name by which a privacy budget knows it.

The law: the digest is over the values of the episode's streams alone - no id, no file, no folder, no label and no order
of columns enters it - so that a recording keeps it when it is renamed, copied, relabelled or ingested anew. An episode
without stream rows is known by its row of episodes.parquet without ids.
Not covered: a recording that was cut, resampled or converted anew has other values, and so another digest.
"""

import hashlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jangin.records.dataset import SPLIT_COLUMN, EpisodeView, stream_parts
from jangin.records.manifest import Contents
from jangin.records.split import SplitUnit

__all__ = ["contents"]

_IDS = frozenset({"episode_id", "master", "consent_id"})


def contents(view: EpisodeView, unit: SplitUnit) -> Contents:
    """The digest of each episode of a view: `{unit: {episode_id: SHA-256 in hex}}`.

    Raises:
        DataError: JG-data-005, a file has changed.
    """
    rows = view.episodes.to_pylist()
    digests = {row["episode_id"]: hashlib.sha256(b"jangin/episode\0") for row in rows}
    filled = set()
    for stream in sorted(stream.name for stream in view.card.streams):
        if stream_parts(view.files, stream):
            for episode, values in _values(view.stream(stream)):
                digests[episode].update(f"{stream}\0{values}\0".encode())
                filled.add(episode)
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        episode = row["episode_id"]
        if episode not in filled:
            digests[episode].update(repr(sorted((key, row[key]) for key in row.keys() - _IDS)).encode())
        found.setdefault(row[SPLIT_COLUMN[unit]], {})[episode] = digests[episode].hexdigest()
    return found


def _values(table: pa.Table) -> Iterator[tuple[str, str]]:
    """Each episode of a stream with the digest of its times and of the channels that it has."""
    channels = sorted(name for name in table.column_names if name not in ("episode_id", "t"))
    times = _floats(table["t"])
    values = np.stack([_floats(table[name]) for name in channels], axis=1)
    for episode, start, stop in _runs(table["episode_id"]):
        rows = values[start:stop]
        there = np.flatnonzero(~np.isnan(rows).all(axis=0))
        names = ",".join(channels[number] for number in there)
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
