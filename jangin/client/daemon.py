"""The light process: it listens, judges, hands work to the worker and answers; it never trains. It masks.

One pass of its loop: send what is ready, take one order, say that the site is there when that is due, rest as long as
the server asked for. The law: it keeps polling while the worker trains; every order of every campaign is answered or
journalled as lost, at the next poll where the server calls it back; an unreachable server, or a disk without room, is
waited for without end, with one line in the log a change of state; what the disk did not take does not leave, and what
failed once stays failed. Where a plan adds up in secret nothing that was trained is on the disk: a second asking is
answered by the open sum, or not. A rehearsal moves no task, charges nothing and keeps nothing. A refusal at the gate
for a reason that stays here leaves in one form and at one time: neither tells which reason it was.
"""

import logging
import queue
import random
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from jangin.client import models, renewal
from jangin.client.api import SiteApi
from jangin.client.beside import attended
from jangin.client.consent import coverage, use_of
from jangin.client.desk import commit, open_api, over, take
from jangin.client.door import LOCAL, Door, outward
from jangin.client.gate import STEPS, Cleared, Standing, admit, clear, is_of_a_sum
from jangin.client.limits import Conditions, ask, slot_seconds
from jangin.client.lock import alone
from jangin.client.pulse import Pulse
from jangin.client.settings import size_bytes
from jangin.client.state import MOVES, Journal, Kept, SiteFolder, Task
from jangin.client.sums import NOTHING_NOTED, SumJournal, Sums
from jangin.client.workbench import Contribution, Done, Job, Workbench
from jangin.errors import JanginError, LinkError, PrivacyError, SiteError, SumError
from jangin.flower_link.site import Incoming, SiteLink
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Reply, Said, reply_body
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.chain import Head
from jangin.privacy.ledger import Ledger
from jangin.privacy.secure_sum.site import Answer
from jangin.telling.logs import Event, noting

__all__ = ["Daemon"]

J = TypeVar("J")

_log = logging.getLogger(__name__)

_ACK_SECONDS: Final = 2.0
_REFRESH_SECONDS: Final = 600.0
_RENEW_SECONDS: Final = 86_400.0
_WARM_SECONDS: Final = 600.0
_FIRST_BACKOFF_SECONDS: Final = 0.5
_LONGEST_BACKOFF_SECONDS: Final = 60.0
_WORKING_SHARE: Final = 0.9
_MOST_TRIES: Final = 5
_DAY: Final = timedelta(days=1)
_OTHER_ROSTER: Final = "JG-sum-003", "roster"
_UNTRAINED: Final = "JG-site-322"
_UNREADABLE, _OVER, _TOO_LATE, _NO_ANSWER = "JG-site-210", "JG-site-208", "JG-site-209", "JG-site-207"


@dataclass
class _Work:
    """An order that the worker has; a newer message that asks the same takes the older one's place."""

    incoming: Incoming
    cleared: Cleared
    future: Future[Done | Contribution]

    @property
    def evaluates(self) -> bool:
        """Whether it is charged with the opening, for good, and not with its round."""
        return self.incoming.wire.kind == Kind.EVALUATE


@dataclass
class _Asked:
    """An order that may be begun as soon as the busy hook says that the machine is free."""

    incoming: Incoming
    received: float
    answer: Future[None]


@dataclass
class _Ready:
    """An answer that went through the door, the state its task reaches by being sent, if any, and when it may leave."""

    incoming: Incoming
    wire: Wire
    sent: Task | None
    tries: int = 0
    due: float = 0.0


