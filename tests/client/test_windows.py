"""Laws of windows: what the clock on the wall shows is all that counts, over midnight and when clocks change."""

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jangin.client.settings import LimitsBlock
from jangin.client.windows import Window, is_open, next_opening, zone_of
from jangin.codec.document import parse
from jangin.errors import JanginError

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
WEEK = 7 * 24 * 60
MINUTE = timedelta(minutes=1)


@st.composite
def texts(draw: st.DrawFn) -> str:
    first, last = draw(st.sampled_from(DAYS)), draw(st.sampled_from(("", *DAYS)))
    times = [f"{hour:02}:{minute:02}" for hour in range(24) for minute in (0, 1, 30, 59)]
    begins, ends = draw(st.lists(st.sampled_from([*times, "24:00"]), min_size=2, max_size=2, unique=True))
    if begins == "24:00":
        begins, ends = ends, begins
    return f"{first}{last and '-'}{last} {begins}-{ends}"


def open_minutes(text: str) -> set[int]:
    """The same otherwise: the spans of a window, minute by minute, on a ring of the minutes of a week."""
    days, hours = text.split()
    first, _, last = days.partition("-")
    begins, ends = (60 * int(clock[:2]) + int(clock[3:]) for clock in hours.split("-"))
    minutes: set[int] = set()
    for name in (DAYS * 2)[DAYS.index(first) :]:
        start = 1440 * DAYS.index(name)
        length = (ends - begins) % 1440 or 1440
        minutes |= {(start + begins + minute) % WEEK for minute in range(length)}
        if name == (last or first):
            return minutes
    raise AssertionError(text)


def count_open(window: str, since: datetime, hours: int) -> int:
    held = (Window.of(window),)
    return sum(is_open(held, since + minute * MINUTE, BERLIN) for minute in range(60 * hours))


@settings(max_examples=15, deadline=None)
@given(st.lists(texts(), min_size=1, max_size=2))
def test_a_week_of_minutes_is_open_as_counted_otherwise(given_texts: list[str]) -> None:
    windows = [Window.of(text) for text in given_texts]
    expected = set().union(*map(open_minutes, given_texts))
    found = {minute for minute in range(WEEK) if is_open(windows, MONDAY + minute * MINUTE, UTC)}
    assert found == expected


@settings(max_examples=10, deadline=None)
@given(texts(), st.integers(0, WEEK))
def test_the_next_opening_is_the_first_minute_that_is_open(text: str, minute: int) -> None:
    windows, now = [Window.of(text)], MONDAY + minute * MINUTE
    opens = next_opening(windows, now, UTC)
    assert opens is not None
    assert is_open(windows, opens, UTC)
    closed = range(int((opens - now) / MINUTE))
    assert not any(is_open(windows, now + ahead * MINUTE, UTC) for ahead in closed)


def test_when_clocks_change_the_wall_counts() -> None:
    spring, autumn = datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)
    usual = datetime(2026, 6, 6, 12, tzinfo=UTC)
    nights = [count_open("Sat 22:00-05:00", day, 24) for day in (usual, spring, autumn)]
    assert nights == [7 * 60, 6 * 60, 8 * 60]
    hours = [count_open("Sun 02:00-03:00", day, 24) for day in (usual, spring, autumn)]
    assert hours == [60, 0, 120]
    opens = next_opening((Window.of("Sun 02:00-03:00"),), spring, BERLIN)
    assert opens == datetime(2026, 4, 5, 2, tzinfo=BERLIN)


def test_without_windows_every_minute_is_open() -> None:
    assert is_open((), MONDAY, UTC)


def test_a_window_is_read_in_the_sites_zone_and_without_one_in_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    night = (Window.of("Mon 22:00-05:00"),)
    evening = datetime(2026, 11, 16, 14, tzinfo=UTC)  # 23:00 in Seoul
    assert is_open(night, evening, zone_of("Asia/Seoul"))
    assert not is_open(night, evening, UTC)
    for name, expected in (("Asia/Seoul", True), ("UTC", False)):
        monkeypatch.setenv("TZ", name)
        time.tzset()
        assert is_open(night, evening, zone_of(None)) is expected
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "block",
    [
        *(
            {"windows": [text]}
            for text in ("", "Mon", "22:00-05:00", "Mon-Fri 22-5", "Mon 25:00-26:00", "mon 1:00-2:00")
        ),
        *({"windows": [text]} for text in ("Mon 08:00-08:00", "Mon,Tue 08:00-09:00", "Mon 24:00-05:00")),
        *({"tz": name} for name in ("Asia/Seol", "Asia", "../Seoul", "")),
        {"busy_hook": ""},
    ],
)
def test_a_window_or_zone_that_is_none_is_refused_where_it_stands(block: dict[str, object]) -> None:
    with pytest.raises(JanginError) as refused:
        parse(block, LimitsBlock, "limits")
    assert refused.value.code.startswith("JG-plan-")
