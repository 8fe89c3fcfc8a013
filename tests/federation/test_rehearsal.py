"""Laws of a rehearsal with real processes: broken records are found before anything is charged, the rest is ready."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from operating import people_of

pytestmark = [pytest.mark.slow, pytest.mark.no_cover]


def rehearsed(federation: Any, campaign: str, *options: str) -> tuple[int, dict[str, Any]]:
    """What `jangin campaign rehearse` ends with, and says."""
    command = [sys.executable, "-m", "jangin", "campaign", "rehearse", str(federation.state.path), campaign[:12]]
    done = subprocess.run([*command, *options, "--format", "json"], capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def ledger(federation: Any, site: str) -> bytes:
    """Every byte of a site's ledger."""
    folder = federation.site(site).path
    return b"".join(file.read_bytes() for file in sorted(folder.glob("ledger.*")) if not file.name.endswith("-shm"))


def test_a_rehearsal_finds_the_sites_with_broken_records_before_anything_is_charged(
    federation: Any, plan: Any, wait: Any, tmp_path: Path
) -> None:
    sites = ["site-0", "site-1", "late", "dying"]
    campaign = federation.agree(plan("rehearsed", **{"sites.invite": sites, "sites.round_deadline": "2m"}))
    for site in sites:
        federation.daemon(site)
    parts = {site: next(Path(federation.records[site]).rglob("part-*.parquet")) for site in ("late", "dying")}
    before = {site: ledger(federation, site) for site in sites}
    with ExitStack() as mending:
        for file in parts.values():
            mending.callback(file.write_bytes, file.read_bytes())
        content = bytearray(parts["late"].read_bytes())
        content[len(content) // 2] ^= 1
        parts["late"].write_bytes(content)  # one bit of a recording
        parts["dying"].unlink()  # a channel that is gone
        status, said = rehearsed(federation, campaign)
    assert (status, said["done"], sorted(said["ready"])) == (1, True, ["site-0", "site-1"])
    assert (said["abstained"], said["missing"], said["unapproved"]) == ({"late": "local", "dying": "local"}, [], [])
    assert said["seconds"] > 0
    assert {site: ledger(federation, site) for site in sites} == before
    for site, code in (("late", "JG-data-005"), ("dying", "JG-data-006")):
        wait(lambda site=site: "rehearsed, not ready" in federation.daemon(site).said)
        (line,) = [line for line in federation.daemon(site).said.splitlines() if "rehearsed, not ready" in line]
        assert code in line
        assert "nothing was charged" in line
    for site in sites:
        assert federation.journal(site, campaign) == []
        with federation.site(site).journal() as journal:
            said_of_it = [line.says["en"] for line in journal.egress() if line.kind == "rehearse"]
        assert said_of_it
        assert all("nothing was charged" in one for one in said_of_it)
    operator = people_of(federation, tmp_path, ["operator"])["operator"]
    said = operator("campaign", "rehearse", campaign[:12])  # mended, and asked for from afar
    assert (said["ok"], said["rehearsal"], sorted(said["ready"])) == (True, 2, sorted(sites))
