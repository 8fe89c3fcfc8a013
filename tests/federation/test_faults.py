"""Laws of the federation under faults, with real processes: who fails is named, the rest goes on, nothing counts twice.

Each model is compared with what the round records say that it must be: the sum, once, of the sites named as reported.
"""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listening import listening
from operating import led_from_afar, people_of, watched

from jangin.client import desk
from jangin.errors import SiteError
from jangin.flower_link.site import SiteLink
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Reply, reply_body
from jangin.server.life import Act
from jangin.training.price import price
from jangin.trust.certificates import make_authority
from jangin.trust.keys import NodeKey

pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

STEADY = ("site-0", "site-1")


def made_of_its_records(federation: Any, plan: Any) -> None:
    """The final model is the one that the round records make."""
    learnt, expected = federation.learnt(plan.hash), federation.recomputed(plan)
    assert np.linalg.norm(learnt - expected) <= 1e-6 * np.linalg.norm(expected)


def hurried(site: str) -> dict[str, object]:
    """Rounds that close soon, and with any one site: on a busy machine the steady ones may be late as well."""
    sites = {"sites.invite": ["site-0", "site-1", site], "sites.min_sites": 1, "sites.quorum": 0.3}
    return {**sites, "sites.round_deadline": "4s"}


def test_two_campaigns_run_at_once_over_the_same_sites_and_only_the_server_listens_on_loopback_alone(
    federation: Any, plan: Any
) -> None:
    rounds = {"strategy.rounds": 4}
    end_point = {"model_line": "national-bof-end-point", "model": {"name": "mlp", "hidden": [4]}, "seed": 8}
    plans = [plan("how-much-longer", **rounds), plan("where-it-ends", **rounds, **end_point)]
    hashes = [federation.agree(made) for made in plans]
    for campaign in hashes:
        federation.start(campaign)
    for made in plans:
        status = federation.ended(made.hash)
        assert (status.state, status.round, status.reason) == ("candidate", 4, "")
        assert all(sorted(entry.reported) == ["site-0", "site-1"] for entry in status.attempts)
        made_of_its_records(federation, made)
    assert len({federation.learnt(campaign).shape for campaign in hashes}) == 2
    with federation.site("site-0").journal() as journal:
        order = [move.campaign for move in journal.moves(1000) if move.campaign in hashes]
    begun, over = [order.index(campaign) for campaign in hashes], [order[::-1].index(campaign) for campaign in hashes]
    assert max(begun) < len(order) - max(over)  # each began before the other was over
    assert {address for address, _ in listening(federation.server.pid)} == {"127.0.0.1"}
    assert listening(federation.server.worker()) == set()
    for name in ("site-0", "site-1"):
        daemon = federation.daemon(name)
        assert listening(daemon.pid) == listening(daemon.worker()) == set()


def test_two_people_lead_a_campaign_from_afar_while_an_auditor_only_reads(
    federation: Any, plan: Any, tmp_path: Path
) -> None:
    federation.daemon("late")
    made = plan("from-afar", **{"sites.invite": ["site-0", "site-1", "late"]})
    people = people_of(federation, tmp_path, ("operator", "approver", "auditor"))

    def approve(site: str, campaign: str) -> None:
        desk.approve(federation.site(site).path, campaign, price)

    seen = led_from_afar(federation, made, people, tmp_path, approve, watched)
    told = [(event["act"], event["actor"]) for event in seen if event["act"] not in ("consult", "approve")]
    assert told == [
        *(("consent", f"site:{site}") for site in made.sites.invite),
        ("start", "operator"),
        *[("round", "server")] * 3,
        ("evaluate", "server"),
        ("register", "server"),
    ]
    made_of_its_records(federation, made)


