"""Laws of the operator's commands: from nothing to a running campaign, each with one line of JSON or a code."""

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from jangin.errors import JanginError
from jangin.server.life import Act, State
from jangin.server.settings import StateFolder
from jangin.server.store import Outcome, RoundEntry

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # typer imports names that click is about to rename
    import typer
    from typer.testing import CliRunner

Command = Callable[..., dict[str, Any]]


@pytest.fixture
def command() -> Command:
    """Run one command and read its last line; what it raises comes out."""
    from jangin.cli.operators import audit, process
    from jangin.cli.server import campaign, roster, server

    app = typer.Typer()
    groups = {"server": server, "roster": roster, "campaign": campaign, "audit": audit, "process": process}
    for name, group in groups.items():
        app.add_typer(group, name=name)

    def run(*arguments: object) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            done = CliRunner().invoke(app, [*map(str, arguments), "--format", "json"])
        if isinstance(done.exception, JanginError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return dict(json.loads(done.stdout.splitlines()[-1]))

    return run


@pytest.fixture
def made(command: Command, tmp_path: Path) -> tuple[Path, Path]:
    """A state folder and the people's folder, by the commands."""
    people, folder = tmp_path / "people", tmp_path / "state"
    command("server", "staff", people)
    given = ("--staff", people / "staff.envelope", "--root", people / "root.pub")
    answer = command("server", "init", folder, *given, "--port", 0, "--name", "fl.test")
    assert answer["names"] == ["fl.test", "127.0.0.1", "localhost"]
    return folder, people


def test_from_nothing_to_a_running_campaign(
    command: Command, made: tuple[Path, Path], world: Any, plan: Any, tmp_path: Path
) -> None:
    folder, people = made
    state = StateFolder(folder)
    world.store.close()
    world.store = state.store()
    world.members = type(world.members)(world.store, state.root)
    # 1. Members.
    sites = [world.site(f"site-{number}") for number in range(2)]
    for site in sites:
        token = command("roster", "invite", folder, site.name)["token"]
        world.members.enroll(site.name, token, site.identity.public_text, site.node.public_text, world.now)
    keys = [option for name in ("operator", "independent") for option in ("--key", people / f"{name}.key")]
    answer = command("roster", "confirm", folder, "site-0", "site-1", *keys)
    assert answer["version"] == 1
    assert answer["fingerprints"] == {site.name: site.identity.fingerprint for site in sites}
    listed = command("roster", "list", folder)["sites"]
    assert [(site["site"], site["status"]) for site in listed] == [("site-0", "active"), ("site-1", "active")]
    # 2. The campaign.
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(plan().model_dump(mode="json")))
    with pytest.raises(JanginError, match=r"JG-server-352 .*roster: site-2\. "):
        command("campaign", "propose", folder, file, "--key", people / "operator.key")
    agreed = plan(**{"sites.invite": ["site-0", "site-1"]})
    file.write_text(yaml.safe_dump(agreed.model_dump(mode="json")))
    wanted = command("campaign", "propose", folder, file, "--key", people / "operator.key")["campaign"]
    assert wanted == agreed.hash
    with pytest.raises(JanginError, match="JG-site-118"):
        command("campaign", "approve", folder, wanted, "--key", people / "operator.key")
    assert command("campaign", "approve", folder, wanted[:8], "--key", people / "approver.key")["campaign"] == wanted
    with pytest.raises(JanginError, match="JG-server-333"):
        command("campaign", "start", folder, wanted)
    for site in sites:
        world.store.approve(wanted, site.name, site.approval(wanted, world.now))
    assert command("campaign", "start", folder, wanted[:12])["state"] == State.RUNNING
    (status,) = command("campaign", "status", folder)["campaigns"]
    assert (status["hash"], status["state"], status["round"], status["rounds"]) == (wanted, "running", 0, 4)
    assert command("campaign", "status", folder, wanted)["campaigns"] == [status]
    assert status["model"] is None


