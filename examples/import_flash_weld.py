"""Welds of a production flash-butt welder as master records: a weld is an episode, a day of production a site.

Run it: export JANGIN_CATALOGUE=examples/real_sets
        .venv/bin/python examples/import_flash_weld.py ../shared/data/flash_weld runs/flash_weld
        .venv/bin/jangin simulate examples/real_sets/flash-weld.yaml

The machine took ten samples a second, and the set has 128 of each weld, evenly spaced over its time: they stand here at
those times. `wave` is (welds, 6, 128), `length` the samples that were taken, `y` 1 where the weld was bad, `day` a date
such as 2011411, the 11th of April. Of each weld the day is known alone: all begin at midnight. Who welded is not known.
A research set hides nothing, so that everybody draws the same hold-out.
"""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jangin.records.card import Card, People
from jangin.records.checks import validate
from jangin.records.dataset import write_records
from jangin.records.process import Process, read_process

PROCESS = "welding.flash_butt"
TAKEN_HZ = 10


def import_flash_weld(raw: Path, out: Path) -> list[Path]:
    """One validated folder a day, e.g. `2011-04-11`, from `flash_weld_wave.npz`."""
    with np.load(raw / "flash_weld_wave.npz") as file:
        welds = {name: file[name] for name in file.files}
    process, folders = read_process(PROCESS), []
    for day in np.unique(welds["day"]):
        date = datetime(int(day[:4]), int(day[4]), int(day[5:]), tzinfo=UTC)
        folders.append(out / f"{date:%Y-%m-%d}")
        ours = np.flatnonzero(welds["day"] == day)
        write_welds(folders[-1], process, date, ours, {name: values[ours] for name, values in welds.items()})
        validate(folders[-1], random_bytes=np.random.default_rng(len(folders)).bytes).require(folders[-1])
    return folders


def write_welds(
    folder: Path, process: Process, date: datetime, numbers: NDArray[np.int64], welds: Mapping[str, NDArray[Any]]
) -> None:
    """One day's welds; `numbers` are their places in the set."""
    wave = welds["wave"]
    count, _, samples = wave.shape
    seconds = (welds["length"] - 1) / TAKEN_HZ
    shared = {name: getattr(process, name) for name in Card.model_fields if name in Process.model_fields}
    people = People(masters=1, note="Who welded is not known; all count as one.")
    card = Card(schema_version=1, site=folder.name, people=people, **shared)
    episodes = {
        "episode_id": [f"weld-{number:04}" for number in numbers],
        "master": ["unknown"] * count,
        "start_utc": pa.array([date] * count, pa.timestamp("us", "UTC")),
        "duration_s": seconds,
        "context.weld_time": seconds,
        "outcome.bad": welds["y"].astype(np.float64),
        "consent_id": pa.nulls(count, pa.string()),
    }
    rows = {
        "episode_id": np.repeat(episodes["episode_id"], samples),
        "t": np.linspace(0, seconds, samples, axis=1).ravel(),
        **{channel.name: wave[:, i].ravel() for i, channel in enumerate(card.streams[0].channels)},
    }
    write_records(folder, card, pa.table(episodes), {"wave": pa.table(rows)})


def main(raw: str, out: str) -> None:
    """Import, and say what became of it."""
    folders = import_flash_weld(Path(raw), Path(out))
    print(f"{len(folders)} sites in {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
