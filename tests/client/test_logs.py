"""Laws of the daemon's log: nothing recorded, no name and no path can be in a line, and old or too many lines go."""

import ast
import errno
import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jangin.client
from jangin.errors import SiteError
from jangin.telling import logs
from jangin.telling.logs import Event, FolderLog, Line, kept, lines, noting

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CANARY = "M-7F2A"


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """Ours, as the command line has it speak."""
    ours = logging.getLogger("jangin")
    level = ours.level
    ours.setLevel(logging.INFO)
    yield ours
    ours.setLevel(level)


def written(folder: Path) -> str:
    return "".join(file.read_text() for file in sorted((folder / "logs").iterdir()))


def test_a_line_says_what_happened_and_when(tmp_path: Path, clock: Clock, logger: logging.Logger) -> None:
    refusal = SiteError("JG-site-381", now="Sat 09:00", windows="Mon-Fri 22:00-05:00")
    with kept(tmp_path, 90, clock):
        logger.warning("%s", refusal, extra=noting(Event.ABSTAINED, refusal, "a" * 64, 3))
    raw = [json.loads(text) for text in written(tmp_path).splitlines()]
    told = {"code": "JG-site-381", "campaign": "a" * 64, "round": 3}
    assert raw[1] == {"time": "2026-11-21T12:00:00Z", "level": "warning", "event": "abstained", **told}
    assert [line.event for line in lines(tmp_path, 9)] == [Event.STARTED, Event.ABSTAINED]


def test_words_names_and_paths_are_in_no_line(tmp_path: Path, clock: Clock, logger: logging.Logger) -> None:
    refusal = SiteError("JG-site-341", where=f"/home/{CANARY}/x.csv", problem=CANARY)

    def speak() -> None:
        with kept(tmp_path, 90, clock):
            logger.warning("%s of %s", refusal, CANARY, extra=noting(Event.ABSTAINED, refusal, CANARY, 10**12))
            logger.error("master %s", CANARY, extra={CANARY: CANARY})
            logging.getLogger(f"flwr.{CANARY}").error(CANARY, exc_info=refusal)
            logging.getLogger("httpx").warning(CANARY)
            raise ValueError(CANARY)

    with pytest.raises(ValueError, match=CANARY):
        speak()
    assert CANARY not in written(tmp_path)
    held = [(line.event, line.code, re.sub("[0-9]+$", "0", line.source)) for line in lines(tmp_path, 9)[1:]]
    assert held == [
        (Event.ABSTAINED, "JG-site-341", ""),
        (Event.OTHER, "", "jangin"),
        (Event.OTHER, "", ""),  # no module has that name
        (Event.OTHER, "", "httpx"),
        (Event.FAILED, "", "ValueError jangin.telling.logs:0"),
    ]


@given(
    event=st.sampled_from(Event),
    campaign=st.text(max_size=80),
    round_=st.none() | st.integers(),
    name=st.text(max_size=20),
    words=st.text(max_size=40),
)
def test_whatever_is_logged_is_a_line(event: Event, campaign: str, round_: int | None, name: str, words: str) -> None:
    for extra in (noting(event, None, campaign, round_), {}):
        record = logging.makeLogRecord({"name": name, "levelno": 30, "msg": words, **extra})
        line = logs._line(record, NOON)
        assert Line.model_validate_json(line.text) == line
        assert line.campaign in ("", campaign)
        assert line.source in ("", name)


def test_a_module_of_any_name_may_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a-module", sys)
    line = logs._line(logging.makeLogRecord({"name": "a-module", "levelno": 40}), NOON)
    assert (line.event, line.source) == (Event.OTHER, "")


def test_a_day_has_its_file_and_none_is_kept_for_longer_than_it_should(tmp_path: Path, clock: Clock) -> None:
    log = FolderLog(tmp_path, 2, clock)
    for _ in range(5):
        log.note(logging.INFO, Event.CONNECTED)
        clock.now += timedelta(days=1)
    days = [file.name[:10] for file in sorted((tmp_path / "logs").iterdir())]
    assert days == ["2026-11-23", "2026-11-24", "2026-11-25"]
    clock.now += timedelta(days=30)
    log.sweep()  # a daemon that has nothing to say does so by the hour
    assert list((tmp_path / "logs").iterdir()) == []


def test_files_are_small_few_and_the_owner_s(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 200)
    monkeypatch.setattr(logs, "MOST_BYTES", 1000)
    log = FolderLog(tmp_path, 90, clock)
    (tmp_path / "logs").mkdir()
    others = tmp_path / "logs" / "9999-99-99-0001.jsonl"
    others.write_text("not ours")
    for number in range(100):
        clock.now += timedelta(seconds=1)
        log.note(logging.INFO, Event.OTHER, source=f"n{number}")
    files = [file for file in (tmp_path / "logs").iterdir() if file != others]
    assert all(file.stat().st_size <= 200 and file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert 500 < sum(file.stat().st_size for file in files) <= 1200
    assert [line.source for line in lines(tmp_path, 5)] == [f"n{number}" for number in range(95, 100)]
    assert others.exists()


def test_a_full_disk_costs_lines_and_not_the_daemon(
    tmp_path: Path, clock: Clock, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with kept(tmp_path, 90, clock):
        with monkeypatch.context() as patched:
            patched.setattr(logs.os, "write", full)
            logger.warning("lost", extra=noting(Event.DISCONNECTED))
        logger.warning("kept", extra=noting(Event.CONNECTED))
    assert [line.event for line in lines(tmp_path, 9)] == [Event.STARTED, Event.CONNECTED]


def test_a_file_that_cannot_be_read_is_passed_over(tmp_path: Path, clock: Clock) -> None:
    FolderLog(tmp_path, 90, clock).note(logging.INFO, Event.CONNECTED)
    (tmp_path / "logs" / "2026-11-22-0001.jsonl").mkdir()
    assert [line.event for line in lines(tmp_path, 9)] == [Event.CONNECTED]


def test_a_line_that_was_cut_is_passed_over(tmp_path: Path, clock: Clock) -> None:
    log = FolderLog(tmp_path, 90, clock)
    log.note(logging.INFO, Event.CONNECTED)
    (file,) = (tmp_path / "logs").iterdir()
    file.write_text(f'{{"time": "20\n{file.read_text()}{{"event": "{CANARY}"}}\n')
    assert [line.event for line in lines(tmp_path, 9)] == [Event.CONNECTED]


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="_log"))):
                yield node


LIGHT = [
    file
    for file in sorted(Path(jangin.client.__file__).parent.rglob("*.py"))
    if any(_calls(ast.parse(file.read_text(encoding="utf-8"))))
]


@pytest.mark.parametrize("file", LIGHT, ids=lambda file: file.name)
def test_whatever_the_light_process_says_has_its_event(file: Path) -> None:
    for call in _calls(ast.parse(file.read_text(encoding="utf-8"))):
        assert "extra" in {keyword.arg for keyword in call.keywords}, f"{file.name}:{call.lineno}"
