"""A flood of strangers from the sites' own address: each is counted, and no site's request is refused."""

import http.client
import os
import ssl
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from itertools import cycle, islice
from typing import Any

import pytest

from jangin.codec import cbor
from jangin.flower_link.bounds import Bounds
from jangin.flower_link.link import EmbeddedLink
from jangin.flower_link.site import SiteLink
from jangin.server.api import SiteApi

STRANGERS, TIMES = 8, 105
KINDS = ("health", "nowhere", "fleet", "unknown", "forged", "enroll", "forged node")


def request(world: Any, site: Any, kind: str) -> tuple[str, str, bytes, dict[str, str]]:
    """Method, path, body and headers of one request that no registered site signed."""
    stranger = world.site("nobody")
    match kind:
        case "health":
            return "GET", "/health", b"", {}
        case "nowhere":
            return "POST", "/admin.php", b"x", {}
        case "fleet" | "forged node":
            key = site.node if kind == "forged node" else stranger.node
            named = {"flwr-public-key": key.public_text, "flwr-signature": "AAAA"}
            return "POST", "/v1/fleet/pull-messages", b"", named | {"flwr-timestamp": datetime.now(UTC).isoformat()}
        case "enroll":
            path, body = "/v1/jangin/enroll", cbor.encode(stranger.enrolment("AAAA-AAAA-AAAA-AAAA"))
            return "POST", path, body, stranger.headers(path, body, datetime.now(UTC))
        case _:
            path, body = "/v1/jangin/ack", cbor.encode({})
            changed = {"site": site.name} if kind == "forged" else {}
            return "POST", path, body, stranger.headers(path, body, datetime.now(UTC), **changed)


@pytest.mark.soak
def test_of_a_flood_no_more_is_let_in_than_the_bounds_say_and_every_signed_request_is_answered(world: Any) -> None:
    sites, bounds, answers = world.sites(3), Bounds(), Counter[str]()
    api = SiteApi(world.store, world.members, idle_poll_s=5.0, clock=lambda: datetime.now(UTC))
    context = ssl.create_default_context(cafile=str(world.state.authority))
    lock = threading.Lock()

    def flood(port: int, offset: int) -> None:
        for kind in islice(cycle(KINDS), offset, offset + TIMES):
            method, path, body, headers = request(world, sites[0], kind)
            connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=30)
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                if answer.status == 429:
                    assert int(answer.headers["retry-after"]) > 0
                status = str(answer.status)
            finally:
                connection.close()
            with lock:
                answers[status] += 1

    with EmbeddedLink(world.state.certificate, world.state.key, site_api=api) as link:
        for site in sites:
            link.register(site.name, site.node.public)
        address, roots = f"127.0.0.1:{link.port}", world.state.authority.read_bytes()
        with SiteLink(address, sites[1].node.private, roots, timeout_seconds=30, retries=0) as polling:
            began = time.monotonic()
            threads = [threading.Thread(target=flood, args=(link.port, number)) for number in range(STRANGERS)]
            for thread in threads:
                thread.start()
            signed = 0
            while any(thread.is_alive() for thread in threads):
                assert polling.receive() is None
                assert "next_poll_s" in sites[2].ask(address, world.state.authority, "ack")
                signed += 1
            elapsed = time.monotonic() - began
    assert signed > 5
    assert sum(answers.values()) == STRANGERS * TIMES
    assert set(answers) <= {"200", "401", "403", "404", "429"}
    rates = (bounds.requests, bounds.enrolments, bounds.forgeries, bounds.forgeries)
    most = sum(rate.burst + rate.a_second * elapsed for rate in rates)
    assert STRANGERS * TIMES - answers["429"] <= most
    assert answers["403"] == bounds.enrolments.burst + int(elapsed * bounds.enrolments.a_second)  # the tokens tried
    assert set(api._nonces) == {sites[2].name}
    assert len(os.listdir("/proc/self/fd")) < 500
