"""Laws of the gate: each reason to refuse has its code, and one order clears."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ledgers import EPISODES, Key, Memory
from peers import a_manifest

from jangin.client.door import PUBLIC_CODES, outward
from jangin.client.gate import STEPS, Cleared, Standing, admit, clear, is_of_a_sum
from jangin.client.limits import Conditions
from jangin.client.settings import SecureSumBlock
from jangin.client.state import Pause, SiteFolder
from jangin.errors import JanginError
from jangin.flower_link.wire import Wire
from jangin.plan.cells import split
from jangin.plan.messages import Kind, Order, order_body, order_digest, step_body
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.accounts import Account, Wish
from jangin.privacy.ledger import Ledger
from jangin.privacy.releases import Unit
from jangin.privacy.secure_sum.journal import Noted
from jangin.privacy.secure_sum.table import Step
from jangin.privacy.secure_sum.transcript import Manifest
from jangin.records.manifest import open_validated
from jangin.training.price import price
from jangin.trust.keys import Identity
from jangin.trust.roster import RosterSite, Status

NOTHING = np.empty(0, np.float32)
PARAMETERS = np.zeros(43, np.float32)
TRAIN = Order(Kind.TRAIN, 1, PARAMETERS)
FREE = Conditions(None, 2**40)

Case = Callable[..., "tuple[Wire, Standing]"]


def wired(campaign: str, order: Order) -> Wire:
    vector = order.vector if order.vector.size else None
    return Wire(order.kind.value, campaign, order.round, order_body(order, 60.0), vector)


@pytest.fixture
def case(standing: Any, ministry: Any, plan: Callable[..., TrainingPlan], made_records: Path, tmp_path: Path) -> Case:
    """An order and what the site knows; `changed` takes the plan's blocks, the rest what is to be wrong."""

    everything = [
        bytes.fromhex(digest) for held in open_validated(made_records)[1].contents.values() for digest in held.values()
    ]

    def reserved(asked: TrainingPlan) -> Account:
        units, cost = {key: [key] for key in everything}, price(asked)
        wish = Wish(asked.hash, asked.model_line, "x", Unit.EPISODE, asked.charged_rounds, cost, units)
        with Ledger(tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite", "site-0", Key(), Memory()) as ledger:
            ledger.grant([EPISODES], ministry.now)
            ledger.reserve(wish, ministry.now, exposed=True)
            return ledger.accounts[asked.hash]

    def case(
        *,
        changed: dict[str, Any] | None = None,
        order: Order = TRAIN,
        envelope: Callable[[TrainingPlan], bytes] = ministry.signed,
        sites: dict[str, RosterSite] | None = None,
        **said: Any,
    ) -> tuple[Wire, Standing]:
        asked = plan(**(changed or {}))
        block = SecureSumBlock(n_min=4, n_min_final=3, n_honest_min=2, c_max=1, demo=True)
        knows = {"account": reserved(asked), "units": frozenset(everything), "episodes": frozenset(everything)}
        known = standing(envelope(asked), sites, **(knows | said))
        settings = known.settings.model_copy(update={"secure_sum": block})
        return wired(asked.hash, order), replace(known, settings=settings)

    return case


def refused(wire: Wire, standing: Standing, ministry: Any, later: timedelta = timedelta()) -> str:
    with pytest.raises(JanginError) as refusal:
        clear(wire, standing, ministry.now + later)
    assert str(refusal.value)
    return refusal.value.code


def test_an_order_of_an_approved_plan_clears(case: Case, ministry: Any, made_records: Path) -> None:
    wire, standing = case()
    cleared = clear(wire, standing, ministry.now)
    assert isinstance(cleared, Cleared)
    assert (cleared.plan.hash, cleared.records, cleared.again) == (wire.campaign, made_records, False)
    assert cleared.deadline_s == 60.0


def test_no_order_gets_more_time_than_its_plan_gives_a_round(case: Case, ministry: Any) -> None:
    wire, standing = case()
    endless = Wire("train", wire.campaign, 1, order_body(TRAIN, 1e300), PARAMETERS)
    cleared = clear(endless, standing, ministry.now)
    assert cleared.deadline_s == cleared.plan.sites.deadline_s == 60.0


def test_the_last_order_word_for_word_clears_again_whatever_its_deadline(case: Case, ministry: Any) -> None:
    wire, standing = case()
    first = clear(wire, standing, ministry.now)
    later = Wire("train", wire.campaign, 1, order_body(TRAIN, 5.0), PARAMETERS)
    again = clear(later, replace(standing, answered=(1, first.digest)), ministry.now)
    assert again.again
    assert again.digest == first.digest


@pytest.mark.parametrize(
    ("order", "answered"),
    [
        (TRAIN, (2, "a" * 64)),
        (TRAIN, (1, "a" * 64)),
        (Order(Kind.SCALE, 0, NOTHING), (1, "a" * 64)),
    ],
)
def test_rounds_never_go_back_and_none_is_answered_twice_differently(
    case: Case, ministry: Any, order: Order, answered: tuple[int, str]
) -> None:
    wire, standing = case(order=order, answered=answered)
    assert refused(wire, standing, ministry) == "JG-site-314"


def test_what_is_kept_may_be_collected_and_nothing_else(case: Case, ministry: Any) -> None:
    collect = Order(Kind.COLLECT, 1, NOTHING)
    wire, standing = case(order=collect, answered=(1, "a" * 64))
    assert clear(wire, standing, ministry.now).again
    for answered in (None, (0, "a" * 64), (2, "a" * 64), (1, "")):
        wire, standing = case(order=collect, answered=answered)
        assert refused(wire, standing, ministry) == "JG-site-317"


@pytest.mark.parametrize(
    "changed",
    [
        {"body": b""},
        {"body": b"\xa0"},
        {"body": order_body(TRAIN, 60.0) + b"\x00"},
        {"vector": None},
        {"vector": PARAMETERS + np.float32("nan")},
        {"vector": PARAMETERS.astype(np.uint32)},
        {"kind": "share"},
        {"kind": "scale", "round": 0},
    ],
)
def test_what_is_not_an_order_is_refused(case: Case, ministry: Any, changed: dict[str, Any]) -> None:
    wire, standing = case()
    assert refused(replace(wire, **changed), standing, ministry) == "JG-site-306"


@pytest.mark.parametrize(
    ("order", "rounds"), [(Order(Kind.TRAIN, 3, PARAMETERS), 2), (Order(Kind.TRAIN, 0, PARAMETERS), 2)]
)
def test_a_round_that_the_plan_does_not_have_is_refused(case: Case, ministry: Any, order: Order, rounds: int) -> None:
    wire, standing = case(order=order, changed={"strategy": {"rounds": rounds}})
    assert refused(wire, standing, ministry) == "JG-site-313"


def test_a_second_scaling_is_no_round(case: Case, ministry: Any) -> None:
    wire, standing = case(order=Order(Kind.SCALE, 1, NOTHING))
    assert refused(wire, standing, ministry) == "JG-site-313"


def test_a_plan_that_was_never_given_or_is_another_is_refused(case: Case, ministry: Any) -> None:
    wire, standing = case()
    assert refused(wire, replace(standing, envelope=None), ministry) == "JG-site-307"
    assert refused(replace(wire, campaign="0" * 64), standing, ministry) == "JG-site-307"


def test_a_plan_changed_after_its_approval_is_another_plan(
    case: Case, ministry: Any, plan: Callable[..., TrainingPlan]
) -> None:
    wire, standing = case()
    changed = plan(strategy={"rounds": 200})
    assert refused(wire, replace(standing, envelope=ministry.signed(changed)), ministry) == "JG-site-307"
    assert refused(replace(wire, campaign=changed.hash), replace(standing, approved=False), ministry) == "JG-site-307"


@pytest.mark.parametrize(
    ("signers", "code"), [(("kim",), "JG-site-114"), (("lee", "park"), "JG-site-117"), (("kim", "park"), "JG-site-117")]
)
def test_a_plan_that_the_right_two_did_not_sign_is_refused(
    case: Case, ministry: Any, signers: tuple[str, ...], code: str
) -> None:
    wire, standing = case(envelope=lambda asked: ministry.plan(asked.model_dump(mode="json"), signers))
    assert refused(wire, standing, ministry) == code


def test_a_plan_of_another_federation_is_refused(case: Case, ministry: Any) -> None:
    other = type(ministry)()
    wire, standing = case(envelope=other.signed)
    assert refused(wire, standing, ministry) == "JG-site-112"


def test_an_expired_roster_stops_everything(case: Case, ministry: Any) -> None:
    wire, standing = case()
    assert refused(wire, standing, ministry, timedelta(days=31)) == "JG-site-120"


def test_a_clock_far_behind_the_signers_is_refused(case: Case, ministry: Any) -> None:
    wire, standing = case()
    assert refused(wire, standing, ministry, timedelta(days=-1)) == "JG-site-119"


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.REVOKED])
def test_a_site_that_is_not_active_is_refused(case: Case, ministry: Any, site: SiteFolder, status: Status) -> None:
    keys = {"identity": site.identity().public_text, "node_key": site.node_key().public_text}
    wire, standing = case(sites={"site-0": RosterSite(**keys, status=status)})
    assert refused(wire, standing, ministry) == "JG-site-308"


