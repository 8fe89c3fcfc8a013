"""The law of large records: what a worker could not hold it trains on all the same, within its memory.

A worker's own footprint is what it ever held after the same orders on a few rows. Its allowance is what the cap leaves
above that.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jangin.client.workbench import Done, Job, Workbench, held_bytes
from jangin.codec import cbor
from jangin.errors import SiteError
from jangin.models.cut import cut
from jangin.models.lines import read_line
from jangin.plan.messages import Kind, Order, order_body, read_reply
from jangin.plan.training_plan import TrainingPlan
from jangin.records.card import Card
from jangin.records.dataset import Records, write_records
from jangin.records.manifest import Manifest, Validation, described_files, file_digest, open_validated, write_manifest
from jangin.records.process import read_process
from jangin.strategies import build
from jangin.training.price import price
from jangin.training.recipe import Recipe
from jangin.training.site import Site

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says what a process held")

LONG_SECONDS = 300.0
MIB = 2**20
EPISODE_SECONDS, WINDOW_SECONDS, RATE_HZ = 640, 32, 4
HELD_OUT = 2
LINE = f"""
line: flame-windows
process: steel.bof_blow
model: {{name: linear}}
task: regression
inputs: [{{stream: flame, rate_hz: {RATE_HZ}, window_s: {WINDOW_SECONDS}, hop_s: {WINDOW_SECONDS}}}]
targets: [{{action: oxygen_volume, range: [0, 3500]}}]
"""
PRIVATE: dict[str, Any] = {"epsilon": 8.0, "delta": 1e-3, "nominal_units": 40, "windows_per_episode": 4}

Make = Callable[[int], Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, made_records: Path) -> Make:
    """Records of so many episodes, each of `EPISODE_SECONDS`, two of them held out; the flame is noise."""

    def made(episodes: int) -> Path:
        folder, rng = tmp_path_factory.mktemp("large") / "site-0", np.random.default_rng(episodes)
        card = Card.model_validate_json(Records.open(made_records).card.model_dump_json())
        ids, flame, rows = [f"e{number:05}" for number in range(episodes)], card.stream("flame"), EPISODE_SECONDS * 4
        assert flame is not None
        optional = {name: pa.nulls(episodes) for name in card.columns()}
        known = {"episode_id": ids, "master": ["m"] * episodes, "duration_s": [float(EPISODE_SECONDS)] * episodes}
        known |= {"start_utc": pa.nulls(episodes), "consent_id": pa.nulls(episodes)}
        target = {"action.oxygen_volume": rng.uniform(0, 3500, episodes)}
        write_records(folder, card, pa.table(optional | known | target), {})
        part = folder / "streams" / "flame" / "part-000.parquet"
        part.parent.mkdir(parents=True)
        names = [channel.name for channel in flame.channels]
        schema = pa.schema([("episode_id", pa.string()), ("t", pa.float64()), *((one, pa.float32()) for one in names)])
        with pq.ParquetWriter(part, schema, compression="none", use_dictionary=["episode_id"]) as writer:
            for first in range(0, episodes, 4):
                some = ids[first : first + 4]
                values = {name: rng.random(len(some) * rows, np.float32) for name in names}
                t = np.tile(np.arange(rows) / RATE_HZ, len(some))
                writer.write_table(pa.table({"episode_id": np.repeat(some, rows), "t": t} | values, schema=schema))
        write_manifest(
            folder,
            Manifest(
                schema_version=1,
                tool_version="0",
                files={name: file_digest(folder / name) for name in described_files(folder)},
                validation=Validation(level=1, findings=0, passed=True),
                unit="episode",
                train=tuple(ids[:-HELD_OUT]),
                holdout=tuple(ids[-HELD_OUT:]),
                contents={one: {one: hashlib.sha256(one.encode()).hexdigest()} for one in ids},
                masters=dict.fromkeys(ids, "m"),
            ),
        )
        return folder

    return made


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("line") / "flame-windows.yaml"
    path.write_text(LINE)
    return str(path)


def job(plan: TrainingPlan, order: Order, records: Path) -> Job:
    manifest = open_validated(records)[1]
    side = manifest.holdout if order.kind is Kind.EVALUATE else manifest.train
    return Job(
        site="site-0",
        plan=cbor.encode(plan.model_dump(mode="json")),
        campaign=plan.hash,
        records=records,
        episodes={name: manifest.contents[name][name] for name in side},
        masters={"m"},
        cost=price(plan),
        own=None,
        kind=order.kind.value,
        round=order.round,
        body=order_body(order, LONG_SECONDS),
        vector=order.vector if order.vector.size else None,
    )


def orders(plan: TrainingPlan) -> list[Order]:
    """One of each kind that the plan has."""
    recipe = Recipe.of(plan)
    model, columns = recipe.learner().model, len(recipe.public_scaling().mean)
    scaling = (np.full(columns, 0.1), np.full(columns, 0.5)) if recipe.learns_scaling else None
    scale = Order(Kind.SCALE, 0, np.empty(0, np.float32))
    train = Order(Kind.TRAIN, 1, model.read()[model.layout.shared], scaling)
    judge = [replace(train, kind=Kind.EVALUATE)] if plan.evaluate else []
    return [*([scale] if recipe.learns_scaling else []), train, *judge]


@contextmanager
def a_bench(cap: int | None, aside: Path | None) -> Iterator[Workbench]:
    bench = Workbench(1, cap, aside)
    try:
        yield bench
    finally:
        bench.stop()


def answers(plan: TrainingPlan, records: Path, cap: int | None, aside: Path | None) -> tuple[list[Done], int]:
    """What a worker under this cap answers to every order, and the most that it ever held."""
    with a_bench(cap, aside) as bench:
        found = [bench.work(job(plan, order, records), LONG_SECONDS) for order in orders(plan)]
        assert bench.pid is not None
        peak = held_bytes(bench.pid)
        assert peak is not None
        done = [one for one in found if isinstance(one, Done)]
        assert len(done) == len(found)
        return done, peak


def test_a_worker_trains_within_its_memory_on_what_it_could_not_hold(
    make: Make, line: str, plan: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    wanted = plan(model_line=line, strategy={"batch": 16, "local_steps": 5})
    records = make(50)
    with a_bench(None, None) as bench:
        idle = bench.rehearse(LONG_SECONDS)
        assert idle is not None
        bench._memory_bytes = cap = idle + 48 * MIB
        with pytest.raises(SiteError) as ended:
            bench.work(job(wanted, orders(wanted)[0], records), LONG_SECONDS)
    assert ended.value.code == "JG-site-387"
    done, peak = answers(wanted, records, cap, tmp_path)
    assert peak <= cap
    assert list(tmp_path.iterdir()) == []
    recipe, read = Recipe.of(wanted), read_line(line)
    train = cut(read, Records.open(records).train(), read_process(read.process), "episode")
    held = Site("site-0", train, recipe.public_scaling(), recipe.learner(), wanted.seed)
    for order, one in zip(orders(wanted), done, strict=True):
        reply = read_reply(order.kind, "site-0", one.body, one.vector).vector
        expected = held.answer(order, wanted.strategy, build(wanted.strategy).local).vector
        assert expected is not None
        assert reply is not None
        assert reply.tobytes() == expected.tobytes()


@pytest.mark.soak
@pytest.mark.parametrize("privacy", [{"epsilon": "none"}, PRIVATE], ids=["none", "m1"])
def test_records_twenty_times_larger_than_the_allowance_train_within_the_cap(
    make: Make,
    line: str,
    plan: Callable[..., TrainingPlan],
    tmp_path: Path,
    privacy: dict[str, Any],
) -> None:
    allowance = 24 * MIB
    of_one = EPISODE_SECONDS // WINDOW_SECONDS * WINDOW_SECONDS * RATE_HZ * 20 * 4
    episodes = 20 * allowance // of_one + 1 + HELD_OUT
    wanted = plan(model_line=line, strategy={"batch": 16, "local_steps": 20, "lr": 1e-4}, privacy=privacy)
    _, footprint = answers(wanted, make(4), 2**40, tmp_path)
    cap, records = footprint + allowance, make(episodes)
    assert sum(path.stat().st_size for path in records.rglob("*.parquet")) >= 20 * allowance
    _, peak = answers(wanted, records, cap, tmp_path)
    logging.info("footprint %.1f, peak %.1f, cap %.1f MiB", *(held / MIB for held in (footprint, peak, cap)))
    assert footprint < peak <= cap
    with pytest.raises(SiteError) as ended:
        answers(wanted, records, cap, None)
    assert ended.value.code == "JG-site-387"
