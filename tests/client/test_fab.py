"""Laws of code that a server holds ready: no site asks for a Flower app, keeps one, or runs a line of it.

The app here is such as `flwr build` packs, with a package `jangin` beside its own; whatever of it runs leaves a mark.
"""

import hashlib
import io
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.supercore.fab import Fab

from jangin.client import desk
from jangin.client.state import SiteFolder
from jangin.flower_link import link as link_module
from jangin.flower_link.link import EmbeddedLink, Run
from jangin.flower_link.site import SiteLink
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, order_body
from jangin.training.price import price

PROJECT = """
[project]
name = "evil"
version = "1.0.0"

[tool.flwr.app]
publisher = "evil"

[tool.flwr.app.components]
serverapp = "evil.app:app"
clientapp = "evil.app:app"
"""
CODE = ("jangin/__init__.py", "jangin/client/__init__.py", "jangin/client/worker.py", "evil/__init__.py", "evil/app.py")
ASKED = {
    "activate-node",
    "confirm-message-received",
    "deactivate-node",
    "pull-messages",
    "pull-object",
    "push-messages",
    "push-object",
    "send-node-heartbeat",
}


@dataclass(frozen=True)
class App:
    """A FAB, the same files laid out in a folder, and the mark that its code leaves."""

    content: bytes
    folder: Path
    mark: Path

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@pytest.fixture
def app(tmp_path: Path) -> App:
    mark, folder, packed = tmp_path / "mark", tmp_path / "laid-out", io.BytesIO()
    files = {"pyproject.toml": PROJECT}
    files |= dict.fromkeys(CODE, f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    digests = [f"{name},{hashlib.sha256(text.encode()).hexdigest()},{8 * len(text)}" for name, text in files.items()]
    files[".info/CONTENT"] = "\n".join(digests)
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return App(packed.getvalue(), folder, mark)


@pytest.fixture
def asked(server: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every path that Flower's own application is asked for from here on."""
    flower, paths = server.link._gate._flower, []

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await flower(scope, receive, send)

    monkeypatch.setattr(server.link._gate, "_flower", listening)
    return paths


@pytest.fixture
def daemon(enrolled: SiteFolder, app: App, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`jangin site run`, started in a folder where the app is laid out as if somebody had installed it."""
    (tmp_path / "home").mkdir()
    home = {"HOME": str(tmp_path / "home"), "FLWR_HOME": str(tmp_path / "home" / ".flwr")}
    command = [Path(sysconfig.get_path("scripts")) / "jangin", "site", "run", enrolled.path]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=app.folder, env=os.environ | home, stdout=log, stderr=log)
    yield process
    process.kill()
    process.wait(10)


def served(link: EmbeddedLink, campaign: str, app: App) -> Run:
    """A run for which the SuperLink holds an app, as after `flwr run`."""
    assert link.state.store_fab(Fab(app.hash, app.content, {})) == app.hash
    run = link.open_run(campaign)
    record = link.state.run_ids[run._id].run
    record.fab_id, record.fab_version, record.fab_hash = "evil/evil", "1.0.0", app.hash
    return run


def test_an_app_that_the_superlink_holds_is_given_to_nobody(enrolled: SiteFolder, server: Any, app: App) -> None:
    run = served(server.link, "c", app)
    held = server.link.state.get_fab(app.hash)
    assert held is not None
    assert held.content == app.content
    site = SiteLink(f"127.0.0.1:{server.link.port}", enrolled.node_key().private, enrolled.ca_file.read_bytes())
    with site, pytest.raises(httpx.HTTPStatusError, match="404"):
        site._client.GetFab(GetFabRequest(node=site._there, hash_str=app.hash, run_id=run._id))
    run.close()


def test_its_code_would_leave_its_mark(app: App) -> None:
    for module in ("jangin", "jangin.client.worker", "evil.app"):
        subprocess.run([sys.executable, "-c", f"import {module}"], cwd=app.folder, check=True)
        app.mark.unlink()


def test_no_app_is_asked_for_or_kept_and_no_line_of_it_runs(
    enrolled: SiteFolder,
    server: Any,
    ministry: Any,
    plan: Any,
    app: App,
    asked: list[str],
    daemon: Any,
    wait: Any,
    gather: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = plan()
    server.plans.append(ministry.signed(made))
    desk.approve(enrolled.path, made.hash, price)
    wait(server.link.online)
    run = served(server.link, made.hash, app)
    # 1. A message of Flower's own to the app is dropped.
    with monkeypatch.context() as patch:
        patch.setattr(link_module, "pack", lambda _: RecordDict({"config": ConfigRecord({"server-round": 1})}))
        dropped = run.push("site-0", Wire("train", made.hash, 1))
    wait(lambda: b"JG-site-210" in (tmp_path / "log").read_bytes())
    assert run.pull([dropped]) == []
    # 2. An order of ours in the same run is carried out, by the code that is installed.
    order = Order(Kind.SCALE, 0, np.empty(0, np.float32))
    answer = gather(run, run.push("site-0", Wire("scale", made.hash, 0, order_body(order, 60.0))))
    assert answer.content.kind == "scale"
    with enrolled.journal() as journal:
        wait(lambda: journal.moves(1)[0].state == "sent")
    run.close()
    daemon.terminate()
    assert daemon.wait(20) == 0
    # 3. Nobody asked for the app; nothing of it is anywhere but where the test laid it; nothing of it ran.
    assert {path.rpartition("/")[2] for path in asked} <= ASKED
    assert "/v1/fleet/pull-messages" in asked
    kept = [file for part in ("home", "site") for file in (tmp_path / part).rglob("*") if file.is_file()]
    assert [file for file in kept if str(app.mark).encode() in file.read_bytes()] == []
    assert not app.mark.exists()
