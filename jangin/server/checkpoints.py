"""Where a campaign stands after a round, in files: safetensors, written whole and synced, never a pickle.

    <round>.safetensors    parameters, mean and deviation (where a scaling was learnt), state or state.<field>; of the
                           last round, and of the best evaluated one
    final.safetensors      parameters; the layout as metadata
    scaling.json           how inputs and outputs of the final model are scaled
    statement.json, .html  the privacy statement, also of a campaign that ended early

The law: the database says which round is finished, a file holds what that round left; a file beyond it counts for
nothing, and the one before it is removed only when the next one is on disk.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from jangin.errors import ServerError
from jangin.models.layout import ParameterLayout
from jangin.privacy.page import page
from jangin.privacy.statement import Statement
from jangin.server.rounds import Learnt, Progress
from jangin.server.settings import whole, write_whole
from jangin.strategies import Strategy
from jangin.strategies.base import Vector

__all__ = ["Checkpoints"]

Tensors = dict[str, NDArray[Any]]


class Checkpoints:
    """The files of one campaign."""

    def __init__(self, folder: Path) -> None:
        """Take the campaign's folder; it is made with the first file."""
        self._folder = folder

    def save(self, progress: Progress, scaling: Learnt | None) -> None:
        """Keep where the campaign stands; the file before it stays until `drop_before`."""
        tensors: Tensors = progress.arrays()
        if scaling is not None:
            tensors |= {"mean": scaling[0], "deviation": scaling[1]}
        self._write(f"{progress.round}.safetensors", tensors)

    def load(self, number: int, strategy: Strategy[Any], start: Vector) -> tuple[Progress, Learnt | None]:
        """Where the campaign stood after round `number`.

        Args:
            number: a finished round.
            strategy: the plan's; its state for `start` says what the file has to hold.
            start: any shared parameters of the model, shape (d,).

        Raises:
            ServerError: JG-server-343, no such file, or one that does not fit the plan.
        """
        file = self._folder / f"{number}.safetensors"
        try:
            tensors = load(file.read_bytes())
            progress = Progress.start(strategy, start).moved(number, tensors)
            scaling = (tensors["mean"], tensors["deviation"]) if "mean" in tensors else None
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            problem = str(error) if isinstance(error, ValueError) else type(error).__name__
            raise ServerError("JG-server-343", where=file.name, problem=problem) from None
        return progress, scaling

    def drop_before(self, number: int, keep: int | None = None) -> None:
        """Remove what rounds before this one left, but for one that is kept."""
        for file in self._folder.glob("*.safetensors"):
            if file.stem.isdigit() and int(file.stem) < number and int(file.stem) != keep:
                file.unlink()

    def finish(self, parameters: Vector, layout: ParameterLayout, scaling: dict[str, object]) -> None:
        """Keep the final model, shape (d,), with its layout, and its scaling as JSON."""
        self._write("final.safetensors", {"parameters": parameters}, layout.metadata())
        write_whole(self._folder / "scaling.json", json.dumps(scaling, indent=2).encode())

    def state(self, statement: Statement) -> None:
        """Keep the privacy statement and its page."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._folder / "statement.json", statement.as_json())
        write_whole(self._folder / "statement.html", page(statement).encode())

    def _write(self, name: str, tensors: Tensors, metadata: dict[str, str] | None = None) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        dense = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
        with whole(self._folder / name) as part:
            save_file(dense, part, metadata)
