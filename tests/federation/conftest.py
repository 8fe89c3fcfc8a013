"""A real federation on loopback: a server process, site daemons, and folders of sites for whatever is to go wrong."""

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from canaries import plant
from consents import allow
from light import LightSites
from numpy.typing import NDArray
from postgres import installed, postgres
from relays import Relay
from safetensors.numpy import load_file

from jangin.client import desk
from jangin.client.settings import PrivacyLimits
from jangin.client.state import SiteFolder
from jangin.codec.document import assign, parse
from jangin.models.cut import cut
from jangin.models.lines import read_line
from jangin.plan.messages import Kind, Order, Reply
from jangin.plan.training_plan import TrainingPlan
from jangin.records.checks import validate
from jangin.records.dataset import Records
from jangin.records.generate import generate
from jangin.records.process import read_process
from jangin.server import campaigns, daemon
from jangin.server.campaigns import CampaignStatus
from jangin.server.daemon import serve
from jangin.server.leading import lead
from jangin.server.life import ENDED
from jangin.server.members import Members, make_staff
from jangin.server.settings import Listener, ServerSettings, StateFolder
from jangin.server.store import Outcome, RoundEntry, Store
from jangin.strategies import build
from jangin.training.price import price
from jangin.training.recipe import Recipe
from jangin.training.site import Site
from jangin.trust.keys import Identity
from jangin.trust.staff import Role

PROCESS = "steel.bof_blow"
STEADY = ("site-0", "site-1")
TRAINING = (*STEADY, "late", "dying")
NAMES = (*TRAINING, "liar", "stranger")
SUMMING = (*(f"site-{number}" for number in range(5)), *(f"dying-{number}" for number in range(3)))
TWELVE = (*(f"site-{number}" for number in range(10)), "rude-0", "rude-1")
PATIENCE_SECONDS = 180.0
PEOPLE = {
    "operator": (Role.OPERATOR,),
    "approver": (Role.APPROVER,),
    "independent": (Role.INDEPENDENT_BODY,),
    "auditor": (Role.AUDITOR,),
}
PLAN: dict[str, Any] = {
    "process": PROCESS,
    "model_line": "national-bof-blow",
    "sites": {"invite": STEADY, "quorum": 0.6, "min_sites": 2, "round_deadline": "1m"},
    "model": {"name": "linear"},
    "strategy": {"name": "fedavg", "rounds": 2, "local_steps": 3, "batch": 4, "lr": 0.05},
    "privacy": {"epsilon": "none"},
    "governance": {
        "purposes": ["skill_preservation"],
        "prohibited": ["worker_evaluation", "dismissal"],
        "release": {"recipients": "contributors", "export": "domestic_only"},
    },
    "seed": 3,
}


LIMITS = PrivacyLimits(allow_no_differential_privacy=True)
DEMAND = {"n_min": 4, "n_min_final": 3, "n_honest_min": 2, "c_max": 1, "demo": True}


@contextmanager
def held(pid: int) -> Iterator[None]:
    """A process that stands still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def unread(pid: int) -> int:
    """Bytes that wait at the standard input of a process, which is a pipe."""
    with open(f"/proc/{pid}/fd/0", "rb", buffering=0) as pipe:
        return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def eventually(holds: Callable[[], Any]) -> Any:
    """What `holds` gives once it is true; fails after `PATIENCE_SECONDS`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (value := holds()):
        assert time.monotonic() < deadline, "It never came to hold."
        threading.Event().wait(0.02)
    return value


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Running:
    """One `jangin` process; its log grows over restarts."""

    arguments: tuple[str, ...]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    env: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "jangin", *self.arguments]
            env = os.environ | self.env
            self.process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def end(self) -> int:
        """Ask it to stop, and have its exit status."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(20)
        finally:
            self.kill()

    def workers(self) -> list[int]:
        """The processes that it has started."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(child) for task in tasks for child in task.read_text().split()]

    def worker(self) -> int:
        """The process that it trains in, once there is one."""
        (worker,) = eventually(self.workers)
        return int(worker)


