"""What an adversary tried on a site and its ledger, kept as laws."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jangin.client import desk
from jangin.client.api import CampaignOffer, Offer
from jangin.client.daemon import Daemon, _Ready
from jangin.client.settings import BudgetBlock
from jangin.client.state import Kept, SiteFolder, Task
from jangin.client.worker import Trainer
from jangin.codec import cbor
from jangin.codec.document import parse
from jangin.errors import LinkError, PlanError
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, order_body
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.accounts import cost_form
from jangin.records.manifest import open_validated, read_manifest
from jangin.training.price import price
from jangin.training.recipe import Recipe

Plan = Callable[..., TrainingPlan]


def daemon(folder: SiteFolder) -> Daemon:
    return Daemon(folder, clock=desk.now_utc, jitter=random.Random(1))


def start_and_stop(folder: SiteFolder) -> None:
    """A daemon that puts in order what an earlier one left, and nothing more."""
    one = daemon(folder)
    one.stop()
    one.run()


@pytest.fixture
def approved(enrolled: SiteFolder, server: Any, ministry: Any, plan: Plan) -> str:
    """The hash of an approved plan."""
    server.plans.append(ministry.signed(plan()))
    desk.approve(enrolled.path, plan().hash, price)
    return plan().hash


def leave_open(folder: SiteFolder, campaign: str, moves: dict[int, list[Task]], kept: int | None) -> None:
    """As a crash left it: rounds spent and moved so far, and the last reply that was kept."""
    with folder.journal() as journal, folder.ledger() as ledger:
        for number, states in moves.items():
            ledger.spend(campaign, number, desk.now_utc())
            for state in states:
                journal.move(campaign, number, state, desk.now_utc())
    if kept is not None:
        folder.keep_reply(campaign, Kept(kept, "0" * 64, b"", np.ones(3, np.float32)))


ONCE = [Task.GATED, Task.TRAINING]
AGAIN = [*ONCE, Task.TRAINED, Task.SENT, Task.GATED, Task.TRAINED]


@pytest.mark.parametrize(
    ("moves", "kept", "spent"),
    [
        ({1: ONCE}, None, set()),
        ({1: ONCE}, 1, {1}),
        ({1: AGAIN, 2: ONCE}, 1, {1}),
        ({1: AGAIN, 2: ONCE}, 2, {1, 2}),  # round 1, asked for again, was under way as that of round 2 was kept
        ({1: [*ONCE, Task.TRAINED]}, None, {1}),  # a power cut took the reply, which nobody synced into its folder
    ],
)
def test_what_may_have_left_stays_spent_whatever_was_kept_last(
    enrolled: SiteFolder, approved: str, moves: dict[int, list[Task]], kept: int | None, spent: set[int]
) -> None:
    leave_open(enrolled, approved, moves, kept)
    start_and_stop(enrolled)
    with enrolled.ledger() as ledger:
        assert ledger.accounts[approved].spent == spent


def test_an_answer_to_a_campaign_that_ended_meanwhile_is_no_end_of_the_daemon(
    enrolled: SiteFolder, server: Any, approved: str
) -> None:
    leave_open(enrolled, approved, {1: [*ONCE, Task.TRAINED]}, 1)
    server.state = "aborted"
    desk.campaigns(enrolled.path)

    class Over:
        def reply(self, incoming: object, wire: object) -> None:
            raise LinkError("JG-site-208", where="x")

    class Taken:
        def reply(self, incoming: object, wire: object) -> None:
            pass

    for link in (Over(), Taken()):
        one = daemon(enrolled)
        one._ready.append(_Ready(None, Wire("train", approved, 1, b""), Task.SENT))  # type: ignore[arg-type]
        with enrolled.journal() as journal:
            one._send(link, journal)  # type: ignore[arg-type]
            assert (one._ready, journal.task(approved, 1)) == ([], Task.LOST)


def test_a_campaign_that_is_over_frees_its_rounds_also_when_its_signer_has_left(
    enrolled: SiteFolder, server: Any, ministry: Any, plan: Plan, approved: str
) -> None:
    leave_open(enrolled, approved, {1: ONCE}, None)
    alone = ministry.plan(plan().model_dump(mode="json"), signers=("kim",))
    listed = [CampaignOffer(plan=one, state="finished", approved=True) for one in (b"garbage", alone)]
    offer = Offer(staff=ministry.staff(), roster=server.rosters[-1], campaigns=listed, commitment=None)
    with enrolled.journal() as journal, enrolled.ledger() as ledger:
        assert desk.take(offer, enrolled, journal, ledger, desk.now_utc()) == []
        account = ledger.accounts[approved]
        assert (account.ended, account.spent) == (True, {1})


def test_a_recording_that_was_taken_out_or_exchanged_since_the_gate_is_not_trained_on(
    made_records: Path, plan: Plan
) -> None:
    wanted = plan()
    columns = len(Recipe.of(wanted).public_scaling().mean)
    model = Recipe.of(wanted).learner().model
    order = Order(Kind.TRAIN, 1, model.read()[model.layout.shared], (np.zeros(columns), np.ones(columns)))
    manifest = open_validated(made_records)[1]
    everything = {name: manifest.contents[name][name] for name in manifest.train}
    few = dict(list(everything.items())[:2])

    def request(number: int, episodes: dict[str, str]) -> dict[str, object]:
        asked = replace(order, round=number)
        return {
            "site": "site-0",
            "plan": cbor.encode(wanted.model_dump(mode="json")),
            "campaign": wanted.hash,
            "records": str(made_records),
            "episodes": episodes,
            "masters": sorted(set(manifest.masters.values())),
            "cost": cost_form(price(wanted)),
            "own": None,
            "kind": "train",
            "round": number,
            "body": order_body(asked, 60.0),
            "vector": asked.vector.tobytes(),
        }

    warm, fresh = Trainer(), Trainer()
    exchanged = everything | {manifest.train[0]: "0" * 64}
    assert fresh.answer(request(1, exchanged)) == {"failed": "JG-privacy-032"}
    assert warm.answer(request(1, everything))["vector"] != warm.answer(request(1, few))["vector"]
    assert warm.answer(request(2, few)) == fresh.answer(request(2, few))


@pytest.mark.parametrize("digest", ["ab", "", "z" * 64, "A" * 64])
def test_a_digest_that_is_none_is_refused_as_the_manifest_is_read(
    tmp_path: Path, made_records: Path, digest: str
) -> None:
    manifest = open_validated(made_records)[1]
    name = manifest.train[0]
    held = manifest.model_dump(mode="json")
    held["contents"][name] = dict.fromkeys(held["contents"][name], digest)
    (tmp_path / "manifest.json").write_text(json.dumps(held))
    with pytest.raises(PlanError, match="JG-plan-003"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("changed", [{"unit": "site"}, {"secure_sum": 1e-6}, {"coalition": float("inf")}])
def test_a_budget_that_nothing_would_be_counted_on_is_refused(changed: dict[str, Any]) -> None:
    asked = {"unit": "episode", "secure_sum": 8.0, "coalition": 50.0, "delta": 1e-7} | changed
    with pytest.raises(PlanError):
        parse(asked, BudgetBlock, "budget")
