"""Laws of a secure sum at the server: five bounded steps, the exact sum of those who are left, everybody else named."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from summing import CAMPAIGN, ROSTER, Odd, SumSites, at, steps_of, wide

from jangin.errors import LinkError, ServerError
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, Said, order_digest, read_order, read_said, said_body
from jangin.privacy.secure_sum import dealing as parcels
from jangin.privacy.secure_sum.messages import Dealing
from jangin.privacy.secure_sum.policy import threshold
from jangin.privacy.secure_sum.table import Step
from jangin.privacy.secure_sum.transcript import Manifest, Tree, dealing_statement, tagged
from jangin.server import sums
from jangin.server.post import Post
from jangin.server.sums import SecureSum, waits

NAMES = tuple(f"site-{number}" for number in range(7))
TRAIN = Order(Kind.TRAIN, 3, np.arange(4, dtype=np.float32), (np.zeros(2), np.ones(2)))
DEADLINE = 100.0


def asked(sites: SumSites) -> SecureSum:
    return SecureSum(
        Post(sites, clock=sites.clock, wait=sites.wait), sites.terms, sites.identities, ROSTER, clock=sites.clock
    )


def manifest(order: Order = TRAIN, size: int = 4, attempt: int = 1) -> Manifest:
    return Manifest(CAMPAIGN, order.round, attempt, order_digest(order), ROSTER, size, waits(DEADLINE))


def one(odd: Odd = lambda *place: None, **more: Any) -> tuple[SumSites, SecureSum]:
    sites = SumSites(NAMES, wide, odd, **more)
    return sites, asked(sites)


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize("what", ["silent", "JG-site-320", "garbage"])
def test_the_sum_is_that_of_the_named_survivors_whoever_falls_out_at_which_step(step: Step, what: str) -> None:
    odd = (lambda wire: replace(wire, body=b"\xff" * 9)) if what == "garbage" else what
    sites, summed = one(at(step, ["site-2"], odd))
    record, total, certificate = summed.answer(TRAIN, manifest(), quorum=1)
    late = step in (Step.CERTIFY, Step.UNMASK)  # its vector was in
    left = [name for name in NAMES if late or name != "site-2"]
    assert (list(record.reported), total.tolist()) == (left, sites.total(left, 3))
    assert certificate.survivors == record.reported
    named = {"silent": (), "JG-site-320": record.abstained, "garbage": summed.refused}[what]
    assert record.missing == (("site-2",) if what == "silent" and not late else ())
    if named != ():
        code = {"JG-site-320": "JG-site-320", "garbage": "JG-server-340"}[what]
        assert named == ({} if late else {"site-2": code})
    begun = list(Step).index(step)
    asked_of = list(steps_of(sites.pushed).values())
    assert all(("site-2" in names) == (number <= begun) for number, names in enumerate(asked_of))


def test_a_scaling_is_summed_as_well_and_everybody_gets_the_same_order() -> None:
    sites, summed = one()
    order = Order(Kind.SCALE, 0, np.empty(0, np.float32))
    record, total, _ = summed.answer(order, manifest(order, size=9), quorum=1)
    assert (record.round, record.reported, total.tolist()) == (0, NAMES, sites.total(NAMES, 0))
    begun = [wire for wire in sites.letters if wire.kind == "scale"]
    assert len({id(wire) for wire in begun}) == 1  # one wire is stored once
    read, deadline_s = read_order("scale", 0, begun[0].body, None)
    assert read.manifest == manifest(order, size=9).encode()
    assert deadline_s == waits(DEADLINE)[0]


def test_the_five_steps_together_have_no_more_time_than_the_round() -> None:
    assert sum(waits(DEADLINE)) == pytest.approx(DEADLINE)
    assert waits(DEADLINE)[0] > DEADLINE / 2  # most of it to train


@pytest.mark.parametrize("step", list(Step))
def test_no_step_takes_longer_than_its_seconds(step: Step) -> None:
    sites, summed = one(at(step, NAMES[2:], "silent"))
    with pytest.raises(ServerError, match=f"JG-server-344 round 3: .*{step.value}: 2 sites"):
        summed.answer(TRAIN, manifest(), quorum=1)
    seconds = waits(DEADLINE)[list(Step).index(step)]
    assert seconds <= sites.now - 100 < seconds + 5


def test_training_is_waited_for_and_what_the_others_did_at_once_is_not() -> None:
    sites, summed = one(at(Step.ADVERTISE, ["site-2"], 50.0))
    record, _, _ = summed.answer(TRAIN, manifest(), quorum=1)
    assert record.reported == NAMES
    for step in list(Step)[1:]:
        sites, summed = one(at(step, ["site-2"], "silent"))
        summed.answer(TRAIN, manifest(), quorum=1)
        assert 3 <= sites.now - 100 < 7


def test_who_is_a_little_slower_than_the_others_is_waited_for() -> None:
    slow: Odd = lambda number, attempt, step, site: 1.9 if site == "site-2" and step is not Step.ADVERTISE else None  # noqa: E731
    _, summed = one(slow)
    record, _, certificate = summed.answer(TRAIN, manifest(), quorum=1)
    assert (record.reported, set(certificate.signatures)) == (NAMES, set(NAMES))


def silent_but(few: int, step: Step) -> Odd:
    return at(step, NAMES[few:], "silent")


@pytest.mark.parametrize("step", list(Step)[1:])
def test_a_sum_of_too_few_is_not_opened_and_names_who_is_missing(step: Step) -> None:
    few = threshold(len(NAMES)) - 1
    _, summed = one(silent_but(few, step))
    with pytest.raises(ServerError) as failed:
        summed.answer(TRAIN, manifest(), quorum=1)
    assert failed.value.coded.values["missing"] == NAMES[few:]
    assert summed.released == (list(Step).index(step) >= 2)


def test_fewer_than_the_quorum_go_no_further_than_the_first_step() -> None:
    sites, summed = one(at(Step.ADVERTISE, NAMES[5:], "JG-site-320"))
    with pytest.raises(ServerError, match="JG-server-001 round 3") as failed:
        summed.answer(TRAIN, manifest(), quorum=6)
    assert failed.value.coded.values["abstained"] == dict.fromkeys(NAMES[5:], "JG-site-320")
    assert set(steps_of(sites.pushed)) == {"train"}
    assert not summed.released


def test_what_is_released_is_told_before_any_vector_is_asked_for() -> None:
    sites, summed = one()
    told: list[int] = []
    summed.answer(TRAIN, manifest(), quorum=1, releasing=lambda: told.append(len(sites.pushed)))
    kinds = [kind for _, kind in sites.pushed]
    assert told == [kinds.index("mask")]


GARBAGE = {
    "another kind": (Step.SHARE, lambda wire: replace(wire, kind="mask")),
    "another round": (Step.SHARE, lambda wire: replace(wire, round=2)),
    "another campaign": (Step.SHARE, lambda wire: replace(wire, campaign="d" * 64)),
    "what Flower cannot read": (Step.SHARE, lambda wire: LinkError("JG-site-210", problem="it is not")),
    "no body": (Step.CERTIFY, lambda wire: replace(wire, body=b"")),
    "a vector where none belongs": (Step.SHARE, lambda wire: replace(wire, vector=np.zeros(4, np.uint32))),
    "a vector in clear": (Step.MASK, lambda wire: replace(wire, vector=np.zeros(4, np.float32))),
    "no vector": (Step.MASK, lambda wire: replace(wire, vector=None)),
    "a shorter vector": (Step.MASK, lambda wire: replace(wire, vector=np.zeros(3, np.uint32))),
    "a code of its own": (Step.MASK, lambda wire: replace(wire, body=wire.body.replace(b"sum", b"sun"))),
    "somebody else's signature": (
        Step.CERTIFY,
        lambda wire: replace(wire, body=said_body(Said("site-2", bytes(64)))),
    ),
}


@pytest.mark.parametrize(("step", "changed"), GARBAGE.values(), ids=GARBAGE)
def test_garbage_puts_its_site_out_of_the_sum_and_nobody_else(step: Step, changed: Any) -> None:
    sites, summed = one(at(step, ["site-2"], changed))
    record, total, certificate = summed.answer(TRAIN, manifest(), quorum=1)
    if step is Step.CERTIFY:  # its vector was in
        assert (record.reported, "site-2" in certificate.signatures) == (NAMES, False)
    else:
        assert summed.refused["site-2"] in {"JG-server-340", "JG-sum-001"}
        assert record.reported == tuple(name for name in NAMES if name != "site-2")
    assert total.tolist() == sites.total(record.reported, 3)
    assert (record.abstained, record.missing) == ({}, ())


def test_vectors_come_in_waves_that_weigh_no_more_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "MOST_TOGETHER_BYTES", 3 * 4 * 4)
    sites, summed = one()
    record, total, _ = summed.answer(TRAIN, manifest(), quorum=1)
    assert (record.reported, total.tolist()) == (NAMES, sites.total(NAMES, 3))
    assert sites.most_vectors == 3


def test_a_wave_of_the_silent_makes_room_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "MOST_TOGETHER_BYTES", 2 * 4 * 4)
    sites, summed = one(at(Step.MASK, NAMES[:2], "silent"))
    record, total, _ = summed.answer(TRAIN, manifest(), quorum=1)
    assert (record.reported, record.missing) == (NAMES[2:], NAMES[:2])
    assert total.tolist() == sites.total(NAMES[2:], 3)


def test_a_dealer_whose_shares_do_not_make_what_it_signed_is_blamed_by_name() -> None:
    sites = SumSites(NAMES, wide)

    def misdealt(wire: Wire) -> Wire:
        """Another seed's digest, signed by the site itself."""
        said = read_said(Kind.SHARE, "site-2", wire.body, None)
        assert said.message is not None
        dealt = Dealing.decode(said.message, len(NAMES))
        size = parcels.PARCEL_BYTES
        leaves = [tagged("parcel", dealt.parcels[cut : cut + size]) for cut in range(0, len(dealt.parcels), size)]
        root, digest = Tree(leaves).root, bytes(32)
        signature = sites.keys["site-2"].sign(dealing_statement(sites.h1, "site-2", root, digest))
        return replace(wire, body=said_body(Said("site-2", Dealing(dealt.parcels, digest, signature).encode())))

    sites.odd = at(Step.SHARE, ["site-2"], misdealt)
    summed = asked(sites)
    with pytest.raises(ServerError, match=r"JG-server-345 round 3: .*site-2"):
        summed.answer(TRAIN, manifest(), quorum=1)
    assert summed.blamed == {"site-2": "JG-sum-018"}
    assert summed.released


def test_a_run_that_ends_is_told_and_leaves_no_letter_behind() -> None:
    _, summed = one(at(Step.MASK, ["site-2"], LinkError("JG-server-204", where=CAMPAIGN)))
    with pytest.raises(LinkError, match="JG-server-204"):
        summed.answer(TRAIN, manifest(), quorum=1)
