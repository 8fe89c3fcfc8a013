"""The law of sovereignty as one table: whatever a site does not want, it abstains, and no record is opened for it.

One daemon, asked by a real server over a real link, row after row. The kernel says which record files are opened, by
whichever process (inotify, tests/support/watching.py); that it sees them is shown by the order that is carried out.
"""

import hashlib
import logging
import random
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consents import allow
from ledgers import cost
from peers import a_manifest
from watching import opened_in

from jangin.client import consent, desk, limits
from jangin.client.daemon import Daemon
from jangin.client.state import SiteFolder, Task
from jangin.errors import JanginError
from jangin.flower_link.site import SiteLink
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, order_body, order_digest, read_reply, read_said
from jangin.plan.training_plan import TrainingPlan
from jangin.records.purposes import Purpose
from jangin.training.price import price

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="inotify, by which opened files are seen, is Linux' own"
)

SCALE = Order(Kind.SCALE, 0, np.empty(0, np.float32))
SECRET: dict[str, Any] = {
    "campaign": "a-sum",
    "sites": {"invite": [f"site-{number}" for number in range(4)], "min_sites": 4},
    "privacy": {"secure_aggregation": "required", "n_plan": 4, "c_max": 1, "spare_rounds": 1, "nominal_units": 20},
}
MAY_BE_READ = {"card.yaml", "manifest.json"}


@dataclass
class World:
    """One site whose daemon runs, its server, and one campaign that everybody wants."""

    site: SiteFolder
    server: Any
    ministry: Any
    make: Callable[..., TrainingPlan]
    daemon: Daemon
    wanted: TrainingPlan = field(init=False)
    other_consents: bool = False

    def __post_init__(self) -> None:
        self.wanted = self.approved()

    def offered(self, envelope: Callable[[TrainingPlan], bytes] | None = None, **changed: Any) -> TrainingPlan:
        """A plan that the server gives to whoever asks."""
        made = self.make(**changed)
        self.server.plans.append((envelope or self.ministry.signed)(made))
        return made

    def approved(self, **changed: Any) -> TrainingPlan:
        """A plan that somebody here said yes to."""
        made = self.offered(**changed)
        desk.approve(self.site.path, made.hash, price)
        return made

    def kept(self, envelope: Callable[[TrainingPlan], bytes], *, yes: bool = True, **changed: Any) -> TrainingPlan:
        """A plan that stands in this site's database, however it got there."""
        made = self.make(**changed)
        with self.site.journal() as journal:
            journal.keep_plan(made.hash, envelope(made))
            if yes:
                journal.approve(made.hash, b"", desk.now_utc())
        return made

    def consenting(self, **how: Any) -> TrainingPlan:
        """The wanted plan, after all consents were replaced by others."""
        self.revoke()
        allow(self.site.path, **how)
        return self.wanted

    def revoke(self) -> TrainingPlan:
        self.other_consents = True
        for master in consent.masters_of(self.site.path, self.wanted.process):
            consent.revoke(self.site.path, master, clock=desk.now_utc)
        return self.wanted

    def without_grants(self) -> TrainingPlan:
        self.revoke()
        for file in self.site.consent_folder.iterdir():
            file.unlink()
        self.site.consent_index.unlink()
        return self.wanted

    def limited(self, **block: Any) -> TrainingPlan:
        """The wanted plan, under other limits, as after a restart."""
        settings = self.daemon._settings
        held = settings.limits.model_copy(update=block)
        self.daemon._settings = settings.model_copy(update={"limits": held})
        return self.wanted

    def hooked(self, script: str) -> TrainingPlan:
        """The wanted plan, when the factory's own program is this."""
        hook = self.site.path / "is_busy.sh"
        hook.write_text(f"#!/bin/sh\n{script}\n")
        hook.chmod(0o700)
        self.daemon._hook = hook
        return self.wanted

    def paused(self) -> TrainingPlan:
        limits.pause(self.site.path, "", desk.now_utc())
        return self.wanted

    def small_cohort(self) -> TrainingPlan:
        """A plan that adds up over four sites, at one that wants ten."""
        block = self.daemon._settings.secure_sum.model_copy(update={"c_max": 1})
        self.daemon._settings = self.daemon._settings.model_copy(update={"secure_sum": block})
        return self.kept(self.ministry.signed, **SECRET)

    def declined(self) -> TrainingPlan:
        made = self.approved(campaign="declined")
        desk.decline(self.site.path, made.hash)
        return made

    def over_budget(self) -> TrainingPlan:
        """A plan whose privacy costs more than is left: the yes to it is refused, and so is its order."""
        made = self.offered(campaign="dear", privacy=DEAR)
        with pytest.raises(JanginError, match="JG-privacy-020"):
            desk.approve(self.site.path, made.hash, lambda plan: cost(noise=0.5, rounds=plan.charged_rounds))
        return made

    def closed(self) -> TrainingPlan:
        made = self.approved(campaign="closed")
        with self.site.ledger() as ledger:
            ledger.end(made.hash, desk.now_utc())
        return made

    def spent(self) -> TrainingPlan:
        made = self.approved(campaign="spent")
        with self.site.ledger() as ledger:
            ledger.spend(made.hash, 0, desk.now_utc())
        return made

    def unvalidated(self) -> TrainingPlan:
        """The wanted plan, when its records are no longer as they were validated."""
        block = self.daemon._settings.data[0].model_copy(update={"path": "./no-records"})
        self.daemon._settings = self.daemon._settings.model_copy(update={"data": (block,)})
        return self.wanted

    @property
    def records(self) -> Path:
        return self.site.path / "records"

    def restore(self) -> None:
        """As it was before the row."""
        self.daemon._settings, self.daemon._hook = self.site.settings(), None
        limits.resume(self.site.path, desk.now_utc())
        if self.other_consents:
            allow(self.site.path)
            self.other_consents = False

    def order(self, made: TrainingPlan) -> Wire:
        """The order that opens its campaign; of one that adds up in secret with its manifest."""
        order = SCALE
        if made.privacy.sums_only:
            roster = self.ministry.trust(self.server.rosters[-1]).roster(self.ministry.now)
            place = {"campaign": made.hash, "round": 0, "model": order_digest(order), "size": 43}
            manifest = a_manifest(**place, roster=hashlib.sha256(roster.payload).digest())
            order = replace(order, manifest=manifest.encode())
        return Wire("scale", made.hash, 0, order_body(order, 60.0))


