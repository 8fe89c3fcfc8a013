"""The national server: SuperLink, both APIs and the roster's keys in one process, which starts another that leads.

The law: this process sums nothing and imports no torch, so that a poll waits for no campaign and no campaign takes the
sites' connections with it; only active sites of the roster in force may connect; the worker is started anew whenever it
ends, and whoever asks the server to stop is heard within a moment, by both.
"""

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from jangin.errors import ServerError, SiteError
from jangin.flower_link.link import EmbeddedLink
from jangin.server.api import SiteApi
from jangin.server.channel import Runs
from jangin.server.members import Members
from jangin.server.monitor import Counted, Outlook, watched
from jangin.server.operators import listening
from jangin.server.outage import Outage
from jangin.server.registry import Registry
from jangin.server.settings import StateFolder, write_whole
from jangin.server.shards import led_by
from jangin.telling.logs import Event, noting
from jangin.trust.roster import RosterSite

__all__ = ["serve"]

_LOOK_SECONDS = 0.5
_STOP_SECONDS = 5.0
_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 60.0
_STEADY_SECONDS = 60.0  # a worker that lived for so long is not in a row with the ones before

_log = logging.getLogger(__name__)


def serve(
    folder: Path,
    stop: threading.Event,
    *,
    shard: str | None = None,
    ready: Callable[[str], None] = lambda address: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Run the server of a state folder until `stop` is set.

    Args:
        folder: a state folder made by `StateFolder.make`.
        stop: set from a signal handler or another thread.
        shard: the industry whose campaigns are led here; None: all.
        ready: told `host:port` when it listens; the folder's file `address` says the same for as long.
        clock: aware times.

    Raises:
        ServerError: JG-server-301, no server's folder; JG-server-303, a database that cannot be used; JG-server-306,
            another server runs on this folder; JG-server-414, it cannot listen for people; JG-server-465, an unknown
            shard.
        LinkError: JG-server-201, it cannot listen.
    """
    state = StateFolder(folder)
    settings, leads, store = state.settings(), led_by(shard), state.store()
    members = Members(store, state.root)
    registry = Registry(store, state)
    api = Counted(SiteApi(store, members, registry, idle_poll_s=settings.idle_poll_s, clock=clock, leads=leads))
    link = EmbeddedLink(state.certificate, state.key, host=settings.host, port=settings.port, site_api=api)
    door = _Door(members, link, clock)
    outlook = Outlook(store, members, state.certificate, lambda: len(link.online()), lambda: api.answers, clock)
    try:
        with state.alone():
            door.let_in()
            with link, watched(settings.monitor, outlook), listening(state, clock), _led(folder, link, shard):
                address = f"{settings.host}:{link.port}"
                write_whole(state.address, f"{address}\n".encode())
                _log.info("Listening on %s.", address)
                try:
                    ready(address)
                    while not stop.wait(_LOOK_SECONDS):
                        door.let_in()
                finally:
                    state.address.unlink(missing_ok=True)
                _log.info("Stopping.")
    finally:
        store.close()


class _Door:
    """Which sites may connect."""

    def __init__(self, members: Members, link: EmbeddedLink, clock: Callable[[], datetime]) -> None:
        self._members, self._link, self._clock = members, link, clock
        self._outage = Outage(_log)
        self._in: Mapping[str, RosterSite] = {}
        self._out_of_force = ""

    def let_in(self) -> None:
        """Register the active sites of the roster in force, and strike the others off."""
        try:
            active = self._active()
        except SQLAlchemyError as error:
            self._outage.on(error)
            return
        self._outage.over()
        if active == self._in:
            return
        for site, entry in self._in.items():
            if site not in active or active[site].node_key != entry.node_key:
                self._link.unregister(site)
        for site, entry in active.items():
            self._link.register(site, entry.node)
        _log.info("%d sites may connect.", len(active), extra=noting(Event.LET_IN))
        self._in = active

    def _active(self) -> Mapping[str, RosterSite]:
        try:
            active = self._members.roster(self._clock()).active
        except SiteError as error:
            if error.code != self._out_of_force:
                _log.warning("No roster is in force: %s", error, extra=noting(Event.OUT_OF_FORCE, error))
            self._out_of_force = error.code
            return {}
        self._out_of_force = ""
        return active


class _Worker(Protocol):
    """What is needed of a process."""

    def kill(self) -> None:
        """End it."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended."""
        ...


def _started(folder: Path, control: socket.socket, shard: str | None) -> _Worker:
    """The aggregation worker of a folder, with its end of the control line."""
    command = [sys.executable, "-P", "-m", "jangin.server.leading", str(folder), *([shard] if shard else [])]
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command,
        stdin=control.fileno(),
        stdout=2,  # what a library prints is no answer of the command
        process_group=0,  # Ctrl-C reaches it through us, in order
    )


@contextmanager
def _led(folder: Path, link: EmbeddedLink, shard: str | None) -> Iterator[None]:
    """Have a worker lead the folder's campaigns meanwhile; at the end it is asked to stop, then ended."""
    worker = _Aggregation(folder, link, shard)
    thread = threading.Thread(target=worker.run, name="jangin-aggregation", daemon=True)
    thread.start()
    try:
        yield
    finally:
        worker.end()
        thread.join(2 * _STOP_SECONDS)


class _Aggregation:
    """The worker as the server sees it: started, listened to, started anew."""

    def __init__(self, folder: Path, link: EmbeddedLink, shard: str | None = None) -> None:
        self._folder, self._link, self._shard = folder, link, shard
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._runs: Runs | None = None

    def run(self) -> None:
        """Keep one worker running until `end`."""
        backoff_s = _FIRST_BACKOFF_SECONDS
        while not self._over.is_set():
            began = time.monotonic()
            problem = self._once()
            if self._over.is_set():
                return
            if time.monotonic() - began >= _STEADY_SECONDS:
                backoff_s = _FIRST_BACKOFF_SECONDS
            error = ServerError("JG-server-481", problem=problem, seconds=backoff_s)
            _log.error("%s", error, extra=noting(Event.WORKER_ENDED, error))
            self._over.wait(backoff_s)
            backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_SECONDS)

    def end(self) -> None:
        """Have the worker end, and start no other."""
        with self._lock:
            self._over.set()
            if self._runs is not None:
                self._runs.hang_up()

    def _once(self) -> str:
        """One worker from its start to its end; how it ended."""
        ours, theirs = socket.socketpair()
        with Runs(self._link, ours) as runs:
            try:
                with theirs:
                    worker = _started(self._folder, theirs, self._shard)
            except OSError as error:
                return f"it cannot be started: {error.strerror or type(error).__name__}"
            with self._lock:
                self._runs = None if self._over.is_set() else runs
            if self._runs is not None:
                runs.serve()
            runs.hang_up()
            with suppress(subprocess.TimeoutExpired):
                return f"exit status {worker.wait(_STOP_SECONDS)}"
            worker.kill()
            worker.wait()
            return "it did not stop, and was ended"
