"""C-MAPSS turbofan engines as master records: an engine is an episode, a flight cycle a sample, an operator a site.

Run it: export JANGIN_CATALOGUE=examples/real_sets
        .venv/bin/python examples/import_cmapss.py ../shared/data/cmapss runs/cmapss [FLEET ...]
        .venv/bin/jangin simulate examples/real_sets/cmapss.yaml

The 709 engines that ran until they failed, of four fleets with five operators each (engine number modulo 5). A second
of the records is one cycle. The target, in a stream of its own, is how many cycles an engine has left, at most 125.
Nobody decided anything: `master` is the operator. The set has no dates; 2008 is the year in which it was published. A
research set hides nothing, so that everybody draws the same hold-out.
"""

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jangin.records.card import Card, People
from jangin.records.checks import validate
from jangin.records.dataset import write_records
from jangin.records.process import Process, read_process

PROCESS = "aviation.turbofan_wear"
FLEETS, OPERATORS, LONGEST = (1, 2, 3, 4), 5, 125
COLUMNS = [*(f"setting{i}" for i in (1, 2, 3)), *(f"s{i}" for i in range(1, 22))]
"""The raw columns in the order of the channels of `cycles`."""
TELLING = [f"s{i}" for i in (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)]
"""The columns of sensors that change as an engine wears, in the order of the channels of `beside_usual`."""


def import_cmapss(raw: Path, out: Path, fleets: Iterable[int] = FLEETS) -> list[Path]:
    """One validated folder an operator, `FD001-0` to `FD004-4`, from `train_fd001.parquet` to `train_fd004.parquet`."""
    process, folders = read_process(PROCESS), []
    for fleet in fleets:
        flown = pq.read_table(raw / f"train_fd{fleet:03}.parquet")
        flown = flown.sort_by([("id", "ascending"), ("cycle", "ascending")])
        usual, of_operator = beside_usual(flown), flown["id"].to_numpy() % OPERATORS
        for operator in range(OPERATORS):
            folder, ours = out / f"FD{fleet:03}-{operator}", of_operator == operator
            write_engines(folder, process, flown.filter(pa.array(ours)), usual[ours])
            public = np.random.default_rng(OPERATORS * fleet + operator).bytes
            validate(folder, random_bytes=public).require(folder)
            folders.append(folder)
    return folders


def beside_usual(flown: pa.Table) -> NDArray[np.float32]:
    """Standard scores of the sensors that tell of wear at each of a fleet's operating points, (cycles, 14)."""
    values = np.stack([flown[column].to_numpy() for column in TELLING], axis=1)
    scores = np.zeros_like(values)
    several = (
        flown["setting3"].to_numpy().any()
    )  # the throttle of fleets that fly at six points; the others' is constant
    points = np.round(8.4 * several * flown["setting1"].to_numpy())  # altitudes of 0 to 42,000 feet, told apart
    for point in np.unique(points):
        ours = points == point
        deviation = values[ours].std(axis=0)
        scores[ours] = (values[ours] - values[ours].mean(axis=0)) / np.where(deviation > 1e-9, deviation, np.inf)
    return scores.astype(np.float32)


def write_engines(folder: Path, process: Process, flown: pa.Table, usual: NDArray[np.float32]) -> None:
    """One operator's engines; `flown` and `usual` have one row a cycle, sorted by engine and cycle."""
    engine, cycle = flown["id"].to_numpy(), flown["cycle"].to_numpy()
    numbers, cycles = np.unique(engine, return_counts=True)
    shared = {name: getattr(process, name) for name in Card.model_fields if name in Process.model_fields}
    people = People(masters=1, note="No person is in these records; the master is the operator.")
    card = Card(schema_version=1, site=folder.name, people=people, **shared)
    episodes = {
        "episode_id": [f"{folder.name}-engine-{number}" for number in numbers],
        "master": [f"operator-{folder.name}"] * len(numbers),
        "start_utc": pa.array([datetime(2008, 1, 1, tzinfo=UTC)] * len(numbers), pa.timestamp("us", "UTC")),
        "duration_s": cycles.astype(np.float64),
        "consent_id": pa.nulls(len(numbers), pa.string()),
    }
    where = {"episode_id": np.repeat(episodes["episode_id"], cycles), "t": cycle - 1.0}
    sensors = {
        channel.name: flown[column].cast(pa.float32())
        for channel, column in zip(card.streams[0].channels, COLUMNS, strict=True)
    }
    names = [channel.name for channel in card.streams[1].channels]
    remaining = np.minimum(np.repeat(cycles, cycles) - cycle, LONGEST).astype(np.float32)
    write_records(
        folder,
        card,
        pa.table(episodes),
        {
            "cycles": pa.table(where | sensors),
            "beside_usual": pa.table(where | dict(zip(names, usual.T, strict=True))),
            "life": pa.table(where | {"remaining": remaining}),
        },
    )


def main(raw: str, out: str, *fleets: str) -> None:
    """Import these fleets, or all, and say what became of it."""
    folders = import_cmapss(Path(raw), Path(out), map(int, fleets or FLEETS))
    print(f"{len(folders)} sites in {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
