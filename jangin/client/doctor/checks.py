"""The table D01..D20: what each check needs, how long it may take, and how it looks.

The law: a check stands after those whose failure would explain its own, and names them; it takes facts, gives what it
says, and leaves nothing behind. Numbers are stable: a check that goes takes its number with it.
"""

import os
import platform
import shutil
import socket
import ssl
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import metadata
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from jangin.client import renewal
from jangin.client.consent import Verdict, looked_at, masters_of
from jangin.client.desk import open_api
from jangin.client.doctor import processes
from jangin.client.doctor.findings import Said, State, word
from jangin.client.limits import check_hook, paused
from jangin.client.service import unit_files
from jangin.client.settings import DAEMON_BYTES, SiteSettings, size_bytes
from jangin.client.state import SiteFolder
from jangin.client.windows import next_opening
from jangin.client.workbench import Workbench
from jangin.errors import DataError, LinkError, SiteError
from jangin.flower_link import line
from jangin.privacy.ledger import Ledger
from jangin.records.manifest import open_validated
from jangin.trust.envelope import Kind, peek
from jangin.trust.keys import Identity, NodeKey
from jangin.trust.roster import Roster, Status
from jangin.trust.staff import Role, Staff
from jangin.version import PROTOCOL, __version__

__all__ = ["CHECKS", "Check", "Facts"]

_GIB: Final = 2**30
_MIB: Final = 2**20
_CLOCK_OK_S: Final = 2.0
_CLOCK_MOST_S: Final = 5.0
_SOON: Final = timedelta(days=30)
_ROSTER_SOON: Final = timedelta(days=7)
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_EXPIRED, _NOT_YET, _OTHER_NAME = {10}, {9}, {62, 63, 64}
"""Of OpenSSL's verify codes (x509_vfy.h): those that are no doubt of the issuer."""
_SIGNERS: Final = (Role.OPERATOR, Role.APPROVER, Role.INDEPENDENT_BODY)
_TELEMETRY: Final = "FLWR_TELEMETRY_ENABLED"


@dataclass
class Facts:
    """What the checks look at, and what earlier ones leave for later ones.

    Attributes:
        folder: the site's.
        settings: its site.yaml.
        clock: the site's time, aware.
        health: what the server said, once D06 has asked.
    """

    folder: SiteFolder
    settings: SiteSettings
    clock: Callable[[], datetime]
    health: line.Health | None = None

    @property
    def enrolled(self) -> bool:
        """Whether it knows a server."""
        return self.settings.server is not None

    @property
    def route(self) -> line.Route:
        """The way to its server.

        Raises:
            ValueError: it knows none, or its proxy is none.
        """
        if self.settings.server is None:
            raise ValueError("no server")
        return line.route(self.settings.server.address)


@dataclass(frozen=True)
class Check:
    """One row of the table.

    Attributes:
        id: `D01` to `D20`.
        look: from facts to what it says; may raise what it likes.
        needs: checks without which it cannot say anything.
        online: whether it makes sense only for a site that knows a server.
        seconds: the longest that it is waited for.
    """

    id: str
    look: Callable[[Facts], Said]
    needs: tuple[str, ...] = ()
    online: bool = False
    seconds: float = 10.0


def _versions(_: Facts) -> Said:
    """D01: this Jangin's libraries are of the versions that it was made for."""
    try:
        wanted = [Requirement(text) for text in metadata.requires("jangin") or ()]
    except metadata.PackageNotFoundError:
        return Said(State.SKIPPED, "uninstalled")
    needed = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    misfits = [f"{one.name} {found or '-'} ({one.specifier})" for one in needed if not _fits(one, found := _found(one))]
    if misfits:
        return Said(State.FAIL, "misfit", ", ".join(misfits), libraries=", ".join(misfits))
    return Said(State.OK, "fit", __version__, version=__version__, python=platform.python_version(), count=len(needed))


def _found(wanted: Requirement) -> str:
    """The version that is installed; empty where none is."""
    try:
        return metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return ""


def _fits(wanted: Requirement, found: str) -> bool:
    return found != "" and wanted.specifier.contains(found, prereleases=True)


