"""Laws of a site whose clock is off, beside a real server: it says so, costs the others nothing, and comes back.

Time is bent by libfaketime (Debian: faketime), for one site's processes alone; the monotonic clock stays as it is, as
it does when a real clock is wrong.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.soak]

SITE = "late"


@pytest.fixture
def bent(tmp_path: Path) -> Callable[[int], dict[str, str]]:
    """Set the clock of processes with this environment so many seconds ahead, also while they run."""
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        pytest.skip("libfaketime is not installed (Debian: apt-get install faketime)")
    file = tmp_path / "clock"

    def bent(seconds: int) -> dict[str, str]:
        file.write_text(f"{seconds:+d}")
        return {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    return bent


@pytest.fixture
def off(federation: Any, bent: Callable[[int], dict[str, str]]) -> Iterator[Callable[[int], Any]]:
    """Start the site's daemon by a clock that is off."""
    federation.daemon(SITE).end()
    daemon = federation.jangin("off", "site", "run", federation.site(SITE).path)

    def off(seconds: int) -> Any:
        daemon.log.unlink(missing_ok=True)
        daemon.env = bent(seconds)
        daemon.start()
        return daemon

    yield off
    daemon.end()


def takes_part(federation: Any, plan: Any, name: str, deadline: str = "3m") -> bool:
    """Whether the site reported in the last round of a campaign, which finishes in either case."""
    sites = {"sites.invite": ["site-0", "site-1", SITE], "sites.min_sites": 1, "sites.quorum": 0.3}
    made = plan(name, **sites, **{"sites.round_deadline": deadline})
    status = federation.ended(federation.start(federation.agree(made)))
    assert (status.state, status.round) == ("candidate", 2)
    return SITE in status.attempts[-1].reported


def doctor(federation: Any, environment: dict[str, str]) -> dict[str, Any]:
    """D08, asked by the same clock."""
    asked = federation.jangin("doctor", "site", "doctor", federation.site(SITE).path, "--format", "json")
    asked.log.unlink(missing_ok=True)
    asked.env = environment
    asked.start()
    asked.process.wait(120)
    said = json.loads(next(line for line in asked.said.splitlines() if line.startswith("{")))
    (found,) = [check for check in said["checks"] if check["id"] == "D08"]
    return dict(found)


def test_a_site_whose_clock_is_7_s_behind_takes_part_and_its_doctor_fails(
    federation: Any, plan: Any, wait: Any, off: Any, bent: Any
) -> None:
    daemon = off(-7)
    wait(lambda: "connected to" in daemon.said)
    assert takes_part(federation, plan, "7-behind")
    found = doctor(federation, bent(-7))
    assert found["state"] == "FAIL"
    assert -8.5 < found["value"] < -5.5


@pytest.mark.parametrize(
    ("seconds", "named"),
    [(7, "JG-site-204"), (310, "JG-server-311"), (-310, "JG-server-311")],
)
def test_a_site_whose_clock_the_server_refuses_says_so_in_one_line_and_comes_back_when_it_is_right(
    federation: Any, plan: Any, wait: Any, off: Any, bent: Any, seconds: int, named: str
) -> None:
    daemon = off(seconds)
    wait(lambda: named in daemon.said)
    assert doctor(federation, bent(seconds))["state"] == "FAIL"  # meanwhile it tries again and again
    assert not takes_part(federation, plan, f"off-by-{seconds}", "4s")
    (line,) = daemon.said.splitlines()
    assert "clock" in line
    bent(0)
    wait(lambda: "connected to" in daemon.said)
    assert takes_part(federation, plan, f"right-after-{seconds}")
