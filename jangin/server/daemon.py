"""The national server in one process: the SuperLink, the site API, and a thread for each running campaign.

The law: the database says what runs, so that an operator's act needs no word to the server, and a server that was
killed goes on by itself; only active sites of the roster in force may connect; whoever asks it to stop is heard
within a moment, and nothing half-written stays.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from jangin.errors import JanginError, LinkError, ServerError, SiteError
from jangin.flower_link.link import EmbeddedLink, Run
from jangin.plan.terms import terms_of_cells
from jangin.plan.training_plan import TrainingPlan
from jangin.server.api import SiteApi
from jangin.server.campaigns import approved_sites, consult, least_sites, led_by, plan_of
from jangin.server.checkpoints import Checkpoints
from jangin.server.conductor import Asked, Conductor
from jangin.server.database import AWAY
from jangin.server.exchange import LinkExchange
from jangin.server.life import LED, Act, State
from jangin.server.members import Members
from jangin.server.monitor import Counted, Outlook, watched
from jangin.server.post import Post
from jangin.server.rehearsal import Rehearsal
from jangin.server.settings import StateFolder, write_whole
from jangin.server.store import CampaignRow, Store
from jangin.server.sums import SecureSum
from jangin.telling.logs import Event, noting
from jangin.trust.roster import RosterSite

__all__ = ["serve"]

_LOOK_SECONDS = 0.5
_COHORT_LOOK_SECONDS = 0.25
_PAUSE_SECONDS = 10.0
_SETTLE_SECONDS = 10.0
_STOP_SECONDS = 10.0

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
            another server runs on this folder; JG-server-465, an unknown shard.
        LinkError: JG-server-201, it cannot listen.
    """
    state = StateFolder(folder)
    settings, leads, store = state.settings(), led_by(shard), state.store()
    members = Members(store, state.root)
    api = Counted(SiteApi(store, members, idle_poll_s=settings.idle_poll_s, clock=clock, leads=leads))
    link = EmbeddedLink(state.certificate, state.key, host=settings.host, port=settings.port, site_api=api)
    server = _Server(state, store, members, link, stop, clock, leads)
    outlook = Outlook(store, members, state.certificate, lambda: len(link.online()), lambda: api.answers, clock)
    try:
        with state.alone():
            server.let_in()
            with link, watched(settings.monitor, outlook):
                address = f"{settings.host}:{link.port}"
                write_whole(state.address, f"{address}\n".encode())
                _log.info("Listening on %s.", address)
                try:
                    ready(address)
                    server.watch()
                finally:
                    state.address.unlink(missing_ok=True)
                _log.info("Stopping.")
            server.join()
    finally:
        store.close()


