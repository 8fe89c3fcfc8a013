"""A ministry of keys made afresh, one site with a few made records, and a small server of its site API."""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consents import allow
from light import LightSites

from jangin.client import desk
from jangin.client.gate import Standing
from jangin.client.limits import Conditions
from jangin.client.settings import PrivacyLimits
from jangin.client.state import SiteFolder
from jangin.client.sums import NOTHING_NOTED
from jangin.codec import cbor
from jangin.codec.document import parse
from jangin.errors import SiteError
from jangin.flower_link.bounds import CALLER
from jangin.flower_link.link import Answer, EmbeddedLink, Run
from jangin.plan.training_plan import TrainingPlan
from jangin.records.checks import validate
from jangin.records.generate import generate
from jangin.trust.certificates import Certificate, issue, make_authority
from jangin.trust.chain import Trust
from jangin.trust.commitments import peek_commitment
from jangin.trust.envelope import Kind, seal
from jangin.trust.keys import Identity, identity_from_text, node_key_from_text
from jangin.trust.roster import Roster, RosterSite, Status
from jangin.trust.staff import Role, Staff, StaffKey

PROCESS = "steel.bof_blow"
PATIENCE_SECONDS = 30.0
PLAN: dict[str, Any] = {
    "campaign": "steel-2026-11",
    "process": PROCESS,
    "model_line": "national-bof-blow",
    "sites": {"invite": ["site-0"], "min_sites": 1, "round_deadline": "1m"},
    "model": {"name": "linear"},
    "strategy": {"name": "fedavg", "rounds": 2, "local_steps": 3, "batch": 4, "lr": 0.05},
    "privacy": {"epsilon": "none"},
    "governance": {
        "purposes": ["research"],
        "prohibited": ["worker_evaluation", "dismissal"],
        "release": {"recipients": "contributors", "export": "domestic_only"},
    },
    "seed": 3,
}
LIMITS = PrivacyLimits(allow_no_differential_privacy=True)
PEOPLE = {
    "kim": (Role.OPERATOR,),
    "lee": (Role.APPROVER,),
    "park": (Role.INDEPENDENT_BODY,),
}


