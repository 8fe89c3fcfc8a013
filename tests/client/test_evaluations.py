"""Laws of evaluations at a site: paid first, once a round, of the hold-out alone, and one sum is all that leaves."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ledgers import EPISODES, NOON, Key, Memory

from jangin.client import consent, desk
from jangin.client.gate import clear
from jangin.client.settings import PrivacyLimits
from jangin.client.spending import allowed, wish
from jangin.client.state import Kept, SiteFolder, Task
from jangin.client.worker import Trainer
from jangin.codec import cbor
from jangin.errors import JanginError
from jangin.flower_link.wire import Wire
from jangin.models.cut import cut
from jangin.models.lines import read_line
from jangin.plan.messages import Kind, Order, order_body, order_digest, read_reply
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.accounts import Account, cost_form
from jangin.privacy.ledger import Ledger
from jangin.privacy.releases import Charge, GaussianRelease, Reading, Unit
from jangin.records.dataset import Records
from jangin.records.manifest import open_validated
from jangin.records.process import read_process
from jangin.training.evaluation import Evaluator
from jangin.training.price import price
from jangin.training.recipe import Recipe

FIVE = [f"site-{number}" for number in range(5)]
JUDGED: dict[str, Any] = {
    "sites": {"invite": FIVE},
    "strategy": {"rounds": 4},
    "evaluate": {"metrics": ["mae", "rmse"], "bound": [0, 1], "every": 2},
}
COST = dict.fromkeys(
    Reading, Charge(Unit.EPISODE, 4, (), (GaussianRelease(9.0, 1.0, 1),), (GaussianRelease(20.0, 1.0, 2),))
)


def scaling(plan: TrainingPlan) -> tuple[np.ndarray, np.ndarray]:
    columns = len(Recipe.of(plan).public_scaling().center)
    return np.zeros(columns), np.ones(columns)


def judge(plan: TrainingPlan, number: int = 2, shift: float = 0.0) -> Order:
    model = Recipe.of(plan).initial()
    vector = (model.read()[model.layout.shared] + shift).astype(np.float32)
    return Order(Kind.EVALUATE, number, vector, scaling(plan))


def wired(plan: TrainingPlan, order: Order) -> Wire:
    return Wire(
        order.kind.value, plan.hash, order.round, order_body(order, 60.0), order.vector if order.vector.size else None
    )


def digest(order: Order) -> str:
    return order_digest(order).hex()


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with Ledger(tmp_path / "ledger.sqlite", "site-0", Key(), Memory()) as ledger:
        ledger.grant([EPISODES], NOON)
        yield ledger


@pytest.fixture
def account(ledger: Ledger, made_records: Path, plan: Any) -> Account:
    """Of a campaign that evaluates, with what it asked."""
    asked, manifest = plan(**JUDGED), open_validated(made_records)[1]
    ledger.reserve(wish(asked, COST, manifest, made_records, PrivacyLimits()), NOON)
    return ledger.accounts[asked.hash]


def test_hold_out_units_are_charged_where_a_plan_evaluates_and_nowhere_else(plan: Any, made_records: Path) -> None:
    manifest, limits = open_validated(made_records)[1], PrivacyLimits()
    trained = {bytes.fromhex(digest) for name in manifest.train for digest in manifest.contents[name].values()}
    held = {bytes.fromhex(digest) for name in manifest.holdout for digest in manifest.contents[name].values()}
    assert held
    assert set(wish(plan(), None, manifest, made_records, limits).units) == trained
    assert set(wish(plan(**JUDGED), None, manifest, made_records, limits).units) == trained | held
    sides = [allowed(Unit.EPISODE, manifest, (), trained | held, held_out=side) for side in (False, True)]
    assert [set(side) for side in sides] == [set(manifest.train), set(manifest.holdout)]
    assert allowed(Unit.EPISODE, manifest, (), trained, held_out=True) == {}


def test_the_whole_of_all_evaluations_is_spent_before_the_first_for_every_unit(
    ledger: Ledger, account: Account, made_records: Path
) -> None:
    manifest, campaign = open_validated(made_records)[1], account.reservation.campaign
    key = bytes.fromhex(next(iter(manifest.contents[manifest.holdout[0]].values())))
    whole = ledger.spent(Unit.EPISODE, Reading.SECURE_SUM, key)
    ledger.spend(campaign, 0, NOON)
    ledger.end(campaign, NOON)
    order = ledger.order(Unit.EPISODE, Reading.SECURE_SUM)
    assert ledger.totals(Unit.EPISODE, Reading.SECURE_SUM)[key] == pytest.approx(2 * order / (2 * 20.0**2))
    assert 0 < ledger.spent(Unit.EPISODE, Reading.SECURE_SUM, key) < whole


@pytest.fixture
def case(standing: Any, ministry: Any, plan: Any, account: Account, ledger: Ledger) -> Callable[..., str | Any]:
    """What the gate says of an order: cleared, or a code."""
    asked = plan(**JUDGED)
    knows = standing(
        ministry.signed(asked),
        answered=(1, "a" * 64),
        account=account,
        units=frozenset(ledger.units(asked.hash)),
        episodes=frozenset(ledger.episodes(asked.hash)),
    )

    def case(order: Order, **said: Any) -> Any:
        try:
            return clear(wired(asked, order), replace(knows, **said), ministry.now)
        except JanginError as error:
            return error.code

    return case


def test_only_the_plans_own_rounds_are_evaluated_each_once_and_in_order(case: Any, plan: Any, ledger: Ledger) -> None:
    asked = plan(**JUDGED)
    manifest = open_validated(case(judge(asked)).records)[1]
    for number in (2, 4):
        cleared = case(judge(asked, number))
        assert (cleared.again, set(cleared.episodes)) == (False, set(manifest.holdout))
    assert {case(judge(asked, number)) for number in (0, 1, 3, 5, 8)} == {"JG-site-313"}
    done = (2, digest(judge(asked)))
    assert case(judge(asked), evaluated=done).again
    assert case(judge(asked, shift=0.5), evaluated=done) == "JG-site-328"
    assert case(judge(asked), evaluated=(4, digest(judge(asked, 4)))) == "JG-site-328"
    assert not case(judge(asked, 4), evaluated=done).again
    assert case(judge(asked), training="b" * 64) == "JG-site-328"
    assert not case(judge(asked), training=digest(judge(asked))).again
    train = replace(judge(asked, 2), kind=Kind.TRAIN)
    assert set(case(train, evaluated=done).episodes) == set(manifest.train)
    assert case(train, training="b" * 64) == "JG-site-314"
    ledger.spend(asked.hash, 0, NOON)
    assert not case(judge(asked)).again
    assert case(Order(Kind.SCALE, 0, np.empty(0, np.float32)), answered=None) == "JG-site-319"
    ledger.end(asked.hash, NOON)
    assert case(judge(asked)) == "JG-site-318"


def test_a_hold_out_without_budget_is_left_out_and_nobody_learns_of_it(case: Any, plan: Any) -> None:
    cleared = case(judge(plan(**JUDGED)), episodes=frozenset())
    assert cleared.episodes == {}


def test_a_hold_out_is_without_those_who_do_not_allow_it_and_nobody_learns_of_it(
    case: Any, plan: Any, site: SiteFolder
) -> None:
    before = case(judge(plan(**JUDGED))).masters
    gone = next(iter(before))
    consent.revoke(site.path, gone, clock=desk.now_utc)
    assert case(judge(plan(**JUDGED))).masters == {master: count for master, count in before.items() if master != gone}


def request(plan: TrainingPlan, order: Order, records: Path, episodes: dict[str, str]) -> dict[str, Any]:
    return {
        "site": "site-0",
        "plan": cbor.encode(plan.model_dump(mode="json")),
        "campaign": plan.hash,
        "records": str(records),
        "episodes": episodes,
        "masters": sorted(set(open_validated(records)[1].masters.values())),
        "cost": cost_form(price(plan)),
        "own": None,
        "kind": order.kind.value,
        "round": order.round,
        "body": order_body(order, 60.0),
        "vector": order.vector.astype("<f4").tobytes(),
    }


def contents(records: Path, side: str) -> dict[str, str]:
    manifest = open_validated(records)[1]
    return {episode: one for name in getattr(manifest, side) for episode, one in manifest.contents[name].items()}


def test_the_worker_opens_the_hold_out_for_an_evaluation_alone(
    plan: Any, made_records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, opened = plan(**JUDGED), []
    for side in ("train", "holdout"):
        real = getattr(Records, side)
        monkeypatch.setattr(
            Records, side, lambda self, only=None, real=real, side=side: (opened.append(side), real(self, only))[1]
        )
    trainer, held = Trainer(), contents(made_records, "holdout")
    answers = [trainer.answer(request(asked, judge(asked), made_records, held)) for _ in range(2)]
    assert opened == ["holdout"]
    line = read_line(asked.model_line)
    rows = cut(line, Records.open(made_records).holdout(), read_process(line.process), "episode")
    expected = Evaluator("site-0", rows, Recipe.of(asked)).answer(judge(asked)).moments
    opened.clear()
    for answer in answers:
        found = read_reply(Kind.EVALUATE, "site-0", answer["body"], answer["vector"]).moments  # type: ignore[arg-type]
        np.testing.assert_array_equal(found, expected)
        assert answer["own"] is None
    assert found is not None
    assert found[0] == len(held)
    train = replace(judge(asked, 1), kind=Kind.TRAIN)
    trainer.answer(request(asked, train, made_records, contents(made_records, "train")))
    assert opened == ["train"]
    told = trainer.answer(request(asked, train, made_records, held))  # the hold-out has no part in training
    assert not np.frombuffer(told["vector"], "<f4").any()  # type: ignore[call-overload]
    assert opened == ["train", "train"]


def test_an_evaluation_reads_parameters_alone_whatever_else_the_site_keeps(plan: Any, made_records: Path) -> None:
    asked = plan(**JUDGED | {"strategy": {"name": "scaffold", "rounds": 4}})
    held = contents(made_records, "holdout")
    order = judge(asked)
    told = [
        Trainer().answer(request(asked, order, made_records, held) | {"own": own})
        for own in (None, np.full(2 * len(order.vector), 9, "<f4").tobytes())
    ]
    assert told[0]["body"] == told[1]["body"]


def test_an_order_that_is_not_of_the_plans_model_is_a_misfit(plan: Any, made_records: Path) -> None:
    asked, held = plan(**JUDGED), contents(made_records, "holdout")
    for order in (replace(judge(asked), vector=np.ones(3, np.float32)), replace(judge(asked), scaling=None)):
        assert "misfit" in Trainer().answer(request(asked, order, made_records, held))


def test_replies_of_both_kinds_are_kept_side_by_side_and_dropped_together(site: SiteFolder) -> None:
    trained, judged = (Kept(2, digest, b"x", None) for digest in ("a" * 64, "b" * 64))
    site.keep_reply("c" * 64, trained)
    assert site.kept_reply("c" * 64, evaluation=True) is None
    site.keep_reply("c" * 64, judged, evaluation=True)
    assert (site.kept_reply("c" * 64), site.kept_reply("c" * 64, evaluation=True)) == (trained, judged)
    site.drop_reply("c" * 64)
    assert not list((site.path / "updates").iterdir())


def test_a_site_evaluates_what_it_trained_once_and_a_failed_evaluation_frees_nothing(
    enrolled: SiteFolder, server: Any, plan: Any, ministry: Any, daemons: Any, wait: Any, gather: Any
) -> None:
    asked = plan(**JUDGED)
    server.plans.append(ministry.signed(asked))
    desk.approve(enrolled.path, asked.hash, price)
    run = server.link.open_run(asked.hash)
    daemon = daemons(enrolled)
    wait(server.link.online)

    def ask(order: Order) -> Any:
        content = gather(run, run.push("site-0", wired(asked, order), ttl_seconds=60.0)).content
        assert isinstance(content, Wire)
        return read_reply(order.kind, "site-0", content.body, content.vector)  # type: ignore[arg-type]

    update = ask(replace(judge(asked), kind=Kind.TRAIN)).update
    assert update is not None
    broken = replace(judge(asked), vector=np.ones(3, np.float32))
    assert ask(broken).abstained == "JG-site-306"
    first, again = (ask(judge(asked)).moments for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first is not None
    assert first[0] == len(open_validated(enrolled.path / enrolled.settings().data[0].path)[1].holdout)
    assert ask(judge(asked, shift=0.1)).abstained == "local"
    np.testing.assert_array_equal(ask(replace(judge(asked), kind=Kind.TRAIN)).update, update)
    daemon.send_signal(signal.SIGTERM)
    daemon.communicate(timeout=20)
    run.close()
    with enrolled.journal() as journal, enrolled.ledger() as ledger:
        assert ledger.accounts[asked.hash].spent == {0, 2}
        assert journal.task(asked.hash, 2) is Task.SENT
        lines = [line for line in journal.egress(100) if line.kind == "evaluate"]
    assert any("3 sums of the hold-out" in line.says["en"] for line in lines)
