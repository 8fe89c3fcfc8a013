"""Laws of what the daemon tells beside its loop: counts, ages and states, to this machine and this user alone."""

import errno
import http.client
import json
import logging
import os
import re
import signal
import socket
import stat
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2
from typer.testing import CliRunner

from jangin.cli.site import site as site_app
from jangin.client import consent, desk, limits, local, pulse
from jangin.client.beside import attended
from jangin.client.local import SOCKET, LocalApi
from jangin.client.monitor import Monitor, metrics
from jangin.client.pulse import Count, Health, Lookout, Pulse, State
from jangin.client.settings import MonitorBlock
from jangin.client.state import SiteFolder, Task
from jangin.client.support import TOLD, bundle, collect
from jangin.codec import cbor
from jangin.errors import SiteError
from jangin.telling import figures
from jangin.telling.logs import Event, kept, lines
from jangin.trust.chain import Trust
from jangin.trust.envelope import Kind, seal
from jangin.trust.keys import Identity

HEALTH = Health(
    state=State.OK,
    code="",
    heard_s=1.5,
    working=1,
    paused=False,
    roster_s=86400.0,
    disk_free=2**40,
    rounds={"sent": 3, "abstained": 1},
    abstentions={"local": 1},
    egress={"train": Count(messages=3, bytes=120)},
)
LABEL = r'[a-z_]+="[A-Za-z0-9_.-]*"'
SAMPLE = re.compile(rf"[a-z_]+(\{{{LABEL}(,{LABEL})*\}})? [0-9.e+-]+")


def now() -> datetime:
    return desk.now_utc().replace(microsecond=0)


def ask(port: int, raw: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to these bytes; 0 where there is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(raw)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), body


