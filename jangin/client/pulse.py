"""How the daemon is: written by its loop, read by whoever asks beside it.

The law: each rest says when the next sign of life is due, so that a loop that hangs is told from one that waits; what
is told holds states, counts and ages, and for an abstention no more than the server was told.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from pydantic import ConfigDict, Field

from jangin.client.door import outward
from jangin.client.state import SiteFolder, Tally
from jangin.codec.document import Document
from jangin.errors import JanginError
from jangin.trust.envelope import Kind, parsed, peek
from jangin.trust.roster import Roster

__all__ = ["Count", "Health", "Lookout", "Pulse", "State"]

_SLACK_SECONDS: Final = 300.0
"""Longer than any pass of the loop: its waits for the server are bounded by 20 s a step."""

_COUNT_SECONDS: Final = 60.0


class State(StrEnum):
    """How a daemon is."""

    STARTING = "starting"
    OK = "ok"
    DISCONNECTED = "disconnected"
    STUCK = "stuck"


@dataclass
class Pulse:
    """What the loop says of itself; one thread writes, any reads.

    Attributes:
        state: as far as the loop knows.
        code: why it has no connection; else empty.
        working: orders that the worker has.
        heard: when the server answered last, by `time.monotonic`; None before the first time.
        due: when the loop gives its next sign at the latest, by `time.monotonic`.
    """

    state: State = State.STARTING
    code: str = ""
    working: int = 0
    heard: float | None = None
    due: float = field(default_factory=lambda: time.monotonic() + _SLACK_SECONDS)

    def connect(self) -> None:
        """There is a connection."""
        self.state, self.code = State.OK, ""

    def lose(self, code: str) -> None:
        """There is none, by this code."""
        self.state, self.code = State.DISCONNECTED, code

    def hear(self, working: int) -> None:
        """The server answered."""
        self.heard, self.working = time.monotonic(), working

    def rest(self, seconds: float) -> None:
        """The loop is silent for so long."""
        self.due = time.monotonic() + seconds + _SLACK_SECONDS


class Count(Document):
    """How many, and how many bytes."""

    model_config = ConfigDict(strict=True)

    messages: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]


class Health(Document):
    """How a daemon is, at one moment.

    Attributes:
        state: `starting`, `ok`, `disconnected` from the server, or `stuck`, for minutes without a sign of life.
        code: why it is disconnected.
        heard_s: age of the server's last answer, seconds; None before the first.
        working: orders that the worker has.
        paused: whether a person paused it.
        roster_s: for how long the roster still holds, seconds, below 0 once it is over; None without one.
        disk_free: bytes.
        rounds: how many rounds stand in each state, by its word.
        abstentions: how often it abstained, by what the server was told: a code, or `local`.
        egress: what left, by the form of the message.
    """

    state: State
    code: str
    heard_s: float | None
    working: int
    paused: bool
    roster_s: float | None
    disk_free: int
    rounds: Mapping[str, int]
    abstentions: Mapping[str, int]
    egress: Mapping[str, Count]


class Lookout:
    """Looks at one daemon again and again, without reading its history each time; any thread may."""

    def __init__(self, path: Path, pulse: Pulse, clock: Callable[[], datetime]) -> None:
        """Take the state folder, what its loop says, and the time, aware."""
        self._path, self._pulse, self._clock = path, pulse, clock
        self._counted: tuple[float, Tally] | None = None

    def __call__(self) -> Health:
        """How the daemon is; its counts are a minute old at most.

        Raises:
            SiteError: JG-site-305, the database cannot be used. OSError: the disk.
        """
        folder, now, tick, counted = SiteFolder(self._path), self._clock(), time.monotonic(), self._counted
        with folder.journal() as journal:
            held = journal.paused(now)
            if counted is None or tick > counted[0] + _COUNT_SECONDS:
                self._counted = counted = tick, journal.tally()
        tally, told, pulse = counted[1], Counter[str](), self._pulse
        for code, count in tally.abstentions.items():
            told[outward(code)] += count
        return Health(
            state=State.STUCK if tick > pulse.due else pulse.state,
            code=pulse.code,
            heard_s=None if pulse.heard is None else round(tick - pulse.heard, 1),
            working=pulse.working,
            paused=held is not None,
            roster_s=_left(folder, now),
            disk_free=shutil.disk_usage(self._path).free,
            rounds=tally.rounds,
            abstentions=dict(told),
            egress={kind: Count(messages=messages, bytes=size) for kind, (messages, size) in tally.egress.items()},
        )


def _left(folder: SiteFolder, now: datetime) -> float | None:
    """For how long the roster still holds, seconds; None where none can be read."""
    with suppress(JanginError, OSError):
        roster = folder.trust().roster_list
        if roster:
            return round((parsed(peek(roster, Kind.ROSTER), Roster).valid_until - now).total_seconds())
    return None
