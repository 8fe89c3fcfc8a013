"""Laws of a connection's key: made anew in time, in mid-campaign, without a restart; a verified roster decides when."""

import json
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from rests import Rests, a_daemon
from typer.testing import CliRunner

from jangin.cli.site import site as site_app
from jangin.client import desk, renewal
from jangin.client.state import SiteFolder, Task
from jangin.client.workbench import Done
from jangin.errors import LinkError, SiteError
from jangin.flower_link.link import Run
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, Reply, order_body, read_reply, reply_body
from jangin.training.price import price
from jangin.training.recipe import Recipe
from jangin.trust.keys import NodeKey
from jangin.trust.roster import Status


def aged(folder: SiteFolder, age: timedelta) -> None:
    """Have the key's file be this old."""
    made = (desk.now_utc() - age).timestamp()
    os.utime(folder.node_key_file, (made, made))


def test_a_key_is_due_at_two_thirds_of_its_life_and_a_waiting_one_is_not_made_again(site: SiteFolder) -> None:
    aged(site, renewal.LIFE / 3)
    assert abs(renewal.due(site) - desk.now_utc() - renewal.LIFE / 3) < timedelta(seconds=5)
    assert renewal.waiting(site) is None
    fresh = renewal.make(site)
    assert renewal.make(site).public_text == fresh.public_text != site.node_key().public_text
    assert site.next_node_key_file.stat().st_mode & 0o077 == 0


def test_only_a_roster_that_lists_it_puts_the_new_key_in_the_old_ones_place(
    site: SiteFolder, server: Any, ministry: Any
) -> None:
    server.confirm(site)
    old, fresh = site.node_key().public_text, renewal.make(site).public_text

    def roster(**other: Any) -> Any:
        entry = server.sites["site-0"].model_copy(update=other)
        return ministry.trust(ministry.roster({"site-0": entry})).roster(ministry.now)

    assert not renewal.take_up(site, "site-0", roster())
    assert not renewal.take_up(site, "site-0", roster(node_key=NodeKey.generate().public_text))
    assert not renewal.take_up(site, "site-0", roster(node_key=fresh, status=Status.SUSPENDED))
    assert site.node_key().public_text == old
    assert renewal.take_up(site, "site-0", roster(node_key=fresh))
    assert (site.node_key().public_text, renewal.waiting(site)) == (fresh, None)


