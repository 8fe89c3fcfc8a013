"""Laws of the whole connection: a server here, sites in processes of their own, TLS and keys throughout."""

import os
import re
import signal
import time
from typing import Any

import numpy as np
import pytest

from jangin.flower_link.link import EmbeddedLink
from jangin.flower_link.wire import Wire

HEAVY = {"torch", "scipy", "dp_accounting", "pyarrow", "sqlalchemy", "ray", "fastapi", "uvicorn", "pandas"}


def test_five_exchanges_with_two_sites_bring_back_what_they_should(
    link: EmbeddedLink, nodes: Any, wait: Any, gather: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sites = ["site-0", "site-1"]
    for site in sites:
        nodes.start(link, site)
    wait(lambda: set(link.online()) == set(sites))
    run = link.open_run("c")
    seconds = []
    for number in range(5):
        started = time.perf_counter()
        vector = np.arange(100_000, dtype=np.float32) + number
        order = Wire("train", "c", number, b"\x01" * number, vector)
        asked = {run.push(site, order): site for site in sites}
        answers = gather(run, list(asked))
        seconds.append(time.perf_counter() - started)
        assert {answer.message: answer.site for answer in answers} == asked
        for answer in answers:
            assert isinstance(answer.content, Wire)
            assert (answer.content.kind, answer.content.round, answer.content.body) == ("train", number, order.body)
            np.testing.assert_array_equal(answer.content.vector, vector * 2)
    assert len(link.store) == 0
    gather(run, [run.push(site, Wire("stop", "c", 5)) for site in sites])
    ends = [nodes.end(site) for site in sites]
    with capsys.disabled():
        print(f"\nexchange {[round(s, 3) for s in seconds]} s; site {[round(end['rss_mb'], 1) for end in ends]} MB")  # noqa: T201
    for end in ends:
        assert end["ok"]
        assert end["stderr"] == ""
        assert HEAVY & set(end["modules"]) == set()
        assert end["rss_mb"] <= 100
    wait(lambda: not link.online())


def test_two_campaigns_at_once_do_not_mix(link: EmbeddedLink, nodes: Any, wait: Any, gather: Any) -> None:
    nodes.start(link, "site-0")
    nodes.start(link, "site-1")
    wait(lambda: len(link.online()) == 2)
    runs = {campaign: link.open_run(campaign) for campaign in ("a", "b")}
    asked: dict[str, list[str]] = {"a": [], "b": []}
    for number in range(3):
        for campaign, run in runs.items():
            vector = np.full(10, ord(campaign) + number, np.uint32)
            asked[campaign] += [run.push(site, Wire("train", campaign, number, b"", vector)) for site in link.online()]
    for campaign, run in runs.items():
        answers = gather(run, asked[campaign])
        assert len(answers) == 6
        for answer in answers:
            assert answer.content.campaign == campaign
            assert set(answer.content.vector.tolist()) == {2 * (ord(campaign) + answer.content.round)}


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"registered": False}, "JG-site-203"),
        ({"ahead": 7.5}, "JG-site-204"),
        ({"ahead": -400.0}, "JG-site-204"),
    ],
)
def test_a_site_that_is_refused_says_why(link: EmbeddedLink, nodes: Any, how: dict[str, Any], code: str) -> None:
    nodes.start(link, "site-0", **how)
    end = nodes.end("site-0")
    assert end["code"] == code
    if "ahead" in how:
        said = re.search(r"clock is (-?\d+) s ahead", end["says"])
        assert said
        assert float(said[1]) == pytest.approx(how["ahead"], abs=2)
    assert nodes.running["site-0"].returncode == 0
    assert link.online() == {}


def test_roots_that_do_not_vouch_for_the_server_end_it_before_anything_is_said(
    link: EmbeddedLink, nodes: Any, keys: Any
) -> None:
    nodes.start(link, "site-0", roots=keys.other_roots)
    end = nodes.end("site-0")
    assert end["code"] == "JG-site-400"
    assert "was issued by CN=" in end["says"]


def test_a_server_that_stops_is_told_apart_from_one_that_refuses(keys: Any, nodes: Any, wait: Any) -> None:
    with EmbeddedLink(keys.certificate, keys.key) as link:
        nodes.start(link, "site-0")
        wait(link.online)
        link.open_run("c").push("site-0", Wire("hold", "c", 0))
    assert nodes.end("site-0")["code"] == "JG-site-201"


@pytest.mark.kill
def test_a_site_killed_in_its_work_is_simply_not_there(link: EmbeddedLink, nodes: Any, wait: Any, gather: Any) -> None:
    for site in ("site-0", "site-1"):
        nodes.start(link, site)
    wait(lambda: len(link.online()) == 2)
    run = link.open_run("c")
    held = run.push("site-0", Wire("hold", "c", 0))
    wait(lambda: link.state.message_ins_store[held].metadata.delivered_at)
    os.kill(nodes.running["site-0"].pid, signal.SIGKILL)
    done = run.push("site-1", Wire("train", "c", 0))
    answers = gather(run, [held, done], seconds=1.5)
    assert [answer.site for answer in answers] == ["site-1"]
    run.forget([held])
    assert len(link.store) == 0


def test_a_key_struck_off_is_out_at_once_and_may_come_back(
    link: EmbeddedLink, nodes: Any, wait: Any, new_key: Any
) -> None:
    key = new_key()
    nodes.start(link, "site-0", key=key)
    wait(link.online)
    link.unregister("site-0")
    assert link.online() == {}
    assert nodes.end("site-0")["code"] == "JG-site-206"
    nodes.start(link, "site-0", registered=False, key=key)
    assert nodes.end("site-0")["code"] == "JG-site-203"
    nodes.start(link, "site-0", key=key)
    wait(link.online)


def test_a_second_process_under_one_key_is_told_so(link: EmbeddedLink, nodes: Any, wait: Any, new_key: Any) -> None:
    key = new_key()
    nodes.start(link, "site-0", key=key)
    wait(link.online)
    first = nodes.running["site-0"]
    nodes.start(link, "site-0", key=key)
    assert nodes.end("site-0")["code"] == "JG-site-205"
    nodes.running["site-0"] = first
    assert first.poll() is None