def _disk(facts: Facts) -> Said:
    """D02: the disk of the state folder has room."""
    floor = facts.settings.limits.disk_free_min
    free = shutil.disk_usage(facts.folder.path).free
    state, saying = (State.OK, "room") if free >= size_bytes(floor) else (State.FAIL, "full")
    return Said(state, saying, free, free=free / _GIB, floor=floor)


def _caps(facts: Facts) -> Said:
    """D03: the machine has what training may take."""
    limits, cores, total = facts.settings.limits, _cores(), _memory_bytes()
    values: dict[str, str | int | float] = {"cpu": limits.cpu, "cores": cores, "memory": limits.memory}
    if limits.cpu > cores:
        return Said(State.FAIL, "cores", limits.cpu, **values)
    if total is None:
        return Said(State.OK, "unmeasured", limits.cpu, **values)
    over = size_bytes(limits.memory) > total
    return Said(State.FAIL if over else State.OK, "memory" if over else "given", total, total=total / _GIB, **values)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _memory_bytes() -> int | None:
    """All memory of the machine; None where Python cannot tell."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _proxy(facts: Facts) -> Said:
    """D07: the proxy variables can be read, and loopback goes past the proxy."""
    try:
        way = facts.route
    except ValueError as error:
        return Said(State.FAIL, "unreadable", str(error), variable=str(error))
    proxied = line.proxied_loopback()
    if proxied:
        return Said(State.FAIL, "loopback", ",".join(proxied), hosts=", ".join(proxied), all=",".join(line.LOOPBACK))
    return Said(State.OK, "direct") if way.proxy is None else Said(State.OK, "via", way.address, address=way.address)


def _dns(facts: Facts) -> Said:
    """D04: the name of the server, or of the proxy before it, is known."""
    host, port = facts.route.first
    try:
        ip_address(host)
        return Said(State.OK, "literal", host, host=host)
    except ValueError:
        pass
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError) as error:
        return Said(State.FAIL, "unknown", host, host=host, problem=_problem(error))
    return Said(State.OK, "known", ",".join(found), host=host, addresses=", ".join(found))


def _tcp(facts: Facts) -> Said:
    """D05: somebody answers there."""
    way = facts.route
    try:
        way.connect()
    except OSError as error:
        return Said(State.FAIL, "closed", way.address, address=way.address, problem=_problem(error))
    return Said(State.OK, "open", way.address, address=way.address)


def _tls(facts: Facts) -> Said:
    """D06: it is the server, by the site's own certificates, or a proxy that it named; it says how it is."""
    way, ca = facts.route, facts.folder.roots(facts.settings.server)
    try:
        line.certificates(ca)
        ca.decode("ascii")
    except ValueError:
        raise LinkError("JG-site-202", where=way.address, problem="the file of roots holds no certificate") from None
    try:
        facts.health = health = way.health(ca, facts.clock)
    except ssl.SSLCertVerificationError as error:
        return _distrusted(way, error)
    except ssl.SSLError as error:
        return Said(State.FAIL, "plain", way.address, address=way.address, problem=error.reason or "no TLS")
    except (OSError, ValueError) as error:
        return Said(State.FAIL, "broken", way.address, address=way.address, problem=_problem(error))
    saying = "inspected" if _inspected(facts) else "trusted"
    return Said(State.OK, saying, health.issuer, host=way.host, issuer=health.issuer)


def _inspected(facts: Facts) -> bool:
    """Whether it is not the server's own certificate, but one that `extra_ca` alone vouches for."""
    server = facts.settings.server
    if server is None or server.extra_ca is None:
        return False
    try:
        facts.route.health(facts.folder.roots(server.model_copy(update={"extra_ca": None})), facts.clock)
    except ssl.SSLCertVerificationError:
        return True
    except (OSError, ValueError):
        pass
    return False