@dataclass
class Light:
    """The daemon of a site among others that share one start."""

    sites: LightSites
    folder: Path

    def start(self) -> None:
        self.log.touch()
        self.sites.start(self.folder)

    @property
    def alive(self) -> bool:
        return self.sites.pid(self.folder) is not None

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def kill(self) -> None:
        self.sites.kill(self.folder)


@dataclass
class Federation:
    """A server and its sites, all enrolled and on one roster; `daemon` starts a site's."""

    folder: Path
    state: StateFolder
    store: Store
    members: Members
    keys: Mapping[str, Identity]
    server: Any
    records: Mapping[str, Path]
    light: LightSites | None = None
    daemons: dict[str, Any] = field(default_factory=dict)

    def site(self, name: str) -> SiteFolder:
        return SiteFolder(self.folder / "sites" / name)

    def jangin(self, name: str, *arguments: object) -> Running:
        """A command that is not started yet, with a log of its own."""
        return Running(tuple(map(str, arguments)), self.folder / f"{name}.log")

    def daemon(self, name: str) -> Any:
        """A site's daemon, connected."""
        site = self.site(name).path
        made = self.jangin(name, "site", "run", site) if self.light is None else Light(self.light, site)
        running = self.daemons.setdefault(name, made)
        if not running.alive:
            before = running.said.count(": connected to") if running.log.exists() else 0
            running.start()
            eventually(lambda: running.said.count("connected to") > before)
        return running

    def listening(self) -> str:
        """The server's address, once it is there."""
        if not self.server.alive:
            self.state.address.unlink(missing_ok=True)
            self.server.start()
        eventually(lambda: self.state.address.exists() or not self.server.alive)
        assert self.server.alive, self.server.said
        return self.state.address.read_text().strip()

    def agree(self, plan: TrainingPlan) -> str:
        """Two people sign a plan, and every site that it invites says yes; its hash."""
        campaign = campaigns.propose(self.store, self.members, plan, self.keys["operator"], now())
        campaigns.approve(self.store, self.members, campaign, self.keys["approver"], now())
        for name in plan.sites.invite:
            desk.approve(self.site(name).path, campaign, price)
        return campaign

    def start(self, campaign: str) -> str:
        campaigns.start(self.store, self.members, campaign, now())
        return campaign

    def entries(self, campaign: str, number: int) -> list[RoundEntry]:
        """What is recorded of one round."""
        return [entry for entry in self.store.rounds(campaign) if entry.round == number]

    @contextmanager
    def stuck(self, campaign: str, site: str) -> Iterator[None]:
        """Start a campaign; within, `site` is in its first round and cannot finish it. Workers have to be warm."""
        with ExitStack() as standing:
            with held(self.daemon(next(name for name in STEADY if name != site)).worker()):
                self.start(campaign)
                eventually(lambda: (0, "sent", "") in self.journal(site, campaign))
                worker = self.daemon(site).worker()
                standing.enter_context(held(worker))
            eventually(lambda: (1, "training", "") in self.journal(site, campaign))
            sizes = [0]

            def given() -> bool:
                sizes.append(unread(worker))
                return 0 < sizes[-2] == sizes[-1]

            eventually(given)  # it was told, and lies before it
            yield

    def ended(self, campaign: str) -> CampaignStatus:
        """The campaign's status, once it is over."""
        ends = ENDED
        eventually(lambda: self.store.campaign(campaign).state in ends or not self.server.alive)
        assert self.server.alive, self.server.said
        return campaigns.status(self.store, campaign)

    def shown(self, campaign: str) -> dict[str, Any]:
        """What `jangin campaign status` says."""
        command = [sys.executable, "-m", "jangin", "campaign", "status", str(self.state.path), campaign]
        done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout.splitlines()[-1])["campaigns"][0])

    def learnt(self, campaign: str) -> NDArray[np.float32]:
        """The final model's parameters."""
        return load_file(self.state.checkpoints(campaign) / "final.safetensors")["parameters"]

    def journal(self, name: str, campaign: str) -> list[tuple[int, str, str]]:
        """Round, state and code of all that a site did for a campaign."""
        with self.site(name).journal() as journal:
            return [
                (move.round, move.state.value, move.code) for move in journal.moves(1000) if move.campaign == campaign
            ]

    def trained(self, plan: TrainingPlan, name: str) -> Site:
        """What a site is in a campaign, made here of its records."""
        recipe = Recipe.of(plan)
        line, records = read_line(plan.model_line), Records.open(self.records[name])
        examples = cut(line, records.train(), read_process(line.process), "episode")
        encoding = recipe.encoding if recipe.summing else None
        return Site(name, examples, recipe.public_scaling(), recipe.learner(), plan.seed, encoding=encoding)

    def recomputed(self, plan: TrainingPlan) -> NDArray[np.float32]:
        """The model by the round records alone: each finished round once, by those sites that it names as reported."""
        recipe, strategy, scaling = Recipe.of(plan), build(plan.strategy), None
        sites = {name: self.trained(plan, name) for name in plan.sites.invite}
        model = recipe.learner().model
        parameters = model.read()[model.layout.shared]
        state = strategy.init(parameters)
        finished = [entry for entry in self.store.rounds(plan.hash) if entry.outcome is Outcome.FINISHED]
        assert [entry.round for entry in finished] == list(range(plan.strategy.rounds + 1))
        for entry in finished:
            kind = Kind.TRAIN if entry.round else Kind.SCALE
            order = Order(kind, entry.round, parameters, scaling)
            ask = Site.contribution if recipe.summing else Site.answer
            given = [ask(sites[name], order, plan.strategy, strategy.local) for name in entry.reported]
            vectors = [one.vector if isinstance(one, Reply) else one.view(np.int32) for one in given]
            total = np.sum(np.asarray(vectors, np.float64), axis=0)
            encoding = recipe.encoding(kind, total.size)
            total = total if encoding is None else encoding.total(total.astype(np.int32))
            if entry.round:
                parameters, state = strategy.update(state, total, len(vectors))
            else:
                learnt = recipe.learned_scaling(total, len(vectors))
                scaling = learnt.mean, learnt.deviation
        return parameters


