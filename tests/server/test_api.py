"""Laws of the site API: clock, signature and nonce come first, and a token serves one site once."""

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from jangin.codec import cbor
from jangin.server import campaigns
from jangin.server.api import MOST_BODY_BYTES, SiteApi, _Lately
from jangin.trust.chain import Trust
from jangin.trust.commitments import Commitment
from jangin.trust.envelope import Kind, seal
from jangin.trust.keys import Identity, NodeKey

ALL = ["enroll", "campaigns", "approve", "commit", "renew", "ack", "models", "model"]


def proposed(world: Any, plan: Any, **changes: object) -> str:
    return world.propose(plan(**changes))


def approved(world: Any, plan: Any, **changes: object) -> str:
    campaign = proposed(world, plan, **changes)
    campaigns.approve(world.store, world.members, campaign, world.keys["approver"], world.now)
    return campaign


def test_a_site_enrols_waits_and_is_confirmed(world: Any) -> None:
    api, site = world.api(), world.site("site-0")
    token = world.members.invite("site-0", world.now)
    waiting = (200, {"status": "waiting", "staff": None, "roster": None})
    assert api.ask(site, "enroll", **site.enrolment(token)) == waiting
    world.now += timedelta(days=8)
    assert api.ask(site, "enroll", **site.enrolment(token.lower())) == waiting
    world.confirm(site)
    status, answer = api.ask(site, "enroll", **site.enrolment(token))
    assert (status, answer["status"]) == (200, "confirmed")
    trust = Trust(world.state.root).with_staff(answer["staff"], world.now)
    trust, _ = trust.with_roster(answer["roster"], world.now)
    assert trust.roster(world.now).identities.keys() == {"site-0"}


def test_a_site_hands_in_a_new_node_key_by_its_identity(world: Any) -> None:
    api, (site, other) = world.api(), world.sites(2)
    fresh = NodeKey.generate().public_text
    assert api.ask(site, "renew", node_key="ecdsa-sha2-nistp384 x")[1]["code"] == "JG-server-310"
    assert api.ask(other, "renew", node_key=site.node.public_text)[1]["code"] == "JG-server-318"
    assert api.ask(site, "renew", node_key=fresh) == (200, {"renewed": True})
    world.confirm()
    assert world.members.roster(world.now).sites["site-0"].node_key == fresh


def test_a_token_serves_its_own_site_once_and_in_time(world: Any) -> None:
    api, site = world.api(), world.site("site-0")
    token = world.members.invite("site-0", world.now)
    other = world.site("site-1")
    assert api.ask(other, "enroll", **other.enrolment(token))[1]["code"] == "JG-server-315"
    assert api.ask(site, "enroll", **site.enrolment("AAAA-AAAA-AAAA-AAAA"))[1]["code"] == "JG-server-315"
    late = world.members.invite("site-0", world.now - timedelta(days=7))
    assert api.ask(site, "enroll", **site.enrolment(late))[1]["code"] == "JG-server-315"
    assert api.ask(site, "enroll", **site.enrolment(token))[0] == 200
    thief = world.site("site-0")
    status, answer = api.ask(thief, "enroll", **thief.enrolment(token))
    assert (status, answer["code"]) == (403, "JG-server-316")
    assert token not in answer["message"]


def test_nobody_enrols_with_another_sites_keys(world: Any) -> None:
    api, site = world.api(), world.enrolled("site-0")
    token = world.members.invite("site-1", world.now)
    twin = type(site)("site-1", site.identity, NodeKey.generate())
    assert api.ask(twin, "enroll", **twin.enrolment(token))[1]["code"] == "JG-server-318"
    half = type(site)("site-1", Identity.generate(), site.node)
    assert api.ask(half, "enroll", **half.enrolment(token))[1]["code"] == "JG-server-318"


def test_enrolment_is_signed_by_the_identity_that_it_brings(world: Any) -> None:
    api, site, other = world.api(), world.site("site-0"), world.site("site-0")
    token = world.members.invite("site-0", world.now)
    assert api.ask(other, "enroll", **site.enrolment(token))[1]["code"] == "JG-server-314"
    assert world.members.members()[0].status == "invited"


@pytest.mark.parametrize("skew", [-301, 301])
@pytest.mark.parametrize("what", ALL)
def test_a_clock_too_far_off_is_told_by_how_much(world: Any, what: str, skew: int) -> None:
    (site,) = world.sites(1)
    status, answer = world.api().ask(site, what, skew=skew)
    assert (status, answer["code"]) == (401, "JG-server-311")
    assert str(skew) in answer["message"]
    assert world.api().ask(site, "ack", skew=skew / 301 * 300)[0] == 200


