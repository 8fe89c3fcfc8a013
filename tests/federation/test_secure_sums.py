"""Laws of secure sums with real processes: who is killed costs the sum nothing, and a server that lies gets no sum.

Server and aggregation worker run in the test itself, where they can be made to lie; the sites are daemons that know
nothing of that.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from jangin.flower_link.wire import Wire
from jangin.plan.messages import Order, order_body, order_digest, read_order, read_step, step_body
from jangin.privacy.secure_sum import server as machine
from jangin.privacy.secure_sum.dealing import PARCEL_BYTES
from jangin.privacy.secure_sum.messages import (
    Dealing,
    read_adverts,
    read_survivors,
    write_adverts,
    write_survivors,
)
from jangin.privacy.secure_sum.server import ServerSum
from jangin.privacy.secure_sum.table import Step
from jangin.privacy.secure_sum.transcript import Manifest
from jangin.server import leading, sums
from jangin.server.post import Post
from jangin.server.store import Outcome
from jangin.server.sums import SecureSum

pytestmark = pytest.mark.slow

VICTIM = "site-0"
SITES = ("site-0", "site-1", "site-2", "site-3")
MORE = (*SITES, "site-4")
SUMS = {
    "sites": {"invite": SITES, "min_sites": 4, "quorum": 0.5, "round_deadline": "5m"},
    "strategy.rounds": 1,
    "privacy": {
        "epsilon": "none",
        "nominal_units": 20,
        "secure_aggregation": "required",
        "c_max": 1,
        "n_plan": 4,
        "n_min_final": 3,
    },
}


@pytest.fixture
def lead(summing_federation: Any, plan: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, Any]]:
    """Lead a campaign to its end: its plan, and its status."""
    monkeypatch.setattr(leading, "_PAUSE_SECONDS", 0.1)
    summing_federation.listening()

    def led(name: str, sites: tuple[str, ...] = SITES) -> tuple[Any, Any]:
        made = plan(name, **{**SUMS, "sites": {**SUMS["sites"], "invite": sites}})  # type: ignore[dict-item]
        for site in sites:
            summing_federation.daemon(site)
        return made, summing_federation.ended(summing_federation.start(summing_federation.agree(made)))

    return led


def made_of_its_records(federation: Any, plan: Any) -> None:
    """The final model is what the sites that are named as reported give together, but for the rounding of each."""
    learnt, expected = federation.learnt(plan.hash), federation.recomputed(plan)
    assert np.linalg.norm(learnt - expected) <= 5e-5 * np.linalg.norm(expected)


@pytest.mark.kill
@pytest.mark.parametrize(
    ("step", "victim"),
    [
        pytest.param(Step.ADVERTISE, "dying-0", marks=pytest.mark.soak),
        (Step.SHARE, "dying-1"),
        pytest.param(Step.MASK, "dying-2", marks=pytest.mark.soak),
    ],
)
def test_a_site_killed_after_a_step_costs_nothing_but_itself_and_the_campaign_goes_on(
    summing_federation: Any, lead: Any, step: Step, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killing(SecureSum):
        def _take(self, one: ServerSum, at: Step, seconds: float, order: Order) -> None:
            super()._take(one, at, seconds, order)
            if (at, order.round) == (step, 1):
                summing_federation.daemons[victim].kill()

    monkeypatch.setattr(leading, "SecureSum", Killing)
    left = SITES[:3]
    made, status = lead(f"killed-after-{step}", (*left, victim))
    assert (status.state, status.reason) == ("candidate", "")
    assert not summing_federation.daemons[victim].alive
    scaling, entry = status.attempts
    assert tuple(scaling.reported) == (victim, *left)
    counted = step is Step.MASK  # its vector is in
    assert tuple(entry.reported) == ((victim, *left) if counted else left)
    assert (entry.attempt, entry.missing, entry.abstained) == (1, [] if counted else [victim], {})
    made_of_its_records(summing_federation, made)


class Lying(Post):
    """A post in the hands of a server that lies in the first attempt at round 1."""

    lie: Callable[[str, Wire], Wire]
    manifest: Manifest

    def send(self, site: str, wire: Wire) -> None:
        if wire.kind in ("scale", "train"):
            self.manifest = Manifest.decode(_order(wire)[0].manifest or b"")
        lies = (self.manifest.round, self.manifest.attempt) == (1, 1)
        super().send(site, type(self).lie(site, wire) if lies else wire)


def _order(wire: Wire) -> tuple[Order, float]:
    vector = None if wire.vector is None else wire.vector.astype(np.float32, copy=False)
    return read_order(wire.kind, wire.round, wire.body, vector)


def another_model(site: str, wire: Wire) -> Wire:
    """Parameters of its own for the victim, with a manifest that fits them."""
    if (site, wire.kind) != (VICTIM, "train"):
        return wire
    order, deadline_s = _order(wire)
    order = replace(order, vector=order.vector + np.float32(1))
    manifest = replace(Manifest.decode(order.manifest or b""), model=order_digest(order))
    return replace(wire, body=order_body(replace(order, manifest=manifest.encode()), deadline_s), vector=order.vector)


def other_keys(site: str, wire: Wire) -> Wire:
    """The victim's keys changed for ones that the server knows."""
    if wire.kind != "share":
        return wire
    message, seconds = read_step(wire.body)
    adverts = read_adverts(message)
    own = [X25519PrivateKey.generate().public_key().public_bytes_raw() for _ in range(2)]
    adverts[VICTIM] = replace(adverts[VICTIM], channel=own[0], mask=own[1])
    return replace(wire, body=step_body(write_adverts(adverts), seconds))


