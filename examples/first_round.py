"""From an installed Jangin to the first finished round: six commands of a site, against a real server on this machine.

Run it (half a minute): .venv/bin/python examples/first_round.py [--keep DIR] [--lang ko]

Each command is a process of its own and is shown with all that it says; what the ministry does meanwhile stands between
them as a line in brackets. Everything is stopped at the end.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from jangin.codec.document import parse
from jangin.plan.training_plan import TrainingPlan
from jangin.server import campaigns
from jangin.server.life import ENDED, WITH_MODEL
from jangin.server.members import Members, make_staff
from jangin.server.settings import ServerSettings, StateFolder
from jangin.server.store import Store
from jangin.trust.keys import Identity
from jangin.trust.staff import Role

SITE = "kr-0421"
COMMANDS = (
    "jangin site init site --id kr-0421 --process steel.bof_blow --records records/site-0",
    "jangin site enroll site --server {url} --token {token} --root root.pub --ca ca.crt",
    "jangin data generate steel.bof_blow records --sites 1 --masters 2 --episodes 150",
    "jangin consent grant site --master S0-M00 --master S0-M01 --purpose skill_preservation --channel all"
    " --until {until}",
    "jangin site approve site {plan}",
    "jangin site run site",
)
"""What is typed at the site, in this order; in a factory `records` are the firm's own."""

PEOPLE = {"operator": (Role.OPERATOR,), "approver": (Role.APPROVER,), "independent": (Role.INDEPENDENT_BODY,)}
PLAN = {
    "campaign": "first-round",
    "process": "steel.bof_blow",
    "model_line": "national-bof-blow",
    "sites": {"invite": [SITE], "min_sites": 1, "quorum": 1.0, "round_deadline": "5m"},
    "model": {"name": "linear"},
    "strategy": {"name": "fedavg", "rounds": 1, "local_steps": 5, "batch": 100, "lr": 0.1},
    "privacy": {"epsilon": 4, "delta": 1e-4, "clip": 0.3, "nominal_units": 120, "scaling_share": 0.25},
    "governance": {
        "purposes": ["skill_preservation"],
        "prohibited": ["worker_evaluation", "dismissal"],
        "release": {"recipients": "contributors", "export": "domestic_only"},
    },
    "seed": 7,
}
JANGIN = (sys.executable, "-m", "jangin")
PATIENCE_SECONDS = 300.0


def main() -> None:
    """Play both sides, and print the site's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="an empty folder that keeps everything")
    parser.add_argument("--lang", default="en", choices=("en", "ko"), help="of what the commands say")
    arguments = parser.parse_args()
    os.environ["JANGIN_LANG"] = arguments.lang
    with TemporaryDirectory() as made:
        folder = arguments.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        walk(folder.resolve())


def walk(folder: Path) -> None:
    """The six commands, each as soon as it can succeed."""
    init, enroll, generate, grant, approve, run = COMMANDS
    with ministry(folder) as (state, store, members, keys):
        token = members.invite(SITE, now())
        url, until = f"https://{state.address.read_text().strip()}", f"{now() + timedelta(days=365):%Y-%m-%d}"

        typed(init, folder)
        typed(enroll.format(url=url, token=token), folder)
        fingerprint = members.fingerprints([SITE])[SITE]
        members.confirm([SITE], [keys["operator"], keys["independent"]], now())
        aside(f"the operator reads {fingerprint}, too, and confirms the site")
        typed(generate, folder)
        typed(grant.format(until=until), folder)

        plan = campaigns.propose(store, members, parse(PLAN, TrainingPlan, "plan"), keys["operator"], now())
        campaigns.approve(store, members, plan, keys["approver"], now())
        aside("the operator proposes a plan, another person approves it, and the site is told its hash")
        typed(approve.format(plan=plan), folder)
        campaigns.start(store, members, plan, now())
        aside("the operator starts the campaign")

        def finished() -> bool:
            return campaigns.status(store, plan).state in ENDED

        typed(run, folder, until=finished)
        status = campaigns.status(store, plan)
        aside(f"{status.state}: {status.round} of {status.rounds} rounds; the model is in {state.checkpoints(plan)}")
        if status.state not in WITH_MODEL:
            sys.exit(status.reason)


@contextmanager
def ministry(folder: Path) -> Iterator[tuple[StateFolder, Store, Members, dict[str, Identity]]]:
    """A server that listens, with its people; what a site is given by hand lies in `folder`."""
    staff = make_staff(folder / "staff", PEOPLE, now(), timedelta(days=1))
    keys = {person: Identity.load(folder / "staff" / f"{person}.key") for person in PEOPLE}
    root = (folder / "staff" / "root.pub").read_text()
    settings = ServerSettings(port=0, idle_poll_s=0.5)
    state = StateFolder.make(folder / "server", settings, root.strip(), staff, ["127.0.0.1"], now())
    (folder / "root.pub").write_text(root)
    (folder / "ca.crt").write_bytes(state.authority.read_bytes())
    store = state.store()
    log = (folder / "server.log").open("wb")
    process = subprocess.Popen([*JANGIN, "server", "run", str(state.path)], stdout=log, stderr=log)  # noqa: S603
    try:
        wait(state.address.exists, process)
        yield state, store, Members(store, state.root), keys
    finally:
        end(process)
        log.close()
        store.close()


def typed(command: str, folder: Path, until: Callable[[], bool] | None = None) -> None:
    """Run what is typed, and show both; with `until` it runs until that holds, and is then asked to stop."""
    print(f"$ {command}", flush=True)
    process = subprocess.Popen([*JANGIN, *shlex.split(command)[1:]], cwd=folder, stderr=subprocess.STDOUT)  # noqa: S603
    try:
        if until is not None:
            wait(until, process)
            process.send_signal(signal.SIGTERM)
        if process.wait(PATIENCE_SECONDS) != 0:
            sys.exit(f"{command}: status {process.returncode}")
    finally:
        end(process)


def aside(text: str) -> None:
    """What happens at the ministry."""
    print(f"[{text}]", flush=True)


def wait(met: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    """Look until a condition holds, while a process lives."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not met():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"it never came to hold; {' '.join(map(str, process.args))} ended with {process.poll()}")
        time.sleep(0.05)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Stop a process that still runs."""
    if process.poll() is None:
        process.terminate()
        process.wait(30)


def now() -> datetime:
    """The machine's time."""
    return datetime.now(UTC)


if __name__ == "__main__":
    main()