def get(port: int, path: str) -> tuple[int, str]:
    """As any client of the standard library asks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


@pytest.fixture
def told() -> list[Any]:
    """What the daemon is, or what it raises; the last counts."""
    return [HEALTH]


@pytest.fixture
def watched(told: list[Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitor]:
    monkeypatch.setattr(figures, "_SECONDS", 0.3)

    def health() -> Health:
        if isinstance(told[-1], Exception):
            raise told[-1]
        return told[-1]  # type: ignore[no-any-return]

    with Monitor(0, health) as watch:
        yield watch


def test_metrics_are_prometheus_text_and_hold_each_figure_once() -> None:
    families: list[str] = []
    for line in metrics(HEALTH).splitlines():
        if line.startswith("# TYPE "):
            assert re.fullmatch(r"# TYPE [a-z_]+ (gauge|counter)", line)
            families.append(line.split()[2])
        elif not line.startswith("# HELP "):
            assert SAMPLE.fullmatch(line), line
            assert line.startswith(families[-1])
    assert len(set(families)) == len(families)
    assert 'jangin_site_egress_bytes_total{kind="train"} 120' in metrics(HEALTH)
    assert 'jangin_site_abstentions_total{told="local"} 1' in metrics(HEALTH)


@pytest.mark.parametrize("state", State)
def test_health_is_200_when_the_daemon_is_well_and_503_when_not(
    watched: Monitor, told: list[Any], state: State
) -> None:
    told.append(HEALTH.model_copy(update={"state": state}))
    status, body = get(watched.port, "/health")
    assert (status, json.loads(body)["state"]) == (200 if state is State.OK else 503, state)
    assert get(watched.port, "/metrics")[0] == 200


def test_what_breaks_a_look_is_told_by_its_code(watched: Monitor, told: list[Any]) -> None:
    told.append(SiteError("JG-site-305", where="site.sqlite", problem="secret"))
    status, body = get(watched.port, "/health")
    assert (status, json.loads(body)) == (503, {"state": "failed", "code": "JG-site-305"})


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET /../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("POST /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        ("GET /health HTTP/1.1\r\n\r\n", 421),
        ("GET /health HTTP/1.1\r\nHost: 127.0.0.1:9464\r\n\r\n", 200),
        ("nonsense\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nHost: localhost\r\nx: " + "y" * 8192, 400),
        ("GET /health HTTP/1.1\r\nHost: loc", 0),
    ],
)
def test_any_request_is_answered_or_dropped_in_time(watched: Monitor, raw: str, status: int) -> None:
    begun = time.monotonic()
    try:
        assert ask(watched.port, raw.encode())[0] == status
    except ConnectionResetError:  # more was sent than is read
        assert status == 400
    assert time.monotonic() - begun < 2
    assert get(watched.port, "/health")[0] == 200


def test_it_answers_on_once_descriptors_were_short(watched: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    accept, fails = socket.socket.accept, [OSError(errno.EMFILE, "Too many open files")] * 2

    def short(listener: socket.socket) -> Any:
        if fails:
            raise fails.pop()
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", short)
    assert [get(watched.port, "/health")[0] for _ in range(2)] == [200, 200]
    assert fails == []


def test_it_listens_on_loopback_alone_and_a_port_that_is_taken_costs_no_daemon(
    site: SiteFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with Monitor(0, lambda: HEALTH) as watch:
        assert watch._listener.getsockname()[0] == "127.0.0.1"
        with pytest.raises(SiteError, match="JG-site-420"):
            Monitor(watch.port, lambda: HEALTH)
        with attended(site.path, MonitorBlock(port=watch.port), Pulse(), lambda: None, desk.now_utc):
            assert local.health(site.path) is not None
    assert [record.jangin["code"] for record in caplog.records] == ["JG-site-420"]


def test_a_loop_that_hangs_is_told_from_one_that_waits(site: SiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    life = Pulse()
    lookout = Lookout(site.path, life, desk.now_utc)

    def state() -> State:
        return lookout().state

    assert state() is State.STARTING
    life.connect()
    life.rest(3600.0)
    assert state() is State.OK
    life.lose("JG-site-201")
    assert state() is State.DISCONNECTED
    life.connect()
    monkeypatch.setattr(pulse, "_SLACK_SECONDS", -1.0)
    life.rest(0.0)
    assert state() is State.STUCK


def test_a_roster_of_another_form_ends_no_look(site: SiteFolder) -> None:
    """As a newer version's would be, after a step back."""
    key = Identity.generate()
    site.keep_trust(Trust(key.public_text, b"", seal(Kind.ROSTER, cbor.encode({"version": 1}), key)))
    assert Lookout(site.path, Pulse(), desk.now_utc)().roster_s is None


def test_a_reason_that_stays_here_is_counted_as_local(site: SiteFolder) -> None:
    with site.journal() as journal:
        for number, code in enumerate(("JG-site-354", "JG-site-381", "JG-site-311", "JG-site-311")):
            journal.move("a" * 64, number, Task.ABSTAINED, desk.now_utc(), code)
    lookout = Lookout(site.path, Pulse(), desk.now_utc)
    health = lookout()
    assert (health.abstentions, health.rounds) == ({"local": 2, "JG-site-311": 2}, {"abstained": 4})
    with site.journal() as journal:
        journal.move("a" * 64, 4, Task.ABSTAINED, desk.now_utc(), "JG-site-311")
    limits.pause(site.path, "", desk.now_utc())
    again = lookout()  # counts may be a minute old, what a person says is not
    assert (again.paused, again.rounds) == (True, health.rounds)


@pytest.fixture
def served(site: SiteFolder) -> Iterator[list[str]]:
    """A local API over a socket that a dead daemon left; what it was asked to do."""
    asked: list[str] = []
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(site.path / SOCKET))
    assert local.health(site.path) is None
    with LocalApi(site.path, lambda: HEALTH, lambda: asked.append("look"), now):
        yield asked
    assert not (site.path / SOCKET).exists()


def test_commands_go_through_the_daemon_and_only_its_user_may(served: list[str], site: SiteFolder) -> None:
    assert stat.S_IMODE((site.path / SOCKET).stat().st_mode) == 0o600
    assert local.health(site.path) == HEALTH
    held = local.pause(site.path, "", now())
    assert held.pause == limits.paused(site.path, now())
    assert local.resume(site.path, now()) == held.pause
    assert local.resume(site.path, now()) is None
    with pytest.raises(SiteError, match="JG-site-389"):
        local.pause(site.path, "2001-01-01T00:00", now())
    assert local.look_again(site.path)
    assert served == ["look"]