def another_cohort(site: str, wire: Wire) -> Wire:
    """One site less in the victim's U1."""
    if (site, wire.kind) != (VICTIM, "share"):
        return wire
    message, seconds = read_step(wire.body)
    adverts = {name: advert for name, advert in read_adverts(message).items() if name != MORE[-1]}
    return replace(wire, body=step_body(write_adverts(adverts), seconds))


class Padded:
    """A dealing to one site less, as if it were one to all: its parcels come in the order of names."""

    @staticmethod
    def decode(body: bytes, sites: int) -> Dealing:
        try:
            return Dealing.decode(body, sites)
        except ValueError:
            short = Dealing.decode(body, sites - 1)
            return replace(short, parcels=short.parcels + bytes(PARCEL_BYTES))


def other_survivors(site: str, wire: Wire) -> Wire:
    """One site less in the victim's U3."""
    if (site, wire.kind) != (VICTIM, "certify"):
        return wire
    message, seconds = read_step(wire.body)
    return replace(wire, body=step_body(write_survivors(read_survivors(message) - {SITES[-1]}), seconds))


@pytest.fixture
def lying(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Any]]:
    """Have the server lie so; the masked vectors that it is given by its lies."""

    def lie(how: Any) -> list[Any]:
        given: list[Any] = []

        class Listening(ServerSum):
            def _masked(self, site: str, body: bytes, vector: Any) -> None:
                if (self.manifest.round, self.manifest.attempt) == (1, 1):
                    given.append(site)
                super()._masked(site, body, vector)

        monkeypatch.setattr(sums, "ServerSum", Listening)
        monkeypatch.setattr(leading, "Post", type("Liar", (Lying,), {"lie": staticmethod(how)}))
        return given

    return lie


@pytest.mark.parametrize(
    ("lie", "sites", "codes"),
    [
        (another_model, SITES, {"JG-sum-008"}),
        pytest.param(other_keys, SITES, {"JG-sum-008", "JG-sum-009"}, marks=pytest.mark.soak),
        pytest.param(another_cohort, MORE, {"JG-sum-008", "JG-sum-011"}, marks=pytest.mark.soak),
    ],
)
def test_nobody_gives_a_vector_to_a_server_that_lies_to_one_of_them(
    summing_federation: Any,
    lead: Any,
    lying: Any,
    lie: Any,
    sites: tuple[str, ...],
    codes: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = lying(lie)
    monkeypatch.setattr(machine, "verify", lambda *_: None)  # it hides what does not fit
    monkeypatch.setattr(machine, "Dealing", Padded)
    made, status = lead(lie.__name__.replace("_", "-"), sites)
    lied, honest = (entry for entry in status.attempts if entry.round)
    assert (lied.outcome, honest.outcome, status.state) == (Outcome.FAILED, Outcome.FINISHED, "candidate")
    assert (set(lied.abstained), set(lied.abstained.values())) == (set(sites), codes)
    assert given == []
    assert tuple(honest.reported) == sites
    made_of_its_records(summing_federation, made)


def test_a_second_list_of_survivors_gets_one_signature_and_nobody_reveals_for_it(
    summing_federation: Any, lead: Any, lying: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying(other_survivors)
    signed: list[str] = []

    class Asking(sums.ServerSum):  # type: ignore[misc]  # what `lying` has put there
        """It goes on asking the victim, whose signature is over the other list."""

        def _certified(self, site: str, body: bytes) -> None:
            if site == VICTIM and self.manifest.round == 1:
                signed.append(site)
            else:
                super()._certified(site, body)

        def _shown(self, site: str, body: bytes) -> None:
            shown.append((self.manifest.round, site))
            super()._shown(site, body)

    shown: list[tuple[int, str]] = []
    monkeypatch.setattr(sums, "ServerSum", Asking)
    made, status = lead("two-lists")
    assert (status.state, signed) == ("candidate", [VICTIM])
    certificate = summing_federation.store.certificates(made.hash)[1, 1]
    assert sorted(certificate.signatures) == list(SITES[1:])
    assert sorted(site for number, site in shown if number == 1) == list(SITES[1:])
    refused = [line for line in summing_federation.daemons[VICTIM].said.splitlines() if made.hash[:12] in line]
    assert any("JG-sum-014" in line or "JG-sum-008" in line for line in refused)
    made_of_its_records(summing_federation, made)
