"""One sound set, broken in one way at a time: each way has a code of its own, with a way out in both languages."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml
from numpy.random import default_rng

from jangin.codec.document import parse
from jangin.records import checks
from jangin.records.card import Card, Stream
from jangin.records.checks import Finding, validate
from jangin.records.dataset import write_records
from jangin.records.media import write_media
from jangin.records.process import Process

EPISODES, SECONDS, RATE, SOUND_HZ, FRAME_HZ = 12, 3.0, 100, 8000, 2
DESCRIBED: dict[str, Any] = {
    "process": "test.weld",
    "industry": "test",
    "streams": [
        {
            "name": "torch",
            "kind": "telemetry",
            "rate_hz": RATE,
            "channels": [
                {"name": "current", "unit": "A", "range": [0, 400]},
                {"name": "plate", "unit": "Cel", "range": [10, 120]},
                {"name": "gas", "unit": "bar", "range": [0.5, 10]},
            ],
        },
        {
            "name": "arc",
            "kind": "audio",
            "media": "sound",
            "rate_hz": SOUND_HZ,
            "channels": [{"name": "pressure", "unit": "Pa", "range": [-20, 20]}],
        },
        {
            "name": "pool",
            "kind": "image_sequence",
            "media": "pictures",
            "rate_hz": FRAME_HZ,
            "frame": {"width": 8, "height": 6},
            "channels": [{"name": "grey", "unit": "1", "range": [0, 1]}],
        },
    ],
    "context": [
        {"name": "position", "values": ["flat", "overhead"]},
        {"name": "humidity", "unit": "%", "range": [0, 100]},
    ],
    "actions": [{"name": "speed", "unit": "mm/s", "range": [1, 20]}],
    "judgements": [{"name": "grade", "values": ["good", "poor"]}, {"name": "clarity", "range": [1, 5]}],
    "outcomes": [{"name": "defects", "range": [0, 50]}],
}
ABOUT = {
    "schema_version": 1,
    "site": "site-0",
    "people": {"masters": 6, "note": "simulated", "deidentified": {"arc": "nobody speaks", "pool": "nobody is seen"}},
}
START = datetime(2026, 1, 1, tzinfo=UTC)
TORCH, EPISODE_FILE, JUDGEMENTS = "streams/torch/part-000.parquet", "episodes.parquet", "judgements.parquet"
ARC, POOL = "media/arc/e00.flac", "media/pool/e00.png"
CARD = parse(DESCRIBED | ABOUT, Card, "card")
PROCESS = parse(DESCRIBED | {"title": {"en": "Weld", "ko": "용접"}}, Process, "process")

Break = Callable[[Path], object]


def stream(name: str) -> Stream:
    found = CARD.stream(name)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def sound_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records in which there is nothing to find."""
    folder, random = tmp_path_factory.mktemp("sound") / "records", default_rng(0)
    ids, rows = [f"e{number:02d}" for number in range(EPISODES)], round(SECONDS * RATE)
    number = np.arange(EPISODES)
    episodes = pa.table(
        {
            "episode_id": ids,
            "master": [f"m{one % 6}" for one in number],
            "start_utc": pa.array([START + timedelta(hours=int(one)) for one in number]),
            "duration_s": np.full(EPISODES, SECONDS),
            "context.position": ["flat", "overhead"] * (EPISODES // 2),
            "context.humidity": 30.0 + number,
            "action.speed": 2.0 + number,
            "judgement.grade": ["good", "poor", "good"] * (EPISODES // 3),
            "judgement.clarity": 1.0 + number % 4,
            "outcome.defects": number.astype(float),
            "consent_id": ["c0"] * EPISODES,
            "outcome_utc": pa.array([START + timedelta(days=9)] * EPISODES),
        }
    )
    torch = pa.table(
        {
            "episode_id": np.repeat(ids, rows),
            "t": np.tile(np.arange(rows) / RATE, EPISODES),
            "current": random.uniform(150, 250, EPISODES * rows).astype(np.float32),
            "plate": random.uniform(40, 60, EPISODES * rows).astype(np.float32),
            "gas": random.uniform(4, 6, EPISODES * rows).astype(np.float32),
        }
    )
    arc = {one: random.integers(-9000, 9000, (1, round(SECONDS * SOUND_HZ)), np.int16) for one in ids}
    pool = {one: random.integers(0, 255, (1, round(SECONDS * FRAME_HZ), 6, 8), np.uint8) for one in ids}
    write_records(folder, CARD, episodes, {"torch": torch}, {"arc": arc, "pool": pool})
    said = [(one, judge) for one in ids for judge in ("m0", "m1", "m2")]
    grades = dict(zip(ids, ["good", "poor", "good"] * (EPISODES // 3), strict=True))
    rows_said = [(one, judge, "grade", grades[one]) for one, judge in said]
    rows_said += [(one, judge, "clarity", str(1 + int(one[1:]) % 5)) for one, judge in said]
    names = ("episode_id", "judge", "judgement", "value")
    table = pa.table({name: list(column) for name, column in zip(names, zip(*rows_said, strict=True), strict=True)})
    pq.write_table(
        table.append_column("said_utc", pa.array([START + timedelta(days=1)] * len(table))), folder / JUDGEMENTS
    )
    return folder


@pytest.fixture(scope="module", autouse=True)
def installed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "read_process", lambda name: PROCESS)
        yield


def card(change: Callable[[dict[str, Any]], object]) -> Break:
    def broken(folder: Path) -> None:
        content = yaml.safe_load((folder / "card.yaml").read_text(encoding="utf-8"))
        change(content)
        (folder / "card.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")

    return broken


def table(file: str, change: Callable[[pa.Table], pa.Table]) -> Break:
    return lambda folder: pq.write_table(change(pq.read_table(folder / file)), folder / file)


def first(file: str, column: str, value: Any, rows: int = 1) -> Break:
    """Another value in the first rows of a column."""

    def change(whole: pa.Table) -> pa.Table:
        place = whole.column_names.index(column)
        values = whole[column].to_pylist()
        values[:rows] = [value] * rows
        return whole.set_column(place, column, pa.array(values, whole.schema.field(column).type))

    return table(file, change)


def column(file: str, name: str, change: Callable[[Any], Any]) -> Break:
    """A column as numpy sees it, changed."""

    def changed(whole: pa.Table) -> pa.Table:
        values = pa.array(change(whole[name].to_numpy().copy()), whole.schema.field(name).type)
        return whole.set_column(whole.column_names.index(name), name, values)

    return table(file, changed)


def without_rows(keep: Callable[[pa.Table], Any]) -> Break:
    return table(TORCH, lambda whole: whole.filter(pa.array(keep(whole))))


def time(whole: pa.Table, low: float, high: float) -> Any:
    """The rows of the first episode from `low` to `high`, in s."""
    t, ours = whole["t"].to_numpy(), pc.equal(whole["episode_id"], "e00").to_numpy()
    return ours & (t >= low) & (t < high)


def media(file: str, counts: Any, **other: Any) -> Break:
    def broken(folder: Path) -> None:
        (folder / file).unlink()
        write_media(folder / file, stream(file.split("/")[1]).model_copy(update=other), counts)

    return broken


LOUD = np.clip(default_rng(1).normal(0, 30000, (1, round(SECONDS * SOUND_HZ))), -(2**15), 2**15 - 1).astype(np.int16)
QUIET = LOUD // 8
STILL = np.full((1, round(SECONDS * FRAME_HZ), 6, 8), 7, np.uint8)
FEWER = default_rng(2).integers(0, 255, (1, 2, 6, 8), np.uint8)
ODD = np.where(np.arange(6 * EPISODES) % 3 == np.arange(6 * EPISODES) // 3 % 3, "good", "poor")
"""In each episode another one of three judges finds it good, alone."""

BROKEN: dict[str, Break] = {
    "JG-data-003": table(EPISODE_FILE, lambda t: t.drop_columns("action.speed")),
    "JG-data-011": lambda folder: (folder / EPISODE_FILE).unlink(),
    "JG-data-012": lambda folder: (folder / TORCH).write_bytes(b"PAR1, or so"),
    "JG-data-013": lambda folder: (folder / TORCH).write_bytes(b""),
    "JG-data-014": lambda folder: (folder / "note.txt").write_bytes("용접".encode("cp949")),
    "JG-data-015": lambda folder: shutil.copy(folder / TORCH, folder / "streams/torch/part-001.parquet"),
    "JG-data-016": lambda folder: shutil.rmtree(folder / "streams"),
    "JG-data-017": lambda folder: [
        card(lambda c: c["context"].pop(0))(folder),
        table(EPISODE_FILE, lambda t: t.drop_columns("context.position"))(folder),
    ],
    "JG-data-018": card(lambda c: c["actions"][0].update(unit="mm/min")),
    "JG-data-020": table(EPISODE_FILE, lambda t: t.set_column(3, "duration_s", pa.array(["3"] * len(t)))),
    "JG-data-021": first(EPISODE_FILE, "context.position", "sideways"),
    "JG-data-022": table(EPISODE_FILE, lambda t: pa.concat_tables([t, t.slice(0, 1)])),
    "JG-data-023": first(TORCH, "t", None),
    "JG-data-024": first(JUDGEMENTS, "episode_id", "nobody"),
    "JG-data-025": first(TORCH, "current", float("inf")),
    "JG-data-026": first(EPISODE_FILE, "duration_s", -1.0),
    "JG-data-027": first(EPISODE_FILE, "action.speed", 99.0),
    "JG-data-028": table(EPISODE_FILE, lambda t: t.append_column("context.humdity", t["context.humidity"])),
    "JG-data-032": lambda folder: (folder / ARC).write_bytes(b"fLaC, or so"),
    "JG-data-033": media(ARC, QUIET[:, ::2], rate_hz=SOUND_HZ / 2),
    "JG-data-130": column(TORCH, "t", lambda t: np.where(np.arange(len(t)) == 100, 0.5, t)),
    "JG-data-131": without_rows(lambda t: ~time(t, 1.0, 1.5)),
    "JG-data-132": column(TORCH, "t", lambda t: np.where(np.arange(len(t)) < 300, t * 1.015, t)),
    "JG-data-133": first(TORCH, "current", 200.0, 300),
    "JG-data-134": first(TORCH, "current", 400.0, 30),
    "JG-data-135": first(TORCH, "current", 500.0, 3),
    "JG-data-136": first(TORCH, "current", None, 30),
    "JG-data-137": without_rows(lambda t: ~time(t, 2.0, 9.0)),
    "JG-data-138": lambda folder: (folder / ARC).unlink(),
    "JG-data-139": column(TORCH, "plate", lambda x: x + np.float32(273.15)),
    "JG-data-140": media(ARC, LOUD),
    "JG-data-141": media(ARC, np.ones((1, round(SECONDS * SOUND_HZ)), np.int16)),
    "JG-data-142": media(POOL, STILL),
    "JG-data-143": media(POOL, FEWER),
    "JG-data-144": column(JUDGEMENTS, "value", lambda x: np.where(x == "3", "clear", x)),
    "JG-data-145": column(EPISODE_FILE, "outcome.defects", lambda x: np.ones_like(x)),
    "JG-data-146": column(JUDGEMENTS, "value", lambda x: np.where(np.isin(x, ["good", "poor"]), ODD, x)),
    "JG-data-147": first(JUDGEMENTS, "said_utc", START + timedelta(days=30)),
    "JG-data-148": table(JUDGEMENTS, lambda t: pa.concat_tables([t, t.slice(0, 1)])),
    "JG-data-149": first(JUDGEMENTS, "judgement", "grad"),
    "JG-data-150": first(EPISODE_FILE, "consent_id", None),
    "JG-data-154": card(lambda c: c["people"]["deidentified"].pop("pool")),
    "JG-data-155": card(lambda c: c["people"]["deidentified"].pop("arc")),
    "JG-data-156": card(lambda c: c["people"].update(note=r"from C:\Users\kim\weld")),
    "JG-data-157": card(lambda c: c["people"].update(note="welder S/N: W-20391, 010-1234-5678")),
    "JG-data-158": first(EPISODE_FILE, "master", "김철수"),
    "JG-data-159": column(EPISODE_FILE, "master", lambda x: np.where(x == "m5", "m1", np.where(x == "m4", "m2", x))),
    "JG-data-160": lambda folder: (folder / "photo.PNG").write_bytes(b"a picture"),
    "JG-data-161": lambda folder: soundfile.write(folder / "media/arc/e00.wav", QUIET[0], SOUND_HZ),
}


def codes(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.code for finding in findings}


def test_nothing_is_found_in_a_sound_set(sound_set: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sound_set, tmp_path / "records"))
    report = validate(folder, level=4)
    assert report.findings == ()
    assert [(one.judgement, one.value, one.judges) for one in report.agreement] == [("grade", 1, 3), ("clarity", 1, 3)]


@pytest.mark.parametrize("code", BROKEN)
def test_each_break_has_a_code_of_its_own(sound_set: Path, tmp_path: Path, code: str) -> None:
    folder = Path(shutil.copytree(sound_set, tmp_path / "records"))
    BROKEN[code](folder)
    report = validate(folder, level=4)
    assert codes(report.findings) == {code}
    for finding in report.findings:
        for lang in ("en", "ko"):
            assert all(len(finding.text(field, lang)) > 5 for field in ("what", "why", "hint"))
        assert finding.text("hint", "en") != finding.text("hint", "ko")
    assert (folder / "manifest.json").exists() == report.passed
