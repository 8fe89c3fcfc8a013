"""Laws of the operators' API, over real gRPC: a person by certificate, TLS 1.3, bounds, and no body that breaks it."""

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from operating import Person, run

from jangin.codec import cbor
from jangin.errors import JanginError, ServerError
from jangin.server import desk, shelf
from jangin.server.audit import Note
from jangin.server.life import Act
from jangin.server.office import Office
from jangin.server.operators import SERVICE, Bounds, Operators
from jangin.server.passes import PassFolder, authority, issue_pass
from jangin.server.roles import Right
from jangin.server.store import RehearsalEntry
from jangin.trust.certificates import Certificate, issue_person, make_authority

DAY = timedelta(days=1)
QUICK = Bounds(burst=10_000, look_s=0.05, alive_s=0.2, stalled_s=0.3, watchers=3, watchers_each=2)


@dataclass
class Offices:
    """A listener, and people's folders for it."""

    world: Any
    operators: Operators
    stack: ExitStack
    folder: Path

    def pass_of(self, person: str) -> Path:
        out = self.folder / f"pass-{person}"
        if not out.exists():
            world = self.world
            issue_pass(world.state, world.members, person, out, self.operators.address, lambda: world.now)
        return out

    def desk(self, person: str) -> desk.Desk:
        return self.stack.enter_context(desk.opened(self.pass_of(person)))

    def channel(self, own: Certificate | None, **options: Any) -> Any:
        world = self.world
        pair = (None, None) if own is None else (own.key, own.chain)
        credentials = grpc.ssl_channel_credentials(world.state.authority.read_bytes(), *pair)
        channel = grpc.secure_channel(self.operators.address, credentials, list(options.items()))
        self.stack.callback(channel.close)
        return channel

    def own(self, person: str) -> Certificate:
        return PassFolder.open(self.pass_of(person), self.world.now).own


@pytest.fixture
def listen(world: Any, tmp_path: Path) -> Iterator[Callable[..., Offices]]:
    with ExitStack() as stack:

        def made(bounds: Bounds = QUICK) -> Offices:
            office = Office(world.state, world.store, world.members, refuse=lambda plan: None, clock=lambda: world.now)
            operators = Operators(office, "127.0.0.1", 0, clock=lambda: world.now, bounds=bounds)
            return Offices(world, stack.enter_context(operators), stack, tmp_path)

        yield made


@pytest.fixture
def offices(listen: Callable[..., Offices]) -> Offices:
    return listen()


def test_acts_and_questions_reach_the_office_in_the_person_s_name(offices: Offices, world: Any, plan: Any) -> None:
    campaign = world.propose(plan())
    operator, approver, auditor = (offices.desk(name) for name in ("operator", "approver", "auditor"))
    proposed = desk.proposal(approver, campaign, world.now)
    assert (proposed.plan, proposed.operator) == (plan(), "operator")
    envelope = desk.sign_approval(approver, proposed, world.keys["approver"], world.now)
    with pytest.raises(ServerError, match=r"JG-server-403 operator may not approve: .*operator, .*approver"):
        operator.act(Right.APPROVE, campaign, key=world.keys["operator"], attachment=envelope)
    with pytest.raises(ServerError, match=r"JG-server-405 The command is by approver, .*auditor"):
        auditor.act(Right.APPROVE, campaign, key=world.keys["approver"], attachment=envelope)
    with pytest.raises(ServerError, match="JG-server-416"):
        operator.act(Right.STOP, campaign)
    done = approver.act(Right.APPROVE, campaign, key=world.keys["approver"], attachment=envelope)
    assert done == {"campaign": campaign, "state": "approved"}
    (status,) = desk.statuses(auditor)
    assert (status.hash, status.state, list(status.invited)) == (campaign, "approved", list(plan().sites.invite))
    assert desk.export(auditor, offices.folder / "log").campaigns == {campaign: "approved"}


