"""Laws of the service: systemd takes its unit, it runs as nobody special, and nothing is overwritten in silence."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from jangin.cli.site import site as site_app
from jangin.client import service
from jangin.client.settings import LimitsBlock
from jangin.client.state import SiteFolder
from jangin.errors import SiteError

NOBODY = 65534


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this user's units would be."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "systemd" / "user"


@pytest.fixture
def owned(site: SiteFolder, config: Path) -> SiteFolder:
    """A site whose folder is an ordinary user's."""
    if os.geteuid() == 0:
        os.chown(site.path, NOBODY, NOBODY)
    return site


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that writes down what it was asked; `says` is its answer, `status` its exit status."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "says").write_text("ActiveState=active\nMainPID=4711\n")
    (folder / "status").write_text("0")
    refuses = 'if [ "$(cat status)" != 0 ]; then echo "Unit is masked." >&2; fi'
    lines = ("#!/bin/sh", f"cd {folder}", 'echo "$@" >> asked', refuses, "cat says", "exit $(cat status)", "")
    script = "\n".join(lines)
    (folder / "systemctl").write_text(script)
    (folder / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def keys(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_a_unit_keeps_the_daemon_within_the_folder_and_the_limits(tmp_path: Path) -> None:
    limits = LimitsBlock(cpu=3, memory="512MiB")
    set_ = keys(service.unit(tmp_path, "kr-0421", limits))
    assert set_["NoNewPrivileges"] == "yes"
    assert (set_["ProtectSystem"], set_["ReadWritePaths"]) == ("strict", str(tmp_path))
    assert (set_["CPUQuota"], set_["MemoryMax"], set_["Restart"]) == ("300%", "512M", "on-failure")
    assert (set_["WantedBy"], "User" in set_) == ("default.target", False)
    of_system = keys(service.unit(tmp_path, "kr-0421", limits, "jangin"))
    assert (of_system["WantedBy"], of_system["User"]) == ("multi-user.target", "jangin")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
@pytest.mark.parametrize("name", ["plain", 'a "b" 100% $HOME \\ 공장'])
@pytest.mark.parametrize("user", ["", "daemon"])
def test_systemd_takes_the_unit_whatever_the_folder_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, user: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / name).mkdir()
    file = tmp_path / "jangin-kr-0421.service"
    file.write_text(service.unit(tmp_path / name, "kr-0421", LimitsBlock(), user), encoding="utf-8")
    command = ["systemd-analyze", "verify", "--system" if user else "--user", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    said = [line for line in done.stderr.splitlines() if file.name in line]  # of other units on this machine as well
    assert (done.returncode, said) == (0, []), done.stderr


def test_a_users_unit_goes_where_systemd_reads_it_and_that_of_the_system_where_only_an_administrator_takes_it_from(
    owned: SiteFolder, config: Path
) -> None:
    mine = service.install(owned.path, windows=False)
    assert (mine.file, mine.kept) == (config / "jangin-site-0.service", None)
    assert mine.next.startswith("systemctl --user enable --now jangin-site-0")
    of_system = service.install(owned.path, system=True, windows=False)
    assert of_system.file == owned.path / "jangin-site-0.service"
    assert of_system.next.startswith(f"sudo install -m 644 {of_system.file} /etc/systemd/system/")
    assert keys(of_system.file.read_text())["User"] not in ("", "root", "0")
    assert service.install(owned.path, windows=False).kept is None  # again, unchanged


def test_what_somebody_changed_is_kept_and_told_of(owned: SiteFolder, config: Path) -> None:
    file = service.install(owned.path, windows=False).file
    written = file.read_text()
    for number, changed in enumerate(("[Service]\nNice=19\n", "[Service]\nNice=5\n"), 1):
        file.write_text(changed)
        kept = service.install(owned.path, windows=False).kept
        assert kept is not None
        assert (kept.code, file.read_text()) == ("JG-site-365", written)
        assert str(file.with_name(f"{file.name}.old-{number}")) in kept.text()
        assert file.with_name(f"{file.name}.old-{number}").read_text() == changed


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root owns what root makes")
def test_a_folder_of_roots_gets_no_service(site: SiteFolder, config: Path) -> None:
    for system in (False, True):
        with pytest.raises(SiteError) as refused:
            service.install(site.path, system=system, windows=False)
        assert refused.value.code == "JG-site-366"


def test_a_folder_of_units_that_cannot_be_made_is_named(owned: SiteFolder, config: Path) -> None:
    config.parent.parent.write_text("a file where a folder should be")
    with pytest.raises(SiteError, match="JG-site-368"):
        service.install(owned.path, windows=False)


def test_start_and_status_ask_the_manager_that_was_meant(owned: SiteFolder, config: Path, systemctl: Path) -> None:
    with pytest.raises(SiteError, match="JG-site-367"):
        service.start(owned.path)
    service.install(owned.path, windows=False)
    assert service.start(owned.path) == service.Running("jangin-site-0", "active", 4711)
    asked = (systemctl / "asked").read_text().splitlines()
    assert [line.split()[2:4] for line in asked] == [
        ["daemon-reload"],
        ["start", "jangin-site-0"],
        ["show", "jangin-site-0"],
    ]
    assert all(line.startswith("--user --no-ask-password") for line in asked)
    (systemctl / "says").write_text("ActiveState=failed\nMainPID=0\n")
    assert not service.status(owned.path).active
    (systemctl / "status").write_text("1")
    with pytest.raises(SiteError, match="JG-site-364") as refused:
        service.start(owned.path)
    assert "Unit is masked" in str(refused.value)


def test_without_systemd_it_says_so(owned: SiteFolder, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(config))
    for ask in (service.start, service.status):
        with pytest.raises(SiteError, match="JG-site-363"):
            ask(owned.path)


def test_the_recipe_for_windows_is_xml_that_runs_the_daemon(owned: SiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", r"C:\Program Files\Jangin & co\python.exe")
    written = service.install(owned.path, windows=True)
    recipe = ElementTree.fromstring(written.file.read_text(encoding="utf-8"))
    assert recipe.findtext("executable") == sys.executable
    assert recipe.findtext("arguments") == f"-P -m jangin site run {owned.path}"
    assert ElementTree.fromstring(service.recipe(owned.path, "a--b")).findtext("id") == "jangin-a--b"
    assert (recipe.findtext("id"), written.file.name) == ("jangin-site-0", "jangin-site-0.xml")


def test_the_commands_print_what_to_type_next_and_how_it_stands(
    owned: SiteFolder, config: Path, systemctl: Path
) -> None:
    run = CliRunner().invoke
    installed = run(site_app, ["service", "install", str(owned.path), "--lang", "en"])
    assert installed.exit_code == 0
    assert installed.stdout.splitlines()[-1].startswith("systemctl --user enable --now jangin-site-0")
    status = ["service", "status", str(owned.path)]
    stands = run(site_app, status)
    assert (stands.exit_code, stands.stdout) == (0, "jangin-site-0 active 4711\n")
    (systemctl / "says").write_text("ActiveState=inactive\nMainPID=0\n")
    stopped = run(site_app, [*status, "--format", "json"])
    assert stopped.exit_code == 1
    assert stopped.stdout == '{"ok": false, "name": "jangin-site-0", "state": "inactive", "pid": 0}\n'
