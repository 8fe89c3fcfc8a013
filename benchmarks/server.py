"""What the national server bears: five hundred polling sites, rounds of ten million parameters, a flood of strangers.

Usage: python benchmarks/server.py [--json] [--quick]    (Linux: memory and processor time are read from /proc)

The server is `jangin server run` with TLS, node keys, a signed roster and its own settings of pace; processor time and
memory are those of its whole process tree (Pss, in which a shared page counts in parts). Polling sites and the sites
of a large round are our client's links, hundreds in another process (crowd.py); a site answers an order with zeros.
Flower's SuperLink beside them is stock, with TLS and node keys, polled by the same links at the same pace; a poll of
ours is a message asked for and, about as often, a signed word to our own API. Under the flood ten real daemons train
next to nothing, and one more site measures; quiet and flooded rounds are of one campaign.
"""

import argparse
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import stock
from federation import LINE, PROCESS, no_op, records
from flwr.proto.control_pb2 import RegisterNodeRequest
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from jangin.codec.document import parse
from jangin.plan.training_plan import TrainingPlan
from jangin.server import campaigns
from jangin.server.life import ENDED, LED, State
from jangin.server.members import Members, make_staff
from jangin.server.settings import ServerSettings, StateFolder
from jangin.server.store import Store
from jangin.simulation.loopback import run_on_loopback
from jangin.training.recipe import Recipe
from jangin.trust.approvals import Approval
from jangin.trust.envelope import Kind, seal
from jangin.trust.keys import Identity, NodeKey
from jangin.trust.staff import Role

STAFF = {"operator": (Role.OPERATOR,), "approver": (Role.APPROVER,), "independent": (Role.INDEPENDENT_BODY,)}
START_SECONDS, ROUND_SECONDS, LOOK_SECONDS = 120.0, 1800.0, 0.25
POLLS_A_SECOND = 60
PROBE_SECONDS = 0.1


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    polling: int = 500
    polled_seconds: float = 60.0
    pace: float = 0.0
    hidden: int = 3_100
    cohorts: tuple[int, ...] = (10, 500)
    flooded: int = 10
    quiet_seconds: float = 15.0
    flood_seconds: float = 30.0


QUICK = Sizes(6, 2.0, 0.2, 16, (3,), 4, 1.0, 2.0)


@dataclass(frozen=True)
class Server:
    """A server that runs, and what its operators and sites have.

    Attributes:
        folder: `ca.crt` and `keys`, as crowd.py wants them.
        sites: the names of all on the roster.
    """

    folder: Path
    process: Popen[bytes]
    state: StateFolder
    store: Store
    members: Members
    keys: dict[str, Identity]
    sites: Sequence[str] = field(repr=False)

    @property
    def address(self) -> str:
        return self.state.address.read_text().strip()

    def campaign(self, plan: TrainingPlan) -> list[float]:
        """Run a campaign to which every invited site has said yes; seconds of its rounds."""
        now = datetime.now(UTC)
        name = campaigns.propose(self.store, self.members, plan, self.keys["operator"], now)
        campaigns.approve(self.store, self.members, name, self.keys["approver"], now)
        for site in plan.sites.invite:
            identity = Identity.load(self.folder / "keys" / f"{site}.identity")
            yes = Approval(issued=now.replace(microsecond=0), site=site, plan=name, nonce="ab" * 32)
            self.store.approve(name, site, seal(Kind.APPROVAL, yes.payload, identity))
        campaigns.start(self.store, self.members, name, now)
        stock.until(lambda: self.store.campaign(name).state in ENDED, ROUND_SECONDS, [self.process])
        row = self.store.campaign(name)
        if row.state is State.ABORTED:
            raise ChildProcessError(row.reason)
        return [entry.seconds for entry in self.store.rounds(name) if entry.round]