def test_a_mistake_has_a_code(command: Command, made: tuple[Path, Path], tmp_path: Path) -> None:
    folder, people = made
    given = ("--staff", people / "staff.envelope", "--root", people / "root.pub")
    nope, plain = tmp_path / "nope", tmp_path / "plain"
    plain.touch()
    keys = ("--staff", people / "staff.envelope", "--root")
    for arguments, code in (
        (("server", "init", folder, *given), "JG-server-302"),
        (("server", "init", plain, *given), "JG-server-302"),
        (("server", "init", plain / "state", *given), "JG-server-351"),
        (("server", "init", nope, *keys, nope), f"JG-server-350 --root {nope}: .*No such file"),
        (("server", "init", nope, *keys, people), f"JG-server-350 --root {people}: .*directory"),
        (("server", "init", nope, *keys, plain), "JG-server-304"),
        (("server", "init", nope, "--staff", nope, *given[2:]), f"JG-server-350 --staff {nope}: .*No such file"),
        (("server", "init", nope, "--staff", people, *given[2:]), f"JG-server-350 --staff {people}: .*directory"),
        (("server", "init", nope, "--staff", plain, *given[2:]), "JG-site-110"),
        (("server", "staff", plain), "JG-server-351"),
        (("server", "staff", plain / "staff"), "JG-server-351"),
        (("server", "run", plain), "JG-server-301"),
        (("campaign", "propose", folder, people, "--key", people / "operator.key"), "JG-plan-004"),
        (("campaign", "approve", folder, "0" * 8, "--key", people), "JG-server-330"),
        (("server", "run", tmp_path), "JG-server-301"),
        (("server", "staff", people), "JG-site-104"),
        (("roster", "invite", folder, "Site"), "JG-server-320"),
        (("roster", "list", tmp_path), "JG-server-301"),
        (("roster", "confirm", folder, "site-0", "--key", people / "operator.key"), "JG-server-321"),
        (("campaign", "status", folder, "0" * 64), "JG-server-330"),
        (("campaign", "propose", folder, tmp_path / "none.yaml", "--key", people / "operator.key"), "JG-plan-004"),
    ):
        with pytest.raises(JanginError, match=code):
            command(*arguments)
    assert not nope.exists()


def test_a_state_folder_without_its_root_is_named(command: Command, made: tuple[Path, Path]) -> None:
    folder, _ = made
    (folder / "root.pub").unlink()
    with pytest.raises(JanginError, match=r"JG-server-350 root\.pub "):
        command("roster", "list", folder)


def test_the_keys_that_are_made_are_closed_to_others(made: tuple[Path, Path]) -> None:
    _, people = made
    keys = sorted(file.name for file in people.glob("*.key"))
    assert keys == ["approver.key", "evaluator.key", "independent.key", "operator.key", "root.key"]
    assert {oct((people / key).stat().st_mode & 0o777) for key in keys} == {"0o600"}


@pytest.fixture
def spoken() -> Callable[..., tuple[str, str]]:
    """What one command of an operator says, on stdout and stderr."""
    from jangin.cli.server import campaign, roster

    def run(*arguments: object) -> tuple[str, str]:
        group = {"roster": roster, "campaign": campaign}[str(arguments[0])]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            done = CliRunner().invoke(group, [*map(str, arguments[1:])])
        assert done.exit_code == 0, done.output
        return done.stdout, done.stderr

    return run


def test_nothing_yet_is_said(spoken: Any, made: tuple[Path, Path]) -> None:
    folder, _ = made
    for what in (("roster", "list"), ("campaign", "status")):
        out, err = spoken(*what, folder)
        assert out == ""
        assert err.strip()


def test_a_second_token_for_one_site_is_remarked(spoken: Any, world: Any) -> None:
    folder = world.state.path
    assert spoken("roster", "invite", folder, "site-0")[1] == ""
    out, err = spoken("roster", "invite", folder, "site-0")
    assert "JG-server-353" not in out
    assert err.startswith("warning: JG-server-353 site-0 is invited already")
    world.seat("site-1")
    assert "site-1 is active already" in spoken("roster", "invite", folder, "site-1")[1]
    assert "활성" in spoken("roster", "invite", folder, "site-1", "--lang", "ko")[1]


def test_the_status_of_a_campaign_names_everybody_under_heads(spoken: Any, world: Any, plan: Any) -> None:
    folder, sites = world.state.path, world.sites(3)
    wanted = world.propose(plan())
    world.store.approve(wanted, "site-0", sites[0].approval(wanted, world.now))
    failed = RoundEntry(1, 1, Outcome.FAILED, ["site-0"], {"site-1": "local"}, {}, ["site-2"], 20.0, "too few")
    scaled = RoundEntry(0, 1, Outcome.FINISHED, ["site-0", "site-1"], {}, {"site-2": "JG-server-340"}, [], 0.2)
    for entry in (scaled, failed):
        world.store.record(wanted, entry)
    out, _ = spoken("campaign", "status", folder, wanted[:8])
    *facts, head, first, second = out.splitlines()
    assert facts[1:] == [
        f"hash: {wanted}", "state: proposed", "rounds: 0/4", "approved by: site-0", "not yet by: site-1, site-2"
    ]  # fmt: skip
    assert head.split("  ")[0] == "round"
    assert re.split(r" {2,}", first) == [
        "scaling", "1", "finished", "0.2", "site-0, site-1", "site-2: JG-server-340", "-"
    ]  # fmt: skip
    assert re.split(r" {2,}", second) == ["1", "1", "failed", "20.0", "site-0", "site-1: local", "site-2"]
    korean, _ = spoken("campaign", "status", folder, wanted, "--lang", "ko")
    assert not re.search(r"(?m)^[a-z ]+:|\b(finished|failed|proposed|scaling|none)\b", korean)
    assert spoken("campaign", "status", folder)[0].splitlines()[0].split() == ["hash", "campaign", "state", "rounds"]
    for act in (Act.APPROVE, Act.CONSULT, Act.START, Act.EVALUATE, Act.REGISTER):
        world.store.move(wanted, act)
    assert (
        f"model: {world.state.checkpoints(wanted)}/final.safetensors" in spoken("campaign", "status", folder, wanted)[0]
    )


