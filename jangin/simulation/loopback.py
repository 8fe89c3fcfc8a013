"""A real federation on loopback: a national server and site daemons, each a process with its own folder and keys.

The law: everything that trains here goes the way it goes in the field - enrolment, roster, four eyes, approval, TLS,
node keys, rounds; the processes end with the one that started them, whatever ends it.
"""

import ctypes
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

import yaml

from jangin.client import consent, desk
from jangin.client.settings import BudgetBlock, PrivacyLimits
from jangin.errors import SimulationError
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.releases import Cost, GaussianRelease, Reading, Unit
from jangin.privacy.renyi import filter_budget, filter_order, renyi
from jangin.server import campaigns
from jangin.server.campaigns import CampaignStatus
from jangin.server.life import ENDED, WITH_MODEL
from jangin.server.members import Members, make_staff
from jangin.server.settings import ServerSettings, StateFolder
from jangin.training.price import price
from jangin.trust.consents import EVERYTHING
from jangin.trust.keys import Identity
from jangin.trust.staff import Role

__all__ = ["FEWEST_SUMMED", "Ran", "demo_policy", "run_on_loopback"]

FEWEST_SUMMED = 4
"""With so many sites a secure sum can be safe against one colluder."""

_LOOK_SECONDS = 0.1
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0

_MOST_FILLED = 0.999
_STAFF = {
    "operator": (Role.OPERATOR,),
    "approver": (Role.APPROVER,),
    "independent": (Role.INDEPENDENT_BODY,),
}


@dataclass(frozen=True)
class Ran:
    """What a campaign on loopback left.

    Attributes:
        folder: the server's files of the campaign: final.safetensors and scaling.json.
        status: the rounds, who took part in each, and how long they took.
        server_rss_mb: resident memory of the server and its aggregation worker at the end.
        site_rss_mb: median resident memory of the site daemons at the end; their workers are other processes.
    """

    folder: Path
    status: CampaignStatus
    server_rss_mb: float
    site_rss_mb: float


def run_on_loopback(
    folder: Path,
    records: Mapping[str, Path],
    plan: TrainingPlan,
    limit_seconds: float,
    progress: Callable[[int, int], None],
) -> Ran:
    """Build a federation in `folder`, run one campaign through it, and stop it.

    Args:
        folder: takes the folders of staff, server and sites.
        records: each site's name and its validated records of the plan's process.
        plan: the campaign; it invites exactly these sites.
        limit_seconds: longest that the campaign may take.
        progress: told after each round how many are done, and of how many.

    Raises:
        SimulationError: JG-sim-010, a process that ended or did not start; JG-sim-011, a campaign that was aborted or
            took too long. Also what server and sites refuse.
    """
    staff = folder / "staff"
    make_staff(staff, _STAFF, _now(), timedelta(days=1))
    keys = {name: Identity.load(staff / f"{name}.key") for name in _STAFF}
    settings = ServerSettings(host="127.0.0.1", port=0, idle_poll_s=0.5)
    root, listed = (staff / "root.pub").read_text(), (staff / "staff.envelope").read_bytes()
    state = StateFolder.make(folder / "server", settings, root.strip(), listed, ["127.0.0.1", "localhost"], _now())
    store = state.store()
    members = Members(store, state.root)
    sites = {name: folder / "sites" / name for name in records}
    cost = price(plan)
    with ExitStack() as stack:
        stack.callback(store.close)
        still_wanted = stack.enter_context(_signals_kept())
        server = stack.enter_context(_process("server", "run", state.path))

        _wait(state.address.exists, [server], _START_SECONDS, still_wanted)
        url = f"https://{state.address.read_text().strip()}"

        # Sites join: keys of their own, what their masters allow, a one-time token each, a roster that two people sign.
        for name, site in sites.items():
            desk.init(site, name, plan.process, records[name], _limits(plan, cost))
            masters = consent.masters_of(site, plan.process)
            tomorrow = _now().date() + timedelta(days=1)
            consent.grant(site, masters, plan.governance.purposes, [EVERYTHING], tomorrow, clock=_now)
            if plan.privacy.sums_only:
                _demand(site, demo_policy(len(sites)))
        tokens = {name: members.invite(name, _now()) for name in sites}
        for name, site in sites.items():
            desk.enroll(site, url, tokens[name], staff / "root.pub", state.authority)
        members.confirm(list(sites), [keys["operator"], keys["independent"]], _now())
        for name, site in sites.items():
            desk.enroll(site, url, tokens[name], staff / "root.pub", state.authority)

        # The plan: one signs, another signs.
        (folder / "plan.yaml").write_text(yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False))
        campaign = campaigns.propose(store, members, plan, keys["operator"], _now())
        campaigns.approve(store, members, campaign, keys["approver"], _now())

        # Every site runs, and says yes to the plan.
        daemons = [stack.enter_context(_process("site", "run", site)) for site in sites.values()]
        for site in sites.values():
            desk.approve(site, campaign, lambda _: cost)
        campaigns.start(store, members, campaign, _now())
        deadline = time.monotonic() + limit_seconds

        def over() -> bool:
            status = campaigns.status(store, campaign)
            progress(status.round, status.rounds)
            return status.state in ENDED

        if not _wait(over, [server, *daemons], deadline - time.monotonic(), still_wanted, demand=False):
            raise SimulationError("JG-sim-011", where="demo", state="running", reason=f"{limit_seconds:g} s are over")
        status = campaigns.status(store, campaign)
        if status.state not in WITH_MODEL:
            raise SimulationError("JG-sim-011", where="demo", state=status.state, reason=status.reason)
        return Ran(
            folder=state.checkpoints(campaign),
            status=status,
            server_rss_mb=_rss_mb(server.pid) + sum(map(_rss_mb, _started_by(server.pid))),
            site_rss_mb=median(_rss_mb(daemon.pid) for daemon in daemons),
        )