def test_a_site_that_is_absent_or_has_other_keys_on_the_roster_is_refused(
    case: Case, ministry: Any, site: SiteFolder
) -> None:
    keys = {"identity": Identity.generate().public_text, "node_key": site.node_key().public_text}
    for sites in ({}, {"site-0": RosterSite(**keys)}):
        wire, standing = case(sites=sites)
        assert refused(wire, standing, ministry) == "JG-site-308"


def test_a_plan_that_leaves_a_promise_to_a_default_is_refused(
    case: Case, ministry: Any, plan: Callable[..., TrainingPlan]
) -> None:
    def short(asked: TrainingPlan) -> bytes:
        tree = asked.model_dump(mode="json")
        del tree["privacy"]["epsilon"]
        return ministry.plan(tree)

    wire, standing = case(envelope=short)
    signed = standing.trust.plan(standing.envelope or b"", ministry.now)
    assert refused(replace(wire, campaign=signed.hash), standing, ministry) == "JG-site-309"


@pytest.mark.parametrize(
    ("break_", "code"),
    [
        (lambda tree: tree["governance"].update(prohibited=["dismissal"]), "JG-plan-055"),
        (lambda tree: tree["governance"].update(purposes=["profit"]), "JG-plan-003"),
        (lambda tree: tree.pop("privacy"), "JG-plan-002"),
        (lambda tree: tree.update(fab="code"), "JG-plan-001"),
        (lambda tree: tree["privacy"].update(epsilon=1.0, delta=0.5, nominal_units=10), "JG-plan-020"),
        (
            lambda tree: tree["privacy"].update(
                secure_aggregation="required", n_plan=1, c_max=1, spare_rounds=2, update_clip=10.0, nominal_units=50
            ),
            "JG-plan-033",
        ),
        (lambda tree: tree["privacy"].update(mechanism="M2", c_max=1, n_plan=1, coalition_epsilon=9.0), "JG-plan-032"),
    ],
)
def test_a_signed_plan_that_cannot_hold_together_is_refused(
    case: Case, ministry: Any, plan: Callable[..., TrainingPlan], break_: Callable[[Any], object], code: str
) -> None:
    tree = plan().model_dump(mode="json")
    break_(tree)
    wire, standing = case(envelope=lambda _: ministry.plan(tree))
    signed = standing.trust.plan(standing.envelope or b"", ministry.now)
    assert refused(replace(wire, campaign=signed.hash), standing, ministry) == code


