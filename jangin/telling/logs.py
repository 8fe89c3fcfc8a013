"""What a daemon did, for a person or a program that looks later: lines of JSON in the folder `logs`, a file a day.

    logs/2026-11-21-0001.jsonl
    {"time": "2026-11-21T06:00:00.123Z", "level": "warning", "event": "abstained", "code": "JG-site-381",
     "campaign": "<64 hex digits>", "round": 3}

The law: a line is a `Line`, whose fields cannot hold a recorded value, a path or a name: a person's words on stderr are
not repeated here, only their code is. What is older than `logs.retention_days` goes, and the oldest goes while all
together are too large. A disk that takes no more costs lines, and never the daemon.
"""

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from traceback import walk_tb
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from jangin.codec.document import Document
from jangin.errors import JanginError

__all__ = ["FILE_BYTES", "MOST_BYTES", "Event", "FolderLog", "Line", "LogsBlock", "kept", "lines", "noting"]

FILE_BYTES: Final = 4 * 2**20
"""From here on a day begins another file."""

MOST_BYTES: Final = 64 * 2**20
"""Of all files together."""

_FOLDER: Final = "logs"
_FILE: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})-([0-9]{4,9})\.jsonl")
_SWEEP_SECONDS: Final = 3600.0
_KEY: Final = "jangin"


class LogsBlock(Document):
    """What the daemon writes down of its own doings.

    Attributes:
        retention_days: for so many days; a site's egress log and ledger are none of it, and stay.
    """

    retention_days: Annotated[int, Field(ge=1, le=3650)] = 90


class Event(StrEnum):
    """What happened."""

    STARTED = "started"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    DROPPED = "dropped"
    ABSTAINED = "abstained"
    SHUT = "shut"
    ANSWERED = "answered"
    UNSENT = "unsent"
    DISTRUSTED = "distrusted"
    REFUSED_PLAN = "refused_plan"
    REHEARSED = "rehearsed"
    RENEWED = "renewed"
    UNRENEWED = "unrenewed"
    UNWATCHED = "unwatched"
    LED = "led"
    AWAY = "away"
    BACK = "back"
    REGISTERED = "registered"
    ABORTED = "aborted"
    LET_IN = "let_in"
    OUT_OF_FORCE = "out_of_force"
    STOPPED = "stopped"
    FAILED = "failed"
    OTHER = "other"


class Line(Document):
    """One line; what does not fit stays empty.

    Attributes:
        time: when.
        level: of the logging library.
        event: what happened.
        code: of the error behind it.
        campaign: the plan's hash.
        round: of the campaign.
        source: for `other` the module that spoke, for `failed` its exception and where in Jangin, without words.
    """

    time: datetime
    level: Literal["debug", "info", "warning", "error", "critical"]
    event: Event
    code: Annotated[str, Field(pattern=r"^(JG-[a-z]+-[0-9]{3})?$")] = ""
    campaign: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    round: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    source: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.: ]{0,200}$")] = ""

    @property
    def text(self) -> str:
        """As it is written."""
        given = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(given, separators=(", ", ": "))


def noting(
    event: Event,
    error: JanginError | None = None,
    campaign: str = "",
    round: int | None = None,  # noqa: A002 - the field's word
) -> dict[str, object]:
    """What a call of the logging library gives as `extra`, so that its line in the folder says what happened."""
    return {_KEY: {"event": event, "code": error.code if error else "", "campaign": campaign, "round": round}}