@contextmanager
def server(folder: Path, count: int) -> Iterator[Server]:
    """A server whose roster has so many sites, with keys for each."""
    now, staff = datetime.now(UTC), folder / "staff"
    make_staff(staff, STAFF, now, timedelta(days=1))
    keys = {name: Identity.load(staff / f"{name}.key") for name in STAFF}
    root, listed = (staff / "root.pub").read_text().strip(), (staff / "staff.envelope").read_bytes()
    state = StateFolder.make(folder / "server", ServerSettings(port=0), root, listed, ["127.0.0.1"], now)
    shutil.copy(state.authority, folder / "ca.crt")
    store = state.store()
    members = Members(store, state.root)
    with ExitStack() as stack:
        stack.callback(store.close)
        sites = [enrol(members, folder, f"site-{number:03d}") for number in range(count)]
        members.confirm(sites, [keys["operator"], keys["independent"]], datetime.now(UTC))
        command = [stock.BIN / "jangin", "server", "run", state.path]
        process = stack.enter_context(stock.running(command, folder / "server.log"))
        stock.until(state.address.exists, START_SECONDS, [process])
        yield Server(folder, process, state, store, members, keys, sites)


def enrol(members: Members, folder: Path, site: str) -> str:
    """Keys for one site, in its folder and on the server's list of those that wait for the next roster."""
    (folder / "keys").mkdir(exist_ok=True)
    identity, node, now = Identity.generate(), NodeKey.generate(), datetime.now(UTC)
    identity.save(folder / "keys" / f"{site}.identity")
    node.save(folder / "keys" / f"{site}.node")
    members.enroll(site, members.invite(site, now), identity.public_text, node.public_text, now)
    return site


