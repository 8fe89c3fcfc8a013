"""Laws of `ingest`: what a plant has in a folder is what the records hold, all or nothing, without names."""

import csv
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from numpy.typing import NDArray

from jangin.codec.document import parse
from jangin.errors import DataError
from jangin.records import checks
from jangin.records.checks import validate
from jangin.records.dataset import Records
from jangin.records.intake import drop, ingest, staging
from jangin.records.intake.book import pseudonym
from jangin.records.intake.ingest import Ingested
from jangin.records.process import Process

KEY = bytes(range(32))
NAMES = ["김철수", "박영희"]
DESCRIBED = {
    "process": "test.pass",
    "industry": "test",
    "title": {"en": "A pass", "ko": "시험 용접"},
    "streams": [
        {
            "name": "arc",
            "kind": "telemetry",
            "rate_hz": 10,
            "channels": [
                {"name": "current", "unit": "A", "range": [0, 400], "ko": "용접 전류"},
                {"name": "voltage", "unit": "V", "range": [0, 40], "ko": "아크 전압", "optional": True},
            ],
        },
        {
            "name": "torch",
            "kind": "motion",
            "rate_hz": 200,
            "channels": [
                {"name": "angle", "unit": "deg", "range": [-90, 90], "optional": True, "ko": "토치 각도 (진행)"}
            ],
        },
        {
            "name": "button",
            "kind": "event",
            "rate_hz": 10,
            "channels": [{"name": "pressed", "unit": "1", "range": [0, 9], "optional": True, "ko": "버튼"}],
        },
        {
            "name": "table",
            "kind": "vibration",
            "rate_hz": 50,
            "channels": [{"name": "shake", "unit": "mm/s", "range": [-9, 9], "optional": True, "ko": "작업대 진동"}],
        },
        {
            "name": "mic",
            "kind": "audio",
            "rate_hz": 8000,
            "media": "sound",
            "channels": [{"name": "pressure", "unit": "Pa", "range": [-2, 2], "optional": True}],
        },
        {
            "name": "pool",
            "kind": "image_sequence",
            "rate_hz": 5,
            "media": "pictures",
            "frame": {"width": 16, "height": 8},
            "channels": [{"name": "grey", "unit": "1", "range": [0, 1], "optional": True}],
        },
        {
            "name": "heat",
            "kind": "thermal",
            "rate_hz": 5,
            "media": "pictures",
            "frame": {"width": 6, "height": 4},
            "channels": [{"name": "temperature", "unit": "Cel", "range": [0, 1000], "optional": True}],
        },
    ],
    "context": [
        {"name": "humidity", "unit": "%", "range": [0, 100], "ko": "상대 습도"},
        {"name": "position", "values": ["flat", "overhead"], "ko": "자세"},
    ],
    "actions": [{"name": "filler", "unit": "m/min", "range": [0, 4], "ko": "용가재"}],
    "judgements": [{"name": "grade", "values": ["good", "poor"], "ko": "판정"}],
    "outcomes": [{"name": "pores", "unit": "1", "range": [0, 5000], "ko": "기공 수"}],
}
HEADER = ["에피소드", "장인", "시작 시각", "상대 습도(%)", "자세", "용가재(m/min)", "판정", "기공 수"]


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    made = parse(DESCRIBED, Process, "process")
    for module in (drop, checks):
        monkeypatch.setattr(module, "read_process", lambda name: made)
    return made


