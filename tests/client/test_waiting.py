"""Laws of a daemon that waits: as long as the server asks, ever longer without one, with a line a change of state.

The daemon runs in this process; instead of resting it tells how long it would, and a test decides what happens then.
"""

import logging
import queue
import random
import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from jangin.client.daemon import Daemon
from jangin.client.desk import now_utc
from jangin.client.lock import alone
from jangin.client.state import SiteFolder
from jangin.errors import LinkError, SiteError
from jangin.flower_link.link import EmbeddedLink
from jangin.flower_link.site import Incoming, SiteLink
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, order_body


class Rests:
    """Stands where the daemon waits: keeps every length of a rest, and ends the daemon after the last."""

    def __init__(self, daemon: Daemon, count: int, then: Callable[[int], object] = lambda number: None) -> None:
        self.daemon, self.count, self.then = daemon, count, then
        self.seconds: list[float] = []
        daemon._bell = self  # type: ignore[assignment]

    def put(self, _: None) -> None:
        """Somebody rings: nobody sleeps here."""

    def get(self, timeout: float) -> None:
        self.seconds.append(timeout)
        self.then(len(self.seconds))
        if len(self.seconds) == self.count:
            self.daemon.stop()
        raise queue.Empty


def a_daemon(folder: SiteFolder, clock: Callable[[], datetime] = now_utc) -> Daemon:
    return Daemon(folder, clock=clock, jitter=random.Random(7))


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
