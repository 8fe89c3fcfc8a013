"""Other sites of a secure sum, and its server, in a test: identities, machines, and one exchange after another."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from numpy.typing import NDArray

from jangin.privacy.randomness import SecureRandom
from jangin.privacy.secure_sum.journal import MemoryJournal
from jangin.privacy.secure_sum.policy import Policy, Terms
from jangin.privacy.secure_sum.server import ServerSum
from jangin.privacy.secure_sum.site import SiteSum
from jangin.privacy.secure_sum.table import State, Step
from jangin.privacy.secure_sum.transcript import Manifest

DEMO = Policy(n_min=3, n_min_final=3, n_honest_min=2, c_max=1, demo=True)

Ask = Callable[[Step, bytes], tuple[bytes, NDArray[np.uint32] | None] | None]
"""How somebody else answers a step: body and vector, or nothing."""


def terms(names: Iterable[str], attempts: int = 3) -> Terms:
    return Terms(frozenset(names), n_plan=4, n_min_final=3, c_max=1, attempts=attempts)


def a_manifest(**changed: Any) -> Manifest:
    held: dict[str, Any] = {
        "campaign": "ab" * 32,
        "round": 1,
        "attempt": 1,
        "model": bytes(32),
        "roster": bytes(32),
        "size": 5,
        "seconds": (1.0,) * 5,
    }
    return Manifest(**(held | changed))


@dataclass
class Peers:
    """Honest sites with a vector each, in memory."""

    keys: Mapping[str, Any]
    size: int = 5
    machines: dict[str, SiteSum] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Iterable[str], size: int = 5) -> "Peers":
        return cls({name: Ed25519PrivateKey.generate() for name in names}, size)

    def vector(self, name: str) -> NDArray[np.uint32]:
        seed = int.from_bytes(name.encode(), "big") % 2**32
        return np.random.default_rng(seed).integers(-1000, 1000, self.size).astype(np.int32).view(np.uint32)

    def begin(self, manifest: Manifest, asked: Terms, identities: Mapping[str, Ed25519PublicKey]) -> None:
        """Every one of them begins the sum."""
        self.machines = {
            name: SiteSum(name, manifest, asked, DEMO, identities, key, MemoryJournal(), SecureRandom())
            for name, key in self.keys.items()
        }

    def answer(self, name: str, step: Step, request: bytes) -> tuple[bytes, NDArray[np.uint32] | None]:
        machine = self.machines[name]
        answer = machine.advertise(self.vector(name)) if step is Step.ADVERTISE else machine.answer(step, request)
        return answer.body, answer.vector


def step_once(server: ServerSum, peers: Peers, others: Mapping[str, Ask]) -> None:
    """One step: everybody is asked and answers, or not; then it is closed."""
    step = server.step
    for name in sorted(server.waiting):
        request = server.request(name)
        answer = others[name](step, request) if name in others else peers.answer(name, step, request)
        if answer is not None:
            server.receive(name, *answer)
    server.close()


def steps_until(server: ServerSum, state: State, peers: Peers, others: Mapping[str, Ask]) -> None:
    """One step after another until the server is where it should be."""
    while server.state is not state:
        step_once(server, peers, others)