def test_a_plan_for_others_is_refused(case: Case, ministry: Any) -> None:
    wire, standing = case(changed={"sites": {"invite": ["site-1"]}})
    assert refused(wire, standing, ministry) == "JG-site-310"


def test_a_plan_that_nobody_here_approved_is_refused(case: Case, ministry: Any) -> None:
    wire, standing = case(approved=False)
    assert refused(wire, standing, ministry) == "JG-site-311"


def test_a_line_is_installed_and_of_the_plans_process_and_never_a_file(
    case: Case, ministry: Any, tmp_path: Path
) -> None:
    file = tmp_path / "line.yaml"
    file.write_text("line: x")
    for line in ("no-such-line", str(file), "../lines/national-bof-blow", "national-bof-blow.yaml"):
        wire, standing = case(changed={"model_line": line})
        assert refused(wire, standing, ministry) == "JG-site-312"
    wire, standing = case(changed={"process": "ship.hull_weld"})
    assert refused(wire, standing, ministry) == "JG-site-312"


def test_a_line_that_somebody_added_and_nobody_can_read_is_refused(
    case: Case, ministry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own" / "lines").mkdir(parents=True)
    (tmp_path / "own" / "lines" / "own-line.yaml").write_text("line: own-line")
    monkeypatch.setenv("JANGIN_CATALOGUE", str(tmp_path / "own"))
    wire, standing = case(changed={"model_line": "own-line"})
    assert refused(wire, standing, ministry) == "JG-site-312"


def damaged(records: Path, tmp_path: Path, how: str) -> Path:
    """A copy of the records with one thing wrong."""
    copy = tmp_path / "copy"
    shutil.copytree(records, copy)
    match how:
        case "not validated":
            (copy / "manifest.json").unlink()
        case "one more file":
            (copy / "more.txt").write_text("x")
        case "another card":
            (copy / "card.yaml").write_text((copy / "card.yaml").read_text() + "# later\n")
        case "gone":
            shutil.rmtree(copy)
    return copy


@pytest.mark.parametrize("how", ["not validated", "one more file", "another card", "gone", "no such process"])
def test_without_validated_records_the_site_abstains_and_keeps_the_reason(
    case: Case, ministry: Any, made_records: Path, tmp_path: Path, how: str
) -> None:
    wire, standing = case()
    block = standing.settings.data[0]
    changed = {"process": "ship.hull_weld"} if how == "no such process" else {}
    block = block.model_copy(update={"path": str(damaged(made_records, tmp_path, how)), **changed})
    settings = standing.settings.model_copy(update={"data": (block,)})
    code = refused(wire, replace(standing, settings=settings), ministry)
    assert (code, outward(code)) == ("JG-site-320", "local")


def test_a_plan_by_master_needs_a_hold_out_by_master(case: Case, ministry: Any) -> None:
    wire, standing = case(changed={"privacy": {"unit": "master"}})
    assert refused(wire, standing, ministry) == "JG-site-320"


def test_what_is_private_about_a_reason_stays_here() -> None:
    for code in (
        "JG-site-314",
        "JG-site-320",
        "JG-site-322",
        "JG-site-350",
        "JG-site-356",
        "JG-site-101",
        "JG-data-005",
        "JG-privacy-005",
    ):
        assert outward(code) == "local"
    for code in PUBLIC_CODES:
        assert outward(code) == code


SECRET: dict[str, Any] = {
    "sites": {"invite": [f"site-{number}" for number in range(4)], "min_sites": 4},
    "privacy": {"secure_aggregation": "required", "n_plan": 4, "c_max": 1, "spare_rounds": 1, "nominal_units": 10},
}
STEP_KINDS = sorted(STEPS)


def beginning(standing: Standing, wire: Wire, now: Any, order: Order = TRAIN, **changed: Any) -> tuple[Wire, Manifest]:
    """The order with the manifest that fits it, but for what is changed."""
    held = {
        "campaign": wire.campaign,
        "round": order.round,
        "model": order_digest(order),
        "roster": hashlib.sha256(standing.trust.roster(now).payload).digest(),
        "size": len(PARAMETERS),
    }
    manifest = a_manifest(**(held | changed))
    return wired(wire.campaign, replace(order, manifest=manifest.encode())), manifest


def test_an_order_that_begins_a_secure_sum_clears_with_what_it_takes(case: Case, ministry: Any) -> None:
    bare, standing = case(changed=SECRET)
    wire, manifest = beginning(standing, bare, ministry.now)
    joining = clear(wire, standing, ministry.now).joining
    assert joining is not None
    assert joining.manifest == manifest
    assert joining.terms.least == 4
    assert joining.policy.n_min == 4
    assert joining.identities.keys() == {"site-0"}
    assert is_of_a_sum(wire)
    assert not is_of_a_sum(bare)


def test_a_site_of_a_plan_of_cells_joins_those_of_its_own_cell_alone(case: Case, ministry: Any) -> None:
    sites: dict[str, Any] = {"invite": [f"site-{number}" for number in range(12)], "min_sites": 12}
    privacy = SECRET["privacy"] | {"cells": 3}
    bare, standing = case(changed={"sites": sites, "strategy": {"name": "median"}, "privacy": privacy})
    wire, _ = beginning(standing, bare, ministry.now)
    joining = clear(wire, standing, ministry.now).joining
    assert joining is not None
    (own,) = [cell for cell in split(wire.campaign, sites["invite"], 3) if "site-0" in cell]
    assert joining.terms.invited == own
    assert len(own) == 4


def test_a_plan_of_sums_is_never_answered_in_clear_nor_the_other_way_round(case: Case, ministry: Any) -> None:
    bare, standing = case(changed=SECRET)
    assert refused(bare, standing, ministry) == "JG-sum-021"
    collect = wired(bare.campaign, Order(Kind.COLLECT, 1, NOTHING))
    assert refused(collect, replace(standing, answered=(1, "a" * 64)), ministry) == "JG-sum-021"
    clear_plan, standing = case()
    wire, _ = beginning(standing, clear_plan, ministry.now)
    assert refused(wire, standing, ministry) == "JG-sum-022"


@pytest.mark.parametrize(
    "changed",
    [{"campaign": "cd" * 32}, {"round": 2}, {"model": bytes(32)}, {"roster": bytes(32)}, {"size": 42}],
)
def test_a_manifest_of_something_else_than_came_is_refused(case: Case, ministry: Any, changed: dict[str, Any]) -> None:
    bare, standing = case(changed=SECRET)
    wire, _ = beginning(standing, bare, ministry.now, **changed)
    assert refused(wire, standing, ministry) == "JG-sum-003"


def test_a_sum_is_of_the_parameters_and_not_of_a_control_that_rides_with_them(case: Case, ministry: Any) -> None:
    order = replace(TRAIN, vector=np.zeros(2 * len(PARAMETERS), np.float32))
    bare, standing = case(changed=SECRET | {"strategy": {"name": "scaffold"}}, order=order)
    wire, _ = beginning(standing, bare, ministry.now, order)
    assert clear(wire, standing, ministry.now).joining is not None
    wire, _ = beginning(standing, bare, ministry.now, order, size=len(order.vector))
    assert refused(wire, standing, ministry) == "JG-sum-003"


def test_a_manifest_that_is_none_is_refused(case: Case, ministry: Any) -> None:
    bare, standing = case(changed=SECRET)
    for garbage in (b"", b"\xff", b"\xa0"):
        wire = wired(bare.campaign, replace(TRAIN, manifest=garbage))
        assert refused(wire, standing, ministry) == "JG-site-306"


def test_a_sum_begins_after_every_other_and_comes_again_only_while_it_is_open(case: Case, ministry: Any) -> None:
    bare, standing = case(changed=SECRET)
    wire, manifest = beginning(standing, bare, ministry.now, attempt=2)
    for last in (Noted(1, 2, {}), Noted(1, 3, {}), Noted(2, 1, {})):
        assert refused(wire, replace(standing, noted=last), ministry) == "JG-sum-004"
    assert not clear(wire, replace(standing, noted=Noted(1, 1, {})), ministry.now).again
    assert clear(wire, replace(standing, noted=Noted(1, 2, {}), open=manifest), ministry.now).again


def test_known_sites_that_may_not_take_part_are_missed_and_nobody_is_told(case: Case, ministry: Any) -> None:
    bare, standing = case(changed=SECRET)
    wire, _ = beginning(standing, bare, ministry.now)
    fingerprint = Identity.generate().fingerprint
    block = {"known": {"site-0": fingerprint}, "k_known": 1}
    policy = standing.settings.secure_sum.model_copy(update=block)
    code = refused(
        wire,
        replace(standing, settings=standing.settings.model_copy(update={"secure_sum": policy})),
        ministry,
    )
    assert (code, outward(code)) == ("JG-sum-012", "local")


@pytest.mark.parametrize(
    ("demanded", "code"),
    [({"n_min": 5}, "JG-sum-006"), ({"n_min_final": 5}, "JG-sum-006"), ({"c_max": 2}, "JG-sum-015")],
)
def test_a_sum_that_can_never_be_what_the_site_demands_is_not_begun(
    case: Case, ministry: Any, demanded: dict[str, int], code: str
) -> None:
    bare, standing = case(changed=SECRET)
    wire, _ = beginning(standing, bare, ministry.now)
    policy = standing.settings.secure_sum.model_copy(update=demanded)
    settings = standing.settings.model_copy(update={"secure_sum": policy})
    assert refused(wire, replace(standing, settings=settings), ministry) == code


def test_no_more_rounds_begin_in_a_day_than_the_site_allows_and_nobody_is_told(case: Case, ministry: Any) -> None:
    wire, standing = case()
    most = standing.settings.limits.rounds_a_day
    assert clear(wire, replace(standing, begun=most - 1), ministry.now)
    code = refused(wire, replace(standing, begun=most), ministry)
    assert (code, outward(code)) == ("JG-site-323", "local")
    digest = clear(wire, standing, ministry.now).digest
    assert clear(wire, replace(standing, begun=most, training=digest), ministry.now)


REHEARSE = Order(Kind.REHEARSE, 0, PARAMETERS)


@pytest.mark.parametrize("answered", [None, (2, "a" * 64)])
def test_a_rehearsal_clears_whatever_was_answered_and_is_never_answered_with_what_was_kept(
    case: Case, ministry: Any, answered: tuple[int, str] | None
) -> None:
    wire, standing = case(order=REHEARSE, answered=answered)
    spent = replace(standing, account=replace(standing.account, spent=frozenset({0, 1, 2})))  # type: ignore[type-var]
    for knows in (standing, spent):
        cleared = clear(wire, knows, ministry.now)
        assert (cleared.again, cleared.hold, cleared.joining) == (False, False, None)
        assert cleared.episodes
    assert clear(wired(wire.campaign, replace(REHEARSE, round=1)), standing, ministry.now)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"approved": False}, "JG-site-311"),
        ({"account": None}, "JG-site-318"),
        ({"conditions": Conditions(Pause(datetime(2020, 1, 1, tzinfo=UTC), None), 2**40)}, "JG-site-382"),
        ({"rehearsed": 1000}, "JG-site-323"),
        ({"begun": 1000}, "JG-site-323"),
        ({"episodes": frozenset()}, "JG-site-320"),
    ],
)
def test_a_rehearsal_is_refused_for_what_a_round_is_refused_for(
    case: Case, ministry: Any, said: dict[str, Any], code: str
) -> None:
    assert refused(*case(order=REHEARSE, **said), ministry) == code


