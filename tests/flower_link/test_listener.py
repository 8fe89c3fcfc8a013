"""Laws of the one listener: strangers have little of it, and what they take no site goes without."""

import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.superlink.routers.fleet.node_auth import authenticate_node
from starlette.exceptions import HTTPException
from starlette.requests import Request

from jangin.codec import cbor
from jangin.flower_link.bounds import CALLER, Bounds, Rate
from jangin.flower_link.link import EmbeddedLink, _key, _signed
from jangin.flower_link.site import SiteLink
from jangin.flower_link.wire import Wire

HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


@contextmanager
def listening(keys: Any, site_api: Any = None, **bounds: Any) -> Iterator[EmbeddedLink]:
    with EmbeddedLink(keys.certificate, keys.key, site_api=site_api, bounds=Bounds(**bounds)) as link:
        yield link


@contextmanager
def a_site(link: EmbeddedLink, keys: Any, name: str = "site-0") -> Iterator[SiteLink]:
    key = ec.generate_private_key(ec.SECP384R1())
    link.register(name, key.public_key())
    with SiteLink(f"127.0.0.1:{link.port}", key, keys.roots.read_bytes(), timeout_seconds=5, retries=0) as site:
        yield site


@contextmanager
def a_stranger(link: EmbeddedLink, keys: Any) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=keys.roots)
    plain = socket.create_connection(("127.0.0.1", link.port), 10)
    with plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        yield connection


def asked(link: EmbeddedLink, keys: Any, request: bytes = HEALTH) -> tuple[int, dict[str, str], bytes]:
    with a_stranger(link, keys) as connection:
        connection.sendall(request)
        head, _, body = read(connection).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


def read(connection: socket.socket) -> bytes:
    """All of one answer, or until the other end closes."""
    got = b""
    while b"\r\n\r\n" not in got or len(got.split(b"\r\n\r\n", 1)[1]) < length(got):
        piece = connection.recv(65_536)
        if not piece:
            break
        got += piece
    return got


def length(answer: bytes) -> int:
    lines = answer.lower().split(b"\r\n\r\n")[0].split(b"\r\n")
    return next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)


def ended(connection: socket.socket) -> bool:
    """Whether the other end closes within the socket's patience."""
    try:
        while connection.recv(65_536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def post(path: str, **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-length: 1", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", "x"]).encode()


def test_a_flood_from_a_sites_own_address_is_turned_away_and_the_site_is_not(keys: Any) -> None:
    with listening(keys, requests=Rate(5, 0.001)) as link, a_site(link, keys) as site:
        statuses = []
        for _ in range(12):
            status, headers, body = asked(link, keys)
            statuses.append(status)
            if status == 429:
                assert int(headers["retry-after"]) > 0
                assert (headers["connection"], body) == ("close", b"")
            assert site.receive() is None
        assert statuses == [200] * 5 + [429] * 7


def test_our_own_api_says_in_its_form_why_it_turns_somebody_away(keys: Any) -> None:
    seen = []

    async def site_api(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])
        if b"good" in dict(scope["headers"]).get(b"x-signed", b""):
            scope["extensions"][CALLER].vouch()
        status = 200 if scope["path"].endswith("ack") else 403
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    bounds = {"requests": Rate(3, 0.001), "enrolments": Rate(2, 0.001), "forgeries": Rate(2, 0.001)}
    with listening(keys, site_api, **bounds, signed=Rate(4, 0.001)) as link:
        link.register("site-0", ec.generate_private_key(ec.SECP384R1()).public_key())
        link.register("site-1", ec.generate_private_key(ec.SECP384R1()).public_key())
        ack, enroll, mine = "/v1/jangin/ack", "/v1/jangin/enroll", {"x-jangin-site": "site-0"}

        def codes(times: int, path: str, **headers: str) -> list[str]:
            found = []
            for _ in range(times):
                status, _, body = asked(link, keys, post(path, **headers))
                found.append(cbor.decode(body)["code"] if status == 429 else str(status))
            return found

        assert codes(3, enroll) == ["403", "403", "JG-server-491"]
        assert codes(6, ack, **mine, **{"x-signed": "good"}) == ["200"] * 4 + ["JG-server-492"] * 2
        assert codes(3, ack, **{"x-jangin-site": "site-1"}) == ["200", "200", "JG-server-490"]
        assert codes(3, ack, **{"x-jangin-site": "nobody"}) == ["200", "JG-server-490", "JG-server-490"]
        assert len(seen) == 2 + 4 + 2 + 1  # whoever is turned away never reaches it


def test_a_stranger_has_its_seconds_however_slowly_it_sends(keys: Any) -> None:
    with listening(keys, stranger_seconds=0.3) as link, a_site(link, keys) as site, ExitStack() as stack:
        silent = stack.enter_context(socket.create_connection(("127.0.0.1", link.port), 10))
        begun, halfway, bodyless = (stack.enter_context(a_stranger(link, keys)) for _ in range(3))
        halfway.sendall(b"POST /v1/jangin/enroll HTTP/1.1\r\nhost:")
        bodyless.sendall(b"POST /v1/jangin/enroll HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\nx")
        for connection in (silent, begun, halfway, bodyless):
            assert ended(connection)
        assert site.receive() is None  # whose connection is older than any of these


def test_a_head_that_does_not_end_is_cut(keys: Any) -> None:
    head = b"GET /health HTTP/1.1\r\n" + (b"x-more: " + b"y" * 10_000 + b"\r\n") * 1000
    with listening(keys) as link, a_stranger(link, keys) as connection, pytest.raises(OSError):  # noqa: PT011
        connection.sendall(head)