DEAR: dict[str, Any] = {"epsilon": 3.9, "delta": 1e-5, "nominal_units": 10}


def half_signed(world: World) -> Callable[[TrainingPlan], bytes]:
    return lambda made: bytes(world.ministry.plan(made.model_dump(mode="json"), ("kim",)))


def wrongly_signed(world: World) -> Callable[[TrainingPlan], bytes]:
    return lambda made: bytes(world.ministry.plan(made.model_dump(mode="json"), ("kim", "park")))


def unsigned(world: World) -> Callable[[TrainingPlan], bytes]:
    return lambda made: bytes(world.ministry.plan(made.model_dump(mode="json"), ()))


def window() -> dict[str, Any]:
    hour = (datetime.now(UTC).hour + 2) % 24
    return {"windows": (f"Mon-Sun {hour:02}:00-{hour:02}:30",), "tz": "Etc/UTC"}


@dataclass(frozen=True)
class Row:
    """What the site does not want, by which code it knows that, and what the server is told."""

    what: str
    arrange: Callable[[World], TrainingPlan]
    code: str
    told: str = "local"


LOCAL = [
    Row("no grant", World.without_grants, "JG-site-350"),
    Row("revoked", World.revoke, "JG-site-351"),
    Row("expired", lambda world: world.consenting(until=date(2020, 12, 31)), "JG-site-352"),
    Row("purposes outside consent", lambda world: world.consenting(purposes=(Purpose.SAFETY,)), "JG-site-353"),
    Row("outside its window", lambda world: world.limited(**window()), "JG-site-381"),
    Row("paused", World.paused, "JG-site-382"),
    Row("busy", lambda world: world.hooked("exit 3"), "JG-site-383"),
    Row("nobody says whether busy", lambda world: world.hooked("sleep 60"), "JG-site-385"),
    Row("paused, beside a hook", lambda world: world.hooked("exit 0") and world.paused(), "JG-site-382"),
    Row("disk below its floor", lambda world: world.limited(disk_free_min="999999GiB"), "JG-site-386"),
    Row("too often today", lambda world: world.limited(rounds_a_day=0), "JG-site-323"),
    Row("nothing reserved any more", World.closed, "JG-site-318"),
    Row("its round is spent", World.spent, "JG-site-319"),
    Row("no validated records", World.unvalidated, "JG-site-320"),
]
PUBLIC = [
    Row(what, arrange, code, code)
    for what, arrange, code in [
        ("nobody approved", lambda world: world.offered(campaign="new"), "JG-site-311"),
        ("declined", World.declined, "JG-site-311"),
        ("over budget", World.over_budget, "JG-site-311"),
        ("unknown line", lambda w: w.kept(w.ministry.signed, model_line="no-such-line"), "JG-site-312"),
        ("unsigned", lambda w: w.kept(unsigned(w), campaign="unsigned"), "JG-site-114"),
        ("half signed", lambda w: w.kept(half_signed(w), campaign="half-signed"), "JG-site-114"),
        ("signed by others", lambda w: w.kept(wrongly_signed(w), campaign="others"), "JG-site-117"),
        ("half signed, on offer", lambda w: w.offered(half_signed(w), campaign="half-offered"), "JG-site-307"),
        ("changed", lambda w: w.kept(lambda _: w.ministry.signed(w.wanted), campaign="changed"), "JG-site-307"),
        ("for others", lambda w: w.kept(w.ministry.signed, sites={"invite": ["site-1"]}), "JG-site-310"),
        ("safe against too few", lambda w: w.kept(w.ministry.signed, **SECRET), "JG-sum-015"),
        ("cohort below the floor", World.small_cohort, "JG-sum-006"),
    ]
]