def _distrusted(way: line.Route, error: ssl.SSLCertVerificationError) -> Said:
    """Why a certificate was not believed, with whoever signed it: an inspecting proxy shows itself by its own."""
    values = {"host": way.host, "problem": error.verify_message}
    if error.verify_code in _OTHER_NAME:
        return Said(State.FAIL, "misnamed", way.host, **values)
    if error.verify_code in _EXPIRED | _NOT_YET:
        return Said(State.FAIL, "untimely", error.verify_message, **values)
    try:
        issuer = way.issuer()
    except (OSError, ValueError) as silent:
        return Said(State.FAIL, "broken", way.address, address=way.address, problem=_problem(silent))
    return Said(State.FAIL, "stranger", issuer, issuer=issuer, **values)


def _clock(facts: Facts) -> Said:
    """D08: the site's clock is the server's."""
    if facts.health is None or facts.health.ahead_s is None:
        return Said(State.SKIPPED, "unsaid")
    ahead = round(facts.health.ahead_s, 1)
    if abs(ahead) <= _CLOCK_OK_S:
        return Said(State.OK, "even", ahead)
    state = State.FAIL if abs(ahead) > _CLOCK_MOST_S else State.WARN
    return Said(state, "ahead" if ahead > 0 else "behind", ahead, seconds=abs(ahead))


def _protocol(facts: Facts) -> Said:
    """D18: site and server speak of the same version, or the site of the one before."""
    theirs = None if facts.health is None else facts.health.protocol
    if theirs is None:
        return Said(State.SKIPPED, "unsaid")
    match theirs - PROTOCOL:
        case 0:
            state, saying = State.OK, "same"
        case 1:
            state, saying = State.WARN, "next"
        case newer if newer > 1:
            state, saying = State.FAIL, "newer"
        case _:
            state, saying = State.FAIL, "older"
    return Said(state, saying, theirs, theirs=theirs, ours=PROTOCOL)


def _keys(facts: Facts) -> Said:
    """D09: the three keys are there, whole, and nobody else's to read."""
    identity, _ = facts.folder.identity(), facts.folder.node_key()
    path = facts.folder.storage_key_file
    try:
        mode, _ = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise SiteError("JG-site-101", where=str(path), problem=_problem(error)) from None
    if os.name == "posix" and mode & _OTHERS:
        raise SiteError("JG-site-102", where=str(path), mode=f"{stat.S_IMODE(mode):04o}")
    return Said(State.OK, "own", identity.fingerprint, fingerprint=identity.fingerprint)


def _expiry(facts: Facts) -> Said:
    """D11: nothing that the site believes runs out soon, and nothing has; the connection's key was renewed in time."""
    now = facts.clock()
    ends = list(_ends(facts))
    if not ends:
        return Said(State.SKIPPED, "nothing")
    name, end, soon = min(ends, key=lambda one: (one[1] > now, one[1] - one[2]))  # what is over comes first
    days = (end - now) / timedelta(days=1)
    if days <= 0:
        state, saying = State.FAIL, "over"
    elif end - now < soon:
        state, saying = State.WARN, "soon"
    else:
        state, saying = State.OK, "long"
    if state is State.OK and now >= renewal.due(facts.folder) + _SOON:
        stale = renewal.due(facts.folder)
        return Said(State.WARN, "stale", (now - stale).days, date=f"{stale:%Y-%m-%d}")
    what = word(name)
    return Said(state, saying, round(days, 1), what=what, days=round(abs(days)), date=f"{end.astimezone(UTC):%Y-%m-%d}")


def _ends(facts: Facts) -> Iterator[tuple[str, datetime, timedelta]]:
    """What runs out, when, and how long before that it is to be said. A roster lives for 30 days at most."""
    if facts.health is not None:
        yield "certificate", facts.health.ends, _SOON
    with suppress(SiteError, ValueError):  # what is wrong with the file is D06's to say
        for certificate in line.certificates(facts.folder.roots(facts.settings.server)):
            yield "authority", certificate.not_valid_after_utc, _SOON
    trust = facts.folder.trust()
    if trust.roster_list:
        yield "roster", Roster.parse(peek(trust.roster_list, Kind.ROSTER)).valid_until, _ROSTER_SOON
    if trust.staff_list:
        keys = Staff.parse(peek(trust.staff_list, Kind.STAFF)).keys
        of_role = [[key.expires for key in keys if role in key.roles] for role in _SIGNERS]
        yield from (("staff", max(ends), _SOON) for ends in of_role if ends)


