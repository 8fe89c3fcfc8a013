"""Laws of the desk: what a person sees was verified, a yes is to one hash, and roots are not exchanged."""

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from consents import allow

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


def test_a_site_that_was_confirmed_need_not_ask_again_to_say_yes(
    site: SiteFolder, server: Any, authority: Any, root_file: Path, ministry: Any, plan: Plan
) -> None:
    assert not desk.enroll(site.path, server.url, server.token, root_file, authority.ca).confirmed
    server.confirm(site)
    server.plans.append(ministry.signed(plan()))
    campaign = desk.approve(site.path, plan().hash, price)
    assert campaign is not None
    assert (campaign.campaign.hash, desk.status(site.path).roster) == (plan().hash, 1)


def test_a_wrong_token_or_certificate_leaves_the_site_as_it_was(
    site: SiteFolder, server: Any, authority: Any, new_authority: Any, root_file: Path
) -> None:
    other = new_authority().ca
    assert code_of(lambda: desk.enroll(site.path, server.url, "x", root_file, authority.ca)) == "JG-site-301"
    assert code_of(lambda: desk.enroll(site.path, server.url, server.token, root_file, other)) == "JG-site-400"
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


def test_a_short_hash_names_one_plan_that_came_before(
    enrolled: SiteFolder, server: Any, ministry: Any, plan: Plan
) -> None:
    server.plans.append(ministry.signed(plan()))
    short = plan().hash[:8]
    with pytest.raises(JanginError, match=r"JG-site-343 .*with this very request"):
        desk.approve(enrolled.path, short, price)
    with enrolled.journal() as journal:
        assert journal.approval(plan().hash) is None
    for none in (short[:7], short.upper() + "X", "", "0" * 63):
        assert code_of(lambda none=none: desk.approve(enrolled.path, none, price)) == "JG-site-316"
    campaign = desk.approve(enrolled.path, short, price)
    assert campaign is not None
    assert campaign.campaign.hash == plan().hash
    with enrolled.journal() as journal:
        assert journal.approval(plan().hash) == server.approvals[0]


def test_two_plans_that_begin_alike_are_not_one(enrolled: SiteFolder, plan: Plan) -> None:
    one = desk.Campaign("a" * 64, plan(), "running", False, "kim", "lee", True)
    for known in (
        [one, replace(one, hash="a" * 12 + "b" * 52)],
        [replace(one, known=False), replace(one, hash="a" * 63 + "b")],
    ):
        with pytest.raises(JanginError, match=r"JG-site-343 .*2 plans begin so"):
            desk._named("a" * 12, known)
    assert desk._named("a" * 64, [replace(one, known=False)]).hash == "a" * 64


@pytest.mark.parametrize("odd", ["nope", "folder"])
@pytest.mark.parametrize("option", ["root", "ca"])
def test_a_file_that_cannot_be_read_is_named_and_nothing_leaves(
    site: SiteFolder, server: Any, authority: Any, root_file: Path, tmp_path: Path, option: str, odd: str
) -> None:
    (tmp_path / "folder").mkdir()
    files = {"root": root_file, "ca": authority.ca} | {option: tmp_path / odd}
    with pytest.raises(JanginError, match=f"JG-site-341 --{option} {tmp_path / odd}: cannot be read"):
        desk.enroll(site.path, server.url, server.token, **files)
    assert server.heard == []
    with site.journal() as journal:
        assert journal.egress(1) == []


def test_an_empty_file_of_roots_does_not_stand_for_the_machines_own(
    site: SiteFolder, server: Any, root_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(JanginError, match=r"JG-site-202 .*empty"):
        desk.enroll(site.path, server.url, server.token, root_file, tmp_path / "empty")


def test_a_site_without_its_certificates_says_which_file_lacks(enrolled: SiteFolder) -> None:
    enrolled.ca_file.unlink()
    assert code_of(lambda: desk.campaigns(enrolled.path)) == "JG-site-341"


@pytest.mark.parametrize("below", ["", "site"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "plain").touch()
    place = tmp_path / "plain" / below
    assert code_of(lambda: desk.init(place, "site-0", "steel.bof_blow", tmp_path)) == "JG-site-342"


def test_records_that_would_not_be_trained_on_are_doubted_and_the_yes_holds(
    tmp_path: Path, enrolled: SiteFolder, made_records: Path, server: Any, ministry: Any, plan: Plan
) -> None:
    records = tmp_path / "copied"
    shutil.copytree(made_records, records)
    desk.init(tmp_path / "other", "site-1", "steel.bof_blow", records)
    (campaign,) = [desk.Campaign("a" * 64, plan(), "running", True, "kim", "lee", True)]
    assert desk.doubts(tmp_path / "other") is None
    assert desk.doubts(tmp_path / "other", campaign) is None
    with (records / "episodes.parquet").open("ab") as file:
        file.write(b"x")
    doubt = desk.doubts(tmp_path / "other", campaign)
    assert doubt is not None
    assert (doubt.code, "JG-data-005" in doubt.text()) == ("JG-site-320", True)
    shutil.rmtree(records)
    for asked in (None, campaign):
        assert "JG-data-004" in str(desk.doubts(tmp_path / "other", asked))


def test_a_log_that_is_cut_off_says_so(enrolled: SiteFolder) -> None:
    with enrolled.journal() as journal:
        held = len(journal.egress(100))
    whole, cut = (desk.status(enrolled.path, lines=lines) for lines in (held, held - 1))
    assert (len(whole.egress), whole.more_egress, whole.more_moves) == (held, False, False)
    assert (cut.egress, cut.more_egress) == (whole.egress[1:], True)


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
    allow(folder, masters=["S0-M00"])
    (listed,) = command("campaigns", folder)["campaigns"]
    assert (listed["hash"], listed["approved"], listed["epsilon"]) == (plan().hash, False, "none")
    assert listed["consents"] == "1/2"
    assert command("approve", folder, plan().hash)["approved"] == "steel-2026-11"
    for lang, words in (
        ("en", ("left this site", "nothing yet")),
        ("ko", ("사업장: site-0", "작업: 아직 없음", "나간 것")),
    ):
        commands(["status", str(folder), "--lines", "1", "--lang", lang], standalone_mode=False)
        said = capsys.readouterr().out
        assert all(word in said for word in (*words, "--lines N"))
    status = command("status", folder, "--lang", "ko")
    assert (status["site"], status["roster"], status["tasks"]) == ("site-0", 1, [])
    assert [line["kind"] for line in status["egress"]] == ["enroll", "enroll", "commit", "approve"]
    assert "신청" in status["egress"][0]["says"]