def test_a_request_counts_once(world: Any) -> None:
    api, (site, other) = world.api(), world.sites(2)
    body = cbor.encode({})
    headers = site.headers("/v1/jangin/ack", body, world.now, nonce="ab" * 16)
    assert api.send("/v1/jangin/ack", headers, body)[0] == 200
    for _ in range(2):
        status, answer = api.send("/v1/jangin/ack", headers, body)
        assert (status, answer["code"]) == (401, "JG-server-312")
    mine = other.headers("/v1/jangin/ack", body, world.now, nonce="ab" * 16)
    assert api.send("/v1/jangin/ack", mine, body)[0] == 200
    # 300 s later the clock refuses it, and long after that it is forgotten.
    world.now += timedelta(seconds=301)
    assert api.send("/v1/jangin/ack", headers, body)[1]["code"] == "JG-server-311"
    world.now += timedelta(seconds=301)
    assert api.ask(site, "ack")[0] == 200
    assert len(api.api._nonces["site-0"]) == 1


def test_a_nonce_is_remembered_for_as_long_as_its_time_passes(world: Any) -> None:
    api, (site,) = world.api(), world.sites(1)
    body = cbor.encode({})
    world.now += timedelta(seconds=0.9)
    headers = site.headers("/v1/jangin/ack", body, world.now + timedelta(seconds=300))
    start, codes = world.now, []
    for seconds in (0.0, 0.1, 300.0, 600.0, 600.2):
        world.now = start + timedelta(seconds=seconds)
        codes.append(api.send("/v1/jangin/ack", headers, body)[1].get("code", ""))
        assert api.ask(site, "ack")[0] == 200
    assert codes == ["", "JG-server-312", "JG-server-312", "JG-server-312", "JG-server-311"]


def test_a_site_may_use_so_many_nonces_and_hears_how_long_to_wait(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    api, (site, other) = world.api(), world.sites(2)
    monkeypatch.setattr("jangin.server.api._MOST_NONCES", 3)
    for _ in range(3):
        assert api.ask(site, "ack")[0] == 200
    world.now += timedelta(seconds=100)
    status, answer = api.ask(site, "ack")
    assert (status, answer["code"]) == (429, "JG-server-492")
    assert "501" in answer["message"]
    assert api.ask(other, "ack")[0] == 200
    world.now += timedelta(seconds=501)
    assert api.ask(site, "ack")[0] == 200


def test_what_fails_to_enrol_leaves_no_nonce(world: Any) -> None:
    api, site = world.api(), world.site("site-0")
    for _ in range(3):
        assert api.ask(site, "enroll", **site.enrolment("AAAA-AAAA-AAAA-AAAA"))[0] == 403
    assert api.api._nonces == {}


def test_the_database_is_believed_for_a_second_and_its_silence_is_not(world: Any) -> None:
    calls = []
    lately = _Lately(lambda: calls.append(1) or len(calls), 3600.0)
    assert [lately(), lately()] == [1, 1]
    fails = _Lately(lambda: calls.append(1) or 1 / 0, 3600.0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fails()
    assert len(calls) == 3


def test_a_nonce_is_not_used_up_by_somebody_who_cannot_sign(world: Any) -> None:
    api, (site,) = world.api(), world.sites(1)
    body = cbor.encode({})
    headers = site.headers("/v1/jangin/ack", body, world.now)
    assert api.send("/v1/jangin/ack", headers | {"x-jangin-signature": "00" * 64}, body)[1]["code"] == "JG-server-314"
    assert api.send("/v1/jangin/ack", headers, body)[0] == 200


@pytest.mark.parametrize("changed", ["path", "body", "time", "nonce", "site"])
def test_a_signature_covers_all_of_a_request(world: Any, changed: str) -> None:
    api, (site, _) = world.api(), world.sites(2)
    path, body = "/v1/jangin/ack", cbor.encode({})
    headers = site.headers(path, body, world.now)
    match changed:
        case "path":
            path = "/v1/jangin/campaigns"
        case "body":
            body = cbor.encode({"more": 1})
        case "time":
            headers["x-jangin-time"] = str(int(headers["x-jangin-time"]) + 1)
        case "nonce":
            headers["x-jangin-nonce"] = "0" * 32
        case "site":
            headers["x-jangin-site"] = "site-1"
    status, answer = api.send(path, headers, body)
    assert (status, answer["code"]) == (401, "JG-server-314")


def test_only_active_sites_of_a_roster_in_force_are_known(world: Any) -> None:
    api, stranger, waiting = world.api(), world.site("site-8"), world.enrolled("site-9")
    assert api.ask(stranger, "ack")[1]["code"] == "JG-server-313"
    (site,) = world.sites(1)
    for unknown in (stranger, waiting):
        for what in ALL[1:]:
            status, answer = api.ask(unknown, what)
            assert (status, answer["code"]) == (401, "JG-server-313")
    world.now += timedelta(days=30)
    assert api.ask(site, "ack")[1]["code"] == "JG-server-313"
    world.confirm()
    assert api.ask(site, "ack")[0] == 200


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"method": "GET"}, 405),
        ({"path": "/v1/jangin/sql"}, 404),
        ({"path": "/v1/jangin/ack/"}, 404),
        ({"data": b"\0" * (MOST_BODY_BYTES + 1)}, 413),
        ({"data": b"\xff"}, 400),
        ({"data": b"\x80"}, 400),
        ({"data": cbor.encode({"more": 1})}, 400),
        ({"site": "Site 0"}, 400),
        ({"time": "1e9"}, 400),
        ({"time": "٣"}, 400),
        ({"nonce": "AB" * 16}, 400),
        ({"signature": "no"}, 400),
    ],
)
def test_what_is_not_of_the_agreed_form_is_refused_under_one_code(
    world: Any, change: dict[str, Any], status: int
) -> None:
    (site,) = world.sites(1)
    path, data = change.pop("path", "/v1/jangin/ack"), change.pop("data", cbor.encode({}))
    method = change.pop("method", "POST")
    headers = site.headers(path, data, world.now, **change)
    found, answer = world.api().send(path, headers, data, method)
    assert (found, answer["code"]) == (status, "JG-server-310")
    assert set(answer) == {"code", "message", "hint"}


