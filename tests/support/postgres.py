"""A PostgreSQL server of our own on loopback, in a folder of its own; killed and started again as a test wishes."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psycopg
import pytest


def installed() -> bool:
    """Whether there is one on this machine."""
    return _programs() is not None


@cache
def _programs() -> Path | None:
    """Where its programs are: Debian keeps them apart from the others."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    given = shutil.which("initdb")
    return found[-1].parent if found else Path(given).parent if given else None


class Postgres:
    """A server, running."""

    def __init__(self, folder: Path) -> None:
        programs = _programs()
        if programs is None:
            pytest.skip("PostgreSQL is not installed")
        self._programs, self._folder, self._databases = programs, folder, 0
        # It refuses to run as root.
        self._user = pwd.getpwnam("postgres" if _is_there("postgres") else "nobody") if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run("initdb", "-D", "data", "-U", "jangin", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self._folder} -c max_connections=60"
        self._run("pg_ctl", "-D", "data", "-w", "-t", "60", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        """Stop it at once, in order."""
        self._run("pg_ctl", "-D", "data", "-w", "-m", "fast", "stop")

    def kill(self) -> None:
        """End it as a power cut would, and wait until its helpers have noticed."""
        server = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        helpers = [Path("/proc") / pid for pid in Path(f"/proc/{server}/task/{server}/children").read_text().split()]
        os.kill(server, signal.SIGKILL)
        pause = threading.Event()
        while any(helper.exists() for helper in helpers):
            pause.wait(0.02)

    def database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        name = f"jangin_{self._databases}"
        with psycopg.connect(f"postgresql://jangin@127.0.0.1:{self.port}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://jangin@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str) -> None:
        ids = {} if self._user is None else {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        command = [str(self._programs / program), *arguments]
        with tempfile.TemporaryFile() as said:  # not a pipe, which the server would keep open
            ended = subprocess.run(command, cwd=self._folder, stdout=said, stderr=said, check=False, **ids)  # type: ignore[call-overload]
            if ended.returncode:
                said.seek(0)
                raise RuntimeError(f"{program}: {said.read().decode(errors='replace')}")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server for as long as it is wanted."""
    folder = Path(tempfile.mkdtemp(prefix="jangin-pg."))
    try:
        server = Postgres(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_there(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
