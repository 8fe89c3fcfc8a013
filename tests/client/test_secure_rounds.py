"""Laws of a site's daemon in secure sums, beside a real SuperLink and a server that asks by hand.

Daemons run in threads of this process; what their workers train is given by the test, but for one that trains.
"""

import hashlib
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from consents import allow
from peers import Peers, a_manifest, steps_until
from typer.testing import CliRunner

from jangin.cli.site import site
from jangin.client import desk
from jangin.client.daemon import Daemon, _Ready
from jangin.client.settings import PrivacyLimits
from jangin.client.state import SiteFolder, Task
from jangin.client.sums import SumJournal
from jangin.client.workbench import Contribution, Job
from jangin.errors import JanginError
from jangin.flower_link.link import Run
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, Said, order_body, order_digest, read_reply, read_said, step_body
from jangin.plan.terms import terms
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.secure_sum.server import ServerSum
from jangin.privacy.secure_sum.table import State, Step
from jangin.privacy.secure_sum.transcript import Manifest
from jangin.training.price import price
from jangin.training.recipe import Recipe
from jangin.trust.keys import Identity, NodeKey
from jangin.trust.roster import RosterSite

NAMES = tuple(f"site-{number}" for number in range(4))
OTHERS = NAMES[1:]
SIZE = 43
PARAMETERS = np.linspace(-1, 1, SIZE).astype(np.float32)
TRAIN = Order(Kind.TRAIN, 1, PARAMETERS, (np.zeros(42), np.ones(42)))
SCALE = Order(Kind.SCALE, 0, np.empty(0, np.float32))
SECRET: dict[str, Any] = {
    "sites": {"invite": list(NAMES), "min_sites": 4},
    "privacy": {
        "secure_aggregation": "required",
        "n_plan": 4,
        "c_max": 1,
        "spare_rounds": 1,
        "nominal_units": 20,
    },
}
POLICY = {"n_min": 3, "n_min_final": 3, "n_honest_min": 2, "c_max": 1, "demo": True}
LIMITS = PrivacyLimits(allow_no_differential_privacy=True)

Work = Callable[[Job], Contribution]


def words_of(name: str) -> Any:
    seed = int(name.removeprefix("site-")) + 100
    return np.random.default_rng(seed).integers(0, 2**32, SIZE, dtype=np.uint64).astype(np.uint32)


def given(job: Job) -> Contribution:
    assert job.summed
    return Contribution(words_of(job.site), None)


@dataclass
class Federation:
    """Four sites, the first `real` of them with a folder, and a server that asks them by hand."""

    folders: dict[str, SiteFolder]
    peers: Peers
    plan: TrainingPlan
    server: Any
    ministry: Any
    run: Run
    gather: Any
    wait: Any

    @property
    def own(self) -> SiteFolder:
        return self.folders["site-0"]

    @property
    def identities(self) -> dict[str, Any]:
        return {name: entry.public for name, entry in self.server.sites.items()}

    @property
    def roster(self) -> bytes:
        roster = self.ministry.trust(self.server.rosters[-1]).roster(self.ministry.now)
        return hashlib.sha256(roster.payload).digest()

    @property
    def spent(self) -> set[int]:
        with self.own.ledger() as ledger:
            return ledger.accounts[self.plan.hash].spent

    def task(self, number: int = 1) -> Task:
        with self.own.journal() as journal:
            return journal.task(self.plan.hash, number)

    def manifest(self, order: Order = TRAIN, **changed: Any) -> Manifest:
        held = {
            "campaign": self.plan.hash,
            "round": order.round,
            "model": order_digest(order),
            "roster": self.roster,
            "size": self.peers.size,
        }
        return a_manifest(**(held | changed))

    def begin(self, order: Order = TRAIN, attempt: int = 1) -> ServerSum:
        """A sum that all others have begun."""
        manifest = self.manifest(order, attempt=attempt)
        self.peers.begin(manifest, terms(self.plan, "site-0"), self.identities)
        return ServerSum(manifest, terms(self.plan, "site-0"), self.identities)

    def push(self, wire: Wire, name: str = "site-0") -> str:
        self.wait(lambda: name in self.server.link.online())
        return self.run.push(name, wire)

    def first(self, manifest: Manifest, order: Order = TRAIN) -> Wire:
        vector = order.vector if order.vector.size else None
        body = order_body(replace(order, manifest=manifest.encode()), 60.0)
        return Wire(order.kind.value, self.plan.hash, order.round, body, vector)

    def later(self, step: Step, request: bytes, number: int = 1) -> Wire:
        return Wire(step.value, self.plan.hash, number, step_body(request, 60.0))

    def said(self, message: str) -> Said:
        answer = self.gather(self.run, message)
        wire = answer.content
        return read_said(Kind(wire.kind), answer.site, wire.body, wire.vector)

    def ask(self, wire: Wire, name: str = "site-0") -> Said:
        return self.said(self.push(wire, name))

    def asks(self, name: str, order: Order) -> Any:
        """How a real site answers a step."""

        def ask(step: Step, request: bytes) -> tuple[bytes, Any]:
            first = step is Step.ADVERTISE
            wire = self.first(Manifest.decode(request), order) if first else self.later(step, request, order.round)
            said = self.ask(wire, name)
            assert said.message is not None, said.abstained
            return said.message, said.vector

        return ask

    def until(self, server: ServerSum, state: State, order: Order = TRAIN) -> None:
        steps_until(server, state, self.peers, {name: self.asks(name, order) for name in self.folders})


