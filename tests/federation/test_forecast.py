"""The law of `campaign check`: epsilon, bytes and hours within 10 % of what then happens, with real processes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from relays import Passed

from jangin.privacy.releases import Reading, Unit
from jangin.privacy.renyi import epsilon_at
from jangin.server import campaigns

pytestmark = [pytest.mark.soak, pytest.mark.slow, pytest.mark.no_cover]

SITES = [f"site-{number}" for number in range(5)]
WITHIN = 0.1
PRIVATE = {"epsilon": 4.0, "delta": 1e-5, "nominal_units": 400, "scaling_share": 0.1}
SUMS = {"secure_aggregation": "required", "n_plan": 5, "c_max": 1}
EVALUATE = {"metrics": ["mae"], "bound": [0, 200], "every": 3, "epsilon_share": 0.5}
PRIVATE_WORK = {"strategy.batch": 400, "strategy.local_steps": 1, "strategy.rounds": 6, "sites.round_deadline": "10m"}


def checked(federation: Any, plan: Any, folder: Path) -> dict[str, Any]:
    """What `jangin campaign check` says."""
    file = folder / f"{plan.campaign}.yaml"
    file.write_text(yaml.safe_dump(plan.model_dump(mode="json")))
    command = [sys.executable, "-m", "jangin", "campaign", "check", str(file), "--server", str(federation.state.path)]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def traffic(passed: list[Passed]) -> tuple[int, int]:
    """Bytes up and down of messages and commitments, without polls, pace, heartbeats and offers."""
    carries = ("pull-object", "confirm-message-received", "push-messages", "push-object", "commit")
    ours = [one for one in passed if one.path.endswith(carries) or (one.path.endswith("pull-messages") and one.content)]
    return sum(one.up for one in ours), sum(one.down for one in ours)


@pytest.mark.parametrize("sums", [False, True], ids=["clear", "sums"])
def test_what_is_forecast_is_within_a_tenth_of_what_happens(
    relayed: Any, plan: Callable[..., Any], wait: Any, tmp_path: Path, sums: bool
) -> None:
    private = PRIVATE | (SUMS if sums else {})
    work = {"sites.invite": SITES, "sites.min_sites": 5, "privacy": private, "evaluate": EVALUATE, **PRIVATE_WORK}
    federation, relay = relayed
    first, second = plan("first", **work), plan("second", **work)
    campaigns.rehearse(federation.store, federation.agree(first))  # by which the sites' workers are warm
    wait(lambda: federation.store.rehearsals(first.hash)[-1].done)
    assert len(federation.store.rehearsals(first.hash)[-1].ready) == len(SITES)
    assert federation.ended(federation.start(first.hash)).state == "candidate"
    forecast = checked(federation, second, tmp_path)
    assert (forecast["hours"]["basis"], forecast["hours"]["of"]) == ("rounds", first.hash)
    campaign = federation.agree(second)
    before = traffic(relay.passed)
    status = federation.ended(federation.start(campaign))
    assert (status.state, status.round) == ("candidate", 6)
    # 1. Bytes, as a relay between the sites and their server counted them.
    up, down = (after - start for after, start in zip(traffic(relay.passed), before, strict=True))
    assert (forecast["bytes"]["server_in"], forecast["bytes"]["server_out"]) == pytest.approx((up, down), rel=WITHIN)
    # 2. Epsilon, as each site's ledger charged it.
    planned = {one["reading"]: one["planned"] for one in forecast["epsilon"]["charged"]}
    for site in SITES:
        with federation.site(site).ledger_copy() as ledger:
            account = ledger.accounts[campaign]
            if not account.ended:  # the site has not heard yet that it is over
                ledger.end(campaign, account.reservation.time)
            for reading in Reading:
                order = ledger.order(Unit.EPISODE, reading)
                spent = ledger.accounts[campaign].divergence(Unit.EPISODE, reading, order)
                assert epsilon_at(order, spent, 1e-5) == pytest.approx(planned[reading.value], rel=WITHIN)
    # 3. Hours: seconds of all that was asked, where both campaigns had the machine to themselves.
    if os.getloadavg()[2] > (os.cpu_count() or 1):
        pytest.skip(f"other work on this machine, load {os.getloadavg()[2]:.0f}: hours of two campaigns do not compare")
    took = sum(entry.seconds for entry in [*status.attempts, *status.evaluations])
    assert forecast["hours"]["estimate"] * 3600 == pytest.approx(took, rel=WITHIN)