def _roster(facts: Facts) -> Said:
    """D10: the site is on the roster by its own keys; where the server can be asked, by its newest one."""
    trust, site = facts.folder.trust(), facts.settings.site.id
    identity, fingerprint = facts.folder.identity().public_text, facts.folder.identity().fingerprint
    values: dict[str, str | int] = {"site": site, "fingerprint": fingerprint}
    if not trust.roster_list:
        return Said(State.WARN, "waiting", fingerprint, **values)
    roster = trust.roster(facts.clock())
    entry, values["version"] = roster.sites.get(site), roster.version
    if entry is None:
        return Said(State.FAIL, "absent", roster.version, **values)
    if entry.status is not Status.ACTIVE:
        return Said(State.FAIL, "inactive", entry.status.value, status=word(entry.status.value), **values)
    if (entry.identity, entry.node_key) != (identity, facts.folder.node_key().public_text):
        return Said(State.FAIL, "other_key", entry.fingerprint, **values)
    if facts.health is not None:
        with facts.folder.journal() as journal, open_api(facts.folder, journal, facts.clock) as api:
            api.campaigns()
    return Said(State.OK, "listed", roster.version, **values)


def _telemetry(_: Facts) -> Said:
    """D12: Flower tells nobody that it runs: neither its switch nor Flower as it was loaded says so."""
    loaded = getattr(sys.modules.get("flwr.supercore.telemetry"), _TELEMETRY, "0")
    values = os.environ.get(_TELEMETRY, "1"), loaded
    found = next((value for value in values if value != "0"), None)
    return Said(State.OK, "off", "0") if found is None else Said(State.FAIL, "on", found, variable=_TELEMETRY)


def _worker(facts: Facts, seconds: float) -> Said:
    """D13: a worker starts and trains one step on made-up rows, within the memory cap."""
    limits, begun, bench = facts.settings.limits, time.monotonic(), Workbench(facts.settings.limits.cpu)
    try:
        peak = bench.rehearse(seconds)
    finally:
        bench.stop()
    values: dict[str, str | float] = {"seconds": time.monotonic() - begun, "memory": limits.memory}
    if peak is None:
        return Said(State.OK, "unmeasured", None, **values)
    whole = peak + DAEMON_BYTES
    state, saying = (State.OK, "fits") if whole <= size_bytes(limits.memory) else (State.FAIL, "heavy")
    return Said(state, saying, peak, peak=peak / _MIB, whole=whole / _MIB, **values)


def _data(facts: Facts) -> Said:
    """D14: the records are as they were validated, by card and manifest; none is opened."""
    for block in facts.settings.data:
        path = facts.folder.path / block.path
        card, _ = open_validated(path)
        if card.process != block.process:
            raise DataError("JG-data-071", where=str(path), wanted=block.process, found=card.process)
    return Said(
        State.OK, "valid", len(facts.settings.data), processes=", ".join(b.process for b in facts.settings.data)
    )


def _consents(facts: Facts) -> Said:
    """D15: each master of the records has a consent that holds today, whatever it is for."""
    verdicts: dict[tuple[str, str], Verdict] = {}
    for entry in looked_at(facts.folder.path, clock=facts.clock):
        one = entry.process, entry.master
        verdicts[one] = max(entry.verdict, verdicts.get(one, Verdict.NONE))
    known = {
        (block.process, master)
        for block in facts.settings.data
        for master in masters_of(facts.folder.path, block.process)
    }
    granted = sum(verdicts.get(one) is Verdict.COVERED for one in known)
    state = State.FAIL if not granted else State.OK if granted == len(known) else State.WARN
    return Said(state, "all" if state is State.OK else "some", granted, granted=granted, masters=len(known))


