"""Laws of the operator's commands: from nothing to a running campaign, each with one line of JSON or a code."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from jangin.errors import JanginError
from jangin.server.settings import StateFolder
from jangin.server.store import State

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # typer imports names that click is about to rename
    import typer
    from typer.testing import CliRunner

Command = Callable[..., dict[str, Any]]


@pytest.fixture
def command() -> Command:
    """Run one command and read its last line; what it raises comes out."""
    from jangin.cli.server import campaign, roster, server

    app = typer.Typer()
    for name, group in {"server": server, "roster": roster, "campaign": campaign}.items():
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
    wanted = command("campaign", "propose", folder, file, "--key", people / "operator.key")["campaign"]
    assert wanted == plan().hash
    with pytest.raises(JanginError, match="JG-site-114"):
        command("campaign", "approve", folder, wanted, "--key", people / "operator.key")
    command("campaign", "approve", folder, wanted, "--key", people / "approver.key")
    with pytest.raises(JanginError, match="JG-server-333"):
        command("campaign", "start", folder, wanted)
    for site in sites:
        world.store.approve(wanted, site.name, site.approval(wanted, world.now))
    assert command("campaign", "start", folder, wanted)["state"] == State.RUNNING
    (status,) = command("campaign", "status", folder)["campaigns"]
    assert (status["hash"], status["state"], status["round"], status["rounds"]) == (wanted, "running", 0, 4)
    assert command("campaign", "status", folder, wanted)["campaigns"] == [status]


def test_a_mistake_has_a_code(command: Command, made: tuple[Path, Path], tmp_path: Path) -> None:
    folder, people = made
    given = ("--staff", people / "staff.envelope", "--root", people / "root.pub")
    for arguments, code in (
        (("server", "init", folder, *given), "JG-server-302"),
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


def test_the_keys_that_are_made_are_closed_to_others(made: tuple[Path, Path]) -> None:
    _, people = made
    keys = sorted(file.name for file in people.glob("*.key"))
    assert keys == ["approver.key", "independent.key", "operator.key", "root.key"]
    assert {oct((people / key).stat().st_mode & 0o777) for key in keys} == {"0o600"}