@pytest.mark.parametrize(
    "body",
    [{"token": 1}, {"identity": "ssh-ed25519 AAAA"}, {"identity": 7}, {"node_key": "no key"}, {"more": True}],
)
def test_an_enrolment_of_another_form_is_refused(world: Any, body: dict[str, Any]) -> None:
    site = world.site("site-0")
    token = world.members.invite("site-0", world.now)
    status, answer = world.api().ask(site, "enroll", **{**site.enrolment(token), **body})
    assert (status, answer["code"]) == (400, "JG-server-310")


def test_a_site_hears_of_the_campaigns_that_invite_it_once_two_people_signed(world: Any, plan: Any) -> None:
    api, (site, other) = world.api(), world.sites(2)
    proposed(world, plan)
    mine = approved(world, plan, campaign="steel-two", **{"sites.invite": ["site-0"], "sites.min_sites": 1})
    status, answer = api.ask(site, "campaigns")
    assert status == 200
    assert (answer["staff"], answer["roster"]) == world.members.documents()
    trust = Trust(world.state.root, answer["staff"], answer["roster"])
    (campaign,) = answer["campaigns"]
    assert (campaign["state"], campaign["approved"]) == ("approved", False)
    assert trust.plan(campaign["plan"], world.now).hash == mine
    assert api.ask(other, "campaigns")[1]["campaigns"] == []


def test_a_sites_approval_is_kept_and_may_come_again(world: Any, plan: Any) -> None:
    api, (site, _) = world.api(), world.sites(2)
    campaign = approved(world, plan)
    for _ in range(2):
        approval = site.approval(campaign, world.now)
        assert api.ask(site, "approve", approval=approval) == (200, {"approved": True})
    assert world.store.approvals(campaign) == {"site-0": approval}
    assert api.ask(site, "campaigns")[1]["campaigns"][0]["approved"] is True


def test_an_approval_that_is_not_this_sites_own_is_refused(world: Any, plan: Any) -> None:
    api, (site, other) = world.api(), world.sites(2)
    campaign = approved(world, plan)
    unsigned = proposed(world, plan, campaign="steel-two")
    elsewhere = approved(world, plan, campaign="steel-three", **{"sites.invite": ["site-1"], "sites.min_sites": 1})
    forged = type(site)("site-0", other.identity, other.node)
    for envelope, code in (
        (other.approval(campaign, world.now), "JG-server-102"),
        (forged.approval(campaign, world.now), "JG-server-102"),
        (site.approval(unsigned, world.now), "JG-server-317"),
        (site.approval(elsewhere, world.now), "JG-server-317"),
        (site.approval("00" * 32, world.now), "JG-server-317"),
    ):
        status, answer = api.ask(site, "approve", approval=envelope)
        assert (status, answer["code"]) == (403, code)
    assert api.ask(site, "approve", approval=b"{}")[1]["code"] == "JG-server-310"
    assert world.store.approvals(campaign) == {}


