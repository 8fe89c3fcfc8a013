"""What a run has come to so far, so that one that breaks off can go on.

    lock                    held while a run works here; when its process is gone, so is its hold
    run.json                what fixes the result: plan, engine, threads, versions, and the sites' examples
    seed-<n>.safetensors    where seed n stands: parameters, state, mean and deviation (where a scaling was learnt),
                            history (rounds, 2) of federated and seconds, kept (sites, size) where sites keep something;
                            once it is done also score.<model>: total, union, and each site's

The law: a file appears whole and synced in the place of the one before it; a run goes on only where all that fixes its
result is as it was; with differential privacy the rounds to come draw noise that no round before them had.
"""

import errno
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jangin.errors import SimulationError
from jangin.models.layout import Vector
from jangin.server.rounds import Learnt, Progress
from jangin.simulation.federation import Federation
from jangin.simulation.result import Scores

__all__ = ["Row", "Stand", "Unfinished", "fingerprint", "readable", "versions"]

Row = Mapping[str, float]
"""One round in a history: seed, round, federated, seconds."""

_SECONDS_BETWEEN = 2.0
_COSTS_AT_MOST = 1 / 50
"""Of the time between two writes, what writing may take: large models are kept less often."""


@dataclass(frozen=True)
class Stand:
    """Where one seed stands.

    Attributes:
        progress: rounds done, parameters, the strategy's state.
        learnt: means and deviations that the sites learnt together; None where they did not, or not yet.
        history: one row a round.
        kept: what each site keeps from round to round, (sites, size); None where nothing has to be kept.
        scores: of each model, by name; None until everything is done.
    """

    progress: Progress
    learnt: Learnt | None = None
    history: Sequence[Row] = ()
    kept: Sequence[Vector] | None = None
    scores: Mapping[str, Scores] | None = None


