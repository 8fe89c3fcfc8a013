"""Laws of the catalogue: every process can be recorded and every line learned from, and adding one takes a file."""

from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from jangin.codec.document import parse
from jangin.errors import DataError, PlanError
from jangin.models.cut import cut
from jangin.models.lines import input_range, input_shape, line_names, outputs, read_line
from jangin.models.networks import build
from jangin.records.card import Card, Channel, Field, People, Stream
from jangin.records.catalogue import FOLDER_VARIABLE
from jangin.records.checks import validate
from jangin.records.dataset import Records, write_records
from jangin.records.process import INDUSTRIES, Process, by_priority, process_names, read_process

EPISODES, SAMPLES = 4, 12
ADDED = {
    "process": "bread.knead",
    "industry": "bakeries",
    "title": {"en": "Kneading of dough", "ko": "반죽 치대기"},
    "streams": [
        {
            "name": "arm",
            "kind": "telemetry",
            "rate_hz": 10,
            "channels": [{"name": "torque", "unit": "Nm", "range": [0, 200]}],
        }
    ],
    "context": [{"name": "humidity", "unit": "%", "range": [0, 100]}],
    "actions": [{"name": "water", "unit": "L", "range": [0, 5]}],
}
LINE = {
    "line": "own-knead",
    "process": "bread.knead",
    "model": {"name": "linear"},
    "task": "regression",
    "inputs": [{"channel": "arm.torque", "reduce": ["mean"]}],
    "context": ["humidity"],
    "targets": [{"action": "water", "range": [0, 5]}],
}


def lines_of(process: str) -> list[str]:
    return [name for name in line_names() if read_line(name).process == process]


def within(rng: Generator, described: Channel | Field, number: int) -> pa.Array:
    """Values that the card allows; every second is missing where it may."""
    gone = np.arange(number) % 2 == 1 if described.optional else None
    if isinstance(described, Field) and described.values:
        words = np.array(described.values)[np.arange(number) % len(described.values)]
        return pa.array(words.tolist(), mask=gone)
    low, high = described.range or (0, 1)
    values = rng.uniform(low, high, number)
    whole = isinstance(described, Field) and described.range == (0, 1)  # a yes or no is learnt as a class
    return pa.array(np.round(values) if whole else values, mask=gone)


def rows_of(rng: Generator, stream: Stream, duration_s: float) -> pa.Table:
    ids = np.repeat([f"e{i}" for i in range(EPISODES)], SAMPLES)
    columns = {channel.name: within(rng, channel, len(ids)).cast(pa.float32()) for channel in stream.channels}
    times = np.tile(np.linspace(0, duration_s, SAMPLES), EPISODES)
    return pa.table({"episode_id": ids, "t": times} | columns)


def counts_of(stream: Stream, number: int, samples: int) -> NDArray[np.int16] | NDArray[np.uint8]:
    """Media that differ from episode to episode."""
    if stream.frame is None:
        return np.full((len(stream.channels), samples), number, dtype=np.int16)
    return np.full((len(stream.channels), samples, stream.frame.height, stream.frame.width), number, dtype=np.uint8)


def record(process: Process, folder: Path) -> None:
    """A tiny set of a process: noise within its ranges, in all its streams, half of what is optional left out."""
    rng, ids = default_rng(7), [f"e{i}" for i in range(EPISODES)]
    inputs = [entry for name in lines_of(process.process) for entry in read_line(name).inputs]
    duration_s = max((entry.window_s or 0.0 for entry in inputs), default=0.0) * 1.5 or 10.0
    shared = {name: getattr(process, name) for name in Card.model_fields if name in Process.model_fields}
    card = Card(schema_version=1, site="site-0", people=People(masters=2), **shared)
    episodes = {
        "episode_id": ids,
        "master": [f"m{i % 2}" for i in range(EPISODES)],
        "start_utc": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * EPISODES),
        "duration_s": np.full(EPISODES, duration_s),
        **{name: within(rng, field, EPISODES) for name, field in card.columns().items()},
        "consent_id": pa.nulls(EPISODES),
    }
    rows = {one.name: rows_of(rng, one, duration_s) for one in card.streams if not one.media}
    read = {getattr(entry, "stream", "") for entry in inputs}  # whole where a line reads it, else as short as may be
    media = {
        one.name: {
            episode: counts_of(one, number, round(duration_s * one.rate_hz) if one.name in read else 1)
            for number, episode in enumerate(ids)
        }
        for one in card.streams
        if one.media
    }
    write_records(folder, card, pa.table(episodes), rows, media)


