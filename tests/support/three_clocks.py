"""Records of one event, an arc that strikes at random, by three recorders with clocks of their own."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from jangin.codec.document import parse
from jangin.records.card import Card
from jangin.records.dataset import write_records

SECONDS, SOUND_HZ, ARC_HZ, FRAMES_HZ = 6.0, 2000, 100, 20
CARD = {
    "schema_version": 1,
    "process": "test.clocks",
    "industry": "test",
    "site": "site-0",
    "people": {"masters": 2},
    "streams": [
        {"name": "arc", "kind": "telemetry", "rate_hz": ARC_HZ,
         "channels": [{"name": "current", "unit": "A", "range": [0, 400]},
                      {"name": "voltage", "unit": "V", "range": [0, 40], "optional": True}]},
        {"name": "sound", "kind": "audio", "rate_hz": SOUND_HZ, "media": "sound",
         "channels": [{"name": "microphone", "unit": "Pa", "range": [-20, 20]}]},
        {"name": "pool", "kind": "image_sequence", "rate_hz": FRAMES_HZ, "media": "pictures",
         "frame": {"width": 4, "height": 3}, "channels": [{"name": "grey", "unit": "1", "range": [0, 1]}]},
    ],
    "context": [{"name": "lot", "values": ["A", "B"], "optional": True}],
    "actions": [{"name": "filler", "unit": "mm/s", "range": [0, 20]}],
    "outcomes": [{"name": "porosity", "unit": "%", "range": [0, 10], "optional": True, "ko": "기공률"},
                 {"name": "grade", "values": ["good", "poor"], "optional": True}],
}  # fmt: skip


def burning(random: np.random.Generator, t: np.ndarray) -> np.ndarray:
    """An arc that is struck and broken off at random: 0 or 1 at each of these times."""
    edges = np.cumsum(random.exponential(0.4, 100)) - 5.0
    return (np.searchsorted(edges, t) % 2).astype(np.float64)


def write(folder: Path, episodes: int, arc_late: float = 0.0, frames_late: float = 0.0, seed: int = 0) -> Path:
    """Sound's clock is right; the arc's and the camera's are late by so many seconds."""
    random = np.random.default_rng(seed)
    ids = [f"weld-{number:02d}" for number in range(episodes)]
    arc, sound, pool = [], {}, {}
    for episode in ids:
        state = int(random.integers(2**31))

        def seen(t: np.ndarray, state: int = state) -> np.ndarray:
            return burning(np.random.default_rng(state), t)

        t = np.arange(round(SECONDS * ARC_HZ)) / ARC_HZ
        current = 200 * seen(t - arc_late) + random.normal(0, 5, len(t))
        arc.append(pa.table({"episode_id": [episode] * len(t), "t": t, "current": current.astype(np.float32)}))
        heard = np.arange(round(SECONDS * SOUND_HZ)) / SOUND_HZ
        noise = random.normal(0, 0.02 + 0.2 * seen(heard))
        sound[episode] = np.round(noise.clip(-1, 1) * 32767).astype(np.int16)[None]
        frames = seen(np.arange(round(SECONDS * FRAMES_HZ)) / FRAMES_HZ - frames_late)
        pool[episode] = np.broadcast_to(
            (40 + 200 * frames).astype(np.uint8)[None, :, None, None], (1, len(frames), 3, 4)
        )
    table = pa.table(
        {
            "episode_id": ids,
            "master": [f"M-{number % 2}" for number in range(episodes)],
            "start_utc": pa.array(
                [1_790_000_000_000_000 + 600_000_000 * n for n in range(episodes)], pa.timestamp("us", "UTC")
            ),
            "duration_s": np.full(episodes, SECONDS),
            "context.lot": ["AB"[number % 2] for number in range(episodes)],
            "action.filler": np.linspace(5, 15, episodes),
            "outcome.porosity": pa.nulls(episodes, pa.float64()),
            "consent_id": pa.nulls(episodes, pa.string()),
        }
    )
    write_records(
        folder, parse(CARD, Card, "card"), table, {"arc": pa.concat_tables(arc)}, {"sound": sound, "pool": pool}
    )
    return folder
