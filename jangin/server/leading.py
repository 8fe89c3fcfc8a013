"""The aggregation worker: the process that leads the campaigns, each in a thread of its own.

`python -m jangin.server.leading FOLDER [INDUSTRY]`, with its control line to the server as standard input
(channel.py). Sums, strategies, torch, checkpoints and the records of rounds are here; the sites' connections are not.

The law: the database says what is wanted of a campaign, so that no word to this process is needed, and one that was
killed is followed by one that goes on from the last finished round; of two workers on one folder the second waits until
the first is gone; when the server is gone so is this process, within seconds. A campaign that is not wanted (any more)
is called back within a look at the database: it finishes no round, no round counts as failed, and its sites are told to
stop.
"""

import hashlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from jangin.codec import cbor
from jangin.errors import JanginError, LinkError, ServerError, SiteError
from jangin.flower_link.wire import Answer, Wire
from jangin.memory import give_back
from jangin.plan.messages import Kind
from jangin.plan.terms import terms_of_cells
from jangin.plan.training_plan import TrainingPlan
from jangin.server.campaigns import approved_sites, consult, least_sites
from jangin.server.channel import RemoteLink, RemoteRun
from jangin.server.checkpoints import Checkpoints
from jangin.server.conductor import Asked, Conductor
from jangin.server.database import AWAY
from jangin.server.exchange import LinkExchange
from jangin.server.life import Act, State
from jangin.server.members import Members
from jangin.server.outage import Outage
from jangin.server.post import Messages, Post
from jangin.server.registry import Registry
from jangin.server.rehearsal import Rehearsal
from jangin.server.settings import StateFolder
from jangin.server.shards import led_by
from jangin.server.store import CampaignRow, Store, plan_of
from jangin.server.sums import SecureSum
from jangin.telling.logs import Event, kept, noting

__all__ = ["Wanted", "lead", "wanted"]

_LOOK_SECONDS = 0.5
_COHORT_LOOK_SECONDS = 0.25
_PAUSE_SECONDS = 10.0
_SETTLE_SECONDS = 10.0
_STOP_SECONDS = 3.0
_CALL_SECONDS = 60.0  # twice the slowest poll
_AGAIN_SECONDS = 1.0
_ENDED, _CALLED_BACK, _MOVED_ON = "JG-server-204", "JG-server-482", "JG-server-332"
_FIRST_TO_GO: Final = "1000"
_LARGE_BYTES: Final = 2**20

_log = logging.getLogger("jangin.server.leading")  # as a process this module has no name of its own


class Wanted(StrEnum):
    """What is to become of a campaign now."""

    GO = "go"
    HOLD = "hold"
    END = "end"


_WANTED: Final = {State.RUNNING: Wanted.GO, State.EVALUATING: Wanted.GO, State.PAUSED: Wanted.HOLD}


def wanted(state: State) -> Wanted:
    """What a state of the database asks of whoever leads the campaign."""
    return _WANTED.get(state, Wanted.END)