@pytest.mark.soak
@pytest.mark.kill
def test_a_server_killed_in_mid_round_counts_no_update_twice_and_no_site_trains_twice(
    federation: Any, plan: Any, wait: Any
) -> None:
    made = plan("killed", **{"strategy.rounds": 3})
    campaign = federation.agree(made)
    with federation.stuck(campaign, "site-1"):
        wait(lambda: (1, "sent", "") in federation.journal("site-0", campaign))
        federation.server.kill()
    assert [entry.round for entry in federation.store.rounds(campaign)] == [0]
    federation.listening()
    status = federation.ended(campaign)
    assert (status.state, status.round) == ("candidate", 3)
    assert [(entry.round, entry.attempt) for entry in status.attempts] == [(number, 1) for number in range(4)]
    assert all(sorted(entry.reported) == ["site-0", "site-1"] for entry in status.attempts)
    made_of_its_records(federation, made)
    for site in made.sites.invite:
        states = federation.journal(site, campaign)
        assert [number for number, state, _ in states if state == "training"] == list(range(4))


@pytest.mark.kill
def test_a_paused_campaign_cuts_the_training_at_its_sites_and_goes_on_where_it_was(
    federation: Any, plan: Any, wait: Any
) -> None:
    made = plan("paused")
    campaign, daemon = federation.agree(made), federation.daemon("site-1")
    with federation.stuck(campaign, "site-1"):
        wait(lambda: (1, "sent", "") in federation.journal("site-0", campaign))
        worker = daemon.worker()
        federation.store.move(campaign, Act.PAUSE)
        wait(lambda: (1, "lost", "") in federation.journal("site-1", campaign))
        wait(lambda: worker not in daemon.workers())
    assert federation.entries(campaign, 1) == []
    federation.store.move(campaign, Act.RESUME)
    status = federation.ended(campaign)
    assert (status.state, status.round) == ("candidate", 2)
    assert [(entry.round, entry.attempt) for entry in status.attempts] == [(number, 1) for number in range(3)]
    made_of_its_records(federation, made)
    trained = {
        site: [one for one, state, _ in federation.journal(site, campaign) if state == "training"] for site in STEADY
    }
    assert trained == {"site-0": [0, 1, 2], "site-1": [0, 1, 1, 2]}


@pytest.mark.soak
def test_a_server_gone_for_two_minutes_is_waited_for_with_a_line_each_way_and_the_campaign_finishes(
    federation: Any, plan: Any, wait: Any
) -> None:
    made = plan("gone", **{"strategy.rounds": 3, "sites.round_deadline": "3m"})
    campaign, daemons = federation.agree(made), [federation.daemon(name) for name in made.sites.invite]
    pids, before = [daemon.pid for daemon in daemons], [len(daemon.said) for daemon in daemons]
    with federation.stuck(campaign, "site-1"):
        wait(lambda: (1, "sent", "") in federation.journal("site-0", campaign))
        federation.server.kill()
    back = time.monotonic() + 120
    wait(lambda: time.monotonic() >= back)
    federation.listening()
    status = federation.ended(campaign)
    assert (status.state, status.round) == ("candidate", 3)
    assert all(sorted(entry.reported) == ["site-0", "site-1"] for entry in status.attempts)
    assert [daemon.pid for daemon in daemons] == pids
    assert all(daemon.alive for daemon in daemons)
    for daemon, start in zip(daemons, before, strict=True):
        states = re.findall(r"JG-site-20[1-7]|connected to", daemon.said[start:])
        assert states == ["JG-site-201", "connected to"], daemon.said[start:]
    made_of_its_records(federation, made)


@pytest.mark.soak
def test_a_site_whose_connection_gets_a_new_key_while_it_trains_goes_on_and_the_campaign_finishes(
    federation: Any, plan: Any, wait: Any
) -> None:
    made = plan("renewed", **{"strategy.rounds": 3, "sites.round_deadline": "20s"})
    campaign, daemon, site = federation.agree(made), federation.daemon("site-1"), federation.site("site-1")
    pid, before, old = daemon.pid, len(daemon.said), site.node_key().public_text
    with federation.stuck(campaign, "site-1"):
        desk.renew(site.path)
        federation.members.confirm([], [federation.keys["operator"], federation.keys["independent"]], desk.now_utc())
        wait(lambda: "The connection has its new key." in daemon.said[before:])
    status = federation.ended(campaign)
    assert (status.state, status.round) == ("candidate", 3)
    assert sorted(status.attempts[-1].reported) == ["site-0", "site-1"]
    assert (daemon.pid, daemon.alive) == (pid, True)
    assert site.node_key().public_text != old
    made_of_its_records(federation, made)