def demo_policy(sites: int) -> dict[str, Any]:
    """What each of so many sites demands of a secure sum: less than any site of the field may, and it says so."""
    return {
        "n_min": max(3, ceil(0.7 * sites)),
        "n_min_final": max(3, ceil(0.6 * sites)),
        "n_honest_min": 2,
        "c_max": 1,
        "demo": True,
    }


def _demand(site: Path, policy: Mapping[str, Any]) -> None:
    """Write a policy into a site's settings, as who keeps them would."""
    file = site / "site.yaml"
    settings = yaml.safe_load(file.read_text(encoding="utf-8")) | {"secure_sum": dict(policy)}
    file.write_text(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False), encoding="utf-8")


def _limits(plan: TrainingPlan, cost: Cost | None) -> PrivacyLimits:
    """Budgets just large enough for one plan: a site of the field would say itself what it allows."""
    epsilon = plan.privacy.epsilon
    if cost is None or epsilon == "none":
        return PrivacyLimits(allow_no_differential_privacy=True)
    delta = plan.privacy.delta
    caps = {reading: _cap(charge.releases(), epsilon, delta) for reading, charge in cost.items()}
    episodes = {reading: _cap(charge.for_episodes().releases(), epsilon, delta) for reading, charge in cost.items()}
    units = {Unit.EPISODE: episodes} | ({plan.privacy.unit: caps} if plan.privacy.unit is not Unit.EPISODE else {})
    budgets = tuple(
        BudgetBlock(unit=unit, secure_sum=each[Reading.SECURE_SUM], coalition=each[Reading.COALITION], delta=delta)
        for unit, each in units.items()
    )
    return PrivacyLimits(budgets=budgets, epsilon_cap_per_campaign=epsilon)


def _cap(releases: Sequence[GaussianRelease], epsilon: float, delta: float) -> float:
    """The least epsilon, in steps of 2 %, whose filter admits these releases."""
    while renyi(releases, filter_order(epsilon, delta)) > _MOST_FILLED * filter_budget(
        filter_order(epsilon, delta), epsilon, delta
    ):
        epsilon *= 1.02
    return epsilon


@contextmanager
def _process(*arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """One `jangin` process with its log beside its folder; asked to stop at the end, then killed."""
    folder = Path(arguments[-1])
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            [sys.executable, "-m", "jangin", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches them through us, in order
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent is gone, even by kill -9 (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@contextmanager
def _signals_kept() -> Iterator[Callable[[], None]]:
    """Ctrl-C and SIGTERM are not forgotten meanwhile: what is yielded does again what the last of them did.

    An exception that a signal's handler raises can be lost where a library's C code was just then asking for something.
    """
    held = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    earlier = {number: handler for number, handler in held.items() if callable(handler)}
    came: list[int] = []

    def keep(number: int, frame: FrameType | None) -> None:
        came.append(number)
        earlier[signal.Signals(number)](number, frame)

    def again() -> None:
        if came:
            earlier[signal.Signals(came[-1])](came[-1], None)

    if threading.current_thread() is not threading.main_thread():
        earlier = {}
    for number in earlier:
        signal.signal(number, keep)
    try:
        yield again
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _wait(
    met: Callable[[], bool],
    alive: Sequence[subprocess.Popen[bytes]],
    seconds: float,
    still_wanted: Callable[[], None],
    *,
    demand: bool = True,
) -> bool:
    """Look until a condition is met; every process has to stay alive meanwhile."""
    deadline = time.monotonic() + seconds
    while not met():
        still_wanted()
        for child in alive:
            if child.poll() is not None:
                raise SimulationError("JG-sim-010", where=_command(child), status=child.returncode)
        if time.monotonic() > deadline:
            if demand:
                raise SimulationError("JG-sim-010", where=_command(alive[0]), status=f"not ready in {seconds:g} s")
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def _command(child: subprocess.Popen[bytes]) -> str:
    return " ".join(str(part) for part in list(child.args)[2:])  # type: ignore[arg-type]


def _rss_mb(pid: int) -> float:
    """Resident memory of a process now, by /proc; NaN where there is none."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), float("nan"))


def _started_by(pid: int) -> list[int]:
    """The processes that any thread of a process started, by /proc."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _now() -> datetime:
    return datetime.now(UTC)
