"""Laws of the engine `ray`, and the matrix of engines: every model and strategy learns the same on each of them.

One Ray of two workers serves the whole file; a strategy or model that is new joins the matrix by itself.
"""

import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from fusions import FUSION, ROW

from jangin import simulate
from jangin.errors import SimulationError
from jangin.models.spec import LinearSpec, ModelSpec
from jangin.models.tasks import Task
from jangin.plan.blocks import FedAvgBlock, StrategyBlock
from jangin.plan.messages import Kind, Order
from jangin.records.examples import Examples
from jangin.server.rounds import gather
from jangin.simulation import ray as engine
from jangin.simulation import run
from jangin.simulation.ray import RayExchange, Workers, connect
from jangin.simulation.result import Result
from jangin.simulation.stacked import StackedExchange
from jangin.strategies import build
from jangin.training.recipe import Recipe
from jangin.training.site import Site

Write = Callable[..., Path]
Rows = Callable[..., dict[str, np.ndarray]]

NEEDS_RAY = (
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason='ray is not installed: pip install "jangin[ray]"'),
)


def needs_ray(test: Callable[..., None]) -> Callable[..., None]:
    for mark in NEEDS_RAY:
        test = mark(test)
    return test


STEPS = {"rounds": 3, "local_steps": 2, "batch": 8, "lr": 0.05, "finetune_steps": 1}
SIZES = (20, 12, 28)


def names(union: Any) -> list[str]:
    """What may stand as `name:` in one of the blocks of a plan."""
    return [get_args(kind.model_fields["name"].annotation)[0] for kind in get_args(get_args(union)[0])]


SMALL: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "linear": ({}, (3,)),
    "mlp": ({"hidden": [4]}, (3,)),
    "cnn1d": ({"channels": [2, 2], "groups": 2, "kernel": 3}, (2, 8)),
    "gru": ({"hidden": 3, "layers": 1, "patch": 2}, (2, 8)),
    "transformer": ({"width": 4, "heads": 2, "layers": 1, "patch": 2}, (2, 8)),
    "cnn2d": ({"channels": [2, 2], "groups": 2, "kernel": 3}, (2, 4, 6)),
    "fusion": (FUSION.model_dump(exclude={"name"}), ROW),
}
"""Of each model a small one, and the shape of its inputs."""
NORMALISED = {"cnn1d", "transformer", "cnn2d", "fusion"}
SETTINGS = {"flower": {"rule": "FedAdagrad", "tau": 0.1}}
"""Of strategies, what has no default; and no divisor near 0, by which what rounding leaves would be multiplied."""
MODELS = [*names(ModelSpec), "mlp of a body of its own"]


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Ray leaves what it has opened to the collector
        os.environ.pop("RAY_ADDRESS", None)
        assert connect(num_cpus=2, object_store_memory=200 * 2**20)
        import ray

        assert not connect()
        gc.collect()
    with Workers(threads=1) as ours:
        yield ours
    assert ray.is_initialized()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        ray.shutdown()
        gc.collect()