class Crowd:
    """What crowd.py does elsewhere."""

    def __init__(self, process: Popen[bytes]) -> None:
        self._process = process

    def begin(self) -> None:
        self._tell("begin")

    def end(self) -> dict[str, Any]:
        return dict(self._tell("end"))

    def wait_for(self, count: int, alive: Sequence[Popen[bytes]]) -> None:
        """Until so many sites have polled."""
        self.begin()
        stock.until(lambda: self.end()["there"] == count, START_SECONDS, [self._process, *alive])

    def _tell(self, word: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n".encode())
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def crowd(who: str, address: str, folder: Path, seconds: float = 0.0) -> Iterator[Crowd]:
    """Sites or a stranger, until left."""
    script = Path(__file__).with_name("crowd.py")
    command = [sys.executable, str(script), who, address, str(folder), str(seconds)]
    with (folder / f"{who}.log").open("ab") as log:
        process = Popen(command, stdin=PIPE, stdout=PIPE, stderr=log, preexec_fn=stock.end_with_parent)
    try:
        yield Crowd(process)
    finally:
        process.kill()
        process.communicate()


def polled(sites: Crowd, process: Popen[bytes], sizes: Sizes) -> tuple[float, float, dict[str, Any]]:
    """p95 of a poll in seconds, and the share of one core that the server took, while all sites poll."""
    sites.wait_for(sizes.polling, [process])
    time.sleep(sizes.polled_seconds / 4)
    sites.begin()
    before, began = cpu(process), time.monotonic()
    time.sleep(sizes.polled_seconds)
    core = (cpu(process) - before) / (time.monotonic() - began)
    told = sites.end()
    return max(p95(told[what]) for what in ("poll", "ack") if told[what]), core, told


def polling(folder: Path, sizes: Sizes) -> None:
    with server(folder, sizes.polling) as ours, crowd("sites", ours.address, folder, sizes.pace) as sites:
        seconds, core, told = polled(sites, ours.process, sizes)
    with superlink(folder) as (address, theirs):
        pace = sizes.pace or sizes.polling / POLLS_A_SECOND
        with crowd("nodes", address, folder, pace) as nodes:
            their_seconds, their_core, theirs_told = polled(nodes, theirs, sizes)
    name = f"server: {sizes.polling} polling sites"
    asked = (len(told["poll"]) + len(told["ack"])) / sizes.polled_seconds
    stocks = f"stock SuperLink, {len(theirs_told['poll']) / sizes.polled_seconds:.0f} requests a second"
    goal = 1.0
    show(f"{name}, p95 of a poll, s", seconds, {stocks: their_seconds}, f"<= {goal:g} s", holds=seconds <= goal)
    share = 0.6
    beside = {stocks: their_core}
    show(f"{name}, {asked:.0f} requests a second, share of a core", core, beside, f"<= {share:g}", holds=core <= share)


@contextmanager
def superlink(folder: Path) -> Iterator[tuple[str, Popen[bytes]]]:
    """A stock SuperLink with the server's certificate that knows every node key of a folder."""
    tls, (port,) = folder / "server" / "tls", stock.free_ports(1)
    command = [stock.BIN / "flower-superlink", "--host", "127.0.0.1", "--port", port, "--enable-supernode-auth"]
    command += ["--ssl-ca-certfile", tls / "ca.crt", "--ssl-certfile", tls / "server.crt"]
    command += ["--ssl-keyfile", tls / "server.key", "--disable-runtime-dependency-installation"]
    (folder / "flwr").mkdir()
    environment = {**stock.SWITCHES, "FLWR_HOME": str(folder / "flwr"), "HOME": str(folder / "flwr")}
    with stock.running(command, folder / "superlink.log", environment) as process:
        stock.until(lambda: stock.listens(port), START_SECONDS, [process])
        address = f"127.0.0.1:{port}"
        form = {"content-type": "application/protobuf", "accept": "application/protobuf"}
        with httpx.Client(verify=str(tls / "ca.crt"), base_url=f"https://{address}", headers=form) as client:
            for key in sorted((folder / "keys").glob("*.node")):
                asked = RegisterNodeRequest(public_key=public_key_to_bytes(NodeKey.load(key).public))
                client.post("/v1/control/register-node", content=asked.SerializeToString()).raise_for_status()
        yield address, process


def large_rounds(folder: Path, sizes: Sizes) -> None:
    """What a round of many parameters adds to the memory of a server that idles, by how many sites are in it."""
    with server(folder, max(sizes.cohorts)) as ours:
        plans = [plan_of(ours.sites[:cohort], sizes.hidden) for cohort in sizes.cohorts]
        recipe = Recipe.of(plans[0])
        moments = np.full(1 + 2 * len(recipe.public_scaling().center), 0.5)
        moments[0] = 1.0
        np.save(folder / "moments.npy", moments)
        megabytes = 4 * len(recipe.initial().read()) / 2**20
        goal = 9 * megabytes + 100
        with crowd("sites", ours.address, folder, sizes.pace) as sites:
            for cohort, plan in zip(sizes.cohorts, plans, strict=True):
                sites.wait_for(len(ours.sites), [ours.process])
                idle = memory_mb(ours.process)
                most, seconds = highest(lambda: memory_mb(ours.process), lambda plan=plan: ours.campaign(plan))
                show(
                    f"server: round of {megabytes / 4 * 2**20 / 1e6:.3g}M parameters at {cohort} sites, MB over idle",
                    most - idle,
                    {"idle MB": idle, "a model, MB": megabytes, "seconds a round": median(seconds)},
                    f"<= {goal:.0f} MB: 3 models, 6 vectors, 100 MB",
                    holds=most - idle <= goal,
                    against=goal,
                )


def plan_of(sites: Sequence[str], hidden: int) -> TrainingPlan:
    """One round of a wide network."""
    document = no_op(list(sites), 1).model_dump(mode="json")
    document["campaign"] = f"wide-{len(sites)}"
    document["model"] = {"name": "mlp", "hidden": [hidden, hidden]}
    document["sites"] |= {"round_deadline": f"{ROUND_SECONDS:.0f}s"}
    return parse(document, TrainingPlan, f"plan for {LINE} of {PROCESS}")


def highest(figure: Callable[[], float], work: Callable[[], list[float]]) -> tuple[float, list[float]]:
    """The highest that a figure was during some work, and what came of the work."""
    with ThreadPoolExecutor(1) as thread:
        doing, most = thread.submit(work), 0.0
        while not doing.done():
            most = max(most, figure())
            time.sleep(LOOK_SECONDS)
    return most, doing.result()


class EnoughError(Exception):
    """What was wanted of a campaign is known."""


class Flooded:
    """A campaign of real sites, watched from beside: how many rounds are done, and when it may end."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self._folder, self._sizes = folder, sizes
        self._enough = threading.Event()
        self.done = 0

    def run(self) -> None:
        made = records(self._folder / "records", self._sizes.flooded)
        plan = no_op(list(made), 100_000)
        with suppress(EnoughError):
            run_on_loopback(self._folder / "federation", made, plan, ROUND_SECONDS, self._progress)

    def end(self) -> None:
        self._enough.set()

    def _progress(self, done: int, total: int) -> None:
        del total
        self.done = done
        if self._enough.is_set():
            raise EnoughError


def flooded(folder: Path, sizes: Sizes) -> None:
    """Rounds of one campaign with a flood and without, and meanwhile the polls of one more site."""
    campaign = Flooded(folder, sizes)
    with ThreadPoolExecutor(1) as thread, ExitStack() as stack:
        running = thread.submit(campaign.run)
        stack.callback(campaign.end)
        wait(lambda: running.done() or campaign.done >= 3, START_SECONDS)
        state = StateFolder(folder / "federation" / "server")
        store = state.store()
        stack.callback(store.close)
        shutil.copy(state.authority, folder / "ca.crt")
        members, staff = Members(store, state.root), folder / "federation" / "staff"
        enrol(members, folder, "probe")
        signers = [Identity.load(staff / f"{name}.key") for name in ("operator", "independent")]
        members.confirm(["probe"], signers, datetime.now(UTC))
        address = state.address.read_text().strip()
        probe = stack.enter_context(crowd("sites", address, folder, PROBE_SECONDS))
        stranger = stack.enter_context(crowd("flood", address, folder))
        probe.wait_for(1, [])
        (row,) = store.campaigns(*LED)
        lasted: list[float] = []

        def spell(seconds: float, *, flood: bool) -> tuple[list[float], list[float], dict[str, int]]:
            """Seconds of the rounds within this time, and of the probe's polls; what the flood was answered."""
            first = campaign.done + 1
            probe.begin()
            if flood:
                stranger.begin()
            until = time.monotonic() + seconds
            wait(
                lambda: running.done() or (time.monotonic() > until and campaign.done > first),
                seconds + START_SECONDS,
            )
            answers = stranger.end() if flood else {}
            lasted.append(time.monotonic() - until + seconds)
            rounds = [entry.seconds for entry in store.rounds(row.hash) if first < entry.round <= campaign.done]
            told = probe.end()
            return rounds, told["poll"] + told["ack"], answers

        before = spell(sizes.quiet_seconds, flood=False)
        during = spell(sizes.flood_seconds, flood=True)
        after = spell(sizes.quiet_seconds, flood=False)
        campaign.end()
        running.result()
    quiet, flood = median(before[0] + after[0]), median(during[0])
    asked = sum(during[2].values()) / lasted[1]
    name = f"server: {sizes.flooded} no-op sites under {asked:.0f} unauthenticated requests a second"
    goal = 0.5
    beside = {"round without, s": quiet, "with, s": flood}
    show(
        f"{name}, round overhead, s",
        flood - quiet,
        beside,
        f"<= {goal:g} s",
        holds=flood - quiet <= goal,
        against=quiet,
    )
    slow, calm, goal = p95(during[1]), p95(before[1] + after[1]), 1.0
    show(f"{name}, p95 of a signed poll, s", slow, {"without, s": calm}, f"<= {goal:g} s", holds=slow <= goal)


def wait(met: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Expected it within {seconds:g} s.")
        time.sleep(stock.LOOK_SECONDS)


def cpu(process: Popen[bytes]) -> float:
    return sum(stock.cpu_seconds(pid) for pid, _ in stock.tree(process.pid))


def memory_mb(process: Popen[bytes]) -> float:
    return sum(stock.memory_mb(pid, "Pss") for pid, _ in stock.tree(process.pid))


def p95(seconds: Sequence[float]) -> float:
    return quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]


def show(
    name: str, figure: float, beside: dict[str, float], goal: str, *, holds: bool, against: float | None = None
) -> None:
    """One row; the ratio is to the first figure beside it unless something else is said."""
    rounded = {key: round(value, 3) for key, value in beside.items()}
    ratio = figure / (next(iter(beside.values())) if against is None else against)
    content = {"name": name, "figure": round(figure, 3), "beside": rounded, "ratio": round(ratio, 3)}
    print(json.dumps({**content, "goal": goal, "holds": holds}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="polling, large_rounds, flooded; all without one")
    parser.add_argument("--json", action="store_true", help="only JSON lines (they are the only form)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: keeps this script alive")
    arguments = parser.parse_args()
    parts = {part.__name__: part for part in (polling, large_rounds, flooded)}
    for name in arguments.parts or parts:
        with TemporaryDirectory(prefix="jangin-") as folder:
            parts[name](Path(folder), QUICK if arguments.quick else Sizes())


if __name__ == "__main__":
    main()
