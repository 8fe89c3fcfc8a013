"""The rows that a training step takes: of tensors in memory, or read from disk while the step before is computed.

The law: which rows a step takes is decided by who draws them and never by where they lie; from either place they are
the same numbers, bit for bit. Beside the rows in use one read waits at most.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from jangin.privacy.sampling import Draw
from jangin.privacy.step.interface import unit_runs
from jangin.records.aside import RowFile
from jangin.training.scaling import Scaling

__all__ = ["Inputs", "RowsAside", "batches", "drawn"]

_AHEAD: Final = 1
_VALUES_AT_ONCE: Final = 2**17

P = TypeVar("P")
T = TypeVar("T")


class RowsAside:
    """Model inputs that are read from disk, and scaled as they are read."""

    def __init__(self, rows: RowFile, scaling: Scaling) -> None:
        """Open nothing yet."""
        self._rows, self._scaling = rows, scaling

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, rows: NDArray[np.intp]) -> Tensor:
        """The model inputs of these rows, (len(rows), ...), float32."""
        return self._scaling.apply_inputs(self._rows.read(rows))

    def pieces(self, draw: Draw) -> list[Draw]:
        """A draw as draws of whole units, one after another, each of few enough rows to be read at once."""
        runs = unit_runs(draw.units, draw.count, max(1, _VALUES_AT_ONCE // prod(self._rows.shape[1:])))
        return [Draw(draw.rows[run.rows], run.units.numpy(), run.count) for run in runs] or [draw]


Inputs = Tensor | RowsAside
"""A site's model inputs, (examples, ...), in memory or on disk."""


def batches(inputs: Inputs, targets: Tensor, places: Iterable[NDArray[np.intp]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Of every batch, given by its row numbers, the inputs and the targets; from disk they are read ahead."""
    if isinstance(inputs, Tensor):
        for rows in places:
            index = from_numpy(rows)
            yield inputs[index], targets[index]
    else:
        for rows, found in _read_ahead(inputs.read, places):
            yield found, targets[from_numpy(rows)]


def drawn(inputs: Inputs, targets: Tensor, draws: Iterable[Draw]) -> Iterator[tuple[Tensor, Tensor, Draw, bool]]:
    """Of every secret draw the inputs and the targets, with the draw, and that this is all of it.

    From disk a draw comes in pieces, the last of which says so, and draws are made ahead: a site's randomness is fresh
    whenever it is asked for.
    """
    if isinstance(inputs, Tensor):
        for draw in draws:
            index = from_numpy(draw.rows)
            yield inputs[index], targets[index], draw, True
    else:
        pieces = (inputs.pieces(draw) for draw in draws)
        marked = ((piece, number == len(of_one)) for of_one in pieces for number, piece in enumerate(of_one, 1))
        for (piece, last), found in _read_ahead(lambda one: inputs.read(one[0].rows), marked):
            yield found, targets[from_numpy(piece.rows)], piece, last


def _read_ahead(read: Callable[[P], T], places: Iterable[P]) -> Iterator[tuple[P, T]]:
    """Every place with what is read there, in their order; a thread reads ahead."""
    coming: deque[tuple[P, Future[T]]] = deque()
    with ThreadPoolExecutor(1, "jangin-rows") as reader:
        for place in places:
            coming.append((place, reader.submit(read, place)))
            if len(coming) > _AHEAD:
                place, found = coming.popleft()
                yield place, found.result()
        for place, found in coming:
            yield place, found.result()
