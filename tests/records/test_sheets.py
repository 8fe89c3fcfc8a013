"""Laws of tables as spreadsheets write them: however a number or a moment is written, it is read as what it is."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jangin.errors import DataError
from jangin.records.checks import Finding
from jangin.records.intake.sheets import KOREA, Moments, Sheet, moments, numbers, read_sheet

EXAMPLES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sheet(folder: Path, content: bytes) -> Sheet:
    (folder / "x.csv").write_bytes(content)
    return read_sheet(folder / "x.csv", "x.csv")


def written(value: float | None, decimal: str, group: str, digits: int) -> str:
    if value is None:
        return ""
    text = f"{value:,.{digits}f}"
    return text.replace(",", "\0").replace(".", decimal).replace("\0", group)


@EXAMPLES
@given(
    values=st.lists(st.none() | st.integers(-(10**9), 10**9), min_size=1, max_size=8),
    separator=st.sampled_from(",;\t"),
    form=st.sampled_from([(".", ","), (".", ""), (",", "."), (",", ""), (",", "\u00a0")]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "cp949", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n"]),
    more=st.sampled_from(["", "empty", "trailing"]),
)
def test_a_number_is_read_however_it_is_written(
    tmp_path: Path,
    values: list[int | None],
    separator: str,
    form: tuple[str, str],
    encoding: str,
    end: str,
    more: str,
) -> None:
    if encoding == "cp949" and form[1] == "\u00a0":
        form = (",", "")  # the code page has no such letter
    held = [None if value is None else value / 100 for value in values]
    last = separator if more == "trailing" else ""
    lines = [f"번호{separator}전류(A){last}"]
    lines += [f'{row}{separator}"{written(value, *form, 2)}"{last}' for row, value in enumerate(held)]
    lines += [separator + last] * 2 if more == "empty" else []
    read = sheet(tmp_path, (end.join(lines) + end).encode(encoding))
    columns, found = numbers(read, [0, 1])
    assert found == []
    assert columns[0].to_pylist() == list(range(len(held)))
    assert columns[1].to_pylist() == held


@EXAMPLES
@given(
    at=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)),
    form=st.sampled_from(
        ["{:%Y-%m-%d} {}", "{:%Y.%m.%d} {}", "{:%Y. %m. %d.} {}", "{:%Y/%m/%d} {}", "{:%Y}년 {:%m}월 {:%d}일 {}"]
    ),
    clock=st.sampled_from(["24", "ko", "en"]),
)
def test_a_moment_is_read_however_it_is_written(tmp_path: Path, at: datetime, form: str, clock: str) -> None:
    at = at.replace(microsecond=0)
    half, hour = divmod(at.hour, 12)
    written = {
        "24": f"{at:%H:%M:%S}",
        "ko": f"{['오전', '오후'][half]} {hour or 12}:{at:%M:%S}",
        "en": f"{hour or 12}:{at:%M:%S} {['AM', 'PM'][half]}",
    }[clock]
    text = form.format(at, at, at, written) if "년" in form else form.format(at, written)
    read = moments(sheet(tmp_path, f"시작\n{text}\n".encode()), 0)
    assert isinstance(read, Moments)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(read.microseconds[0]))
    assert moment == at.replace(tzinfo=KOREA)


@pytest.mark.parametrize(
    ("text", "utc", "expected"),
    [
        ("2026-11-21T06:05:07.25Z", False, "2026-11-21T06:05:07.250000"),
        ("2026-11-21 15:05:07.123456+09:00", True, "2026-11-21T06:05:07.123456"),
        ("2026-11-21 06:05", True, "2026-11-21T06:05:00.000000"),
        ("2026년 11월 21일 15시 5분", False, "2026-11-21T06:05:00.000000"),
        ("2026-11-21 오전 12:30", False, "2026-11-20T15:30:00.000000"),
    ],
)
def test_a_zone_that_is_named_counts(tmp_path: Path, text: str, utc: bool, expected: str) -> None:
    read = moments(sheet(tmp_path, f"x\n{text}\n".encode()), 0, utc=utc)
    assert isinstance(read, Moments)
    assert str(read.microseconds.astype("datetime64[us]")[0]) == expected


@pytest.mark.parametrize("text", ["2026-02-30 10:00", "2026-11-21", "24:00", "13:00 PM", "오후 0:10", "5", "10:61"])
def test_what_is_no_moment_is_refused(tmp_path: Path, text: str) -> None:
    found = moments(sheet(tmp_path, f"t,a\n{text},1\n".encode()), 0)
    assert not isinstance(found, Moments)
    assert (found.code, found.where) == ("JG-data-109", "x.csv:2: t")


def test_a_comma_that_nothing_explains_is_read_by_the_separator_and_said(tmp_path: Path) -> None:
    for separator, expected in ((";", 1.5), (",", 1500.0), ("\t", 1500.0)):
        read = sheet(tmp_path, f't{separator}a\n0{separator}"1,500"\n'.encode())
        columns, found = numbers(read, [0, 1])
        assert columns[1].to_pylist() == [expected]
        assert [(one.code, one.severity) for one in found] == [("JG-data-126", "warning")]


def test_places_count_lines_as_an_editor_does(tmp_path: Path) -> None:
    read = sheet(tmp_path, b'sep=;\r\n\r\nt;a\r\n0;"1\r\n"\r\n\r\n1;x\r\n')
    _, found = numbers(read, [0, 1])
    assert [(one.where, one.values["value"]) for one in found] == [("x.csv:7: a", "x")]
    with pytest.raises(DataError, match=r"JG-data-103 x.csv:4: 3 cells"):
        sheet(tmp_path, b"a,b\n1,2\n\n1,2,3\n")


PIECES = [
    "시간(s)",
    "t",
    ",",
    ";",
    "\t",
    "\n",
    "\r\n",
    "\r",
    '"',
    "sep=;\n",
    "1,5",
    "-",
    "1e999",
    "오후 3:05",
    "\0",
    "9" * 400,
]


@pytest.mark.fuzz
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PIECES).map(str.encode) | st.binary(max_size=3), max_size=30).map(b"".join))
def test_whatever_stands_in_a_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    try:
        read = sheet(tmp_path, content)
    except DataError:
        return
    columns, found = numbers(read, range(len(read.header)))
    assert len(columns) == len(read.header) or found
    for place in range(len(read.header)):
        assert len(read.columns[place]) == len(read)
        assert isinstance(moments(read, place), Moments | Finding)


def test_a_column_alone_keeps_its_gaps(tmp_path: Path) -> None:
    columns, _ = numbers(sheet(tmp_path, b"a\n1\n\n3\n\n\n"), [0])
    assert columns[0].to_pylist() == [1.0, None, 3.0]
    assert np.isfinite(columns[0].to_numpy()[[0, 2]]).all()