def test_drafts_pauses_and_stops_are_acts_of_whoever_signed_them_or_of_the_machine(
    command: Command, world: Any, plan: Any, tmp_path: Path
) -> None:
    folder, key = world.state.path, ("--key", world.key("operator"))
    sites, file = world.sites(3), tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(plan().model_dump(mode="json")))
    campaign = command("campaign", "draft", folder, file)["campaign"]
    assert command("campaign", "propose", folder, file, *key)["state"] == "proposed"
    command("campaign", "approve", folder, campaign, "--key", world.key("approver"))
    for site in sites:
        world.store.approve(campaign, site.name, site.approval(campaign, world.now))
    moves = (("start", *key), ("pause",), ("resume", *key), ("stop", "--reason", "점검", *key))
    states = [command("campaign", act, folder, campaign[:8], *more)["state"] for act, *more in moves]
    assert states == ["running", "paused", "running", "aborted"]
    with pytest.raises(JanginError, match=r"JG-server-409 stop: .*control characters"):
        command("campaign", "stop", folder, campaign, "--reason", "\x1b[2J", *key)
    with pytest.raises(JanginError, match="JG-server-403 auditor may not stop"):
        command("campaign", "stop", folder, campaign, "--reason", "x", "--key", world.key("auditor"))
    entries = [link.entry for link in world.store.database.audit() if link.entry.subject == campaign]
    assert [(entry.act, entry.actor) for entry in entries if entry.act != "consent"] == [
        ("draft", "server"), ("propose", "operator"), ("approve", "approver"), ("consult", "server"),
        ("start", "operator"), ("pause", "server"), ("resume", "operator"), ("abort", "operator"),
    ]  # fmt: skip
    assert command("campaign", "watch", folder, campaign) == {
        "ok": True, "campaign": campaign, "state": "aborted", "reason": "점검"
    }  # fmt: skip


def test_what_a_watch_tells_is_a_line_for_each_thing(world: Any, plan: Any) -> None:
    from jangin.cli.operators import happened
    from jangin.cli.talk import Format, Lang, Talk
    from jangin.server.office import Office

    campaign = world.propose(plan())
    entry = RoundEntry(2, 1, Outcome.FAILED, ["site-0"], {"site-1": "local"}, {}, ["site-2"], 20.0, "too few")
    world.store.record(campaign, entry)
    world.store.move(campaign, Act.ABORT, actor="operator", reason="enough")
    news = Office(world.state, world.store, world.members).news(campaign, 0)
    english, korean = (
        [happened(event, Talk(Format.TEXT, lang)) for event in news.events] for lang in (Lang.EN, Lang.KO)
    )
    assert english == [
        "draft -> draft  operator",
        "propose -> proposed  operator",
        "round 2: failed  1 reported, 1 abstained, 1 missing",
        "abort -> aborted  operator: enough",
    ]
    assert korean[2].startswith("라운드 2")


def test_two_people_sign_a_roster_one_after_the_other(command: Command, world: Any, tmp_path: Path) -> None:
    folder, file = world.state.path, tmp_path / "roster.envelope"
    world.sites(2)
    operator, independent = (("--key", world.key(name)) for name in ("operator", "independent"))
    waiting = command("roster", "suspend", folder, "site-1", *operator, "--out", file)
    assert (waiting["version"], list(waiting["fingerprints"])) == (2, ["site-1"])
    with pytest.raises(JanginError, match="JG-site-114"):
        command("roster", "publish", folder, file, *operator)
    assert command("roster", "sign", file, *independent)["version"] == 2
    assert command("roster", "publish", folder, file, *independent)["version"] == 2
    assert command("roster", "revoke", folder, "site-0", *operator, *independent)["version"] == 3
    listed = command("roster", "list", folder)["sites"]
    assert [(one["site"], one["status"]) for one in listed] == [("site-0", "revoked"), ("site-1", "suspended")]
    assert world.store.database.audit()[-1].entry.actor == "operator"


