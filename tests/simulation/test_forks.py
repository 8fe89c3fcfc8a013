"""Laws of forked children: what they answer comes in order, none is waited for in vain, none outlives its parent."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from jangin import simulate
from jangin.errors import SimulationError
from jangin.models.spec import MlpSpec
from jangin.models.tasks import Task
from jangin.plan.blocks import FedAvgBlock, PrivacyBlock
from jangin.plan.messages import Kind, Order
from jangin.privacy.randomness import SecureRandom
from jangin.records.examples import Examples
from jangin.simulation import forks as module
from jangin.simulation.forks import Child, Forks, shared_zeros
from jangin.simulation.stacked import StackedExchange
from jangin.simulation.unfinished import Unfinished
from jangin.strategies import build
from jangin.training.mechanism import mechanism
from jangin.training.recipe import Recipe
from jangin.training.site import Site

Write = Callable[..., Path]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")


@pytest.fixture
def forks() -> Iterator[Forks]:
    with Forks(3) as forks:
        yield forks


def counted(first: int, count: int) -> Iterator[NDArray[Any]]:
    """So many arrays, of several shapes and types."""
    for number in range(first, first + count):
        yield np.full((number, 2), number, [np.float32, np.float64, np.uint32][number % 3])


def within(child: Child) -> NDArray[Any]:
    """Its next array, which has to come."""
    assert child._pipe.poll(30), "it hangs"
    return next(child)


def test_arrays_come_in_order_and_question_after_question(forks: Forks) -> None:
    children = [forks.fork(counted, 60, ["site-0"]) for _ in range(2)]
    for count in (1, 9, 0, 4):
        for child in children:
            child.ask(1, count)
        for child in children:
            for found, given in zip((next(child) for _ in range(count)), counted(1, count), strict=True):
                assert found.dtype == given.dtype
                np.testing.assert_array_equal(found, given)


def test_what_a_child_raises_is_raised_here_and_it_goes_on(forks: Forks) -> None:
    def fails(error: Exception) -> Iterator[NDArray[Any]]:
        yield np.zeros(1)
        if error:
            raise error

    child = forks.fork(fails, 2, ["site-0"])
    for error in (SimulationError("JG-sim-001", where="here", folder="x"), OSError(5, "no"), ValueError("odd")):
        child.ask(error)
        next(child)
        with pytest.raises(type(error)) as raised:
            next(child)
        assert str(raised.value) == str(error)


def to_its_end(child: Child) -> None:
    child.ask()
    while True:
        within(child)


@pytest.mark.parametrize("moment", ["waiting", "answering"])
def test_a_lost_child_is_an_error_at_once_that_names_its_sites(forks: Forks, moment: str) -> None:
    def dies() -> Iterator[NDArray[Any]]:
        yield np.zeros(1)
        os.kill(os.getpid(), signal.SIGTERM)

    child = forks.fork(dies, 2, [f"site-{number}" for number in range(20)])
    process = child._process
    assert process is not None
    if moment == "waiting":
        os.kill(process, signal.SIGKILL)
        os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    with pytest.raises(SimulationError, match=r"JG-sim-037 .*site-0, .* \(20\).* is lost: SIG(KILL|TERM)"):
        to_its_end(child)
    with pytest.raises(ChildProcessError):
        os.waitpid(process, os.WNOHANG)


def test_no_child_outlives_its_forks(forks: Forks) -> None:
    processes = [forks.fork(counted, 2, [])._process for _ in range(2)]
    forks.end()
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_where_a_fork_is_not_borne_one_process_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Forks(3).processes == 3
    with monkeypatch.context() as other:
        other.setattr(torch.accelerator, "is_available", lambda: True)
        assert Forks(3).processes == 1
    monkeypatch.setattr(sys, "platform", "darwin")
    assert Forks(3).processes == 1


def test_a_system_without_a_further_process_is_an_error_with_a_code(
    forks: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> int:
        raise BlockingIOError(11, "no more")

    monkeypatch.setattr(module.os, "fork", none)
    with pytest.raises(SimulationError, match="JG-sim-038"):
        forks.fork(counted, 2, [])


def test_a_child_holds_nothing_open_but_its_pipe_and_leaves_ctrl_c_to_its_parent(forks: Forks, tmp_path: Path) -> None:
    def held() -> Iterator[NDArray[Any]]:
        os.kill(os.getpid(), signal.SIGINT)
        names = [f"/proc/self/fd/{file}" for file in os.listdir("/proc/self/fd") if int(file) > 2]
        # Event loops of libraries (epoll, eventfd) are of no kind: they begin anew after a fork.
        yield np.array([stat.S_IFMT(os.stat(name).st_mode) for name in names if os.path.exists(name)])

    with (tmp_path / "lock").open("w") as file:
        children = [forks.fork(held, 40, []) for _ in range(2)]
        assert file.fileno() > 2
        for child in children:
            child.ask()
            kinds = within(child)
            assert kinds[kinds > 0].tolist() == [stat.S_IFSOCK], "its pipe"


def test_secret_streams_never_meet_after_a_fork(forks: Forks) -> None:
    random = SecureRandom()
    random.bits(5)

    def draws() -> Iterator[NDArray[Any]]:
        yield random.bits(256)
        noise = np.empty(256, np.float32)
        random.fill_gaussian(noise, 1.0)
        yield noise
        yield SecureRandom().bits(256)

    children = [forks.fork(draws, 512, []) for _ in range(2)]
    for child in children:
        child.ask()
    mine = list(draws())
    for own, *others in zip(mine, *([within(child) for _ in mine] for child in children), strict=True):
        assert len(np.unique(np.concatenate([own, *others]))) >= 3 * 256 - (own.dtype == np.float32)
        for n, one in enumerate([own, *others]):
            assert not any(np.array_equal(one, other) for other in [own, *others][:n])


def test_what_threads_the_parent_had_does_not_hang_a_child(forks: Forks) -> None:
    before, large = torch.get_num_threads(), torch.randn(600, 600)

    def work() -> Iterator[NDArray[Any]]:
        layer = torch.nn.Sequential(torch.nn.Conv1d(4, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 30, 3))
        layer(torch.ones(256, 4, 32)).sum().backward()
        yield (large @ large).numpy()[:1] @ large.numpy() @ np.ones((600, 4), np.float32)

    try:
        torch.set_num_threads(3)
        want = list(work())
        large.numpy() @ large.numpy()
        child = forks.fork(work, 8, [])
        assert torch.get_num_threads() == 3
        child.ask()
        np.testing.assert_allclose(within(child), want[0], rtol=1e-3)
    finally:
        torch.set_num_threads(before)


def test_memory_that_is_shared_is_seen_on_both_sides(forks: Forks) -> None:
    place = shared_zeros((2, 3), np.float32)

    def write(value: float) -> Iterator[NDArray[Any]]:
        yield place.sum(keepdims=True)
        place[1] = value

    child = forks.fork(write, 2, [])
    for value in (1.0, 5.0):
        place[0] = value
        child.ask(value)
        assert within(child) == [[3 * value + (value > 1) * 3]]
        child.ask(0.0)
        next(child)
        child.ask(value)
        next(child)
    forks.end()


def of_one_data(forks: Forks, count: int = 4) -> tuple[StackedExchange, Order]:
    """Sites that all have the same data, trained in private."""
    block = FedAvgBlock(name="fedavg", rounds=2, local_steps=2, batch=8, lr=0.1)
    privacy = PrivacyBlock(epsilon=8, delta=1e-3, nominal_units=8, scaling_share=0)
    spec = MlpSpec(name="mlp", hidden=(4,))
    recipe = Recipe(spec, block, mechanism(privacy, block, 8), Task.REGRESSION, (3,), 1, None, None, 8, 0)
    learner, public = recipe.learner(), recipe.public_scaling()
    train = Examples(np.ones((8, 3), np.float32), np.ones((8, 1), np.float32), np.arange(8))
    sites = [Site(f"site-{number}", train, public, learner, 0) for number in range(count)]
    exchange = StackedExchange(sites, block, build(block), forks)
    return exchange, Order(Kind.TRAIN, 1, learner.initial)


def test_sites_of_different_processes_draw_different_noise(forks: Forks) -> None:
    exchange, order = of_one_data(forks)
    exchange.push(order, exchange.sites)
    updates = np.concatenate([reply.vector for reply in exchange.pull()])
    assert len(exchange._children) == 2
    assert len(np.unique(updates)) == len(updates), "noise of one value was drawn twice"


def test_a_cohort_is_answered_in_site_order_by_whoever_has_its_sites(forks: Forks) -> None:
    exchange, order = of_one_data(forks, 7)
    for cohort in (exchange.sites, ("site-1", "site-5"), ("site-6",), ("site-0",)):
        exchange.push(order, cohort)
        assert [reply.site for reply in exchange.pull()] == list(cohort)
    assert list(exchange.pull()) == []


def children() -> set[int]:
    """What this thread has started and not yet waited for."""
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


def test_a_run_whose_child_is_killed_says_so_and_goes_on_later(write: Write, tmp_path: Path) -> None:
    before, others, file, out = torch.get_num_threads(), children(), write(), tmp_path / "run"

    def kills(what: str, done: int, total: int) -> None:
        if (what, done) == ("round", 2):
            (child,) = children() - others
            os.kill(child, signal.SIGKILL)
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)

    try:
        with pytest.raises(SimulationError, match=r"JG-sim-037 .*SIGKILL"):
            simulate(file, threads=2, out=out, progress=kills)
        again = simulate(file, threads=2, out=out)
        np.testing.assert_array_equal(again.parameters, simulate(file, threads=2).parameters)
    finally:
        torch.set_num_threads(before)


# Rounds without an end; it says which children it has.
SCRIPT = """
import os, sys
from jangin import simulate
def told(what, done, total):
    if (what, done) == ("round", 1):
        print(open(f"/proc/self/task/{os.getpid()}/children").read(), flush=True)
simulate(sys.argv[1], threads=3, out=sys.argv[2], progress=told)
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_no_child_and_its_folder_to_the_next(
    write: Write, tmp_path: Path, end: signal.Signals
) -> None:
    file = write(sets={"strategy.rounds": 10**6, "strategy.lr": 1e-3})
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(file), str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as run:
        assert run.stdout is not None
        numbers = run.stdout.readline().split()
        assert len(numbers) == 2
        os.kill(run.pid, end)
        run.wait(60)
        with Unfinished(tmp_path / ".run.part" / "unfinished"):
            pass
        assert run.stdout.read() == "", "ends when nobody holds it: neither run nor child"
    for child in map(Path, (f"/proc/{number}/cmdline" for number in numbers)):
        assert not child.exists() or not child.read_bytes(), "gone, or a zombie that nobody has looked after yet"
