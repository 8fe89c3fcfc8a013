"""Laws of a daemon that waits: as long as the server asks, ever longer without one, with a line a change of state.

The daemon runs in this process; instead of resting it tells how long it would, and a test decides what happens then.
"""

import logging
import re
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rests import Rests, a_daemon

from jangin.client import desk
from jangin.client.api import SiteApi
from jangin.client.desk import now_utc
from jangin.client.lock import alone
from jangin.client.state import SiteFolder, Task
from jangin.client.workbench import Done
from jangin.errors import LinkError, SiteError
from jangin.flower_link.link import EmbeddedLink, Run
from jangin.flower_link.site import Incoming, SiteLink
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, Reply, order_body, reply_body
from jangin.training.price import price
from jangin.training.recipe import Recipe
from jangin.trust.certificates import issue, make_authority


def moved(folder: SiteFolder, port: int) -> None:
    """The site looks for its server elsewhere from now on."""
    settings = folder.settings()
    assert settings.server is not None
    there = settings.server.model_copy(update={"url": f"https://127.0.0.1:{port}"})
    folder.write_settings(settings.model_copy(update={"server": there}))


def test_a_site_polls_as_the_server_asks_with_a_tenth_of_jitter(enrolled: SiteFolder, server: Any) -> None:
    server.poll_s = 7.0
    daemon = a_daemon(enrolled)
    rests = Rests(daemon, 12)
    daemon.run()
    assert all(6.3 <= seconds <= 7.7 for seconds in rests.seconds)
    assert len(set(rests.seconds)) == 12


