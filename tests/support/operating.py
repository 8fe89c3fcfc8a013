"""People who lead a campaign from afar, by the command and their own folders, while an auditor watches."""

import contextlib
import io
import json
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from jangin.errors import JanginError
from jangin.plan.training_plan import TrainingPlan

__all__ = ["Person", "led_from_afar", "people_of", "run", "shown", "watched"]

Command = Callable[..., list[dict[str, Any]]]


def run(*arguments: object) -> list[dict[str, Any]]:
    """One command in this process: the lines of its JSON; what it refuses is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # typer uses a name that click is about to rename
        from jangin.cli.app import app

        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            app([*map(str, arguments), "--format", "json"], prog_name="jangin", standalone_mode=False)
    return [json.loads(line) for line in out.getvalue().splitlines()]


@dataclass(frozen=True)
class Person:
    """Somebody with a folder and a key of their own."""

    folder: Path
    key: Path
    command: Command

    def __call__(self, group: str, act: str, *arguments: object) -> dict[str, Any]:
        """Something that is signed."""
        return self.command(group, act, self.folder, *arguments, "--key", self.key)[-1]

    def ask(self, group: str, what: str, *arguments: object) -> dict[str, Any]:
        """Something that is only read."""
        return self.command(group, what, self.folder, *arguments)[-1]


def people_of(federation: Any, folder: Path, names: Sequence[str], command: Command = run) -> Mapping[str, Person]:
    """Folders for people of a federation's staff list, each with a certificate of its own."""
    for name in names:
        command("server", "operator", federation.state.path, name, "--out", folder / name)
    return {name: Person(folder / name, federation.folder / "staff" / f"{name}.key", command) for name in names}


def led_from_afar(
    federation: Any,
    plan: TrainingPlan,
    people: Mapping[str, Person],
    folder: Path,
    approve: Callable[[str, str], None],
    watch: Callable[[Path, str], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """Take a plan from draft to candidate, and release its model; what the auditor saw until then.

    Args:
        federation: whose server listens for people.
        plan: whom it invites has to be up.
        people: operator, approver, auditor.
        folder: for files.
        approve: has a site, by name, say yes to a campaign.
        watch: what a person's folder sees of a campaign until it has ended.
    """
    operator, approver, auditor = (people[name] for name in ("operator", "approver", "auditor"))
    file = folder / "plan.yaml"
    file.write_text(yaml.safe_dump(plan.model_dump(mode="json")))
    # 1. Four eyes.
    campaign = operator("campaign", "draft", file)["campaign"]
    assert operator("campaign", "propose", file) == {"ok": True, "campaign": campaign, "state": "proposed"}
    for person, act, code in (
        (operator, "approve", "JG-site-118"),
        (approver, "start", "JG-server-403"),
        (auditor, "pause", "JG-server-403"),
    ):
        with pytest.raises((JanginError, AssertionError), match=code):
            person("campaign", act, campaign)
    assert approver("campaign", "approve", campaign[:8])["state"] == "approved"
    # 2. The sites, and what the auditor sees from here on.
    seen: list[dict[str, Any]] = []
    watching = threading.Thread(target=lambda: seen.extend(watch(auditor.folder, campaign)))
    watching.start()
    for site in plan.sites.invite:
        approve(site, campaign)
    assert operator("campaign", "start", campaign)["state"] == "running"
    watching.join(180)
    assert not watching.is_alive()
    # 3. What came of it, as the auditor can show to anybody.
    (status,) = auditor.ask("campaign", "status", campaign)["campaigns"]
    assert (status["state"], status["round"]) == ("candidate", plan.strategy.rounds)
    log = folder / "audit.jsonl"
    exported = auditor.command("audit", "export", auditor.folder, log)[-1]
    known = ("--known", exported["head"])
    verified = auditor.command("audit", "verify", log, "--key", federation.state.path / "audit.pub", *known)[-1]
    assert (verified["campaigns"][campaign], verified["head"]) == ("candidate", exported["head"])
    assert verified["rounds"][campaign] == plan.strategy.rounds + 1
    # 4. The model, released from afar by the one who did not propose it.
    with pytest.raises((JanginError, AssertionError), match="JG-site-117"):
        operator("model", "release", plan.model_line)
    assert approver("model", "release", plan.model_line)["campaign"] == campaign
    assert auditor.ask("model", "show", f"{plan.model_line}@national")["state"] == "released"
    return seen


def watched(folder: Path, campaign: str) -> list[dict[str, Any]]:
    """What a watch gives until the campaign has ended, without a process's streams."""
    from jangin.server import desk

    with desk.opened(folder) as at:
        return list(at.watch(campaign))


def shown(*arguments: object) -> list[dict[str, Any]]:
    """As `run`, by a process of its own."""
    command = [sys.executable, "-m", "jangin", *map(str, arguments), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode:
        raise AssertionError(f"{lines[-1]['code']} {lines[-1]['message']}" if lines else done.stderr)
    return lines