@pytest.fixture
def federation(
    server: Any, ministry: Any, authority: Any, root_file: Path, made_records: Path, tmp_path: Path, plan: Any,
    gather: Any, wait: Any,
) -> Callable[..., Federation]:  # fmt: skip
    def federation(real: int = 1, policy: dict[str, Any] = POLICY, approve: bool = True) -> Federation:
        folders, keys = {}, {}
        for name in NAMES[:real]:
            desk.init(tmp_path / name, name, "steel.bof_blow", made_records, LIMITS)
            allow(tmp_path / name)
            folder = folders[name] = SiteFolder(tmp_path / name)
            settings = folder.settings()
            block = type(settings.secure_sum)(**policy)
            folder.write_settings(settings.model_copy(update={"secure_sum": block}))
            desk.enroll(folder.path, server.url, server.token, root_file, authority.ca)
        for name in NAMES[real:]:
            keys[name] = Identity.generate()
            server.sites[name] = RosterSite(identity=keys[name].public_text, node_key=NodeKey.generate().public_text)
        for name, folder in folders.items():
            server.confirm(folder, name)
        for folder in folders.values():
            assert desk.enroll(folder.path, server.url, server.token, root_file, authority.ca).confirmed
        wanted = plan(**SECRET)
        server.plans.append(ministry.signed(wanted))
        for folder in folders.values() if approve else ():
            desk.approve(folder.path, wanted.hash, price)
        run = server.link.open_run(wanted.hash)
        return Federation(folders, Peers(keys, SIZE), wanted, server, ministry, run, gather, wait)

    return federation


@contextmanager
def running(federation: Federation, work: Work = given, clock: desk.Clock = desk.now_utc) -> Iterator[None]:
    """The daemons of all real sites."""
    with ExitStack() as stack:
        for folder in federation.folders.values():
            daemon = Daemon(folder, clock=clock, jitter=random.Random(7))
            daemon._bench.work = lambda job, timeout_s: work(job)  # type: ignore[method-assign]
            thread = threading.Thread(target=daemon.run)
            thread.start()
            stack.callback(thread.join, 20)
            stack.callback(daemon.stop)
        yield


