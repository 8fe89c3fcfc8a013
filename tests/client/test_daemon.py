"""Laws of the whole site, as a process beside a real SuperLink: enrol, approve, train, abstain, stop."""

import os
import random
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from canaries import found, plant
from consents import allow

from jangin.client import desk
from jangin.client.settings import LimitsBlock, size_bytes
from jangin.client.state import SiteFolder, Task
from jangin.codec import cbor
from jangin.flower_link.link import Answer, EmbeddedLink, Run
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Content, Kind, Order, Reply, order_body, read_reply
from jangin.plan.training_plan import TrainingPlan
from jangin.records.checks import validate
from jangin.server.exchange import LinkExchange
from jangin.server.rounds import gather as gather_round
from jangin.training.price import price
from jangin.training.recipe import Recipe
from jangin.trust.approvals import verify_approval
from jangin.trust.commitments import verify_commitment

HEAVY = ("torch", "scipy", "dp_accounting", "pyarrow", "sqlalchemy", "pandas", "fastapi", "uvicorn", "ray")

Daemons = Callable[[SiteFolder], "subprocess.Popen[str]"]


def wire(campaign: str, order: Order, deadline_s: float = 60.0) -> Wire:
    vector = order.vector if order.vector.size else None
    return Wire(order.kind.value, campaign, order.round, order_body(order, deadline_s), vector)


def scale() -> Order:
    return Order(Kind.SCALE, 0, np.empty(0, np.float32))


def reply_of(answer: Answer) -> Reply:
    assert isinstance(answer.content, Wire)
    return read_reply(Kind(answer.content.kind), answer.site, answer.content.body, answer.content.vector)


def rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_a_site_enrols_approves_trains_two_rounds_and_stops(
    enrolled: SiteFolder,
    server: Any,
    plan: Callable[..., TrainingPlan],
    ministry: Any,
    daemons: Daemons,
    wait: Any,
    gather: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = plan()
    server.plans.append(ministry.signed(wanted))
    daemon = daemons(enrolled)
    wait(lambda: server.link.online())
    run: Run = server.link.open_run(wanted.hash)

    refused = reply_of(gather(run, run.push("site-0", wire(wanted.hash, scale()))))
    assert refused.abstained == "JG-site-311"

    (listed,) = desk.campaigns(enrolled.path)
    assert (listed.hash, listed.approved, listed.operator, listed.approver) == (wanted.hash, False, "kim", "lee")
    desk.approve(enrolled.path, wanted.hash, price)
    desk.approve(enrolled.path, wanted.hash, price)
    assert len(set(server.approvals)) == 1
    roster = enrolled.trust().roster(ministry.now)
    assert verify_approval(server.approvals[0], roster, "site-0", wanted.hash, desk.now_utc()).plan == wanted.hash

    idle = rss_mb(daemon.pid)
    recipe = Recipe.of(wanted)
    moments = reply_of(gather(run, run.push("site-0", wire(wanted.hash, scale())))).vector
    assert moments is not None
    assert moments.dtype == np.float64
    learnt = recipe.learned_scaling(moments, 1)
    model = recipe.learner().model
    parameters = model.read()[model.layout.shared]
    scaling = learnt.mean, learnt.deviation
    for number in (1, 2):
        order = Order(Kind.TRAIN, number, parameters, scaling)
        update = reply_of(gather(run, run.push("site-0", wire(wanted.hash, order)))).vector
        assert update is not None
        assert update.any()
        again = reply_of(gather(run, run.push("site-0", wire(wanted.hash, order)))).vector
        np.testing.assert_array_equal(update, again)
        parameters = (parameters + update).astype(np.float32)
    behind = Order(Kind.TRAIN, 1, parameters, scaling)
    assert reply_of(gather(run, run.push("site-0", wire(wanted.hash, behind)))).abstained == "local"
    beyond = Order(Kind.TRAIN, 3, parameters, scaling)
    assert reply_of(gather(run, run.push("site-0", wire(wanted.hash, beyond)))).abstained == "JG-site-313"
    working = rss_mb(daemon.pid)

    daemon.send_signal(signal.SIGTERM)
    out, err = daemon.communicate(timeout=20)
    assert (daemon.returncode, out) == (0, '{"ok": true, "stopped": true}\n')
    assert "Traceback" not in err
    assert err.count("connected") == 1
    with enrolled.journal() as journal:
        assert [journal.task(wanted.hash, number) for number in (0, 1, 2, 3)] == [Task.SENT] * 3 + [Task.ABSTAINED]
        left = [line.kind for line in journal.egress(100)]
    # 1 refusal, the moments, two rounds each asked twice, two refusals; before them two enrolments and two approvals.
    told = [kind for kind in left if kind != "commit"]
    assert told == ["enroll", "enroll", "scale", "approve", "approve", "scale", *["train"] * 6]
    # What was charged was committed to before it left: the ledger at its approval, the moments, each of two rounds.
    first_train = left.index("train")
    assert left[left.index("scale", 3) - 1] == left[first_train - 1] == "commit"
    with enrolled.ledger() as ledger:
        account = ledger.accounts[wanted.hash]
        assert (account.spent, account.ended) == ({0, 1, 2}, False)
        committed = verify_commitment(server.commitments[-1], "site-0", enrolled.identity().public)
        assert (committed.entries, committed.head) == (ledger.head.entries, ledger.head.digest.hex())
    with capsys.disabled():
        print(f"\nlight process: idle {idle:.0f} MB, after two rounds {working:.0f} MB")  # noqa: T201
    assert working <= 120


@pytest.mark.parametrize(
    "module", ["jangin.client.daemon", "jangin.client.desk", "jangin.client.accounts", "jangin.cli.site"]
)
def test_the_light_process_is_light(module: str) -> None:
    script = f"import sys, {module}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@dataclass
class Rounds:
    """A campaign of one site, asked by hand."""

    run: Run
    plan: TrainingPlan
    gather: Any

    def push(self, order: Order, deadline_s: float = 60.0) -> str:
        return self.run.push("site-0", wire(self.plan.hash, order, deadline_s))

    def ask(self, order: Order, deadline_s: float = 60.0) -> Reply:
        return reply_of(self.gather(self.run, self.push(order, deadline_s)))

    def train(self, number: int = 1) -> Order:
        recipe = Recipe.of(self.plan)
        model, columns = recipe.learner().model, len(recipe.public_scaling().mean)
        return Order(Kind.TRAIN, number, model.read()[model.layout.shared], (np.zeros(columns), np.ones(columns)))


@pytest.fixture
def campaign(enrolled: SiteFolder, server: Any, ministry: Any, gather: Any) -> Callable[[TrainingPlan], Rounds]:
    """An approved campaign and its run."""

    def campaign(plan: TrainingPlan) -> Rounds:
        server.plans.append(ministry.signed(plan))
        desk.approve(enrolled.path, plan.hash, price)
        return Rounds(server.link.open_run(plan.hash), plan, gather)

    return campaign


def workers(pid: int) -> list[int]:
    """The processes that any thread of a daemon started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


@pytest.mark.kill
def test_a_dead_or_late_worker_is_an_abstention_and_the_next_round_is_trained(
    enrolled: SiteFolder, server: Any, campaign: Any, plan: Any, daemons: Daemons, wait: Any, gather: Any
) -> None:
    rounds, endless = campaign(plan()), campaign(plan(campaign="endless", strategy={"local_steps": 10**9}))
    daemon = daemons(enrolled)
    wait(server.link.online)
    assert rounds.ask(scale()).vector is not None
    waiting = endless.push(endless.train())
    with enrolled.journal() as journal:
        wait(lambda: journal.task(endless.plan.hash, 1) is Task.TRAINING)
    (worker,) = workers(daemon.pid)
    os.kill(worker, signal.SIGKILL)
    assert reply_of(gather(endless.run, waiting)).abstained == "local"
    assert endless.ask(endless.train(2), deadline_s=1.0).abstained == "local"
    assert rounds.ask(rounds.train()).vector is not None
    with enrolled.journal() as journal:
        assert [move.code for move in journal.moves(100) if move.state is Task.ABSTAINED] == ["JG-site-322"] * 2
    daemon.send_signal(signal.SIGINT)
    _, err = daemon.communicate(timeout=20)
    assert daemon.returncode == 0
    assert "the worker died" in err
    assert "it took too long" in err


def test_two_campaigns_train_while_the_site_keeps_answering(
    enrolled: SiteFolder, server: Any, campaign: Any, plan: Any, daemons: Daemons, wait: Any, gather: Any
) -> None:
    one, other = campaign(plan()), campaign(plan(campaign="other-model", model={"name": "mlp", "hidden": [4]}))
    daemons(enrolled)
    wait(server.link.online)
    asked = [(rounds.run, rounds.push(rounds.train())) for rounds in (one, other)]
    refused = one.ask(one.train(9))
    assert refused.abstained == "JG-site-313"
    updates = [reply_of(gather(run, message)).vector for run, message in asked]
    lengths = [len(rounds.train().vector) for rounds in (one, other)]
    assert [len(update) for update in updates if update is not None] == lengths


@pytest.mark.kill
def test_what_is_called_back_is_cut_short_uncharged_and_asked_again_and_what_waits_behind_it_is_trained(
    enrolled: SiteFolder, server: Any, campaign: Any, plan: Any, daemons: Daemons, wait: Any, gather: Any
) -> None:
    rounds, endless = campaign(plan()), campaign(plan(campaign="endless", strategy={"local_steps": 10**9}))
    daemons(enrolled)
    wait(server.link.online)
    end, stop = endless.plan.hash, Wire(Kind.STOP.value, endless.plan.hash, 0, cbor.encode({}))
    endless.push(endless.train())
    with enrolled.journal() as journal, enrolled.ledger() as ledger:
        wait(lambda: journal.task(end, 1) is Task.TRAINING)
        waiting = rounds.push(rounds.train())
        wait(lambda: journal.task(rounds.plan.hash, 1) is Task.TRAINING)
        endless.run.push("site-0", stop)
        assert reply_of(gather(rounds.run, waiting)).update is not None
        assert journal.task(end, 1) is Task.LOST
        ledger.refresh()
        assert (ledger.accounts[end].spent, ledger.accounts[rounds.plan.hash].spent) == (set(), {1})
        endless.run.push("site-0", stop)  # nothing is in work
        endless.push(endless.train())
        wait(lambda: journal.task(end, 1) is Task.TRAINING)


def test_a_held_update_is_collected_once_asked_for_and_as_often_as_asked(
    enrolled: SiteFolder, server: Any, campaign: Any, plan: Any, light_daemons: Any, wait: Any
) -> None:
    rounds = campaign(plan())
    light_daemons(enrolled)
    wait(server.link.online)
    collect = Order(Kind.COLLECT, 1, np.empty(0, np.float32))
    assert rounds.ask(collect).abstained == "local"
    held = rounds.ask(replace(rounds.train(), hold=True))
    assert held.content is Content.HELD
    with enrolled.journal() as journal:
        assert journal.task(rounds.plan.hash, 1) is Task.TRAINED
        first, second = (rounds.ask(collect).update for _ in range(2))
        assert first is not None
        np.testing.assert_array_equal(first, second)
        wait(lambda: journal.task(rounds.plan.hash, 1) is Task.SENT)
        np.testing.assert_array_equal(rounds.ask(rounds.train()).update, first)
        assert rounds.ask(replace(rounds.train(2), hold=True)).content is Content.HELD
        assert rounds.ask(collect).abstained == "local"


def test_a_refused_order_leaves_the_training_of_its_round_alone(
    enrolled: SiteFolder, server: Any, campaign: Any, plan: Any, daemons: Daemons, wait: Any, gather: Any
) -> None:
    rounds = campaign(plan(strategy={"local_steps": 1_000}))
    daemons(enrolled)
    wait(server.link.online)
    training = rounds.push(rounds.train())
    with enrolled.journal() as journal:
        wait(lambda: journal.task(rounds.plan.hash, 1) is Task.TRAINING)
        assert rounds.ask(Order(Kind.COLLECT, 1, np.empty(0, np.float32))).abstained == "local"
        assert journal.task(rounds.plan.hash, 1) is Task.TRAINING
        assert reply_of(gather(rounds.run, training)).update is not None


def test_an_order_asked_again_otherwise_is_answered_as_it_was_asked_last(
    enrolled: SiteFolder, server: Any, campaign: Any, plan: Any, daemons: Daemons, wait: Any, gather: Any
) -> None:
    rounds = campaign(plan(strategy={"local_steps": 1_000}))
    daemons(enrolled)
    wait(server.link.online)
    rounds.push(replace(rounds.train(), hold=True))
    with enrolled.journal() as journal:
        wait(lambda: journal.task(rounds.plan.hash, 1) is Task.TRAINING)
        again = rounds.push(rounds.train())
        assert reply_of(gather(rounds.run, again)).update is not None


def test_the_servers_exchange_gets_the_same_sum_in_waves_and_at_once(
    enrolled: SiteFolder, server: Any, campaign: Any, plan: Any, light_daemons: Any, wait: Any
) -> None:
    rounds = campaign(plan())
    light_daemons(enrolled)
    wait(server.link.online)
    order = rounds.train()
    sums = []
    for most_together_bytes in (0, 2**20):
        exchange = LinkExchange(
            rounds.run, ["site-0"], 60.0, len(order.vector), most_together_bytes=most_together_bytes
        )
        sums.append(gather_round(exchange, order)[1])
    np.testing.assert_array_equal(*sums)
    with enrolled.journal() as journal:
        assert [line.kind for line in journal.egress(3)] == ["train", "collect", "train"]


def test_a_held_update_that_nobody_collects_is_lost_with_the_next_round(
    enrolled: SiteFolder, server: Any, campaign: Any, plan: Any, light_daemons: Any, wait: Any
) -> None:
    rounds = campaign(plan())
    light_daemons(enrolled)
    wait(server.link.online)
    for number in (1, 2):
        rounds.ask(replace(rounds.train(number), hold=True))
    with enrolled.journal() as journal:
        assert [journal.task(rounds.plan.hash, number) for number in (1, 2)] == [Task.LOST, Task.TRAINED]


@pytest.mark.kill
def test_a_site_killed_in_training_comes_back_and_answers_the_round_asked_again(
    enrolled: SiteFolder, server: Any, campaign: Any, plan: Any, daemons: Daemons, wait: Any
) -> None:
    endless = campaign(plan(strategy={"local_steps": 10**9}))
    daemon = daemons(enrolled)
    wait(server.link.online)
    endless.push(endless.train())
    with enrolled.journal() as journal:
        wait(lambda: journal.task(endless.plan.hash, 1) is Task.TRAINING)
        (worker,) = wait(lambda: workers(daemon.pid))
        daemon.kill()
        daemon.wait(10)
        with enrolled.ledger() as ledger:
            assert ledger.accounts[endless.plan.hash].spent == {1}  # as long as nobody looked whether anything left
        wait(lambda: not Path(f"/proc/{worker}").exists() or "Z" in Path(f"/proc/{worker}/stat").read_text())
        server.link.unregister("site-0")
        server.confirm(enrolled)
        daemons(enrolled)
        wait(lambda: journal.task(endless.plan.hash, 1) is Task.LOST)
        with enrolled.ledger() as ledger:
            assert ledger.accounts[endless.plan.hash].spent == set()
        wait(server.link.online)
        server.link.open_run("again").push("site-0", wire(endless.plan.hash, endless.train()))
        wait(lambda: journal.task(endless.plan.hash, 1) is Task.TRAINING)


def test_an_unreachable_server_is_waited_for_with_one_line(
    enrolled: SiteFolder,
    server: Any,
    authority: Any,
    campaign: Any,
    plan: Any,
    daemons: Daemons,
    wait: Any,
    gather: Any,
) -> None:
    with EmbeddedLink(authority.certificate, authority.key, site_api=server) as first_link:
        port, known = first_link.port, enrolled.settings()
        assert known.server is not None
        moved = known.server.model_copy(update={"url": f"https://127.0.0.1:{port}"})
        enrolled.write_settings(known.model_copy(update={"server": moved}))
        server.link = first_link
        first_link.register("site-0", enrolled.node_key().public)
        rounds = campaign(plan())
        daemon = daemons(enrolled)
        wait(first_link.online)
        first = rounds.ask(scale()).vector
    lines: list[str] = []
    assert daemon.stderr is not None
    while "JG-site-20" not in (lines[-1] if lines else ""):
        lines.append(daemon.stderr.readline())
    with EmbeddedLink(authority.certificate, authority.key, port=port, site_api=server) as link:
        link.register("site-0", enrolled.node_key().public)
        wait(link.online)
        again = Rounds(link.open_run(rounds.plan.hash), rounds.plan, gather)
        np.testing.assert_array_equal(again.ask(scale()).vector, first)
        daemon.terminate()
        _, err = daemon.communicate(timeout=20)
    said = "".join(lines) + err
    assert daemon.returncode == 0
    assert said.count("JG-site-201") <= 2  # by the link, then by the API, where both were met
    assert said.count(": connected") + said.count("INFO connected") == 2


def test_garbage_is_answered_with_a_code_or_not_at_all(
    enrolled: SiteFolder, server: Any, campaign: Any, plan: Any, light_daemons: Any, wait: Any, gather: Any
) -> None:
    rounds = campaign(plan())
    light_daemons(enrolled)
    wait(server.link.online)
    name, order = rounds.plan.hash, rounds.train()
    garbage = {
        "JG-site-306": Wire("train", name, 1, b"\xff\xff", order.vector),
        "JG-site-306 too": Wire("train", name, 1, order_body(order, 9.0), order.vector.astype(np.uint32)),
        "JG-site-307": wire("0" * 64, order),
        "nothing": Wire("persuade", name, 1, b""),
    }
    asked = {code: rounds.run.push("site-0", sent) for code, sent in garbage.items()}
    assert rounds.ask(scale()).vector is not None
    assert rounds.run.pull([asked.pop("nothing")]) == []
    for code, message in asked.items():
        assert reply_of(gather(rounds.run, message)).abstained == code.removesuffix(" too")


def test_a_roster_that_cannot_be_believed_stops_every_campaign(
    enrolled: SiteFolder, server: Any, campaign: Any, plan: Any, light_daemons: Any, wait: Any
) -> None:
    rounds = campaign(plan())
    server.rosters.append(server.rosters[-1][:-1])
    light_daemons(enrolled)
    wait(server.link.online)
    assert rounds.ask(scale()).abstained == "JG-site-110"
    server.rosters.pop()
    assert rounds.ask(scale()).vector is not None


def test_names_paths_and_values_of_records_never_leave_and_are_never_logged(
    enrolled: SiteFolder, server: Any, campaign: Any, plan: Any, made_records: Path, tmp_path: Path, daemons: Daemons,
    wait: Any, gather: Any,
) -> None:  # fmt: skip
    path = tmp_path / "canary-path"
    canaries = [*plant(made_records, path), path.name]
    validate(path, level=1, unit="episode", random_bytes=np.random.default_rng(5).bytes).require(path)
    settings = enrolled.settings()
    block = settings.data[0].model_copy(update={"path": str(path)})
    enrolled.write_settings(settings.model_copy(update={"data": (block,)}))
    allow(enrolled.path)
    rounds, broken = campaign(plan()), campaign(plan(campaign="later"))
    daemon = daemons(enrolled)
    wait(server.link.online)
    heard = []
    for order in (scale(), rounds.train(1), rounds.train(2)):
        content = gather(rounds.run, rounds.push(order)).content
        vector = b"" if content.vector is None else content.vector.tobytes()
        heard.append(content.body + vector)
        assert read_reply(Kind(content.kind), "site-0", content.body, content.vector).vector is not None
    (part,) = (path / "streams" / "flame").glob("*.parquet")
    with part.open("ab") as file:
        file.write(str(canaries[0]).encode())
    assert broken.ask(scale()).abstained == "local"
    (path / "card.yaml").write_text(f"process: {canaries[0]}\n")
    assert broken.ask(scale()).abstained == "local"
    daemon.terminate()
    out, err = daemon.communicate(timeout=20)
    heard += [body for _, body in server.heard]
    with enrolled.journal() as journal:
        written = repr((journal.egress(1000), journal.moves(1000)))
    assert found(canaries, *heard) == set()
    assert found(canaries, (out + err + written).encode()) == set()


def is_sound(site: SiteFolder) -> bool:
    """Whether both databases are whole, and every entry of the ledger is signed."""
    with site.ledger() as ledger:
        ledger.check()
    for name in ("site.sqlite", "ledger.sqlite"):
        with closing(sqlite3.connect(site.path / name)) as database:
            if database.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                return False
    return True


@pytest.mark.kill
@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.soak)])
def test_a_site_killed_at_any_moment_has_counted_all_that_left_and_finishes_its_campaign(
    enrolled: SiteFolder, server: Any, campaign: Any, plan: Any, daemons: Daemons, wait: Any, kills: int
) -> None:
    seed = 5 if kills == 1 else secrets.randbelow(2**32)
    print(f"seed of the moments: {seed}")  # noqa: T201 - shown where the test fails
    moments, pause = random.Random(seed), threading.Event()
    rounds, received, asked = campaign(plan(strategy={"rounds": 2 * kills})), set[int](), [""]

    def hear() -> None:
        for answer in rounds.run.pull(list(filter(None, asked))):
            assert reply_of(answer).vector is not None
            received.add(len(received))
            asked[:] = [""]

    def ask(last: int) -> bool:
        """Give the next order, up to that of a round; whether the server has the answer to the last."""
        hear()
        if asked == [""] and last not in received and server.link.online():
            asked[:] = [rounds.push(rounds.train(len(received)) if received else scale())]
        return last in received

    for life in range(kills):
        daemon, until = daemons(enrolled), time.monotonic() + moments.uniform(0, 5)
        while time.monotonic() < until:
            ask(2 * life + 1)
            pause.wait(0.01)
        daemon.kill()
        daemon.wait(10)
        hear()
        with enrolled.ledger() as ledger:
            assert received <= ledger.accounts[rounds.plan.hash].spent
        assert is_sound(enrolled)
        # The server lets go, as it does by itself after half a minute; what was not answered is late, and given again.
        server.link.unregister("site-0")
        server.confirm(enrolled)
        rounds.run, asked[:] = server.link.open_run(rounds.plan.hash), [""]
    daemons(enrolled)
    for number in range(2 * kills + 1):
        wait(lambda number=number: ask(number))
    with enrolled.ledger() as ledger:
        assert ledger.accounts[rounds.plan.hash].spent == received == set(range(2 * kills + 1))
    assert list((enrolled.path / "updates").glob(".*")) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB where the site's folder is to be."""
    folder = tmp_path / "site"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True) if shutil.which("mount") else None
    if done is None or done.returncode:
        pytest.skip(f"Mounting a small disk takes root on Linux: {done.stderr.strip() if done else 'no mount here'}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def heard(daemon: "subprocess.Popen[str]") -> str:
    """What a daemon said on standard error since the last look."""
    assert daemon.stderr is not None
    os.set_blocking(daemon.stderr.fileno(), False)
    with suppress(BlockingIOError):
        return os.read(daemon.stderr.fileno(), 2**16).decode()
    return ""


@contextmanager
def filled(disk: Path, left: int) -> Iterator[None]:
    """A disk with so many bytes left, a multiple of 4096."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):  # somebody else took the last of it
        while room := shutil.disk_usage(disk).free - left:
            file.write(bytes(min(room, 2**20)))
    yield
    filler.unlink()


@pytest.mark.soak
def test_a_full_disk_begins_nothing_keeps_nothing_half_and_costs_one_round(
    small_disk: Path,
    enrolled: SiteFolder,
    server: Any,
    campaign: Any,
    plan: Any,
    daemons: Daemons,
    wait: Any,
    gather: Any,
) -> None:
    rounds = campaign(plan())
    daemon = daemons(enrolled)
    wait(server.link.online)
    assert rounds.ask(scale()).vector is not None
    assert size_bytes(enrolled.settings().limits.disk_free_min) > 2**20
    with filled(small_disk, 2**20):
        assert rounds.ask(rounds.train(1)).abstained == "local"
    with enrolled.journal() as journal:
        assert journal.moves(1)[0].code == "JG-site-386"
        (worker,) = workers(daemon.pid)
        os.kill(worker, signal.SIGSTOP)
        message = rounds.push(rounds.train(1))
        wait(lambda: journal.task(rounds.plan.hash, 1) is Task.TRAINING)
    with filled(small_disk, 0):
        os.kill(worker, signal.SIGCONT)
        wait(lambda: "No space left on device" in heard(daemon))
    assert reply_of(gather(rounds.run, message)).abstained == "local"
    with enrolled.journal() as journal, enrolled.ledger() as ledger:
        assert [move.code for move in journal.moves(100) if move.code] == ["JG-site-386", "JG-site-342"]
        assert ledger.accounts[rounds.plan.hash].spent == {0}
    assert [rounds.ask(rounds.train(number)).abstained for number in (1, 2)] == [None, None]
    assert is_sound(enrolled)


@pytest.mark.soak
def test_a_worker_over_its_memory_costs_its_rounds_until_the_cap_is_raised(
    enrolled: SiteFolder, server: Any, campaign: Any, plan: Any, daemons: Daemons, wait: Any
) -> None:
    rounds, settings = campaign(plan()), enrolled.settings()

    def runs_with(memory: str) -> "subprocess.Popen[str]":
        enrolled.write_settings(
            settings.model_copy(update={"limits": LimitsBlock(memory=memory, disk_free_min="1MiB")})
        )
        daemon = daemons(enrolled)
        wait(server.link.online)
        return daemon

    daemon = runs_with("128MiB")
    assert [rounds.ask(scale()).abstained for _ in range(2)] == ["local", "local"]
    with enrolled.journal() as journal:
        assert [move.code for move in journal.moves(100) if move.code] == ["JG-site-387"] * 2
    assert daemon.poll() is None
    daemon.terminate()
    assert daemon.wait(20) == 0
    runs_with("4GiB")
    assert [rounds.ask(order).abstained for order in (scale(), rounds.train(1), rounds.train(2))] == [None] * 3
