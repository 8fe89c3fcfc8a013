"""Who is enrolled follows from dates alone."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.privacy.enrolment import Enrolment, enrolled

FIRST = date(2026, 1, 1)
DAYS = st.integers(0, 400).map(lambda days: FIRST + timedelta(days=days))


@st.composite
def enrolments(draw: st.DrawFn) -> Enrolment:
    since = draw(DAYS)
    until = draw(st.none() | st.integers(1, 400).map(lambda days: since + timedelta(days=days)))
    return Enrolment(draw(st.sampled_from(["kim", "lee", "park"])), since, until)


def test_the_first_day_counts_and_the_last_is_the_day_before_the_end() -> None:
    kim = Enrolment("kim", date(2026, 3, 1), date(2026, 3, 3))
    days = [date(2026, 2, 28), date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3)]
    assert [enrolled([kim], day) for day in days] == [(), ("kim",), ("kim",), ()]


def test_who_does_not_leave_stays() -> None:
    assert enrolled([Enrolment("kim", FIRST)], date(9999, 12, 31)) == ("kim",)


@given(st.lists(enrolments(), max_size=6), DAYS)
def test_everybody_with_a_time_that_covers_the_day_is_there_once_whatever_the_order(
    times: list[Enrolment], day: date
) -> None:
    names = enrolled(times, day)
    assert list(names) == sorted({time.master for time in times if time.covers(day)})
    assert enrolled(reversed(times), day) == names


@given(st.lists(enrolments(), max_size=6), enrolments(), DAYS)
def test_one_masters_dates_change_nothing_for_the_others(times: list[Enrolment], one: Enrolment, day: date) -> None:
    before, after = ({*enrolled(some, day)} - {one.master} for some in (times, [*times, one]))
    assert before == after


@pytest.mark.parametrize("until", [FIRST, FIRST - timedelta(days=1)])
def test_an_end_that_is_not_after_the_beginning_is_refused(until: date) -> None:
    with pytest.raises(ValueError, match=str(until.day)):
        Enrolment("kim", FIRST, until)
