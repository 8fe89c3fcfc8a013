"""Laws of the worker: it trains as training/site.py does, it may die, and it says nothing but its answer."""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jangin.client.frames import read_frame, write_frame
from jangin.client.workbench import Contribution, Job, Workbench, _request, _Watch
from jangin.client.worker import Trainer
from jangin.codec import cbor
from jangin.errors import SiteError
from jangin.models.cut import cut
from jangin.models.lines import read_line
from jangin.plan.messages import Kind, Order, order_body, read_reply
from jangin.plan.training_plan import TrainingPlan
from jangin.records.checks import validate
from jangin.records.dataset import Records
from jangin.records.generate import generate
from jangin.records.manifest import open_validated
from jangin.records.process import read_process
from jangin.strategies import build
from jangin.training.price import price
from jangin.training.recipe import Recipe
from jangin.training.site import Site

LONG_SECONDS = 60.0
OF_SUMS: dict[str, Any] = {
    "sites": {"invite": [f"site-{number}" for number in range(4)], "min_sites": 4},
    "privacy": {"secure_aggregation": "required", "n_plan": 4, "c_max": 1, "nominal_units": 20},
}
PRIVATE: dict[str, Any] = {"epsilon": 8.0, "delta": 1e-3, "nominal_units": 10}
EVERYBODY = {"batch": 10}  # whose noise is calibrated by the closed form, at once

Ask = Callable[..., Job]


@pytest.fixture(scope="module")
def bench() -> Iterator[Workbench]:
    bench = Workbench(1)
    yield bench
    bench.stop()
    assert bench.pid is None


@pytest.fixture
def ask(made_records: Path) -> Ask:
    """A job for an order of a plan."""

    def ask(plan: TrainingPlan, order: Order, records: Path = made_records) -> Job:
        vector = order.vector if order.vector.size else None
        payload = cbor.encode(plan.model_dump(mode="json"))
        body = order_body(order, LONG_SECONDS)
        manifest = open_validated(made_records)[1]
        return Job(
            site="site-0",
            plan=payload,
            campaign=plan.hash,
            records=records,
            episodes={name: manifest.contents[name][name] for name in manifest.train},
            masters=set(manifest.masters.values()),
            cost=price(plan),
            own=None,
            kind=order.kind.value,
            round=order.round,
            body=body,
            vector=vector,
        )

    return ask


def scale() -> Order:
    return Order(Kind.SCALE, 0, np.empty(0, np.float32))


def start_of(plan: TrainingPlan) -> Any:
    model = Recipe.of(plan).learner().model
    return model.read()[model.layout.shared]


def in_process(plan: TrainingPlan, records: Path) -> Site:
    recipe, line = Recipe.of(plan), read_line(plan.model_line)
    train = cut(line, Records.open(records).train(), read_process(line.process), "episode")
    return Site("site-0", train, recipe.public_scaling(), recipe.learner(), plan.seed)


def test_without_privacy_its_answers_are_those_of_a_site_in_this_process_bit_for_bit(
    bench: Workbench, ask: Ask, plan: Callable[..., TrainingPlan], made_records: Path
) -> None:
    for wanted in (plan(), plan(model={"name": "mlp", "hidden": [8]}, strategy={"name": "fedprox"}, seed=4)):
        site, rule = in_process(wanted, made_records), build(wanted.strategy).local
        expected = site.answer(scale(), wanted.strategy, rule).vector
        done = bench.work(ask(wanted, scale()), LONG_SECONDS)
        moments = read_reply(Kind.SCALE, "site-0", done.body, done.vector).vector
        np.testing.assert_array_equal(moments, expected)
        assert moments is not None
        learnt = Recipe.of(wanted).learned_scaling(moments, 1)
        parameters = start_of(wanted)
        for number in (1, 2):
            order = Order(Kind.TRAIN, number, parameters, (learnt.mean, learnt.deviation))
            reply = site.answer(order, wanted.strategy, rule)
            vector = bench.work(ask(wanted, order), LONG_SECONDS).vector
            assert reply.vector is not None
            assert vector is not None
            assert vector.tobytes() == reply.vector.tobytes()
            parameters = parameters + vector


