"""The site's own say over when an order is begun: pause, windows, disk, and a program of the factory that knows better.

The law: what is said here holds for orders that are still to be begun. A training that runs, an answer that is kept and
the steps of an open secure sum go on: to end those would cost every other site its round. None of it is told outside.
"""

import os
import re
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from jangin.client.settings import LimitsBlock, size_bytes
from jangin.client.state import Pause, SiteFolder, Task
from jangin.client.windows import is_open
from jangin.errors import SiteError

__all__ = ["Conditions", "Paused", "ask", "check", "check_hook", "moment", "pause", "paused", "resume", "slot_seconds"]

_MIB: Final = 2**20
_HOOK_SECONDS: Final = 5.0
_SLOT_SECONDS: Final = 0.25
_YEARS: Final = (1970, 9998)  # of a time that every zone can show
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_HOUR: Final = re.compile("([01][0-9]|2[0-3]):([0-5][0-9])")
_WITHOUT_END: Final = "`jangin site resume`"


@dataclass(frozen=True)
class Conditions:
    """How things stand at the site when an order comes.

    Attributes:
        pause: the one that holds, or None.
        free_bytes: what is free on the disk of the state folder.
    """

    pause: Pause | None
    free_bytes: int


@dataclass(frozen=True)
class Paused:
    """What came of a pause.

    Attributes:
        pause: from now on.
        running: (campaign, round) of the orders that were begun before it and go on.
    """

    pause: Pause
    running: tuple[tuple[str, int], ...]


def check(limits: LimitsBlock, conditions: Conditions, now: datetime) -> None:
    """Whether an order may be begun now.

    Raises:
        SiteError: JG-site-382, the site is paused; 381, no window is open; 386, the disk has less left than its floor.
    """
    held = conditions.pause
    if held is not None:
        end = _WITHOUT_END if held.until is None else _shown(held.until.astimezone(limits.zone))
        raise SiteError("JG-site-382", since=_shown(held.since.astimezone(limits.zone)), end=end)
    if not is_open(limits.hours, now, limits.zone):
        wall = now.astimezone(limits.zone)
        raise SiteError("JG-site-381", now=f"{wall:%a %H:%M %Z}", windows=", ".join(limits.windows))
    if conditions.free_bytes < size_bytes(limits.disk_free_min):
        free = f"{conditions.free_bytes // _MIB} MiB"
        raise SiteError("JG-site-386", free=free, floor=limits.disk_free_min)


def check_hook(hook: Path) -> Path:
    """The file behind the hook, if nobody but its owner could have put another in its place; it is not run.

    Raises:
        SiteError: JG-site-384, it is missing or no program, or others may write to it or to a folder on the way to it
            (but for one of root's in which nobody may take what is another's, like /tmp).
    """
    try:
        file = hook.resolve(strict=True)
        ways = [file, *file.parents, *hook.absolute().parents]
        states = [path.stat() for path in ways]
    except (OSError, RuntimeError) as error:  # RuntimeError: links that go round
        problem = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise SiteError("JG-site-384", where=str(hook), problem=problem) from None
    if not stat.S_ISREG(states[0].st_mode) or not os.access(file, os.X_OK):
        raise SiteError("JG-site-384", where=str(hook), problem="it is no file that can be run")
    if os.name != "posix":
        return file
    for path, state in zip(ways, states, strict=True):
        mode = stat.S_IMODE(state.st_mode)
        shared = path != file and mode & stat.S_ISVTX and state.st_uid == 0
        if (mode & _OTHERS_WRITE and not shared) or state.st_uid not in (0, os.geteuid()):
            raise SiteError("JG-site-384", where=str(path), problem=f"others may write to it (mode {mode:04o})")
    return file