def own(folder: Path, processes: dict[str, object], lines: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of one's own that stands in the environment."""
    for kind, entries in (("processes", processes), ("lines", lines)):
        (folder / kind).mkdir(parents=True)
        for name, content in entries.items():
            (folder / kind / f"{name}.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))


def test_nine_industries_have_processes_and_each_has_a_line() -> None:
    assert {read_process(name).industry for name in process_names()} == set(INDUSTRIES)
    assert {read_process(read_line(name).process).industry for name in line_names()} == set(INDUSTRIES)


@pytest.mark.parametrize("name", process_names())
def test_a_process_can_be_recorded_and_its_lines_learnt(name: str, tmp_path: Path) -> None:
    process = read_process(name)
    record(process, tmp_path / "records")
    report = validate(tmp_path / "records")
    assert [finding.text("what", "en") for finding in report.findings] == []
    assert report.episodes == EPISODES
    for line in map(read_line, lines_of(name)):
        examples = cut(line, Records.open(tmp_path / "records").train(), process, "episode")
        assert examples.inputs.shape[1:] == input_shape(line, process)
        limits, axes = input_range(line, process), (0, *range(2, examples.inputs.ndim))
        places = 1 if limits.places is None else limits.places
        low, high = (np.repeat(ends, places) for ends in (limits.low, limits.high))
        slack = 1e-5 * (high - low)
        assert (examples.inputs.min(axes) >= low - slack).all()
        assert (examples.inputs.max(axes) <= high + slack).all()
        assert sum(one.numel() for one in build(line.model, input_shape(line, process), outputs(line), 0).parameters())


@pytest.mark.parametrize("name", process_names())
def test_a_process_speaks_both_languages_names_its_sources_and_is_judged(name: str) -> None:
    process = read_process(name)
    named = [*process.columns().values(), *(channel for stream in process.streams for channel in stream.channels)]
    assert [one.name for one in named if not one.ko] == []
    assert process.priority
    assert process.why
    assert process.episode
    assert process.sources
    assert process.actions
    assert process.outcomes


@pytest.mark.parametrize("name", [name for name in process_names() if name.endswith("_weld")])
def test_a_weld_knows_its_air_and_its_lots(name: str) -> None:
    demanded = {field.name for field in read_process(name).context if not field.optional}
    assert demanded >= {"humidity", "ambient_temperature"}
    assert [field for field in demanded if field.endswith("_lot")]


def test_high_risk_or_acute_shortage_comes_first_then_the_other_of_the_two() -> None:
    base = parse(ADDED, Process, "process")
    judged = [
        base.model_copy(update={"safety_risk": risk, "labour_shortage": shortage, "process": f"{risk}.{shortage}"})
        for risk, shortage in product(range(1, 6), repeat=2)
    ]
    for one, other in product(judged, repeat=2):
        scores = [sorted((p.safety_risk or 0, p.labour_shortage or 0), reverse=True) for p in (one, other)]
        if scores[0] > scores[1]:
            assert by_priority(one) < by_priority(other)
    for lacking in ({"safety_risk": 5}, {"labour_shortage": 5}):
        unjudged = base.model_copy(update=lacking)
        assert unjudged.priority is None
        assert max([*judged, unjudged], key=by_priority) is unjudged


@pytest.mark.parametrize("score", [0, 6, 2.5])
def test_a_score_is_a_whole_number_from_one_to_five(score: float) -> None:
    with pytest.raises(PlanError, match=r"JG-plan-003.*safety_risk"):
        parse({**ADDED, "safety_risk": score}, Process, "process")


def test_adding_a_process_and_its_line_takes_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = process_names()
    own(tmp_path / "own", {"bread.knead": ADDED}, {"own-knead": LINE}, monkeypatch)
    assert process_names() == sorted([*installed, "bread.knead"])
    assert lines_of("bread.knead") == ["own-knead"]
    process = read_process("bread.knead")
    record(process, tmp_path / "records")
    assert validate(tmp_path / "records").passed
    examples = cut(read_line("own-knead"), Records.open(tmp_path / "records").train(), process, "episode")
    assert examples.inputs.shape[1] == 2
    monkeypatch.delenv(FOLDER_VARIABLE)
    assert process_names() == installed


def test_what_is_installed_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own(tmp_path, {"steel.bof_blow": ADDED | {"process": "steel.bof_blow"}}, {}, monkeypatch)
    for name in ("steel.bof_blow", "steel.arc_furnace"):
        with pytest.raises(DataError, match=r"JG-data-201.*steel\.bof_blow"):
            read_process(name)


def test_an_added_file_is_named_as_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own(tmp_path, {"bread.bake": ADDED}, {"own-bake": LINE}, monkeypatch)
    with pytest.raises(DataError, match=r"JG-data-202.*bread\.knead"):
        read_process("bread.bake")
    with pytest.raises(DataError, match=r"JG-data-202.*own-knead"):
        read_line("own-bake")


def test_a_folder_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"JG-data-200.*nowhere"):
        process_names()