def test_for_a_plan_of_sums_it_gives_whole_steps_and_nothing_in_clear(
    bench: Workbench, ask: Ask, plan: Callable[..., TrainingPlan]
) -> None:
    wanted = plan(**OF_SUMS)
    recipe = Recipe.of(wanted)
    columns = len(recipe.public_scaling().mean)
    train = Order(Kind.TRAIN, 1, start_of(wanted), (np.zeros(columns), np.ones(columns)))
    for order, size in ((scale(), 2 * columns + 1), (train, len(train.vector))):
        job = ask(wanted, order)
        done = bench.work(replace(job, summed=True), LONG_SECONDS)
        assert isinstance(done, Contribution)
        assert (done.words.dtype, done.words.shape) == (np.uint32, (size,))
        encoding = recipe.encoding(order.kind, size)
        assert encoding is not None
        assert 0 < np.linalg.norm(encoding.total(done.words.view(np.int32))) < 1e3
    with pytest.raises(SiteError, match="JG-site-322"):
        bench.work(job, LONG_SECONDS)


def test_a_training_that_the_site_does_not_keep_is_forgotten(
    bench: Workbench, ask: Ask, plan: Callable[..., TrainingPlan]
) -> None:
    wanted = plan(strategy={"name": "mrmtl"}, model={"name": "mlp", "hidden": [4], "personal": ["head"]}, **OF_SUMS)
    recipe = Recipe.of(wanted)
    columns = len(recipe.public_scaling().mean)
    order = Order(Kind.TRAIN, 1, start_of(wanted), (np.zeros(columns), np.ones(columns)))
    job = replace(ask(wanted, order), summed=True)
    first, again = (bench.work(job, LONG_SECONDS) for _ in range(2))
    assert isinstance(first, Contribution)
    assert isinstance(again, Contribution)
    assert first.own is not None
    assert again.own == first.own
    assert np.abs((again.words - first.words).view(np.int32)).max() <= 1  # they round by chance
    on = bench.work(replace(job, own=first.own), LONG_SECONDS)
    assert isinstance(on, Contribution)
    assert np.abs((on.words - first.words).view(np.int32)).max() > 1


def test_with_privacy_no_answer_comes_twice_and_moments_that_nobody_paid_for_not_at_all(
    bench: Workbench, ask: Ask, plan: Callable[..., TrainingPlan]
) -> None:
    wanted = plan(strategy=EVERYBODY, privacy={**PRIVATE, "scaling_share": 0.0})
    model = wanted.model_copy(update={"privacy": plan().privacy})  # no need to calibrate for the parameters' shape
    job = ask(wanted, Order(Kind.TRAIN, 1, start_of(model)))
    one, other = (bench.work(job, LONG_SECONDS).vector for _ in range(2))
    assert one is not None
    assert other is not None
    assert not np.array_equal(one, other)
    with pytest.raises(SiteError, match="moments") as refused:
        bench.work(ask(wanted, scale()), LONG_SECONDS)
    assert refused.value.code == "JG-site-306"


@pytest.mark.kill
def test_a_worker_that_is_killed_costs_one_round(bench: Workbench, ask: Ask, plan: Callable[..., TrainingPlan]) -> None:
    first = bench.work(ask(plan(), scale()), LONG_SECONDS).body
    held = bench.pid
    assert held is not None
    endless = plan(strategy={"local_steps": 10**9})
    columns = len(Recipe.of(endless).public_scaling().mean)
    order = Order(Kind.TRAIN, 1, start_of(endless), (np.zeros(columns), np.ones(columns)))
    with ThreadPoolExecutor(1) as beside:
        under_way = beside.submit(bench.work, ask(endless, order), LONG_SECONDS)
        os.kill(held, signal.SIGKILL)
        with pytest.raises(SiteError, match="died") as failed:
            under_way.result()
    assert failed.value.code == "JG-site-322"
    assert bench.work(ask(plan(), scale()), LONG_SECONDS).body == first
    assert bench.pid not in (None, held)