def test_models_and_rehearsals_are_led_by_the_commands_from_afar(offices: Offices, world: Any, plan: Any) -> None:
    names = ("operator", "approver", "both", "evaluator", "auditor", "observer")
    people = {name: Person(offices.pass_of(name), world.key(name), run) for name in names}
    line, made = "national-bof-blow", plan(kpi={"name": "reject_rate", "baseline": 0.081})
    campaign = world.learnt(made, "site-0", "site-1", proposer="both")
    world.registry.register(campaign, world.now)
    for act in ("list", "show"):
        with pytest.raises(ServerError, match="JG-server-403 observer may not models"):
            people["observer"].ask("model", act, *[line][: act == "show"])
    (listed,) = people["auditor"].ask("model", "list", "--influence", "site-1")["models"]
    assert people["auditor"].ask("model", "show", line)["statement"]["privacy_loss"] == "NO DIFFERENTIAL PRIVACY"
    for person, code in (("operator", "JG-site-117"), ("both", "JG-site-118"), ("auditor", "JG-site-117")):
        with pytest.raises(JanginError, match=code):
            people[person]("model", "release", line)
    released = people["approver"]("model", "release", line)
    assert (released["hash"], released["state"], released["aliases"]) == (listed["hash"], "released", ["national"])
    measured = people["evaluator"]("campaign", "measure", campaign[:8], 0.074, "--note", "line 2")
    assert (measured["value"], measured["baseline"], measured["person"]) == (0.074, 0.081, "evaluator")
    gone = people["operator"]("model", "withdraw", f"{line}@1", "--reason", "it fails on thin plates")
    assert (gone["state"], gone["aliases"]) == ("withdrawn", [])
    (site, *_), rehearsed = world.sites(3), world.propose(plan(seed=9))
    world.store.move(rehearsed, Act.APPROVE)
    world.store.approve(rehearsed, site.name, site.approval(rehearsed, world.now))
    with pytest.raises(ServerError, match="JG-server-403 auditor may not rehearse"):
        people["auditor"]("campaign", "rehearse", rehearsed[:8])
    assert people["operator"]("campaign", "rehearse", rehearsed[:8], "--no-wait")["rehearsal"] == 1
    entry = RehearsalEntry(1, True, ["site-0"], ["site-2"], {"site-1": "local"}, {}, [], seconds=2.5)
    world.store.record_rehearsal(rehearsed, entry)
    assert shelf.rehearsal(offices.desk("auditor"), rehearsed, 1) == entry
    acts = [(link.entry.act, link.entry.actor, bool(link.entry.document)) for link in world.store.database.audit()]
    for signed in (
        ("release", "approver"),
        ("measure", "evaluator"),
        ("withdraw", "operator"),
        ("rehearse", "operator"),
    ):
        assert (*signed, True) in acts


def test_a_folder_is_for_one_server(offices: Offices, world: Any) -> None:
    at = offices.desk("operator")
    file = offices.pass_of("auditor") / "operator.yaml"
    file.write_text(file.read_text().replace(at.fingerprint, "AAAA-AAAA-AAAA-AAAA-AAAA"))
    with pytest.raises(ServerError, match="JG-server-401"):
        desk.export(offices.desk("auditor"), offices.folder / "log")
    with pytest.raises(ServerError, match="JG-server-401"):
        offices.desk("auditor").act(Right.INVITE, "site-1", key=world.keys["operator"])
    assert not (offices.folder / "log").exists()


def strangers(world: Any) -> dict[str, Certificate | None]:
    """Certificates that do not count."""
    ours, start = authority(world.state, world.now), world.now - DAY / 24
    site_authority = make_authority("jangin operators", start, world.now + DAY)
    return {
        "none": None,
        "another authority's": issue_person(site_authority, "operator", start, world.now + DAY),
        "expired": issue_person(backdated(ours, world), "operator", world.now - 3 * DAY, world.now - DAY),
    }


