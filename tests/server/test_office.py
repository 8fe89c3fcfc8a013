"""Laws of the office: an act is one signed command, done once, by somebody who may, and the log says who and how."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.codec import cbor
from jangin.errors import JanginError, PlanError, ServerError
from jangin.server import campaigns, desk, kpi, shelf
from jangin.server import office as room
from jangin.server.apart import refuse_apart
from jangin.server.audit import exported, verify
from jangin.server.database import Database
from jangin.server.life import Act, State
from jangin.server.office import Office
from jangin.server.refusals import raised, told
from jangin.server.roles import RULES, Right
from jangin.server.store import Store
from jangin.trust.commands import LIFE, signed_command
from jangin.trust.envelope import Kind, countersign, seal
from jangin.trust.keys import Identity

Signed = Callable[..., bytes]


@pytest.fixture
def office(world: Any) -> Office:
    return Office(world.state, world.store, world.members, refuse=lambda plan: None, clock=lambda: world.now)


@pytest.fixture
def act(office: Office, world: Any) -> Callable[..., str]:
    """Have a person do something; the state it led to, or the code of the refusal."""

    def done(person: str, right: str, subject: str = "", attachment: bytes = b"", **changed: Any) -> str:
        key = changed.pop("key", None) or world.keys[person]
        command = signed_command(
            right, subject, office.fingerprint, key, world.now, attachment=attachment, arguments=changed
        )
        try:
            answer = office.act(command, attachment, person)
        except JanginError as error:
            return error.code
        return str(answer.get("state", "done"))

    return done


@pytest.fixture
def proposed(world: Any, plan: Any) -> str:
    """A plan that `both` proposed, who may approve as well: two roles, one person."""
    campaign: str = world.propose(plan(), "both")
    return campaign


def approval(world: Any, campaign: str, person: str) -> bytes:
    return countersign(world.store.campaign(campaign).envelope, Kind.PLAN, world.keys[person])


def test_a_campaign_is_led_by_people_of_several_roles(world: Any, plan: Any, act: Any) -> None:
    sites = world.sites(3)
    agreed, payload = plan(), cbor.encode(plan().model_dump(mode="json"))
    assert act("operator", "draft", agreed.hash, payload) == "draft"
    assert act("operator", "draft", agreed.hash, payload) == "JG-server-331"
    assert act("operator", "propose", agreed.hash, desk.sign_plan(agreed, world.keys["operator"])) == "proposed"
    assert world.store.campaign(agreed.hash).proposer == "operator"
    assert act("approver", "approve", agreed.hash, approval(world, agreed.hash, "approver")) == "approved"
    for site in sites:
        world.store.approve(agreed.hash, site.name, site.approval(agreed.hash, world.now))
    for person, right, state in (
        ("operator", "start", "running"),
        ("approver", "pause", "paused"),
        ("operator", "resume", "running"),
        ("approver", "stop", "aborted"),
    ):
        assert act(person, right, agreed.hash, reason="점검") == state
    assert world.store.campaign(agreed.hash).reason == "점검"
    told_of = [link.entry for link in world.store.database.audit() if link.entry.subject == agreed.hash]
    moves = [(entry.act, entry.actor, bool(entry.document)) for entry in told_of if entry.act in set(Act)]
    assert moves == [
        ("draft", "operator", True),
        ("propose", "operator", True),
        ("approve", "approver", True),
        ("consult", "server", False),
        ("start", "operator", True),
        ("pause", "approver", True),
        ("resume", "operator", True),
        ("abort", "approver", True),
    ]
    entries, head = world.store.database.audit_head()
    key = world.state.audit_key
    report = verify(exported(world.store.database.audit(), entries, head, world.now, key), key.public)
    assert report.campaigns == {agreed.hash: State.ABORTED}


def test_nobody_approves_or_releases_a_plan_of_their_own(world: Any, act: Any, proposed: str) -> None:
    for right in ("approve", "release"):
        assert act("both", right, proposed, approval(world, proposed, "both")) == "JG-server-404"
    assert act("approver", "approve", proposed, approval(world, proposed, "approver")) == "approved"
    assert act("both", "release", proposed) == "JG-server-404"
    assert act("approver", "release", proposed) == "JG-site-110"


def test_of_a_campaign_from_before_the_record_all_who_signed_count_as_its_proposers(
    world: Any, act: Any, proposed: str
) -> None:
    act("approver", "approve", proposed, approval(world, proposed, "approver"))
    with world.store.database.writing() as database:
        from jangin.server import tables

        database.execute(tables.campaigns.update().values(proposer=""))
    assert act("both", "release", proposed) == act("approver", "release", proposed) == "JG-server-404"


def test_every_person_without_the_role_is_refused_every_act(world: Any, act: Any, proposed: str) -> None:
    people = {key.person: set(key.roles) for key in world.members.staff(world.now).keys}
    acts = [right for right, rule in RULES.items() if not rule.reads]
    for person, roles in people.items():
        for right in acts:
            if not RULES[right].roles & roles:
                assert act(person, str(right), proposed) == "JG-server-403", (person, right)
    assert world.store.campaign(proposed).state is State.PROPOSED


def test_a_command_is_taken_once_and_a_refused_one_never_comes_to_force(
    office: Office, world: Any, proposed: str
) -> None:
    stop = signed_command("stop", proposed, office.fingerprint, world.keys["operator"], world.now)
    pause = signed_command("pause", proposed, office.fingerprint, world.keys["operator"], world.now)
    with pytest.raises(ServerError, match="JG-server-332"):
        office.act(pause)
    assert office.act(stop)["state"] == "aborted"
    world.store.close()
    restarted = world.state.store()
    again = Office(world.state, restarted, type(world.members)(restarted, world.state.root), clock=lambda: world.now)
    for command in (stop, pause):
        with pytest.raises(ServerError, match="JG-server-402"):
            again.act(command)
    restarted.close()


def test_a_command_is_remembered_for_as_long_as_it_counts_by_every_database(database_url: str, world: Any) -> None:
    store = Store(Database(database_url, Identity.generate()))
    now, expires = world.now, world.now + LIFE

    def take(nonce: str, after: timedelta = timedelta()) -> bool:
        return store.take(nonce * 32, "kim", "pause", expires + after, now + after)

    assert [take("a"), take("a"), take("b"), take("b")] == [True, False, True, False]
    assert take("c", 2 * LIFE)
    assert not take("a", LIFE)
    assert take("d", 3 * LIFE)
    assert take("a", 3 * LIFE)
    store.close()


def test_what_does_not_fit_together_has_its_code(
    office: Office, world: Any, plan: Any, act: Any, proposed: str
) -> None:
    own = desk.sign_plan(plan(campaign="other"), world.keys["both"])
    command = signed_command("invite", "site-9", office.fingerprint, world.keys["operator"], world.now)
    for wish, code in (
        (lambda: office.act(command, person="approver"), "JG-server-405"),
        (lambda: office.act(signed_command("fly", "", office.fingerprint, world.keys["both"], world.now)), "409"),
        (lambda: office.act(signed_command("audit", "", office.fingerprint, world.keys["both"], world.now)), "409"),
        (lambda: office.ask("secrets", {}), "JG-server-409"),
        (lambda: office.ask("audit", {"path": "/"}), "JG-server-409"),
        (lambda: office.ask("plan", {"campaign": "0" * 64}), "JG-server-330"),
        (lambda: office.act_here(Right.APPROVE, proposed), "JG-server-416"),
        (lambda: office.act_here(Right.REHEARSE, proposed), "JG-server-470"),
        (lambda: office.act_here(Right.RELEASE, proposed), "JG-server-416"),
        (lambda: office.ask("models", {}, "observer"), "JG-server-403 observer may not models"),
        (lambda: office.ask("statement", {"campaign": proposed}, "observer"), "JG-server-403"),
    ):
        with pytest.raises(ServerError, match=code):
            wish()
    assert act("operator", "propose", "", own) == "JG-server-405"
    assert act("operator", "propose", "", b"no plan") == "JG-site-110"
    assert act("operator", "draft", "", b"\xa0") == "JG-plan-002"
    assert act("operator", "draft", "", b"no plan") == "JG-server-409"
    assert act("approver", "approve", proposed, own) == "JG-site-114"
    assert act("approver", "approve", "0" * 64, b"") == "JG-server-330"
    assert act("operator", "publish", "", b"no roster") == "JG-site-110"


def test_what_cannot_run_is_not_proposed(world: Any, plan: Any, office: Office) -> None:
    def refuse(_: Any) -> None:
        raise PlanError("JG-plan-044", where="privacy.cells", cells=3)

    strict = Office(world.state, world.store, world.members, refuse=refuse, clock=lambda: world.now)
    signed = desk.sign_plan(plan(), world.keys["operator"])
    command = signed_command("propose", "", strict.fingerprint, world.keys["operator"], world.now, attachment=signed)
    with pytest.raises(PlanError, match="JG-plan-044"):
        strict.act(command, signed)
    assert world.store.campaigns() == []


def test_who_has_left_the_staff_list_asks_nothing(world: Any, office: Office) -> None:
    assert office.ask("members", {}, "auditor")["members"] == []
    for person in ("nobody", "site-0", ""):
        with pytest.raises(ServerError, match="JG-server-403"):
            office.ask("members", {}, person)
    world.now += timedelta(days=365)
    with pytest.raises(ServerError, match="JG-server-403"):
        office.ask("members", {}, "auditor")


def test_a_roster_takes_two_people_and_a_revoked_key_never_comes_back(world: Any, office: Office) -> None:
    world.sites(2)
    roster = world.members.next_roster(world.now, suspend=["site-0"], revoke=["site-1"])
    for keys, code in ((["operator"], "JG-site-114"), (["operator", "approver"], "JG-site-117")):
        envelope = seal(Kind.ROSTER, roster.payload, *(world.keys[person] for person in keys))
        with pytest.raises(JanginError, match=code):
            office.act_here(Right.PUBLISH, "", attachment=envelope)
    envelope = seal(Kind.ROSTER, roster.payload, world.keys["operator"], world.keys["independent"])
    assert office.act_here(Right.PUBLISH, "", attachment=envelope)["version"] == 2
    with pytest.raises(ServerError, match="JG-server-305"):
        office.act_here(Right.PUBLISH, "", attachment=envelope)
    assert [(one.site, one.status) for one in world.members.members()] == [
        ("site-0", "suspended"), ("site-1", "revoked")
    ]  # fmt: skip
    assert set(world.members.next_roster(world.now, confirm=["site-0"]).active) == {"site-0"}
    with pytest.raises(ServerError, match="JG-server-419"):
        world.members.next_roster(world.now, confirm=["site-1"])
    with pytest.raises(ServerError, match="JG-server-321"):
        world.members.next_roster(world.now, suspend=["site-9"])


def test_news_are_the_log_s_own_and_end_with_the_campaign(world: Any, office: Office, proposed: str) -> None:
    first = office.news(proposed, 0)
    assert [(event["act"], event["state"]) for event in first.events] == [("draft", "draft"), ("propose", "proposed")]
    assert not first.ended
    assert office.news("", first.last).events == ()
    world.store.move(proposed, Act.ABORT, reason="enough")
    last = office.news(proposed, first.last, "observer")
    assert [(event["state"], event["detail"]["reason"]) for event in last.events] == [("aborted", "enough")]
    assert last.ended
    with pytest.raises(ServerError, match="JG-server-330"):
        office.news("0" * 64, 0)


def test_an_export_in_pages_is_the_export(world: Any, office: Office, proposed: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "MOST_PAGE_BYTES", 1000)
        with desk.opened(world.state.path) as at:
            report = desk.export(at, tmp_path / "log")
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert len(lines) == report.entries + 1 == world.store.database.audit_head()[0] + 1
    assert verify(lines, world.state.audit_key.public).campaigns == {proposed: State.PROPOSED}


def test_a_model_is_released_and_withdrawn_by_those_who_may_and_the_log_says_who(
    world: Any, plan: Any, act: Any, office: Office
) -> None:
    one, other = (
        world.registry.register(world.learnt(plan(seed=seed), "site-0", "site-1", proposer="both"), world.now).manifest
        for seed in (1, 2)
    )
    campaign, signed = one.campaign, {}
    for person in ("operator", "approver", "both"):
        signed[person] = seal(Kind.MODEL, one.payload, world.keys[person])
    assert act("operator", "release", campaign, signed["operator"]) == "JG-server-403"
    assert act("both", "release", campaign, signed["both"]) == "JG-server-404"
    assert act("approver", "release", campaign, signed["both"]) == "JG-site-118"
    assert act("approver", "release", other.campaign, signed["approver"]) == "JG-server-405"
    assert act("approver", "withdraw", campaign, signed["approver"]) == "JG-site-111"
    assert {found.state for found in world.registry.versions()} == {State.CANDIDATE}
    assert act("approver", "release", campaign, signed["approver"]) == "released"
    with desk.opened(world.state.path) as at:
        gone = shelf.sign_withdrawal(at, one, "thin plates", world.keys["operator"], world.now)
    assert act("approver", "withdraw", campaign, gone) == "JG-server-405"  # somebody else's word
    assert act("operator", "withdraw", other.campaign, gone) == "JG-server-405"
    assert act("operator", "withdraw", campaign, gone) == "withdrawn"
    log = [link.entry for link in world.store.database.audit() if link.entry.subject == campaign]
    assert [(entry.act, entry.actor, bool(entry.document)) for entry in log[-2:]] == [
        ("release", "approver", True), ("withdraw", "operator", True)
    ]  # fmt: skip


def test_a_figure_is_its_evaluator_s_and_of_the_campaign_that_is_named(world: Any, plan: Any, act: Any) -> None:
    made = plan(kpi={"name": "reject_rate", "baseline": 0.081})
    campaign, other = world.learnt(made, "site-0", "site-1"), world.learnt(plan(), "site-0", "site-1")
    with desk.opened(world.state.path) as at:
        assert shelf.planned(at, campaign) == made
        signed = shelf.sign_measurement(at, made, 0.074, "line 2", world.keys["evaluator"], world.now)
    assert act("approver", "measure", campaign, signed) == "JG-server-403"
    assert act("evaluator", "measure", other, signed) == "JG-server-405"
    assert act("evaluator", "measure", campaign, signed) == "done"
    assert [one.person for one in kpi.measurements(world.store, campaign)] == ["evaluator"]


def test_a_desk_signs_nothing_of_what_a_lying_server_says(
    world: Any, plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (world.registry.register(world.learnt(plan(seed=n), "site-0", "site-1"), world.now) for n in (1, 2))
    stranger = Identity.generate()
    with desk.opened(world.state.path) as at:
        assert shelf.versions(at) == world.registry.versions()
        assert shelf.statement(at, one.manifest)
        told = {what: at.ask(what, campaign=other.manifest.campaign) for what in ("models", "statement", "plan")}
        told |= {"statement": {"statement": b"{}"}, "named": {"campaign": other.manifest.campaign}}
        forged = {**told["models"]["models"][0], "receipt": seal(Kind.MODEL, one.manifest.payload, stranger)}
        for lie, look, code in (
            ({"key": stranger.public_text}, shelf.versions, "JG-server-401"),
            ({"models": [forged]}, shelf.versions, "JG-site-112"),
            ({}, lambda at: shelf.statement(at, one.manifest), "JG-server-447"),
            ({}, lambda at: shelf.planned(at, one.manifest.campaign), "JG-server-405"),
        ):
            said = {**told, "models": told["models"] | lie}
            monkeypatch.setattr(at, "ask", lambda what, said=said, **_: said[what])
            with pytest.raises(JanginError, match=code):
                look(at)


def test_versions_in_pages_are_the_versions(world: Any, plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        world.registry.register(world.learnt(plan(seed=seed), "site-0", "site-1"), world.now)
    monkeypatch.setattr(room, "MOST_PAGE_BYTES", 1)
    with desk.opened(world.state.path) as at:
        assert len(at.ask("models")["models"]) == 1
        assert shelf.versions(at) == world.registry.versions()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.fuzz
@given(VALUES)
def test_a_refusal_of_any_form_is_a_refusal(value: object) -> None:
    assert isinstance(raised(value), JanginError)
    assert isinstance(raised({"code": "JG-server-403", "where": "act", "values": value}), JanginError)


def test_a_refusal_comes_back_with_its_words() -> None:
    error = ServerError("JG-server-333", where="steel", approved=["a", "b"], least=3)
    back = raised(told(error))
    assert (type(back), str(back)) == (ServerError, str(error))
    assert raised({"code": "JG-moon-001", "where": "", "values": {}}).code == "JG-server-411"


def test_a_plan_is_judged_apart_by_the_same_codes(plan: Any) -> None:
    wrong = plan(process="pipe.tig_weld")
    with pytest.raises(PlanError) as here:
        campaigns.refuse(wrong)
    with pytest.raises(PlanError) as there:
        refuse_apart(wrong)
    assert str(there.value) == str(here.value)


def test_a_judge_that_does_not_answer_is_a_refusal(plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ServerError, match="JG-server-421"):
        refuse_apart(plan())
