"""Sites and a server of one secure sum in memory, the same ones every time, and whoever stands between them."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from itertools import count
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from jangin.privacy.randomness import SecureRandom
from jangin.privacy.secure_sum.journal import Journal, MemoryJournal
from jangin.privacy.secure_sum.policy import Policy, Terms
from jangin.privacy.secure_sum.server import ServerSum
from jangin.privacy.secure_sum.site import Answer, SiteSum
from jangin.privacy.secure_sum.table import State, Step
from jangin.privacy.secure_sum.transcript import Manifest

DEMO = Policy(n_min=4, n_min_final=3, n_honest_min=1, c_max=1, demo=True)
CAMPAIGN = hashlib.sha256(b"a plan").hexdigest()


def manifest(size: int = 3, **changed: Any) -> Manifest:
    given: dict[str, Any] = {"campaign": CAMPAIGN, "round": 1, "attempt": 1, "model": bytes(32), "roster": bytes(32)}
    return Manifest(**{**given, "size": size, "seconds": (60.0,) * 5, **changed})


def names(sites: int) -> list[str]:
    return [f"site-{number:02}" for number in range(1, sites + 1)]


def signer(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def randomness(of: str) -> SecureRandom:
    """The same stream for one name every time."""
    numbers = count()
    return SecureRandom(lambda size: hashlib.sha256(f"{of} {next(numbers)}".encode()).digest()[:size])


def vector(name: str, size: int) -> NDArray[np.int32]:
    """Over the whole ring: two of them already wrap."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return np.random.default_rng(seed).integers(-(2**31), 2**31, size).astype(np.int32)


def in_ring(vectors: Collection[NDArray[np.int32]]) -> list[int]:
    """Their sum in two's complement of 32 bits, by arithmetic."""
    total = sum(one.astype(np.int64) for one in vectors)
    return ((np.asarray(total) + 2**31) % 2**32 - 2**31).tolist()


class Federation:
    """A server and sites; `step` asks all that are not `gone` and closes."""

    def __init__(
        self,
        sites: int = 4,
        *,
        policy: Policy = DEMO,
        terms: Terms | None = None,
        manifest: Manifest | None = None,
        journals: Mapping[str, Journal] | None = None,
        randomness: Callable[[str], SecureRandom] = randomness,
        site: type[SiteSum] = SiteSum,
        special: Mapping[str, type[SiteSum]] | None = None,
    ) -> None:
        self.names = names(sites)
        self.terms = terms or Terms(frozenset(self.names), sites, 3, policy.c_max, 3)
        self.manifest = manifest or globals()["manifest"]()
        self.identities = {name: signer(name).public_key() for name in self.names}
        self.journals = journals or {name: MemoryJournal() for name in self.names}
        self.policy = policy
        self.vectors = {name: vector(name, self.manifest.size) for name in self.names}
        self.sites = {
            name: (special or {}).get(name, site)(
                name,
                self.manifest,
                self.terms,
                policy,
                self.identities,
                signer(name),
                self.journals[name],
                randomness(name),
            )
            for name in self.names
        }
        self.server = ServerSum(self.manifest, self.terms, self.identities)
        self.gone: set[str] = set()

    def ask(self, name: str, request: bytes | None = None) -> Answer:
        """What a site answers to the step in hand, to this request or to the server's."""
        step = self.server.step
        if step is Step.ADVERTISE:
            return self.sites[name].advertise(self.vectors[name].view(np.uint32))
        return self.sites[name].answer(step, self.server.request(name) if request is None else request)

    def give(self, name: str, answer: Answer) -> None:
        self.server.receive(name, answer.body, answer.vector)

    def asked(self) -> list[str]:
        return sorted(self.server.asked - self.gone)

    def step(self) -> None:
        """One step as it should be."""
        for name in self.asked():
            self.give(name, self.ask(name))
        self.server.close()

    def until(self, step: Step) -> "Federation":
        """Up to where this step is asked."""
        while self.server.step is not step:
            self.step()
        return self

    def finish(self) -> list[int]:
        """The sum."""
        while self.server.state is not State.UNMASKED:
            self.step()
        return self.server.total().tolist()
