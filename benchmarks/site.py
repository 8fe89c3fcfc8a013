"""What a site's daemon costs while nothing is asked of it, and how long a task takes, beside a stock Flower node.

Usage: python benchmarks/site.py [--json] [--quick]    (Linux: memory and processor time are read from /proc)

Ours is one `jangin site run` at a real server, over TLS, with keys; its memory is resident (Rss), each page counted
whole. Flower's is a SuperNode, its SuperExec and, while there is a task, a ClientApp's process, without TLS and
without keys; their memory is Pss, in which shared pages count in parts, and their task is looked for every 20 ms,
without the 3 s of Flower's own grid. All of that helps Flower. Both idle through the same seconds; a training of one
step on one record is part of our task, and the worker that torch makes large is there only while a campaign runs.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from subprocess import Popen
from tempfile import TemporaryDirectory

import stock
from federation import LEFT_OUT, PROCESS, SECONDS_A_ROUND, no_op, records

from jangin.client import consent, desk
from jangin.client.settings import PrivacyLimits
from jangin.server import campaigns, life
from jangin.server.members import Members, make_staff
from jangin.server.settings import ServerSettings, StateFolder
from jangin.server.store import Store
from jangin.training.price import price
from jangin.trust.keys import Identity
from jangin.trust.staff import Role

START_SECONDS, LOOK_SECONDS = 60.0, 0.05
CALM_SECONDS, CALM_SHARE = 1.0, 0.1
STAFF = {"operator": (Role.OPERATOR,), "approver": (Role.APPROVER,), "independent": (Role.INDEPENDENT_BODY,)}


@dataclass(frozen=True)
class Site:
    """One site at its server, and a campaign that waits to be started."""

    store: Store
    members: Members
    campaign: str
    daemon: Popen[bytes]

    def tasks(self, limit_seconds: float) -> list[float]:
        """Run the campaign; what the server recorded of each round: from its order to its checkpoint."""
        campaigns.start(self.store, self.members, self.campaign, datetime.now(UTC))
        over = life.ENDED
        stock.until(lambda: self.store.campaign(self.campaign).state in over, limit_seconds, [self.daemon])
        return [entry.seconds for entry in self.store.rounds(self.campaign) if entry.round]


@contextmanager
def site(folder: Path, rounds: int) -> Iterator[Site]:
    """A server with its own settings of pace, and a site that has joined it and said yes to a campaign."""
    staff, now = folder / "staff", datetime.now(UTC)
    make_staff(staff, STAFF, now, timedelta(days=1))
    keys = {name: Identity.load(staff / f"{name}.key") for name in STAFF}
    root, listed = (staff / "root.pub").read_text().strip(), (staff / "staff.envelope").read_bytes()
    state = StateFolder.make(folder / "server", ServerSettings(port=0), root, listed, ["127.0.0.1"], now)
    store, jangin = state.store(), stock.BIN / "jangin"
    members = Members(store, state.root)
    ((name, made),) = records(folder / "records", 1).items()
    home, log = folder / name, folder / "site.log"
    with ExitStack() as stack:
        stack.callback(store.close)
        server = stack.enter_context(stock.running([jangin, "server", "run", state.path], folder / "server.log"))
        stock.until(state.address.exists, START_SECONDS, [server])
        url = f"https://{state.address.read_text().strip()}"
        desk.init(home, name, PROCESS, made, PrivacyLimits(allow_no_differential_privacy=True))
        masters = consent.masters_of(home, PROCESS)
        consent.grant(home, masters, ["research"], ["all"], (now + timedelta(days=1)).date(), clock=desk.now_utc)
        token = members.invite(name, now)
        desk.enroll(home, url, token, staff / "root.pub", state.authority)
        members.confirm([name], [keys["operator"], keys["independent"]], datetime.now(UTC))
        desk.enroll(home, url, token, staff / "root.pub", state.authority)
        campaign = campaigns.propose(store, members, no_op([name], rounds), keys["operator"], datetime.now(UTC))
        campaigns.approve(store, members, campaign, keys["approver"], datetime.now(UTC))
        desk.approve(home, campaign, price)
        daemon = stack.enter_context(stock.running([jangin, "site", "run", home], log))
        stock.until(lambda: "connected" in log.read_text(), START_SECONDS, [server, daemon])
        yield Site(store, members, campaign, daemon)


def calm(pids: Sequence[int]) -> None:
    """Wait until processes that have just started are done with that."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        before = cpu(pids)
        time.sleep(CALM_SECONDS)
        if cpu(pids) - before < CALM_SHARE * CALM_SECONDS:
            return
    raise TimeoutError(f"Expected processes to be idle within {START_SECONDS:g} s: {pids}.")