@pytest.mark.kill
def test_a_site_killed_in_training_is_named_when_the_round_closes_at_its_deadline(
    federation: Any, plan: Any, wait: Any
) -> None:
    made = plan("one-dies", **hurried("dying"), **{"strategy.rounds": 1})
    campaign, daemon = federation.agree(made), federation.daemon("dying")
    worker = Path(f"/proc/{daemon.worker()}/stat")
    with federation.stuck(campaign, "dying"):
        daemon.kill()
    wait(lambda: not worker.exists() or ") Z " in worker.read_text())  # it ends with its daemon
    assert federation.ended(campaign).state == "candidate"
    shown = federation.shown(campaign)
    (last,) = [entry for entry in shown["attempts"] if entry["round"] == 1]
    assert (shown["state"], shown["round"], last["outcome"]) == ("candidate", 1, "finished")
    assert "dying" in last["missing"]
    assert set(last["reported"]) <= {"site-0", "site-1"}
    assert last["seconds"] >= 4
    made_of_its_records(federation, made)


@pytest.mark.soak
def test_an_answer_after_the_deadline_is_named_and_not_counted_and_the_site_is_taken_in_again(
    federation: Any, plan: Any, hold: Any, wait: Any
) -> None:
    made = plan("one-is-late", **hurried("late"), **{"strategy.rounds": 5})
    campaign, daemon = federation.agree(made), federation.daemon("late")
    with ExitStack() as standing:
        with federation.stuck(campaign, "late"):
            standing.enter_context(hold(daemon.pid))
        # Its worker finishes now, but nobody is there to send the update before the round is over.
        (entry,) = wait(lambda: federation.entries(campaign, 1))
    assert "late" in entry.missing
    assert set(entry.reported) <= {"site-0", "site-1"}
    status = federation.ended(campaign)
    assert (status.state, status.round) == ("candidate", 5)
    assert "late" in status.attempts[-1].reported
    assert "JG-site-209" in daemon.said
    assert (1, "lost", "") in federation.journal("late", campaign)
    made_of_its_records(federation, made)


def garbled(wire: Wire) -> Wire:
    """What a site sends that does not do what it should, another thing each round."""
    values = np.zeros(0 if wire.vector is None else wire.vector.size, np.float32)
    bad: Mapping[int, Wire] = {
        0: replace(wire, body=b"\xff" * 40, vector=None),
        1: replace(wire, vector=np.append(values, np.float32(1))),
        2: replace(wire, vector=values + np.float32("nan")),
        3: replace(wire, vector=values, round=2),
        4: replace(wire, vector=values, campaign="0" * 64),
    }
    sent = bad[wire.round]
    if sent.vector is None:
        return sent
    return replace(sent, body=reply_body(Reply("liar", np.zeros_like(values))))


@pytest.mark.soak
def test_a_site_that_sends_garbage_is_named_with_its_code_and_the_rounds_go_on(
    federation: Any, plan: Any, wait: Any
) -> None:
    made = plan("one-lies", **{"sites.invite": ["site-0", "site-1", "liar"], "strategy.rounds": 4})
    site, done = federation.site("liar"), threading.Event()
    link = SiteLink(federation.listening(), site.node_key().private, site.ca_file.read_bytes())

    def lie() -> None:
        while not done.wait(0.05):
            if (incoming := link.receive()) is not None:
                link.reply(incoming, garbled(incoming.wire))

    with link:
        liar = threading.Thread(target=lie, daemon=True)
        liar.start()
        status = federation.ended(federation.start(federation.agree(made)))
        done.set()
        liar.join(10)
    assert (status.state, status.round) == ("candidate", 4)
    for entry in status.attempts:
        assert (sorted(entry.reported), entry.refused) == (["site-0", "site-1"], {"liar": "JG-server-340"})
        assert (entry.abstained, entry.missing, entry.attempt) == ({}, [], 1)
    shown = federation.shown(made.hash)["attempts"]
    assert [entry["refused"] for entry in shown] == [{"liar": "JG-server-340"}] * 5
    made_of_its_records(federation, made)