def a_plan(campaign: str, **changes: object) -> TrainingPlan:
    tree = json.loads(json.dumps({"campaign": campaign, **PLAN}))
    for key, value in changes.items():
        assign(tree, key, value)
    return parse(tree, TrainingPlan, "plan.yaml")


@contextmanager
def built(
    folder: Path,
    names: Sequence[str],
    server: Callable[[StateFolder], Any],
    demand: Mapping[str, object] | None = None,
    prepare: Callable[[Path], Path] = lambda records: records,
    through: Callable[[str, Path], tuple[str, Path]] = lambda address, authority: (address, authority),
    database: str | None = None,
    episodes: int = 12,
    process: str = PROCESS,
    light: LightSites | None = None,
) -> Iterator[Federation]:
    """A federation of these sites, all on one roster.

    Args:
        folder: of all of it.
        names: of the sites.
        server: how it is run.
        demand: what each demands of secure sums.
        prepare: does something to a site's records before they are validated; where they are then.
        through: the address and the certificates by which sites know the server, from its own.
        database: another URL than that of the server's own file.
        episodes: of each site.
        process: whose records all of them have.
        light: what starts the sites' daemons, where not each is to be a program of its own.
    """
    # 1. People, and a server on a port that it keeps over restarts.
    listed = make_staff(folder / "staff", PEOPLE, now(), timedelta(days=1))
    keys = {person: Identity.load(folder / "staff" / f"{person}.key") for person in PEOPLE}
    root = folder / "staff" / "root.pub"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ServerSettings(
            port=taken.getsockname()[1], idle_poll_s=0.2, operators=Listener(port=0), database=database
        )
    state = StateFolder.make(folder / "server", settings, root.read_text().strip(), listed, ["127.0.0.1"], now())
    made = [
        prepare(records)
        for records in generate(process, folder / "records", sites=len(names), masters=2, episodes=episodes, seed=5)
    ]
    for records in made:
        validate(records, level=1, unit="episode", random_bytes=np.random.default_rng(5).bytes).require(records)
    with ExitStack() as stack:
        store = state.store()
        stack.callback(store.close)
        members = Members(store, state.root)
        known = dict(zip(names, made, strict=True))
        federation = Federation(folder, state, store, members, keys, server(state), known, light)
        stack.callback(end_all, federation)
        # 2. All sites join on one roster: a site that comes later would wait for a yes of the others.
        address, authority = through(federation.listening(), state.authority)
        url, tokens = f"https://{address}", {name: members.invite(name, now()) for name in names}
        for name in names:
            desk.init(federation.site(name).path, name, process, federation.records[name], LIMITS)
            allow(federation.site(name).path, process)
            if demand is not None:
                file = federation.site(name).path / "site.yaml"
                file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"secure_sum": dict(demand)}))
            desk.enroll(federation.site(name).path, url, tokens[name], root, authority)
        members.confirm(names, [keys["operator"], keys["independent"]], now())
        for name in names:
            assert desk.enroll(federation.site(name).path, url, tokens[name], root, authority).confirmed
        yield federation


