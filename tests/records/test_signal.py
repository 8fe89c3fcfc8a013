"""Laws of level 2: what is wrong is found, and what is merely odd is not."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.codec.document import parse
from jangin.records.card import Stream
from jangin.records.checks.findings import Finding, together
from jangin.records.checks.signal import Rows, check_signal

RATE = 60.0


def stream(unit: str = "A", limits: tuple[float, float] = (0, 400), **other: Any) -> Stream:
    channels = [{"name": "x", "unit": unit, "range": list(limits), "optional": other.pop("optional", False)}]
    described: dict[str, Any] = {"name": "s", "kind": "telemetry", "rate_hz": RATE, "channels": channels}
    return parse(described | other, Stream, "stream")


def found(told: Stream, times: Any, values: Any, ids: list[str] | None = None) -> dict[str, Finding]:
    table = pa.table(
        {
            "episode_id": ids or ["e0"] * len(times),
            "t": np.asarray(times, np.float64),
            "x": pa.array(values, pa.float32(), from_pandas=True),
        }
    )
    return {one.code: one for one in check_signal(Rows.of(table), told, "part")}


def wave(number: int, low: float = 100, high: float = 300) -> Any:
    return low + (high - low) * (0.5 + 0.5 * np.sin(np.arange(number)))


@given(st.floats(1, 500), st.integers(3, 400), st.sampled_from([1e-3, 1e-4]))
def test_times_that_were_rounded_are_neither_gaps_nor_another_rate(rate: float, number: int, digit: float) -> None:
    """Up to what rounding does: half a step of the clock is less than a third of a sample."""
    if rate * digit > 1 / 3:
        return
    times = np.round(np.arange(number) / rate / digit) * digit
    told = found(stream(rate_hz=rate), times, wave(number))
    assert not told.keys() & {"JG-data-130", "JG-data-131"}
    if number > 1 + digit * rate / 0.01:  # the clock's step is less than 1 % of all
        assert "JG-data-132" not in told


@given(st.integers(10, 300), st.data())
def test_a_gap_is_told_of_as_a_gap_and_not_as_a_rate(number: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(2, number - 3))
    times = np.delete(np.arange(number + 5), np.arange(start, start + 5)) / RATE
    told = found(stream(), times, wave(number))
    assert told.keys() == {"JG-data-131"}
    assert told["JG-data-131"].values["gaps"] == 1


@pytest.mark.parametrize(("share", "codes"), [(0.995, set()), (1.02, {"JG-data-132"}), (0.5, {"JG-data-132"})])
def test_a_rate_may_be_off_by_one_percent(share: float, codes: set[str]) -> None:
    assert found(stream(), np.arange(200) / (RATE * share), wave(200)).keys() == codes


def test_events_come_when_they_come() -> None:
    events = stream(kind="event")
    assert found(events, [0.0, 0.1, 0.1, 7.0], [1, 1, 1, 1]) == {}
    assert found(events, np.arange(50) / (2 * RATE), np.ones(50)).keys() == {"JG-data-132"}
    assert found(events, [0.2, 0.1], [1, 1]).keys() == {"JG-data-130"}


PRESSURES = [
    ("bar", (5, 15), 800.0, "kPa"),
    ("kPa", (500, 1500), 8.0, "bar"),
    ("bar", (5, 15), 8e5, "Pa"),
    ("MPa", (0, 2.5), 12.0, "bar"),
    ("bar", (0, 15), 1.2, None),  # MPa, perhaps: it lies in the range
    ("kPa", (0, 1000), 1200.0, None),  # too much, and no other unit
    ("Cel", (200, 600), 700.0, "K"),
    ("K", (473, 873), 300.0, "Cel"),
    ("Cel", (0, 400), 313.0, None),
    ("A", (0, 400), 4e4, None),
]


@pytest.mark.parametrize(("unit", "limits", "value", "likely"), PRESSURES)
def test_another_unit_is_known_by_the_range_that_it_would_fit(
    unit: str, limits: tuple[float, float], value: float, likely: str | None
) -> None:
    told = found(stream(unit, limits), np.arange(30) / RATE, value + wave(30, 0, 0.01))
    if likely is None:
        assert "JG-data-139" not in told
    else:
        assert likely in str(told["JG-data-139"].values["likely"]).split(", ")
        assert "JG-data-135" not in told


@pytest.mark.parametrize(
    ("unit", "limits", "value", "clipped"),
    [("A", (0, 400), 400, True), ("A", (0, 400), 0, False), ("%", (0, 100), 100, False), ("V", (-5, 5), -5, True)],
)
def test_nothing_and_everything_are_no_full_scale(
    unit: str, limits: tuple[float, float], value: float, clipped: bool
) -> None:
    values = wave(200, *(np.array(limits) * 0.5))
    values[:20] = value
    told = found(stream(unit, limits), np.arange(200) / RATE, values)
    assert ("JG-data-134" in told) is clipped


def test_a_channel_that_may_lack_may_lack_for_an_episode_and_not_for_half_of_it() -> None:
    times, half = np.arange(40) / RATE, np.where(np.arange(40) < 20, np.nan, wave(40))
    assert found(stream(optional=True), times, np.full(40, np.nan)) == {}
    assert found(stream(optional=True), times, half).keys() == {"JG-data-136"}
    assert found(stream(), times, np.full(40, np.nan)).keys() == {"JG-data-136"}


def test_episodes_that_lie_apart_are_judged_as_if_they_lay_together() -> None:
    ids = ["a", "b"] * 100
    assert found(stream(), np.repeat(np.arange(100) / RATE, 2), wave(200), ids) == {}


def test_what_several_files_show_is_said_once() -> None:
    one, two = (found(stream(), [0.0, 0.0], [1, 2])["JG-data-130"] for _ in range(2))
    (both,) = together([one, two])
    assert both.values == {"number": 2, "episode": "e0", "file": "part"}


ODD = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False, width=32))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(-1e6, 1e6), ODD), min_size=1, max_size=40), st.booleans())
def test_odd_rows_are_found_odd_and_break_nothing(rows: list[tuple[str, float, float | None]], events: bool) -> None:
    ids, times, values = map(list, zip(*rows, strict=True))
    told = found(stream(kind="event" if events else "telemetry"), times, values, ids)
    for finding in told.values():
        assert all(finding.text(field, lang) for field in ("what", "why", "hint") for lang in ("en", "ko"))
        assert 1 <= int(str(finding.values["number"])) <= len(set(ids))
        assert finding.values["episode"] in ids
