"""Write N.json for this version N of the protocol: what a site says to join and to answer a round, byte for byte.

Usage: python tests/vectors/protocol/make_vectors.py
Keys are made from names, times and nonces are set, and Ed25519 is deterministic, so the file is the same every time.
The file of an older version is never made anew: it is what sites of that version say.
"""

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jangin.client.api import SiteApi
from jangin.client.door import Door
from jangin.client.state import Journal
from jangin.codec import cbor
from jangin.codec.document import parse
from jangin.errors import LinkError
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, Reply, order_body, reply_body
from jangin.plan.training_plan import TrainingPlan
from jangin.trust.approvals import Approval
from jangin.trust.certificates import make_authority
from jangin.trust.commitments import Commitment
from jangin.trust.envelope import Kind as Signed
from jangin.trust.envelope import seal
from jangin.trust.keys import Identity, NodeKey
from jangin.version import PROTOCOL

HERE = Path(__file__).parent
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SITE, TOKEN = "site-0", "AAAA-AAAA-AAAA-AAAA"
DEADLINE_S = 20.0
PLAN: dict[str, Any] = {
    "campaign": "steel-2026-11",
    "process": "steel.bof_blow",
    "model_line": "national-bof-blow",
    "sites": {"invite": [SITE], "min_sites": 1, "round_deadline": "20s"},
    "model": {"name": "linear"},
    "strategy": {"name": "fedavg", "rounds": 2, "local_steps": 2, "batch": 8, "lr": 0.05},
    "privacy": {"epsilon": "none"},
    "governance": {
        "purposes": ["skill_preservation"],
        "prohibited": ["worker_evaluation", "dismissal"],
        "release": {"recipients": "contributors", "export": "domestic_only"},
    },
}


def secret(name: str) -> bytes:
    return sha256(f"protocol vectors: {name}".encode()).digest()


class Recorder(SiteApi):
    """A site's requests, kept instead of sent."""

    def __init__(self, *how: Any, **more: Any) -> None:
        super().__init__(*how, **more)
        self.requests: list[dict[str, Any]] = []

    def _exchange(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        self.requests.append({"path": path, "headers": headers, "body": body.hex()})
        raise LinkError("JG-site-201", where="nowhere", problem="nobody is asked")


def requests(plan: TrainingPlan) -> list[dict[str, Any]]:
    """Enrolment, campaigns, approval, commitment and pace."""
    identity = Identity(Ed25519PrivateKey.from_private_bytes(secret("identity")))
    node = NodeKey(ec.derive_private_key(int.from_bytes(secret("node")), ec.SECP384R1()))
    roots = make_authority("nobody", NOW, NOW + timedelta(days=1)).chain
    approval = Approval(issued=NOW, site=SITE, plan=plan.hash, nonce=secret("nonce").hex())
    commitment = Commitment(issued=NOW, site=SITE, entries=3, head=secret("head").hex())
    numbers = count(1)
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder, "site.sqlite")) as journal:
        api = Recorder(
            "127.0.0.1:1", SITE, identity, roots, Door(journal, lambda: NOW), clock=lambda: NOW,
            nonce=lambda: f"{next(numbers):032x}",
        )  # fmt: skip
        with api:
            for ask in (
                lambda: api.enroll(TOKEN, node.public_text),
                lambda: api.campaigns(),
                lambda: api.approve(seal(Signed.APPROVAL, approval.payload, identity)),
                lambda: api.commit(seal(Signed.COMMITMENT, commitment.payload, identity)),
                lambda: api.ack(),
            ):
                try:
                    ask()
                except LinkError:
                    continue
            return api.requests


def letters(plan: TrainingPlan) -> Iterator[dict[str, Any]]:
    """Orders as a site of this version reads them, each with what it answers."""
    parameters, update = np.linspace(-1, 1, 4).astype(np.float32), np.linspace(0, 0.5, 4).astype(np.float32)
    nothing, scaling = np.empty(0, np.float32), (np.arange(3.0), np.ones(3))
    abstained = Reply(SITE, None, "JG-site-311")
    for order, reply in (
        (Order(Kind.SCALE, 0, nothing), Reply(SITE, np.arange(1.0, 5.0))),
        (Order(Kind.TRAIN, 1, parameters, scaling), Reply(SITE, update)),
        (Order(Kind.TRAIN, 1, parameters, scaling, hold=True), Reply(SITE, None)),
        (Order(Kind.COLLECT, 1, nothing), Reply(SITE, update)),
        (Order(Kind.TRAIN, 2, parameters, scaling), abstained),
    ):
        vector = order.vector if order.vector.size else None
        asked = Wire(order.kind.value, plan.hash, order.round, order_body(order, DEADLINE_S), vector)
        answered = Wire(order.kind.value, plan.hash, order.round, reply_body(reply), reply.update)
        yield {"order": message(asked), "reply": message(answered)}


def message(wire: Wire) -> dict[str, Any]:
    vector = None if wire.vector is None else wire.vector.astype("<f4").tobytes().hex()
    return {"kind": wire.kind, "round": wire.round, "body": wire.body.hex(), "vector": vector}


def vectors() -> dict[str, Any]:
    """The whole file."""
    plan = parse(PLAN, TrainingPlan, "plan")
    return {
        "protocol": PROTOCOL,
        "now": NOW.isoformat(),
        "site": SITE,
        "plan": cbor.encode(plan.model_dump(mode="json")).hex(),
        "campaign": plan.hash,
        "requests": requests(plan),
        "letters": list(letters(plan)),
    }


if __name__ == "__main__":
    (HERE / f"{PROTOCOL}.json").write_text(json.dumps(vectors(), indent=1) + "\n", encoding="utf-8")