def merged(tree: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """`tree` with `changed` in it, block by block."""
    return tree | {
        key: merged(tree[key], value) if isinstance(value, dict) and isinstance(tree.get(key), dict) else value
        for key, value in changed.items()
    }


def a_plan(**changed: Any) -> TrainingPlan:
    return parse(merged(PLAN, changed), TrainingPlan, "plan")


@dataclass(frozen=True)
class Ministry:
    """Root and staff, and what they sign."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    root: Identity = field(default_factory=Identity.generate)
    people: dict[str, Identity] = field(default_factory=lambda: {name: Identity.generate() for name in PEOPLE})

    def staff(self, version: int = 1) -> bytes:
        keys = tuple(
            StaffKey(person=name, key=key.public_text, roles=PEOPLE[name], expires=self.now + timedelta(days=300))
            for name, key in self.people.items()
        )
        document = Staff(version=version, issued=self.now, keys=keys)
        return seal(Kind.STAFF, document.payload, self.root)

    def roster(self, sites: dict[str, RosterSite], version: int = 1) -> bytes:
        document = Roster(
            version=version, issued=self.now, staff=1, valid_until=self.now + timedelta(days=30), sites=sites
        )
        return seal(Kind.ROSTER, document.payload, self.people["kim"], self.people["park"])

    def plan(self, payload: object, signers: tuple[str, ...] = ("kim", "lee")) -> bytes:
        return seal(Kind.PLAN, cbor.encode(payload), *(self.people[name] for name in signers))

    def signed(self, plan: TrainingPlan) -> bytes:
        return self.plan(plan.model_dump(mode="json"))

    def trust(self, roster: bytes) -> Trust:
        trust = Trust(self.root.public_text).with_staff(self.staff(), self.now)
        return trust.with_roster(roster, self.now)[0]


@pytest.fixture(scope="session")
def ministry() -> Ministry:
    return Ministry()


@pytest.fixture(scope="session")
def plan() -> Callable[..., TrainingPlan]:
    return a_plan


@pytest.fixture(scope="session")
def made_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of one small site, validated."""
    folder = generate(PROCESS, tmp_path_factory.mktemp("records"), sites=1, masters=2, episodes=12, seed=5)[0]
    seeded = np.random.default_rng(5).bytes
    validate(folder, level=1, unit="episode", random_bytes=seeded).require(folder)
    return folder


@pytest.fixture
def site(tmp_path: Path, made_records: Path) -> SiteFolder:
    """A site that is made and not yet enrolled; its masters allow everything."""
    desk.init(tmp_path / "site", "site-0", PROCESS, made_records, LIMITS)
    allow(tmp_path / "site")
    return SiteFolder(tmp_path / "site")


def entry(folder: SiteFolder, status: Status = Status.ACTIVE) -> RosterSite:
    """The roster's entry of a site."""
    keys = {"identity": folder.identity().public_text, "node_key": folder.node_key().public_text}
    return RosterSite(**keys, status=status)


@pytest.fixture
def standing(site: SiteFolder, ministry: Any) -> Callable[..., Standing]:
    """What the site knows when an order comes of a campaign that it approved and never answered; or as it is said."""

    def standing(envelope: bytes | None, sites: dict[str, RosterSite] | None = None, **said: Any) -> Standing:
        own = entry(site)
        knows = {
            "folder": site.path,
            "settings": site.settings(),
            "trust": ministry.trust(ministry.roster({"site-0": own} if sites is None else sites)),
            "identity": own.identity,
            "node_key": own.node_key,
            "approved": True,
            "answered": None,
            "evaluated": None,
            "training": None,
            "noted": NOTHING_NOTED,
            "open": None,
            "begun": 0,
            "took": frozenset(),
            "conditions": Conditions(None, 2**40),
        }
        return Standing(envelope=envelope, **(knows | said))

    return standing


@dataclass(frozen=True)
class Authority:
    """A certificate authority and one server certificate, as files."""

    ca: Path
    certificate: Path
    key: Path


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return certified(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def new_authority(tmp_path: Path) -> Callable[[], Authority]:
    """Another authority and a server certificate by it."""
    return lambda: certified(tmp_path)


def certified(folder: Path) -> Authority:
    now = datetime.now(UTC).replace(microsecond=0)
    root = make_authority("a federation", now - timedelta(minutes=5), now + timedelta(days=2))
    server: Certificate = issue(root, ["127.0.0.1"], now - timedelta(minutes=5), now + timedelta(days=1))
    files = {"ca.crt": root.chain, "server.crt": server.chain, "server.key": server.key}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return Authority(*(folder / name for name in files))


@dataclass
class SiteServer:
    """A server's site API in its smallest form; it keeps every byte it gets, and believes no signature unchecked."""

    ministry: Ministry
    token: str = "one-time-token"
    poll_s: float = 0.02
    plans: list[bytes] = field(default_factory=list)
    sites: dict[str, RosterSite] = field(default_factory=dict)
    rosters: list[bytes] = field(default_factory=list)
    approvals: list[bytes] = field(default_factory=list)
    commitments: list[bytes] = field(default_factory=list)
    renewed: dict[str, str] = field(default_factory=dict)
    state: str = "running"
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    refuse: tuple[int, object] | None = None
    link: EmbeddedLink | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        status, answer = self.refuse or self.answered(scope, body)
        scope["extensions"][CALLER].vouch()  # which it takes on trust: no signature is looked at here
        content = answer if isinstance(answer, bytes) else cbor.encode(answer)
        headers = [(b"content-type", b"application/cbor"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def answered(self, scope: Any, body: bytes) -> tuple[int, object]:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        what, fields = scope["path"].removeprefix("/v1/jangin/"), cbor.decode(body)
        site = headers["x-jangin-site"]
        known = self.sites.get(site)
        if known is None and what != "enroll":
            return 401, {"code": "JG-server-101", "message": "Not on the roster.", "hint": "Wait."}
        identity = fields["identity"] if known is None else known.identity
        time_, nonce = headers["x-jangin-time"], headers["x-jangin-nonce"]
        assert abs(int(time_) - time.time()) < 300
        assert len(bytes.fromhex(nonce)) == 16
        digest = hashlib.sha256(body).digest()
        text = b"\n".join(
            [scope["method"].encode(), scope["path"].encode(), digest, time_.encode(), nonce.encode(), site.encode()]
        )
        identity_from_text(identity).verify(bytes.fromhex(headers["x-jangin-signature"]), b"jangin/api\0" + text)
        self.heard.append((what, body))
        match what:
            case "enroll" if fields["token"] != self.token:
                return 403, {"code": "JG-server-102", "message": "No such token."}
            case "enroll":
                confirmed = site in self.sites
                lists = (self.ministry.staff(), self.rosters[-1]) if confirmed else (None, None)
                return 200, {
                    "status": "confirmed" if confirmed else "waiting",
                    "staff": lists[0],
                    "roster": lists[1],
                }
            case "campaigns":
                listed = [{"plan": plan, "state": self.state, "approved": False} for plan in self.plans]
                lists = {"staff": self.ministry.staff(), "roster": self.rosters[-1]}
                committed = next((one for one in reversed(self.commitments) if _may_be_of(site, one)), None)
                return 200, lists | {"campaigns": listed, "commitment": committed}
            case "commit":
                self.commitments.append(fields["commitment"])
                return 200, {"committed": True}
            case "approve":
                self.approvals.append(fields["approval"])
                return 200, {"approved": True}
            case "renew":
                self.renewed[site] = fields["node_key"]
                return 200, {"renewed": True}
            case "ack":
                return 200, {"next_poll_s": self.poll_s}
            case _:
                return 404, {"code": "JG-server-102", "message": "No such path."}

    def confirm(self, folder: SiteFolder, name: str = "site-0") -> None:
        """Put a site on the next roster, and its node key on the link."""
        self.sites[name] = entry(folder)
        self.rosters.append(self.ministry.roster(dict(self.sites), len(self.rosters) + 1))
        if self.link is not None:
            self.link.register(name, node_key_from_text(self.sites[name].node_key))

    def list_renewed(self, name: str = "site-0") -> None:
        """Sign the next roster, with the new node key that a site handed in; the old one is struck off."""
        self.sites[name] = self.sites[name].model_copy(update={"node_key": self.renewed[name]})
        self.rosters.append(self.ministry.roster(dict(self.sites), len(self.rosters) + 1))
        assert self.link is not None
        self.link.unregister(name)
        self.link.register(name, node_key_from_text(self.renewed[name]))

    @property
    def url(self) -> str:
        assert self.link is not None
        return f"https://127.0.0.1:{self.link.port}"


def _may_be_of(site: str, commitment: bytes) -> bool:
    """Whether a commitment is this site's, or is none at all."""
    try:
        return peek_commitment(commitment).site == site
    except SiteError:
        return True


@dataclass
class Listener:
    """One link for all tests, whose site API is the server of the moment."""

    link: EmbeddedLink
    server: list[SiteServer]


@pytest.fixture(scope="session")
def listener(authority: Authority) -> Iterator[Listener]:
    server: list[SiteServer] = []

    async def site_api(scope: Any, receive: Any, send: Any) -> None:
        await server[0](scope, receive, send)

    with EmbeddedLink(authority.certificate, authority.key, site_api=site_api) as link:
        yield Listener(link, server)


@pytest.fixture
def server(ministry: Ministry, listener: Listener) -> Iterator[SiteServer]:
    """A listening server that nobody has joined."""
    server = SiteServer(ministry, link=listener.link)
    listener.server[:] = [server]
    yield server
    for name in server.sites:
        listener.link.unregister(name)


@pytest.fixture
def root_file(ministry: Ministry, tmp_path: Path) -> Path:
    (tmp_path / "root.pub").write_text(ministry.root.public_text + "\n")
    return tmp_path / "root.pub"


@pytest.fixture
def enrolled(site: SiteFolder, server: SiteServer, authority: Authority, root_file: Path) -> SiteFolder:
    """A site that is on the roster and knows it."""
    desk.enroll(site.path, server.url, server.token, root_file, authority.ca)
    server.confirm(site)
    assert desk.enroll(site.path, server.url, server.token, root_file, authority.ca).confirmed
    return site


def eventually(holds: Callable[[], Any]) -> Any:
    """What `holds` gives once it is true; fails after `PATIENCE_SECONDS`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (value := holds()):
        assert time.monotonic() < deadline, "It never came to hold."
        threading.Event().wait(0.02)
    return value


@pytest.fixture
def wait() -> Callable[[Callable[[], Any]], Any]:
    return eventually


@pytest.fixture
def gather() -> Callable[..., Answer]:
    """The answer to one message."""

    def gather(run: Run, message: str) -> Answer:
        return eventually(lambda: run.pull([message]))[0]

    return gather


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Callable[[SiteFolder], subprocess.Popen[str]]]:
    """Start `jangin site run` in processes of their own, which always end."""
    running: list[subprocess.Popen[str]] = []

    def start(folder: SiteFolder) -> subprocess.Popen[str]:
        script = "import sys; sys.argv[0] = 'jangin'; from jangin.cli.site import site; site()"
        command = [sys.executable, "-W", "ignore", "-c", script, "run", str(folder.path), "--format", "json"]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def light_daemons(light: LightSites) -> Iterator[Callable[[SiteFolder], None]]:
    """Start a site's daemon where a test asks for no more than its answers: the worker's process is the dear part."""
    running: list[SiteFolder] = []

    def start(folder: SiteFolder) -> None:
        light.start(folder.path)
        running.append(folder)

    yield start
    for folder in running:
        light.kill(folder.path)