def test_an_export_is_verified_by_the_public_key_and_earlier_heads(
    command: Command, world: Any, plan: Any, tmp_path: Path
) -> None:
    campaign, folder, log = world.propose(plan()), world.state.path, tmp_path / "log"
    key = ("--key", folder / "audit.pub")
    first = command("audit", "export", folder, log)
    assert (first["campaigns"], first["file"]) == ({campaign: "proposed"}, str(log))
    command("campaign", "stop", folder, campaign, "--reason", "enough")
    second = command("audit", "export", folder, log)
    assert command("audit", "verify", log, *key, "--known", first["head"])["head"] == second["head"]
    with pytest.raises(JanginError, match="JG-server-435"):
        command("audit", "verify", log, *key, "--known", "ab" * 32)
    with pytest.raises(JanginError, match="JG-server-304"):
        command("audit", "verify", log, "--key", log)
    log.write_text(log.read_text().replace("enough", "because"))
    with pytest.raises(JanginError, match=r"JG-server-43[24]"):
        command("audit", "verify", log, *key)


def test_processes_are_listed_by_priority_with_their_industry_and_lines(command: Command) -> None:
    listed = command("process", "list")["processes"]
    priorities = [one["priority"] for one in listed]
    assert priorities == sorted(priorities, reverse=True)
    steel = {one["process"]: one for one in listed}["steel.bof_blow"]
    assert (steel["industry"], steel["lines"]) == ("steel", ["national-bof-blow", "national-bof-end-point"])
    assert (steel["safety_risk"], steel["labour_shortage"], steel["priority"]) == (5, 4, 54)
    ours = command("process", "list", "--industry", "steel")["processes"]
    assert ours == [one for one in listed if one["industry"] == "steel"]
    with pytest.raises(JanginError, match=r"JG-data-203 stell.*"):
        command("process", "list", "--industry", "stell")


def test_a_server_is_saved_restored_and_brought_along_by_commands(
    command: Command, made: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, file = made[0], tmp_path / "one.backup"
    saved = command("server", "backup", folder, file)
    again = command("server", "restore", file, tmp_path / "again", "--database", "sqlite")
    assert (saved["fingerprint"], saved["moment"]) == (again["fingerprint"], again["moment"])
    assert saved["fingerprint"] == StateFolder(tmp_path / "again").audit_key.fingerprint
    assert command("server", "upgrade", folder)["backup"] is None
    command("roster", "list", tmp_path / "again")


def test_a_password_is_never_taken_from_a_command_line_nor_told(
    command: Command, made: tuple[Path, Path], tmp_path: Path
) -> None:
    url = "postgresql+psycopg://jangin:secret-7@127.0.0.1:1/jangin"
    people = ("--staff", made[1] / "staff.envelope", "--root", made[1] / "root.pub")
    with pytest.raises(JanginError, match="JG-server-467") as refused:
        command("server", "init", tmp_path / "new", *people, "--database", url)
    assert "secret" not in f"{refused.value}"
    with pytest.raises(JanginError, match="JG-server-303"):
        command("server", "init", tmp_path / "new", *people, "--database", "nonsense://")
    # One that an operator wrote into server.yaml is in no word of ours.
    file = made[0] / "server.yaml"
    file.write_text(file.read_text().replace("database: null", f"database: {url}"))
    with pytest.raises(JanginError, match=r"JG-server-303 .*OperationalError") as away:
        command("roster", "list", made[0])
    told = [str(away.value), away.value.coded.text("hint"), repr(StateFolder(made[0]).settings())]
    assert not [words for words in told if "secret" in words]
    assert not (tmp_path / "new").exists()


def test_a_second_server_needs_a_shared_database_and_a_first_one_an_empty_one(
    command: Command, made: tuple[Path, Path], tmp_path: Path, own_postgres: Any
) -> None:
    with pytest.raises(JanginError, match="JG-server-466"):
        command("server", "init", tmp_path / "second", "--beside", made[0])
    people, url = ("--staff", made[1] / "staff.envelope", "--root", made[1] / "root.pub"), own_postgres.database()
    command("server", "init", tmp_path / "first", *people, "--database", url, "--port", 0)
    with pytest.raises(JanginError, match="JG-server-462"):
        command("server", "init", tmp_path / "other", *people, "--database", url)
    command("server", "init", tmp_path / "second", "--beside", tmp_path / "first", "--port", 0)
    first, second = (StateFolder(tmp_path / name) for name in ("first", "second"))
    assert first.audit_key.public_text == second.audit_key.public_text
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
