"""Laws of the doctor: every check can fail, says so in two languages with a way out, and a visit always ends."""

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jangin.cli.site import site as site_app
from jangin.client import consent, desk, service, workbench
from jangin.client.doctor import processes
from jangin.client.doctor.checks import CHECKS, Check, Facts
from jangin.client.doctor.findings import Finding, Said, State
from jangin.client.doctor.visit import visit
from jangin.client.lock import alone
from jangin.client.settings import ServerBlock
from jangin.client.state import SiteFolder
from jangin.errors import Language
from jangin.flower_link import line
from jangin.flower_link.link import EmbeddedLink
from jangin.trust.certificates import issue, make_authority
from jangin.trust.roster import RosterSite, Status
from jangin.version import PROTOCOL
from jangin.words import LANGUAGES

HEAVY = ("torch", "scipy", "dp_accounting", "pyarrow", "sqlalchemy", "pandas", "fastapi", "uvicorn", "ray")
PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")

Lang = pytest.mark.parametrize("lang", LANGUAGES)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


def facts_of(folder: SiteFolder, url: str = "", clock: Callable[[], datetime] = desk.now_utc, **limits: Any) -> Facts:
    """A site as it is, but for its server, its limits and its clock."""
    settings = folder.settings()
    if url:
        settings = settings.model_copy(update={"server": ServerBlock(url=url, root="root.pub", ca="ca.crt")})
    capped = settings.limits.model_copy(update={"disk_free_min": "1MiB", **limits})
    return Facts(folder, settings.model_copy(update={"limits": capped}), clock)


def look(facts: Facts, *names: str) -> Finding:
    """The last of some checks, made in their order."""
    return list(visit(facts, [check for check in CHECKS if check.id in names]))[-1]


def shows_a_failure(finding: Finding, lang: Language, *said: str) -> None:
    """Whether the line has the form of a failure, with what was found and a way out."""
    text = finding.line([lang])
    assert re.fullmatch(r"FAIL D[0-2][0-9] [^\n→]+ → [^\n→]+", text), text
    assert bool(re.search("[가-힣]", text)) is (lang == "ko"), text
    for part in said:
        assert part in text, (part, text)


def shifted(seconds: float) -> Callable[[], datetime]:
    return lambda: desk.now_utc() + timedelta(seconds=seconds)


@dataclass(frozen=True)
class Canned:
    """A server of one answer."""

    port: int

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"


