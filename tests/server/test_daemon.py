"""Laws of the whole server: two processes of its own, sites over TLS, and campaigns that outlive kill -9 of either."""

import errno
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from jangin.errors import LinkError
from jangin.flower_link.site import Incoming, SiteLink
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Reply, read_order, reply_body
from jangin.server import campaigns
from jangin.server import daemon as server
from jangin.server.audit import exported, verify
from jangin.server.backup import backup, restore
from jangin.server.life import Act, State
from jangin.server.store import Outcome
from jangin.training.recipe import Recipe

PROGRAM = "from jangin.cli.server import server; server()"
STEP = {"site-0": 1.0, "site-1": 2.0}


OVER = {"JG-site-208", "JG-site-209"}  # nobody waits for this reply any more


@dataclass
class FakeSite:
    """A site that adds its own constant to every parameter; a thread that connects again and again.

    `holds` says whether an order has no reply yet, as by a site that works for long.
    """

    keys: Any
    address: str
    authority: bytes
    columns: int
    holds: Callable[[Wire], bool] = lambda wire: False
    answered: list[tuple[str, str, int]] = field(default_factory=list)
    called_back: list[str] = field(default_factory=list)
    connected: int = 0
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.done.is_set():
            try:
                key = self.keys.node.private
                with SiteLink(self.address, key, self.authority, timeout_seconds=5, retries=0) as link:
                    self.connected += 1
                    self.serve(link)
            except LinkError:
                self.done.wait(0.1)

    def serve(self, link: SiteLink) -> None:
        taken: list[Incoming] = []
        while not self.done.is_set():
            incoming = link.receive()
            if incoming is not None and incoming.wire.kind == Kind.STOP:
                self.called_back.append(incoming.wire.campaign)
                taken = [one for one in taken if one.wire.campaign != incoming.wire.campaign]
            elif incoming is not None:
                taken.append(incoming)
            for one in [one for one in taken if not self.holds(one.wire)]:
                taken.remove(one)
                try:
                    link.reply(one, self.answer(one.wire))
                except LinkError as error:
                    if error.code not in OVER:
                        raise
                    continue
                self.answered.append((one.wire.campaign, one.wire.kind, one.wire.round))
            if incoming is None:
                self.done.wait(0.02)

    def answer(self, wire: Wire) -> Wire:
        order, _ = read_order(wire.kind, wire.round, wire.body, wire.vector)
        if order.kind is Kind.SCALE:
            reply = Reply(self.keys.name, np.full(1 + 2 * self.columns, 10.0))
            return Wire(wire.kind, wire.campaign, wire.round, reply_body(reply))
        update = np.full_like(order.vector, STEP[self.keys.name])
        return Wire(wire.kind, wire.campaign, wire.round, reply_body(Reply(self.keys.name, update)), update)


