"""A federation with fixed keys: people of every role, three sites, and the documents they sign."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jangin.codec import cbor
from jangin.trust.approvals import Approval, StopOrder
from jangin.trust.chain import Trust
from jangin.trust.envelope import Kind, SignedDocument, seal
from jangin.trust.keys import Identity, NodeKey
from jangin.trust.roster import Roster, RosterSite, Status
from jangin.trust.staff import Role, Staff, StaffKey

START = datetime(2026, 11, 2, 9, tzinfo=UTC)
DAY = timedelta(days=1)
PLAN = {"campaign": "steel-2026-11", "rounds": 8, "lr": 0.05}

PEOPLE: dict[str, tuple[str, tuple[Role, ...]]] = {
    "kim": ("kim.minji", (Role.OPERATOR,)),
    "kim-two": ("kim.minji", (Role.APPROVER, Role.INDEPENDENT_BODY)),
    "lee": ("lee.jihoon", (Role.APPROVER,)),
    "park": ("park.seoyeon", (Role.INDEPENDENT_BODY,)),
    "choi": ("choi.both", (Role.OPERATOR, Role.APPROVER, Role.INDEPENDENT_BODY)),
    "han": ("han.watch", (Role.AUDITOR, Role.LABOUR_OBSERVER, Role.EVALUATOR)),
}


def identity(name: str) -> Identity:
    return Identity(Ed25519PrivateKey.from_private_bytes(sha256(f"identity {name}".encode()).digest()))


def node_key(name: str) -> NodeKey:
    return NodeKey(derive_private_key(int.from_bytes(sha256(f"node {name}".encode()).digest()), SECP384R1()))


def site(name: str, status: Status = Status.ACTIVE, *, keys: str = "", node: str = "") -> RosterSite:
    keys = keys or name
    return RosterSite(identity=identity(keys).public_text, node_key=node_key(node or keys).public_text, status=status)


def sites(count: int) -> dict[str, RosterSite]:
    return {f"site-{number}": site(f"site-{number}") for number in range(1, count + 1)}


@dataclass(frozen=True)
class Federation:
    """What everybody may sign at `now`; every method gives an envelope."""

    now: datetime = START + DAY
    root: Identity = field(default_factory=lambda: identity("root"))

    start: ClassVar = START
    day: ClassVar = DAY
    identity = staticmethod(identity)
    site = staticmethod(site)
    sites = staticmethod(sites)

    def staff(self, version: int = 1, signers: tuple[str, ...] = ("root",), **changed: Any) -> bytes:
        expires: dict[str, datetime] = changed.pop("expires", {})
        without: tuple[str, ...] = changed.pop("without", ())
        keys = [
            StaffKey(
                person=person,
                key=identity(name).public_text,
                roles=roles,
                expires=expires.get(name, START + 365 * DAY),
            )
            for name, (person, roles) in PEOPLE.items()
            if name not in without
        ]
        return self.sealed(Staff(**{"version": version, "issued": START, "keys": keys, **changed}), signers)

    def roster(self, version: int = 1, signers: tuple[str, ...] = ("kim", "park"), **changed: Any) -> bytes:
        values = {
            "version": version,
            "issued": START,
            "staff": 1,
            "valid_until": START + 30 * DAY,
            "sites": sites(3),
            **changed,
        }
        return self.sealed(Roster(**values), signers)

    def plan(self, signers: tuple[str, ...] = ("kim", "lee"), plan: object = PLAN) -> bytes:
        return seal(Kind.PLAN, cbor.encode(plan), *map(identity, signers))

    @property
    def plan_hash(self) -> str:
        return cbor.digest("plan", PLAN).hex()

    def approval(self, name: str = "site-1", signer: str = "", **changed: Any) -> bytes:
        values = {"issued": START, "site": name, "plan": self.plan_hash, "nonce": "ab" * 32, **changed}
        return self.sealed(Approval(**values), (signer or name,))

    def stop(self, signers: tuple[str, ...] = ("kim",), **changed: Any) -> bytes:
        values = {"issued": START, "plan": self.plan_hash, "reason": "the furnace is being relined", **changed}
        return self.sealed(StopOrder(**values), signers)

    def sealed(self, document: SignedDocument, signers: tuple[str, ...]) -> bytes:
        return seal(document.kind, document.payload, *map(identity, signers))

    def trust(self) -> Trust:
        """A site that has accepted the first staff list and the first roster."""
        trust = Trust(self.root.public_text).with_staff(self.staff(), self.now)
        return trust.with_roster(self.roster(), self.now)[0]


@pytest.fixture(scope="session")
def federation() -> Federation:
    return Federation()