def test_polls_are_paced_by_what_runs_and_by_how_many_ask(world: Any, plan: Any) -> None:
    api, sites = world.api(idle_poll_s=5.0), world.sites(3)
    campaign = approved(world, plan)
    assert api.ask(sites[0], "ack") == (200, {"next_poll_s": 5.0})
    for site in sites[:2]:
        api.ask(site, "approve", approval=site.approval(campaign, world.now))
    assert api.ask(sites[0], "ack")[1] == {"next_poll_s": 5.0}
    campaigns.start(world.store, world.members, campaign, world.now)
    assert api.ask(sites[0], "ack")[1] == {"next_poll_s": 0.2}
    assert api.ask(sites[2], "ack")[1] == {"next_poll_s": 5.0}
    assert world.api(idle_poll_s=0.01).ask(sites[2], "ack")[1] == {"next_poll_s": 1 / 60}


def test_over_asgi_a_body_in_pieces_is_one_request_and_an_endless_one_is_cut(world: Any) -> None:
    (site,) = world.sites(1)
    app: SiteApi = world.api().api
    body = cbor.encode({})

    def asked(pieces: list[bytes]) -> list[dict[str, Any]]:
        headers = site.headers("/v1/jangin/ack", body, world.now)
        scope = {"type": "http", "method": "POST", "path": "/v1/jangin/ack"}
        scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]
        left, sent = list(pieces), []

        async def receive() -> dict[str, Any]:
            piece = left.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(left)}

        async def send(event: dict[str, Any]) -> None:
            sent.append(event)

        asyncio.run(app(scope, receive, send))
        return sent

    start, end = asked([body[:1], body[1:], b""])
    assert (start["status"], cbor.decode(end["body"])) == (200, {"next_poll_s": 5.0})
    start, end = asked([b"\0" * MOST_BODY_BYTES] * 100)
    assert (start["status"], dict(start["headers"])[b"connection"]) == (413, b"close")


def committed(site: Any, now: Any, entries: int, head: str = "a", name: str = "", key: Any = None) -> bytes:
    document = Commitment(issued=now.replace(microsecond=0), site=name or site.name, entries=entries, head=head * 64)
    return seal(Kind.COMMITMENT, document.payload, key or site.identity)


def test_a_ledger_goes_on_from_what_its_site_committed_to_and_never_back(world: Any) -> None:
    api, (site, other) = world.api(), world.sites(2)
    assert api.ask(site, "campaigns")[1]["commitment"] is None
    for entries, head in ((3, "a"), (3, "a"), (7, "b")):
        envelope = committed(site, world.now, entries, head)
        assert api.ask(site, "commit", commitment=envelope) == (200, {"committed": True})
    for entries, head in ((6, "c"), (7, "a"), (0, "a")):
        status, answer = api.ask(site, "commit", commitment=committed(site, world.now, entries, head))
        assert (status, answer["code"]) == (403, "JG-server-319")
    assert api.ask(site, "campaigns")[1]["commitment"] == envelope
    assert api.ask(other, "campaigns")[1]["commitment"] is None


def test_only_a_site_commits_to_its_ledger(world: Any) -> None:
    api, (site, other) = world.api(), world.sites(2)
    wrong = [
        committed(site, world.now, 3, key=other.identity),
        committed(site, world.now, 3, name="site-1"),
        seal(Kind.APPROVAL, b"x", site.identity),
        b"x",
    ]
    for envelope in wrong:
        status, answer = api.ask(site, "commit", commitment=envelope)
        assert (status, answer["code"]) == (400, "JG-server-310")
    assert api.ask(site, "campaigns")[1]["commitment"] is None


def test_requests_that_wait_for_the_database_take_nobody_elses_threads(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, free = world.api().api, threading.Event()

    def answer(*_: object) -> tuple[int, bytes]:
        free.wait(20)
        return 200, b""

    monkeypatch.setattr(app, "answer", answer)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(_: dict[str, Any]) -> None:
        return None

    async def scene() -> bool:
        scope = {"type": "http", "method": "POST", "path": "/v1/jangin/commit", "headers": []}
        waiting = [asyncio.create_task(app(scope, receive, send)) for _ in range(100)]
        try:
            return await asyncio.wait_for(asyncio.to_thread(lambda: True), 10)
        finally:
            free.set()
            await asyncio.gather(*waiting)

    assert asyncio.run(scene())
