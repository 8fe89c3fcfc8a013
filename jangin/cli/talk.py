"""How commands talk: a result or an error as text or one JSON line, progress on stderr, two languages."""

import json
import locale
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from jangin.errors import CodedText, JanginError, Language
from jangin.words import say

__all__ = ["Format", "Lang", "Talk", "default_lang", "log_to_stderr", "table"]

_TABLE_WIDTH = 500
"""Columns of a table, so that no line of it is broken: a terminal breaks them itself."""

_STEPS: dict[str, dict[str, str]] = {
    "run": {"en": "combinations", "ko": "조합"},
    "generate": {"en": "making master records", "ko": "기록 생성"},
    "validate": {"en": "validating", "ko": "검사"},
    "ingest": {"en": "reading episodes", "ko": "에피소드 읽기"},
    "read": {"en": "reading records", "ko": "기록 읽기"},
    "round": {"en": "rounds", "ko": "라운드"},
    "pull": {"en": "bytes", "ko": "바이트"},
    "baselines": {"en": "baselines", "ko": "비교 모델"},
}


class Format(StrEnum):
    """Form of stdout."""

    TEXT = "text"
    JSON = "json"


class Lang(StrEnum):
    """Language of messages."""

    EN = "en"
    KO = "ko"


def default_lang() -> Lang:
    """Korean where JANGIN_LANG says so, else the locale; the first of its variables that is set decides, else English.

    The variables are read as POSIX orders them (IEEE Std 1003.1, 8.2), so that Korean needs no Korean locale installed.
    """
    named = (os.environ.get(name) for name in ("JANGIN_LANG", "LC_ALL", "LC_MESSAGES", "LANG"))
    name = next(filter(None, named), None) or locale.getlocale(locale.LC_CTYPE)[0] or ""  # Windows has no variables
    return Lang.KO if name.lower().startswith(("ko", "korean")) else Lang.EN


def log_to_stderr() -> None:
    """One line on stderr for each event of ours, and for each warning of anybody else's.

    Flower writes to a handler of its own too, in colours; call this after whatever imports Flower.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("jangin").setLevel(logging.INFO)
    logging.getLogger("flwr").handlers.clear()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows under a head, in columns; trailing blanks are left away."""
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for name in head:
        drawn.add_column(name, no_wrap=True)
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console = Console(width=_TABLE_WIDTH, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


@dataclass(frozen=True)
class Talk:
    """The two streams of one command."""

    format: Format
    lang: Lang

    @property
    def language(self) -> Language:
        """The language as the catalogue names it."""
        return "ko" if self.lang is Lang.KO else "en"

    def word(self, english: str, korean: str) -> str:
        """The one of the two that is spoken."""
        return korean if self.lang is Lang.KO else english

    def said(self, part: str, key: str, /, **values: object) -> str:
        """A message of a catalogue (words.py) in the language that is spoken."""
        return say(part, key, self.language, **values)

    def tell(self, part: str, key: str, /, **values: object) -> None:
        """A message of a catalogue as one line on stderr."""
        sys.stderr.write(self.said(part, key, **values) + "\n")

    def agreed(self, question: str) -> bool:
        """Whether somebody at a terminal says yes; without one nobody is asked, and that is a no."""
        return sys.stdin.isatty() and typer.confirm(question, err=True)

    def say(self, english: str, korean: str) -> None:
        """One line on stderr."""
        sys.stderr.write(self.word(english, korean) + "\n")

    def warn(self, warning: CodedText) -> None:
        """One warning with its way out on stderr."""
        word, hint = ("주의", "방법") if self.lang is Lang.KO else ("warning", "hint")
        sys.stderr.write(f"{word}: {warning.code} {warning.text('what', self.language)}\n")
        sys.stderr.write(f"  {hint}: {warning.text('hint', self.language)}\n")

    def error(self, error: JanginError) -> None:
        """An error in words on stderr; as one JSON line on stdout where that was asked for."""
        word, hint = ("오류", "방법") if self.lang is Lang.KO else ("error", "hint")
        sys.stderr.write(f"{word}: {error.code} {error.coded.text('what', self.language)}\n")
        sys.stderr.write(f"{hint}: {error.coded.text('hint', self.language)}\n")
        if self.format is Format.JSON:
            self.json({"ok": False, **error.coded.as_dict(self.language)})

    def answer(self, text: str, **values: Any) -> None:
        """What came of a command: one line of JSON with `ok` where that was asked for, else text."""
        if self.format is Format.JSON:
            self.json({"ok": True, **values})
        elif text:
            self.text(text)

    def json(self, value: dict[str, Any]) -> None:
        """One line of JSON on stdout."""
        self.text(json.dumps(value, ensure_ascii=False, allow_nan=False))

    def text(self, value: str) -> None:
        """Lines of text on stdout."""
        sys.stdout.write(value.rstrip("\n") + "\n")
        sys.stdout.flush()  # a reader that went is found out here, not when Python ends

    @contextmanager
    def progress(self) -> Iterator["Advance"]:
        """Bars on stderr, one for each kind of work; without a terminal nothing is drawn."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            yield Advance(bars, self.lang)


class Advance:
    """A callback `(what, done, total)` that moves the bar of its kind of work."""

    def __init__(self, bars: Progress, lang: Lang) -> None:
        """Start without bars; each comes with its first call."""
        self._bars, self._lang = bars, lang
        self._tasks: dict[str, Any] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` of `what` is done; that a run goes on is said even without a terminal."""
        if what == "resumed":
            english, korean = f"going on after round {done} of {total}", f"라운드 {done}/{total} 다음부터 이어서 진행함"
            Talk(Format.TEXT, self._lang).say(english, korean)
            return
        if what not in self._tasks:
            words = _STEPS.get(what, {"en": what, "ko": what})
            self._tasks[what] = self._bars.add_task(words[self._lang.value], total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)
