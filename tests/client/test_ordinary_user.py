"""The law of modesty: a site needs no more than a user of its own, its state folder, and nothing that listens.

The daemon and its worker run under a user id that no file knows, without HOME, in a mount namespace (unshare(1)) in
which all but the state folder and /proc can only be read: the records too.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listening import listening

import jangin
from jangin.client import desk
from jangin.client.state import SiteFolder, Task
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, order_body, read_reply
from jangin.plan.training_plan import TrainingPlan
from jangin.training.price import price

SOMEBODY = 61234
READ_ONLY = """
set -e
mount --make-rprivate /
mount --bind "$STATE" "$STATE"
if [ -n "$CLOSED" ]; then  # show the interpreter where another user can reach it
    mkdir "$STATE/held" && mount --bind "$PREFIX" "$STATE/held"
    mount -t tmpfs -o mode=755 none "$CLOSED" && mkdir -p "$PREFIX" && mount --bind "$STATE/held" "$PREFIX"
    umount "$STATE/held" && rmdir "$STATE/held"
fi
while read -r _ point _; do
    case "$point" in "$STATE" | /proc | /proc/*) ;; *) mount -o remount,bind,ro "$point" 2>/dev/null || true ;; esac
done < /proc/self/mounts
cd /
exec setpriv --reuid "$WHO" --regid "$WHO" --clear-groups --no-new-privs --bounding-set=-all \
    env -i PATH=/usr/bin:/bin PYTHONPATH="$TREE" "$@"
"""


def closed_to_others(path: Path) -> str:
    """The first folder on the way to it that another user cannot pass; empty where there is none."""
    return next((str(folder) for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001), "")


@dataclass(frozen=True)
class Modest:
    """A place in /tmp whose `site` is somebody's, and a way to run something as this somebody."""

    place: Path

    @property
    def state(self) -> Path:
        return self.place / "site"

    def start(self, *command: str) -> "subprocess.Popen[str]":
        prefix = Path(sys.base_prefix)
        given = {
            "STATE": str(self.state),
            "PREFIX": str(prefix),
            "CLOSED": closed_to_others(prefix),
            "WHO": str(SOMEBODY),
            "TREE": str(Path(jangin.__file__).parent.parent),
        }
        return subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", *command],
            env=os.environ | given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def says(self, command: Sequence[str]) -> list[str]:
        out, err = self.start(*command).communicate(timeout=60)
        return [*out.splitlines(), *err.splitlines()]


@pytest.fixture
def modest() -> Iterator[Modest]:
    if sys.platform != "linux" or os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv"))):
        pytest.skip("only root on Linux, with unshare and setpriv, can make another user and a mount namespace")
    with tempfile.TemporaryDirectory(prefix="jangin-") as name:
        Path(name).chmod(0o755)
        modest = Modest(Path(name))
        modest.state.mkdir()
        if modest.says(["true"]):
            pytest.skip("this machine does not let a mount namespace be made")
        yield modest


def owned(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, SOMEBODY, SOMEBODY)


TRY = """
id -u
for place in / /tmp /var/tmp /dev/shm /run "$@"; do (: > "$place/x") 2>/dev/null && echo "$place"; done
true
"""


def test_a_round_is_done_by_an_ordinary_user_who_may_write_to_the_state_folder_alone(
    modest: Modest, enrolled: SiteFolder, made_records: Path, server: Any, ministry: Any, wait: Any, gather: Any,
    plan: Callable[..., TrainingPlan],
) -> None:  # fmt: skip
    shutil.copytree(made_records, modest.place / "records")
    shutil.copytree(enrolled.path, modest.state, dirs_exist_ok=True)
    site, made = SiteFolder(modest.state), plan()
    settings = site.settings()
    block = settings.data[0].model_copy(update={"path": "../records"})
    site.write_settings(settings.model_copy(update={"data": (block,)}))
    server.plans.append(ministry.signed(made))
    desk.approve(site.path, made.hash, price)
    owned(modest.place)
    tried = modest.says(["sh", "-c", TRY, "sh", str(modest.place / "records"), str(modest.state)])
    assert tried == [str(SOMEBODY), str(modest.state)]
    before = {path.name for path in modest.place.iterdir()}

    daemon = modest.start(sys.executable, "-m", "jangin", "site", "run", str(modest.state))
    try:
        wait(lambda: server.link.online() or daemon.poll() is not None)
        run = server.link.open_run(made.hash)
        body = order_body(Order(Kind.SCALE, 0, np.empty(0, np.float32)), 60.0)
        answer = gather(run, run.push("site-0", Wire("scale", made.hash, 0, body))).content
        with site.journal() as journal:
            assert [move.code for move in journal.moves(10) if move.code] == []
        assert read_reply(Kind.SCALE, "site-0", answer.body, answer.vector).vector is not None
        children = [child for task in Path(f"/proc/{daemon.pid}/task").glob("*/children")
                    for child in task.read_text().split()]  # fmt: skip
        assert len(children) == 1  # the worker
        for pid in (daemon.pid, *map(int, children)):
            assert f"Uid:\t{SOMEBODY}\t{SOMEBODY}" in Path(f"/proc/{pid}/status").read_text()
            assert all(ip_address(address).is_loopback for address, _ in listening(pid))
        assert ("127.0.0.1", server.link.port) in listening(os.getpid())  # what listens is seen
        daemon.send_signal(signal.SIGTERM)
        _, err = daemon.communicate(timeout=30)
        assert (daemon.returncode, "Traceback" in err, "rror" in err) == (0, False, False), err
    finally:
        daemon.kill()
        daemon.communicate()
    with site.journal() as journal:
        assert journal.task(made.hash, 0) is Task.SENT
    assert {path.name for path in modest.place.iterdir()} == before
