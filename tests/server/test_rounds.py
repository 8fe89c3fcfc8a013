"""Laws of the round engine: equal weights, named absence, and no reply kept longer than it takes to add it."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from jangin.errors import ServerError
from jangin.plan.messages import Kind, Order, Reply
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.ring import Grid
from jangin.server.rounds import Ask, Progress, RoundRecord, gather, rounds
from jangin.strategies.fedadam import FedAdam
from jangin.strategies.fedavg import FedAvg
from jangin.strategies.median import Median
from jangin.strategies.scaffold import Scaffold
from jangin.training.summing import Encoding

START = np.array([1.0, -2.0, 0.5], np.float32)
ORDER = Order(Kind.TRAIN, 4, START)


class Memory:
    """An exchange whose sites answer from memory, in the order in which the answers stand."""

    def __init__(self, replies: Sequence[Reply], silent: Sequence[str] = ()) -> None:
        self.replies = replies
        self.sites = tuple(sorted({reply.site for reply in replies} | set(silent)))
        self.orders: list[tuple[Order, tuple[str, ...]]] = []

    def push(self, order: Order, cohort: Sequence[str]) -> None:
        self.orders.append((order, tuple(cohort)))

    def pull(self) -> Iterator[Reply]:
        yield from self.replies


class Pulled(Memory):
    """Sites that move to a goal of their own by half the way, round after round."""

    def __init__(self, goals: Mapping[str, float]) -> None:
        super().__init__([Reply(site, np.zeros(0, np.float32)) for site in goals])
        self.goals = goals

    def pull(self) -> Iterator[Reply]:
        order, cohort = self.orders[-1]
        for site in cohort:
            yield Reply(site, ((self.goals[site] - order.vector) / 2).astype(np.float32))


def asking(exchange: Memory, **how: Any) -> Ask:
    return lambda order: gather(exchange, order, **how)


def ran(
    strategy: Any, exchange: Memory, parameters: NDArray[np.float32], count: int
) -> Iterator[tuple[RoundRecord, NDArray[np.float32]]]:
    start, ask = Progress.start(strategy, parameters), asking(exchange, single=strategy.consumes == "updates")
    return ((record, progress.parameters) for record, progress in rounds(strategy, ask, start, count))


ON_RING = Encoding(Grid.fitting(1.0, 1.0, 0.0, 3, 50), -0.25)


@given(st.integers(1, 50), st.integers(0, 2**32))
def test_whole_steps_are_added_modulo_2_to_the_32_and_read_as_signed(sites: int, seed: int) -> None:
    steps = np.random.default_rng(seed).integers(-int(ON_RING.grid.scale), int(ON_RING.grid.scale), (sites, 3))
    replies = [Reply(f"site-{number}", row.astype(np.uint32)) for number, row in enumerate(steps)]
    record, total = gather(Memory(replies), ORDER, encoding=ON_RING)
    assert len(record.reported) == sites
    np.testing.assert_array_equal(total, steps.sum(axis=0) / ON_RING.grid.scale * -0.25)


def test_a_round_in_whole_steps_is_the_round_of_the_updates_that_they_are() -> None:
    given = np.array([[0.5, -1.0, 0.25], [0.25, 0.75, -0.5]])
    replies = [
        Reply(f"site-{number}", ON_RING.grid.released(vector, SecureRandom()).astype(np.uint32))
        for number, vector in enumerate(given)
    ]
    start = Progress.start(FedAvg(), START)
    ((_, stepped),) = rounds(FedAvg(), asking(Memory(replies), encoding=ON_RING), start, 1)
    np.testing.assert_allclose(stepped.parameters, START - 0.25 * given.mean(axis=0), atol=1e-6)


def test_what_is_no_whole_step_is_added_to_none() -> None:
    with pytest.raises(TypeError, match="safe"):
        gather(Memory([Reply("site-0", START)]), ORDER, encoding=ON_RING)


def vectors(number: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(number, 3)).astype(np.float32)


def replies(rows: NDArray[Any]) -> list[Reply]:
    return [Reply(f"site-{number}", row) for number, row in enumerate(rows)]


@given(number=st.integers(1, 20), seed=st.integers(0, 1000))
def test_the_sum_is_the_plain_sum_in_float64(number: int, seed: int) -> None:
    rows = vectors(number, seed)
    record, total = gather(Memory(replies(rows)), ORDER)
    assert total.dtype == np.float64
    assert total.tolist() == pytest.approx([sum(float(row[i]) for row in rows) for i in range(3)], rel=1e-12)
    assert len(record.reported) == number


def test_small_updates_do_not_drown_in_a_large_one() -> None:
    rows = np.full((1001, 3), 1e-4, np.float32)
    rows[0] = 1e6
    _, total = gather(Memory(replies(rows)), ORDER)
    assert total == pytest.approx([1e6 + 0.1] * 3, rel=1e-12)


def test_single_updates_come_one_row_a_site_in_the_order_of_arrival() -> None:
    rows = vectors(4)
    record, gathered = gather(Memory(replies(rows)[::-1]), ORDER, single=True)
    assert np.array_equal(gathered, rows[::-1])
    assert record.reported == ("site-3", "site-2", "site-1", "site-0")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nobodys_vector_is_changed(dtype: type[np.floating[Any]]) -> None:
    rows = vectors(3).astype(dtype)
    rows.flags.writeable = False
    gather(Memory(replies(rows)), ORDER)
    gather(Memory(replies(rows)), ORDER, single=True)


def test_who_took_part_who_abstained_and_who_was_missing_is_named() -> None:
    answers = [*replies(vectors(2)), Reply("site-7", None, "JG-site-004"), Reply("site-8", None)]
    record, total = gather(Memory(answers, silent=["site-5", "site-9"]), ORDER)
    assert record == RoundRecord(
        round=4,
        reported=("site-0", "site-1"),
        abstained={"site-7": "JG-site-004", "site-8": ""},
        missing=("site-5", "site-9"),
    )
    assert np.allclose(total, vectors(2).sum(axis=0))


@pytest.mark.parametrize("single", [False, True])
def test_a_round_without_a_single_update_ends_with_the_names(single: bool) -> None:
    exchange = Memory([Reply("site-1", None, "JG-site-004")], silent=["site-2"])
    with pytest.raises(ServerError, match=r"JG-server-001 round 4: .*site-1: JG-site-004.*site-2"):
        gather(exchange, ORDER, single=single)


def test_a_round_without_sites_ends_too() -> None:
    with pytest.raises(ServerError, match="JG-server-001"):
        gather(Memory([]), ORDER)


@pytest.mark.parametrize("single", [False, True])
def test_a_site_counts_once_however_often_it_answers(single: bool) -> None:
    rows = vectors(2)
    once, again = replies(rows), replies(rows)
    late = [Reply("site-0", None, "JG-site-004")]
    record, gathered = gather(Memory([*once, *again, *late]), ORDER, single=single)
    assert record == RoundRecord(4, ("site-0", "site-1"), {}, ())
    assert np.allclose(gathered, rows if single else rows.sum(axis=0))


def test_whoever_was_not_asked_is_not_heard() -> None:
    exchange = Memory([*replies(vectors(2)), Reply("stranger", np.full(3, 1e9, np.float32))])
    exchange.sites = ("site-0", "site-1")
    record, total = gather(exchange, ORDER)
    assert record.reported == ("site-0", "site-1")
    assert np.allclose(total, vectors(2).sum(axis=0))


def test_every_site_of_the_cohort_gets_the_same_order_once() -> None:
    exchange = Memory(replies(vectors(3)))
    gather(exchange, ORDER)
    assert exchange.orders == [(ORDER, ("site-0", "site-1", "site-2"))]


def test_a_reply_is_let_go_as_soon_as_it_is_added() -> None:
    class Counting(Memory):
        """Counts how many of its vectors somebody still holds."""

        most = 0

        def pull(self) -> Iterator[Reply]:
            given: list[weakref.ref[NDArray[np.float32]]] = []
            for site in self.sites:
                vector = np.ones(3, np.float32)
                given.append(weakref.ref(vector))
                reply = Reply(site, vector)
                del vector
                yield reply
                del reply
                self.most = max(self.most, sum(held() is not None for held in given))

    exchange = Counting([], silent=[f"site-{number:02}" for number in range(50)])
    _, total = gather(exchange, ORDER)
    assert total.tolist() == [50.0] * 3
    assert exchange.most <= 1  # the one in hand


def test_rounds_are_the_strategy_written_out() -> None:
    """FedAvg over sites that go half the way to their goals: the distance to the mean goal halves each round."""
    exchange = Pulled({"a": 4.0, "b": 10.0})
    run = list(ran(FedAvg(), exchange, START, 5))
    assert [record.round for record, _ in run] == [1, 2, 3, 4, 5]
    for number, (_, parameters) in enumerate(run, 1):
        assert parameters == pytest.approx(7.0 + (START - 7.0) / 2**number, rel=1e-6)


def test_an_order_carries_the_parameters_of_the_round_before() -> None:
    exchange = Pulled({"a": 4.0, "b": 10.0})
    after = [parameters for _, parameters in ran(FedAvg(), exchange, START, 3)]
    sent = [order.vector for order, _ in exchange.orders]
    assert [order.kind for order, _ in exchange.orders] == [Kind.TRAIN] * 3
    assert all(np.array_equal(one, other) for one, other in zip(sent, [START, *after[:2]], strict=True))


def test_state_goes_from_round_to_round() -> None:
    strategy, exchange = FedAdam(0.1), Pulled({"a": 4.0})
    state, expected = strategy.init(START), START
    for _, parameters in ran(strategy, exchange, START, 3):
        expected, state = strategy.update(state, ((4.0 - expected) / 2).astype(np.float32).astype(np.float64), 1)
        assert np.array_equal(parameters, expected)


def test_a_control_goes_down_after_the_parameters_and_an_update_is_of_the_parameters_alone() -> None:
    exchange = Memory(replies(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], np.float32)))
    one, other = ran(Scaffold(2, 0.5), exchange, START, 2)
    sent = [order.vector.tolist() for order, _ in exchange.orders]
    assert sent == [[*START, 0, 0, 0], [*one[1], -2, -2, -2]]
    assert other[1].tolist() == (START + 4).tolist()


def test_a_strategy_of_single_updates_gets_them() -> None:
    run = list(ran(Median(), Pulled({"a": 0.0, "b": 1.0, "c": 1e9}), np.zeros(3, np.float32), 1))
    assert run[0][1].tolist() == [0.5] * 3


def test_only_the_sites_that_reported_are_averaged() -> None:
    exchange = Memory([*replies(np.ones((2, 3), np.float32)), Reply("site-7", None, "JG-site-004")], silent=["site-9"])
    ((_, parameters),) = ran(FedAvg(), exchange, START, 1)
    assert parameters.tolist() == (START + 1).tolist()


def test_a_round_runs_when_it_is_asked_for() -> None:
    exchange = Pulled({"a": 4.0})
    run = ran(FedAvg(), exchange, START, 3)
    assert exchange.orders == []
    next(run)
    assert len(exchange.orders) == 1


def test_a_campaign_goes_on_from_any_round_as_if_it_had_never_stopped() -> None:
    strategy, exchange = FedAdam(0.1), Pulled({"a": 4.0, "b": 10.0})
    ask = asking(exchange)
    whole = [progress for _, progress in rounds(strategy, ask, Progress.start(strategy, START), 6)]
    for stopped in whole[:-1]:
        rest = list(rounds(strategy, ask, stopped, 6))
        assert [record.round for record, _ in rest] == list(range(stopped.round + 1, 7))
        assert np.array_equal(rest[-1][1].parameters, whole[-1].parameters)
    assert list(rounds(strategy, ask, whole[-1], 6)) == []


def test_a_round_below_its_quorum_ends_with_the_names_of_those_missing() -> None:
    exchange = Memory([*replies(np.ones((2, 3), np.float32)), Reply("site-7", None, "local")], silent=["site-9"])
    run = rounds(FedAvg(), asking(exchange, quorum=3), Progress.start(FedAvg(), START), 1)
    with pytest.raises(ServerError, match=r"2 sites reported, 3 are needed; .*site-7: local.*site-9"):
        next(run)
    assert next(rounds(FedAvg(), asking(exchange, quorum=2), Progress.start(FedAvg(), START), 1))


def test_every_order_carries_the_scaling_that_was_learnt() -> None:
    scaling = np.zeros(2), np.ones(2)
    exchange = Pulled({"a": 4.0})
    list(rounds(FedAvg(), asking(exchange), Progress.start(FedAvg(), START), 2, scaling=scaling))
    assert [order.scaling for order, _ in exchange.orders] == [scaling] * 2