def test_without_a_server_it_waits_longer_and_longer_says_so_once_and_connects_when_one_comes(
    enrolled: SiteFolder, server: Any, authority: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jangin.client.daemon")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    moved(enrolled, port)
    link = EmbeddedLink(authority.certificate, authority.key, port=port, site_api=server)
    link.register("site-0", enrolled.node_key().public)
    server.poll_s = 0.5
    daemon = a_daemon(enrolled)
    rests = Rests(daemon, 13, lambda number: link.__enter__() if number == 10 else None)
    try:
        daemon.run()
    finally:
        link.__exit__(None, None, None)
    for number, seconds in enumerate(rests.seconds[:10]):
        longest = min(0.5 * 2**number, 60.0)
        assert longest / 2 <= seconds <= longest
    assert all(0.45 <= seconds <= 0.55 for seconds in rests.seconds[10:])
    said = [record.message for record in caplog.records if record.name == "jangin.client.daemon"]
    assert [line.split()[0] for line in said] == ["JG-site-201", "connected", "stopped"]


def test_one_state_is_one_line_however_its_words_vary(
    enrolled: SiteFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [LinkError("JG-site-201", where="here", problem=problem) for problem in ("no connection", "not in time")]
    failures += [LinkError("JG-site-204", where="here", seconds=seconds) for seconds in (60, 61)]
    refusals = [{"where": "here", "what": "ack", "answer": f"JG-server-{code}", "message": ""} for code in (313, 314)]
    monkeypatch.setattr(SiteApi, "campaigns", lambda api: fail())
    daemon = a_daemon(enrolled)
    rests = Rests(daemon, 6)

    def fail() -> None:
        number = len(rests.seconds)
        raise failures[number] if number < 4 else SiteError("JG-site-301", **refusals[number - 4])

    daemon.run()
    said = [re.findall(r"JG-\w+-\d+", record.message)[-1] for record in caplog.records]
    assert said == ["JG-site-201", "JG-site-204", "JG-server-313", "JG-server-314"]


def test_a_server_that_goes_away_and_comes_back_is_one_line_each(
    enrolled: SiteFolder, server: Any, authority: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jangin.client.daemon")
    links = [EmbeddedLink(authority.certificate, authority.key, site_api=server)]

    def open_link() -> None:
        links[-1].register("site-0", enrolled.node_key().public)
        links[-1].__enter__()

    def change(number: int) -> None:
        if number == 3:
            links[-1].__exit__(None, None, None)
            links.append(EmbeddedLink(authority.certificate, authority.key, port=links[0].port, site_api=server))
        elif number == 6:
            open_link()

    open_link()
    moved(enrolled, links[0].port)
    daemon = a_daemon(enrolled)
    Rests(daemon, 9, change)
    try:
        daemon.run()
    finally:
        links[-1].__exit__(None, None, None)
    codes = [record.message.split()[0] for record in caplog.records if record.name == "jangin.client.daemon"]
    assert codes == ["connected", "JG-site-201", "connected", "stopped"]


def test_two_minutes_without_a_server_and_its_new_certificate_are_taken_and_the_campaign_comes_to_its_end(
    enrolled: SiteFolder,
    server: Any,
    ministry: Any,
    plan: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Time passes by the rests alone, and the worker has done its work before it is asked."""
    caplog.set_level(logging.INFO, "jangin.client.daemon")
    made = plan()
    server.plans.append(ministry.signed(made))
    desk.approve(enrolled.path, made.hash, price)
    recipe = Recipe.of(made)
    model, columns = recipe.learner().model, len(recipe.public_scaling().mean)
    values = model.read()[model.layout.shared]
    begins = desk.now_utc().replace(microsecond=0)
    authority = make_authority("a federation", begins, begins + timedelta(days=2))
    enrolled.ca_file.write_bytes(authority.chain)
    links: list[EmbeddedLink] = []
    for number in (1, 2):
        shown, file = (
            issue(authority, ["127.0.0.1"], begins, begins + timedelta(days=number)),
            tmp_path / f"{number}.crt",
        )
        file.write_bytes(shown.chain + shown.key)
        links.append(EmbeddedLink(file, file, port=links[0].port if links else 0, site_api=server))
        if number == 1:
            moved(enrolled, links[0].__enter__().port)
    for link in links:
        link.register("site-0", enrolled.node_key().public)
    daemon = a_daemon(enrolled)
    monkeypatch.setattr(
        daemon._bench, "work", lambda job, seconds: Done(reply_body(Reply("site-0", values)), values, None)
    )
    runs: list[Run] = []
    asked: list[str] = []

    def ask(link: EmbeddedLink) -> None:
        runs.append(link.open_run(made.hash))
        body = order_body(Order(Kind.TRAIN, len(runs), values, (np.zeros(columns), np.ones(columns))), 60.0)
        asked.append(runs[-1].push("site-0", Wire("train", made.hash, len(runs), body, values)))

    def change(number: int) -> None:
        with enrolled.journal() as journal:
            answered = [journal.task(made.hash, round_) is Task.SENT for round_ in (1, 2)]
        match len(runs), answered:
            case 0, _ if links[0].online():
                ask(links[0])
            case 1, [True, _] if away == [0.0]:
                links[0].__exit__(None, None, None)
                away.append(rests.seconds[-1])
            case 1, [True, _] if sum(away) < 120:
                away.append(rests.seconds[-1])
                if sum(away) >= 120:
                    links[1].__enter__()
            case 1, [True, _] if links[1].online():
                ask(links[1])
            case 2, [_, True]:
                daemon.stop()

    away = [0.0]
    rests = Rests(daemon, 1000, change)
    try:
        daemon.run()
        assert len(rests.seconds) < 1000
        ((_, _, answer),) = runs[1].pull(asked[1:])
        assert isinstance(answer, Wire)
        np.testing.assert_array_equal(answer.vector, values)
    finally:
        for link in links:
            link.__exit__(None, None, None)
    assert 120 <= sum(away) < 180
    said = [record.message.split()[0] for record in caplog.records if record.name == "jangin.client.daemon"]
    assert said == ["connected", "Round", "JG-site-201", "connected", "Round", "stopped"]
    with enrolled.ledger() as ledger:
        assert ledger.accounts[made.hash].spent == {1, 2}


@pytest.mark.parametrize("ahead", [60, 280])
def test_a_clock_that_is_off_is_diagnosed_by_how_much(
    enrolled: SiteFolder, server: Any, caplog: pytest.LogCaptureFixture, ahead: int
) -> None:
    off = timedelta(seconds=ahead)
    daemon = a_daemon(enrolled, lambda: now_utc() + off)
    Rests(daemon, 1)
    daemon.run()
    (line,) = [record.message for record in caplog.records if "JG-site-204" in record.message]
    found = int(line.split("clock is ")[1].split()[0])
    assert abs(found - ahead) <= 2


def test_a_second_daemon_on_the_same_folder_is_refused(enrolled: SiteFolder, server: Any) -> None:
    with alone(enrolled.path), pytest.raises(SiteError, match="JG-site-340"):
        a_daemon(enrolled).run()


def test_an_answer_that_the_server_cannot_take_is_given_up_after_five_tries(
    enrolled: SiteFolder, server: Any, ministry: Any, plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan()
    server.plans.append(ministry.signed(made))
    sent = []

    def refused(link: SiteLink, incoming: Incoming, wire: Wire) -> None:
        sent.append(wire.body)
        raise LinkError("JG-site-207", where="here", answer=500)

    monkeypatch.setattr(SiteLink, "reply", refused)
    daemon = a_daemon(enrolled)

    def order(number: int) -> None:
        if number == 1:
            body = order_body(Order(Kind.SCALE, 0, np.empty(0, np.float32)), 60.0)
            server.link.open_run(made.hash).push("site-0", Wire("scale", made.hash, 0, body))

    Rests(daemon, 9, order)
    daemon.run()
    assert len(sent) == 5
    assert len(set(sent)) == 1
