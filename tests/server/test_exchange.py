"""Laws of one exchange: bounded waiting, each reply once, in time and as asked for; what is left aside is named."""

import weakref
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pytest

from jangin.codec import cbor
from jangin.errors import LinkError, ServerError
from jangin.flower_link.link import Answer
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, Reply, read_order, reply_body
from jangin.server.exchange import LinkExchange
from jangin.server.rounds import gather

CAMPAIGN = "c" * 64
SITES = ("site-0", "site-1", "site-2")
TRAIN = Order(Kind.TRAIN, 3, np.arange(4, dtype=np.float32), (np.zeros(2), np.ones(2)))
SCALE = Order(Kind.SCALE, 0, np.empty(0, np.float32))


def update(site: str, vector: Any, **changed: Any) -> Wire:
    values = {"kind": "train", "campaign": CAMPAIGN, "round": 3, "vector": np.asarray(vector, np.float32), **changed}
    return Wire(**{"body": reply_body(Reply(site, values["vector"])), **values})


def abstain(code: str) -> Wire:
    return Wire("train", CAMPAIGN, 3, reply_body(Reply("", None, code)))


class FakeRun:
    """A run whose answers come at set times, by a clock that moves when somebody waits."""

    campaign = CAMPAIGN

    def __init__(self, answers: Mapping[str, tuple[float, Wire | LinkError]], never_seen: Collection[str] = ()) -> None:
        self.answers, self.never_seen = answers, never_seen
        self.now = 100.0
        self.pushed: list[tuple[str, Wire, float]] = []
        self.open: set[str] = set()
        self.forgotten: set[str] = set()

    def push(self, site: str, wire: Wire, *, ttl_seconds: float) -> str:
        if site in self.never_seen:
            raise LinkError("JG-server-203", where=site)
        self.pushed.append((site, wire, ttl_seconds))
        self.open.add(f"to-{site}")
        return f"to-{site}"

    def pull(self, messages: Collection[str]) -> list[Answer]:
        come = []
        for message in messages:
            site = message.removeprefix("to-")
            at, content = self.answers.get(site, (float("inf"), None))
            if message in self.open and at <= self.now - 100.0:
                self.open.discard(message)
                come.append(Answer(message, site, content))
        return come

    def forget(self, messages: Collection[str]) -> None:
        self.forgotten |= set(messages)

    def wait(self, seconds: float) -> None:
        self.now += seconds


def exchange(run: FakeRun, size: int = 4, deadline_s: float = 20.0) -> LinkExchange:
    return LinkExchange(run, SITES, deadline_s, size, clock=lambda: run.now, wait=run.wait)


def test_every_site_gets_the_same_order_in_one_wire() -> None:
    run = FakeRun({site: (0, update(site, [1, 2, 3, 4])) for site in SITES})
    record, total = gather(exchange(run), TRAIN)
    assert (record.reported, total.tolist()) == (SITES, [3, 6, 9, 12])
    assert [site for site, _, _ in run.pushed] == list(SITES)
    assert len({id(wire) for _, wire, _ in run.pushed}) == 1
    _, wire, ttl = run.pushed[0]
    order, deadline_s = read_order(wire.kind, wire.round, wire.body, wire.vector)
    assert (order.kind, order.round, wire.campaign, deadline_s) == (Kind.TRAIN, 3, CAMPAIGN, 20.0)
    np.testing.assert_array_equal(order.vector, TRAIN.vector)
    assert order.scaling is not None
    np.testing.assert_array_equal(order.scaling, TRAIN.scaling)
    assert ttl > deadline_s


def test_moments_come_in_the_body_and_no_empty_vector_travels() -> None:
    moments = np.array([10.0, 0.1, 0.2])
    wire = Wire("scale", CAMPAIGN, 0, reply_body(Reply("", moments)))
    run = FakeRun(dict.fromkeys(SITES, (0, wire)))
    record, total = gather(exchange(run, size=3), SCALE)
    assert run.pushed[0][1].vector is None
    np.testing.assert_array_equal(total, moments * 3)
    assert len(record.reported) == 3


def test_it_ends_when_all_are_in_and_names_who_abstained() -> None:
    run = FakeRun(
        {
            "site-0": (1, update("site-0", [1] * 4)),
            "site-1": (2, abstain("local")),
            "site-2": (3, abstain("JG-site-201")),
        }
    )
    record, _ = gather(exchange(run), TRAIN)
    assert record.abstained == {"site-1": "local", "site-2": "JG-site-201"}
    assert 3 <= run.now - 100 < 3.1


def test_it_ends_at_the_deadline_and_takes_no_reply_after_it() -> None:
    late = {"site-0": (1, update("site-0", [1] * 4)), "site-2": (21, update("site-2", [9] * 4))}
    run = FakeRun(late)
    record, total = gather(exchange(run), TRAIN)
    assert (record.reported, record.missing, total.tolist()) == (("site-0",), ("site-1", "site-2"), [1] * 4)
    assert 20 <= run.now - 100 < 20.1
    assert run.forgotten == {"to-site-1", "to-site-2"}