def test_of_a_campaign_there_are_two_rehearsals_and_no_third(case: Case, ministry: Any) -> None:
    assert refused(*case(order=replace(REHEARSE, round=2)), ministry) == "JG-site-313"


def test_a_rehearsal_of_sums_is_asked_in_clear_where_such_sums_may_come_about(case: Case, ministry: Any) -> None:
    wire, standing = case(changed=SECRET, order=REHEARSE)
    assert clear(wire, standing, ministry.now).joining is None
    strict = standing.settings.secure_sum.model_copy(update={"n_min": 5})
    settings = standing.settings.model_copy(update={"secure_sum": strict})
    assert refused(wire, replace(standing, settings=settings), ministry) == "JG-sum-006"


def with_limits(standing: Standing, **limits: Any) -> Standing:
    block = standing.settings.limits.model_copy(update=limits)
    return replace(standing, settings=standing.settings.model_copy(update={"limits": block}))


def outside_its_window(standing: Standing, now: datetime) -> Standing:
    hour = (now.hour + 2) % 24
    return with_limits(standing, windows=(f"Mon-Sun {hour:02}:00-{hour:02}:30",), tz="Etc/UTC")


def paused(standing: Standing, now: datetime) -> Standing:
    return replace(standing, conditions=replace(FREE, pause=Pause(now - timedelta(hours=1), None)))