def test_one_request_after_another(keys: Any) -> None:
    with listening(keys) as link, a_stranger(link, keys) as connection:
        connection.sendall(HEALTH * 50)
        assert ended(connection)


def test_the_newest_stranger_drives_out_the_oldest_and_no_site(keys: Any) -> None:
    with listening(keys, strangers=3) as link, a_site(link, keys) as site, ExitStack() as stack:
        first = stack.enter_context(a_stranger(link, keys))
        later = [stack.enter_context(a_stranger(link, keys)) for _ in range(3)]
        assert ended(first)
        assert site.receive() is None
        for connection in later[1:]:
            connection.sendall(HEALTH)
            assert read(connection).startswith(b"HTTP/1.1 200")


def test_who_connects_too_often_is_closed_before_tls_and_sites_do_not_count(keys: Any) -> None:
    with listening(keys, connections=Rate(4, 0.001)) as link:
        for number in range(6):
            with a_site(link, keys, f"site-{number}") as site:
                assert site.receive() is None
        for _ in range(4):
            assert asked(link, keys)[0] == 200
        with pytest.raises(OSError), a_stranger(link, keys):  # noqa: PT011 - reset or closed, as it comes
            pass


def stamped(key: ec.EllipticCurvePrivateKey, ahead: float = 0.0) -> dict[str, str]:
    stamp = (datetime.now(UTC) + timedelta(seconds=ahead)).isoformat()
    return {
        "flwr-public-key": b64encode(public_key_to_bytes(key.public_key())).decode(),
        "flwr-timestamp": stamp,
        "flwr-signature": b64encode(sign_message(key, stamp.encode())).decode(),
    }


def test_a_sites_connections_are_bounded_and_the_newest_count(keys: Any) -> None:
    with listening(keys, connections_of_a_site=2) as link, ExitStack() as stack:
        key = ec.generate_private_key(ec.SECP384R1())
        link.register("site-0", key.public_key())
        held = [stack.enter_context(a_stranger(link, keys)) for _ in range(3)]
        for connection in held:
            connection.sendall(post("/v1/fleet/pull-messages", **stamped(key)))
            assert read(connection).startswith(b"HTTP/1.1 400")  # signed well, and no protobuf
        assert ended(held[0])
        for connection in held[1:]:
            connection.sendall(post("/v1/fleet/pull-messages", **stamped(key)))
            assert read(connection).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("ahead", [-306, -304, 0, 4, 6])
@pytest.mark.parametrize("changed", ["", "flwr-public-key", "flwr-timestamp", "flwr-signature"])
def test_a_signature_counts_here_exactly_where_flower_counts_it(
    ahead: float, changed: str, new_key: Callable[[], ec.EllipticCurvePrivateKey]
) -> None:
    key = new_key()
    for value in ("", "x", "2026-11-21", stamped(new_key())[changed] if changed else ""):
        named = stamped(key, ahead) | ({changed: value} if changed else {})
        headers = {name.encode(): text.encode() for name, text in named.items()}
        request = Request({"type": "http", "headers": list(headers.items())})
        request.state.protobuf_request = ActivateNodeRequest(public_key=_key(headers))
        try:
            authenticate_node(request)
            theirs = True
        except HTTPException:
            theirs = False
        assert _signed(headers) is theirs


@pytest.mark.parametrize("made", [ed25519.Ed25519PrivateKey.generate, x25519.X25519PrivateKey.generate])
def test_a_key_of_another_kind_is_no_key(made: Callable[[], Any]) -> None:
    text = made().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    named = stamped(ec.generate_private_key(ec.SECP384R1())) | {"flwr-public-key": b64encode(text).decode()}
    assert _signed({name.encode(): value.encode() for name, value in named.items()}) is False


def test_a_large_part_is_written_as_its_reader_takes_it_and_kept_once(keys: Any) -> None:
    vector = np.arange(3_000_000, dtype=np.float32)
    with listening(keys) as link, a_site(link, keys) as site:
        run = link.open_run("c")
        run.push("site-0", Wire("train", "c", 0, b"", vector))
        incoming = site.receive()
        assert incoming is not None
        np.testing.assert_array_equal(incoming.wire.vector, vector)


@pytest.mark.parametrize("size", [1_000, 2_000_000])
def test_a_connection_that_carried_much_is_closed_when_its_site_rests(size: int, keys: Any) -> None:
    with listening(keys) as link:
        key = ec.generate_private_key(ec.SECP384R1())
        link.register("site-0", key.public_key())
        with a_stranger(link, keys) as connection:
            part = post("/v1/fleet/push-object", **stamped(key))
            connection.sendall(part.replace(b"content-length: 1", b"content-length: %d" % size) + b"\xff" * (size - 1))
            assert read(connection).startswith(b"HTTP/1.1 400")  # signed well, and no protobuf
            connection.sendall(post("/v1/fleet/pull-messages", **stamped(key)))
            assert (b"connection: close" in read(connection)) == (size > 2**20)
            if size > 2**20:
                assert ended(connection)


def test_large_replies_come_one_at_a_look(keys: Any) -> None:
    vector = np.arange(2**23, dtype=np.float32)  # 32 MiB, all of them different: like parts travel once
    with listening(keys) as link, a_site(link, keys) as site, a_site(link, keys, "site-1") as other:
        run = link.open_run("c")
        asked = [run.push(name, Wire("train", "c", 0)) for name in ("site-0", "site-1")]
        for one in (site, other):
            incoming = one.receive()
            assert incoming is not None
            one.reply(incoming, Wire("train", "c", 0, b"", vector))
        (first,) = run.pull(asked)
        (second,) = run.pull([message for message in asked if message != first.message])
        assert {first.site, second.site} == {"site-0", "site-1"}