@dataclass(frozen=True)
class Plant:
    """A drop folder and the records that it becomes."""

    drop: Path
    records: Path

    def line(self, *cells: object) -> list[str]:
        return list(map(str, cells))

    def episodes(self, lines: Sequence[Sequence[object]], header: Sequence[str] = HEADER, **form: str) -> None:
        write_table(self.drop / "episodes.csv", header, lines, **form)

    def put(self, episode: str, files: dict[str, bytes | str]) -> None:
        (self.drop / episode).mkdir(exist_ok=True)
        for name, content in files.items():
            (self.drop / episode / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    def run(self, **options: Any) -> Ingested:
        return ingest.ingest(self.drop, self.records, KEY, **options)

    def codes(self, **options: Any) -> list[str]:
        done = self.run(**options)
        assert done.passed == (not [one for one in done.findings if one.severity == "error"])
        return [finding.code for finding in done.findings]

    def open(self) -> Records:
        report = validate(self.records)
        assert [str(finding) for finding in report.findings if finding.severity == "error"] == []
        return Records.open(self.records)


def write_table(
    path: Path,
    header: Sequence[str],
    lines: Sequence[Sequence[object]],
    encoding: str = "utf-8-sig",
    separator: str = ",",
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator).writerows([header, *lines])
    path.write_bytes(text.getvalue().encode(encoding))


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Two episodes of one table each."""
    made = Plant(drop.init_drop(tmp_path / "drop", "test.pass", "시험 공장"), tmp_path / "records")
    made.episodes([simple("w1"), simple("w2", NAMES[1])])
    for number in (1, 2):
        made.put(f"w{number}", {"arc.csv": f"시간(s),용접 전류(A)\n0,{number}\n0.1,7.5\n"})
    return made


def simple(episode: str, name: str = NAMES[0], **cells: object) -> list[object]:
    standard = ["2026-11-21 15:05:07", 61.5, "flat", 2.5, "", ""]
    return [episode, name, *(cells.get(column, value) for column, value in zip(HEADER[2:], standard, strict=True))]


def rows(records: Records, stream: str, episode: str) -> tuple[list[float], list[list[float | None]]]:
    for view in (records.train(), records.holdout()):
        table = view.stream(stream)
        ours = table.filter(np.array(table["episode_id"].to_pylist()) == episode)
        if len(ours):
            return ours["t"].to_pylist(), [ours[name].to_pylist() for name in ours.column_names[2:]]
    raise AssertionError(episode)


def media(records: Records, stream: str, episode: str) -> NDArray[np.float32]:
    held = [view for view in (records.train(), records.holdout()) if episode in view.episodes["episode_id"].to_pylist()]
    return held[0].media(stream, episode)


def episode_rows(records: Records) -> dict[str, dict[str, Any]]:
    return {
        row["episode_id"]: row for view in (records.train(), records.holdout()) for row in view.episodes.to_pylist()
    }


def test_a_folder_as_excel_on_a_korean_pc_writes_it_goes_in_without_a_flag(plant: Plant) -> None:
    plant.episodes(
        [
            ["001", "김 철수", "2026-11-21 오후 3:05", "61,5", "flat", "2,5", "양호", "1.234"],
            ["002", "박영희", "2026.11.21 오전 9:00:30", "", "overhead", "0,25", "", ""],
            ["", "", "", "", "", "", "", ""],
        ],
        encoding="cp949",
        separator=";",
    )
    (plant.drop / "mapping.local.yaml").write_text(
        "process: test.pass\nsite: 공장\ntags: {PLC_AI_03: arc.current}\nwords: {양호: good}\n", encoding="utf-8"
    )
    arc = "시각;PLC_AI_03;아크 전압(V);비고\r\n15:05:12,50;100,5;;시작\r\n15:05:12,60;-;12,25;\r\n;;;\r\n"
    for old, new, content in (("w1", "001", arc), ("w2", "002", "t_ms;용접 전류(A)\r\n0;1.000,5\r\n100;2\r\n")):
        (plant.drop / old).rename(plant.drop / new)
        plant.put(new, {"arc.csv": content.encode("cp949")})
    done = plant.run()
    assert [finding.code for finding in done.findings] == ["JG-data-125"]  # 비고
    records = plant.open()
    held = episode_rows(records)
    assert held["001"]["start_utc"].isoformat() == "2026-11-21T06:05:12.500000+00:00"
    assert held["002"]["start_utc"].isoformat() == "2026-11-21T00:00:30+00:00"
    assert (held["001"]["context.humidity"], held["001"]["judgement.grade"]) == (61.5, "good")
    assert (held["001"]["outcome.pores"], held["002"]["outcome.pores"]) == (1234, None)
    assert (held["002"]["action.filler"], held["002"]["context.humidity"]) == (0.25, None)
    assert rows(records, "arc", "001") == ([0.0, 0.1], [[100.5, None], [None, 12.25]])
    assert rows(records, "arc", "002") == ([0.0, 0.1], [[1000.5, 2.0], [None, None]])
    assert held["001"]["duration_s"] == pytest.approx(0.2)


def test_every_kind_of_stream_comes_out_as_it_went_in(plant: Plant) -> None:
    random = np.random.default_rng(5)
    t = np.sort(random.uniform(0, 9, 40))
    values = random.normal(0, 50, (4, 40)).astype(np.float32)
    sound = random.integers(-(2**15), 2**15, 800).astype(np.int16)
    film = random.integers(0, 256, (3, 8, 16)).astype(np.uint8)
    heat = random.integers(0, 2**16, (12, 4, 6)).astype(np.uint16)

    def table(header: str, *columns: Sequence[object]) -> str:
        return "\n".join([header, *(",".join(map(repr, row)) for row in zip(*columns, strict=True))]) + "\n"

    from PIL import Image

    pcm, still = io.BytesIO(), [io.BytesIO() for _ in heat]
    soundfile.write(pcm, sound, 8000, subtype="PCM_16", format="WAV")
    for to, frame in zip(still, heat, strict=True):
        Image.fromarray(frame).save(to, format="PNG")
    shown = io.BytesIO()
    Image.fromarray(film.reshape(-1, 16)).save(shown, format="PNG")
    floats = [column.astype(float).tolist() for column in values]
    plant.put(
        "w1",
        {
            "arc.csv": table("t,current,voltage", t.tolist(), floats[0], floats[1]),
            "20261121_torch.csv": table("토치 각도 (진행)(deg)", floats[2]),
            "button.csv": table("time_s,pressed", t[:3].tolist(), [1.0, 2.0, 1.0]),
            "table.csv": table("t [ms],shake", (t * 1000).tolist(), floats[3]),
            "rec.wav": pcm.getvalue(),
            "pool.png": shown.getvalue(),
            **{f"heat_{number}.png": frame.getvalue() for number, frame in enumerate(still)},
        },
    )
    assert plant.codes() == []
    records = plant.open()
    assert rows(records, "arc", "w1") == (t.tolist(), floats[:2])
    assert rows(records, "torch", "w1") == ([number / 200 for number in range(40)], floats[2:3])
    assert rows(records, "button", "w1") == (t[:3].tolist(), [[1.0, 2.0, 1.0]])
    assert rows(records, "table", "w1") == ((t * 1000 / 1000).tolist(), floats[3:])
    assert (media(records, "mic", "w1") == sound[None] / np.float32(2**15) * 2).all()
    assert (media(records, "pool", "w1") == film[None] * np.float32(1 / 255)).all()
    assert np.abs(media(records, "heat", "w1") / 1000 * 65535 - heat[None]).max() < 0.01  # the count is told
    assert episode_rows(records)["w1"]["duration_s"] == pytest.approx(t.max() + 0.1)


def wav(rate: int = 8000, subtype: str = "PCM_16", channels: int = 1, samples: int = 80) -> bytes:
    made, values = io.BytesIO(), np.random.default_rng(1).uniform(-1, 1, (samples, channels))
    soundfile.write(made, values, rate, subtype=subtype, format="WAV")
    return made.getvalue()


ARC = "t,current\n0,1\n0.1,2\n"
BAD: dict[str, tuple[str, Callable[[Plant], None]]] = {
    "letters of no encoding": ("101", lambda plant: plant.put("w1", {"arc.csv": b"t,current\n0,\xff\xff\x81\n"})),
    "a table of a header alone": ("102", lambda plant: plant.put("w1", {"arc.csv": "t,current\n"})),
    "a cell too many": ("103", lambda plant: plant.put("w1", {"arc.csv": "t,current\n0,1\n0.1,2,3\n"})),
    "two columns of one quantity": ("104", lambda plant: plant.put("w1", {"arc.csv": "t,current,용접 전류\n0,1,1\n"})),
    "a channel that lacks": ("105", lambda plant: plant.put("w1", {"arc.csv": "t,voltage\n0,1\n"})),
    "another unit": ("106", lambda plant: plant.put("w1", {"arc.csv": "t,current(kA)\n0,1\n"})),
    "another unit of time": ("106", lambda plant: plant.put("w1", {"arc.csv": "t(A),current\n0,1\n"})),
    "no number": ("107", lambda plant: plant.put("w1", {"arc.csv": "t,current\n0,1\n0.1,#DIV/0!\n"})),
    "a point and a comma": ("108", lambda plant: plant.put("w1", {"arc.csv": "t;current\n0;1,5\n0.1;2\n"})),
    "no time": ("109", lambda plant: plant.put("w1", {"arc.csv": "t,current\n2026-02-30 15:05:07,1\n"})),
    "no word of the choice": ("110", lambda plant: plant.episodes([simple("w1", 자세="옆"), simple("w2")])),
    "a time before the start": ("111", lambda plant: plant.put("w1", {"arc.csv": "t,current\n15:05:06,1\n"})),
    "seconds of another clock": ("111", lambda plant: plant.put("w1", {"arc.csv": "t,current\n1795241107,1\n"})),
    "a line without a folder": ("113", lambda plant: plant.episodes([simple(name) for name in ("w1", "w2", "w3")])),
    "a folder without a line": ("114", lambda plant: plant.episodes([simple("w1")])),
    "an episode twice": ("115", lambda plant: plant.episodes([simple("w1"), simple("w2"), simple("w1")])),
    "one recording under two names": (
        "117",
        lambda plant: plant.put("w1", {"arc.csv": "시간(s),용접 전류(A)\n0,2\n0.1,7.5\n"}),
    ),
    "a master's name": ("118", lambda plant: plant.episodes([simple("w1", "W1"), simple("w2")])),
    "a file that nobody knows": ("119", lambda plant: plant.put("w1", {"기록.xlsx": "?"})),
    "a table that nobody knows": ("119", lambda plant: plant.put("w1", {"x.csv": "t,비고\n0,1\n"})),
    "no stream that is needed": ("121", lambda plant: plant.put("w1", {"arc.csv": "t,pressed\n0,1\n"})),
    "a stream twice": ("122", lambda plant: plant.put("w1", {"arc_2.csv": ARC})),
    "sound twice": ("122", lambda plant: plant.put("w1", {"1.wav": wav(), "2.wav": wav()})),
    "sound of another rate": ("123", lambda plant: plant.put("w1", {"a.wav": wav(16000)})),
    "sound of two channels": ("123", lambda plant: plant.put("w1", {"a.wav": wav(channels=2)})),
    "sound that breaks off": ("032", lambda plant: plant.put("w1", {"a.wav": wav()[:20]})),
    "a picture that is none": ("032", lambda plant: plant.put("w1", {"pool.png": b"\x89PNG"})),
    "a video that is none": ("032", lambda plant: plant.put("w1", {"pool.mp4": b"?" * 99})),
    "an action out of range": (
        "027",
        lambda plant: plant.episodes([simple("w1", **{"용가재(m/min)": 5}), simple("w2")]),
    ),
    "nobody's work": ("023", lambda plant: plant.episodes([simple("w1", ""), simple("w2")])),
    "no start": ("023", lambda plant: plant.episodes([simple("w1", **{"시작 시각": ""}), simple("w2")])),
    "no column of the context": ("105", lambda plant: plant.episodes([simple("w1")[:3]], HEADER[:3])),
    "a sample without a time": ("023", lambda plant: plant.put("w1", {"arc.csv": "t,current\n0,1\n,2\n"})),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_has_a_code_and_nothing_is_written(plant: Plant, case: str) -> None:
    code, spoil = BAD[case]
    spoil(plant)
    done = plant.run()
    assert f"JG-data-{code}" in {finding.code for finding in done.findings}
    assert all(
        finding.text(field, lang) for finding in done.findings for field in ("what", "hint") for lang in ("en", "ko")
    )
    assert not done.passed
    assert sorted(path.name for path in plant.drop.parent.iterdir()) == [".records.lock", "drop"]


def test_all_episodes_are_looked_at_before_anything_is_said(plant: Plant) -> None:
    plant.put("w1", {"arc.csv": "t,current\n0,x\n"})
    plant.put("w2", {"arc.csv": "t,current(V)\n0,1\n", "?.wav": wav(4000)})
    plant.episodes([simple("w1", 자세="?"), simple("w2"), simple("w3")])
    places = {(finding.code[-3:], finding.where) for finding in plant.run().findings}
    assert places >= {
        ("107", "w1/arc.csv:2: current"),
        ("106", "w2/arc.csv: current(V)"),
        ("123", "w2/?.wav"),
        ("110", "episodes.csv:2: 자세"),
        ("113", "episodes.csv:4: 에피소드"),
    }


def test_streams_of_one_table_have_their_own_rows(plant: Plant) -> None:
    plant.put("w1", {"arc.csv": "t,current,shake,button.pressed\n0,1,,\n0.02,,5,\n0.1,2,6,1\n"})
    assert plant.codes() == []
    records = plant.open()
    assert rows(records, "arc", "w1") == ([0.0, 0.1], [[1.0, 2.0], [None, None]])
    assert rows(records, "table", "w1") == ([0.02, 0.1], [[5.0, 6.0]])
    assert rows(records, "button", "w1") == ([0.1], [[1.0]])


def test_a_row_without_values_keeps_its_place_where_rows_are_the_clock(plant: Plant) -> None:
    plant.put("w1", {"arc.csv": "current,shake\n1,1\n,2\n3,\n"})
    assert plant.codes() == []
    records = plant.open()
    assert rows(records, "arc", "w1") == ([0.0, 0.1, 0.2], [[1.0, None, 3.0], [None] * 3])
    assert rows(records, "table", "w1") == ([0.0, 0.02, 0.04], [[1.0, 2.0, None]])


def test_tables_of_one_stream_at_the_same_times_are_joined(plant: Plant) -> None:
    plant.put("w1", {"arc_a.csv": ARC, "arc_b.csv": "t,voltage\n0,20\n0.1,21\n"})
    (plant.drop / "w1" / "arc.csv").unlink()
    assert plant.codes() == []
    assert rows(plant.open(), "arc", "w1") == ([0.0, 0.1], [[1.0, 2.0], [20.0, 21.0]])


def test_a_column_may_not_be_any_of_two(plant: Plant, process: Process) -> None:
    plant.put("w1", {"x.csv": "t,current,shake\n0,1,2\n", "arc.csv": ARC})
    (plant.drop / "mapping.local.yaml").write_text("process: test.pass\nsite: s\ntags: {x: '-'}\n")
    assert plant.codes() == []
    other = DESCRIBED | {
        "context": [*DESCRIBED["context"], {"name": "pores", "unit": "%", "range": [0, 1], "optional": True}]
    }  # type: ignore[misc]
    twofold = parse(other, Process, "process")
    meant = drop.of_episodes(twofold, drop.LocalMapping(process="p", site="s")).look_up("pores")
    assert meant.targets == ("context.pores", "outcome.pores")


def test_a_second_run_adds_what_is_new_alone_and_fills_what_was_blank(plant: Plant) -> None:
    assert plant.run().added == ("w1", "w2")
    first, split = plant.open(), (plant.records / "manifest.json").read_bytes()
    again = plant.run()
    assert (again.added, again.known, again.filled, again.findings) == ((), 2, 0, ())
    assert (plant.records / "manifest.json").read_bytes() == split
    plant.put("w3", {"arc.csv": "t,current\n0,3\n"})
    plant.episodes([simple("w1", **{"기공 수": 4}), simple("w2", NAMES[1]), simple("w3")])
    third = plant.run()
    assert (third.added, third.known, third.filled, third.findings) == (("w3",), 2, 1, ())
    records = plant.open()
    assert records.manifest.masters.keys() == {"w1", "w2", "w3"}
    assert {*first.manifest.holdout} <= {*records.manifest.holdout}
    assert {*first.manifest.train} <= {*records.manifest.train}
    assert episode_rows(records)["w1"]["outcome.pores"] == 4
    assert rows(records, "arc", "w3") == ([0.0], [[3.0], [None]])
    assert rows(records, "arc", "w1") == ([0.0, 0.1], [[1.0, 7.5], [None, None]])


def test_the_card_keeps_what_was_said_of_people(plant: Plant) -> None:
    plant.run()
    said = "process: test.pass\nsite: s\nnote: asked in writing\ndeidentified: {pool: faces are out of sight}\n"
    (plant.drop / "mapping.local.yaml").write_text(said)
    plant.run()
    people = plant.open().card.people
    assert (people.masters, people.note) == (2, "asked in writing")
    (plant.drop / "mapping.local.yaml").write_text("process: test.pass\nsite: s\n")
    assert (plant.run().added, plant.open().card.people) == ((), people)


def test_what_was_ingested_does_not_change_in_silence(plant: Plant) -> None:
    plant.run()
    before = content(plant.records)
    plant.put("w1", {"arc.csv": ARC})
    assert plant.codes() == ["JG-data-116"]
    plant.put("w1", {"arc.csv": "시간(s),용접 전류(A)\n0,1\n0.1,7.5\n"})
    assert plant.codes() == []
    plant.episodes([simple("w1", **{"상대 습도(%)": 60}), simple("w2", NAMES[1])])
    done = plant.run()
    assert [(one.code, one.where) for one in done.findings] == [("JG-data-116", "episodes.csv:2: 상대 습도(%)")]
    (plant.drop / "w2" / "arc.csv").unlink()
    (plant.drop / "w2").rmdir()  # put away after it was ingested
    plant.episodes([simple("w1")])
    assert plant.codes() == []
    assert content(plant.records) == before


def test_names_of_masters_stay_in_the_drop_folder(plant: Plant) -> None:
    plant.put("w1", {f"{NAMES[0]}_button.csv": "t,pressed\n0,1\n"})
    done = plant.run()
    assert done.masters == {name: pseudonym(KEY, name) for name in NAMES}
    assert {*done.masters.values()} == {row["master"] for row in episode_rows(plant.open()).values()}
    assert all(name.encode() not in held for held in content(plant.records).values() for name in NAMES)
    assert pseudonym(KEY, " 김  철수") == pseudonym(KEY, "김 철수") != pseudonym(bytes(32), "김 철수")
    assert pseudonym(KEY, "M-7F2A") == "M-7F2A"
    with pytest.raises(DataError, match="JG-data-127"):
        ingest.ingest(plant.drop, plant.records, bytes(32))


def test_a_key_is_made_once_beside_the_drop_and_read_by_its_owner_alone(plant: Plant) -> None:
    key = ingest.masters_key(plant.drop)
    path = plant.drop.with_name("drop.masters.key")
    assert ingest.masters_key(plant.drop) == key == path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert ingest.write_masters(plant.drop, {"김철수": "M-AAAA"}).stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"short")
    with pytest.raises(DataError, match="JG-data-127"):
        ingest.masters_key(plant.drop)


def test_records_of_somebody_else_and_of_another_process_are_left_alone(plant: Plant) -> None:
    with pytest.raises(DataError, match="JG-data-100"):
        ingest.ingest(plant.records, plant.drop, KEY)
    plant.records.mkdir()
    (plant.records / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="JG-data-002"):
        plant.run()
    assert [path.name for path in plant.records.iterdir()] == ["notes.txt"]
    with pytest.raises(DataError, match="JG-data-002"):
        drop.init_drop(plant.drop, "test.pass", "again")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("subtype", "suffix", "exact"), [("PCM_24", ".flac", True), ("PCM_U8", ".flac", True), ("FLOAT", ".wav", False)]
)
def test_sound_keeps_every_count(plant: Plant, subtype: str, suffix: str, exact: bool) -> None:
    content = wav(subtype=subtype)
    plant.put("w1", {"mic.wav": content})
    assert plant.codes() == []
    assert [path.name for path in (plant.records / "media" / "mic").iterdir()] == [f"w1{suffix}"]
    assert exact or (plant.records / "media" / "mic" / "w1.wav").read_bytes() == content
    told, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    assert (media(plant.open(), "mic", "w1") == told.T * np.float32(2)).all()


def video(frames: NDArray[np.uint8], rate: int) -> bytes:
    import av

    made = io.BytesIO()
    with av.open(made, "w", format="avi") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "gray"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())
    return made.getvalue()


def test_a_video_of_the_process_form_stays_as_it_came(plant: Plant) -> None:
    frames = np.random.default_rng(2).integers(0, 256, (7, 8, 16)).astype(np.uint8)
    content = video(frames, 5)
    plant.put("w1", {"20261121.avi": content, "heat.png": b""})
    assert plant.codes() == ["JG-data-119", "JG-data-032"]  # which of the two streams of pictures?
    (plant.drop / "w1" / "heat.png").unlink()
    (plant.drop / "w1" / "20261121.avi").rename(plant.drop / "w1" / "20261121-pool.AVI")
    assert plant.codes() == []
    assert (plant.records / "media" / "pool" / "w1.avi").read_bytes() == content
    assert (media(plant.open(), "pool", "w1") == frames[None] * np.float32(1 / 255)).all()
    assert episode_rows(plant.open())["w1"]["duration_s"] == pytest.approx(7 / 5)


def test_a_larger_and_faster_video_is_refused_or_made_pictures_of_the_process_form(plant: Plant) -> None:
    frames = np.repeat(np.arange(0, 200, 20, dtype=np.uint8), 16 * 32).reshape(10, 16, 32)
    plant.put("w1", {"pool.avi": video(frames, 10)})
    assert plant.codes() == ["JG-data-124"]
    assert plant.codes(pictures="png") == []
    held = media(plant.open(), "pool", "w1")
    assert held.shape == (1, 5, 8, 16)
    assert np.abs(held[0] - frames[::2, :8, :16] / np.float32(255)).max() < 0.01
    plant.put("w2", {"heat.avi": video(frames, 3)})
    assert plant.codes(pictures="png") == ["JG-data-116"]


def test_parts_are_of_bounded_size_and_no_episode_is_cut(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "PART_BYTES", 2000)
    monkeypatch.setattr(staging, "GROUP_ROWS", 25)
    names = [f"e{number:02d}" for number in range(12)]
    for name in (*names, "w1", "w2"):
        values = np.random.default_rng(list(name.encode())).uniform(0, 99, 10 + len(name))
        plant.put(name, {"arc.csv": "current\n" + "\n".join(map(str, values)) + "\n"})
    plant.episodes([simple(name) for name in (*names, "w1", "w2")])
    seen: list[tuple[int, int]] = []
    assert plant.codes(progress=lambda done, total: seen.append((done, total))) == []
    assert seen == [(number, 14) for number in range(1, 15)]
    files = sorted((plant.records / "streams" / "arc").iterdir())
    assert [path.name for path in files] == [f"part-{number:03d}.parquet" for number in range(len(files))]
    groups = [
        pq.ParquetFile(path).read_row_group(group, ["episode_id"])["episode_id"].to_pylist()
        for path in files
        for group in range(pq.ParquetFile(path).num_row_groups)
    ]
    assert len(files) > 1
    assert max(map(len, groups)) < 50
    assert [name for group in groups for name in dict.fromkeys(group)] == [*names, "w1", "w2"]


def test_one_run_at_a_time(plant: Plant) -> None:
    with staging.alone(plant.records), pytest.raises(DataError, match="JG-data-112"):
        plant.run()
    assert plant.run().passed


KILLED = """
import os, signal, sys
from pathlib import Path
from jangin.codec.document import read
from jangin.records.intake import drop, ingest, staging
from jangin.records.process import Process

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

made = read(Path(sys.argv[1]), Process)
drop.read_process = lambda name: made
rename, calls = Path.rename, []

def once(self, to):
    if len(calls) == 1:
        die()
    calls.append(self)
    return rename(self, to)

match sys.argv[4]:
    case "adding": staging.Staging.add = die
    case "flushing": os.fsync = die
    case "swapping": Path.rename = once
    case "clearing": staging.shutil.rmtree = die
ingest.ingest(Path(sys.argv[2]), Path(sys.argv[3]), bytes(range(32)))
"""


@pytest.mark.kill
@pytest.mark.parametrize(
    "at", ["swapping", *(pytest.param(at, marks=pytest.mark.soak) for at in ("adding", "flushing", "clearing"))]
)
def test_a_killed_run_leaves_nothing_half(plant: Plant, tmp_path: Path, at: str) -> None:
    plant.run()
    before = content(plant.records)
    plant.put("w3", {"arc.csv": ARC, "mic.wav": wav()})
    plant.episodes([simple("w1"), simple("w2", NAMES[1]), simple("w3")])
    (tmp_path / "process.yaml").write_text(json.dumps(DESCRIBED), encoding="utf-8")
    arguments = [str(tmp_path / "process.yaml"), str(plant.drop), str(plant.records), at]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    aside = tmp_path / ".records.before"
    if at != "clearing":
        assert content(aside if at == "swapping" else plant.records) == before
    assert plant.run().passed
    assert {path.name for path in tmp_path.glob(".records*")} == {".records.lock"}
    assert episode_rows(plant.open()).keys() == {"w1", "w2", "w3"}
    assert (media(plant.open(), "mic", "w3")).shape == (1, 80)