def short_of_disk(standing: Standing, now: datetime) -> Standing:
    less = replace(standing, conditions=replace(FREE, free_bytes=2 * 2**20 - 1))
    return with_limits(less, disk_free_min="2MiB")


@pytest.mark.parametrize(
    ("shut_by", "expected"),
    [(outside_its_window, "JG-site-381"), (paused, "JG-site-382"), (short_of_disk, "JG-site-386")],
)
def test_no_order_is_begun_against_the_sites_own_say_and_what_was_begun_goes_on(
    case: Case, ministry: Any, shut_by: Callable[[Standing, datetime], Standing], expected: str
) -> None:
    def shut(standing: Standing) -> Standing:
        return shut_by(standing, ministry.now)

    wire, standing = case()
    digest = clear(wire, standing, ministry.now).digest
    code = refused(wire, shut(standing), ministry)
    assert (code, outward(code)) == (expected, "local")
    assert clear(wire, shut(replace(standing, training=digest)), ministry.now)
    assert clear(wire, shut(replace(standing, answered=(1, digest))), ministry.now).again
    bare, standing = case(changed=SECRET)
    begun, manifest = beginning(standing, bare, ministry.now)
    assert refused(begun, shut(standing), ministry) == expected
    assert clear(begun, shut(replace(standing, open=manifest)), ministry.now).again
    step = Wire(STEP_KINDS[0], bare.campaign, 1, step_body(b"message", 9.0))
    assert admit(step, shut(replace(standing, open=manifest)), ministry.now)


