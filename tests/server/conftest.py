"""A federation of one server: people with keys, sites that sign their requests, and a clock that a test moves."""

import os
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from postgres import Postgres, postgres

from jangin.codec import cbor
from jangin.codec.document import assign, parse
from jangin.models.layout import ParameterLayout
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy import statement
from jangin.privacy.statement import Deployment
from jangin.server import campaigns
from jangin.server.api import SiteApi
from jangin.server.audit import SERVER
from jangin.server.checkpoints import Checkpoints
from jangin.server.life import Act, State
from jangin.server.members import Members, make_staff
from jangin.server.registry import Registered, Registry
from jangin.server.settings import ServerSettings, StateFolder
from jangin.server.store import CampaignRow, Outcome, RoundEntry, Store
from jangin.trust.approvals import Approval
from jangin.trust.envelope import Kind, seal
from jangin.trust.keys import Identity, NodeKey
from jangin.trust.models import Withdrawal
from jangin.trust.requests import signed_bytes
from jangin.trust.staff import Role


@pytest.fixture(scope="session")
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of this test process."""
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jangin.sqlite'}"
    server: Postgres = request.getfixturevalue("own_postgres")
    return server.database()


PEOPLE = {
    "operator": (Role.OPERATOR,),
    "approver": (Role.APPROVER,),
    "independent": (Role.INDEPENDENT_BODY,),
    "evaluator": (Role.EVALUATOR,),
    "both": (Role.OPERATOR, Role.APPROVER, Role.INDEPENDENT_BODY),
    "auditor": (Role.AUDITOR,),
    "observer": (Role.LABOUR_OBSERVER,),
}


@dataclass(frozen=True)
class SiteKeys:
    """One site's keys, and how it signs."""

    name: str
    identity: Identity = field(default_factory=Identity.generate)
    node: NodeKey = field(default_factory=NodeKey.generate)

    def headers(self, path: str, body: bytes, now: datetime, **changed: str) -> dict[str, str]:
        """The signed headers of a request, by lower-case names."""
        values = {"site": self.name, "time": str(int(now.timestamp())), "nonce": os.urandom(16).hex()}
        values |= changed
        text = signed_bytes("POST", path, body, values["time"], values["nonce"], values["site"])
        values = {"signature": self.identity.sign(text).hex(), **values}
        return {f"x-jangin-{name}": value for name, value in values.items()}

    def enrolment(self, token: str) -> dict[str, str]:
        return {"token": token, "identity": self.identity.public_text, "node_key": self.node.public_text}

    def approval(self, campaign: str, now: datetime) -> bytes:
        issued = now.replace(microsecond=0)
        document = Approval(issued=issued, site=self.name, plan=campaign, nonce=os.urandom(32).hex())
        return seal(Kind.APPROVAL, document.payload, self.identity)

    def ask(self, address: str, authority: Path, what: str, **body: object) -> dict[str, Any]:
        """One request over TLS to a real server."""
        path, data = f"/v1/jangin/{what}", cbor.encode(body)
        roots = ssl.create_default_context(cafile=str(authority))
        with httpx.Client(verify=roots, trust_env=False, timeout=10) as client:
            headers = self.headers(path, data, datetime.now(UTC))
            answer = client.post(f"https://{address}{path}", content=data, headers=headers)
        assert answer.headers["content-type"] == "application/cbor"
        return dict(cbor.decode(answer.content))


@dataclass
class World:
    """A state folder, its database, and everybody's keys."""

    folder: Path
    state: StateFolder
    store: Store
    members: Members
    keys: dict[str, Identity]
    now: datetime

    def key(self, person: str) -> Path:
        return self.folder / "staff" / f"{person}.key"

    def site(self, name: str) -> SiteKeys:
        """A site with keys that nobody knows yet."""
        return SiteKeys(name)

    def enrolled(self, name: str) -> SiteKeys:
        site = self.site(name)
        token = self.members.invite(name, self.now)
        self.members.enroll(name, token, site.identity.public_text, site.node.public_text, self.now)
        return site

    def confirm(self, *sites: SiteKeys) -> None:
        signers = [self.keys["operator"], self.keys["independent"]]
        self.members.confirm([site.name for site in sites], signers, self.now)

    def sites(self, count: int) -> list[SiteKeys]:
        """Sites on the roster."""
        sites = [self.enrolled(f"site-{number}") for number in range(count)]
        self.confirm(*sites)
        return sites

    def seat(self, *names: str) -> None:
        """Put on the roster whoever of these is not on it yet, by keys that nobody has."""
        strangers = [self.enrolled(name) for name in names if name not in self.members.active()]
        if strangers:
            self.confirm(*strangers)

    def propose(self, plan: TrainingPlan, person: str = "operator") -> str:
        """A plan whose sites are on the roster, signed; its hash."""
        self.seat(*plan.sites.invite)
        return campaigns.propose(self.store, self.members, plan, self.keys[person], self.now)

    @property
    def registry(self) -> Registry:
        return Registry(self.store, self.state)

    def learnt(self, plan: TrainingPlan, *reported: str, proposer: str = "operator") -> str:
        """A campaign whose last round is finished by these sites, and whose final model is on the disk; its hash."""
        campaign, people = plan.hash, [self.keys[proposer], self.keys["approver"]]
        envelope = seal(Kind.PLAN, cbor.encode(plan.model_dump(mode="json")), *people)
        self.store.draft(CampaignRow(campaign, plan.campaign, envelope, State.DRAFT), plan.sites.invite, proposer)
        acts = {Act.PROPOSE: proposer, Act.APPROVE: "approver", Act.CONSULT: SERVER, Act.START: "operator"}
        for act, actor in acts.items():
            self.store.move(campaign, act, actor=actor, proposer=proposer if act is Act.PROPOSE else "")
        for number in {1, plan.strategy.rounds}:
            self.store.record(campaign, RoundEntry(number, 1, Outcome.FINISHED, reported, {}, {}, (), 1.5))
        self.store.move(campaign, Act.EVALUATE)
        size = 4
        layout = ParameterLayout.of([("weight", (size,))])
        deployment = Deployment(
            kind="campaign",
            name=plan.campaign,
            plan_hash=campaign,
            model_line=plan.model_line,
            process=plan.process,
            sites=len(reported),
            rounds_planned=plan.strategy.rounds,
            rounds_done=plan.strategy.rounds,
            rounds_charged=plan.strategy.rounds,
        )
        folder = self.state.checkpoints(campaign)
        Checkpoints(folder).finish(np.full(size, plan.seed, np.float32), layout, {"center": [0.0], "scale": [1.0]})
        (folder / "statement.json").write_bytes(statement.state(deployment, None).as_json())
        return campaign

    def released(self, plan: TrainingPlan, *reported: str, person: str = "approver") -> Registered:
        """A version of a model that was released."""
        one = self.registry.register(self.learnt(plan, *reported), self.now)
        return self.release(one, person)

    def release(self, one: Registered, person: str = "approver") -> Registered:
        envelope = seal(Kind.MODEL, one.manifest.payload, self.keys[person])
        return self.registry.release(envelope, self.members.staff(self.now), self.now)

    def withdraw(
        self, one: Registered, reason: str = "it fails on thin plates", person: str = "approver"
    ) -> Registered:
        manifest = one.manifest
        document = Withdrawal(
            issued=self.now, line=manifest.line, version=manifest.version, model=manifest.hash, reason=reason
        )
        envelope = seal(Kind.WITHDRAWAL, document.payload, self.keys[person])
        return self.registry.withdraw(envelope, self.members.staff(self.now), self.now)

    def api(self, idle_poll_s: float = 5.0) -> "Api":
        api = SiteApi(
            self.store,
            self.members,
            self.registry,
            idle_poll_s=idle_poll_s,
            clock=lambda: self.now,
            believed_s=0.0,
        )
        return Api(api, self)


