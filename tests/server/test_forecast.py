"""Laws of the forecast: epsilon is what the ledger charges, bytes those of messages, hours those of measured orders.

A whole campaign of real processes is compared with its forecast in tests/federation/test_forecast.py.
"""

from typing import Any

import numpy as np
import pytest
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, no_object_id_recompute
from ledgers import EPISODES, NOON, Key, Memory, keys
from sums import Federation

from jangin.codec import cbor
from jangin.flower_link.weight import _Message, answered, asked
from jangin.flower_link.wire import Wire, pack
from jangin.privacy.accounts import Wish
from jangin.privacy.ledger import Ledger
from jangin.privacy.releases import NO_DIFFERENTIAL_PRIVACY, Reading, Unit
from jangin.privacy.secure_sum.table import Step
from jangin.server import pace
from jangin.server.conductor import MOST_ATTEMPTS
from jangin.server.forecast import Basis, Measured, forecast, public_pace, sum_messages
from jangin.server.life import Act, State
from jangin.server.store import CampaignRow, EvaluationEntry, Outcome, RehearsalEntry, RoundEntry
from jangin.training.price import price
from jangin.trust.envelope import Kind, seal

SITES = [f"site-{number}" for number in range(5)]
CHUNK = 5 * 2**20 // 4
PRIVATE = {
    "sites.invite": SITES,
    "privacy.epsilon": 4.0,
    "privacy.delta": 1e-5,
    "privacy.nominal_units": 1000,
    "strategy.batch": 1000,
    "strategy.local_steps": 1,
}
SHARED = {"privacy.mechanism": "M2", "privacy.secure_aggregation": "required", "privacy.n_plan": 5, "privacy.c_max": 1}
SUMS = {"sites.invite": SITES, "sites.min_sites": 5, "privacy.nominal_units": 20} | {
    key: value for key, value in SHARED.items() if key != "privacy.mechanism"
}
EVALUATE = {"evaluate": {"metrics": ["mae"], "bound": [0, 50], "every": 2, "epsilon_share": 0.3}}


@pytest.mark.parametrize("changes", [{}, SHARED, EVALUATE], ids=["M1", "M2", "evaluated"])
def test_epsilon_is_what_a_sites_ledger_charges_for_the_whole_campaign(
    plan: Any, tmp_path: Any, changes: dict[str, Any]
) -> None:
    made = plan(**PRIVATE | changes)
    found = forecast(made).epsilon
    assert not isinstance(found, str)
    charged = {(one.unit, one.reading): one for one in found.charged}
    wish = Wish(
        made.hash,
        made.model_line,
        "x",
        Unit.EPISODE,
        made.charged_rounds,
        price(made),
        {k: [k] for k in keys(range(3))},
    )
    with Ledger(tmp_path / "ledger.sqlite", "site-0", Key(), Memory()) as ledger:
        ledger.grant([EPISODES], NOON)
        ledger.reserve(wish, NOON)
        most = {reading: ledger.spent(Unit.EPISODE, reading) for reading in Reading}
        for number in range(0 if made.privacy.scaling_share else 1, made.strategy.rounds + 1):
            ledger.spend(made.hash, number, NOON)
        ledger.end(made.hash, NOON)
        planned = {reading: ledger.spent(Unit.EPISODE, reading) for reading in Reading}
    for reading in Reading:
        one = charged[Unit.EPISODE, reading]
        assert (one.most, one.planned) == pytest.approx((most[reading], planned[reading]), rel=1e-9)
        assert (one.planned < one.most) == made.privacy.sums_only  # spare rounds are reserved, and come back
    assert found.promise <= 4.0


def test_a_plan_without_a_promise_says_so(plan: Any) -> None:
    assert forecast(plan()).epsilon == NO_DIFFERENTIAL_PRIVACY


