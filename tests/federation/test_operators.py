"""Ten real sites, two operators and an auditor, each with a certificate of their own, all by real commands."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from operating import led_from_afar, people_of, shown

from jangin.server.settings import StateFolder

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.no_cover]

SITES = tuple(f"site-{number}" for number in range(10))


@pytest.fixture
def ten_sites(tmp_path: Path, federate: Any, running: Any) -> Iterator[Any]:
    def server(state: StateFolder) -> Any:
        return running(("server", "run", str(state.path)), tmp_path / "server.log")

    with federate(tmp_path, SITES, server) as federation:
        for name in SITES:
            federation.daemon(name)
        yield federation


def test_two_people_take_ten_sites_from_a_draft_to_a_candidate_by_the_command(
    ten_sites: Any, plan: Any, tmp_path: Path
) -> None:
    made = plan("ten", **{"sites.invite": SITES, "sites.round_deadline": "5m", "strategy.rounds": 3})
    folder = tmp_path / "people"
    people = people_of(ten_sites, folder, ("operator", "approver", "auditor"), shown)

    def approve(site: str, campaign: str) -> None:
        shown("site", "approve", ten_sites.site(site).path, campaign)

    def watch(auditor: Path, campaign: str) -> list[dict[str, Any]]:
        command = [sys.executable, "-m", "jangin", "campaign", "watch", str(auditor), campaign, "--format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    seen = led_from_afar(ten_sites, made, people, folder, approve, watch)
    assert seen[-1]["state"] == "candidate"
    rounds = [event["detail"] for event in seen if event.get("act") == "round"]
    assert [(one["round"], one["outcome"], sorted(one["reported"])) for one in rounds] == [
        (number, "finished", sorted(SITES)) for number in range(4)
    ]
