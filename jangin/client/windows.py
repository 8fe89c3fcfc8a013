"""Hours in which an order may be begun, by the clock on the wall: `Mon-Fri 22:00-05:00`, `Sat-Sun 00:00-24:00`.

The law: a window belongs to the days on which it begins, and goes on into the next day where its end is before its
beginning. What the clock on the wall shows is all that counts: where an hour is shown twice it is open twice, and where
it is left out it is left out of the window too.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Self
from zoneinfo import ZoneInfo

__all__ = ["Window", "is_open", "next_opening", "zone_of"]

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY: Final = "|".join(_DAYS)
_TIME: Final = "([01][0-9]|2[0-3]):([0-5][0-9])"
_WINDOW: Final = re.compile(f"({_DAY})(?:-({_DAY}))? {_TIME}-(?:{_TIME}|24:00)")
_MINUTES_A_DAY: Final = 24 * 60
_MINUTES_AHEAD: Final = 15 * _MINUTES_A_DAY  # a window may be left out once, with the hour that clocks go forward


@dataclass(frozen=True)
class Window:
    """Some hours of some days.

    Attributes:
        days: on which it begins, 0 for Monday to 6.
        begins: minute of the day, in [0, 1440).
        ends: the minute after the last one, counted from the same midnight, in (begins, begins + 1440].
    """

    days: frozenset[int]
    begins: int
    ends: int

    @classmethod
    def of(cls, text: str) -> Self:
        """Read `Mon-Fri 22:00-05:00`; the days go round the week, `Sat-Mon` are three.

        Raises:
            ValueError: another form, or hours that end when they begin.
        """
        form = _WINDOW.fullmatch(text)
        if form is None:
            raise ValueError("expected days and hours, as in Mon-Fri 22:00-05:00 or Sun 00:00-24:00")
        first, last, *clock = form.groups()
        begin, span = _DAYS.index(first), _DAYS.index(last or first) - _DAYS.index(first)
        days = frozenset((begin + day) % 7 for day in range(span % 7 + 1))
        begins = 60 * int(clock[0]) + int(clock[1])
        ends = _MINUTES_A_DAY if clock[2] is None else 60 * int(clock[2]) + int(clock[3])
        if begins == ends:
            raise ValueError("a window ends when it begins; a whole day is 00:00-24:00")
        return cls(days, begins, ends + (_MINUTES_A_DAY if ends < begins else 0))

    def shows(self, wall: datetime) -> bool:
        """Whether it is open when a clock on the wall shows this."""
        minute = 60 * wall.hour + wall.minute
        return any(
            (wall.weekday() - midnights) % 7 in self.days
            and self.begins <= minute + midnights * _MINUTES_A_DAY < self.ends
            for midnights in (0, 1)
        )


def zone_of(name: str | None) -> tzinfo | None:
    """The zone of this name; None is the machine's own, which `datetime.astimezone` takes by that.

    Raises:
        ValueError: no zone has this name here.
    """
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"expected a time zone of this machine, as Asia/Seoul: {name}") from None


def is_open(windows: Sequence[Window], now: datetime, zone: tzinfo | None) -> bool:
    """Whether any window is open; without one it always is.

    Args:
        windows: of the site.
        now: the time, aware.
        zone: whose clocks count.
    """
    wall = now.astimezone(zone)
    return not windows or any(window.shows(wall) for window in windows)


def next_opening(windows: Sequence[Window], now: datetime, zone: tzinfo | None) -> datetime | None:
    """The first whole minute from now on that is open, on that clock; None where none of the next 15 days is."""
    start = now.astimezone(UTC)
    if is_open(windows, start, zone):
        return start.astimezone(zone)
    minute = start.replace(second=0, microsecond=0)
    ahead = (minute + timedelta(minutes=count) for count in range(1, _MINUTES_AHEAD))
    return next((moment.astimezone(zone) for moment in ahead if is_open(windows, moment, zone)), None)
