"""Laws of a site's connection: every wait is bounded, every end is an exception with its code."""

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.supernode.fleet_http_client import FleetHttpClient

from jangin.errors import LinkError
from jangin.flower_link.link import EmbeddedLink
from jangin.flower_link.site import SiteLink
from jangin.flower_link.wire import Wire


class Clock:
    """The true time, and how often it was asked for: once a request."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> datetime:
        self.asked += 1
        return datetime.now(UTC)


def connect(port: int, keys: Any, **settings: Any) -> SiteLink:
    settings = {"timeout_seconds": 5, "retries": 2, "backoff_seconds": 0.01} | settings
    key = settings.pop("key", None) or ec.generate_private_key(ec.SECP384R1())
    return SiteLink(f"127.0.0.1:{port}", key, keys.roots.read_bytes(), **settings)


@pytest.fixture
def site(link: EmbeddedLink, keys: Any) -> Iterator[SiteLink]:
    key = ec.generate_private_key(ec.SECP384R1())
    link.register("site-0", key.public_key())
    with connect(link.port, keys, key=key) as site:
        yield site


class Answering:
    """Before Flower's app: answers the first requests itself."""

    def __init__(self, link: EmbeddedLink, status: int, times: int, body: bytes = b"") -> None:
        self.flower, self.status, self.left, self.body = link._gate._flower, status, times, body
        link._gate._flower = self

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.left == 0:
            await self.flower(scope, receive, send)
            return
        self.left -= 1
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": self.body})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_where_nobody_listens_it_tries_as_often_as_it_may_and_says_so(keys: Any) -> None:
    clock = Clock()
    with pytest.raises(LinkError, match=r"JG-site-201.*no connection"):
        connect(free_port(), keys, clock=clock).__enter__()
    assert clock.asked == 3


def test_a_server_that_never_speaks_is_left_in_time(keys: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(LinkError, match=r"JG-site-201.*not in time"):
        connect(mute.getsockname()[1], keys, timeout_seconds=0.1, retries=1).__enter__()


def test_a_server_without_tls_is_no_server(keys: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        plain.settimeout(5)

        def answer() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(LinkError, match="JG-site-202"):
            connect(plain.getsockname()[1], keys).__enter__()
        answering.join()


def test_an_address_that_is_none_is_said_to_be_one_that_does_not_answer(keys: Any) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(LinkError, match="JG-site-201"):
        SiteLink("127.0.0.1:port", key, keys.roots.read_bytes(), retries=0).__enter__()


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_busy_server_is_asked_again(link: EmbeddedLink, site: SiteLink, status: int) -> None:
    passing = Answering(link, status, times=2)
    assert site.receive() is None
    assert passing.left == 0


@pytest.mark.parametrize(
    ("status", "body", "code", "asked"),
    [
        (503, b"", "JG-site-207.*503", 3),
        (404, b"", "JG-site-207.*404", 1),
        (200, b"<html>", "JG-site-207.*unreadable", 1),
        (401, b"", "JG-site-206", 1),
        (403, b"", "JG-site-208", 1),
    ],
)
def test_an_answer_that_stays_wrong_has_its_code(
    link: EmbeddedLink, site: SiteLink, status: int, body: bytes, code: str, asked: int
) -> None:
    wrong = Answering(link, status, times=3, body=body)
    with pytest.raises(LinkError, match=code):
        site.receive()
    assert wrong.left == 3 - asked


def test_a_refused_key_interrupts_nobody(link: EmbeddedLink, keys: Any) -> None:
    # Flower's own connection sends its process SIGINT, and ends it after 5 s.
    with pytest.raises(LinkError, match="JG-site-203"):
        connect(link.port, keys).__enter__()


def test_the_server_sees_heartbeats_and_a_goodbye(
    link: EmbeddedLink, keys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    link.register("site-0", key.public_key())
    with connect(link.port, keys, key=key, heartbeat_seconds=20) as site:
        (node,) = link.state.get_node_info()
        first = node.online_until
        assert node.heartbeat_interval == 20
        waits = iter([False, True])
        with monkeypatch.context() as patch:
            patch.setattr(site._stopped, "wait", lambda seconds: next(waits))
            site._beat()
        assert link.state.get_node_info()[0].online_until > first
        assert set(link.online()) == {"site-0"}
    assert link.online() == {}
    assert not [thread for thread in threading.enumerate() if thread.name == "jangin-heartbeat"]


def test_leaving_takes_no_longer_when_the_server_has_gone(keys: Any) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    with EmbeddedLink(keys.certificate, keys.key) as link:
        link.register("site-0", key.public_key())
        site = connect(link.port, keys, key=key).__enter__()
    site.__exit__(None, None, None)


@pytest.mark.parametrize("seconds", [0, 9.9, 1801])
def test_a_heartbeat_that_flower_refuses_is_refused_first(keys: Any, seconds: float) -> None:
    with pytest.raises(ValueError, match="Expected 10 <= heartbeat_seconds"):
        connect(1, keys, heartbeat_seconds=seconds)


def test_a_link_that_was_not_entered_sends_nothing(keys: Any) -> None:
    site = connect(1, keys)
    with pytest.raises(RuntimeError, match="Expected an entered SiteLink"):
        site.receive()
    site._client.close()


def test_a_broken_message_is_refused_and_the_next_one_still_comes(
    link: EmbeddedLink, site: SiteLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flwr.app import ConfigRecord, RecordDict

    from jangin.flower_link import link as module

    run = link.open_run("c")
    with monkeypatch.context() as patch:
        patch.setattr(module, "pack", lambda _: RecordDict({"code": ConfigRecord({"run": "import os"})}))
        run.push("site-0", Wire("train", "c", 0))
    run.push("site-0", Wire("train", "c", 1))
    with pytest.raises(LinkError, match="JG-site-210"):
        site.receive()
    incoming = site.receive()
    assert incoming is not None
    assert incoming.wire.round == 1
    assert "envelope" not in repr(incoming)


def test_a_message_with_a_part_that_never_comes_is_refused_in_time(link: EmbeddedLink, site: SiteLink) -> None:
    run = link.open_run("c")
    message = run.push("site-0", Wire("train", "c", 0))
    link.store.store[message].content = b""
    with pytest.raises(LinkError, match=r"JG-site-210.*does not come"):
        site.receive()


def test_a_message_taken_back_while_it_is_fetched_is_no_message(
    link: EmbeddedLink, site: SiteLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = link.open_run("c")
    message = run.push("site-0", Wire("train", "c", 0))
    pull = site._client.PullObject

    def pull_then_forget(request: Any) -> Any:
        answer = pull(request)
        run.forget([message])
        return answer

    monkeypatch.setattr(site._client, "PullObject", pull_then_forget)
    assert site.receive() is None


def test_a_site_asks_for_no_app_and_no_run(link: EmbeddedLink, site: SiteLink, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("A site asked for a FAB or a run.")

    monkeypatch.setattr(FleetHttpClient, "GetFab", never)
    monkeypatch.setattr(FleetHttpClient, "GetRun", never)
    run = link.open_run("c")
    asked = run.push("site-0", Wire("train", "c", 0))
    incoming = site.receive()
    assert incoming is not None
    site.reply(incoming, Wire("train", "c", 0))
    assert len(run.pull([asked])) == 1


def test_a_key_is_nowhere_in_what_is_shown(keys: Any) -> None:
    site = connect(free_port(), keys, retries=0)
    with pytest.raises(LinkError) as caught:
        site.__enter__()
    assert "PRIVATE" not in repr(site) + repr(vars(site)) + str(caught.value)