@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="the kernel has no such file")
def test_where_memory_runs_out_the_worker_goes_before_the_light_process(
    bench: Workbench, ask: Ask, plan: Callable[..., TrainingPlan]
) -> None:
    bench.work(ask(plan(), scale()), LONG_SECONDS)
    score = [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (bench.pid, os.getpid())]
    assert score[0] > score[1]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says what a process held")
def test_no_peak_of_memory_hides_between_two_looks() -> None:
    script = "held = bytearray(10**8); del held; print('freed', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        roomy, tight = (_Watch(process, time.monotonic() + LONG_SECONDS, most) for most in (2**40, 9 * 10**7))
        roomy.start()
        assert roomy.end() is None
        assert process.poll() is None
        tight.start()
        assert process.wait(LONG_SECONDS) != 0
        peak = tight.end()
    assert peak is not None
    assert peak > 10**8


def test_a_worker_that_takes_too_long_is_ended(bench: Workbench, ask: Ask, plan: Callable[..., TrainingPlan]) -> None:
    bench.rest()
    with pytest.raises(SiteError, match="too long") as failed:
        bench.work(ask(plan(), scale()), 0.05)
    assert failed.value.code == "JG-site-322"
    assert bench.pid is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"vector": np.zeros(1, np.float32)}, "1 parameters"),
        ({"scaling": None}, "scaling"),
        ({"scaling": (np.zeros(3), np.ones(3))}, "3 columns"),
    ],
)
def test_an_order_that_does_not_fit_the_plans_model_is_no_order(
    bench: Workbench, ask: Ask, plan: Callable[..., TrainingPlan], change: dict[str, Any], says: str
) -> None:
    wanted = plan()
    columns = len(Recipe.of(wanted).public_scaling().mean)
    order = Order(Kind.TRAIN, 1, start_of(wanted), (np.zeros(columns), np.ones(columns)))
    with pytest.raises(SiteError, match=says) as refused:
        bench.work(ask(wanted, replace(order, **change)), LONG_SECONDS)
    assert refused.value.code == "JG-site-306"


