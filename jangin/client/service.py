"""The daemon as a service: a unit for systemd, or a recipe for Windows, and its start.

systemd.unit(5), systemd.exec(5), systemd.resource-control(5); WinSW 2, whose XML is the recipe's form. The law: a
service runs as the ordinary user who owns the state folder, writes nowhere else, and takes no more than site.yaml
allows; a file that somebody changed is never lost, and a unit that root's manager reads never lies in a folder
that an ordinary user may write: for `system` the administrator copies it.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from jangin.client.settings import LimitsBlock
from jangin.client.state import SiteFolder
from jangin.errors import CodedText, SiteError

__all__ = ["Installed", "Running", "install", "recipe", "service_name", "start", "status", "unit", "unit_files"]

_TELEMETRY: Final = "FLWR_TELEMETRY_ENABLED"
_SECONDS: Final = 30.0
_SYSTEM_FOLDER: Final = Path("/etc/systemd/system")


@dataclass(frozen=True)
class Installed:
    """What was written.

    Attributes:
        file: the unit, or the recipe.
        name: the service's.
        next: what a person types to have it run from now on, and after a restart of the machine.
        kept: where something else stood: what it was, and where it lies now; else None.
    """

    file: Path
    name: str
    next: str
    kept: CodedText | None


@dataclass(frozen=True)
class Running:
    """How a service stands.

    Attributes:
        name: of the service.
        state: systemd's word: active, inactive, failed, activating.
        pid: its process, 0 where there is none.
    """

    name: str
    state: str
    pid: int

    @property
    def active(self) -> bool:
        """Whether it runs."""
        return self.state == "active"


def service_name(site: str) -> str:
    """The name of a site's service."""
    return f"jangin-{site}"


def unit_files(folder: Path, site: str) -> tuple[Path, Path]:
    """Where the units of a user and of the system are read from; the recipe of `system` lies in the state folder."""
    name = f"{service_name(site)}.service"
    return _user_folder() / name, _SYSTEM_FOLDER / name


def _user_folder() -> Path:
    """Where a user's units live (systemd.unit(5))."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def unit(folder: Path, site: str, limits: LimitsBlock, user: str = "") -> str:
    """The text of a systemd unit.

    Args:
        folder: the state folder.
        site: its id.
        limits: what training may take.
        user: who it runs as, for the system's manager; empty for a user's own.
    """
    state = folder.resolve()
    size, kind = limits.memory[:-3], limits.memory[-3]
    account = f"User={user}\n" if user else ""
    return f"""\
[Unit]
Description=Jangin site {site}
Wants=network-online.target
After=network-online.target

[Service]
{account}ExecStart={" ".join(map(_quoted, _command(state))).replace("$", "$$")}
Environment={_TELEMETRY}=0
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={_quoted(state)}
PrivateTmp=yes
CPUQuota={100 * limits.cpu}%
MemoryMax={size}{kind}
Restart=on-failure
RestartSec=10

[Install]
WantedBy={"multi-user.target" if user else "default.target"}
"""


def recipe(folder: Path, site: str) -> str:
    """The text of a recipe for WinSW, with the steps in both languages."""
    program, *arguments = _command(folder.resolve())
    name, given = service_name(site), subprocess.list2cmdline(arguments)
    return f"""\
<!-- 1. Save WinSW (WinSW-x64.exe, version 2) beside this file, under its name with .exe for .xml.
     2. As administrator run that program with install, then with start.
     3. In services.msc, Log On: an ordinary account that owns the state folder. Windows caps neither cores nor memory.
     1. WinSW(WinSW-x64.exe, 2판)를 이 파일 옆에, 이름은 같고 .xml 대신 .exe가 되게 저장하십시오.
     2. 관리자 권한으로 그 프로그램을 install 인자로, 이어서 start 인자로 실행하십시오.
     3. services.msc의 로그온 탭에서 상태 폴더의 주인인 일반 계정을 고르십시오.
        윈도우에서는 코어와 메모리 상한이 없습니다. -->
<service>
  <id>{escape(name)}</id>
  <name>Jangin site {escape(site)}</name>
  <description>Federated learning of master records.</description>
  <executable>{escape(program)}</executable>
  <arguments>{escape(given)}</arguments>
  <env name="{_TELEMETRY}" value="0"/>
  <priority>belownormal</priority>
  <onfailure action="restart" delay="10 sec"/>
  <log mode="roll"/>