@pytest.fixture(scope="module")
def whole_federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Over PostgreSQL, where there is one: the others, and tests/server, are over sqlite."""
    folder = tmp_path_factory.mktemp("federation")

    def server(state: StateFolder) -> Running:
        return Running(("server", "run", str(state.path)), folder / "server.log")

    with ExitStack() as stack:
        database = stack.enter_context(postgres()).database() if installed() else None
        federation = stack.enter_context(built(folder, NAMES, server, database=database))
        # Those that train have a warm worker: from here on deadlines may be short.
        warm = a_plan("warm", **{"sites.invite": TRAINING, "sites.round_deadline": "5m", "strategy.rounds": 1})
        for name in TRAINING:
            federation.daemon(name)
        status = federation.ended(federation.start(federation.agree(warm)))
        assert (status.state, list(status.attempts[-1].missing)) == ("candidate", []), federation.server.said
        yield federation


class Beside:
    """An aggregation worker in a thread of this process."""

    def __init__(self, folder: Path, control: socket.socket, shard: str | None) -> None:
        self.thread = threading.Thread(target=self._lead, args=(folder, control.dup()))
        self.thread.start()

    def _lead(self, folder: Path, control: socket.socket) -> None:
        with control:
            lead(folder, control)

    def kill(self) -> None:
        raise AssertionError("It did not end by itself.")

    def wait(self, timeout: float | None = None) -> int:
        self.thread.join(timeout)
        if self.thread.is_alive():
            raise subprocess.TimeoutExpired("lead", timeout or 0.0)
        return 0


@dataclass
class Inside:
    """A server in this process, its aggregation worker too, so that a test can make it lie."""

    folder: Path
    stop: threading.Event = field(default_factory=threading.Event)
    thread: "threading.Thread | None" = None
    said = "see the records of the test itself"

    def start(self) -> None:
        self.stop.clear()
        self.thread = threading.Thread(target=serve, args=(self.folder, self.stop))
        self.thread.start()

    @property
    def alive(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def kill(self) -> None:
        self.stop.set()
        if self.thread is not None:
            self.thread.join(20)


@pytest.fixture(scope="module")
def summing_federation(tmp_path_factory: pytest.TempPathFactory, light: LightSites) -> Iterator[Federation]:
    """Sites whose policies let four of them add up with each other, and a server that a test can make lie."""
    folder = tmp_path_factory.mktemp("summing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daemon, "_started", Beside)
        with built(folder, SUMMING, lambda state: Inside(state.path), DEMAND, light=light) as federation:
            yield federation


PLANTED = SUMMING[:4]
"""The sites of the federation with canaries."""


@dataclass
class Overheard:
    """A federation of secure sums whose records have canaries, with the relay through which its sites speak."""

    federation: Federation
    canaries: list[str | float]
    relay: Relay
    temporary: Path
    home: Path


@pytest.fixture
def overheard(tmp_path: Path) -> Iterator[Overheard]:
    canaries: list[str | float] = []
    relays: list[Relay] = []
    apart = {"TMPDIR": tmp_path / "temporary", "HOME": tmp_path / "home"}

    def prepare(records: Path) -> Path:
        at = records.with_name(f"canary-{records.name}-{secrets.token_hex(6)}")
        canaries.extend([*plant(records, at), at.name])
        return at

    def through(address: str, authority: Path) -> tuple[str, Path]:
        relays.append(Relay(tmp_path, address, authority))
        stack.callback(relays[0].close)
        return relays[0].address, relays[0].ca

    def server(state: StateFolder) -> Running:
        return Running(("server", "run", str(state.path)), tmp_path / "server.log")

    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for name, folder in apart.items():
            folder.mkdir()
            patch.setenv(name, str(folder))
        with built(tmp_path, PLANTED, server, DEMAND, prepare, through) as federation:
            yield Overheard(federation, canaries, relays[0], apart["TMPDIR"], apart["HOME"])


@pytest.fixture
def relayed(tmp_path: Path) -> Iterator[tuple[Federation, Relay]]:
    """Five sites, connected, whose policies let them add up with each other; and the relay through which they speak.

    Their machines take two seconds to say that they are free, so that an order takes as long on a busy machine as on a
    quiet one, or nearly. Their hold-outs are large enough that no evaluation drowns in its noise and is tried again.
    """
    relays: list[Relay] = []

    def through(address: str, authority: Path) -> tuple[str, Path]:
        relays.append(Relay(tmp_path, address, authority))
        stack.callback(relays[0].close)
        return relays[0].address, relays[0].ca

    def server(state: StateFolder) -> Running:
        return Running(("server", "run", str(state.path)), tmp_path / "server.log")

    with (
        ExitStack() as stack,
        built(tmp_path, SUMMING[:5], server, DEMAND, through=through, episodes=120) as federation,
    ):
        for site in SUMMING[:5]:
            hook, file = federation.site(site).path / "free.sh", federation.site(site).path / "site.yaml"
            hook.write_text("#!/bin/sh\nsleep 2\n")
            hook.chmod(0o700)
            settings = yaml.safe_load(file.read_text())
            settings["limits"] |= {"busy_hook": "free.sh"}
            file.write_text(yaml.safe_dump(settings))
            federation.daemon(site)
        yield federation, relays[0]


def end_all(federation: Federation) -> None:
    for running in [*federation.daemons.values(), federation.server]:
        if running.alive:
            running.kill()


@pytest.fixture(scope="module")
def twelve_sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A server in a process of its own, and sites whose daemons a test runs as it likes."""
    folder = tmp_path_factory.mktemp("twelve")

    def server(state: StateFolder) -> Running:
        return Running(("server", "run", str(state.path)), folder / "server.log")

    with built(folder, TWELVE, server, DEMAND | {"n_min": 6, "n_min_final": 5, "n_honest_min": 4}) as federation:
        yield federation


@pytest.fixture
def federation(whole_federation: Federation) -> Federation:
    """The federation with its server and the two steady sites up, whatever a test before did to them."""
    whole_federation.listening()
    for name in STEADY:
        whole_federation.daemon(name)
    return whole_federation


@pytest.fixture
def plan() -> Callable[..., TrainingPlan]:
    """A plan under a name, with dotted keys changed."""
    return a_plan


@pytest.fixture
def federate() -> Any:
    """A federation of its own, as a context."""
    return built


@pytest.fixture
def running() -> type[Running]:
    """A `jangin` process."""
    return Running


@pytest.fixture(scope="session")
def wait() -> Callable[[Callable[[], Any]], Any]:
    return eventually


@pytest.fixture
def hold() -> Callable[[int], Any]:
    """Have a process stand still within a `with`."""
    return held
