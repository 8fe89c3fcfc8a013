"""Laws of the protocol's versions: what sites of this one and of the one before say is understood, and no other's.

What they say is recorded in tests/vectors/protocol, a file a version.
"""

import json
import runpy
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jangin.codec import cbor
from jangin.codec.document import parse
from jangin.flower_link.link import Answer
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, order_body, read_order
from jangin.plan.training_plan import TrainingPlan
from jangin.server import campaigns
from jangin.server.exchange import LinkExchange
from jangin.server.rounds import gather
from jangin.version import PROTOCOL

FOLDER = Path(__file__).parents[1] / "vectors" / "protocol"
SPOKEN = (PROTOCOL - 1, PROTOCOL)


def recorded(version: int) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"{version}.json").read_text(encoding="utf-8")))


def vector(message: dict[str, Any]) -> NDArray[np.float32] | None:
    return None if message["vector"] is None else np.frombuffer(bytes.fromhex(message["vector"]), "<f4")


def test_the_script_makes_the_vectors_of_this_version_again() -> None:
    """Whoever changes what is said begins a new version, and keeps the vectors of the one before."""
    assert runpy.run_path(str(FOLDER / "make_vectors.py"))["vectors"]() == recorded(PROTOCOL)


@pytest.mark.parametrize("version", SPOKEN)
def test_a_site_of_this_version_and_of_the_one_before_joins(the_world_at: Any, version: int) -> None:
    said = recorded(version)
    world = the_world_at(datetime.fromisoformat(said["now"]))
    api, requests = world.api().api, {one["path"].rsplit("/", 1)[1]: one for one in said["requests"]}

    def ask(what: str) -> dict[str, Any]:
        one = requests[what]
        status, answer = api.answer("POST", one["path"], one["headers"], bytes.fromhex(one["body"]))
        assert status == 200, cbor.decode(answer)
        return dict(cbor.decode(answer))

    world.members.invite(said["site"], world.now, random_bytes=bytes)
    assert ask("enroll")["status"] == "waiting"
    signers = [world.keys["operator"], world.keys["independent"]]
    world.members.confirm([said["site"]], signers, world.now)
    # A plan written out by the site's version has its hash here, too: by it the site said yes.
    plan = parse(cbor.decode(bytes.fromhex(said["plan"])), TrainingPlan, "plan")
    assert plan.hash == said["campaign"]
    campaign = campaigns.propose(world.store, world.members, plan, world.keys["operator"], world.now)
    campaigns.approve(world.store, world.members, campaign, world.keys["approver"], world.now)
    assert ask("campaigns").keys() == {"staff", "roster", "campaigns", "commitment"}
    assert ask("approve") == {"approved": True}
    assert ask("commit") == {"committed": True}
    assert ask("ack").keys() == {"next_poll_s"}
    assert [approved for _, approved in world.store.campaigns_of(said["site"])] == [True]


class Recorded:
    """A run whose one site answers a letter of its version by what was recorded, and knows no other letters."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.said, self.campaign = said, said["campaign"]
        self.answers: dict[str, Wire] = {}

    def push(self, site: str, wire: Wire, *, ttl_seconds: float) -> str:
        sent = wire.vector if wire.vector is None else wire.vector.tobytes().hex()
        body = order_body(read_order(wire.kind, wire.round, wire.body, wire.vector)[0], 20.0)  # type: ignore[arg-type]
        asked = {"kind": wire.kind, "round": wire.round, "body": body.hex(), "vector": sent}
        (letter,) = [one["reply"] for one in self.said["letters"] if one["order"] == asked]
        message = str(len(self.answers))
        self.answers[message] = Wire(
            letter["kind"], self.campaign, letter["round"], bytes.fromhex(letter["body"]), vector(letter)
        )
        return message

    def pull(self, messages: Collection[str]) -> list[Answer]:
        return [Answer(one, self.said["site"], self.answers.pop(one)) for one in messages if one in self.answers]

    def forget(self, messages: Collection[str]) -> None:
        pass


@pytest.mark.parametrize("version", SPOKEN)
def test_a_site_of_this_version_and_of_the_one_before_answers_a_round(version: int) -> None:
    said = recorded(version)
    orders = {(one["order"]["kind"], one["order"]["round"]): one["order"] for one in said["letters"]}

    def ask(kind: Kind, number: int, size: int, **how: int) -> tuple[Any, Any]:
        given = orders[kind.value, number]
        order, _ = read_order(kind.value, number, bytes.fromhex(given["body"]), vector(given))
        run = Recorded(said)
        asked = Order(order.kind, order.round, order.vector, order.scaling)
        return gather(LinkExchange(run, [said["site"]], 20.0, size, **how), asked)  # type: ignore[arg-type]

    moments = ask(Kind.SCALE, 0, 4)[1]
    np.testing.assert_array_equal(moments, np.arange(1.0, 5.0))
    update = np.linspace(0, 0.5, 4).astype(np.float32)
    for waves in ({}, {"most_together_bytes": 0}):  # at once, and held until it is collected
        np.testing.assert_array_equal(ask(Kind.TRAIN, 1, 4, **waves)[1], update)


@pytest.mark.parametrize(
    ("stated", "code"),
    [(str(PROTOCOL + 1), "JG-site-410"), (str(PROTOCOL - 2), "JG-site-410"), ("two", "JG-server-310")],
)
def test_a_site_of_any_other_version_is_told_which_are_spoken(world: Any, stated: str, code: str) -> None:
    (site,) = world.sites(1)
    body = cbor.encode({})
    headers = site.headers("/v1/jangin/ack", body, world.now) | {"x-jangin-protocol": stated}
    _, answer = world.api().send("/v1/jangin/ack", headers, body)
    assert answer["code"] == code
    if code == "JG-site-410":
        assert f"versions {PROTOCOL - 1} and {PROTOCOL}" in answer["message"]
