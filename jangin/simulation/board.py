"""A run on TensorBoard: the figures of each round as they come, and beside them what they are compared with.

    federated-seed-<n>/    the metric and the seconds of every round, and what the run promises
    <model>/               each other model's figure at the first and the last round: a line to compare with

The law: what is shown are rows and figures of the result, and nothing of any record.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jangin.errors import SimulationError
from jangin.simulation.result import Result
from jangin.simulation.unfinished import Row

__all__ = ["Board"]

_FLUSH_SECONDS = 5


class Board:
    """A context that writes event files through tensorboardX; without a folder it shows nothing."""

    def __init__(self, folder: str | Path | None) -> None:
        """Take a folder; what an earlier run of the same seeds showed there is hidden behind this one.

        Raises:
            SimulationError: JG-sim-036, the library is not installed.
        """
        self._folder = None if folder is None else Path(folder)
        self._writer: Any = None
        if self._folder is not None:
            try:
                import tensorboardX  # noqa: F401 - found out before anything is trained
            except ImportError:
                raise SimulationError("JG-sim-036", where="--tensorboard") from None

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *_: object) -> None:
        """Write out what is left."""
        if self._writer is not None:
            self._writer.close()

    def begin(self, metric: str, seed: int, history: Sequence[Row]) -> None:
        """Show one seed from now on, with the rounds it has behind it in the place of whatever was shown of them.

        Raises:
            SimulationError: JG-sim-003, the folder cannot be written.
        """
        self._metric = metric
        self._open(f"federated-seed-{seed}")
        for row in history:
            self.show(row)

    def show(self, row: Row) -> None:
        """Show one round."""
        if self._writer is not None:
            self._writer.add_scalar(self._metric, row["federated"], int(row["round"]))
            self._writer.add_scalar("seconds", row["seconds"], int(row["round"]))

    def end(self, result: Result) -> None:
        """Show the promise, and what the federation is compared with.

        Raises:
            SimulationError: JG-sim-003, the folder cannot be written.
        """
        if self._writer is None:
            return
        promise = result.privacy if isinstance(result.privacy, str) else json.dumps(dict(result.privacy), indent=2)
        self._writer.add_text("privacy", promise)
        last = max(int(row["round"]) for row in result.rounds)
        for name in result.per_site:
            if name != "federated":
                self._open(name)
                for number in sorted({1, last}):
                    self._writer.add_scalar(self._metric, result.metric[name], number)

    def _open(self, run: str) -> None:
        if self._folder is None:
            return
        from tensorboardX import SummaryWriter

        self.__exit__()
        try:
            self._writer = SummaryWriter(str(self._folder / run), purge_step=0, flush_secs=_FLUSH_SECONDS)
        except (OSError, ValueError) as error:
            problem = error.strerror if isinstance(error, OSError) else str(error)
            folder = str(self._folder)[:80]
            raise SimulationError("JG-sim-003", where="--tensorboard", folder=folder, problem=problem) from None