def lead(
    folder: Path,
    control: socket.socket,
    *,
    shard: str | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> bool:
    """Lead the campaigns of a state folder until the other end of the control line is closed.

    Args:
        folder: a state folder made by `StateFolder.make`.
        control: the worker's end; the caller closes it.
        shard: the industry whose campaigns are led; None: all.
        clock: aware times.

    Returns:
        Whether every campaign's thread has ended: within 3 s.

    Raises:
        ServerError: JG-server-303, a database that cannot be used; JG-server-465, an unknown shard.
    """
    state, stop = StateFolder(folder), threading.Event()
    threading.Thread(target=_listen, args=(control, stop), name="jangin-control", daemon=True).start()
    store = state.store()
    try:
        with state.led_alone(stop) as alone:
            return not alone or _Leader(state, store, RemoteLink(control), stop, clock, led_by(shard)).run()
    finally:
        store.close()


def _listen(control: socket.socket, stop: threading.Event) -> None:
    """The server says nothing; when it is gone, it is time to stop."""
    with suppress(OSError):
        control.recv(1)
    stop.set()


@dataclass(eq=False)
class _Led:
    """One campaign in a thread: what is wanted of it, and whether that has changed since it looked."""

    row: CampaignRow
    wanted: Wanted
    stop: threading.Event
    heard: threading.Event = field(default_factory=threading.Event)

    def hear(self, now: Wanted) -> None:
        """Be told what is wanted; whoever waits is woken where that is something else."""
        if now is not self.wanted:
            self.wanted = now
            self.heard.set()

    def require(self) -> None:
        """Whether it is to go on.

        Raises:
            LinkError: JG-server-204, the server stops; JG-server-482, the campaign is called back.
        """
        if self.stop.is_set():
            raise LinkError("JG-server-204", where=self.row.hash)
        if self.wanted is not Wanted.GO:
            raise LinkError("JG-server-482", where=self.row.name)

    def wait(self, seconds: float) -> None:
        """Let some time pass, as long as it is to go on.

        Raises:
            LinkError: as `require`.
        """
        self.heard.wait(seconds)
        self.require()


@contextmanager
def _left_to_others() -> Iterator[None]:
    """Leave a campaign that somebody else moved meanwhile to them."""
    try:
        yield
    except ServerError as error:
        if error.code != _MOVED_ON:
            raise


class _WhileWanted:
    """A run's messages for as long as its campaign is to go on."""

    def __init__(self, run: RemoteRun, led: _Led) -> None:
        self._run, self._led = run, led

    @property
    def campaign(self) -> str:
        """Whose messages they are."""
        return self._run.campaign

    def push(self, site: str, wire: Wire, *, ttl_seconds: float) -> str:
        """Leave a message for a site; its id."""
        self._led.require()
        return self._run.push(site, wire, ttl_seconds=ttl_seconds)

    def pull(self, messages: Collection[str]) -> list[Answer]:
        """What has come for these ids."""
        self._led.require()
        return self._run.pull(messages)

    def forget(self, messages: Collection[str]) -> None:
        """Take no reply to these any more."""
        self._run.forget(messages)


class _Leader:
    """What the database asks for, carried out."""

    def __init__(
        self,
        state: StateFolder,
        store: Store,
        link: RemoteLink,
        stop: threading.Event,
        clock: Callable[[], datetime],
        leads: Callable[[CampaignRow], bool],
    ) -> None:
        self._state, self._store, self._link, self._stop, self._clock = state, store, link, stop, clock
        self._leads = leads
        self._members = Members(store, state.root)
        self._led: dict[str, tuple[_Led, threading.Thread]] = {}
        self._broken: set[str] = set()
        self._rehearsing: dict[str, threading.Thread] = {}

    def run(self) -> bool:
        """Look at the database until it is time to stop; whether every thread came to its end then."""
        outage = Outage(_log)
        while True:
            try:
                self._look()
                outage.over()
            except SQLAlchemyError as error:
                outage.on(error)
            if self._stop.wait(_LOOK_SECONDS):
                break
        until = time.monotonic() + _STOP_SECONDS
        threads = [*(thread for _, thread in self._led.values()), *self._rehearsing.values()]
        for led, _ in self._led.values():
            led.heard.set()
        for thread in threads:
            thread.join(max(until - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in threads)

    def _look(self) -> None:
        for row in filter(self._leads, self._store.campaigns(State.APPROVED)):
            consult(self._store, row)
        rows = {row.hash: row for row in filter(self._leads, self._store.campaigns(*_WANTED))}
        self._led = {name: (led, thread) for name, (led, thread) in self._led.items() if thread.is_alive()}
        for name, row in rows.items():
            if name not in self._led and name not in self._broken:
                self._lead(row)
        for name, (led, _) in self._led.items():
            led.hear(wanted(rows[name].state) if name in rows else Wanted.END)
        self._rehearsing = {name: thread for name, thread in self._rehearsing.items() if thread.is_alive()}
        for campaign, number in self._store.open_rehearsals():
            if campaign not in self._rehearsing and self._leads(self._store.campaign(campaign)):
                thread = threading.Thread(target=self._rehearse, args=(campaign, number), name="rehearsal", daemon=True)
                self._rehearsing[campaign] = thread
                thread.start()

    def _lead(self, row: CampaignRow) -> None:
        led = _Led(row, wanted(row.state), self._stop)
        thread = threading.Thread(target=self._campaign, args=(led,), name=f"campaign-{row.name}", daemon=True)
        self._led[row.hash] = led, thread
        thread.start()

    def _campaign(self, led: _Led) -> None:
        """One campaign to its end, to the server's stop, or to the reason why it cannot go on."""
        row = led.row
        try:
            plan = plan_of(row)
            while not self._stop.is_set():
                try:
                    with self._store.database.leading(row.hash) as ours:
                        if ours and self._store.campaign(row.hash).state in _WANTED:
                            with closing(self._link.open_run(plan.hash)) as run:
                                self._in_run(led, plan, run)
                        return
                except AWAY as error:
                    what = noting(Event.AWAY, ServerError("JG-server-464"), row.hash)
                    _log.error("Campaign %s waits for the database: %s", row.name, type(error).__name__, extra=what)
                    if self._store.database.waited_for(self._stop):
                        what = noting(Event.BACK, None, row.hash)
                        _log.warning("The database answers again: campaign %s goes on.", row.name, extra=what)
                except LinkError as error:
                    if error.code != _ENDED:
                        raise
                    if not self._stop.wait(_AGAIN_SECONDS):
                        _log.warning("Campaign %s goes on in a new run.", row.name)
        except JanginError as error:
            self._abort(led, error)
        except Exception:  # noqa: BLE001 - a bug in one campaign must not end the others
            _log.exception("Campaign %s stands still until the server is started again.", row.name)
            self._broken.add(row.hash)

    def _abort(self, led: _Led, error: JanginError) -> None:
        """End a campaign that cannot go on, once the database takes it."""
        while not self._stop.is_set():
            try:
                with _left_to_others():
                    self._store.move(led.row.hash, Act.ABORT, reason=str(error))
                    what = noting(Event.ABORTED, error, led.row.hash)
                    _log.error("Campaign %s is aborted: %s", led.row.name, error, extra=what)
                return
            except AWAY:
                self._store.database.waited_for(self._stop)

    def _in_run(self, led: _Led, plan: TrainingPlan, run: RemoteRun) -> None:
        """Go on whenever that is wanted, until the campaign is over or not wanted any more.

        Raises:
            LinkError: JG-server-204, the run has ended, or the server stops.
        """
        while True:
            led.heard.clear()
            try:
                led.require()
                what = noting(Event.LED, None, led.row.hash)
                _log.info("Campaign %s runs: %s", led.row.name, led.row.hash, extra=what)
                self._conduct(led, plan, run)
                if self._registered(led):
                    return
                led.wait(_LOOK_SECONDS)  # somebody wanted it otherwise in this moment
            except LinkError as error:
                if error.code != _CALLED_BACK:
                    raise
                self._call_back(plan, run)
                if led.wanted is Wanted.END:
                    self._stop.wait(_CALL_SECONDS)  # as long as sites take to hear of it
                    return
                _log.info("Campaign %s is on hold.", led.row.name)
                led.heard.clear()
                if led.wanted is Wanted.HOLD:
                    led.heard.wait()

    def _conduct(self, led: _Led, plan: TrainingPlan, run: RemoteRun) -> None:
        """From the last finished round to the final model.

        Raises:
            LinkError: as `_Led.require`. Also what `Conductor.run` raises.
        """
        settled = time.monotonic() + _SETTLE_SECONDS
        messages = _WhileWanted(run, led)

        def assemble(size: int) -> Asked:
            cohort = self._cohort(led, plan, run, settled)
            if plan.privacy.sums_only:
                return self._sum(plan, messages, cohort)
            return LinkExchange(messages, cohort, plan.sites.deadline_s, size)

        def pause() -> None:
            led.wait(min(_PAUSE_SECONDS, plan.sites.deadline_s))

        checkpoints = Checkpoints(self._state.checkpoints(plan.hash))
        Conductor(plan, self._store, checkpoints, assemble, clock=time.monotonic, pause=pause).run()

    def _call_back(self, plan: TrainingPlan, run: RemoteRun) -> None:
        """Tell every site that may be at work for the campaign to stop; those who come later find nothing to do."""
        wire = Wire(Kind.STOP.value, plan.hash, 0, cbor.encode({}))
        for site in self._approved(plan):
            try:
                run.push(site, wire, ttl_seconds=_CALL_SECONDS)
            except LinkError as error:
                if error.code == _ENDED:
                    raise

    def _registered(self, led: _Led) -> bool:
        """Whether the campaign's model is in the registry now; one that somebody moved meanwhile is left to them."""
        with _left_to_others():
            model = Registry(self._store, self._state).register(led.row.hash, self._clock())
            what = noting(Event.REGISTERED, None, led.row.hash)
            _log.info("Campaign %s has a model: %s", led.row.name, model.manifest.name, extra=what)
            return True
        return False

    def _rehearse(self, campaign: str, number: int) -> None:
        """One rehearsal to its end; one that the server's stop breaks off begins anew with the next worker."""
        try:
            plan = plan_of(self._store.campaign(campaign))
            self._rehearsed(plan, Rehearsal(plan, number, self._store, clock=time.monotonic))
        except AWAY as error:
            _log.error("The rehearsal of %s begins anew: %s", campaign, type(error).__name__)
        except Exception:  # noqa: BLE001 - a bug here must not end the others
            _log.exception("The rehearsal of campaign %s stands still.", campaign)

    def _rehearsed(self, plan: TrainingPlan, rehearsal: Rehearsal) -> None:
        _log.info(
            "Campaign %s is rehearsed: %s", plan.campaign, plan.hash, extra=noting(Event.REHEARSED, None, plan.hash)
        )
        try:
            with closing(self._link.open_run(plan.hash)) as run:
                approved, online = self._there(plan, run)
                seconds = plan.sites.deadline_s
                rehearsal.run(approved, online, lambda some, size: LinkExchange(run, some, seconds, size))
        except JanginError as error:
            if error.code != _ENDED:
                rehearsal.fail(str(error))
        except AWAY:
            raise
        except Exception:
            rehearsal.fail("a bug; see the server's log")
            raise

    def _there(self, plan: TrainingPlan, run: RemoteRun) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The sites that have approved, and those of them that are online, in the plan's order; all are waited for.

        Raises:
            LinkError: JG-server-204, the server stops.
        """
        settled = time.monotonic() + _SETTLE_SECONDS
        while True:
            approved, there = self._approved(plan), run.online()
            online = tuple(site for site in approved if site in there)
            if len(online) == len(approved) or time.monotonic() >= settled:
                return approved, online
            if self._stop.wait(_COHORT_LOOK_SECONDS):
                raise LinkError("JG-server-204", where=plan.hash)

    def _sum(self, plan: TrainingPlan, messages: Messages, cohort: Sequence[str]) -> SecureSum:
        """A secure sum of those of a cohort that the roster in force still has.

        Raises:
            ServerError: JG-server-341, no roster is in force any more.
        """
        try:
            roster = self._members.roster(self._clock())
        except SiteError:
            least, missing = least_sites(plan), list(cohort)
            raise ServerError("JG-server-341", where=plan.campaign, online=[], least=least, missing=missing) from None
        known = roster.identities
        identities = {site: known[site] for site in cohort if site in known}
        digest = hashlib.sha256(roster.payload).digest()
        (terms,) = terms_of_cells(plan)  # a plan with more than one is not proposed
        return SecureSum(Post(messages), terms, identities, digest)

    def _cohort(self, led: _Led, plan: TrainingPlan, run: RemoteRun, settled: float) -> tuple[str, ...]:
        """The sites that have approved and are online, in the plan's order, once there are enough of them.

        After a start sites come back one by one: until `settled` all who approved are waited for.
        """
        until, least = time.monotonic() + plan.sites.deadline_s, least_sites(plan)
        while True:
            approved = self._approved(plan)
            online = run.online()
            cohort = tuple(site for site in approved if site in online)
            now = time.monotonic()
            if len(cohort) >= least and (len(cohort) == len(approved) or now >= settled):
                return cohort
            if now >= until:
                missing = [site for site in plan.sites.invite if site not in cohort]
                raise ServerError(
                    "JG-server-341", where=plan.campaign, online=list(cohort), least=least, missing=missing
                )
            led.wait(_COHORT_LOOK_SECONDS)

    def _approved(self, plan: TrainingPlan) -> tuple[str, ...]:
        now = self._clock()
        try:
            return approved_sites(self._store, plan, self._members.roster(now), now)
        except SiteError:  # no roster is in force, which the server has said
            return ()


def main(folder: Path, shard: str | None = None) -> int:
    """Lead with standard input as the control line; the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server's to hear, and this process ends with it
    with suppress(OSError):  # where memory runs out, the kernel is to take this process and not the server; Linux
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")
    give_back(_LARGE_BYTES)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("jangin").setLevel(logging.INFO)
    logging.getLogger("flwr").handlers.clear()
    with socket.socket(fileno=os.dup(0)) as control:
        try:
            days = StateFolder(folder).settings().logs.retention_days
            with kept(folder, days, lambda: datetime.now(UTC)):
                ended = lead(folder, control, shard=shard)
        except JanginError as error:
            _log.error("%s", error)
            return error.exit_status
    if not ended:
        logging.shutdown()
        os._exit(0)  # what is still being added up is done over from the last finished round
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