def backdated(ours: Certificate, world: Any) -> Certificate:
    """The same authority's key under a certificate that began earlier, so that it can give an expired one."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA384
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

    held = x509.load_pem_x509_certificate(ours.chain)
    key: Any = load_pem_private_key(ours.key, None)
    builder = x509.CertificateBuilder(held.issuer, held.subject, key.public_key(), 7)
    builder = builder.not_valid_before(world.now - 9 * DAY).not_valid_after(world.now + DAY)
    chain = builder.sign(key, SHA384()).public_bytes(Encoding.PEM)
    return Certificate(chain, ours.key)


def test_who_has_no_certificate_in_force_is_not_heard(offices: Offices, world: Any) -> None:
    for name, own in strangers(world).items():
        call = offices.channel(own).unary_unary(f"/{SERVICE}/Ask")
        with pytest.raises(grpc.RpcError) as refused:
            call(cbor.encode({"what": "members", "arguments": {}}), timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE, name
    late = issue_person(
        backdated(authority(world.state, world.now), world), "operator", world.now - 3 * DAY, world.now + DAY / 2
    )
    answer = offices.channel(late).unary_unary(f"/{SERVICE}/Ask")(cbor.encode({"what": "members", "arguments": {}}))
    assert "answer" in cbor.decode(answer)  # so the expired one was refused for its time


def test_a_certificate_that_expires_on_an_open_connection_counts_no_more(offices: Offices, world: Any) -> None:
    at = offices.desk("auditor")
    at.ask("members")
    world.now += timedelta(days=91)
    with pytest.raises(ServerError, match="JG-server-407 The certificate of auditor"):
        at.ask("members")
    with pytest.raises(ServerError, match="JG-server-407"):
        PassFolder.open(offices.pass_of("auditor"), world.now)


def test_nothing_older_than_tls_1_3_is_answered(offices: Offices, world: Any, tmp_path: Path) -> None:
    own = offices.own("auditor")
    both = tmp_path / "both.pem"
    both.write_bytes(own.chain + own.key)
    host, _, port = offices.operators.address.partition(":")
    context = ssl.create_default_context(cafile=str(world.state.authority))
    context.load_cert_chain(both)
    context.set_alpn_protocols(["h2"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        assert secure.version() == "TLSv1.2"  # gRPC speaks it; the call over it is refused by code
        answer = over_http2(secure, "Ask", cbor.encode({"what": "members", "arguments": {}}))
    assert b"JG-server-420" in answer


def over_http2(line: ssl.SSLSocket, method: str, body: bytes) -> bytes:
    """One call in the frames of RFC 9113, all headers as literals; what comes back until the stream ends."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    def literal(name: str, value: str) -> bytes:
        return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()

    path = f"/{SERVICE}/{method}"
    headers = {":method": "POST", ":scheme": "https", ":path": path, ":authority": "a", "te": "trailers"}
    headers["content-type"] = "application/grpc"
    block = b"".join(literal(*pair) for pair in headers.items())
    message = b"\0" + len(body).to_bytes(4, "big") + body
    line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
    line.sendall(frame(1, 4, 1, block) + frame(0, 1, 1, message))
    given = b""
    while b"JG-" not in given and (more := line.recv(65_536)):
        given += more
    return given


def test_one_person_may_not_ask_without_end(listen: Callable[..., Offices]) -> None:
    offices = listen(Bounds(burst=3, per_second=0.001))
    at, other = offices.desk("auditor"), offices.desk("operator")
    for _ in range(3):
        at.ask("members")
    with pytest.raises(ServerError, match="JG-server-412 auditor asks"):
        at.ask("members")
    other.ask("members")


