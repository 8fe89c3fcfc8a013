"""Checking records: beside a plain read of the same files by pyarrow, and again when nothing has changed.

Usage: python benchmarks/records.py [--json] [--quick]

The records are `steel.bof_blow` with one more stream, as a firm's own recorder writes it: a part file an episode, 60 s
of nine channels at 1 kHz (60,000 rows); for the second row, 1,000 episodes at 100 Hz. Every level is checked, the
content of each episode is hashed for the ledger and the manifest is written. The two are measured in turn, and the
best of each counts.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from jangin.records.checks import validate
from jangin.records.generate import generate

SECONDS, CHANNELS = 60, 9
TIMES = 5


def records(folder: Path, episodes: int, rate_hz: int) -> Path:
    """Records of one site whose stream `recorder` has so many samples a second."""
    (site,) = generate("steel.bof_blow", folder, sites=1, masters=8, episodes=episodes, seed=0)
    content = yaml.safe_load((site / "card.yaml").read_text(encoding="utf-8"))
    channels = [{"name": f"c{number}", "unit": "A", "range": [-400, 400]} for number in range(CHANNELS)]
    content["streams"].append({"name": "recorder", "kind": "telemetry", "rate_hz": rate_hz, "channels": channels})
    (site / "card.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    parts, random = site / "streams" / "recorder", np.random.default_rng(0)
    parts.mkdir()
    ids, t = pq.read_table(site / "episodes.parquet")["episode_id"].to_pylist(), np.arange(SECONDS * rate_hz) / rate_hz
    slow = 100 * np.sin(np.outer(np.arange(1, CHANNELS + 1), t))
    for number, episode in enumerate(ids):
        values = (slow + random.normal(0, 1, slow.shape)).round(1).astype(np.float32)
        named = {f"c{channel}": row for channel, row in enumerate(values)}
        pq.write_table(
            pa.table({"episode_id": [episode] * len(t), "t": t, **named}), parts / f"part-{number:05d}.parquet"
        )
    return site


def read(site: Path) -> float:
    """Seconds in which pyarrow reads every file of rows."""
    began = time.perf_counter()
    for file in sorted(site.rglob("*.parquet")):
        pq.read_table(file)
    return time.perf_counter() - began


def check(site: Path) -> float:
    """Seconds in which all levels are checked of a folder that nobody knows."""
    for name in ("manifest.json", ".checked.json", "holdout.key"):
        (site / name).unlink(missing_ok=True)
    began = time.perf_counter()
    validate(site, level=4).require(site)
    return time.perf_counter() - began


def again(site: Path) -> tuple[float, float]:
    """Seconds of `jangin data validate` on a folder that was checked before, with the start of Python; those of CPU."""
    began, used = time.perf_counter(), os.times()
    command = [sys.executable, "-m", "jangin", "data", "validate", str(site)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    now = os.times()
    cpu = now.children_user + now.children_system - used.children_user - used.children_system
    return time.perf_counter() - began, cpu


def row(name: str, figure: float, beside: dict[str, float], ratio: float, goal: str, *, holds: bool) -> None:
    rounded = {key: round(value, 3) for key, value in beside.items()}
    content = {"name": name, "figure": round(figure, 3), "beside": rounded, "ratio": round(ratio, 3)}
    print(json.dumps({**content, "goal": goal, "holds": holds}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only JSON lines (they are the only form)")
    parser.add_argument("--quick", action="store_true", help="a few seconds, few episodes: keeps this script alive")
    arguments = parser.parse_args()
    few, many, times = (4, 20, 1) if arguments.quick else (40, 1000, TIMES)
    with TemporaryDirectory(prefix="jangin-") as folder:
        site = records(Path(folder) / "few", few, 1000)
        turns = [(read(site), check(site)) for _ in range(times)]
        plain, whole = (1000 * min(one) / few for one in zip(*turns, strict=True))
        row(
            "records: validate 0-4, 60,000x9, ms an episode",
            whole,
            {"pyarrow reads": plain},
            plain / whole,
            ">= 0.3 of the speed",
            holds=plain / whole >= 0.3,
        )
        site = records(Path(folder) / "many", many, 100)
        first = check(site)
        seconds, cpu = (min(one) for one in zip(*(again(site) for _ in range(times)), strict=True))
        row(
            f"records: validate {many} unchanged episodes, command, seconds",
            seconds,
            {"its CPU": cpu, "first time, in process": first},
            seconds / first,
            "<= 2 s",
            holds=seconds <= 2,
        )


if __name__ == "__main__":
    main()
