"""Laws of what the server tells a monitor: figures and codes without names, also while the database is away."""

import asyncio
import http.client
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jangin.codec import cbor
from jangin.server.daemon import serve
from jangin.server.life import Act
from jangin.server.monitor import Counted, Outlook, watched
from jangin.server.settings import MonitorBlock
from jangin.server.store import Outcome, RoundEntry
from jangin.telling.logs import Event, kept, lines

LABEL = r'[a-z_]+="[A-Za-z0-9_.-]*"'
SAMPLE = re.compile(rf"[a-z_]+(\{{{LABEL}(,{LABEL})*\}})? -?[0-9.e+-]+")


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def figures(text: str) -> dict[str, float]:
    """Each sample; what is no line of Prometheus' text fails."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("# "):
            assert re.fullmatch(r"# (HELP [a-z_]+ .+|TYPE [a-z_]+ (gauge|counter))", line)
            continue
        assert SAMPLE.fullmatch(line), line
        name, value = line.rsplit(" ", 1)
        assert name not in found
        found[name] = float(value)
    return found


@pytest.fixture
def outlook(world: Any) -> Outlook:
    answers = {("ack", "ok"): 7, ("ack", "JG-server-313"): 2}
    return Outlook(world.store, world.members, world.state.certificate, lambda: 3, lambda: answers, lambda: world.now)


@pytest.fixture
def port(outlook: Outlook) -> Iterator[int]:
    with watched(MonitorBlock(port=0), outlook) as port:
        assert port is not None
        yield port


def test_figures_are_those_of_the_database_and_name_nobody(world: Any, plan: Any, port: int) -> None:
    campaign = world.propose(plan())
    for act in (Act.APPROVE, Act.CONSULT, Act.START):
        world.store.move(campaign, act)
    world.store.record(campaign, RoundEntry(0, 1, Outcome.FAILED, [], {}, {}, ["site-0"], 9.0))
    entry = RoundEntry(0, 2, Outcome.FINISHED, ["site-0", "site-1"], {"site-2": "local"}, {}, [], 1.25)
    world.store.record(campaign, entry)
    world.members.invite("site-9", world.now)
    status, text = get(port, "/metrics")
    found = figures(text)
    assert status == 200
    entries, _ = world.store.database.audit_head()
    expected = {
        'jangin_server_campaigns{state="running"}': 1,
        'jangin_server_campaigns{state="paused"}': 0,
        'jangin_server_rounds{outcome="failed"}': 1,
        'jangin_server_rounds{outcome="finished"}': 1,
        f'jangin_server_last_round_seconds{{campaign="{campaign[:8]}"}}': 1.25,
        f'jangin_server_last_round_sites{{campaign="{campaign[:8]}",reply="reported"}}': 2,
        f'jangin_server_last_round_sites{{campaign="{campaign[:8]}",reply="abstained"}}': 1,
        'jangin_server_sites{status="active"}': 3,
        'jangin_server_sites{status="invited"}': 1,
        "jangin_server_sites_online": 3,
        'jangin_server_answers_total{what="ack",code="ok"}': 7,
        'jangin_server_answers_total{what="ack",code="JG-server-313"}': 2,
        "jangin_server_database_up": 1,
        "jangin_server_roster_seconds": timedelta(days=30).total_seconds(),
        "jangin_server_audit_entries": entries,
    }
    assert {name: found[name] for name in expected} == expected
    assert 0 < found["jangin_server_certificate_seconds"] < timedelta(days=731).total_seconds()
    assert "site-" not in text
    assert get(port, "/health")[0] == 200
    assert get(port, "/other")[0] == 404


@pytest.mark.parametrize("world", ["postgresql"], indirect=True)
def test_a_database_that_is_away_is_a_figure_and_a_refusal_that_a_site_waits_for(
    world: Any, port: int, own_postgres: Any
) -> None:
    (site,) = world.sites(1)
    api = world.api()
    own_postgres.stop()
    try:
        status, body = get(port, "/health")
        assert (status, json.loads(body)["code"]) == (503, "JG-server-464")
        found = figures(get(port, "/metrics")[1])
        assert (found["jangin_server_database_up"], found["jangin_server_sites_online"]) == (0, 3)
        assert "jangin_server_audit_entries" not in found
        status, refusal = api.ask(site, "campaigns")
        assert (status, refusal["code"]) == (503, "JG-server-464")
    finally:
        own_postgres.start()
    assert get(port, "/health")[0] == 200
    assert api.ask(site, "campaigns")[0] == 200


def test_answers_are_counted_by_their_codes() -> None:
    def asked(path: str, status: int, body: bytes) -> None:
        async def api(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": status})
            await send({"type": "http.response.body", "body": body})

        async def nothing(event: Any) -> None:
            sent.append(event)

        counted._api = api
        asyncio.run(counted({"path": path}, None, nothing))

    counted, sent = Counted(None), list[Any]()  # type: ignore[arg-type]
    refusal = cbor.encode({"code": "JG-server-313", "message": "", "hint": ""})
    for path, status, body in [
        ("/v1/jangin/ack", 200, b""),
        ("/v1/jangin/ack", 200, b""),
        ("/v1/jangin/ack", 401, refusal),
        ("/v1/jangin/ack", 500, b"?"),
        ("/v1/jangin/whatever", 404, refusal),
    ]:
        asked(path, status, body)
    assert counted.answers == {
        ("ack", "ok"): 2,
        ("ack", "JG-server-313"): 1,
        ("ack", "none"): 1,
        ("other", "JG-server-313"): 1,
    }
    assert len(sent) == 10


def test_a_port_that_is_taken_costs_no_server(port: int, outlook: Outlook, caplog: pytest.LogCaptureFixture) -> None:
    with watched(MonitorBlock(port=port), outlook) as other:
        assert other is None
    assert "JG-server-468" in caplog.text
    with watched(None, outlook) as none:
        assert none is None


def test_a_running_server_is_watched_and_keeps_a_log_without_names(
    world: Any, eventually: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jangin")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    file = world.state.path / "server.yaml"
    file.write_text(file.read_text().replace("monitor: null", f"monitor: {{port: {port}}}"))
    world.sites(2)
    stop, told = threading.Event(), list[tuple[int, str]]()

    def ready(_: str) -> None:
        told.append(get(port, "/metrics"))
        stop.set()

    with kept(world.state.path, 90, lambda: world.now):
        serve(world.state.path, stop, ready=ready)
    ((status, text),) = told
    assert (status, figures(text)['jangin_server_sites{status="active"}']) == (200, 2)
    assert [line.event for line in lines(world.state.path, 99)][:2] == [Event.STARTED, Event.LET_IN]
    text = "".join(path.read_text() for path in (world.state.path / "logs").iterdir())
    assert not [name for name in ("site-", str(tmp_path), "127.0.0.1") if name in text]
