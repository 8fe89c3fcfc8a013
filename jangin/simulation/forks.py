"""Forked children that share this process's memory as it is when they begin: what it has read and laid out is not sent.

The law: a child answers questions in their order and ends with the `with` block of its `Forks`, or with this process,
however that ends; none outlives either. What a child raises is raised here; a child that is lost is an error with a
code, never a wait without an end. A child keeps nothing open but its pipe and what all processes print to, so neither
the lock of a run nor the pipe of another child hangs on it; it computes with one thread, for those that torch or
OpenBLAS had are not there after a fork. Secret streams of this process take a new key in it (privacy/randomness.py).
"""

import ctypes
import gc
import mmap
import os
import signal
import stat
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from jangin.errors import JanginError, SimulationError

__all__ = ["Child", "Forks", "named", "shared_zeros"]

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2); the thread that forks is the one that asks

Serve = Callable[..., Iterable[NDArray[Any]]]
"""From a question's arguments to the arrays that answer it, made while the one before is read."""


def shared_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Zeros that this process and those that it forks from now on write and read together."""
    count = int(np.prod(shape))
    room = mmap.mmap(-1, max(1, count * np.dtype(dtype).itemsize))
    return np.frombuffer(room, dtype, count).reshape(shape)


class Forks(AbstractContextManager["Forks"]):
    """The children of one simulation.

    Attributes:
        processes: how many processes train, this one included; 1 where there are to be no children.
    """

    def __init__(self, processes: int) -> None:
        """Take how many are asked for.

        One is all there is elsewhere than on Linux, where libraries of the system do not bear a fork, and where torch
        has an accelerator: its autograd, once used, refuses to work in a forked process.
        """
        self.processes = processes if sys.platform == "linux" and not torch.accelerator.is_available() else 1
        self._children: list[Child] = []

    def __exit__(self, *_: object) -> None:
        self.end()

    def fork(self, serve: Serve, values: int, names: Sequence[str]) -> "Child":
        """A new child.

        Args:
            serve: what it does with a question.
            values: of 32 bits, that the largest of its answers has.
            names: of the sites that it trains, for errors.

        Raises:
            SimulationError: JG-sim-038, the system gives no further process.
        """
        self._children.append(Child(serve, values, names))
        return self._children[-1]

    def end(self) -> None:
        """End all children, whatever they do."""
        while self._children:
            self._children.pop().end()


class Child(Iterator[NDArray[Any]]):
    """One child; what it answers is iterated over, array by array, as many as its question has."""

    def __init__(self, serve: Serve, values: int, names: Sequence[str]) -> None:
        """Fork it; `Forks.fork` does.

        Raises:
            SimulationError: JG-sim-038, the system gives no further process.
        """
        self._room, self._names = shared_zeros((values + values % 2,), np.uint32), names
        self._pipe, theirs = Pipe()
        try:
            with warnings.catch_warnings():
                # Python 3.12 warns of every other thread; those of OpenBLAS end before a fork, and begin anew.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._process: int | None = os.fork()
        except OSError as error:
            raise SimulationError("JG-sim-038", where="--threads", problem=os.strerror(error.errno or 0)) from error
        if not self._process:
            _live(serve, self._room, theirs)
        theirs.close()

    def ask(self, *question: object) -> None:
        """Begin with a question; the answers to the one before were all taken.

        Raises:
            SimulationError: JG-sim-037, it is lost.
        """
        try:
            self._pipe.send(question)
        except OSError:
            raise _lost(self.end(), self._names) from None

    def __next__(self) -> NDArray[Any]:
        """The next array of the answer.

        Raises:
            SimulationError: JG-sim-037, it is lost. Exception: what it raised.
        """
        try:
            said = self._pipe.recv()
        except (EOFError, OSError):
            raise _lost(self.end(), self._names) from None
        if isinstance(said, Exception):
            raise said
        shape, dtype = said
        answer: NDArray[Any] = self._room.view(dtype)[: np.prod(shape)].reshape(shape).copy()
        try:
            self._pipe.send_bytes(b"")  # the room is free
        except OSError:
            raise _lost(self.end(), self._names) from None
        return answer

    def end(self) -> int:
        """Kill it, unless it has gone; how it ended, as `os.waitstatus_to_exitcode`."""
        if self._process is None:
            return 0
        self._pipe.close()
        os.kill(self._process, signal.SIGKILL)
        _, status = os.waitpid(self._process, 0)
        self._process = None
        return os.waitstatus_to_exitcode(status)


def named(names: Sequence[str], most: int = 8) -> list[str]:
    """Sites for an error's text: not all, where they are many."""
    return list(names) if len(names) <= most else [*names[: most - 1], f"... ({len(names)})"]


def _lost(code: int, names: Sequence[str]) -> SimulationError:
    problem = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return SimulationError("JG-sim-037", where="--threads", sites=named(names), problem=problem)


def _live(serve: Serve, room: NDArray[np.uint32], pipe: Connection) -> NoReturn:
    """The child's whole life."""
    try:
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)  # else it would first end its answer
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it too: it is for the parent to end it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for file in map(int, os.listdir("/proc/self/fd")):
            if file > 2 and file != pipe.fileno():
                with suppress(OSError):  # the one that lists them
                    if stat.S_IFMT(os.fstat(file).st_mode):  # not a library's event loop, begun anew after the fork
                        os.close(file)
        gc.freeze()  # a collection would write into every object of the parent's, and so copy its pages
        torch.set_num_threads(1)
        while True:
            _answer(serve, pipe.recv(), room, pipe)
    finally:  # the parent has gone, which ends its pipe
        os._exit(1)


def _answer(serve: Serve, question: tuple[Any, ...], room: NDArray[np.uint32], pipe: Connection) -> None:
    full = False
    try:
        for answer in serve(*question):
            if full:
                pipe.recv_bytes()
            room.view(answer.dtype)[: answer.size].reshape(answer.shape)[...] = answer
            pipe.send((answer.shape, answer.dtype.str))
            full = True
    except Exception as error:  # noqa: BLE001 - it is raised in the parent
        if not isinstance(error, JanginError):
            error.add_note(traceback.format_exc())
        pipe.send(error)
    if full:
        pipe.recv_bytes()