def _windows(facts: Facts) -> Said:
    """D16: whether an order may be begun now, by the windows and a pause; the busy hook is one that could be asked."""
    limits, now = facts.settings.limits, facts.clock()
    if limits.busy_hook is not None:
        check_hook(facts.folder.path / limits.busy_hook)
    held, wall = paused(facts.folder.path, now), now.astimezone(limits.zone)
    values = {"now": f"{wall:%a %H:%M}", "zone": limits.tz or f"{wall:%Z}", "windows": ", ".join(limits.windows)}
    if held is not None:
        return Said(State.WARN, "paused", "paused", since=f"{held.since.astimezone(limits.zone):%Y-%m-%d %H:%M}")
    if not limits.windows:
        return Said(State.SKIPPED, "no_windows")
    opens = next_opening(limits.hours, now, limits.zone)
    if opens is None:
        return Said(State.FAIL, "never", "never", **values)
    shut = opens > now
    return Said(State.OK, "shut" if shut else "open", "shut" if shut else "open", opens=f"{opens:%a %H:%M}", **values)


def _ledger(facts: Facts) -> Said:
    """D19: the ledger's signatures hold, and one like it can be written and flushed to the same disk."""
    with facts.folder.ledger_copy():
        pass
    try:
        with tempfile.TemporaryDirectory(dir=facts.folder.path, prefix=".doctor-") as name:
            scratch = SiteFolder(Path(name, "site"))
            scratch.make(facts.settings, Identity.generate(), NodeKey.generate())
            with scratch.ledger() as ledger:
                seconds = _granted(ledger, facts)
    except OSError as error:
        return Said(State.FAIL, "unwritable", _problem(error), problem=_problem(error))
    return Said(State.OK, "written", round(seconds, 4), milliseconds=1000 * seconds)


def _granted(ledger: Ledger, facts: Facts) -> float:
    """How long one entry took to be on the disk, in seconds."""
    begun = time.monotonic()
    ledger.grant([block.budget for block in facts.settings.privacy.budgets], facts.clock())
    return time.monotonic() - begun


def _service(facts: Facts) -> Said:
    """D17: a daemon holds the folder, and root does not run it."""
    if not processes.readable():
        return Said(State.SKIPPED, "elsewhere")
    held = processes.holders(facts.folder.path / "lock")
    if not held:
        units = [str(file) for file in unit_files(facts.folder.path, facts.settings.site.id) if file.exists()]
        return Said(State.FAIL, "stopped", units[0], unit=units[0]) if units else Said(State.WARN, "none")
    pid = held[0]
    state, saying = (State.OK, "runs") if processes.owner(pid) else (State.FAIL, "root")
    return Said(state, saying, pid, pid=pid)


def _listeners(facts: Facts) -> Said:
    """D20: neither this process nor the daemon, nor what they started, listens to other machines."""
    if not processes.readable():
        return Said(State.SKIPPED, "elsewhere")
    ours = processes.trees({os.getpid(), *processes.holders(facts.folder.path / "lock")})
    beyond = processes.listeners(ours)
    if beyond:
        first = beyond[0]
        return Said(State.FAIL, "beyond", first.address, address=first.address, pid=first.pid)
    return Said(State.OK, "loopback", len(ours), count=len(ours))


def _problem(error: Exception) -> str:
    """What the system says is wrong."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    said = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return said.removesuffix(".")


_WORKER_SECONDS: Final = 60.0

CHECKS: Final = (
    Check("D01", _versions),
    Check("D02", _disk),
    Check("D03", _caps),
    Check("D07", _proxy, online=True),
    Check("D04", _dns, ("D07",), online=True),
    Check("D05", _tcp, ("D04",), online=True),
    Check("D06", _tls, ("D05",), online=True),
    Check("D08", _clock, ("D06",), online=True),
    Check("D18", _protocol, ("D06",), online=True),
    Check("D09", _keys),
    Check("D11", _expiry, online=True),
    Check("D10", _roster, ("D09", "D11"), online=True),
    Check("D12", _telemetry),
    Check("D13", partial(_worker, seconds=_WORKER_SECONDS), ("D03",), seconds=_WORKER_SECONDS + 5),
    Check("D14", _data),
    Check("D15", _consents, ("D14",)),
    Check("D16", _windows),
    Check("D17", _service),
    Check("D19", _ledger, ("D02", "D09")),
    Check("D20", _listeners),
)
"""All of them, causes before consequences."""