@pytest.fixture
def shared(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> Workers:
    """The workers, which simulations then use instead of some of their own."""
    monkeypatch.setattr(run, "Workers", lambda threads: nullcontext(workers))
    return workers


@pytest.fixture(scope="module")
def in_turn() -> dict[tuple[str, str], Result]:
    """What was learnt by engine `sequential`, by model and strategy."""
    return {}


def on_ray(model: str) -> Any:
    """The model that every strategy takes stands for all; the others wait for make soak."""
    return pytest.param(model, "ray", marks=NEEDS_RAY if model == "cnn1d" else (*NEEDS_RAY, pytest.mark.soak))


def stacked(model: str) -> Any:
    """A fusion has convolutions over two axes in it."""
    return pytest.param(model, "stacked", marks=[pytest.mark.soak] if model == "cnn2d" else [])


@pytest.mark.parametrize(("model", "other"), [*map(stacked, MODELS), *map(on_ray, MODELS)])
@pytest.mark.no_cover
def test_every_model_and_strategy_learns_the_same_on_every_engine(
    write: Write,
    rows: Rows,
    in_turn: dict[tuple[str, str], Result],
    request: pytest.FixtureRequest,
    model: str,
    other: str,
) -> None:
    if other == "ray":
        request.getfixturevalue("shared")
    name, *own = model.split(" of a ")
    more, shape = SMALL[name]
    file = write(rows("regression", shape, SIZES), {"baselines": ["personalised"]})
    spec = {"name": name, **more} | ({"personal": ["body"]} if own else {})
    for strategy in names(StrategyBlock):
        if strategy == "fedbn" and name not in NORMALISED:
            continue  # it is refused: there is nothing to keep at the sites
        sets = {"model": spec, "strategy": {"name": strategy} | SETTINGS.get(strategy, {}) | STEPS}
        if (model, strategy) not in in_turn:
            in_turn[model, strategy] = simulate(file, engine="sequential", sets=sets)
        one, two = in_turn[model, strategy], simulate(file, engine=other, sets=sets)
        assert np.linalg.norm(one.parameters - two.parameters) <= 1e-5 * np.linalg.norm(one.parameters), strategy
        assert two.metric["personalised"] == pytest.approx(one.metric["personalised"], rel=1e-4), strategy


@needs_ray
@pytest.mark.usefixtures("shared")
def test_few_rows_of_wide_maps_learn_the_same_on_workers(write: Write, rows: Rows) -> None:
    file, sets = write(rows("regression", sizes=SIZES)), {"model": {"name": "mlp", "hidden": [128, 128]}}
    one, two = (simulate(file, engine=engine, sets=sets) for engine in ("sequential", "ray"))
    assert np.linalg.norm(one.parameters - two.parameters) <= 1e-5 * np.linalg.norm(one.parameters)


def spread(workers: Workers, count: int = 5) -> tuple[RayExchange, StackedExchange, Order]:
    """The same sites on the workers and here, and an order."""
    block = FedAvgBlock(name="fedavg", rounds=1, local_steps=2, batch=4, lr=0.1)
    recipe = Recipe(LinearSpec(name="linear"), block, None, Task.REGRESSION, (3,), 1, None, None, 8, 0)
    stream = np.random.default_rng(1)
    trains = [
        Examples(stream.normal(size=(8, 3)).astype(np.float32), np.full((8, 1), n, np.float32), np.arange(8))
        for n in range(count)
    ]
    learner, public = recipe.learner(), recipe.public_scaling()
    sites = [Site(f"site-{n}", train, public, learner, recipe.seed) for n, train in enumerate(trains)]
    here = StackedExchange(sites, block, build(block))
    return workers.exchange(recipe, sites, trains), here, Order(Kind.TRAIN, 1, np.zeros(4, np.float32))


@pytest.mark.parametrize("values", [1, 8, 2**22], ids=lambda values: f"blocks of {values}")
@needs_ray
def test_replies_come_in_site_order_however_sites_are_dealt(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, values: int
) -> None:
    monkeypatch.setattr(engine, "_VALUES_OF_A_BLOCK", values)
    there, here, order = spread(workers)
    for cohort in (here.sites, ("site-1", "site-4")):
        here.push(order, cohort)
        there.push(order, cohort)
        for mine, yours in zip(here.pull(), there.pull(), strict=True):
            assert mine.site == yours.site
            np.testing.assert_allclose(yours.vector, mine.vector, rtol=1e-5)
    assert list(there.pull()) == []


PROMISES = {
    "M1": {"privacy.scaling_share": 0.2},
    "M1 and a secure sum": {"privacy.secure_aggregation": "required", "privacy.c_max": 1},
    "M2": {
        "privacy.mechanism": "M2",
        "strategy.local_steps": 1,
        "privacy.c_max": 1,
        "privacy.delta": 1e-4,
        "privacy.coalition_epsilon": 100,
    },
}
"""What each lays over the private simulation; M3 differs from M2 in what a site computes alone."""


@needs_ray
@pytest.mark.parametrize("promise", PROMISES)
def test_what_is_promised_is_promised_over_workers(
    write: Write, rows: Rows, private: dict[str, Any], shared: Workers, promise: str
) -> None:
    file = write(rows("regression", sizes=(56,) * 4), private)
    results = [simulate(file, engine="ray", accept_noise=True, sets=PROMISES[promise]) for _ in range(2)]
    assert results[0].privacy["epsilon"] <= 8
    assert not np.array_equal(*(result.parameters for result in results)), "noise of two runs is not the same"


def test_without_the_library_it_is_said_what_to_install(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SimulationError, match=r'JG-sim-030 .* pip install "jangin\[ray\]"'):
        simulate(write(), engine="ray")


def test_an_address_where_nobody_listens_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(SimulationError, match=r"JG-sim-033 127\.0\.0\.1:1: "):
        connect()


@pytest.mark.parametrize("failures", [1, 2])
def test_a_ray_of_our_own_that_does_not_come_up_is_started_once_more_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failures: int
) -> None:
    class Slow:
        exceptions = SimpleNamespace(RayError=OSError)
        begun = stopped = 0

        def is_initialized(self) -> bool:
            return False

        def init(self, address: str, **_: Any) -> None:
            assert address == "local"
            self.begun += 1
            if self.begun <= failures:
                raise RuntimeError("Timed out waiting for file.")

        def shutdown(self) -> None:
            self.stopped += 1

    slow = Slow()
    monkeypatch.setattr(engine, "_ray", lambda: slow)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with nullcontext() if failures == 1 else pytest.raises(SimulationError, match=r"JG-sim-033 local: .*Timed out"):
        assert connect()
    assert (slow.begun, slow.stopped) == (2, failures)
    assert [record.message[:10] for record in caplog.records] == ["JG-sim-033"]


@needs_ray
def test_a_worker_of_more_threads_than_any_node_has_is_refused(workers: Workers) -> None:
    with Workers(threads=3) as wide, pytest.raises(SimulationError, match=r"JG-sim-033 .*no node has 3 CPUs"):
        spread(wide)


@needs_ray
def test_whoever_is_late_or_lost_ends_the_round_and_is_named(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    there, _, order = spread(workers)
    ((_, process, _),) = workers.each("where it is", [(1, [], "where", ())])
    monkeypatch.setattr(engine, "_BLOCK_SECONDS", 0.2)
    os.kill(process, signal.SIGSTOP)
    with pytest.raises(SimulationError, match=r"JG-sim-032 round 1: .*site-3, site-4 "):
        gather(there, order)
    monkeypatch.undo()
    os.kill(process, signal.SIGKILL)
    with pytest.raises(SimulationError, match=r"JG-sim-031 round 1: .*site-3, site-4 "):
        gather(there, order)
    workers.__exit__()