@dataclass
class Daemon:
    """The server as an operator starts it."""

    folder: Path
    process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        command = [sys.executable, "-c", PROGRAM, "run", str(self.folder), "--format", "json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return str(json.loads(line)["address"])

    def worker(self) -> int:
        """The process that leads its campaigns; 0 while there is none."""
        assert self.process is not None
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return next((int(child) for task in tasks for child in task.read_text().split()), 0)

    def end(self, number: int) -> tuple[int, str]:
        assert self.process is not None
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said


@pytest.fixture
def daemon(world: Any) -> Iterator[Daemon]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = world.state.settings().model_copy(update={"port": port})
    (world.state.path / "server.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    daemon = Daemon(world.state.path)
    yield daemon
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.process.kill()
        daemon.process.communicate()


@pytest.fixture
def connect(world: Any) -> Iterator[Callable[..., FakeSite]]:
    running: list[tuple[FakeSite, threading.Thread]] = []

    def connect(keys: Any, address: str, recipe: Recipe) -> FakeSite:
        columns = len(recipe.public_scaling().center)
        site = FakeSite(keys, address, world.state.authority.read_bytes(), columns)
        thread = threading.Thread(target=site.run, daemon=True)
        running.append((site, thread))
        thread.start()
        return site

    yield connect
    for site, _ in running:
        site.done.set()
    for _, thread in running:
        thread.join(10)
        assert not thread.is_alive()


def ended(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or ") Z " in stat.read_text()


def torch_in(pid: int) -> bool:
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def running(world: Any, plan: Any, sites: Any, **changes: object) -> Any:
    """A plan that two people signed, that these sites approved, and that runs."""
    made = plan(**{"sites.invite": [site.name for site in sites], **changes})
    campaign = world.propose(made)
    campaigns.approve(world.store, world.members, campaign, world.keys["approver"], world.now)
    for site in sites:
        world.store.approve(campaign, site.name, site.approval(campaign, world.now))
    campaigns.start(world.store, world.members, campaign, world.now)
    return made


def made_of_each_round_once(world: Any, made: Any) -> None:
    """The final model is the start and each round's mean of the fake sites' steps, once."""
    model = Recipe.of(made).learner().model
    expected = model.read()[model.layout.shared] + np.float32(made.strategy.rounds * 1.5)
    file = world.state.checkpoints(made.hash) / "final.safetensors"
    np.testing.assert_allclose(load_file(file)["parameters"], expected, rtol=1e-6)


def finished(world: Any, campaign: str) -> list[int]:
    entries = world.store.rounds(campaign)
    return [entry.round for entry in entries if entry.outcome is Outcome.FINISHED]


@pytest.mark.soak
@pytest.mark.kill
def test_two_campaigns_over_the_same_sites_outlive_kill_9_and_nothing_counts_twice(
    world: Any, plan: Any, daemon: Daemon, connect: Any, eventually: Any
) -> None:
    address = daemon.start()
    authority = world.state.authority
    assert (world.state.path / "address").read_text() == f"{address}\n"
    # 1. Two sites enrol and are confirmed while the server runs; a third only waits.
    keys = [world.site(f"site-{number}") for number in range(3)]
    for site in keys:
        body = site.enrolment(world.members.invite(site.name, world.now))
        assert site.ask(address, authority, "enroll", **body)["status"] == "waiting"
    world.confirm(*keys[:2])
    # 2. Two plans are signed by two people and approved by the sites.
    two = {"sites.invite": ["site-0", "site-1"]}
    plans = {
        "long": plan(campaign="long", **{"strategy.rounds": 5}, **two),
        "short": plan(campaign="short", **{"strategy.rounds": 3, "sites.round_deadline": "30s", "seed": 1}, **two),
    }
    for made in plans.values():
        campaign = world.propose(made)
        campaigns.approve(world.store, world.members, campaign, world.keys["approver"], world.now)
        for site in keys[:2]:
            assert len(site.ask(address, authority, "campaigns")["campaigns"]) >= 1
            approval = site.approval(campaign, world.now)
            assert site.ask(address, authority, "approve", approval=approval) == {"approved": True}
    # 3. They run at once; one site is slow in round 3 of the long one, and there the server is killed.
    recipe = Recipe.of(plans["long"])
    fast, slow = (connect(site, address, recipe) for site in keys[:2])
    long, short = plans["long"].hash, plans["short"].hash
    slow.holds = lambda wire: (wire.campaign, wire.round) == (long, 3)
    for campaign in (long, short):
        campaigns.start(world.store, world.members, campaign, world.now)
    eventually(lambda: (long, "train", 3) in fast.answered)
    eventually(lambda: world.store.campaign(short).state is State.CANDIDATE)
    assert keys[0].ask(address, authority, "ack") == {"next_poll_s": 0.2}
    assert finished(world, long) == [0, 1, 2]
    worker = daemon.worker()
    assert (torch_in(worker), torch_in(daemon.process.pid if daemon.process else 0)) == (True, False)
    daemon.end(signal.SIGKILL)
    eventually(lambda: ended(worker))
    # 4. It comes back on its own and goes on from round 3.
    slow.holds = lambda wire: False
    assert daemon.start() == address
    eventually(lambda: world.store.campaign(long).state is State.CANDIDATE)
    for campaign, count in ((long, 5), (short, 3)):
        assert finished(world, campaign) == list(range(count + 1))
        entries = world.store.rounds(campaign)
        assert all(sorted(entry.reported) == ["site-0", "site-1"] for entry in entries)
        assert all((entry.attempt, entry.missing) == (1, []) for entry in entries)
    assert [asked for asked in fast.answered if asked[0] == long].count((long, "train", 3)) == 2
    for made in plans.values():
        made_of_each_round_once(world, made)
    # 5. It stops when it is asked to, and leaves no word that it listens.
    status, said = daemon.end(signal.SIGTERM)
    assert (status, "Traceback" in said, (world.state.path / "address").exists()) == (0, False, False)


def test_a_campaign_that_stands_in_a_round_does_not_hold_up_the_stop_and_goes_on_later(
    world: Any, plan: Any, daemon: Daemon, connect: Any, eventually: Any
) -> None:
    keys = world.sites(2)
    made = running(world, plan, keys, **{"strategy.rounds": 2})
    campaign, address = made.hash, daemon.start()
    fast, slow = (connect(site, address, Recipe.of(made)) for site in keys)
    slow.holds = lambda wire: wire.round == 1
    eventually(lambda: (campaign, "train", 1) in fast.answered)
    status, said = daemon.end(signal.SIGINT)
    assert (status, "Traceback" in said) == (0, False)
    assert world.store.campaign(campaign).state is State.RUNNING
    slow.holds = lambda wire: False
    daemon.start()
    eventually(lambda: world.store.campaign(campaign).state is State.CANDIDATE)
    assert [(entry.round, entry.attempt) for entry in world.store.rounds(campaign)] == [(0, 1), (1, 1), (2, 1)]


@pytest.mark.kill
@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_a_worker_killed_at_any_moment_is_followed_by_another_and_the_sites_stay_connected(
    world: Any, plan: Any, daemon: Daemon, connect: Any, eventually: Any, seed: int
) -> None:
    made = running(world, plan, keys := world.sites(2), **{"strategy.rounds": 12})
    address, moment = daemon.start(), random.Random(seed).randint(1, 24)
    fast, slow = (connect(site, address, Recipe.of(made)) for site in keys)
    eventually(lambda: len(fast.answered) + len(slow.answered) >= moment)
    worker = daemon.worker()
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: world.store.campaign(made.hash).state is State.CANDIDATE)
    assert daemon.worker() not in (0, worker)
    assert finished(world, made.hash) == list(range(made.strategy.rounds + 1))
    assert all((entry.attempt, sorted(entry.reported)) == (1, list(STEP)) for entry in world.store.rounds(made.hash))
    made_of_each_round_once(world, made)
    assert fast.connected == slow.connected == 1
    status, said = daemon.end(signal.SIGTERM)

    assert (status, said.count("JG-server-481"), "Traceback" in said) == (0, 1, False)


@pytest.mark.soak
@pytest.mark.kill
def test_a_campaign_that_was_paused_and_then_lost_its_worker_goes_on_where_it_was_and_holds_up_no_other(
    world: Any, plan: Any, daemon: Daemon, connect: Any, eventually: Any
) -> None:
    keys = world.sites(2)
    made = running(world, plan, keys, **{"strategy.rounds": 2})
    address = daemon.start()
    fast, slow = sites = [connect(site, address, Recipe.of(made)) for site in keys]
    slow.holds = lambda wire: (wire.campaign, wire.kind) == (made.hash, "train")
    eventually(lambda: (made.hash, "train", 1) in fast.answered)
    # 1. Held: every site is told, nothing of the round is recorded, and another campaign runs over the same sites.
    world.store.move(made.hash, Act.PAUSE)
    eventually(lambda: all(site.called_back == [made.hash] for site in sites))
    other = running(world, plan, keys, campaign="other", **{"strategy.rounds": 1})
    eventually(lambda: world.store.campaign(other.hash).state is State.CANDIDATE)
    assert [entry.round for entry in world.store.rounds(made.hash)] == [0]
    # 2. Resumed, and killed in mid-round: each time from the last finished round on, at the first attempt.
    world.store.move(made.hash, Act.RESUME)
    eventually(lambda: fast.answered.count((made.hash, "train", 1)) == 2)
    worker = daemon.worker()
    os.kill(worker, signal.SIGKILL)
    slow.holds = lambda wire: False
    eventually(lambda: world.store.campaign(made.hash).state is State.CANDIDATE)
    assert [(entry.round, entry.attempt) for entry in world.store.rounds(made.hash)] == [(0, 1), (1, 1), (2, 1)]
    made_of_each_round_once(world, made)
    # 3. Stopped for good: it is called back as well, and stays as it was ended.
    slow.holds = lambda wire: True
    last = running(world, plan, keys, campaign="last")
    eventually(lambda: (last.hash, "scale", 0) in fast.answered)
    world.store.move(last.hash, Act.ABORT, reason="an operator ended it")
    eventually(lambda: all(site.called_back == [made.hash, last.hash] for site in sites))
    assert daemon.worker() not in (0, worker)
    assert fast.connected == slow.connected == 1
    status, said = daemon.end(signal.SIGTERM)
    assert (status, said.count("JG-server-481"), "Traceback" in said) == (0, 1, False)
    assert world.store.campaign(last.hash).reason == "an operator ended it"
    assert world.store.rounds(last.hash) == []


def test_a_site_that_lies_is_named_and_a_campaign_without_quorum_ends_with_the_names(
    world: Any, plan: Any, daemon: Daemon, connect: Any, eventually: Any
) -> None:
    keys = world.sites(2)
    made = plan(**{"sites.round_deadline": "1s"})
    campaign = world.propose(made)
    campaigns.approve(world.store, world.members, campaign, world.keys["approver"], world.now)
    for site in keys:
        world.store.approve(campaign, site.name, site.approval(campaign, world.now))
    address = daemon.start()
    _, liar = (connect(site, address, Recipe.of(made)) for site in keys)
    liar.answer = lambda wire: Wire(wire.kind, wire.campaign, wire.round, b"garbage")  # type: ignore[method-assign]
    campaigns.start(world.store, world.members, campaign, world.now)
    eventually(lambda: world.store.campaign(campaign).state is State.ABORTED)
    entries = world.store.rounds(campaign)
    assert [(entry.outcome, entry.refused) for entry in entries][-1] == (Outcome.FAILED, {"site-1": "JG-server-340"})
    assert len(entries) == 3
    reason = world.store.campaign(campaign).reason
    assert reason.startswith("JG-server-342 round 0")
    assert "site-1: JG-server-340" in reason


def test_the_process_that_sites_reach_imports_nothing_heavy() -> None:
    heavy = ["torch", "scipy", "pyarrow", "dp_accounting", "jangin.training", "jangin.server.leading"]
    script = f"import sys, jangin.server.daemon, jangin.cli.server; print(sorted(set({heavy!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Ended:
    """A worker that is over as soon as it is started."""

    def kill(self) -> None:
        raise AssertionError("It has ended.")

    def wait(self, timeout: float | None = None) -> int:
        return -9


def test_a_worker_that_ends_or_cannot_be_started_is_said_with_its_code_and_tried_again_ever_more_slowly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, eventually: Any
) -> None:
    turns: list[int] = []

    def started(folder: Path, control: socket.socket, shard: str | None) -> Ended:
        turns.append(len(turns))
        if len(turns) % 2:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return Ended()

    monkeypatch.setattr(server, "_started", started)
    monkeypatch.setattr(server, "_FIRST_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(server, "_LONGEST_BACKOFF_SECONDS", 0.04)
    worker = server._Aggregation(Path(), None)  # type: ignore[arg-type]
    thread = threading.Thread(target=worker.run)
    thread.start()
    eventually(lambda: len(caplog.records) >= 4)
    worker.end()
    thread.join(10)
    assert not thread.is_alive()
    said = [record.getMessage().split(";")[0] for record in caplog.records[:4]]
    assert said[0] == "JG-server-481 The aggregation worker ended: it cannot be started: Cannot allocate memory"
    assert said[1] == "JG-server-481 The aggregation worker ended: exit status -9"
    waits = [float(record.getMessage().split("anew in ")[1].split(" s")[0]) for record in caplog.records[:4]]
    assert waits == [0.01, 0.02, 0.04, 0.04]


def agreed(world: Any, made: Any) -> list[Any]:
    """A plan that everybody has said yes to; its sites."""
    keys = world.sites(2)
    campaign = world.propose(made)
    campaigns.approve(world.store, world.members, campaign, world.keys["approver"], world.now)
    for site in keys:
        world.store.approve(campaign, site.name, site.approval(campaign, world.now))
    campaigns.start(world.store, world.members, campaign, world.now)
    return keys


def whole(world: Any, made: Any) -> None:
    """Each round once, at its first attempt, by both sites; a model of exactly that; a log that holds."""
    entries = world.store.rounds(made.hash)
    assert [(entry.round, entry.attempt) for entry in entries] == [(n, 1) for n in range(made.strategy.rounds + 1)]
    assert all(sorted(entry.reported) == ["site-0", "site-1"] for entry in entries)
    model = Recipe.of(made).learner().model
    expected = model.read()[model.layout.shared] + np.float32(made.strategy.rounds * 1.5)
    file = world.state.checkpoints(made.hash) / "final.safetensors"
    np.testing.assert_allclose(load_file(file)["parameters"], expected, rtol=1e-6)
    database, key = world.store.database, world.state.audit_key
    report = verify(exported(database.audit(), *database.audit_head(), world.now, key), key.public)
    assert report.campaigns[made.hash] is State.CANDIDATE


@pytest.mark.soak
@pytest.mark.kill
@pytest.mark.parametrize("world", ["postgresql"], indirect=True)
def test_a_postgresql_that_is_killed_in_mid_round_is_waited_for_and_no_round_comes_twice(
    world: Any, own_postgres: Any, plan: Any, daemon: Daemon, connect: Any, eventually: Any
) -> None:
    made = plan(**{"sites.invite": ["site-0", "site-1"], "strategy.rounds": 3})
    keys, authority, address = agreed(world, made), world.state.authority, daemon.start()
    fast, slow = (connect(site, address, Recipe.of(made)) for site in keys)
    slow.holds = lambda wire: wire.round == 2
    eventually(lambda: (made.hash, "train", 2) in fast.answered)
    own_postgres.kill()
    assert keys[0].ask(address, authority, "campaigns")["code"] == "JG-server-464"
    slow.holds = lambda wire: False
    eventually(lambda: (made.hash, "train", 2) in slow.answered)
    own_postgres.start()
    eventually(lambda: world.store.campaign(made.hash).state is State.CANDIDATE)
    assert "code" not in keys[0].ask(address, authority, "campaigns")
    whole(world, made)
    status, said = daemon.end(signal.SIGTERM)
    assert (status, "Traceback" in said) == (0, False)
    assert said.count("waits for the database") == said.count("goes on.")


@pytest.mark.soak
def test_an_sqlite_file_that_is_locked_for_30_s_is_waited_for(
    world: Any, plan: Any, daemon: Daemon, connect: Any, eventually: Any
) -> None:
    made = plan(**{"sites.invite": ["site-0", "site-1"], "strategy.rounds": 3, "sites.round_deadline": "2m"})
    keys, authority, address = agreed(world, made), world.state.authority, daemon.start()
    fast, slow = (connect(site, address, Recipe.of(made)) for site in keys)
    slow.holds = lambda wire: wire.round == 2
    eventually(lambda: (made.hash, "train", 2) in fast.answered)
    with closing(sqlite3.connect(world.state.path / "jangin.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        slow.holds = lambda wire: False
        until = time.monotonic() + 30
        while time.monotonic() < until:
            assert "code" not in keys[0].ask(address, authority, "campaigns")  # who reads does not wait
            threading.Event().wait(0.5)
        other.execute("ROLLBACK")
    eventually(lambda: world.store.campaign(made.hash).state is State.CANDIDATE)
    whole(world, made)


@pytest.mark.kill
def test_a_server_that_is_lost_in_mid_campaign_goes_on_from_its_backup(
    world: Any, plan: Any, daemon: Daemon, connect: Any, eventually: Any, tmp_path: Path
) -> None:
    made = plan(**{"sites.invite": ["site-0", "site-1"], "strategy.rounds": 4})
    keys, address = agreed(world, made), daemon.start()
    fast, slow = (connect(site, address, Recipe.of(made)) for site in keys)
    slow.holds = lambda wire: wire.round == 3
    eventually(lambda: (made.hash, "train", 3) in fast.answered)
    backup(world.state.path, tmp_path / "one.backup", world.now)  # while it runs
    daemon.end(signal.SIGKILL)
    world.store.close()
    shutil.rmtree(world.state.path)
    restore(tmp_path / "one.backup", world.state.path, world.now)
    world.store = world.state.store()
    assert finished(world, made.hash) == [0, 1, 2]
    slow.holds = lambda wire: False
    assert daemon.start() == address
    eventually(lambda: world.store.campaign(made.hash).state is State.CANDIDATE)
    whole(world, made)
    asked = [number for _, kind, number in fast.answered if kind == "train"]
    assert asked == [1, 2, 3, 3, 4]  # a site answers its last round again, and none before it
    assert "restore" in [link.entry.act for link in world.store.database.audit()]


def led_at_once(world: Any, plan: Any, keys: list[Any], number: int, **changed: object) -> list[Any]:
    """So many campaigns over the same sites, all approved by everybody, all of them running."""
    names = [site.name for site in keys]
    line = {"sites.invite": names, "sites.min_sites": len(names), "model_line": "national-bof-blow"}
    plans = [plan(campaign=f"line-{one}", seed=one, **{**line, **changed}) for one in range(number)]
    for made in plans:
        campaign = world.propose(made)
        campaigns.approve(world.store, world.members, campaign, world.keys["approver"], world.now)
        for site in keys:
            world.store.approve(campaign, site.name, site.approval(campaign, world.now))
    for made in plans:
        campaigns.start(world.store, world.members, made.hash, world.now)
    return plans


@pytest.mark.parametrize(("number", "count"), [(4, 3), pytest.param(15, 6, marks=[pytest.mark.soak, pytest.mark.slow])])
def test_between_two_rounds_of_a_campaign_no_other_finishes_more_than_three(
    world: Any, plan: Any, daemon: Daemon, connect: Any, eventually: Any, number: int, count: int
) -> None:
    keys = world.sites(2)
    plans = led_at_once(world, plan, keys, number, **{"strategy.rounds": count})
    recipe = Recipe.of(plans[0])
    address = daemon.start()
    for site in keys:
        connect(site, address, recipe)
    over = {made.hash for made in plans}
    eventually(lambda: {row.hash for row in world.store.campaigns(State.CANDIDATE)} == over, 300.0)
    order = [link.entry.subject for link in world.store.database.audit() if link.entry.act == "round"]
    assert Counter(order) == dict.fromkeys(over, count + 1)
    for campaign in over:
        places = [place for place, other in enumerate(order) if other == campaign]
        for before, after in pairwise(places):
            assert max(Counter(order[before + 1 : after]).values(), default=0) <= 3, order


def test_a_straggler_of_one_campaign_does_not_hold_up_the_others(
    world: Any, plan: Any, daemon: Daemon, connect: Any, eventually: Any
) -> None:
    keys = world.sites(2)
    slow, *others = plans = led_at_once(world, plan, keys, 3, **{"strategy.rounds": 3, "sites.round_deadline": "2m"})
    address = daemon.start()
    _, straggler = (connect(site, address, Recipe.of(plans[0])) for site in keys)
    straggler.holds = lambda wire: wire.campaign == slow.hash
    eventually(lambda: all(world.store.campaign(made.hash).state is State.CANDIDATE for made in others))
    assert finished(world, slow.hash) == []
    assert all(entry.seconds < 60 for made in others for entry in world.store.rounds(made.hash))