@pytest.fixture
def slots(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds from the receipt of the last message of each campaign to its answer, when all has to be quick."""
    monkeypatch.setattr(limits, "_HOOK_SECONDS", 0.5)
    monkeypatch.setattr(limits, "_SLOT_SECONDS", 0.05)
    came: dict[str, float] = {}
    took: dict[str, float] = {}
    receive, reply = SiteLink.receive, SiteLink.reply

    def received(link: SiteLink) -> Any:
        incoming = receive(link)
        if incoming is not None:
            came[incoming.wire.campaign] = time.monotonic()
        return incoming

    def replied(link: SiteLink, incoming: Any, wire: Wire) -> None:
        took[wire.campaign] = time.monotonic() - came[wire.campaign]
        reply(link, incoming, wire)

    monkeypatch.setattr(SiteLink, "receive", received)
    monkeypatch.setattr(SiteLink, "reply", replied)
    return took


@pytest.fixture
def world(enrolled: SiteFolder, server: Any, ministry: Any, plan: Any, made_records: Path) -> Iterator[World]:
    """The daemon runs in a thread of this process, its worker in a process of its own."""
    shutil.copytree(made_records, enrolled.path / "records")
    settings = enrolled.settings()
    block = settings.data[0].model_copy(update={"path": "./records"})
    few = tuple(one.model_copy(update={"secure_sum": 1.0, "coalition": 1.0}) for one in settings.privacy.budgets)
    privacy = settings.privacy.model_copy(update={"budgets": few})
    enrolled.write_settings(settings.model_copy(update={"data": (block,), "privacy": privacy}))
    daemon = Daemon(enrolled, clock=desk.now_utc, jitter=random.Random(7))
    world = World(enrolled, server, ministry, plan, daemon)
    thread = threading.Thread(target=daemon.run)
    thread.start()
    yield world
    daemon.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_whatever_a_site_does_not_want_it_abstains_by_its_own_code_and_opens_no_record(
    world: World, slots: dict[str, float], wait: Any, gather: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "jangin.client.daemon")
    wait(world.server.link.online)
    found, bodies = {}, {}
    with opened_in(world.records) as watch:
        for row in (*PUBLIC, *LOCAL):
            made = row.arrange(world)
            caplog.clear()
            watch.seen()
            run = world.server.link.open_run(re.sub("[ ,]+", "-", row.what))
            answer = gather(run, run.push("site-0", world.order(made))).content
            read = read_said if made.privacy.sums_only else read_reply
            told = read(Kind.SCALE, "site-0", answer.body, answer.vector).abstained
            (said,) = [line.message for line in caplog.records if "abstained. " in line.message]
            found[row.what] = said.split("abstained. ")[1].split()[0], told, watch.seen() - MAY_BE_READ
            if told == "local":
                bodies[row.what] = answer.body
                assert slots[made.hash] >= limits.slot_seconds(world.daemon._hook), row.what
            with world.site.journal() as journal:
                noted = [move.code for move in journal.moves(1000) if move.campaign == made.hash]
                assert not noted or noted[-1] == row.code
                assert row.told == row.code or row.code not in str([line.says for line in journal.egress()])
            world.restore()
        assert found == {row.what: (row.code, row.told, set()) for row in (*PUBLIC, *LOCAL)}
        assert len(set(bodies.values())) == 1
        assert set(bodies) == {row.what for row in LOCAL}
        with world.site.ledger() as ledger:
            assert ledger.accounts[world.wanted.hash].spent == set()
        # What is wanted is carried out, and the watch sees it.
        run = world.server.link.open_run("wanted")
        answer = gather(run, run.push("site-0", world.order(world.wanted))).content
        assert read_reply(Kind.SCALE, "site-0", answer.body, answer.vector).vector is not None
        assert any(name.endswith(".parquet") for name in watch.seen())
    with world.site.journal() as journal:
        assert journal.task(world.wanted.hash, 0) is Task.SENT