class FolderLog(logging.Handler):
    """Writes a line for each record into the state folder."""

    def __init__(self, folder: Path, retention_days: int, clock: Callable[[], datetime]) -> None:
        """Write nothing yet.

        Args:
            folder: the state folder.
            retention_days: days for which a file is kept.
            clock: the time, aware.
        """
        super().__init__()
        self._folder, self._days, self._clock = folder / _FOLDER, timedelta(days=retention_days), clock
        self._file: Path | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record's line; one that the disk does not take is lost."""
        with suppress(OSError):
            self._write(_line(record, self._clock()))

    def note(self, level: int, event: Event, *, code: str = "", source: str = "") -> None:
        """Write a line that no record stands for."""
        line = Line(time=self._clock(), level=_level(level), event=event, code=code, source=source)
        self.acquire()
        try:
            with suppress(OSError):
                self._write(line)
        finally:
            self.release()

    def sweep(self) -> None:
        """Remove what is too old, and the oldest of what is too much."""
        with suppress(OSError):
            first, files = self._clock().astimezone(UTC).date() - self._days, _files(self._folder)
            for file, (day, _) in files.items():
                if day < first:
                    file.unlink(missing_ok=True)
            sizes = {file: file.stat().st_size for file in files if file.exists()}
            for file in list(sizes)[:-1]:
                if sum(sizes.values()) <= MOST_BYTES:
                    break
                file.unlink(missing_ok=True)
                del sizes[file]

    def _write(self, line: Line) -> None:
        content = f"{line.text}\n".encode("ascii")
        file = self._current(line.time.astimezone(UTC).date(), len(content))
        if file != self._file:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._file = file
            self.sweep()
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)

    def _current(self, day: date, more: int) -> Path:
        """The file that takes a line of so many bytes."""
        number = max((number for of, number in _files(self._folder).values() if of == day), default=1)
        file = self._folder / f"{day}-{number:04d}.jsonl"
        if file.exists() and file.stat().st_size + more > FILE_BYTES:
            return self._folder / f"{day}-{number + 1:04d}.jsonl"
        return file


@contextmanager
def kept(folder: Path, retention_days: int, clock: Callable[[], datetime]) -> Iterator[FolderLog]:
    """Write what is logged within; an exception that ends it has its line, and goes on."""
    log, ended, root = FolderLog(folder, retention_days, clock), threading.Event(), logging.getLogger()

    def sweep() -> None:
        while not ended.wait(_SWEEP_SECONDS):
            log.sweep()

    sweeper = threading.Thread(target=sweep, name="jangin-logs", daemon=True)
    log.sweep()
    log.note(logging.INFO, Event.STARTED)
    root.addHandler(log)
    sweeper.start()
    try:
        yield log
    except BaseException as error:
        code = error.code if isinstance(error, JanginError) else ""
        log.note(logging.ERROR, Event.FAILED, code=code, source=_fault(error))
        raise
    finally:
        ended.set()
        sweeper.join()
        root.removeHandler(log)
        log.close()


def lines(folder: Path, last: int) -> list[Line]:
    """The last so many lines of a state folder, the newest last; what cannot be read is passed over."""
    found: list[Line] = []
    for file in reversed(_files(folder / _FOLDER)):
        texts: list[str] = []
        with suppress(OSError):
            texts = file.read_text("utf-8", "replace").splitlines()
        of_file = [line for text in texts if (line := _read(text))]
        found = of_file[max(len(of_file) - (last - len(found)), 0) :] + found
        if len(found) >= last:
            break
    return found


def _read(text: str) -> Line | None:
    try:
        return Line.model_validate_json(text)
    except ValidationError:
        return None


def _line(record: logging.LogRecord, now: datetime) -> Line:
    """What is written of a record: of one that brings no note, which module spoke."""
    level = _level(record.levelno)
    given = getattr(record, _KEY, None)
    source = record.name if record.name in sys.modules else ""  # a logger may have any name
    fitting: list[dict[str, Any]] = [{"event": Event.OTHER, "source": source}, {"event": Event.OTHER}]
    if isinstance(given, dict):  # a server may name a campaign as it likes
        fitting = [given, {"event": given["event"], "code": given["code"]}, *fitting]
    for one in fitting:
        with suppress(ValidationError):
            return Line(time=now, level=level, **one)
    raise ValueError("Expected an event to make a line.")


def _fault(error: BaseException) -> str:
    """An exception's class, and the innermost line of ours that it came through."""
    frames = [(frame.f_globals.get("__name__", ""), line) for frame, line in walk_tb(error.__traceback__)]
    ours = [f"{module}:{line}" for module, line in frames if module.startswith("jangin.")]
    return re.sub("[^A-Za-z0-9_.: ]", "", " ".join([type(error).__name__, *ours[-1:]]))[:200]


def _level(number: int) -> Literal["debug", "info", "warning", "error", "critical"]:
    if number >= logging.CRITICAL:
        return "critical"
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"


def _files(folder: Path) -> dict[Path, tuple[date, int]]:
    """The log's files, the oldest first, each with its day and its number of that day."""
    found: dict[Path, tuple[date, int]] = {}
    for file in folder.glob("*.jsonl"):
        named = _FILE.fullmatch(file.name)
        with suppress(ValueError):  # no day of any year: no file of ours
            if named is not None:
                found[file] = date.fromisoformat(named[1]), int(named[2])
    return dict(sorted(found.items(), key=lambda one: one[1]))