@pytest.mark.parametrize("values", [None, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
@pytest.mark.parametrize("body", [40, 3000])
def test_a_message_weighs_what_flower_makes_of_it(values: int | None, body: int) -> None:
    vector = None if values is None else np.arange(values, dtype=np.float32)
    metadata = Metadata(
        run_id=2**60,
        message_id="",
        src_node_id=1,
        dst_node_id=2**60,
        reply_to_message_id="",
        group_id="1",
        created_at=1e9,
        ttl=60.0,
        message_type="query",
    )
    message = make_message(metadata, pack(Wire("train", "a" * 64, 3, bytes(body), vector)))
    with no_object_id_recompute():
        objects = get_all_nested_objects(message)
    weighed = _Message.of(body, values)
    assert weighed.objects == len(objects)
    assert weighed.content == pytest.approx(sum(len(one.deflate()) for one in objects.values()), rel=0.03)


def test_what_a_site_fetches_grows_down_and_what_it_sends_grows_up() -> None:
    small, large = (way(100, 1) for way in (asked, answered)), (way(100, 10**6 + 1) for way in (asked, answered))
    (fetched, sent), (fetched_more, sent_more) = small, large
    assert fetched_more.down - fetched.down == sent_more.up - sent.up == 4 * 10**6
    assert (fetched_more.up, sent_more.down) == (fetched.up, sent.down)


@pytest.mark.parametrize("sites", [4, 7])
def test_the_messages_of_a_secure_sum_are_as_long_as_those_of_the_machines(sites: int) -> None:
    federation = Federation(sites)
    expected = sum_messages(federation.names, federation.manifest.encode())
    for step in Step:
        request = federation.server.request(federation.names[0])
        answers = {name: federation.ask(name) for name in federation.names}
        lengths = len(request), len(answers[federation.names[0]].body)
        assert tuple(map(len, expected[step])) == pytest.approx(lengths, rel=0.05), step
        for name, answer in answers.items():
            federation.give(name, answer)
        federation.server.close()


def test_bytes_are_counted_by_what_is_asked_as_often_as_it_is(plan: Any) -> None:
    made = plan(**{"sites.invite": SITES} | EVALUATE)
    found = forecast(made).bytes
    orders = {name: part.orders for name, part in found.parts.items()}
    assert orders == {"scale": 1, "train": 4, "evaluate": 2, "commit": 5}
    assert (found.site_up, found.site_down) == tuple(
        sum(getattr(part, way) for part in found.parts.values()) for way in ("up", "down")
    )
    assert (found.server_in, found.server_out) == (5 * found.site_up, 5 * found.site_down)


def test_updates_that_are_large_together_are_asked_for_twice_and_cross_once(
    plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(**{"sites.invite": SITES, "model": {"name": "mlp", "hidden": [8]}})
    at_once = forecast(made).bytes.parts["train"]
    monkeypatch.setattr("jangin.server.forecast.MOST_TOGETHER_BYTES", 1)
    held = forecast(made).bytes.parts["train"]
    more = asked(60) + answered(40)
    assert held.up - at_once.up == pytest.approx(4 * more.up, rel=0.05)
    assert held.down - at_once.down == pytest.approx(4 * more.down, rel=0.1)


def test_the_cohort_is_that_of_the_round_and_of_its_sums(plan: Any) -> None:
    clear, summed = forecast(plan(**{"sites.invite": SITES})).cohort, forecast(plan(**SUMS)).cohort
    assert (clear.invited, clear.begin, clear.quorum, clear.opened) == (5, 2, 4, None)
    assert (summed.begin, summed.quorum, summed.opened) == (5, 5, 4)


def test_hours_are_the_median_seconds_of_each_kind_of_order_as_often_as_it_is_asked(plan: Any) -> None:
    made = plan(**{"sites.invite": SITES} | EVALUATE)
    measured = Measured(Basis.ROUNDS, "a" * 64, [90.0, 2.0, 2.0], [5.0], [1.0])
    hours = forecast(made, measured).hours
    assert hours.estimate * 3600 == pytest.approx(5 + 4 * 2 + 2 * 1)
    assert hours.deadlines * 3600 == (1 + 4 + 2) * made.sites.deadline_s
    assert hours.most > MOST_ATTEMPTS * hours.deadlines
    assert forecast(made).hours.basis is Basis.PACE


@pytest.fixture
def ran(world: Any) -> Any:
    """A campaign that the database knows, with rounds of so many seconds."""

    def ran(plan: Any, *seconds: float) -> str:
        envelope = seal(Kind.PLAN, cbor.encode(plan.model_dump(mode="json")), world.keys["operator"])
        world.store.draft(CampaignRow(plan.hash, plan.campaign, envelope, State.DRAFT), plan.sites.invite, "operator")
        for act in (Act.PROPOSE, Act.APPROVE, Act.CONSULT, Act.START):
            world.store.move(plan.hash, act)
        for number, one in enumerate(seconds):
            world.store.record(plan.hash, RoundEntry(number, 1, Outcome.FAILED, [], {}, {}, [], 99.0))
            world.store.record(plan.hash, RoundEntry(number, 2, Outcome.FINISHED, ["site-0"], {}, {}, [], one))
        return str(plan.hash)

    return ran


def test_the_pace_is_that_of_a_campaign_that_trains_alike_else_of_the_rehearsal_else_public(
    world: Any, plan: Any, ran: Any
) -> None:
    made = plan(campaign="to-come")
    assert pace.measured(world.store, made) == public_pace(made)
    ran(plan(campaign="another-model", model={"name": "mlp", "hidden": [4]}), 7.0, 7.0)
    ran(made)
    world.store.ask_rehearsal(made.hash)
    assert pace.measured(world.store, made).basis is Basis.PACE
    world.store.record_rehearsal(made.hash, RehearsalEntry(1, True, ["site-0"], seconds=3.0))
    assert pace.measured(world.store, made) == Measured(Basis.REHEARSAL, made.hash, [3.0])
    ran(plan(campaign="more-sites", **{"sites.invite": [*SITES, "site-5"]}), 8.0, 8.0)
    before = ran(plan(campaign="before", **{"strategy.rounds": 9}), 5.0, 2.0, 2.5)
    shown = EvaluationEntry(2, {"mae": [1.0, 0.1]}, ["site-0"], {}, {}, [], 1.5)
    world.store.record_evaluation(before, shown)
    assert pace.measured(world.store, made) == Measured(Basis.ROUNDS, before, [2.0, 2.5], [5.0], [1.5])
