"""A small process, a card of it, and records that pass."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jangin.codec.document import parse
from jangin.records import checks
from jangin.records.card import Card
from jangin.records.dataset import write_records
from jangin.records.process import Process

DESCRIBED = {
    "process": "test.weld",
    "industry": "test",
    "streams": [
        {
            "name": "torch",
            "kind": "telemetry",
            "rate_hz": 10,
            "channels": [
                {"name": "current", "unit": "A", "range": [0, 400], "ko": "전류"},
                {"name": "voltage", "unit": "V", "range": [0, 40], "optional": True},
            ],
        }
    ],
    "context": [
        {"name": "position", "values": ["flat", "overhead"]},
        {"name": "humidity", "unit": "%", "range": [0, 100], "optional": True},
    ],
    "actions": [{"name": "speed", "unit": "mm/s", "range": [1, 20]}],
    "judgements": [{"name": "grade", "values": ["good", "poor"]}],
    "outcomes": [{"name": "defects", "unit": "1", "range": [0, 50]}],
}
EPISODES, ROWS = 40, 5


@pytest.fixture
def process() -> Process:
    return parse(DESCRIBED | {"title": {"en": "Weld", "ko": "용접"}}, Process, "process")


@pytest.fixture
def card() -> Card:
    about = {"schema_version": 1, "site": "site-0", "people": {"masters": 8, "note": "simulated"}}
    return parse(DESCRIBED | about, Card, "card")


@pytest.fixture
def episodes() -> pa.Table:
    number = np.arange(EPISODES)
    return pa.table(
        {
            "episode_id": [f"e{i:03d}" for i in number],
            "master": [f"m{i % 8}" for i in number],
            "start_utc": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * EPISODES),
            "duration_s": np.full(EPISODES, 60.0),
            "context.position": ["flat", "overhead"] * (EPISODES // 2),
            "action.speed": 1 + number % 20,
            "judgement.grade": pa.array(["good", None] * (EPISODES // 2)),
            "outcome.defects": number,
            "consent_id": pa.nulls(EPISODES),
        }
    )


@pytest.fixture
def torch_rows(episodes: pa.Table) -> pa.Table:
    return pa.table(
        {
            "episode_id": np.repeat(episodes["episode_id"].to_numpy(), ROWS),
            "t": np.tile(np.arange(ROWS) / 10, EPISODES),
            "current": pa.array(np.arange(EPISODES * ROWS, dtype=np.float32)),
        }
    )


@pytest.fixture
def known_process(process: Process, monkeypatch: pytest.MonkeyPatch) -> Process:
    """The process, as if it were installed."""
    monkeypatch.setattr(checks, "read_process", lambda name: process)
    return process


@pytest.fixture
def folder(tmp_path: Path, known_process: Process, card: Card, episodes: pa.Table, torch_rows: pa.Table) -> Path:
    """Records that were written and not yet validated."""
    path = tmp_path / "records"
    write_records(path, card, episodes, {"torch": torch_rows})
    return path