def test_a_message_that_is_too_large_is_not_taken(offices: Offices) -> None:
    call = offices.channel(offices.own("operator")).unary_unary(f"/{SERVICE}/Act")
    with pytest.raises(grpc.RpcError) as refused:
        call(bytes(5 * 2**20), timeout=10)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_health_is_told_by_grpc_s_own_protocol(offices: Offices) -> None:
    channel = offices.channel(offices.own("auditor"))
    asked = health_pb2.HealthCheckRequest(service=SERVICE).SerializeToString()
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    read = health_pb2.HealthCheckResponse
    assert read.FromString(check(asked, timeout=10)).status == read.SERVING
    stream = channel.unary_stream("/grpc.health.v1.Health/Watch")(asked, timeout=10)
    assert read.FromString(next(stream)).status == read.SERVING
    stream.cancel()


def test_a_watch_tells_what_happens_keeps_alive_and_ends_with_the_campaign(
    offices: Offices, world: Any, plan: Any
) -> None:
    campaign = world.propose(plan())
    raw = offices.channel(offices.own("observer")).unary_stream(f"/{SERVICE}/Watch")
    stream = raw(cbor.encode({"campaign": campaign, "after": 0}), timeout=20)
    told = [cbor.decode(next(stream)) for _ in range(4)]
    assert told[0] == {"at": 0}
    assert [one["event"]["act"] for one in told[1:3]] == ["draft", "propose"]
    assert told[3] == {"alive": world.store.database.audit_head()[0]}
    world.store.move(campaign, Act.ABORT, actor="operator", reason="enough")
    rest = [one for one in map(cbor.decode, stream) if "alive" not in one]
    assert [next(iter(one)) for one in rest] == ["event", "end"]
    assert (rest[0]["event"]["state"], rest[0]["event"]["actor"]) == ("aborted", "operator")


def test_a_desk_s_watch_gives_the_events_and_nothing_else(offices: Offices, world: Any, plan: Any) -> None:
    campaign = world.propose(plan())
    seen, begun = list[dict[str, Any]](), threading.Event()

    def watch() -> None:
        for event in offices.desk("auditor").watch(campaign):
            seen.append(event)
            begun.set()

    watching = threading.Thread(target=watch)
    watching.start()
    while not begun.wait(0.05):
        world.store.approve(campaign, "site-0", b"yes")
    world.store.move(campaign, Act.ABORT)
    watching.join(20)
    assert not watching.is_alive()
    assert {event["act"] for event in seen[:-1]} == {"consent"}
    assert seen[-1]["state"] == "aborted"


def test_watchers_are_bounded_in_all_and_for_each_person(offices: Offices) -> None:
    watch = offices.channel(offices.own("auditor")).unary_stream(f"/{SERVICE}/Watch")
    other = offices.channel(offices.own("operator")).unary_stream(f"/{SERVICE}/Watch")
    held = [watch(b"\xa0", timeout=20) for _ in range(2)]
    assert all("at" in cbor.decode(next(stream)) for stream in held)
    assert cbor.decode(next(watch(b"\xa0", timeout=20)))["refused"]["code"] == "JG-server-413"
    held.append(other(b"\xa0", timeout=20))
    assert "at" in cbor.decode(next(held[-1]))
    assert cbor.decode(next(other(b"\xa0", timeout=20)))["refused"]["code"] == "JG-server-413"
    for stream in held:
        stream.cancel()


def test_a_watcher_that_does_not_read_is_dropped_and_holds_up_nobody(
    offices: Offices, world: Any, eventually: Any
) -> None:
    small = {"grpc.http2.lookahead_bytes": 1024, "grpc.http2.bdp_probe": 0}
    watch = offices.channel(offices.own("auditor"), **small).unary_stream(f"/{SERVICE}/Watch")
    stuck = watch(cbor.encode({"after": 0}), timeout=60)
    assert cbor.decode(next(stuck)) == {"at": 0}
    with world.store.database.writing() as database:
        for number in range(300):
            database.note(Note("campaign", f"{number:064x}", "consent", detail={"text": "x" * 5000}))
    assert eventually(lambda: not offices.operators._watchers, seconds=20)
    offices.desk("operator").ask("members")
    with pytest.raises(grpc.RpcError) as dropped:
        list(stuck)
    assert dropped.value.code() is grpc.StatusCode.CANCELLED