def cpu(pids: Sequence[int]) -> float:
    return sum(map(stock.cpu_seconds, pids))


def below(process: Popen[bytes]) -> list[int]:
    """A process and those that it started."""
    return [pid for pid, _ in stock.tree(process.pid)]


def pss_mb(pids: Sequence[int]) -> float:
    return sum(stock.memory_mb(pid, "Pss") for pid in pids)


def highest(figure: Callable[[], float], work: Callable[[], list[float]]) -> tuple[float, list[float]]:
    """The highest that a figure was during some work, and what came of the work."""
    with ThreadPoolExecutor(1) as thread:
        doing, most = thread.submit(work), 0.0
        while not doing.done():
            most = max(most, figure())
            time.sleep(LOOK_SECONDS)
    return most, doing.result()


def row(name: str, figure: float, beside: dict[str, float], against: float, goal: str, *, holds: bool) -> None:
    rounded = {key: round(value, 3) for key, value in beside.items()}
    content = {"name": name, "figure": round(figure, 3), "beside": rounded, "ratio": round(figure / against, 3)}
    print(json.dumps({**content, "goal": goal, "holds": holds}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only JSON lines (they are the only form)")
    parser.add_argument("--quick", action="store_true", help="a few seconds, few tasks: keeps this script alive")
    arguments = parser.parse_args()
    idle_seconds, tasks, left_out = (1, 2, 1) if arguments.quick else (120, 30, LEFT_OUT)
    theirs_tasks, theirs_left_out = (1, 0) if arguments.quick else (8, 1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="jangin-")))
        ours = stack.enter_context(site(folder, tasks))
        flower = stack.enter_context(stock.deployment(folder / "stock", 1))
        (node,) = flower.nodes
        stock.until(lambda: len(below(node)) > 1, START_SECONDS, [node])
        daemon, theirs = below(ours.daemon), below(node)
        calm([*daemon, *theirs])

        # Both idle.
        before = cpu(daemon), cpu(theirs)
        time.sleep(idle_seconds)
        used, theirs_used = (
            100 * (cpu(pids) - was) / idle_seconds for pids, was in zip((daemon, theirs), before, strict=True)
        )
        idle_mb, theirs_idle_mb = sum(stock.memory_mb(pid, "Rss") for pid in daemon), pss_mb(theirs)

        # One after the other at work.
        seconds = median(ours.tasks(SECONDS_A_ROUND * (tasks + 1))[left_out:])
        theirs_busy_mb, took = highest(
            lambda: pss_mb(below(node)),
            lambda: flower.seconds("tasks", theirs_tasks, SECONDS_A_ROUND * (theirs_tasks + 1)),
        )
        theirs_seconds = median(took[theirs_left_out:])

    row(
        "site: idle memory, MB",
        idle_mb,
        {"SuperNode and SuperExec": theirs_idle_mb, "and ClientApp": theirs_busy_mb},
        theirs_busy_mb,
        "<= 120 MB, <= 1/3 of all three",
        holds=idle_mb <= 120 and 3 * idle_mb <= theirs_busy_mb,
    )
    beside = {"SuperNode and SuperExec": theirs_used}
    row(
        f"site: idle CPU over {idle_seconds} s, %", used, beside, max(theirs_used, 0.001), "<= 0.5 %", holds=used <= 0.5
    )
    beside = {"SuperNode, SuperExec and ClientApp": theirs_seconds}
    row("site: warm task, seconds", seconds, beside, theirs_seconds, "<= 0.3 s", holds=seconds <= 0.3)


if __name__ == "__main__":
    main()