def test_what_other_threads_make_meanwhile_is_as_they_wish(tmp_path: Path) -> None:
    before = os.umask(0o022)
    os.umask(before)
    done = threading.Event()
    modes = set[int]()

    def make() -> None:
        number = 0
        while not done.is_set():
            number += 1
            made = tmp_path / f"made-{number}"
            made.mkdir()
            modes.add(stat.S_IMODE(made.stat().st_mode))
            made.rmdir()

    def bind(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        for _ in range(10):
            with LocalApi(folder, lambda: HEALTH, lambda: None, now):
                assert [file.name for file in folder.iterdir()] == [SOCKET]

    with ThreadPoolExecutor(3) as pool:
        maker = pool.submit(make)
        try:
            list(pool.map(bind, range(2)))
        finally:
            done.set()
        maker.result()
    after = os.umask(before)
    assert after == before
    assert modes == {0o777 & ~before}


def test_health_speaks_grpc_s_own_protocol(served: list[str], site: SiteFolder) -> None:
    with grpc.insecure_channel(f"unix://{site.path / SOCKET}") as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        assert check(health_pb2.HealthCheckRequest(), timeout=10).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as unknown:
            check(health_pb2.HealthCheckRequest(service="other"), timeout=10)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as misread:
            channel.unary_unary("/jangin.site.v1.Site/Pause")(b"\xff", timeout=10)
        assert misread.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_without_a_daemon_commands_work_on_the_folder(site: SiteFolder) -> None:
    assert local.health(site.path) is None
    assert not local.look_again(site.path)
    held = local.pause(site.path, "", now())
    assert local.resume(site.path, now() + timedelta(seconds=1)) == held.pause


def test_any_folder_s_name_will_do_until_it_is_too_long(tmp_path: Path) -> None:
    folder = tmp_path / "상태 100%?#"
    folder.mkdir()
    with LocalApi(folder, lambda: HEALTH, lambda: None, now):
        assert local.health(folder) == HEALTH
    long = tmp_path / ("x" * 100)
    long.mkdir()
    with pytest.raises(SiteError, match="JG-site-421"):
        LocalApi(long, lambda: HEALTH, lambda: None, now)
    assert local.health(long) is None


FAST = [check for check in TOLD if check.id not in ("D13", "D19")]


def test_a_bundle_holds_nothing_of_the_records_and_says_before_what_it_holds(
    site: SiteFolder, made_records: Path, tmp_path: Path
) -> None:
    canaries = {*consent.masters_of(site.path, "steel.bof_blow"), str(made_records), str(tmp_path), "Mon-Fri", "hook-7"}
    file = site.path / "site.yaml"
    tree = yaml.safe_load(file.read_text())
    tree["limits"] |= {"windows": ["Mon-Fri 22:00-05:00"], "busy_hook": f"{tmp_path}/hook-7"}
    tree["secure_sum"] |= {"known": {"kr-canary-9": "ABCD-EFGH-2345-ABCD-EFGH"}}
    file.write_text(yaml.safe_dump(tree))
    canaries |= {"kr-canary-9", "ABCD-EFGH", site.identity().public_text.split()[1], site.identity().fingerprint}
    with site.journal() as journal:
        journal.move("a" * 64, 0, Task.ABSTAINED, desk.now_utc(), "JG-site-354")
    parts = collect(site.path, desk.now_utc, FAST)
    bundle(parts, tmp_path / "support.zip", desk.now_utc())
    assert stat.S_IMODE((tmp_path / "support.zip").stat().st_mode) == 0o600
    with zipfile.ZipFile(tmp_path / "support.zip") as archive:
        held = {name: archive.read(name).decode() for name in archive.namelist()}
    assert list(held) == [part.name for part in parts]
    for name, content in held.items():
        assert not [canary for canary in canaries if canary in content], name
        assert "JG-site-354" not in content
    settings = json.loads(held["settings.json"])
    assert settings["data"] == [{"process": "steel.bof_blow", "path": "***"}]
    assert (settings["secure_sum"]["known"], settings["limits"]["windows"]) == (1, ["***"])
    assert json.loads(held["ledger.json"])["holds"] is True
    assert "paused" not in held["site.json"]
    assert not {"D14", "D15", "D16"} & {check["id"] for check in json.loads(held["doctor.json"])}


def test_a_bundle_has_of_a_ledger_that_is_not_trusted_what_the_server_was_told(site: SiteFolder) -> None:
    """Every order is refused as `local` then."""
    with kept(site.path, 90, desk.now_utc) as log:
        for code in ("JG-privacy-026", "JG-site-121"):
            log.note(logging.WARNING, Event.DISTRUSTED, code=code)
    (told,) = [json.loads(part.content) for part in collect(site.path, desk.now_utc, []) if part.name == "log.json"]
    assert [line["code"] for line in told[1:]] == ["local", "JG-site-121"]


def test_a_bundle_is_made_of_a_site_that_cannot_start_and_fails_whole(site: SiteFolder, tmp_path: Path) -> None:
    (site.path / "site.yaml").write_text("sites: secret")
    (site.path / "ledger.head").unlink()
    held = {part.name: json.loads(part.content) for part in collect(site.path, desk.now_utc)}
    assert held["settings.json"] == {"unreadable": "JG-plan-001"}
    assert held["ledger.json"] == {"holds": False, "code": "JG-privacy-027"}
    with pytest.raises(SiteError, match="JG-site-422"):
        bundle([], tmp_path / "no" / "support.zip", desk.now_utc())


def test_a_running_daemon_is_watched_paused_and_bundled_without_a_word_of_its_records(
    enrolled: SiteFolder,
    server: Any,
    daemons: Callable[[SiteFolder], Any],
    wait: Any,
    made_records: Path,
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = enrolled.settings()
    enrolled.write_settings(settings.model_copy(update={"monitor": MonitorBlock(port=port)}))
    daemon = daemons(enrolled)
    health = wait(lambda: (found := local.health(enrolled.path)) and found.state is State.OK and found)
    assert health.egress["enroll"].messages == 2
    told = [get(port, path) for path in ("/health", "/metrics")]
    assert [status for status, _ in told] == [200, 200]
    runner = CliRunner()
    assert runner.invoke(site_app, ["pause", str(enrolled.path)]).exit_code == 0
    assert local.health(enrolled.path).paused  # type: ignore[union-attr]
    shown = runner.invoke(site_app, ["status", str(enrolled.path), "--format", "json"])
    assert json.loads(shown.stdout)["daemon"] == "ok"
    daemon.send_signal(signal.SIGTERM)
    _, err = daemon.communicate(timeout=20)
    assert daemon.returncode == 0, err
    assert [line.event for line in lines(enrolled.path, 9)] == [Event.STARTED, Event.CONNECTED, Event.STOPPED]
    assert local.health(enrolled.path) is None
    written = "".join(file.read_text() for file in (enrolled.path / "logs").iterdir())
    canaries = [*consent.masters_of(enrolled.path, "steel.bof_blow"), str(made_records), str(tmp_path)]
    assert not [canary for canary in canaries for said in (written, str(told)) if canary in said]


def test_the_command_lists_first_and_says_where_it_went(
    site: SiteFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jangin.client.support.collect", lambda path, clock: collect(path, clock, []))
    out = tmp_path / "for-help.zip"
    done = CliRunner().invoke(site_app, ["support-bundle", str(site.path), "--out", str(out), "--lang", "en"])
    assert (done.exit_code, done.stdout.strip()) == (0, str(out))
    assert [name for name in zipfile.ZipFile(out).namelist() if name not in done.stderr] == []
    refused = CliRunner().invoke(site_app, ["support-bundle", str(site.path), "--out", f"{tmp_path}/no/x.zip"])
    assert "settings.json" in refused.stderr
    assert isinstance(refused.exception, SiteError)
