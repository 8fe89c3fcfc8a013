"""Laws of the lock: one daemon a site, and none that outlives its process."""

import subprocess
import sys
from pathlib import Path

import pytest

from jangin.client.lock import alone
from jangin.errors import SiteError

HOLD = """
import sys
from pathlib import Path
from jangin.client.lock import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_daemon_runs_on_a_folder(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(SiteError, match="JG-site-340"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_sites_of_one_machine_do_not_meet(tmp_path: Path) -> None:
    one, other = tmp_path / "site-0", tmp_path / "site-1"
    one.mkdir()
    other.mkdir()
    with alone(one), alone(other):
        pass


@pytest.mark.kill
def test_a_daemon_that_was_killed_holds_its_folder_no_more(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"held"
        with pytest.raises(SiteError, match="JG-site-340"), alone(tmp_path):
            pass
        child.kill()
    with alone(tmp_path):
        pass