def test_a_listener_that_stops_tells_its_watchers(world: Any, listen: Callable[..., Offices]) -> None:
    offices = listen()
    stream = offices.channel(offices.own("auditor")).unary_stream(f"/{SERVICE}/Watch")(b"\xa0", timeout=20)
    assert "at" in cbor.decode(next(stream))
    offices.operators.__exit__(None, None, None)
    assert [one for one in map(cbor.decode, stream) if "alive" not in one] == [{"end": "stopping"}]
    with pytest.raises(ServerError, match="JG-server-410"):
        offices.desk("operator").ask("members")


def test_a_port_that_is_taken_is_a_coded_end(offices: Offices, world: Any) -> None:
    host, _, port = offices.operators.address.partition(":")
    with pytest.raises(ServerError, match="JG-server-414"):
        Operators(Office(world.state, world.store, world.members), host, int(port))


def test_a_folder_is_made_for_people_of_the_staff_list_alone(offices: Offices, world: Any) -> None:
    folder = offices.pass_of("auditor")
    assert {file.name for file in folder.iterdir()} == {"operator.yaml", "ca.crt", "root.pub", "tls.crt", "tls.key"}
    assert os.stat(folder / "tls.key").st_mode & 0o777 == 0o600

    def made(person: str, out: Path) -> None:
        issue_pass(world.state, world.members, person, out, "127.0.0.1:1", lambda: world.now)

    with pytest.raises(ServerError, match="JG-server-415"):
        made("nobody", offices.folder / "nobody")
    with pytest.raises(ServerError, match="JG-server-302"):
        made("auditor", folder)
    with pytest.raises(ServerError, match="JG-server-351"):
        made("auditor", folder / "tls.crt" / "below")
    assert not (offices.folder / "nobody").exists()


BODIES = st.binary(max_size=60) | st.builds(
    cbor.encode,
    st.dictionaries(
        st.sampled_from(["command", "attachment", "what", "arguments", "campaign", "after", "x"]),
        st.none()
        | st.integers(-(2**60), 2**60)
        | st.binary(max_size=40)
        | st.sampled_from(["members", "audit", "plan", "", "0" * 64])
        | st.dictionaries(
            st.sampled_from(["after", "upto", "campaign", "confirm"]),
            st.integers(-5, 2**64 - 1) | st.text(max_size=64) | st.lists(st.text(max_size=9), max_size=3),
            max_size=3,
        ),
        max_size=4,
    ),
)


@pytest.mark.fuzz
def test_no_body_breaks_a_call(offices: Offices) -> None:
    channel = offices.channel(offices.own("operator"))
    calls = [channel.unary_unary(f"/{SERVICE}/{name}") for name in ("Act", "Ask")]
    watch = channel.unary_stream(f"/{SERVICE}/Watch")

    @given(BODIES)
    @settings(suppress_health_check=[HealthCheck.too_slow])
    def tried(body: bytes) -> None:
        for call in calls:
            told = cbor.decode(call(body, timeout=10))
            assert set(told) in ({"answer"}, {"refused"})
            assert told.get("refused", {}).get("code") != "JG-sim-900"
        stream = watch(body, timeout=10)
        first = cbor.decode(next(stream))
        stream.cancel()
        assert set(first) <= {"at", "refused"}
        assert first.get("refused", {}).get("code") != "JG-sim-900"

    tried()


def test_a_bug_is_told_as_one_and_never_in_its_own_words(
    offices: Offices, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(Office, "ask", broken)
    with pytest.raises(JanginError, match="JG-sim-900") as told:
        offices.desk("auditor").ask("members")
    assert "secret" not in str(told.value)
    assert "A call ended by a bug." in caplog.text