@dataclass(frozen=True)
class Api:
    """The site API without a socket."""

    api: SiteApi
    world: World

    def ask(self, site: SiteKeys, what: str, *, skew: float = 0.0, **body: object) -> tuple[int, dict[str, Any]]:
        path, data = f"/v1/jangin/{what}", cbor.encode(body)
        headers = site.headers(path, data, self.world.now + timedelta(seconds=skew))
        return self.send(path, headers, data)

    def send(self, path: str, headers: dict[str, str], data: bytes, method: str = "POST") -> tuple[int, dict[str, Any]]:
        status, answer = self.api.answer(method, path, headers, data)
        return status, cbor.decode(answer)


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world on sqlite, or on PostgreSQL where a test's parameter says so."""
    wants = getattr(request, "param", "sqlite")
    url = request.getfixturevalue("own_postgres").database() if wants == "postgresql" else None
    with world_at(tmp_path, datetime.now(UTC).replace(microsecond=0), url) as made:
        yield made


@pytest.fixture
def the_world_at(tmp_path: Path) -> Iterator[Callable[[datetime], World]]:
    """A world at a set time."""
    with ExitStack() as stack:
        yield lambda now: stack.enter_context(world_at(tmp_path, now))


@pytest.fixture
def world_on(tmp_path: Path) -> Iterator[Callable[[str], World]]:
    """A world on a database."""
    with ExitStack() as stack:
        now = datetime.now(UTC).replace(microsecond=0)
        yield lambda url: stack.enter_context(world_at(tmp_path, now, url))


@contextmanager
def world_at(tmp_path: Path, now: datetime, database: str | None = None) -> Iterator[World]:
    staff = make_staff(tmp_path / "staff", PEOPLE, now - timedelta(days=1), timedelta(days=365))
    keys = {person: Identity.load(tmp_path / "staff" / f"{person}.key") for person in PEOPLE}
    root = (tmp_path / "staff" / "root.pub").read_text().strip()
    settings = ServerSettings(port=0, idle_poll_s=0.05, database=database)
    state = StateFolder.make(tmp_path / "server", settings, root, staff, ["127.0.0.1"], now)
    store = state.store()
    yield World(tmp_path, state, store, Members(store, root), keys, now)
    store.close()


@pytest.fixture
def plan() -> Any:
    """A plan with dotted keys changed."""

    def made(**changes: object) -> TrainingPlan:
        tree: dict[str, Any] = {
            "campaign": "steel-2026-11",
            "process": "steel.bof_blow",
            "model_line": "national-bof-blow",
            "sites": {"invite": ["site-0", "site-1", "site-2"], "min_sites": 2, "round_deadline": "20s"},
            "model": {"name": "linear"},
            "strategy": {"name": "fedavg", "rounds": 4, "local_steps": 2, "batch": 8, "lr": 0.05},
            "privacy": {"epsilon": "none"},
            "governance": {
                "purposes": ["skill_preservation"],
                "prohibited": ["worker_evaluation", "dismissal"],
                "release": {"recipients": "contributors", "export": "domestic_only"},
            },
        }
        for key, value in changes.items():
            assign(tree, key, value)
        return parse(tree, TrainingPlan, "plan.yaml")

    return made


@pytest.fixture
def eventually() -> Any:
    """What a function gives once it is true; fails after a bound."""

    def wait(holds: Any, seconds: float = 60.0) -> Any:
        pause = threading.Event()
        for _ in range(int(seconds / 0.02)):
            if value := holds():
                return value
            pause.wait(0.02)
        raise AssertionError("It never came to hold.")

    return wait