def test_it_is_renewed_in_mid_campaign_without_a_restart_and_the_campaign_comes_to_its_end(
    enrolled: SiteFolder, server: Any, ministry: Any, plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker has done its work before it is asked."""
    made = plan()
    server.plans.append(ministry.signed(made))
    desk.approve(enrolled.path, made.hash, price)
    recipe = Recipe.of(made)
    model, columns = recipe.learner().model, len(recipe.public_scaling().mean)
    values = model.read()[model.layout.shared]
    aged(enrolled, renewal.LIFE * 0.7)
    old, identity = enrolled.node_key().public_text, enrolled.identity().public_text
    daemon, run = a_daemon(enrolled), server.link.open_run(made.hash)
    done = Done(reply_body(Reply("site-0", values)), values, None)
    monkeypatch.setattr(daemon._bench, "work", lambda job, seconds: done)
    asked: list[str] = []
    nodes: list[int] = []

    def ask() -> None:
        nodes.append(server.link.online()["site-0"])
        body = order_body(Order(Kind.TRAIN, len(nodes), values, (np.zeros(columns), np.ones(columns))), 60.0)
        asked.append(run.push("site-0", Wire("train", made.hash, len(nodes), body, values)))

    def change(_: int) -> None:
        with enrolled.journal() as journal:
            answered = [journal.task(made.hash, number) is Task.SENT for number in (1, 2)]
        match len(asked), answered:
            case 0, _:
                ask()
            case 1, [True, _] if server.link.online().get("site-0") == nodes[0]:
                assert (enrolled.node_key().public_text, desk.status(enrolled.path).renewing) == (old, True)
                server.list_renewed()
            case 1, [True, _] if "site-0" in server.link.online():
                ask()
            case 2, [_, True]:
                daemon.stop()

    rests = Rests(daemon, 1000, change)
    daemon.run()
    assert len(rests.seconds) < 1000
    ((_, _, answer),) = run.pull(asked[1:])
    assert isinstance(answer, Wire)
    np.testing.assert_array_equal(answer.vector, values)
    assert (enrolled.node_key().public_text, enrolled.identity().public_text) == (server.renewed["site-0"], identity)
    assert not desk.status(enrolled.path).renewing
    assert renewal.due(enrolled) > desk.now_utc() + renewal.LIFE / 2
    with enrolled.journal() as journal:
        assert [line.kind for line in journal.egress(100)].count("renew") == 1


@pytest.mark.soak
def test_a_daemon_with_its_worker_is_renewed_in_mid_campaign_and_goes_on(
    enrolled: SiteFolder,
    server: Any,
    ministry: Any,
    plan: Any,
    daemons: Callable[[SiteFolder], "subprocess.Popen[str]"],
    wait: Any,
    gather: Any,
) -> None:
    made = plan()
    server.plans.append(ministry.signed(made))
    desk.approve(enrolled.path, made.hash, price)
    recipe = Recipe.of(made)
    model, columns = recipe.learner().model, len(recipe.public_scaling().mean)
    aged(enrolled, renewal.LIFE * 0.7)
    old, identity = enrolled.node_key().public_text, enrolled.identity().public_text
    run: Run = server.link.open_run(made.hash)

    def trained(number: int) -> Any:
        values = model.read()[model.layout.shared]
        body = order_body(Order(Kind.TRAIN, number, values, (np.zeros(columns), np.ones(columns))), 60.0)
        answer = gather(run, run.push("site-0", Wire("train", made.hash, number, body, values)))
        assert isinstance(answer.content, Wire)
        return read_reply(Kind.TRAIN, answer.site, answer.content.body, answer.content.vector).update

    daemon = daemons(enrolled)
    wait(server.link.online)
    assert trained(1) is not None
    fresh = server.renewed["site-0"]
    assert (enrolled.node_key().public_text, desk.status(enrolled.path).renewing) == (old, True)
    before = server.link.online()["site-0"]
    server.list_renewed()
    wait(lambda: server.link.online().get("site-0", before) != before)
    assert (enrolled.node_key().public_text, enrolled.identity().public_text) == (fresh, identity)
    assert not desk.status(enrolled.path).renewing
    assert trained(2) is not None
    assert daemon.poll() is None
    with enrolled.journal() as journal:
        wait(lambda: [journal.task(made.hash, number) for number in (1, 2)] == [Task.SENT] * 2)
        assert [line.kind for line in journal.egress(100)].count("renew") == 1
    assert renewal.due(enrolled) > desk.now_utc() + renewal.LIFE / 2


class Asked:
    """A server that takes a key and forgets it, or answers with an error; the seconds that passed on it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[str] = []
        self.error, self.seconds = error, 1.0

    def renew(self, node_key: str) -> None:
        self.asked.append(node_key)
        if self.error is not None:
            raise self.error

    def monotonic(self) -> float:
        return self.seconds


REFUSED = SiteError("JG-site-301", where="here", what="renew", answer="JG-server-310", message="No such path")


@pytest.mark.parametrize("error", [None, REFUSED, LinkError("JG-site-201", where="here", problem="not in time")])
def test_a_server_that_does_not_list_it_is_asked_once_a_day_and_the_old_key_serves_on(
    enrolled: SiteFolder, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    aged(enrolled, renewal.LIFE)
    old, server = enrolled.node_key().public_text, Asked(error)
    daemon = a_daemon(enrolled)
    monkeypatch.setattr("jangin.client.daemon.time", server)
    for day in (1, 2):
        for _ in range(3):
            with suppress(LinkError):  # the daemon connects anew
                daemon._renew(server)  # type: ignore[arg-type]
        assert len(server.asked) == day
        server.seconds += 86_401.0
    assert len(set(server.asked)) == 1
    assert enrolled.node_key().public_text == old


def test_where_a_roster_lists_a_key_that_is_not_here_a_person_hands_in_another_and_no_daemon_does(
    enrolled: SiteFolder, server: Any
) -> None:
    """A folder or a server that came back from a backup. A copy of the folder that runs by mistake looks the same."""
    server.renewed["site-0"] = NodeKey.generate().public_text
    daemon = a_daemon(enrolled)

    def refreshed() -> str:
        server.list_renewed()
        with enrolled.journal() as journal, desk.open_api(enrolled, journal, desk.now_utc) as api:
            with enrolled.ledger() as ledger:
                desk.take(api.campaigns(), enrolled, journal, ledger, desk.now_utc())
            daemon._renew(api)
        return enrolled.node_key().public_text

    assert refreshed() != server.renewed["site-0"]
    assert renewal.waiting(enrolled) is None
    desk.renew(enrolled.path)
    assert refreshed() == server.renewed["site-0"] == daemon._node_key.public_text


def test_a_person_may_hand_one_in_and_is_told_that_it_waits(enrolled: SiteFolder, server: Any) -> None:
    for _ in range(2):
        said = CliRunner().invoke(site_app, ["renew", str(enrolled.path)]).output
        assert said.startswith("handed in")
    waiting = renewal.waiting(enrolled)
    assert waiting is not None
    assert server.renewed == {"site-0": waiting.public_text}
    shown = json.loads(CliRunner().invoke(site_app, ["status", str(enrolled.path), "--format", "json"]).stdout)
    assert (shown["renewing"], shown["fingerprint"]) == (True, enrolled.identity().fingerprint)