def another_certificate(folder: Path) -> None:
    begins = datetime.now(UTC).replace(microsecond=0)
    (folder / "ca.crt").write_bytes(make_authority("elsewhere", begins, begins + timedelta(days=1)).chain)


def another_node_key(folder: Path) -> None:
    (folder / "keys" / "node").unlink()
    NodeKey.generate().save(folder / "keys" / "node")


def another_identity(folder: Path) -> None:
    """A thief with a ledger of his own: that of the site would not open under another key."""
    thief = folder.with_name("thief")
    desk.init(thief, "stranger", "steel.bof_blow", folder)
    for ledger in folder.glob("ledger.*"):
        ledger.unlink()
    for name in ("keys/identity", "ledger.sqlite", "ledger.head"):
        shutil.copy2(thief / name, folder / name)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        (another_certificate, "JG-site-400"),
        (another_node_key, "JG-site-203"),
        (another_identity, "JG-server-314"),
    ],
)
def test_a_daemon_with_other_keys_or_roots_is_not_let_in_says_why_and_waits(
    federation: Any, tmp_path: Path, wait: Any, changed: Callable[[Path], None], code: str
) -> None:
    copy = tmp_path / "stranger"
    shutil.copytree(federation.site("stranger").path, copy)
    changed(copy)
    daemon = federation.jangin(changed.__name__, "site", "run", copy)
    daemon.start()
    try:
        wait(lambda: code in daemon.said or not daemon.alive)
        assert daemon.alive
        assert daemon.end() == 0
    finally:
        daemon.kill()
    (line,) = [line for line in daemon.said.splitlines() if " INFO stopped" not in line]
    assert code in line


@pytest.mark.parametrize("seconds", [-400, 400])
def test_a_clock_far_off_is_told_by_how_much_by_the_server_itself(federation: Any, seconds: int) -> None:
    off = timedelta(seconds=seconds)
    with pytest.raises(SiteError, match=r"JG-site-301 .*JG-server-311 stranger: ") as refused:
        desk.campaigns(federation.site("stranger").path, clock=lambda: desk.now_utc() + off)
    found = int(str(refused.value).split("clock is ")[1].split()[0])
    assert abs(found - seconds) <= 2


def test_of_two_daemons_with_one_sites_keys_the_second_waits_until_the_first_is_gone(
    federation: Any, plan: Any, tmp_path: Path, wait: Any
) -> None:
    first = federation.daemon("site-0")
    shutil.copytree(
        federation.site("site-0").path, tmp_path / "copy", ignore=shutil.ignore_patterns("site.sqlite*", "*.sock")
    )
    second = federation.jangin("copy", "site", "run", tmp_path / "copy")
    second.start()
    try:
        wait(lambda: "JG-site-205" in second.said)
        made = plan("two-daemons", **{"strategy.rounds": 1})
        status = federation.ended(federation.start(federation.agree(made)))
        assert all(sorted(entry.reported) == ["site-0", "site-1"] for entry in status.attempts)
        states = [state for _, state, _ in federation.journal("site-0", made.hash)]
        assert states == ["gated", "training", "trained", "sent"] * 2  # the first did all of it, and once
        assert second.said.count("JG-site-205") == 1
        assert "connected to" not in second.said
        assert first.end() == 0
        wait(lambda: "connected to" in second.said)
        assert second.end() == 0
    finally:
        second.kill()


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
