"""A bundle for whoever is asked for help: how this site's software is, in a zip of a few JSON files.

The law: what is in it is chosen, not filtered: versions, settings whose texts are masked but for a few, checks by
number, state and code, the log's lines, counts. No recorded value, name, path or key can be in it, and of the reasons
to abstain no more than the server was told: checks of data, consents and hours are left out, and so is a pause. It goes
nowhere by itself: a person reads the list, and sends the file.
"""

import io
import json
import platform
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement

from jangin.client import local
from jangin.client.doctor.checks import CHECKS, Check, Facts
from jangin.client.doctor.findings import Finding, title
from jangin.client.doctor.visit import visit
from jangin.client.door import outward
from jangin.client.pulse import Lookout, Pulse
from jangin.client.settings import SiteSettings
from jangin.client.state import SiteFolder, write_whole
from jangin.errors import JanginError, Language, PlanError, SiteError
from jangin.telling.logs import Event, Line, lines
from jangin.version import PROTOCOL, __version__

__all__ = ["TOLD", "Part", "bundle", "collect"]

_PRIVATE_CHECKS: Final = {"D14", "D15", "D16"}
"""Of data, consents and hours: this site's own affair."""

TOLD: Final = tuple(check for check in CHECKS if check.id not in _PRIVATE_CHECKS)
"""The checks whose outcome is in a bundle."""

_SHOWN: Final = frozenset(
    {"site.id", "server.url", "data.process", "approve.mode", "limits.memory", "limits.disk_free_min"}
    | {"privacy.budgets.unit"}
)
"""The settings that are texts and are shown; numbers and yes or no always are."""

_SAYS: Final[Mapping[str, Mapping[Language, str]]] = {
    "versions.json": {"en": "versions of Jangin, Python and the libraries", "ko": "장인, 파이썬, 라이브러리의 버전"},
    "settings.json": {"en": "site.yaml; texts are masked", "ko": "site.yaml. 글자로 된 값은 가림"},
    "doctor.json": {"en": "the doctor's checks, by state and code", "ko": "점검 항목의 상태와 코드"},
    "site.json": {
        "en": "how the daemon is; counts of rounds and of what left",
        "ko": "데몬의 상태, 라운드와 나간 것의 수",
    },
    "ledger.json": {"en": "whether the ledger holds, and its length", "ko": "장부가 온전한지와 항목 수"},
    "log.json": {"en": "the last lines of the daemon's log", "ko": "데몬 로그의 마지막 줄"},
}

_JUDGED: Final = {Event.ABSTAINED, Event.SHUT, Event.REFUSED_PLAN, Event.DISTRUSTED}
"""Events whose code may be a reason that stays here."""

_MASK: Final = "***"
_CODE: Final = re.compile(r"JG-[a-z]+-[0-9]{3}")
_LAST_LINES: Final = 2000


@dataclass(frozen=True)
class Part:
    """One file of a bundle.

    Attributes:
        name: in the zip.
        says: what it holds, in each language.
        content: UTF-8.
    """

    name: str
    says: Mapping[Language, str]
    content: bytes = field(repr=False)


def collect(path: Path, clock: Callable[[], datetime], checks: Sequence[Check] = TOLD) -> list[Part]:
    """What a bundle of a state folder would hold; nothing is written.

    Raises:
        SiteError: JG-site-304, no site here.
    """
    folder = SiteFolder(path)
    settings: SiteSettings | None = None
    shown: object
    try:
        settings = folder.settings()
        shown = _masked(settings.model_dump(mode="json", exclude_none=True), "")
    except PlanError as error:
        shown = {"unreadable": error.code}
    found = [] if settings is None else [_found(one) for one in visit(Facts(folder, settings, clock), checks)]
    contents: dict[str, object] = {
        "versions.json": _versions(),
        "settings.json": shown,
        "doctor.json": found,
        "site.json": _site(path, clock),
        "ledger.json": _ledger(folder),
        "log.json": _log(path),
    }
    return [Part(name, _SAYS[name], _text(content)) for name, content in contents.items()]


def bundle(parts: Sequence[Part], file: Path, now: datetime) -> None:
    """Write the zip whole, over an older one; only its owner may read it.

    Raises:
        SiteError: JG-site-422, it cannot be written.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in parts:
            archive.writestr(zipfile.ZipInfo(part.name, now.timetuple()[:6]), part.content, zipfile.ZIP_DEFLATED)
    try:
        write_whole(file, buffer.getvalue())
    except OSError as error:
        raise SiteError("JG-site-422", where=str(file), problem=error.strerror or type(error).__name__) from None


def _versions() -> dict[str, object]:
    libraries: dict[str, str] = {}
    for text in metadata.requires("jangin") or ():
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            try:
                libraries[wanted.name] = metadata.version(wanted.name)
            except metadata.PackageNotFoundError:
                libraries[wanted.name] = ""
    machine = f"{platform.system()} {platform.release()} {platform.machine()}"
    return {
        "jangin": __version__,
        "protocol": PROTOCOL,
        "python": platform.python_version(),
        "machine": machine,
        "libraries": libraries,
    }


def _masked(value: Any, key: str) -> Any:
    """A setting as it may be shown; of whom the site knows only how many."""
    match value:
        case dict() if key == "secure_sum.known":
            return len(value)
        case dict():
            return {name: _masked(one, f"{key}.{name}".lstrip(".")) for name, one in value.items()}
        case list():
            return [_masked(one, key) for one in value]
        case str():
            return value if key in _SHOWN else _MASK
        case _:
            return value


def _found(finding: Finding) -> dict[str, object]:
    """A finding without its words, which may hold a path or an address."""
    looks = title(finding.check)["en"].partition(":")[0]
    told: dict[str, object] = {"id": finding.check, "title": looks, "state": finding.state.value}
    match finding.value:
        case int() | float():
            told["value"] = finding.value
        case str() if _CODE.fullmatch(finding.value):
            told["code"] = finding.value
    return told


def _site(path: Path, clock: Callable[[], datetime]) -> dict[str, object]:
    """What the daemon says of itself, or without one the same of its folder."""
    try:
        answered = local.health(path)
        told = (answered or Lookout(path, Pulse(), clock)()).model_dump(mode="json", exclude={"paused"})
    except (JanginError, OSError) as error:
        return {"unreadable": error.code if isinstance(error, JanginError) else type(error).__name__}
    return told | ({} if answered else {"state": "no daemon answers"})


def _ledger(folder: SiteFolder) -> dict[str, object]:
    try:
        with folder.ledger_copy() as ledger:
            over = sum(account.ended for account in ledger.accounts.values())
            counts = {"entries": ledger.head.entries, "campaigns": len(ledger.accounts), "ended": over}
        return {"holds": True, **counts}
    except JanginError as error:
        return {"holds": False, "code": error.code}


def _log(path: Path) -> list[dict[str, object]]:
    return [_told(line) for line in lines(path, _LAST_LINES)]


def _told(line: Line) -> dict[str, object]:
    """A line as it may be shown outside."""
    told = line.model_dump(mode="json", exclude_defaults=True)
    if line.event in _JUDGED:
        told["code"] = outward(line.code)
    return told


def _text(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, indent=1).encode()
