"""Laws of outcomes from elsewhere: each finds its episode by a key, or is told of, and nothing is replaced."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import three_clocks

from jangin.errors import DataError
from jangin.records.as_is import as_it_is
from jangin.records.outcomes import Joined, join

LISTED = "에피소드,히트,장인\n" + "".join(f"weld-{number:02d},H{70 + number},김\n" for number in range(4))
LAB = "히트;기공률(%);비고\nH70;1,5;\nH71;0,25;재시험\nH72 ;2,0;\nH99;3,0;\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = three_clocks.write(tmp_path / "records", 4)
    (made / "holdout.key").write_bytes(bytes(32))
    (made / "holdout.key").chmod(0o600)
    (made / "mapping.local.yaml").write_text("{}")
    return made


Join = Callable[..., Joined]


@pytest.fixture
def joined(folder: Path, tmp_path: Path) -> Join:
    """Join what a laboratory's PC wrote to the episodes of a drop folder."""
    (tmp_path / "episodes.csv").write_bytes(LISTED.encode("cp949"))

    def run(lab: str = LAB, key: str = "히트", listed: bool = True, time: str | None = None) -> Joined:
        (tmp_path / "lab.csv").write_bytes(lab.encode("cp949"))
        return join(folder, tmp_path / "lab.csv", key, listed=tmp_path / "episodes.csv" if listed else None, time=time)

    return run


def codes(found: Joined) -> list[tuple[str, str]]:
    return [(finding.severity, finding.code) for finding in found.findings]


def test_an_outcome_finds_its_episode_and_what_is_left_over_on_either_side_is_told(
    joined: Join, folder: Path, tmp_path: Path
) -> None:
    found = joined()
    assert codes(found) == [("warning", "JG-data-188"), ("warning", "JG-data-189")]
    assert (found.episodes, found.found, found.columns, found.passed) == (4, 3, ("outcome.porosity",), True)
    found.write(folder, tmp_path / "new")
    view = as_it_is(tmp_path / "new")[0]
    assert view.episodes["outcome.porosity"].to_pylist() == [1.5, 0.25, 2.0, None]
    assert view.episodes.drop_columns("outcome.porosity") == as_it_is(folder)[0].episodes.drop_columns(
        "outcome.porosity"
    )
    assert "히트" not in pq.read_schema(tmp_path / "new" / "episodes.parquet").names


def test_who_was_set_aside_stays_so_in_the_new_folder(joined: Join, folder: Path, tmp_path: Path) -> None:
    joined().write(folder, tmp_path / "new")
    key = tmp_path / "new" / "holdout.key"
    assert (key.read_bytes(), key.stat().st_mode & 0o777) == (bytes(32), 0o600)
    assert {path.relative_to(tmp_path / "new") for path in (tmp_path / "new").rglob("*")} == {
        path.relative_to(folder) for path in folder.rglob("*")
    }
    with pytest.raises(DataError) as error:
        joined().write(folder, tmp_path / "new")
    assert error.value.code == "JG-data-002"


def test_a_choice_that_no_episode_had_becomes_a_column(joined: Join, folder: Path, tmp_path: Path) -> None:
    found = joined("lot,grade\nA,good\nB,poor\n", key="lot", listed=False)
    assert codes(found) == []
    found.write(folder, tmp_path / "new")
    assert as_it_is(tmp_path / "new")[0].episodes["outcome.grade"].to_pylist() == ["good", "poor"] * 2


def test_a_key_that_is_said_twice_tells_nothing(joined: Join) -> None:
    found = joined("히트,기공률\nH70,1.5\nH70,1.6\nH71,1.0\nH72,1.0\nH73,1.0\n")
    assert codes(found) == [("error", "JG-data-187")]
    assert set(found.values["outcome.porosity"]) == {"weld-01", "weld-02", "weld-03"}


def test_a_number_that_came_again_a_year_later_or_was_used_before_is_another_heats(joined: Join) -> None:
    times = ("2026-09-22 오전 9:00", "2027-09-22 09:00", "2026.09.21 23:10", "")  # the welds began at 23:13 in Korea
    lab = "히트,기공률,시각\n" + "".join(f"H{70 + number},1.0,{time}\n" for number, time in enumerate(times))
    found = joined(lab, time="시각")
    assert codes(found) == [("warning", "JG-data-191")]
    assert (set(found.values["outcome.porosity"]), found.findings[0].values["number"]) == ({"weld-00", "weld-03"}, 2)


def test_what_an_episode_says_is_not_replaced_and_the_same_again_is_no_change(
    joined: Join, folder: Path, tmp_path: Path
) -> None:
    joined().write(folder, tmp_path / "new")
    again = join(tmp_path / "new", tmp_path / "lab.csv", "히트", listed=tmp_path / "episodes.csv")
    assert [code for _, code in codes(again)] == ["JG-data-188", "JG-data-189"]
    (tmp_path / "lab.csv").write_text("히트,기공률\nH70,1.5\nH71,9.9\nH72,2.0\nH73,1.0\n")
    other = join(tmp_path / "new", tmp_path / "lab.csv", "히트", listed=tmp_path / "episodes.csv")
    assert (codes(other), other.passed) == ([("error", "JG-data-197")], False)
    assert "weld-01" not in other.values["outcome.porosity"]


def test_a_word_or_a_number_that_is_none_is_told_with_its_line(joined: Join) -> None:
    assert codes(joined("lot,grade\nA,good\nB,fair\n", key="lot", listed=False)) == [("error", "JG-data-192")]
    found = joined("히트,기공률\nH70,좋음\nH71,1\nH72,1\nH73,1\n")
    assert codes(found) == [("error", "JG-data-107")]
    assert found.findings[0].where.startswith("lab.csv:2")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"key": "차지"}, "JG-data-185"),
        ({"key": "히트", "listed": False}, "JG-data-185"),
        ({"time": "시각"}, "JG-data-185"),
        ({"lab": "히트,강도\nH70,1\n"}, "JG-data-186"),
        ({"lab": "히트,기공률(ppm)\nH70,1\n"}, "JG-data-186"),
    ],
)
def test_a_table_without_what_is_asked_for_has_a_code(joined: Join, arguments: dict[str, object], code: str) -> None:
    with pytest.raises(DataError) as error:
        joined(**arguments)
    assert error.value.code == code