</service>
"""


def install(path: Path, *, system: bool = False, windows: bool = sys.platform == "win32") -> Installed:
    """Write the unit of a site's daemon: into the user's own folder of units, else into the state folder.

    Args:
        path: the state folder.
        system: for the system's manager, which starts it without anybody logged in; an administrator copies it.
        windows: write the recipe for WinSW.

    Raises:
        SiteError: JG-site-304 no site here; 366 the folder is root's; 368 the file cannot be written.
        PlanError: JG-plan-001..006, site.yaml.
    """
    folder = SiteFolder(path)
    settings = folder.settings()
    site, state = settings.site.id, path.resolve()
    name = service_name(site)
    if windows:
        file = state / f"{name}.xml"
        return Installed(file, name, f"{name}.exe install", _write(file, recipe(state, site)))
    user = _owner(state)
    if system:
        file = state / f"{name}.service"
        place = f"sudo install -m 644 {shlex.quote(str(file))} {_SYSTEM_FOLDER}/ && sudo systemctl enable --now {name}"
        return Installed(file, name, place, _write(file, unit(state, site, settings.limits, user)))
    file = unit_files(state, site)[0]
    kept = _write(file, unit(state, site, settings.limits))
    return Installed(file, name, f"systemctl --user enable --now {name} && loginctl enable-linger", kept)


def start(path: Path, *, system: bool = False) -> Running:
    """Have the service manager read its units anew and start the daemon.

    Raises:
        SiteError: JG-site-304 no site here; 363 no systemd, 364 it refused; 367 no such service.
        PlanError: JG-plan-001..006, site.yaml.
    """
    name = _installed(path, system)
    for command in (["daemon-reload"], ["start", name]):
        _systemctl(system, *command)
    return status(path, system=system)


def status(path: Path, *, system: bool = False) -> Running:
    """How the daemon's service stands.

    Raises:
        SiteError: JG-site-304 no site here; 363 no systemd, 364 it refused; 367 no such service.
        PlanError: JG-plan-001..006, site.yaml.
    """
    name = _installed(path, system)
    shown = dict(
        line.split("=", 1) for line in _systemctl(system, "show", name, "-p", "ActiveState,MainPID").splitlines()
    )
    return Running(name, shown.get("ActiveState", "unknown"), int(shown.get("MainPID", "0")))


def _command(state: Path) -> tuple[str, ...]:
    """How the daemon is run."""
    return sys.executable, "-P", "-m", "jangin", "site", "run", str(state)


def _quoted(part: str | Path) -> str:
    """One word of a unit's line (systemd.syntax(7)); `%` begins a specifier there."""
    text = str(part).replace("%", "%%")
    return text if re.fullmatch(r"[\w%./:@+=,-]+", text) else '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _owner(state: Path) -> str:
    """The name of the user whose folder it is, and as whom the daemon runs.

    Raises:
        SiteError: JG-site-366, root.
    """
    import pwd  # not on Windows

    user = state.stat().st_uid
    if user == 0:
        raise SiteError("JG-site-366", where=str(state))
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _write(file: Path, text: str) -> CodedText | None:
    """Write a file; something else that stood there is kept under a name of its own, and told of.

    Raises:
        SiteError: JG-site-368, it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_text(text, encoding="utf-8")
            return None
        if file.read_text(encoding="utf-8", errors="replace") == text:
            return None
        kept = _free(lambda number: file.with_name(f"{file.name}.old-{number}"))
        file.rename(kept)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SiteError("JG-site-368", where=str(file), problem=error.strerror or type(error).__name__) from None
    return CodedText("JG-site-365", where=str(file), kept=str(kept))


def _free(named: Callable[[int], Path]) -> Path:
    """The first name that nothing has."""
    number = 1
    while named(number).exists():
        number += 1
    return named(number)


def _installed(path: Path, system: bool) -> str:
    """The name of the service, whose unit is there.

    Raises:
        SiteError: JG-site-304 no site here; 363 no systemd; 367 no unit.
    """
    site = SiteFolder(path).settings().site.id
    file = unit_files(path, site)[1 if system else 0]
    if shutil.which("systemctl") is None:
        raise SiteError("JG-site-363")
    if not file.exists():
        raise SiteError("JG-site-367", where=str(file))
    return service_name(site)


def _systemctl(system: bool, *arguments: str) -> str:
    """What systemctl says.

    Raises:
        SiteError: JG-site-363 there is none, 364 it refused, or took too long.
    """
    command = ["systemctl", *([] if system else ["--user"]), "--no-ask-password", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603
    except FileNotFoundError:
        raise SiteError("JG-site-363") from None
    except subprocess.TimeoutExpired:
        raise SiteError("JG-site-364", problem=f"no answer within {_SECONDS:.0f} s") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise SiteError("JG-site-364", problem=(said[-1] if said else f"status {done.returncode}").removesuffix("."))
    return done.stdout