def test_sites_scale_and_train_in_secret_and_keep_nothing(federation: Any, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG, "jangin")
    four = federation(real=2)
    vectors = [words_of(name) for name in NAMES[:2]] + [four.peers.vector(name) for name in NAMES[2:]]
    expected = sum(vectors, np.zeros(SIZE, np.uint32))
    with running(four):
        for order in (SCALE, TRAIN):
            server = four.begin(order)
            four.until(server, State.UNMASKED, order)
            assert server.left == {}
            np.testing.assert_array_equal(server.total().view(np.uint32), expected)
    for name, folder in four.folders.items():
        raw = words_of(name).tobytes()
        with folder.journal() as journal, folder.ledger() as ledger:
            assert ledger.accounts[four.plan.hash].spent == {0, 1}
            assert [journal.task(four.plan.hash, number) for number in (0, 1)] == [Task.SENT] * 2
            kinds = [line.kind for line in journal.egress(100)]
        steps = [step.value for step in Step]
        assert [kind for kind in kinds if kind in steps] == steps * 2
        assert kinds[kinds.index("advertise") - 1] == "commit"  # to what the round was charged, before anything left
        assert not [file for file in folder.path.rglob("*") if file.is_file() and raw in file.read_bytes()]
        assert not list((folder.path / "updates").iterdir())
        assert not [body for _, body in four.server.heard if raw in body]
        assert str(words_of(name)[0]) not in caplog.text


def test_a_step_asked_again_is_answered_alike_and_in_other_words_not_at_all(federation: Any) -> None:
    one = federation()
    with running(one):
        server = one.begin()
        first = one.first(server.manifest)
        assert one.ask(first).message == one.ask(first).message
        one.until(server, State.SHARED)
        request = server.request("site-0")
        answers = [one.ask(one.later(Step.MASK, request)).vector for _ in range(2)]
        np.testing.assert_array_equal(*answers)
        assert (answers[0] != words_of("site-0")).any()
        others = one.later(Step.MASK, request + b"\x00")
        assert one.ask(others).abstained == "JG-sum-002"
        assert one.ask(one.later(Step.MASK, request)).abstained == "JG-sum-023"
        assert one.ask(first).abstained == "JG-sum-004"
        assert one.spent == {1}  # its vector has left


def test_a_yes_that_is_taken_back_between_two_steps_ends_the_sum_and_its_charge(federation: Any, wait: Any) -> None:
    one = federation()
    with running(one):
        server = one.begin()
        one.until(server, State.ADVERTISED)
        assert one.spent == {1}
        with one.own.journal() as journal:
            journal.withdraw(one.plan.hash)
        assert one.ask(one.later(Step.SHARE, server.request("site-0"))).abstained == "JG-site-311"
        assert one.spent == set()
        assert one.task() is Task.ABSTAINED


@pytest.mark.parametrize("changed", [{"model": bytes(32)}, {"roster": bytes(32)}, {"size": SIZE + 1}])
def test_a_manifest_of_another_model_or_roster_is_refused_before_anything_is_trained(
    federation: Any, changed: dict[str, Any]
) -> None:
    one = federation()
    trained: list[Job] = []
    with running(one, lambda job: trained.append(job) or given(job)):  # type: ignore[func-returns-value]
        before = len([what for what, _ in one.server.heard if what == "campaigns"])
        assert one.ask(one.first(one.manifest(**changed))).abstained == "JG-sum-003"
        asked = len([what for what, _ in one.server.heard if what == "campaigns"]) - before
        assert asked <= 2  # when it connected, and once for a roster
        assert one.spent == set()
    assert trained == []


def test_a_newer_roster_is_fetched_once_and_then_counts(federation: Any, wait: Any) -> None:
    one = federation()
    with running(one):
        assert one.ask(one.first(one.manifest(model=bytes(32)))).abstained == "JG-sum-003"
        one.server.rosters.append(one.ministry.roster(dict(one.server.sites), len(one.server.rosters) + 1))
        assert one.ask(one.first(one.manifest())).message is not None


def test_a_plan_of_sums_is_never_answered_in_clear(federation: Any) -> None:
    one = federation()
    with running(one):
        wire = Wire("train", one.plan.hash, 1, order_body(TRAIN, 60.0), TRAIN.vector)
        answer = one.gather(one.run, one.push(wire)).content
        assert read_reply(Kind.TRAIN, "site-0", answer.body, answer.vector).abstained == "JG-sum-021"