class Unfinished:
    """A context that holds a folder alone; without a folder nothing is held, kept or found."""

    def __init__(self, folder: Path | None) -> None:
        """Take the folder; it is made on entering."""
        self._folder = folder
        self._told: dict[str, object] = {}
        self._next = time.monotonic() + _SECONDS_BETWEEN

    def __enter__(self) -> "Unfinished":
        """Make it where it is not there, and hold it.

        Raises:
            SimulationError: JG-sim-028, another run holds it. OSError: it cannot be made, or not be held.
        """
        if self._folder is None:
            return self
        from filelock import FileLock, Timeout

        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self._folder / "lock", blocking=False, fallback_to_soft=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise SimulationError("JG-sim-028", where=str(self._folder.parent)) from None
        except NotImplementedError:
            raise OSError(errno.ENOLCK, "its file system has no locks") from None
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of it."""
        if self._folder is not None:
            self._lock.release()

    @property
    def begun(self) -> bool:
        """Whether there is a round to go on from."""
        return self._folder is not None and any(self._folder.glob("seed-*.safetensors"))

    def knows(self, fact: str) -> bool:
        """Whether this fact was told before."""
        return fact in self._facts()

    def require(self, **facts: object) -> None:
        """Tell what fixes the result; it has to be what rounds that are kept were run with.

        Raises:
            SimulationError: JG-sim-029, a run with other facts was begun here; JG-sim-035, its file is damaged.
        """
        if self._folder is None:
            return
        self._told |= facts
        known = self._facts()
        other = [name for name, value in facts.items() if known.get(name, value) != value]
        if other and self.begun:
            where, folder = other[0], str(self._folder.parent)
            raise SimulationError("JG-sim-029", where=where, folder=folder, was=known[where], now=facts[where])
        self._write("run.json", json.dumps(self._told if other else known | self._told, indent=2).encode())

    def load(self, seed: int, start: Progress) -> Stand:
        """Where a seed stands; at `start`, with nothing learnt, where nothing was kept of it.

        Raises:
            SimulationError: JG-sim-035, a file that does not fit the plan.
        """
        file = self._file(seed)
        if file is None:
            return Stand(start)
        from safetensors.numpy import load_file

        with readable(file):
            arrays = load_file(file)
            figures = arrays["history"].tolist()
            return Stand(
                progress=start.moved(len(figures), arrays),
                learnt=(arrays["mean"], arrays["deviation"]) if "mean" in arrays else None,
                history=[
                    {"seed": seed, "round": number, "federated": federated, "seconds": seconds}
                    for number, (federated, seconds) in enumerate(figures, 1)
                ],
                kept=list(arrays["kept"]) if "kept" in arrays else None,
                scores=_scores(arrays),
            )

    def rounds(self, seeds: Iterable[int]) -> int:
        """How many rounds of these seeds are done.

        Raises:
            SimulationError: JG-sim-035, a damaged file.
        """
        from safetensors import safe_open

        done = 0
        for file in filter(None, map(self._file, seeds)):
            with readable(file), safe_open(file, "np") as arrays:
                done += arrays.get_slice("history").get_shape()[0]
        return done

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return self._folder is not None and time.monotonic() >= self._next

    def save(self, seed: int, stand: Stand) -> None:
        """Keep where a seed stands."""
        if self._folder is None:
            return
        from safetensors.numpy import save

        began = time.monotonic()
        arrays = stand.progress.arrays()
        figures = [(row["federated"], row["seconds"]) for row in stand.history]
        arrays["history"] = np.array(figures, np.float64).reshape(-1, 2)
        if stand.learnt is not None:
            arrays["mean"], arrays["deviation"] = stand.learnt
        if stand.kept is not None:
            arrays["kept"] = np.stack(stand.kept)
        for name, one in (stand.scores or {}).items():
            arrays[f"score.{name}"] = np.array([one.total, one.union, *one.sites])
        whole = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
        self._write(f"seed-{seed}.safetensors", save(whole))
        ended = time.monotonic()
        self._next = ended + max(_SECONDS_BETWEEN, (ended - began) / _COSTS_AT_MOST)

    def _file(self, seed: int) -> Path | None:
        """What was kept of a seed; None where nothing was."""
        file = None if self._folder is None else self._folder / f"seed-{seed}.safetensors"
        return file if file is not None and file.exists() else None

    def _facts(self) -> dict[str, Any]:
        file = None if self._folder is None else self._folder / "run.json"
        if file is None or not file.exists():
            return {}
        with readable(file):
            return dict(json.loads(file.read_bytes()))

    def _write(self, name: str, content: bytes) -> None:
        from jangin.server.settings import write_whole

        if self._folder is not None:
            write_whole(self._folder / name, content)


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """A file of ours; what is wrong with it has a code.

    Raises:
        SimulationError: JG-sim-035.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        problem = str(error) if isinstance(error, ValueError) else type(error).__name__
        raise SimulationError("JG-sim-035", where=str(file), problem=problem) from None


def versions() -> dict[str, str]:
    """Versions of what computes: others may round otherwise."""
    return {name: version(name) for name in ("jangin", "torch", "numpy", "scikit-learn")}


def fingerprint(federation: Federation) -> str:
    """SHA-256 of every site's name, examples and units, 64 hex digits."""
    digest = hashlib.sha256()
    for silo in federation.silos:
        digest.update(f"{silo.name}\0".encode())
        for part in (silo.train, silo.test):
            for values in (part.inputs, part.targets, part.units):
                digest.update(f"{values.dtype.str}{values.shape}\0".encode())
                digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _scores(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Scores] | None:
    """The scores by model; None where there are none yet."""
    figures = {name.removeprefix("score."): values for name, values in arrays.items() if name.startswith("score.")}
    scores = {
        name: Scores(total, tuple(sites), union)
        for name, (total, union, *sites) in ((name, values.tolist()) for name, values in figures.items())
    }
    return scores or None