def ask(hook: Path) -> None:
    """Run the hook in its folder, without a shell, arguments, input or output; status 0 within 5 s says free.

    Raises:
        SiteError: JG-site-383, it says busy; 384, as `check_hook`; 385, it says nothing in time, and is ended with all
            that it started.
    """
    program = check_hook(hook)
    null = subprocess.DEVNULL
    try:
        asked = subprocess.Popen(  # noqa: S603 - the factory's own program, which only its owner can write
            [program], cwd=program.parent, stdin=null, stdout=null, stderr=null, start_new_session=True
        )
    except OSError as error:
        raise SiteError("JG-site-384", where=str(hook), problem=error.strerror or type(error).__name__) from None
    try:
        status = asked.wait(_HOOK_SECONDS)
    except subprocess.TimeoutExpired:
        raise SiteError("JG-site-385", where=str(hook), seconds=_HOOK_SECONDS) from None
    finally:
        _end(asked)
    if status != 0:
        raise SiteError("JG-site-383", where=str(hook), status=status)


def slot_seconds(hook: Path | None) -> float:
    """How long after its order a refusal leaves whose reason stays here: enough for each, so that none is quicker.

    The busy hook, where there is one, is the slowest to be asked.
    """
    return _SLOT_SECONDS if hook is None else _SLOT_SECONDS + _HOOK_SECONDS


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that is still there, with its session."""
    if process.poll() is not None:
        return
    with suppress(OSError, subprocess.TimeoutExpired):  # of another user: then it is left behind
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(_HOOK_SECONDS)


def moment(text: str, limits: LimitsBlock, now: datetime, where: str, *, ahead: bool = True) -> datetime:
    """A time as a person types it: `2026-11-22T06:00`, or `17:30`; by the zone of the site's windows.

    Args:
        text: as typed.
        limits: with the zone.
        now: the time, aware.
        where: the option.
        ahead: whether `17:30` is the next one, or else the last one.

    Raises:
        SiteError: JG-site-388, another form.
    """
    wall, hour = now.astimezone(limits.zone), _HOUR.fullmatch(text)
    if hour is not None:
        typed = wall.replace(hour=int(hour[1]), minute=int(hour[2]), second=0, microsecond=0)
        days = int(typed <= wall) if ahead else -int(typed > wall)
        return _in_zone(typed + timedelta(days=days), limits)
    try:
        typed = datetime.fromisoformat(text)
        if not _YEARS[0] <= typed.year <= _YEARS[1]:
            raise ValueError(f"Expected a year of {_YEARS}.")
    except ValueError:
        raise SiteError("JG-site-388", where=where, text=text) from None
    return _in_zone(typed, limits) if typed.tzinfo is None else typed


def _in_zone(wall: datetime, limits: LimitsBlock) -> datetime:
    """What the clock shows, as a moment."""
    bare = wall.replace(tzinfo=None)
    return bare.astimezone() if limits.zone is None else bare.replace(tzinfo=limits.zone)


def pause(path: Path, until: str, now: datetime) -> Paused:
    """Begin no order from now on; a pause before it ends with this one's end.

    Args:
        path: the state folder.
        until: as `moment`; empty: until somebody resumes.
        now: the time, aware.

    Raises:
        SiteError: JG-site-304, no site here; 388, no time; 389, a time that is over. PlanError: JG-plan-001..006.
    """
    folder = SiteFolder(path)
    limits = folder.settings().limits
    end = moment(until, limits, now, "--until") if until else None
    if end is not None and end <= now:
        raise SiteError("JG-site-389", text=until, now=_shown(now.astimezone(limits.zone)))
    held = Pause(now, end)
    with folder.journal() as journal:
        journal.pause(held)
        running = [place for place in journal.open_tasks() if journal.task(*place) in (Task.GATED, Task.TRAINING)]
    return Paused(held, tuple(running))


def resume(path: Path, now: datetime) -> Pause | None:
    """End the pause; gives the one that held.

    Raises:
        SiteError: JG-site-304, no site here. PlanError: JG-plan-001..006.
    """
    folder = SiteFolder(path)
    folder.settings()
    with folder.journal() as journal:
        held = journal.paused(now)
        journal.resume()
    return held


def paused(path: Path, now: datetime) -> Pause | None:
    """The pause that holds, or None.

    Raises:
        SiteError: JG-site-305, the database cannot be used.
    """
    with SiteFolder(path).journal() as journal:
        return journal.paused(now)


def _shown(wall: datetime) -> str:
    return wall.isoformat(" ", timespec="minutes")