def test_a_later_attempt_ends_the_training_of_the_one_before(federation: Any, wait: Any) -> None:
    one, go_on = federation(), threading.Event()
    jobs: list[Job] = []

    def slow(job: Job) -> Contribution:
        jobs.append(job)
        assert go_on.wait(20)
        return given(job)

    with running(one, slow):
        one.push(one.first(one.manifest()))
        wait(lambda: jobs)
        server = one.begin(attempt=2)
        second = one.push(one.first(server.manifest))
        with SumJournal(one.own.database_file) as noted:
            wait(lambda: noted.last(one.plan.hash).attempt == 2)
        go_on.set()
        server.receive("site-0", one.said(second).message)  # signed over the second manifest
        assert server.left == {}
        assert one.spent == {1}
        assert len(jobs) == 2
        status = CliRunner().invoke(site, ["status", str(one.own.path), "--lang", "en"]).stdout
        assert re.search(rf"Open secure sums:\n.*\n{one.plan.hash[:12]} +1 +2 +advertised\n", status)
    assert one.spent == set()
    assert one.task() is Task.LOST
    assert "Open secure sums" not in CliRunner().invoke(site, ["status", str(one.own.path), "--lang", "en"]).stdout


def test_a_step_before_the_training_is_done_ends_the_sum(federation: Any, wait: Any) -> None:
    one, go_on = federation(), threading.Event()

    def slow(job: Job) -> Contribution:
        assert go_on.wait(20)
        return given(job)

    with running(one, slow):
        one.push(one.first(one.manifest()))
        wait(lambda: one.task() is Task.TRAINING)
        assert one.ask(one.later(Step.SHARE, b"")).abstained == "JG-sum-002"
        go_on.set()
        assert one.spent == set()
        assert one.ask(one.first(one.manifest(attempt=2))).message is not None


@pytest.mark.parametrize(
    ("reached", "spent", "task"), [(State.SHARED, set(), Task.LOST), (State.MASKED, {1}, Task.SENT)]
)
def test_a_sum_that_the_server_holds_back_is_ended(
    federation: Any, wait: Any, reached: State, spent: set[int], task: Task
) -> None:
    one, late = federation(), [timedelta()]
    with running(one, clock=lambda: desk.now_utc() + late[0]):
        server = one.begin()
        one.until(server, reached)
        late[0] = timedelta(seconds=2 * one.plan.sites.deadline_s + 1)
        with SumJournal(one.own.database_file) as noted:
            wait(lambda: not noted.standing())  # although nobody believes such a clock, and there is no connection
        assert one.spent == spent
        assert one.task() is task


@pytest.mark.parametrize("declined", [False, True])
def test_a_vector_that_waits_for_a_connection_does_not_leave_after_a_yes_was_taken_back(
    federation: Any, declined: bool
) -> None:
    one, left = federation(), []
    daemon = Daemon(one.own, clock=desk.now_utc, jitter=random.Random(7))
    vector = Wire("mask", one.plan.hash, 1, b"", words_of("site-0"))
    daemon._ready.append(_Ready(SimpleNamespace(), vector, Task.SENT))
    if declined:
        desk.decline(one.own.path, one.plan.hash)
    with one.own.journal() as journal:
        for state in (Task.GATED, Task.TRAINING, Task.TRAINED):
            journal.move(one.plan.hash, 1, state, desk.now_utc())
        daemon._send(SimpleNamespace(reply=lambda _, wire: left.append(wire)), journal)
        assert journal.task(one.plan.hash, 1) is (Task.LOST if declined else Task.SENT)
    assert left == ([] if declined else [vector])
    assert not daemon._ready


def test_a_campaign_that_the_server_ends_frees_the_charge_of_an_open_sum(federation: Any) -> None:
    one = federation()
    with running(one):
        one.until(one.begin(), State.SHARED)
        one.server.state = "aborted"
        assert one.ask(one.first(one.manifest(attempt=2, roster=bytes(32)))).abstained == "JG-sum-003"
        with one.own.ledger() as ledger:
            account = ledger.accounts[one.plan.hash]
            assert (account.spent, account.ended) == (set(), True)


def test_a_vector_of_a_worker_that_is_none_of_the_manifests_is_refused(federation: Any) -> None:
    one = federation()
    with running(one):
        manifest = one.manifest(SCALE, size=SIZE - 1)
        assert one.ask(one.first(manifest, SCALE)).abstained == "JG-sum-003"
        assert one.spent == set()


