"""Examples of a whole side of the records, cut a few episodes at a time where memory has no room for all at once.

The law: where examples lie, and in how many pieces they were cut, changes none of them: an example is made of its own
episode alone, and units are numbered over all episodes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from jangin.models.cut import cut
from jangin.models.inputs import ReducedInput
from jangin.models.lines import ModelLine, columns_read, input_shape
from jangin.records.aside import Room, RowFile
from jangin.records.examples import Examples, ExamplesAside
from jangin.records.process import Process
from jangin.records.split import SplitUnit

if TYPE_CHECKING:
    from jangin.records.dataset import EpisodeView

__all__ = ["gather"]

_CUTTING: Final = 8
"""What an example takes while it is cut, in times its float32: columns in float64, filled, and stacked."""

_MOST_BYTES: Final = 2**26
"""What a block takes where memory has room for more: larger ones are no faster."""


def gather(
    line: ModelLine,
    view: "EpisodeView",
    process: Process,
    unit: SplitUnit,
    room: Room | None,
) -> Examples | ExamplesAside:
    """As `cut`, within a room: all at once where that takes less than half of it, else in blocks of a sixteenth.

    Inputs that, scaled beside as they are, take more than half of the room go to a file. None: a room without end.

    Raises:
        DataError: as `cut`; JG-data-220, -222, no place on disk; JG-data-221, a file was written to while it was read.
        ValueError: other examples were cut than a line's windows make (a bug).
    """
    episodes, shape = view.episodes, input_shape(line, process)
    if room is None or not len(episodes):
        return cut(line, view, process, unit)
    numbers = _examples(line, episodes["duration_s"].to_numpy())
    streams, work = _streams(line, process), numbers * (4 * prod(shape) * _CUTTING)
    if view.weight(streams) + work.sum() <= room.memory_bytes // 2:
        return cut(line, view, process, unit)
    whole = int(numbers.sum()), *shape
    aside = 2 * 4 * prod(whole) > room.memory_bytes // 2
    inputs: RowFile | NDArray[np.float32] = RowFile(room, whole) if aside else np.empty(whole, np.float32)
    first, rest = 0, []
    blocks = view.blocks(streams, max(0, min(_MOST_BYTES, room.memory_bytes // 16)), work)
    for part in _numbered(line, view, blocks, process, unit):
        if isinstance(inputs, RowFile):
            inputs.append(part.inputs)
        else:
            inputs[first : first + len(part)] = part.inputs
        rest.append((part.targets, part.units))
        first += len(part)
    if first != len(inputs):
        raise ValueError(f"Expected {len(inputs)} examples: {first}.")
    targets, units = (np.concatenate(column) for column in zip(*rest, strict=True))
    return ExamplesAside(inputs, targets, units) if isinstance(inputs, RowFile) else Examples(inputs, targets, units)


def _numbered(
    line: ModelLine, view: "EpisodeView", blocks: Iterable["EpisodeView"], process: Process, unit: SplitUnit
) -> Iterator[Examples]:
    """The examples of each block, with the unit numbers that they have among all of the view."""
    column = "episode_id" if unit == "episode" else "master"
    every = np.unique(np.array(view.episodes[column].to_pylist(), dtype=str))
    for block in blocks:
        part = cut(line, block, process, unit)
        here = np.unique(np.array(block.episodes[column].to_pylist(), dtype=str))
        yield replace(part, units=np.searchsorted(every, here)[part.units])


def _streams(line: ModelLine, process: Process) -> list[str]:
    """Names of the streams that a line reads."""
    first = {column.partition(".")[0] for column in columns_read(line, process)}
    return [stream.name for stream in process.streams if stream.name in first]


def _examples(line: ModelLine, durations: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many are cut of each episode, or one of an episode that is too short to be cut."""
    for entry in line.inputs:
        if not isinstance(entry, ReducedInput):
            whole = np.floor((durations - entry.window_s) / entry.hop_s + 1e-9).astype(np.int64) + 1
            return np.maximum(whole, 1)
    return np.ones(len(durations), np.int64)