class Daemon:
    """One site's light process; `run` owns the thread it is called in, `stop` may be called from a signal's handler."""

    def __init__(self, folder: SiteFolder, *, clock: Callable[[], datetime], jitter: random.Random) -> None:
        """Read the settings and keys; nothing is sent.

        Args:
            folder: an enrolled site.
            clock: the time.
            jitter: spreads the polls of many sites; nothing secret.

        Raises:
            SiteError: JG-site-101..103 keys, 302 not enrolled, 304 no site here.
            PlanError: JG-plan-001..006, site.yaml.
        """
        self._folder, self._clock, self._jitter = folder, clock, jitter
        self.pulse = Pulse()
        self._settings = folder.settings()
        if self._settings.server is None:
            raise SiteError("JG-site-302", where=str(folder.path))
        self._address = self._settings.server.address
        self._identity, self._node_key = folder.identity(), folder.node_key()
        limits = self._settings.limits
        kept = size_bytes(limits.disk_free_min)
        self._bench = Workbench(limits.cpu, limits.worker_bytes, folder.path, kept)
        self._hook = None if limits.busy_hook is None else folder.path / limits.busy_hook
        # Safe in a signal's handler, where an Event or a Condition is not.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stopping = False
        self._said, self._backoff_s = "", _FIRST_BACKOFF_SECONDS
        self._distrust: JanginError | None = None
        self._committed: Head | None = None
        self._turned = False
        self._withdrawn: set[str] = set()
        self._working: dict[tuple[str, int], _Work] = {}
        self._rehearsing: dict[str, _Work] = {}
        self._asked: dict[tuple[str, int, str], _Asked] = {}
        self._ready: list[_Ready] = []
        self._ack_due = self._refresh_due = self._renew_due = 0.0
        self._last_work = time.monotonic()

    def stop(self) -> None:
        """Come to an end soon: an update that is not finished is dropped, and its round lost."""
        self._stopping = True
        self._bell.put(None)

    def look_again(self) -> None:
        """Ask the server at once for what is due now and then; any thread may call it."""
        self._refresh_due = self._ack_due = 0.0
        self._bell.put(None)

    def run(self) -> None:
        """Serve until `stop`.

        Raises:
            SiteError: JG-site-305, the database cannot be used; JG-site-340, another daemon runs on this folder.
            PrivacyError: JG-privacy-021 and 025..027, the ledger cannot be counted on.
            OSError: the folder cannot be written.
        """
        with (
            alone(self._folder.path),
            attended(self._folder.path, self._settings.monitor, self.pulse, self.look_again, self._clock),
            self._folder.journal() as journal,
            self._folder.ledger() as ledger,
            SumJournal(self._folder.database_file) as noted,
            ThreadPoolExecutor(1, "jangin-worker") as trainer,
            ThreadPoolExecutor(1, "jangin-busy") as asker,
        ):
            ledger.grant([block.budget for block in self._settings.privacy.budgets], self._clock())
            sums = Sums(self._settings.site.id, self._identity, noted, ledger, self._folder.keep_own, self._clock)
            self._folder.sweep()
            self._lose(journal.open_tasks(), journal, ledger, noted)
            try:
                self._keep_connected(journal, ledger, trainer, asker, sums, noted)
            finally:
                self._bench.stop()
                for asked in self._asked.values():
                    asked.answer.cancel()  # nothing was charged for what was never begun
                for campaign in sums.campaigns:
                    self._end_sum(campaign, sums, journal)
                for (campaign, number), work in self._working.items():
                    if not work.evaluates:
                        self._give_back(ledger, campaign, number)
                    journal.move(campaign, number, Task.LOST, self._clock())
        self._say(logging.INFO, "stopped", noting(Event.STOPPED))

    def _keep_connected(
        self,
        journal: Journal,
        ledger: Ledger,
        trainer: ThreadPoolExecutor,
        asker: ThreadPoolExecutor,
        sums: Sums,
        noted: SumJournal,
    ) -> None:
        """Connect, by the roots as they are on the disk by then, whenever there is no connection."""
        while not self._stopping:
            try:
                begun = [place for place in journal.open_tasks() if journal.task(*place) is not Task.TRAINED]
                self._lose([place for place in begun if place not in self._working], journal, ledger, noted)
                with open_api(self._folder, journal, self._clock) as api:
                    door = Door(journal, self._clock)
                    session = _Session(journal, ledger, api, door, trainer, asker, sums, noted)
                    self._refresh(session)
                    self._turned = False
                    with self._link() as link:
                        self._say(logging.INFO, f"connected to {self._address}", noting(Event.CONNECTED))
                        self.pulse.connect()
                        self._serve(link, session)
            except JanginError as error:
                # The seconds of a clock that is off, or how a dead line shows itself, are no other state.
                state = f"{error.code} {error.coded.values.get('answer', '')}"
                self._say(logging.WARNING, str(error), noting(Event.DISCONNECTED, error), state)
                self.pulse.lose(error.code)
                with suppress(SiteError):  # its secrets are gone also where the disk does not take that
                    self._end_overdue(sums, journal)
                self._rest(self._backoff_s * self._jitter.uniform(0.5, 1.0))
                self._backoff_s = min(2 * self._backoff_s, _LONGEST_BACKOFF_SECONDS)

    def _lose(self, places: Iterable[tuple[str, int]], journal: Journal, ledger: Ledger, noted: SumJournal) -> None:
        """Mark as lost what was begun and is in nobody's hands: a process died, or the disk took no more of it."""
        for campaign, number in places:
            if noted.last(campaign) == NOTHING_NOTED:  # a sum is charged by another number than its round's
                kept, last = self._folder.kept_reply(campaign), journal.last_answered(campaign)
                if number > max(-1 if last is None else last, -1 if kept is None else kept.round):
                    self._give_back(ledger, campaign, number)  # what was never kept has never left
            journal.move(campaign, number, Task.LOST, self._clock())

    def _link(self) -> SiteLink:
        return SiteLink(
            self._address,
            self._node_key.private,
            self._folder.roots(self._folder.settings().server),
            clock=self._clock,
            timeout_seconds=10.0,
            retries=1,
        )

    def _serve(self, link: SiteLink, session: "_Session") -> None:
        """Poll until the link fails, has another key or the end is near."""
        pace = session.api.ack()
        while not self._stopping and not self._turned:
            self._collect(session)
            self._hear(session)
            self._end_overdue(session.sums, session.journal)
            self._commit(session)
            self._send(link, session.journal)
            incoming = self._receive(link)
            self._backoff_s = _FIRST_BACKOFF_SECONDS
            self.pulse.hear(len(self._working))
            if incoming is not None:
                self._take(incoming, session)
                if pace > _ACK_SECONDS:
                    self._ack_due = 0.0  # there is work: a slow pace may not hold any more
                continue
            now = time.monotonic()
            if now >= self._ack_due:
                pace = session.api.ack()
                self._ack_due = now + max(pace, _ACK_SECONDS)
            if now >= self._refresh_due:
                self._refresh(session)
            if not self._working and not self._rehearsing and now >= self._last_work + _WARM_SECONDS:
                self._bench.rest()
            rest_s = pace * self._jitter.uniform(0.9, 1.1)
            self._rest(max(min([rest_s, *(ready.due - time.monotonic() for ready in self._ready)]), 0.0))

    def _receive(self, link: SiteLink) -> Incoming | None:
        """One message; one that nobody can read, or whose run ended meanwhile, is dropped with a line in the log."""
        try:
            return link.receive()
        except LinkError as error:
            if error.code not in (_UNREADABLE, _OVER):
                raise
            _log.warning("%s", error, extra=noting(Event.DROPPED, error))
            return None

    def _hear(self, session: "_Session") -> None:
        """Judge the orders again of which the busy hook has spoken: what holds may have changed meanwhile."""
        for key, asked in list(self._asked.items()):
            if asked.answer.done():
                del self._asked[key]
                self._take(asked.incoming, session, asked)

    def _take(self, incoming: Incoming, session: "_Session", asked: _Asked | None = None) -> None:
        """Judge one message; hand an order on, answer what can be answered at once, or abstain.

        Args:
            incoming: the message.
            session: what is open.
            asked: for an order for which the busy hook was asked; None where it has to be asked first.
        """
        if incoming.wire.kind == Kind.STOP:
            self._call_back(incoming.wire.campaign, session)
            return
        if incoming.wire.kind in STEPS:
            self._step(incoming, session)
            return
        wire, journal, now = incoming.wire, session.journal, self._clock()
        received = time.monotonic() if asked is None else asked.received
        place = wire.campaign, wire.round
        try:
            cleared = self._clear(wire, session)
            joining, working = cleared.joining, self._working.get(place)
            rehearses = wire.kind == Kind.REHEARSE
            if rehearses:
                working = self._rehearsing.get(wire.campaign)
            if working is not None and (joining is None or cleared.again):
                working.incoming, working.cleared = incoming, cleared
                return
            if joining is not None and cleared.again:
                self._tell(incoming, session.sums.advert(joining.manifest), session)
                return
            if self._hook is not None and not cleared.again:
                if asked is None:
                    self._ask(self._hook, incoming, (*place, cleared.digest), received, session)
                    return
                asked.answer.result()
            evaluates = wire.kind == Kind.EVALUATE
            kept = self._folder.kept_reply(wire.campaign, evaluation=evaluates) if cleared.again else None
            own = self._folder.own(wire.campaign)
        except JanginError as error:
            self._abstain(incoming, error, session, received)
            return
        if rehearses:
            self._rehearsing[wire.campaign] = self._begin(incoming, cleared, None, received, session)
            return
        if joining is not None:
            self._end_sum(wire.campaign, session.sums, journal)
        journal.move(*place, Task.GATED, now)
        if kept is not None:
            journal.move(*place, Task.TRAINED, now)
            self._answer(incoming, cleared, kept, session)
            return
        journal.lose_held(*place, now)
        try:
            if joining is not None:
                if evaluates:  # begun once, whatever comes of it: the plan pays for no second attempt
                    self._folder.keep_reply(wire.campaign, Kept(wire.round, cleared.digest, b"", None), evaluation=True)
                session.sums.begin(joining)
            elif not evaluates:
                session.ledger.spend(*place, now)
            elif not session.ledger.accounts[wire.campaign].opened:
                session.ledger.spend(wire.campaign, 0, now)
        except JanginError as error:
            self._abstain(incoming, error, session, received)
            return
        journal.move(*place, Task.TRAINING, now)
        journal.take_part(*place, wire.kind, cleared.masters, now)
        self._working[place] = self._begin(incoming, cleared, own, received, session)

    def _begin(
        self, incoming: Incoming, cleared: Cleared, own: bytes | None, received: float, session: "_Session"
    ) -> _Work:
        """Hand an order to the worker."""
        wire = incoming.wire
        self._last_work = time.monotonic()
        until = received + _WORKING_SHARE * cleared.deadline_s
        vector = None if wire.vector is None else wire.vector.astype(np.float32, copy=False)
        site = self._settings.site.id
        job = Job(
            site=site,
            plan=cleared.payload,
            campaign=wire.campaign,
            records=cleared.records,
            episodes=cleared.episodes,
            masters=cleared.masters.keys(),
            cost=cleared.cost,
            own=own,
            kind=wire.kind,
            round=wire.round,
            body=wire.body,
            vector=vector,
            summed=cleared.joining is not None,
        )
        future = session.trainer.submit(self._done, job, cleared.plan, until)
        future.add_done_callback(lambda _: self._bell.put(None))
        return _Work(incoming, cleared, future)

    def _done(self, job: Job, plan: TrainingPlan, until: float) -> Done | Contribution:
        """Have a job done, if all whose episodes it takes still allow it: it may have waited for another campaign's.

        Raises:
            SiteError: JG-site-350..356, somebody took it back meanwhile; as `Workbench.work`.
        """
        identity, asked = self._identity.public_text, set(job.masters)
        held = coverage(self._folder.path, self._settings, identity, use_of(plan), asked, self._clock())
        if held.covered != asked:
            raise held.refusal
        return self._bench.work(job, max(until - time.monotonic(), 0.0))

    def _ask(
        self, hook: Path, incoming: Incoming, key: tuple[str, int, str], received: float, session: "_Session"
    ) -> None:
        """Ask the busy hook, beside the loop; an order that comes again meanwhile takes the older one's place."""
        held = self._asked.get(key)
        if held is not None:
            held.incoming = incoming
            return
        answer = session.asker.submit(ask, hook)
        answer.add_done_callback(lambda _: self._bell.put(None))
        self._asked[key] = _Asked(incoming, received, answer)

    def _step(self, incoming: Incoming, session: "_Session") -> None:
        """Answer a later step of an open sum at once; whatever is wrong with one ends its sum."""
        wire, sums, received = incoming.wire, session.sums, time.monotonic()
        try:
            step, message = self._judged(admit, wire, session)
            answer = sums.answer(wire.campaign, step, message)
        except JanginError as error:
            held = sums.manifest(wire.campaign)
            if held is not None and held.round == wire.round:
                self._end_sum(wire.campaign, sums, session.journal)
            self._abstain(incoming, error, session, received)
            return
        self._tell(incoming, answer, session)
        if answer.vector is None and sums.is_aborted(wire.campaign):  # by a complaint
            self._end_sum(wire.campaign, sums, session.journal)

    def _clear(self, wire: Wire, session: "_Session") -> Cleared:
        """The gate for orders; a roster that the manifest of a sum does not know is asked for anew, once."""
        try:
            return self._judged(clear, wire, session)
        except SumError as error:
            if (error.code, error.coded.where) != _OTHER_ROSTER:
                raise
        self._refresh(session)
        return self._judged(clear, wire, session)

    def _judged(self, judge: Callable[[Wire, Standing, datetime], J], wire: Wire, session: "_Session") -> J:
        """The gate, with what this site knows; a plan or a trust that lacks is asked for once."""
        if self._distrust is not None or session.journal.plan(wire.campaign) is None:
            self._refresh(session)
        if self._distrust is not None:
            raise self._distrust
        session.ledger.refresh()
        return judge(wire, self._standing(wire, session), self._clock())

    def _standing(self, wire: Wire, session: "_Session") -> Standing:
        """What this site knows when a message comes."""
        kept, last = self._folder.kept_reply(wire.campaign), session.journal.last_answered(wire.campaign)
        answered = None if last is None else (last, "")
        if kept is not None and (last is None or kept.round >= last):
            answered = kept.round, kept.order
        evaluated = self._folder.kept_reply(wire.campaign, evaluation=True)
        working = self._working.get((wire.campaign, wire.round))
        if wire.kind == Kind.REHEARSE:
            working = None
        if wire.kind == Kind.EVALUATE and working is None:
            working = next((work for place, work in self._working.items() if place[0] == wire.campaign), None)
        return Standing(
            folder=self._folder.path,
            settings=self._settings,
            trust=self._folder.trust(),
            identity=self._identity.public_text,
            node_key=self._node_key.public_text,
            envelope=session.journal.plan(wire.campaign),
            approved=session.journal.approval(wire.campaign) is not None,
            answered=answered,
            evaluated=None if evaluated is None else (evaluated.round, evaluated.order),
            training=None if working is None else working.cleared.digest,
            account=session.ledger.accounts.get(wire.campaign),
            units=session.ledger.units(wire.campaign),
            episodes=session.ledger.episodes(wire.campaign),
            noted=session.noted.last(wire.campaign),
            open=session.sums.manifest(wire.campaign),
            begun=session.journal.begun(self._clock() - _DAY),
            took=session.journal.took_part(wire.campaign, wire.round),
            rehearsed=session.journal.rehearsed(self._clock() - _DAY),
            conditions=Conditions(session.journal.paused(self._clock()), shutil.disk_usage(self._folder.path).free),
        )

    def _collect(self, session: "_Session") -> None:
        """Take from the worker what it finished; what the disk does not take is looked at again when it may."""
        for campaign, rehearsed in list(self._rehearsing.items()):
            if rehearsed.future.done():
                self._last_work = time.monotonic()
                self._rehearsed(rehearsed, session)
                del self._rehearsing[campaign]
        for place, work in list(self._working.items()):
            if not work.future.done():
                continue
            del self._working[place]
            self._last_work = time.monotonic()
            try:
                self._finish(place, work, session)
            except JanginError:
                self._working[place] = work
                raise

    def _rehearsed(self, work: _Work, session: "_Session") -> None:
        """Answer a rehearsal with what the worker made up, or say that a round would fail; nothing is kept."""
        wire = work.incoming.wire
        try:
            done = work.future.result()
            if not isinstance(done, Done):
                raise TypeError(f"Expected what may be sent as it is: {type(done).__name__}.")
        except SiteError as error:
            if outward(error.code) == LOCAL:
                problem = error.coded.values["problem"] if error.code == _UNTRAINED else error.code
                error = SiteError("JG-site-460", campaign=wire.campaign, problem=problem)
            self._abstain(work.incoming, error, session)
            return
        self._ready.append(_Ready(work.incoming, session.door.answer(wire, done.body, done.vector), None))
        said = noting(Event.REHEARSED, None, wire.campaign, wire.round)
        _log.info("Campaign %.12s: rehearsed on made-up rows, ready; nothing was charged.", wire.campaign, extra=said)

    def _finish(self, place: tuple[str, int], work: _Work, session: "_Session") -> None:
        """Keep what the worker finished, then let it through the door."""
        journal = session.journal
        try:
            done = work.future.result()
        except SiteError as error:
            self._fail(place, work, error, session)
            return
        session.ledger.refresh()
        account = session.ledger.accounts.get(place[0])
        if account is None or account.ended:  # nobody waits for it any more
            session.sums.end(place[0])
            journal.move(*place, Task.LOST, self._clock())
            return
        if isinstance(done, Contribution):
            self._advertise(place, work, done, session)
            return
        kept = Kept(place[1], work.cleared.digest, done.body, done.vector)
        try:
            if done.own is not None:
                self._folder.keep_own(place[0], done.own)
            # The last that can fail: what was kept may leave, and then its charge may not come back.
            self._folder.keep_reply(place[0], kept, evaluation=work.evaluates)
        except SiteError as error:
            self._fail(place, work, error, session)
            return
        if journal.task(*place) is not Task.TRAINED:
            journal.move(*place, Task.TRAINED, self._clock())
        self._answer(work.incoming, work.cleared, kept, session)

    def _fail(self, place: tuple[str, int], work: _Work, error: SiteError, session: "_Session") -> None:
        """Abstain from what the worker could not finish, or this disk not keep; nothing of it leaves, now or later."""
        work.future = Future()
        work.future.set_exception(error)
        if work.cleared.joining is None and not work.evaluates:
            self._give_back(session.ledger, *place)
        session.sums.end(place[0])
        self._abstain(work.incoming, error, session)

    def _advertise(self, place: tuple[str, int], work: _Work, done: Contribution, session: "_Session") -> None:
        """Give what was trained to the open sum, and offer its keys."""
        try:
            answer = session.sums.advertise(place[0], done.words, done.own)
        except SumError as error:
            session.sums.end(place[0])
            self._abstain(work.incoming, error, session)
            return
        session.journal.move(*place, Task.TRAINED, self._clock())
        self._tell(work.incoming, answer, session)

    def _end_sum(self, campaign: str, sums: Sums, journal: Journal) -> None:
        """End a campaign's open sum, with the training for it; its round is lost unless its vector was sent."""
        held = sums.manifest(campaign)
        if held is None:
            return
        work = self._working.pop((campaign, held.round), None)
        if work is not None:
            work.future.cancel()
        sums.end(campaign)
        if Task.LOST in MOVES[journal.task(campaign, held.round)]:
            journal.move(campaign, held.round, Task.LOST, self._clock())

    def _call_back(self, campaign: str, session: "_Session") -> None:
        """Drop what is in work for a campaign, the worker's step too: nobody waits for it, and nothing is answered.

        What was charged comes back where nothing of it was kept, and so nothing left; what was kept stays kept.
        """
        journal, sums = session.journal, session.sums
        for key, asked in list(self._asked.items()):
            if key[0] == campaign:
                asked.answer.cancel()
                del self._asked[key]
        numbers = [number for name, number in self._working if name == campaign]
        held = sums.manifest(campaign)
        self._end_sum(campaign, sums, journal)
        for number in numbers:
            work = self._working.pop((campaign, number), None)
            if work is not None:
                work.future.cancel()
                self._lose([(campaign, number)], journal, session.ledger, session.noted)
        if numbers:
            self._bench.cut(campaign)
        if numbers or held is not None:
            _log.info("Campaign %.12s: called back.", campaign, extra=noting(Event.CALLED_BACK, None, campaign))

    def _end_overdue(self, sums: Sums, journal: Journal) -> None:
        """End what the server has let wait for too long, also while there is no connection."""
        for campaign in sums.overdue():
            self._end_sum(campaign, sums, journal)

    def _give_back(self, ledger: Ledger, campaign: str, number: int) -> None:
        """Free the charge of a round of which nothing left; one that was never charged, or is over, stays as it is."""
        with suppress(PrivacyError):
            ledger.give_back(campaign, number, self._clock())

    def _commit(self, session: "_Session") -> None:
        """Tell the server what the ledger has come to, before anything that was charged in it leaves."""
        if session.ledger.head != self._committed:
            self._committed = commit(session.api, self._folder, session.ledger, self._clock)

    def _answer(self, incoming: Incoming, cleared: Cleared, kept: Kept, session: "_Session") -> None:
        """Let a kept reply through the door, or word of it where it is to wait here."""
        if cleared.hold:
            body = reply_body(Reply(self._settings.site.id, None))
            self._ready.append(_Ready(incoming, session.door.answer(incoming.wire, body, None), None))
        else:
            wire = session.door.answer(incoming.wire, kept.body, kept.vector)
            self._ready.append(_Ready(incoming, wire, Task.SENT))

    def _tell(self, incoming: Incoming, answer: Answer, session: "_Session") -> None:
        """Let an answer of a secure sum through the door."""
        wire = session.door.say(incoming.wire, Said(self._settings.site.id, answer.body, answer.vector))
        self._ready.append(_Ready(incoming, wire, None if answer.vector is None else Task.SENT))

    def _abstain(
        self, incoming: Incoming, error: JanginError, session: "_Session", received: float | None = None
    ) -> None:
        """Refuse politely; why stays in the journal and the log, and only what may be known outside leaves.

        Args:
            incoming: what is refused.
            error: why.
            session: what is open.
            received: when it came, for what was refused before anything was begun; None: it was begun, and a reason
                that stays here may leave when it comes up.
        """
        wire, journal, code = incoming.wire, session.journal, outward(error.code)
        said = noting(Event.ABSTAINED, error, wire.campaign, wire.round)
        if wire.kind == Kind.REHEARSE:
            _log.warning(
                "Campaign %.12s: rehearsed, not ready; nothing was charged. %s", wire.campaign, error, extra=said
            )
        else:
            _log.warning("Round %d of campaign %.12s: abstained. %s", wire.round, wire.campaign, error, extra=said)
        place = wire.campaign, wire.round
        # What is being trained goes on: one order of its round was refused, not the round.
        known = journal.plan(wire.campaign) is not None and place not in self._working
        if known and wire.kind != Kind.REHEARSE and Task.ABSTAINED in MOVES[journal.task(wire.campaign, wire.round)]:
            journal.move(wire.campaign, wire.round, Task.ABSTAINED, self._clock(), error.code)
        site = self._settings.site.id
        try:
            if is_of_a_sum(wire):
                answer = session.door.say(wire, Said(site, None, abstained=code))
            else:
                answer = session.door.answer(wire, reply_body(Reply(site, None, code)), None)
        except SiteError as closed:
            _log.warning("%s", closed, extra=noting(Event.SHUT, closed, wire.campaign, wire.round))
            return
        due = 0.0
        if code == LOCAL and received is not None:
            slot = slot_seconds(self._hook)
            due = received + slot * (1 + (time.monotonic() - received) // slot)
        self._ready.append(_Ready(incoming, answer, None, due=due))

    def _send(self, link: SiteLink, journal: Journal) -> None:
        """Send what is ready; what meets a broken link stays ready for the next.

        An answer that the server five times could not take is given up: it would be in every other's way. A vector does
        not leave any more once a person has taken back the yes to its campaign.
        """
        for ready in [ready for ready in self._ready if ready.due <= time.monotonic()]:
            place = ready.wire.campaign, ready.wire.round
            try:
                reached = ready.sent
                if reached is not None and journal.approval(place[0]) is None:
                    reached = Task.LOST
                else:
                    link.reply(ready.incoming, ready.wire)
                if reached is Task.SENT:
                    said = noting(Event.ANSWERED, None, *place)
                    _log.info("Round %d of campaign %.12s: answered.", place[1], place[0], extra=said)
            except LinkError as error:
                ready.tries += error.code == _NO_ANSWER
                if error.code not in (_OVER, _TOO_LATE) and ready.tries < _MOST_TRIES:
                    raise
                _log.warning("%s", error, extra=noting(Event.UNSENT, error, *place))
                reached = None if ready.sent is None else Task.LOST
            self._ready.remove(ready)
            if reached is not None and reached in MOVES[journal.task(*place)]:  # its campaign may have ended meanwhile
                journal.move(*place, reached, self._clock())

    def _refresh(self, session: "_Session") -> None:
        """Ask for staff, roster and plans; what cannot be believed stops every campaign until it can."""
        self._refresh_due = time.monotonic() + _REFRESH_SECONDS
        offer = session.api.campaigns()
        session.ledger.refresh()
        ended = {name for name in session.sums.campaigns if session.ledger.accounts[name].ended}
        for campaign in ended | set(over(offer)):
            self._end_sum(campaign, session.sums, session.journal)
        try:
            take(offer, self._folder, session.journal, session.ledger, self._clock())
            self._distrust = None
        except (SiteError, PrivacyError) as error:
            if self._distrust is None or self._distrust.code != error.code:
                _log.warning("%s", error, extra=noting(Event.DISTRUSTED, error))
            self._distrust = error
        else:
            self._renew(session.api)
            self._look_at_models(session.api)

    def _look_at_models(self, api: SiteApi) -> None:
        """Where models were pulled: learn, and say once, which of them may not be used any more."""
        if not models.any_pulled(self._folder.path):
            return
        try:
            models.look(self._folder, api, self._clock())
            for one in models.withdrawn(self._folder.path):
                if one.name not in self._withdrawn:
                    self._withdrawn.add(one.name)
                    _log.warning("Model %s is withdrawn: %s", one.name, one.reason, extra=noting(Event.WITHDRAWN))
        except SiteError as error:
            _log.warning("No word of released models: %s", error, extra=noting(Event.REFUSED_MODEL, error))

    def _renew(self, api: SiteApi) -> None:
        """Take up the connection's new key once the roster lists it; hand one in where that is due, once a day."""
        folder, now, tick = self._folder, self._clock(), time.monotonic()
        try:
            taken_up = renewal.take_up(folder, self._settings.site.id, folder.trust().roster(now))
            if taken_up is not None:
                self._node_key, self._turned = taken_up, True
                _log.info("The connection has its new key.", extra=noting(Event.RENEWED))
            elif tick >= self._renew_due and (renewal.waiting(folder) is not None or now >= renewal.due(folder)):
                fresh = renewal.make(folder).public_text
                self._renew_due = tick + _RENEW_SECONDS  # a server that does not take it is not asked by every refresh
                api.renew(fresh)
        except (SiteError, OSError) as error:  # the old key serves on
            coded = error if isinstance(error, SiteError) else None
            _log.warning("The connection's key is not renewed: %s", error, extra=noting(Event.UNRENEWED, coded))

    def _rest(self, seconds: float) -> None:
        """Wait, but not beyond the end of a training or of this process."""
        self.pulse.rest(seconds)
        if not self._stopping:
            with suppress(queue.Empty):
                self._bell.get(timeout=seconds)

    def _say(self, level: int, words: str, line: dict[str, object], state: str = "") -> None:
        """One line a change of state, which has its own name where its words may vary."""
        if (state or words) != self._said:
            self._said = state or words
            _log.log(level, "%s", words, extra=line)


@dataclass(frozen=True)
class _Session:
    """What is open while the daemon runs."""

    journal: Journal
    ledger: Ledger
    api: SiteApi
    door: Door
    trainer: ThreadPoolExecutor
    asker: ThreadPoolExecutor
    sums: Sums
    noted: SumJournal