_KILLED = """
import os, signal
from jangin.cli.site import site
from jangin.client.workbench import Contribution, Workbench
from jangin.flower_link.site import SiteLink
import numpy as np

reply = SiteLink.reply

def until(link, incoming, wire):
    if wire.kind == os.environ["KILLED_BEFORE"]:
        os.kill(os.getpid(), signal.SIGKILL)
    reply(link, incoming, wire)

SiteLink.reply = until
Workbench.work = lambda bench, job, timeout_s: Contribution(np.zeros(43, np.uint32), None)
site()
"""


@pytest.mark.kill
@pytest.mark.parametrize(("before", "spent"), [("share", set()), ("mask", {1})])
def test_killed_before_its_vector_was_noted_a_site_has_its_charge_back_and_after_that_never(
    federation: Any, before: str, spent: set[int]
) -> None:
    one = federation()
    command = [sys.executable, "-W", "ignore", "-c", _KILLED, "run", str(one.own.path)]
    process = subprocess.Popen(command, env=os.environ | {"KILLED_BEFORE": before}, stderr=subprocess.DEVNULL)
    try:
        server = one.begin()
        one.until(server, State.ADVERTISED if before == "share" else State.SHARED)
        one.push(one.later(server.step, server.request("site-0")))
        process.wait(20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert one.spent == {1}
    one.server.link.unregister("site-0")
    one.server.confirm(one.own)
    with running(one):
        assert one.ask(one.later(server.step, server.request("site-0"))).abstained == "JG-sum-023"
        assert one.spent == spent
        assert one.task() is Task.ABSTAINED
        assert one.ask(one.first(one.manifest())).abstained == "JG-sum-004"
        assert one.ask(one.first(one.manifest(attempt=2))).message is not None
        assert len(one.spent) == len(spent) + 1


def test_what_a_later_round_left_open_never_frees_the_charges_of_earlier_ones(federation: Any) -> None:
    one = federation()
    with (
        one.own.journal() as journal,
        one.own.ledger() as ledger,
        SumJournal(one.own.database_file) as noted,
    ):
        for attempt in (1, 2):  # of both the vector left, and round 1 was answered by the second
            manifest = one.manifest(attempt=attempt)
            noted.note(manifest, Step.ADVERTISE, manifest.digest)
            noted.charge(manifest, attempt)
            ledger.spend(one.plan.hash, attempt, desk.now_utc())
            noted.note(manifest, Step.MASK, bytes(32))
        for state in (Task.GATED, Task.TRAINING):
            journal.move(one.plan.hash, 2, state, desk.now_utc())
    with running(one):
        one.wait(lambda: one.task(2) is Task.LOST)
    assert one.spent == {1, 2}


def test_what_a_real_worker_trains_is_what_the_sum_opens(federation: Any, daemons: Any) -> None:
    one = federation()
    recipe = Recipe.of(one.plan)
    model, columns = recipe.learner().model, len(recipe.public_scaling().mean)
    order = Order(Kind.TRAIN, 1, model.read()[model.layout.shared], (np.zeros(columns), np.ones(columns)))
    one.peers.size = size = len(order.vector)
    daemons(one.own)
    server = one.begin(order)
    one.until(server, State.UNMASKED, order)
    rest = sum((one.peers.vector(name) for name in OTHERS), np.zeros(size, np.uint32))
    encoding = recipe.encoding(Kind.TRAIN, size)
    assert encoding is not None
    update = np.linalg.norm(encoding.total((server.total().view(np.uint32) - rest).view(np.int32)))
    assert 1e-6 < update <= one.plan.privacy.update_clip * 1.001


def test_a_plan_that_can_never_run_here_is_told_and_not_approved(federation: Any) -> None:
    one = federation(policy={}, approve=False)
    told = CliRunner().invoke(site, ["campaigns", str(one.own.path)])
    assert "secure_aggregation: required" in told.stdout
    assert "JG-sum-015" in told.stderr
    with pytest.raises(JanginError, match="JG-sum-015"):
        desk.approve(one.own.path, one.plan.hash, price)
    with one.own.ledger() as ledger:
        assert not ledger.accounts
    assert one.server.approvals == []