class _Server:
    """What the database asks for, carried out."""

    def __init__(
        self,
        state: StateFolder,
        store: Store,
        members: Members,
        link: EmbeddedLink,
        stop: threading.Event,
        clock: Callable[[], datetime],
        leads: Callable[[CampaignRow], bool],
    ) -> None:
        self._state, self._store, self._members, self._link = state, store, members, link
        self._stop, self._clock, self._leads = stop, clock, leads
        self._in: Mapping[str, RosterSite] = {}
        self._out_of_force = ""
        self._leading: dict[str, threading.Thread] = {}
        self._broken: set[str] = set()
        self._rehearsing: dict[str, threading.Thread] = {}

    def watch(self) -> None:
        """Look at the database until it is time to stop."""
        while True:
            try:
                self.let_in()
                for row in filter(self._leads, self._store.campaigns(State.APPROVED)):
                    consult(self._store, row)
                for row in filter(self._leads, self._store.campaigns(*LED)):
                    if row.hash not in self._leading and row.hash not in self._broken:
                        self._lead(row)
                for campaign, number in self._store.open_rehearsals():
                    if campaign not in self._rehearsing:
                        self._begin_rehearsal(campaign, number)
            except SQLAlchemyError as error:
                _log.error("The database does not answer: %s", type(error).__name__)
            self._leading = {name: thread for name, thread in self._leading.items() if thread.is_alive()}
            self._rehearsing = {name: thread for name, thread in self._rehearsing.items() if thread.is_alive()}
            if self._stop.wait(_LOOK_SECONDS):
                return

    def join(self) -> None:
        """Wait for the campaigns' threads, which end when their runs are closed."""
        for thread in [*self._leading.values(), *self._rehearsing.values()]:
            thread.join(_STOP_SECONDS)

    def let_in(self) -> None:
        """Register the active sites of the roster in force, and strike the others off."""
        active = self._active()
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

    def _lead(self, row: CampaignRow) -> None:
        thread = threading.Thread(target=self._campaign, args=(row,), name=f"campaign-{row.name}", daemon=True)
        self._leading[row.hash] = thread
        thread.start()

    def _begin_rehearsal(self, campaign: str, number: int) -> None:
        thread = threading.Thread(target=self._rehearse, args=(campaign, number), name="rehearsal", daemon=True)
        self._rehearsing[campaign] = thread
        thread.start()

    def _rehearse(self, campaign: str, number: int) -> None:
        """One rehearsal to its end; one that the server's stop breaks off begins anew with the next server."""
        plan = plan_of(self._store.campaign(campaign))
        rehearsal, run = Rehearsal(plan, number, self._store, clock=time.monotonic), self._link.open_run(plan.hash)
        settled = time.monotonic() + _SETTLE_SECONDS
        _log.info("Campaign %s is rehearsed: %s", plan.campaign, plan.hash)
        try:
            approved, online = self._there(plan)
            while len(online) < len(approved) and time.monotonic() < settled:
                self._wait(plan, _COHORT_LOOK_SECONDS)
                approved, online = self._there(plan)
            rehearsal.run(approved, online, lambda some, size: LinkExchange(run, some, plan.sites.deadline_s, size))
        except JanginError as error:
            if error.code != "JG-server-204":
                rehearsal.fail(str(error))
        except Exception:  # noqa: BLE001 - a bug here must not end the server
            _log.exception("The rehearsal of campaign %s broke off.", plan.campaign)
            rehearsal.fail("a bug; see the server's log")
        finally:
            run.close()

    def _there(self, plan: TrainingPlan) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The sites that have approved, and those of them that are online, in the plan's order."""
        approved, online = self._approved(plan), self._link.online()
        return approved, tuple(site for site in approved if site in online)

    def _campaign(self, row: CampaignRow) -> None:
        """One campaign to its end or the server's stop, however often the database is away meanwhile."""
        while True:
            try:
                with self._store.database.leading(row.hash) as ours:
                    if ours and self._store.campaign(row.hash).state in LED:
                        _log.info("Campaign %s runs: %s", row.name, row.hash, extra=noting(Event.LED, None, row.hash))
                        self._to_its_end(row)
                return
            except AWAY as error:
                what = noting(Event.AWAY, ServerError("JG-server-464"), row.hash)
                _log.error("Campaign %s waits for the database: %s", row.name, type(error).__name__, extra=what)
                if not self._store.database.waited_for(self._stop):
                    return
                what = noting(Event.BACK, None, row.hash)
                _log.warning("The database answers again: campaign %s goes on.", row.name, extra=what)

    def _to_its_end(self, row: CampaignRow) -> None:
        """The same, or to the reason why it cannot go on."""
        try:
            while not self._conducted(plan_of(row)):
                if self._stop.is_set():
                    return
                _log.warning("Campaign %s goes on in a new run.", row.name)
            self._store.move(row.hash, Act.REGISTER)
            _log.info("Campaign %s has a model.", row.name, extra=noting(Event.REGISTERED, None, row.hash))
        except JanginError as error:
            self._store.move(row.hash, Act.ABORT, reason=str(error))
            _log.error("Campaign %s is aborted: %s", row.name, error, extra=noting(Event.ABORTED, error, row.hash))
        except AWAY:
            raise
        except Exception:  # noqa: BLE001 - a bug in one campaign must not end the others
            _log.exception("Campaign %s stands still until the server is started again.", row.name)
            self._broken.add(row.hash)

    def _conducted(self, plan: TrainingPlan) -> bool:
        """Whether the campaign came to its end before its run did."""
        run = self._link.open_run(plan.hash)
        settled = time.monotonic() + _SETTLE_SECONDS

        def assemble(size: int) -> Asked:
            cohort = self._cohort(plan, settled)
            if plan.privacy.sums_only:
                return self._sum(plan, run, cohort)
            return LinkExchange(run, cohort, plan.sites.deadline_s, size)

        def pause() -> None:
            self._wait(plan, min(_PAUSE_SECONDS, plan.sites.deadline_s))

        checkpoints = Checkpoints(self._state.checkpoints(plan.hash))
        try:
            Conductor(plan, self._store, checkpoints, assemble, clock=time.monotonic, pause=pause).run()
        except LinkError as error:
            if error.code == "JG-server-204":
                return False
            raise
        finally:
            run.close()
        return True

    def _sum(self, plan: TrainingPlan, run: Run, cohort: Sequence[str]) -> SecureSum:
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
        return SecureSum(Post(run), terms, identities, digest)

    def _cohort(self, plan: TrainingPlan, settled: float) -> tuple[str, ...]:
        """The sites that have approved and are online, in the plan's order, once there are enough of them.

        After a start sites come back one by one: until `settled` all who approved are waited for.
        """
        until, least = time.monotonic() + plan.sites.deadline_s, least_sites(plan)
        while True:
            approved = self._approved(plan)
            online = self._link.online()
            cohort = tuple(site for site in approved if site in online)
            now = time.monotonic()
            if len(cohort) >= least and (len(cohort) == len(approved) or now >= settled):
                return cohort
            if now >= until:
                missing = [site for site in plan.sites.invite if site not in cohort]
                raise ServerError(
                    "JG-server-341", where=plan.campaign, online=list(cohort), least=least, missing=missing
                )
            self._wait(plan, _COHORT_LOOK_SECONDS)

    def _wait(self, plan: TrainingPlan, seconds: float) -> None:
        """Let some time pass; a stop of the server ends the wait, and the campaign's run with it."""
        if self._stop.wait(seconds):
            raise LinkError("JG-server-204", where=plan.hash)

    def _approved(self, plan: TrainingPlan) -> tuple[str, ...]:
        now = self._clock()
        try:
            return approved_sites(self._store, plan, self._members.roster(now), now)
        except SiteError:  # no roster is in force, which `watch` has said
            return ()