def test_a_changed_file_is_met_when_it_is_read_and_named_by_its_code_alone(
    bench: Workbench, ask: Ask, plan: Callable[..., TrainingPlan], made_records: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "secret-folder"
    shutil.copytree(made_records, copy)
    with (copy / "episodes.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(SiteError, match="JG-data-005") as failed:
        bench.work(ask(plan(campaign="changed"), scale(), copy), LONG_SECONDS)
    assert "secret-folder" not in str(failed.value)


def test_what_a_site_keeps_for_itself_outlives_its_worker(
    ask: Ask, plan: Callable[..., TrainingPlan], made_records: Path
) -> None:
    """MR-MTL's second round starts from the site's own parameters, in a new process as in the old one."""
    wanted = plan(strategy={"name": "mrmtl", "lam": 0.1})
    site, rule = in_process(wanted, made_records), build(wanted.strategy).local
    columns = len(site.scaling.mean)
    start, scaling = start_of(wanted), (np.zeros(columns), np.ones(columns))
    own = None
    for number in (1, 2):
        bench = Workbench(1)
        order = Order(Kind.TRAIN, number, start, scaling)
        done = bench.work(replace(ask(wanted, order), own=own), LONG_SECONDS)
        bench.stop()
        expected = site.answer(order, wanted.strategy, rule).vector
        assert done.vector is not None
        np.testing.assert_array_equal(done.vector, expected)
        assert done.own is not None
        own = done.own
        np.testing.assert_array_equal(np.frombuffer(own, "<f4"), site.kept())


def test_a_control_variate_outlives_its_worker_and_is_no_part_of_an_update(
    ask: Ask, plan: Callable[..., TrainingPlan], made_records: Path
) -> None:
    """Each round is a new worker's; what goes up has the model's size, what came down twice that."""
    wanted = plan(strategy={"name": "scaffold"})
    site, rule = in_process(wanted, made_records), build(wanted.strategy).local
    start, columns = start_of(wanted), len(site.scaling.mean)
    own = None
    for number in (1, 2):
        carried = np.concatenate([start, np.full_like(start, 0.01 * number)])
        order = Order(Kind.TRAIN, number, carried, (np.zeros(columns), np.ones(columns)))
        told: dict[str, Any] = Trainer().answer(_request(replace(ask(wanted, order), own=own)))
        vector, own = np.frombuffer(told["vector"], "<f4"), told["own"]
        assert vector.shape == start.shape
        np.testing.assert_array_equal(vector, site.answer(order, wanted.strategy, rule).vector)
        np.testing.assert_array_equal(np.frombuffer(own, "<f4"), site.kept())
    assert "misfit" in Trainer().answer(_request(ask(wanted, replace(order, vector=start))))


def test_nothing_is_kept_where_everything_is_shared(
    bench: Workbench, ask: Ask, plan: Callable[..., TrainingPlan]
) -> None:
    wanted = plan()
    columns = len(Recipe.of(wanted).public_scaling().mean)
    order = Order(Kind.TRAIN, 1, start_of(wanted), (np.zeros(columns), np.ones(columns)))
    assert bench.work(ask(wanted, order), LONG_SECONDS).own is None


def test_what_the_ledger_did_not_reserve_is_not_released(ask: Ask, plan: Callable[..., TrainingPlan]) -> None:
    wanted = plan(campaign="reserved", strategy=EVERYBODY, privacy=PRIVATE)
    job = ask(wanted, scale())
    assert job.cost is not None
    less = {reading: replace(charge, each_round=()) for reading, charge in job.cost.items()}
    for cost in (None, less):
        assert Trainer().answer(_request(replace(job, cost=cost))) == {"failed": "JG-privacy-030"}
    assert Trainer().answer(_request(job))["body"]


def test_an_episode_that_may_not_take_part_does_not(
    bench: Workbench, ask: Ask, plan: Callable[..., TrainingPlan], made_records: Path
) -> None:
    job = ask(plan(campaign="some"), scale())
    some = dict(list(job.episodes.items())[:3])
    done = bench.work(replace(job, episodes=some), LONG_SECONDS)
    moments = read_reply(Kind.SCALE, "site-0", done.body, done.vector).vector
    assert moments is not None
    assert moments[0] == len(some) < len(job.episodes)


def rehearsed(trainer: Trainer, job: Job) -> Any:
    answer = trainer.answer(_request(job))
    assert answer["own"] is None, answer
    vector = np.frombuffer(answer["vector"], "<f4")  # type: ignore[call-overload]
    return read_reply(Kind.REHEARSE, "site-0", answer["body"], vector).update  # type: ignore[arg-type]


def test_a_rehearsal_is_made_of_rows_that_the_plan_alone_says(
    ask: Ask, plan: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    """Without noise the update of one site's records is that of another's, bit for bit, and no site's own."""
    wanted = plan(campaign="rehearsed")
    order = Order(Kind.REHEARSE, 0, start_of(wanted))
    update = rehearsed(Trainer(), ask(wanted, order))
    (other,) = generate(wanted.process, tmp_path, sites=1, masters=1, episodes=9, seed=6)
    validate(other, level=1, unit="episode", random_bytes=np.random.default_rng(6).bytes).require(other)
    manifest = open_validated(other)[1]
    job = replace(
        ask(wanted, order, other),
        episodes={name: manifest.contents[name][name] for name in manifest.train},
        masters=set(manifest.masters.values()),
    )
    np.testing.assert_array_equal(rehearsed(Trainer(), job), update)
    assert np.linalg.norm(update) > 0
    columns = len(Recipe.of(wanted).public_scaling().mean)
    train = Order(Kind.TRAIN, 1, order.vector, (np.zeros(columns), np.ones(columns)))
    assert Trainer().answer(_request(ask(wanted, train)))["vector"] != update.tobytes()


@pytest.mark.parametrize("changed", [OF_SUMS, {"strategy": EVERYBODY, "privacy": PRIVATE}], ids=["sums", "noise"])
def test_a_rehearsal_of_sums_and_one_of_noise_are_updates_in_clear(
    ask: Ask, plan: Callable[..., TrainingPlan], changed: dict[str, Any]
) -> None:
    wanted = plan(campaign="rehearsed", **changed)
    job = ask(wanted, Order(Kind.REHEARSE, 0, start_of(plan())))
    trainer = Trainer()
    first, again = (rehearsed(trainer, replace(job, round=number)) for number in (0, 1))
    assert first.shape == again.shape == job.vector.shape  # type: ignore[union-attr]
    assert not np.array_equal(first, again)  # noise, and rounding, are fresh


def test_a_rehearsal_finds_records_that_are_not_as_they_were_validated_and_looks_anew_each_time(
    ask: Ask, plan: Callable[..., TrainingPlan], made_records: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "records"
    shutil.copytree(made_records, copy)
    wanted = plan(campaign="damaged")
    job = ask(wanted, Order(Kind.REHEARSE, 0, start_of(wanted)), copy)
    trainer = Trainer()
    assert rehearsed(trainer, job) is not None
    part = next(copy.rglob("part-*.parquet"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    assert trainer.answer(_request(job)) == {"failed": "JG-data-005"}
    short = replace(job, records=made_records, vector=np.zeros(1, np.float32))
    assert str(trainer.answer(_request(short))["misfit"]).startswith("1 parameters, not")


def test_a_bench_that_was_stopped_starts_no_worker(ask: Ask, plan: Callable[..., TrainingPlan]) -> None:
    bench = Workbench(1)
    bench.stop()
    with pytest.raises(SiteError) as failed:
        bench.work(ask(plan(), scale()), LONG_SECONDS)
    assert failed.value.code == "JG-site-322"


def test_a_worker_that_the_system_does_not_start_is_a_failed_one(
    ask: Ask, plan: Callable[..., TrainingPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", short)
    with pytest.raises(SiteError, match=r"JG-site-322 .*Resource temporarily unavailable"):
        Workbench(1).work(ask(plan(), scale()), LONG_SECONDS)
    with pytest.raises(SiteError, match="JG-site-369"):
        Workbench(1).rehearse(LONG_SECONDS)


def test_a_worker_ends_with_the_light_process(
    bench: Workbench, ask: Ask, plan: Callable[..., TrainingPlan], wait: Any
) -> None:
    bench.work(ask(plan(), scale()), LONG_SECONDS)
    process = bench._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    wait(lambda: process.poll() is not None)


def test_a_frame_is_read_whole_or_not_at_all() -> None:
    pipe = io.BytesIO()
    write_frame(pipe, {"vector": b"\x00" * 10})
    raw = pipe.getvalue()
    assert read_frame(io.BytesIO(raw)) == {"vector": b"\x00" * 10}
    for cut_at in (0, 4, 8, len(raw) - 1):
        with pytest.raises(EOFError):
            read_frame(io.BytesIO(raw[:cut_at]))
    with pytest.raises(ValueError, match="at most"):
        read_frame(io.BytesIO(b"\xff" * 8))
    with pytest.raises(ValueError, match="CBOR"):
        read_frame(io.BytesIO((1).to_bytes(8) + b"\xff"))