@pytest.mark.parametrize("kind", STEP_KINDS)
def test_a_step_is_admitted_for_the_open_sum_of_its_round_alone(case: Case, ministry: Any, kind: str) -> None:
    bare, standing = case(changed=SECRET)
    _, manifest = beginning(standing, bare, ministry.now)
    open_ = replace(standing, open=manifest)
    wire = Wire(kind, bare.campaign, 1, step_body(b"message", 9.0))
    assert admit(wire, open_, ministry.now) == (Step(kind), b"message")
    assert is_of_a_sum(wire)

    def code(wire: Wire, standing: Standing) -> str:
        with pytest.raises(JanginError) as refusal:
            admit(wire, standing, ministry.now)
        return refusal.value.code

    assert code(wire, standing) == code(replace(wire, round=2), open_) == "JG-sum-023"
    assert code(wire, replace(open_, approved=False)) == "JG-site-311"
    assert code(wire, replace(open_, account=None)) == "JG-site-318"
    assert code(wire, replace(open_, trust=ministry.trust(ministry.roster({})))) == "JG-site-308"
    assert code(replace(wire, campaign="0" * 64), open_) == "JG-site-307"
    for garbage in (replace(wire, body=b""), replace(wire, vector=PARAMETERS)):
        assert code(garbage, open_) == "JG-site-306"