@pytest.fixture
def canned() -> Iterator[Callable[..., Canned]]:
    """Start servers that answer every connection with the same headers, over TLS where they have a certificate."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(certificate: Path | None, key: Path | None, **headers: str) -> Canned:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if context is not None and certificate is not None:
            context.load_cert_chain(certificate, key)
        said = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        listener = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(connection, server_side=True) if context else connection as stream:
                        if stream.recv(4096):
                            stream.sendall(f"HTTP/1.1 200 OK\r\n{said}content-length: 0\r\n\r\n".encode())
                except OSError:
                    connection.close()

        listeners.append(listener)
        threads.append(threading.Thread(target=serve, daemon=True))
        threads[-1].start()
        return Canned(listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(5)


@pytest.fixture
def standing(site: SiteFolder, authority: Any, ministry: Any) -> SiteFolder:
    """A site with certificates and a roster, whose server is nowhere."""
    site.ca_file.write_bytes(authority.ca.read_bytes())
    listed(site, ministry)
    return site


def listed(site: SiteFolder, ministry: Any, **other: Any) -> None:
    """Have the site hold a roster with its own entry, or with another instead."""
    keys = {"identity": site.identity().public_text, "node_key": site.node_key().public_text}
    sites = other.get("sites", {"site-0": RosterSite(**keys, status=other.get("status", Status.ACTIVE))})
    site.keep_trust(ministry.trust(ministry.roster(sites)))


# What each check says of a machine, a network and a folder that are as they should not be.


@Lang
def test_d01_other_libraries(standing: SiteFolder, monkeypatch: pytest.MonkeyPatch, lang: Language) -> None:
    wanted = ["numpy>=2", "flwr==0.1", "no-such-library>=3", 'other; extra == "dev"']
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    found = look(facts_of(standing), "D01")
    shows_a_failure(found, lang, "flwr 1.", "(==0.1)", "no-such-library - (>=3)")
    assert "numpy" not in found.line()


@Lang
def test_d02_a_full_disk(standing: SiteFolder, lang: Language) -> None:
    shows_a_failure(look(facts_of(standing, disk_free_min="999999GiB"), "D02"), lang, "limits.disk_free_min")


@Lang
@pytest.mark.parametrize(
    ("limits", "said"), [({"cpu": 100_000}, "limits.cpu"), ({"memory": "999999GiB"}, "limits.memory")]
)
def test_d03_caps_beyond_the_machine(standing: SiteFolder, limits: Any, said: str, lang: Language) -> None:
    shows_a_failure(look(facts_of(standing, **limits), "D03"), lang, said)


@Lang
def test_d04_a_name_that_nobody_has(standing: SiteFolder, lang: Language) -> None:
    name = f"{64 * 'x'}.invalid"  # no label may be so long, so that no name server has to be asked
    shows_a_failure(look(facts_of(standing, f"https://{name}"), "D04"), lang, name, "server.url")


@Lang
def test_d05_a_closed_port_and_all_that_follows_from_it(standing: SiteFolder, lang: Language) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    found = {one.check: one for one in visit(facts_of(standing, f"https://{address}"), CHECKS[3:9])}
    shows_a_failure(found["D05"], lang, address)
    later = [found[name] for name in ("D06", "D08", "D18")]
    assert [one.state for one in later] == [State.SKIPPED] * 3
    assert ["D05" in one.what[lang] for one in later] == [True] * 3


@Lang
def test_d06_another_authority_is_named(
    standing: SiteFolder, canned: Any, tmp_path: Path, lang: Language, authority: Any
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    proxy = make_authority("an inspecting proxy", now - timedelta(days=1), now + timedelta(days=1))
    shown = issue(proxy, ["127.0.0.1"], now, now + timedelta(hours=1))
    (tmp_path / "p.crt").write_bytes(shown.chain)
    (tmp_path / "p.key").write_bytes(shown.key)
    server = canned(tmp_path / "p.crt", tmp_path / "p.key")
    shows_a_failure(look(facts_of(standing, server.url), "D06"), lang, "CN=an inspecting proxy", "--ca")


@Lang
@pytest.mark.parametrize(
    ("host", "lives", "said"), [("localhost", (0, 1), "localhost"), ("127.0.0.1", (-2, -1), "expired")]
)
def test_d06_a_certificate_of_another_name_or_time(
    site: SiteFolder, canned: Any, tmp_path: Path, host: str, lives: tuple[int, int], said: str, lang: Language
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    root = make_authority("a federation", now - timedelta(days=3), now + timedelta(days=3))
    start, end = (now + timedelta(days=days) for days in lives)
    server = issue(root, ["127.0.0.1"], start, end)
    for path, content in ((site.ca_file, root.chain), (tmp_path / "s.crt", server.chain), (tmp_path / "s", server.key)):
        path.write_bytes(content)
    running = canned(tmp_path / "s.crt", tmp_path / "s")
    shows_a_failure(look(facts_of(site, f"https://{host}:{running.port}"), "D06"), lang, said)


@Lang
def test_d06_what_is_no_tls_and_a_file_that_is_no_certificate(
    standing: SiteFolder, canned: Any, lang: Language
) -> None:
    server = canned(None, None)
    shows_a_failure(look(facts_of(standing, server.url), "D06"), lang, f"127.0.0.1:{server.port}", "server.url")
    standing.ca_file.write_text("no certificate")
    shows_a_failure(look(facts_of(standing, server.url), "D06"), lang, "JG-site-202")
    standing.ca_file.unlink()
    shows_a_failure(look(facts_of(standing, server.url), "D06"), lang, "JG-site-341", "ca.crt")


@Lang
def test_d06_a_server_that_says_nothing_is_not_waited_for(
    standing: SiteFolder, monkeypatch: pytest.MonkeyPatch, lang: Language
) -> None:
    monkeypatch.setattr(line, "_STEP_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        shows_a_failure(look(facts_of(standing, f"https://{address}"), "D06"), lang, address, "no answer in time")


@Lang
def test_d07_a_proxy_that_is_none_and_loopback_that_goes_through_one(
    standing: SiteFolder, monkeypatch: pytest.MonkeyPatch, lang: Language
) -> None:
    facts = facts_of(standing, "https://fl.example.kr")
    monkeypatch.setenv("https_proxy", "socks9://user:secret@proxy.example:1080")
    shows_a_failure(look(facts, "D07"), lang, "HTTPS_PROXY", "http://HOST:PORT")
    monkeypatch.setenv("https_proxy", "http://user:secret@proxy.example:3128")
    assert look(facts, "D07").state is State.OK
    assert look(facts, "D07").value == "proxy.example:3128"
    assert "secret" not in f"{look(facts, 'D07')} {facts.route!r}"
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    shows_a_failure(look(facts, "D07"), lang, "127.0.0.1", "NO_PROXY=localhost,127.0.0.1,::1")


@pytest.mark.parametrize(
    ("seconds", "state", "said"),
    [
        (0, State.OK, ("맞습니다", "agrees")),
        (3.5, State.WARN, ("빠릅니다 → NTP를 켜십시오", "ahead → enable NTP")),
        (7.2, State.FAIL, ("빠릅니다 → NTP를 켜십시오", "ahead → enable NTP")),
        (-310, State.FAIL, ("느립니다 → NTP를 켜십시오", "behind → enable NTP")),
    ],
)
def test_d08_a_clock_that_is_off(enrolled: SiteFolder, seconds: float, state: State, said: tuple[str, str]) -> None:
    found = look(facts_of(enrolled, clock=shifted(seconds)), "D06", "D08")
    assert found.state is state
    assert found.value == pytest.approx(seconds, abs=1.5)  # a Date header has whole seconds
    assert all(part in found.line() for part in said)


def test_d08_and_d18_a_server_that_does_not_say(standing: SiteFolder, canned: Any, authority: Any) -> None:
    facts = facts_of(standing, canned(authority.certificate, authority.key).url)
    assert [one.state for one in visit(facts, CHECKS[6:9])] == [State.OK, State.SKIPPED, State.SKIPPED]


@pytest.mark.parametrize(("above", "state"), [(0, State.OK), (1, State.WARN), (2, State.FAIL), (-1, State.FAIL)])
def test_d18_a_protocol_that_went_on(
    standing: SiteFolder, canned: Any, authority: Any, above: int, state: State
) -> None:
    now = format_datetime(datetime.now(UTC), usegmt=True)
    server = canned(authority.certificate, authority.key, jangin_protocol=str(PROTOCOL + above), date=now)
    found = look(facts_of(standing, server.url), "D06", "D18")
    assert (found.state, found.value) == (state, PROTOCOL + above)
    if state is State.FAIL:
        for lang in LANGUAGES:
            shows_a_failure(found, lang, str(PROTOCOL + above))


@Lang
@pytest.mark.parametrize("name", ["identity", "node", "storage"])
def test_d09_a_key_that_others_may_read_or_that_is_gone(site: SiteFolder, name: str, lang: Language) -> None:
    key = site.path / "keys" / name
    key.chmod(0o644)
    shows_a_failure(look(facts_of(site), "D09"), lang, "JG-site-102", "0644", "chmod 600")
    key.unlink()
    shows_a_failure(look(facts_of(site), "D09"), lang, "JG-site-101", name)


@Lang
def test_d10_a_roster_without_the_site(standing: SiteFolder, ministry: Any, lang: Language) -> None:
    facts = facts_of(standing, "https://fl.example.kr")
    assert look(facts, "D10").state is State.OK
    fingerprint = standing.identity().fingerprint
    listed(standing, ministry, status=Status.SUSPENDED)
    shows_a_failure(look(facts, "D10"), lang, {"ko": "일시 정지", "en": "suspended"}[lang])
    node_key = standing.node_key().public_text
    other = RosterSite(identity=ministry.people["kim"].public_text, node_key=node_key)
    listed(standing, ministry, sites={"site-0": other})
    shows_a_failure(look(facts, "D10"), lang, fingerprint)
    listed(standing, ministry, sites={"site-1": other})
    shows_a_failure(look(facts, "D10"), lang, "site-0", fingerprint)
    standing.keep_trust(replace(standing.trust(), roster_list=b""))
    waiting = look(facts, "D10")
    assert waiting.state is State.WARN
    assert fingerprint in waiting.mend[lang]


@Lang
def test_d10_a_server_that_knows_the_site_no_more(enrolled: SiteFolder, server: Any, lang: Language) -> None:
    server.sites.clear()
    shows_a_failure(look(facts_of(enrolled), "D06", "D10"), lang, "JG-site-301", "JG-server-101")


@Lang
def test_d11_what_ran_out(site: SiteFolder, ministry: Any, lang: Language) -> None:
    long = make_authority("a federation", ministry.now - timedelta(days=1), ministry.now + timedelta(days=1000))
    site.ca_file.write_bytes(long.chain)
    listed(site, ministry)

    def after(days: int, ends: int | None = None) -> Finding:
        facts = facts_of(site, "https://fl.example.kr", clock=lambda: ministry.now + timedelta(days=days))
        if ends is not None:
            facts.health = line.Health(None, None, "CN=x", ministry.now + timedelta(days=ends))
        return look(facts, "D11")

    assert (after(0).state, after(22).state, after(24).state) == (State.OK, State.OK, State.WARN)
    shows_a_failure(after(31), lang, {"ko": "명부", "en": "the roster"}[lang])
    shows_a_failure(
        after(31, 40), lang, {"ko": "명부", "en": "the roster"}[lang]
    )  # what is over comes before what will be
    assert {"ko": "인증서", "en": "certificate"}[lang] in after(0, 20).line([lang])
    made = (ministry.now - timedelta(days=280)).timestamp()
    os.utime(site.node_key_file, (made, made))
    stale = after(0)
    assert (stale.state, "jangin site renew" in stale.line([lang])) == (State.WARN, True)
    os.utime(site.node_key_file)
    site.keep_trust(replace(site.trust(), roster_list=b""))
    assert (after(269).state, after(271).state) == (State.OK, State.WARN)
    site.ca_file.write_text("no certificate")
    shows_a_failure(after(301), lang, {"ko": "담당자", "en": "staff list"}[lang])


@Lang
def test_d12_telemetry_that_somebody_switched_on(
    site: SiteFolder, monkeypatch: pytest.MonkeyPatch, lang: Language
) -> None:
    assert look(facts_of(site), "D12").state is State.OK
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    shows_a_failure(look(facts_of(site), "D12"), lang, "FLWR_TELEMETRY_ENABLED=0")


def test_d13_a_worker_above_its_memory(site: SiteFolder) -> None:
    found = look(facts_of(site, memory="64MiB"), "D13")
    for lang in LANGUAGES:
        shows_a_failure(found, lang, "64MiB", "limits.memory")
    assert isinstance(found.value, int)
    assert 64 * 2**20 < found.value < 2**31


@Lang
def test_d13_a_worker_that_dies(site: SiteFolder, monkeypatch: pytest.MonkeyPatch, lang: Language) -> None:
    monkeypatch.setattr(workbench.sys, "executable", "/bin/false")
    shows_a_failure(look(facts_of(site), "D13"), lang, "JG-site-369")


@Lang
def test_d14_records_that_nobody_validated(site: SiteFolder, tmp_path: Path, lang: Language) -> None:
    facts = facts_of(site)
    (tmp_path / "unchecked").mkdir()
    block = facts.settings.data[0].model_copy(update={"path": str(tmp_path / "unchecked")})
    facts.settings = facts.settings.model_copy(update={"data": (block,)})
    shows_a_failure(look(facts, "D14"), lang, "JG-data-004", "jangin data validate")


@Lang
def test_d15_masters_who_take_their_consents_back(site: SiteFolder, lang: Language) -> None:
    one, other = consent.masters_of(site.path, site.settings().data[0].process)
    assert (look(facts_of(site), "D15").state, look(facts_of(site), "D15").value) == (State.OK, 2)
    consent.revoke(site.path, one, clock=desk.now_utc)
    half = look(facts_of(site), "D15")
    assert (half.state, half.value, bool(half.mend[lang])) == (State.WARN, 1, True)
    consent.revoke(site.path, other, clock=desk.now_utc)
    shows_a_failure(look(facts_of(site), "D15"), lang, "jangin consent grant", "2")


@Lang
@pytest.mark.skipif(not processes.readable(), reason="there is no /proc to read here")
def test_d17_a_service_that_stands_still_or_is_roots(
    site: SiteFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lang: Language
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    none = look(facts_of(site), "D17")
    assert (none.state, bool(none.mend[lang])) == (State.WARN, True)
    with alone(site.path):
        monkeypatch.setattr(processes, "owner", lambda pid: 1000)
        assert (look(facts_of(site), "D17").state, look(facts_of(site), "D17").value) == (State.OK, os.getpid())
        monkeypatch.setattr(processes, "owner", lambda pid: 0)
        shows_a_failure(look(facts_of(site), "D17"), lang, str(os.getpid()))
    unit = service.unit_files(site.path, "site-0")[0]
    unit.parent.mkdir(parents=True)
    unit.touch()
    shows_a_failure(look(facts_of(site), "D17"), lang, str(unit), "jangin site service start")


@Lang
def test_d19_a_ledger_that_is_gone_and_a_disk_that_takes_nothing(
    site: SiteFolder, monkeypatch: pytest.MonkeyPatch, lang: Language
) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("tempfile.mkdtemp", full)
        shows_a_failure(look(facts_of(site), "D19"), lang, "No space left on device")
    (site.path / "ledger.head").unlink()
    shows_a_failure(look(facts_of(site), "D19"), lang, "JG-privacy-027")


@Lang
@pytest.mark.skipif(not processes.readable(), reason="there is no /proc to read here")
@pytest.mark.parametrize("address", ["0.0.0.0", "::", "127.0.0.1"])
def test_d20_a_child_that_listens_to_everybody(site: SiteFolder, address: str, lang: Language) -> None:
    family = "AF_INET6" if ":" in address else "AF_INET"
    script = (
        "import socket, sys\n"
        f"with socket.create_server(({address!r}, 0), family=socket.{family}) as one:\n"
        "    print(one.getsockname()[1], flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        said = child.stdout.readline()
        if not said:
            pytest.skip("no IPv6 here")
        found = look(facts_of(site), "D20")
        if address == "127.0.0.1":
            assert found.state is State.OK
        else:
            shown = f"[{address}]" if ":" in address else address
            shows_a_failure(found, lang, str(child.pid), f"{shown}:{said.strip()}")
        child.communicate()


# What holds for all of them.


def test_a_check_that_breaks_or_hangs_is_a_failure_and_not_the_end(site: SiteFolder) -> None:
    released = threading.Event()

    def breaks(_: Facts) -> Said:
        raise ZeroDivisionError("by nothing")

    def hangs(_: Facts) -> Said:
        released.wait(20)
        return Said(State.OK, "off")

    begun = time.monotonic()
    broken, hung, last = visit(facts_of(site), [Check("D01", breaks), Check("D02", hangs, seconds=0.05), CHECKS[-1]])
    released.set()
    for lang in LANGUAGES:
        shows_a_failure(broken, lang, "ZeroDivisionError: by nothing")
        shows_a_failure(hung, lang)
    assert last.state is State.OK
    assert time.monotonic() - begun < 10


def test_before_enrolment_whatever_needs_a_server_is_skipped_and_says_why(site: SiteFolder) -> None:
    found = list(visit(facts_of(site), [check for check in CHECKS if check.id != "D13"]))
    skipped = {one.check for one in found if one.state is State.SKIPPED}
    assert skipped - {"D01"} == {check.id for check in CHECKS if check.online} | {"D16"}
    assert not [one for one in found if one.state is State.FAIL]
    assert all("jangin site enroll" in one.what[lang] for one in found if one.check == "D05" for lang in LANGUAGES)


def test_an_enrolled_site_is_well_and_is_left_as_it_was(
    enrolled: SiteFolder, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrolled.write_settings(facts_of(enrolled).settings)
    with enrolled.journal() as journal:
        left = len(journal.egress(100))
    before, heard = sorted(enrolled.path.rglob("*")), len(server.heard)
    done = CliRunner().invoke(site_app, ["doctor", str(enrolled.path), "--format", "json", "--lang", "ko"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert [sorted(one) for one in answer["checks"]] == [["id", "mend", "state", "value", "what"]] * 20
    found = {one["id"]: one["state"] for one in answer["checks"]}
    # The tests' own authority lives for two days, and no daemon runs.
    assert {name for name, state in found.items() if state != "ok"} - {"D01"} == {"D11", "D16", "D17"}
    assert (found["D11"], found["D17"]) == ("warn", "warn")
    assert sorted(enrolled.path.rglob("*")) == before
    assert [what for what, _ in server.heard[heard:]] == ["campaigns"]
    with enrolled.journal() as journal:
        assert len(journal.egress(100)) == left


def test_the_command_ends_with_1_where_a_check_fails_and_speaks_two_languages_or_one(
    site: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jangin.client.doctor.visit.CHECKS", ())
    some = [check for check in CHECKS if check.id in ("D09", "D12")]
    monkeypatch.setattr("jangin.client.doctor.visit.visit", lambda facts: visit(facts, some))
    site.storage_key_file.chmod(0o644)
    both = CliRunner().invoke(site_app, ["doctor", str(site.path)])
    one = CliRunner().invoke(site_app, ["doctor", str(site.path), "--lang", "en"])
    assert (both.exit_code, one.exit_code) == (1, 1)
    assert re.match(r"FAIL D09 JG-site-102 .*[가-힣].* → .* / JG-site-102 .* → Run chmod 600", both.stdout)
    assert not re.search("[가-힣]", one.stdout)
    assert one.stdout.splitlines()[1].startswith("ok D12 ")


def test_the_table_has_twenty_checks_whose_causes_come_before_them() -> None:
    assert sorted(check.id for check in CHECKS) == [f"D{number:02d}" for number in range(1, 21)]
    for place, check in enumerate(CHECKS):
        assert set(check.needs) <= {earlier.id for earlier in CHECKS[:place]}
        assert getattr(check.look, "func", check.look).__doc__.startswith(f"{check.id}: ")


def test_the_doctor_is_light() -> None:
    script = (
        "import sys, jangin.client.doctor.visit, jangin.client.service\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    command = [sys.executable, "-W", "ignore", "-c", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_link_says_its_protocol_on_health(authority: Any) -> None:
    with EmbeddedLink(authority.certificate, authority.key) as link:
        health = line.Route("127.0.0.1", link.port).health(authority.ca.read_bytes(), desk.now_utc)
    assert (health.protocol, health.issuer) == (PROTOCOL, "CN=a federation")


def test_a_proxy_carries_the_way_to_the_server_with_its_name_and_password(
    authority: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def carry() -> None:
            near, _ = proxy.accept()
            asked.append(near.recv(4096))
            with near, socket.create_connection(("127.0.0.1", server.link.port)) as far:
                near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=pump, args=(far, near))
                back.start()
                pump(near, far)
                back.join(5)

        thread = threading.Thread(target=carry, daemon=True)
        thread.start()
        monkeypatch.setenv("https_proxy", f"http://me:p%40ss@127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setattr(line, "proxy_bypass", lambda host: False)
        way = line.route(f"127.0.0.1:{server.link.port}")
        assert way.health(authority.ca.read_bytes(), desk.now_utc).issuer == "CN=a federation"
        thread.join(5)
    assert asked[0].startswith(b"CONNECT 127.0.0.1:")
    assert b"Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in asked[0]


def pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while content := source.recv(4096):
            sink.sendall(content)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
