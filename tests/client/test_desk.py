"""Laws of the desk: what a person sees was verified, a yes is to one hash, and roots are not exchanged."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jangin.client import desk
from jangin.client.state import SiteFolder
from jangin.errors import JanginError
from jangin.plan.training_plan import TrainingPlan
from jangin.training.price import price
from jangin.trust.keys import Identity, NodeKey
from jangin.trust.roster import RosterSite

Plan = Callable[..., TrainingPlan]


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(JanginError) as error:
        call()
    assert str(error.value)
    return error.value.code


def newcomer() -> RosterSite:
    return RosterSite(identity=Identity.generate().public_text, node_key=NodeKey.generate().public_text)


def test_a_site_waits_until_the_operator_has_confirmed_it(
    site: SiteFolder, server: Any, authority: Any, root_file: Path
) -> None:
    def ask() -> desk.Enrolled:
        return desk.enroll(site.path, server.url, server.token, root_file, authority.ca)

    first = ask()
    assert (first.confirmed, first.fingerprint) == (False, site.identity().fingerprint)
    assert code_of(lambda: desk.campaigns(site.path)) == "JG-site-301"
    server.confirm(site)
    assert ask().confirmed
    assert desk.status(site.path).roster == 1


def test_a_wrong_token_or_certificate_leaves_the_site_as_it_was(
    site: SiteFolder, server: Any, authority: Any, new_authority: Any, root_file: Path
) -> None:
    other = new_authority().ca
    assert code_of(lambda: desk.enroll(site.path, server.url, "x", root_file, authority.ca)) == "JG-site-301"
    assert code_of(lambda: desk.enroll(site.path, server.url, server.token, root_file, other)) == "JG-site-202"
    assert site.settings().server is None
    assert code_of(lambda: desk.campaigns(site.path)) == "JG-site-302"


def test_a_server_of_another_root_is_not_believed(
    site: SiteFolder, server: Any, authority: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other.pub"
    other.write_text(Identity.generate().public_text)
    server.confirm(site)
    assert code_of(lambda: desk.enroll(site.path, server.url, server.token, other, authority.ca)) == "JG-site-112"


def test_a_root_is_never_exchanged_for_another(
    enrolled: SiteFolder, server: Any, authority: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other.pub"
    other.write_text(Identity.generate().public_text)
    held = enrolled.trust()
    assert code_of(lambda: desk.enroll(enrolled.path, server.url, server.token, other, authority.ca)) == "JG-site-315"
    assert enrolled.trust() == held


def test_a_plan_that_does_not_hold_is_left_aside_and_the_others_are_shown(
    enrolled: SiteFolder, server: Any, ministry: Any, plan: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    server.plans += [b"garbage", ministry.plan({"x": 1}), ministry.signed(plan())]
    assert [campaign.hash for campaign in desk.campaigns(enrolled.path)] == [plan().hash]
    assert len([record for record in caplog.records if "does not hold" in record.message]) == 2


def test_a_yes_is_to_a_hash_on_offer(enrolled: SiteFolder, server: Any, ministry: Any, plan: Plan) -> None:
    server.plans.append(ministry.signed(plan()))
    changed = plan(strategy={"rounds": 200})
    assert code_of(lambda: desk.approve(enrolled.path, changed.hash, price)) == "JG-site-316"
    with enrolled.journal() as journal:
        assert journal.approval(plan().hash) is None
    campaign = desk.approve(enrolled.path, plan().hash, price)
    assert campaign is not None
    with enrolled.journal() as journal:
        assert journal.approval(plan().hash) == server.approvals[0]
        assert journal.approval(changed.hash) is None


def test_a_yes_that_did_not_arrive_is_kept_and_sent_the_next_time(
    enrolled: SiteFolder, server: Any, ministry: Any, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.plans.append(ministry.signed(plan()))
    with monkeypatch.context() as cut:
        cut.setattr(desk.SiteApi, "approve", lambda self, approval: (_ for _ in ()).throw(OSError("cut")))
        with pytest.raises(OSError, match="cut"):
            desk.approve(enrolled.path, plan().hash, price)
    with enrolled.journal() as journal:
        kept = journal.approval(plan().hash)
    desk.approve(enrolled.path, plan().hash, price)
    assert server.approvals == [kept]


def test_many_newcomers_wait_for_a_yes_to_that_very_roster(enrolled: SiteFolder, server: Any) -> None:
    server.sites |= {"site-1": newcomer(), "site-2": newcomer()}
    server.rosters.append(server.ministry.roster(dict(server.sites), 2))
    with pytest.raises(JanginError) as waiting:
        desk.campaigns(enrolled.path)
    assert waiting.value.code == "JG-site-124"
    assert desk.status(enrolled.path).roster == 1
    assert desk.approve(enrolled.path, waiting.value.coded.values["hash"], price) is None
    assert desk.status(enrolled.path).roster == 2
    assert desk.campaigns(enrolled.path) == []


def test_a_roster_that_was_rolled_back_is_refused(enrolled: SiteFolder, server: Any) -> None:
    server.rosters.append(server.ministry.roster(dict(server.sites), 2))
    desk.campaigns(enrolled.path)
    server.rosters.append(server.rosters[0])
    assert code_of(lambda: desk.campaigns(enrolled.path)) == "JG-site-121"
    assert desk.status(enrolled.path).roster == 2


@pytest.mark.parametrize(
    ("name", "process", "code"), [("Site 0", "steel.bof_blow", "JG-plan-003"), ("site-0", "steel.bof", "JG-data-001")]
)
def test_a_site_that_cannot_be_is_not_made(tmp_path: Path, name: str, process: str, code: str) -> None:
    assert code_of(lambda: desk.init(tmp_path / "site", name, process, tmp_path)) == code
    assert not (tmp_path / "site").exists()


def test_the_commands_say_it_in_one_line_of_json(
    tmp_path: Path, server: Any, authority: Any, root_file: Path, made_records: Path, ministry: Any, plan: Plan,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # typer imports names that click is about to rename
        from jangin.cli.site import site as commands

    def command(*arguments: object) -> dict[str, Any]:
        commands([*map(str, arguments), "--format", "json"], standalone_mode=False)
        return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))

    folder = tmp_path / "site"
    records = ["--process", "steel.bof_blow", "--records", made_records]
    made = command("init", folder, "--id", "site-0", *records)
    allowing = SiteFolder(folder).settings().to_yaml().replace("privacy: false", "privacy: true")
    (folder / "site.yaml").write_text(allowing)
    given = ["--server", server.url, "--token", server.token, "--root", root_file, "--ca", authority.ca]
    assert command("enroll", folder, *given)["status"] == "waiting"
    server.confirm(SiteFolder(folder))
    enrolled = command("enroll", folder, *given)
    assert enrolled == {"ok": True, "status": "confirmed", "fingerprint": made["fingerprint"]}
    server.plans.append(ministry.signed(plan()))
    (listed,) = command("campaigns", folder)["campaigns"]
    assert (listed["hash"], listed["approved"], listed["epsilon"]) == (plan().hash, False, "none")
    assert command("approve", folder, plan().hash)["approved"] == "steel-2026-11"
    status = command("status", folder, "--lang", "ko")
    assert (status["site"], status["roster"], status["tasks"]) == ("site-0", 1, [])
    assert [line["kind"] for line in status["egress"]] == ["enroll", "enroll", "commit", "approve"]
    assert "신청" in status["egress"][0]["says"]