def test_what_came_by_the_deadline_counts() -> None:
    run = FakeRun({site: (20, update(site, [1] * 4)) for site in SITES})
    record, _ = gather(exchange(run), TRAIN)
    assert len(record.reported) == 3


def test_a_site_that_has_never_connected_is_missing_and_not_waited_for() -> None:
    run = FakeRun({site: (0, update(site, [1] * 4)) for site in SITES[:2]}, never_seen=["site-2"])
    record, _ = gather(exchange(run), TRAIN)
    assert (record.reported, record.missing) == (("site-0", "site-1"), ("site-2",))
    assert run.now - 100 < 1


def test_a_second_answer_to_one_message_is_not_heard() -> None:
    class Twice(FakeRun):
        def pull(self, messages: Collection[str]) -> list[Answer]:
            return [answer for answer in super().pull(messages) for _ in range(2)]

    run = Twice({site: (0, update(site, [1] * 4)) for site in SITES})
    assert len(list(_pulled(exchange(run)))) == 3
    record, total = gather(exchange(Twice(run.answers)), TRAIN)
    assert (len(record.reported), total.tolist()) == (3, [3] * 4)


def _pulled(one: LinkExchange) -> Any:
    one.push(TRAIN, SITES)
    return one.pull()


GARBAGE = {
    "another kind": update("", [1] * 4, kind="scale"),
    "another campaign": update("", [1] * 4, campaign="d" * 64),
    "another round": update("", [1] * 4, round=2),
    "a shorter vector": update("", [1] * 3),
    "a longer vector": update("", [1] * 5),
    "no finite vector": update("", [1, 2, 3, np.nan]),
    "a masked vector": Wire("train", CAMPAIGN, 3, reply_body(Reply("", np.ones(4, np.float32))), np.ones(4, np.uint32)),
    "no body": update("", [1] * 4, body=b""),
    "another body": update("", [1] * 4, body=cbor.encode({"count": 7})),
    "a count beside it": update(
        "", [1] * 4, body=cbor.encode({"content": "update", "abstained": None, "moments": None, "count": 7})
    ),
    "an update and a code": update("", [1] * 4, body=reply_body(Reply("", None, "local"))),
    "moments": Wire("train", CAMPAIGN, 3, reply_body(Reply("", np.ones(4)))),
    "held, which nobody asked for": Wire("train", CAMPAIGN, 3, reply_body(Reply("", None))),
    "a code of its own": Wire(
        "train", CAMPAIGN, 3, cbor.encode({"content": "code", "abstained": "tired", "moments": None})
    ),
    "what Flower cannot read": LinkError("JG-site-210", problem="it is not"),
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_left_aside_and_named(content: Wire | LinkError) -> None:
    good = update("", [1] * 4)
    run = FakeRun({"site-0": (0, good), "site-1": (0, content), "site-2": (0, good)})
    one = exchange(run)
    record, total = gather(one, TRAIN)
    assert one.refused == {"site-1": "JG-server-340"}
    assert (record.reported, record.missing, total.tolist()) == (("site-0", "site-2"), ("site-1",), [2] * 4)


def test_an_update_is_no_answer_to_an_order_for_moments() -> None:
    run = FakeRun({site: (0, update(site, [1] * 4, kind="scale", round=0)) for site in SITES})
    one = exchange(run)
    with pytest.raises(ServerError, match="JG-server-001"):
        gather(one, SCALE)
    assert set(one.refused) == set(SITES)


def test_a_run_that_ended_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun({})

    def ended(*_: object, **__: object) -> Any:
        raise LinkError("JG-server-204", where=CAMPAIGN)

    one = exchange(run)
    one.push(TRAIN, SITES)
    monkeypatch.setattr(run, "pull", ended)
    with pytest.raises(LinkError, match="JG-server-204"):
        list(one.pull())
    monkeypatch.setattr(run, "push", ended)
    with pytest.raises(LinkError, match="JG-server-204"):
        exchange(run).push(TRAIN, SITES)


def test_whoever_stops_listening_leaves_no_message_behind() -> None:
    run = FakeRun({site: (index, update(site, [1] * 4)) for index, site in enumerate(SITES)})
    one = exchange(run)
    one.push(TRAIN, SITES)
    replies = one.pull()
    next(replies)
    replies.close()
    assert run.forgotten == {"to-site-1", "to-site-2"}


class WatchedRun(FakeRun):
    """Whether what was sent before is still held by somebody when there is a next look."""

    def __init__(self, sites: Collection[str]) -> None:
        super().__init__({site: (number, LinkError("-")) for number, site in enumerate(sites)})
        self.vectors: list[weakref.ref[Any]] = []
        self.held = 0

    def pull(self, messages: Collection[str]) -> list[Answer]:
        self.held += sum(vector() is not None for vector in self.vectors)
        come = [answer._replace(content=update(answer.site, [1] * 4)) for answer in super().pull(messages)]
        self.vectors += [weakref.ref(answer.content.vector) for answer in come if isinstance(answer.content, Wire)]
        return come


def test_a_vector_is_let_go_of_before_the_next_look() -> None:
    run = WatchedRun(SITES)
    assert gather(exchange(run), TRAIN)[1].tolist() == [3.0] * 4
    assert (len(run.vectors), run.held) == (3, 0)


class HoldingRun(FakeRun):
    """Sites that hold their updates, and how many of these were ever on their way at once."""

    def __init__(self, sites: Collection[str], seconds: float, never_collected: Collection[str] = ()) -> None:
        super().__init__({})
        self.sites, self.seconds, self.never_collected = sites, seconds, never_collected
        self.due: dict[str, tuple[float, str, Wire]] = {}
        self.most_on_the_way = 0

    def push(self, site: str, wire: Wire, *, ttl_seconds: float) -> str:
        self.pushed.append((site, wire, ttl_seconds))
        message = f"{wire.kind}-to-{site}"
        if wire.kind == "collect" and site in self.never_collected:
            return message
        vector = np.full(4, 1.0, np.float32) if wire.kind == "collect" else None
        reply = Wire(wire.kind, CAMPAIGN, 3, reply_body(Reply(site, vector)), vector)
        self.due[message] = self.now + self.seconds, site, reply
        on_the_way = sum(reply.vector is not None for _, _, reply in self.due.values())
        self.most_on_the_way = max(self.most_on_the_way, on_the_way)
        return message

    def pull(self, messages: Collection[str]) -> list[Answer]:
        come = [message for message in messages if message in self.due and self.due[message][0] <= self.now]
        return [Answer(message, site, reply) for message in come for _, site, reply in [self.due.pop(message)]]


MANY = tuple(f"site-{number}" for number in range(11))


def waves(run: HoldingRun, most_together_bytes: int = 0, deadline_s: float = 20.0) -> LinkExchange:
    return LinkExchange(
        run, MANY, deadline_s, 4, most_together_bytes=most_together_bytes, clock=lambda: run.now, wait=run.wait
    )


@pytest.mark.parametrize(("most_together_bytes", "abreast"), [(0, 2), (64, 2), (100, 3), (170, 5)])
def test_large_updates_wait_at_their_sites_and_are_collected_in_waves(most_together_bytes: int, abreast: int) -> None:
    run = HoldingRun(MANY, seconds=1.0)
    record, total = gather(waves(run, most_together_bytes), TRAIN)
    assert (sorted(record.reported), total.tolist()) == (sorted(MANY), [11.0] * 4)
    orders = [read_order(wire.kind, wire.round, wire.body, wire.vector)[0] for _, wire, _ in run.pushed]
    assert [order.kind for order in orders] == [Kind.TRAIN] * 11 + [Kind.COLLECT] * 11
    assert [order.hold for order in orders] == [True] * 11 + [False] * 11
    assert run.most_on_the_way == abreast


def test_updates_that_are_small_together_come_with_the_replies() -> None:
    run = FakeRun({site: (0, update(site, [1] * 4)) for site in SITES})
    gather(LinkExchange(run, SITES, 20.0, 4, most_together_bytes=48, clock=lambda: run.now, wait=run.wait), TRAIN)
    assert [read_order(w.kind, w.round, w.body, w.vector)[0].hold for _, w, _ in run.pushed] == [False] * 3


def test_what_is_not_collected_by_the_deadline_is_missing() -> None:
    run = HoldingRun(MANY, seconds=1.0, never_collected=MANY[:5])
    record, total = gather(waves(run), TRAIN)
    assert (record.missing, total.tolist()) == (MANY[:5], [6.0] * 4)
    assert 20 <= run.now - 100 < 20.1
    assert "collect-to-site-0" in run.forgotten


def test_an_update_that_was_to_be_held_is_left_aside() -> None:
    class Eager(HoldingRun):
        def push(self, site: str, wire: Wire, *, ttl_seconds: float) -> str:
            message = super().push(site, wire, ttl_seconds=ttl_seconds)
            if wire.kind == "train" and site == MANY[0]:
                self.due[message] = self.now, site, update(site, [9] * 4)
            return message

    run = Eager(MANY, seconds=0.5)
    one = waves(run)
    record, total = gather(one, TRAIN)
    assert (record.missing, total.tolist()) == ((MANY[0],), [10.0] * 4)
    assert one.refused == {MANY[0]: "JG-server-340"}


def test_sites_that_hold_have_less_time_to_train_than_there_is() -> None:
    run = HoldingRun(MANY, seconds=1.0)
    gather(waves(run), TRAIN)
    first, *_, last = (read_order(wire.kind, wire.round, wire.body, wire.vector)[1] for _, wire, _ in run.pushed)
    assert first == pytest.approx(14.0)
    assert 0 < last < 20.0
