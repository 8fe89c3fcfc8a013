"""Laws of a site behind a proxy that inspects TLS: where its authority is named all passes, else its name is told."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from proxies import NAME, InspectingProxy
from typer.testing import CliRunner

from jangin import flower_link
from jangin.cli.site import site as site_app
from jangin.client import desk
from jangin.client.doctor.checks import CHECKS, Facts
from jangin.client.doctor.findings import State
from jangin.client.doctor.visit import visit
from jangin.client.state import SiteFolder
from jangin.errors import LinkError
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, order_body, read_reply
from jangin.training.price import price
from jangin.training.recipe import Recipe

NOWHERE = "fl.jangin.invalid"  # RFC 6761, section 6.4: no DNS has it
VARIABLES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
FLEET = {
    f"/v1/fleet/{what}"
    for what in (
        "activate-node",
        "pull-messages",
        "pull-object",
        "confirm-message-received",
        "push-messages",
        "push-object",
        "deactivate-node",
    )
}


@pytest.fixture
def proxy(tmp_path: Path, authority: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[InspectingProxy]:
    """A proxy that the environment names, for this process and for those that it starts."""
    with InspectingProxy(tmp_path, authority.ca) as proxy:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        yield proxy


@pytest.fixture
def join(site: SiteFolder, server: Any, authority: Any, root_file: Path) -> Callable[..., list[str]]:
    """The words of `jangin site` that enrol at this server under one of its names."""

    def words(host: str, *further: object) -> list[str]:
        url = f"https://{host}:{server.link.port}"
        given = (site.path, "--server", url, "--token", server.token, "--root", root_file, "--ca", authority.ca)
        return ["enroll", *map(str, (*given, *further))]

    return words


def test_without_the_proxys_authority_its_issuer_is_named_and_nothing_is_sent(
    site: SiteFolder, server: Any, authority: Any, root_file: Path, proxy: InspectingProxy
) -> None:
    url = f"https://{NOWHERE}:{server.link.port}"
    with pytest.raises(LinkError, match=f"JG-site-400 .*CN={NAME}") as refused:
        desk.enroll(site.path, url, server.token, root_file, authority.ca)
    assert refused.value.exit_status == 3
    assert (proxy.requests, server.heard, site.settings().server) == ([], [], None)


def test_with_it_enrolment_and_a_round_pass_and_all_of_it_goes_through_the_proxy(
    site: SiteFolder,
    server: Any,
    proxy: InspectingProxy,
    join: Any,
    ministry: Any,
    plan: Any,
    daemons: Any,
    wait: Any,
    gather: Any,
) -> None:
    wanted, here = plan(), CliRunner()
    server.plans.append(ministry.signed(wanted))
    assert here.invoke(site_app, join(NOWHERE, "--extra-ca", proxy.ca)).output.startswith("waiting")
    server.confirm(site)
    assert here.invoke(site_app, join(NOWHERE, "--extra-ca", proxy.ca)).output.startswith("confirmed")
    settings = site.settings().server
    assert settings is not None
    assert (settings.proxy, settings.extra_ca) == ("env", "extra-ca.crt")
    desk.approve(site.path, wanted.hash, price)
    daemon = daemons(site)
    wait(server.link.online)
    run, recipe = server.link.open_run(wanted.hash), Recipe.of(wanted)
    model = recipe.learner().model

    def asked(order: Order) -> Any:
        vector = order.vector if order.vector.size else None
        wire = Wire(order.kind.value, wanted.hash, order.round, order_body(order, 60.0), vector)
        answer = gather(run, run.push("site-0", wire))
        return read_reply(order.kind, answer.site, answer.content.body, answer.content.vector).vector

    learnt = recipe.learned_scaling(asked(Order(Kind.SCALE, 0, np.empty(0, np.float32))), 1)
    update = asked(Order(Kind.TRAIN, 1, model.read()[model.layout.shared], (learnt.mean, learnt.deviation)))
    assert update.any()
    daemon.send_signal(signal.SIGTERM)
    _, err = daemon.communicate(timeout=20)
    assert err.count("connected to") == 1
    # No DNS has the server's name: what arrived has come through the proxy. Both of the site's connections did.
    assert set(proxy.tunnels) == {f"{NOWHERE}:{server.link.port}"}
    ours = [path for path in proxy.requests if path.startswith("/v1/jangin/")]
    assert ours == [f"/v1/jangin/{what}" for what, _ in server.heard]
    assert {path for path in proxy.requests if path not in ours} - {"/v1/fleet/send-node-heartbeat"} == FLEET
    facts = Facts(site, site.settings(), desk.now_utc)
    found = list(visit(facts, [check for check in CHECKS if check.id in ("D07", "D04", "D05", "D06")]))
    assert [one.state for one in found] == [State.OK] * 4
    assert found[-1].value == f"CN={NAME}"
    assert "inspecting proxy" in found[-1].line(["en"])


@pytest.mark.parametrize(
    ("named", "kept"),
    [("", "127.0.0.1,localhost,::1"), ("in.example", "in.example,127.0.0.1,localhost,::1"), ("*", "*")],
)
def test_what_goes_past_the_proxy_is_kept_and_loopback_added(
    monkeypatch: pytest.MonkeyPatch, named: str, kept: str
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, named)
    flower_link._switch()
    assert (os.environ["no_proxy"], os.environ["NO_PROXY"]) == (kept, kept)


def test_loopback_never_goes_through_a_proxy_whatever_the_environment_says(
    site: SiteFolder, server: Any, proxy: InspectingProxy, join: Any, monkeypatch: pytest.MonkeyPatch, wait: Any
) -> None:
    for name in ("ALL_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(name, proxy.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    server.confirm(site)
    script = (
        "from sys import argv; from jangin.cli.site import site; site(argv[3:], standalone_mode=False); site(argv[1:3])"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, "run", str(site.path), *join("127.0.0.1")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as daemon:
        wait(server.link.online)
        wait(lambda: "ack" in [what for what, _ in server.heard])
        daemon.terminate()
        assert daemon.communicate(timeout=20)[0].startswith(b"confirmed")
        assert daemon.returncode == 0
    assert {what for what, _ in server.heard} >= {"enroll", "campaigns", "ack"}
    assert proxy.tunnels == []
