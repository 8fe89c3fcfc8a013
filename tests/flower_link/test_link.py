"""Laws of the embedded SuperLink and its runs: who gets in, what answers, and that nothing waits."""

import http.client
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi.routing import iter_route_contexts
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.main import create_app

from jangin.errors import LinkError
from jangin.flower_link.link import MOST_REQUEST_BYTES, EmbeddedLink, Run
from jangin.flower_link.site import Incoming, SiteLink
from jangin.flower_link.wire import Wire


def ask(link: EmbeddedLink, keys: Any, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    """One request without any key."""
    context = ssl.create_default_context(cafile=keys.roots)
    connection = http.client.HTTPSConnection("127.0.0.1", link.port, context=context, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Site:
    """A site's link in this process, entered while the test runs."""

    def __init__(self, link: EmbeddedLink, keys: Any, name: str, **settings: Any) -> None:
        self.key = ec.generate_private_key(ec.SECP384R1())
        link.register(name, self.key.public_key())
        settings = {"timeout_seconds": 5, "retries": 1, "backoff_seconds": 0.05} | settings
        self.link = SiteLink(f"localhost:{link.port}", self.key, keys.roots.read_bytes(), **settings)

    def __enter__(self) -> "Site":
        self.link.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.link.__exit__(None, None, None)

    def take(self) -> Incoming:
        incoming = self.link.receive()
        assert incoming is not None
        return incoming


ROUTES = sorted(
    {
        (method, path.replace("{", "").replace("}", ""))
        for route in iter_route_contexts(create_app().routes)
        if (path := getattr(route, "path", None) or getattr(route.route, "path", None))
        for method in (getattr(route.route, "methods", None) or {"GET"})
    }
)


def test_the_scan_below_sees_flowers_whole_route_list() -> None:
    paths = {path for _, path in ROUTES}
    for known in ("/v1/control/start-run", "/v1/runtime/acquire-task", "/v1/fleet/activate-node", "/docs", "/health"):
        assert known in paths
    assert len(paths) > 60


NEEDED = {
    f"/v1/fleet/{name}"
    for name in (
        "activate-node",
        "confirm-message-received",
        "deactivate-node",
        "pull-messages",
        "pull-object",
        "push-messages",
        "push-object",
        "send-node-heartbeat",
    )
}


def test_of_all_that_flower_would_answer_only_what_a_site_needs_and_health_do(link: EmbeddedLink, keys: Any) -> None:
    for method, path in ROUTES:
        status, body = ask(link, keys, method, path)
        if path == "/health":
            assert status == 200
        elif path in NEEDED:
            assert status == 401, path
        else:
            assert (status, body) == (404, b""), path
    for path in ("/", "/v1/jangin/status", "/v1/fleet", "/v1//control/list-runs", "/v1/fleet/../control/list-runs"):
        assert ask(link, keys, "POST", path)[0] == 404


def test_a_request_without_a_bounded_length_is_not_read(link: EmbeddedLink, keys: Any) -> None:
    for length in (str(MOST_REQUEST_BYTES + 1), "1e3"):
        status, _ = ask(link, keys, "POST", "/v1/fleet/push-object", **{"Content-Length": length})
        assert status in (400, 413)
    status, _ = ask(link, keys, "POST", "/v1/fleet/push-object", **{"Transfer-Encoding": "chunked"})
    assert status == 413


def test_the_site_api_is_the_app_that_was_given(keys: Any) -> None:
    async def site_api(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    with EmbeddedLink(keys.certificate, keys.key, site_api=site_api) as link:
        assert ask(link, keys, "GET", "/v1/jangin/status") == (200, b"/v1/jangin/status")
        assert ask(link, keys, "GET", "/v1/control/list-runs")[0] == 404


def test_what_cannot_listen_says_so_and_leaves_nothing_behind(keys: Any, tmp_path: Any) -> None:
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(LinkError, match="JG-server-201"):
        EmbeddedLink(keys.certificate, keys.key, port=taken.getsockname()[1]).__enter__()
    (tmp_path / "bad.crt").write_text("no certificate")
    for certificate in (tmp_path / "bad.crt", tmp_path / "absent.crt"):
        with pytest.raises(LinkError, match="JG-server-201"):
            EmbeddedLink(certificate, keys.key).__enter__()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("jangin")]


def test_a_link_gives_its_port_back(keys: Any) -> None:
    with EmbeddedLink(keys.certificate, keys.key) as first:
        port = first.port
    with EmbeddedLink(keys.certificate, keys.key, port=port) as second:
        assert second.port == port
        assert ask(second, keys, "GET", "/health")[0] == 200


def test_a_key_belongs_to_one_name_and_a_name_has_one_key(link: EmbeddedLink, new_key: Any) -> None:
    one, other = new_key().public_key(), new_key().public_key()
    link.register("site-0", one)
    link.register("site-0", one)
    with pytest.raises(LinkError, match="JG-server-202"):
        link.register("site-1", one)
    link.register("site-0", other)
    link.register("site-1", one)
    link.unregister("nobody")


def test_a_message_goes_only_to_a_site_that_has_connected(link: EmbeddedLink, new_key: Any) -> None:
    link.register("site-0", new_key().public_key())
    run = link.open_run("c")
    for site in ("site-0", "nobody"):
        with pytest.raises(LinkError, match="JG-server-203"):
            run.push(site, Wire("train", "c", 0))
    assert len(link.store) == 0


def test_one_vector_for_many_sites_is_stored_once(link: EmbeddedLink, keys: Any) -> None:
    order = Wire("train", "c", 0, b"", np.ones(1_000, np.float32))
    with Site(link, keys, "site-0") as one, Site(link, keys, "site-1") as other:
        run = link.open_run("c")
        for site in ("site-0", "site-1"):
            run.push(site, order)
        assert len(link.store) == 7  # six parts, and a second envelope
        for site in (one, other):
            np.testing.assert_array_equal(site.take().wire.vector, np.ones(1_000))
        assert len(link.store) == 0


def test_a_reply_that_is_still_arriving_is_left_for_later(
    link: EmbeddedLink, keys: Any, monkeypatch: pytest.MonkeyPatch, gather: Any
) -> None:
    with Site(link, keys, "site-0") as site:
        run = link.open_run("c")
        asked = run.push("site-0", Wire("train", "c", 0))
        assert run.pull([asked]) == []
        incoming = site.take()
        push, looks = site.link._client.PushObject, []

        def slowly(request: Any) -> Any:
            looks.append(run.pull([asked]))
            return push(request)

        monkeypatch.setattr(site.link._client, "PushObject", slowly)
        site.link.reply(incoming, Wire("train", "c", 0, b"x", np.ones(3, np.float32)))
        assert looks == [[]] * 6
        (answer,) = run.pull([asked])
        assert answer.content.body == b"x"


def test_a_late_or_second_reply_is_refused_and_the_next_message_still_comes(link: EmbeddedLink, keys: Any) -> None:
    with Site(link, keys, "site-0") as site:
        run = link.open_run("c")
        twice = run.push("site-0", Wire("train", "c", 1))
        incoming = site.take()
        site.link.reply(incoming, Wire("train", "c", 1, b"first"))
        with pytest.raises(LinkError, match="JG-site-209"):
            site.link.reply(incoming, Wire("train", "c", 1, b"second"))
        (answer,) = run.pull([twice])
        assert answer.content.body == b"first"
        late = run.push("site-0", Wire("train", "c", 2))
        incoming = site.take()
        run.forget([late])
        with pytest.raises(LinkError, match="JG-site-209"):
            site.link.reply(incoming, Wire("train", "c", 2))
        run.push("site-0", Wire("train", "c", 3))
        assert site.take().wire.round == 3


@pytest.mark.parametrize("parts", range(6))
def test_a_reply_that_was_cut_off_goes_on_when_it_is_sent_again(
    link: EmbeddedLink, keys: Any, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    with Site(link, keys, "site-0", retries=0) as site:
        run = link.open_run("c")
        asked = run.push("site-0", Wire("train", "c", 1))
        incoming, answer = site.take(), Wire("train", "c", 1, b"x", np.ones(3, np.float32))
        push, left = site.link._client.PushObject, [parts]

        def cut(request: Any) -> Any:
            if not left[0]:
                raise httpx.ConnectError("gone")
            left[0] -= 1
            return push(request)

        monkeypatch.setattr(site.link._client, "PushObject", cut)
        with pytest.raises(LinkError, match="JG-site-201"):
            site.link.reply(incoming, answer)
        monkeypatch.setattr(site.link._client, "PushObject", push)
        assert run.pull([asked]) == []
        site.link.reply(incoming, answer)
        (had,) = run.pull([asked])
        assert had.content.body == b"x"


def test_nobody_answers_in_another_sites_name(link: EmbeddedLink, keys: Any) -> None:
    with Site(link, keys, "site-0") as one, Site(link, keys, "site-1") as other:
        run = link.open_run("c")
        asked = run.push("site-0", Wire("train", "c", 1))
        incoming = one.take()
        with pytest.raises(LinkError, match="JG-site-208"):
            other.link.reply(incoming, Wire("train", "c", 1, b"forged"))
        assert run.pull([asked]) == []
        one.link.reply(incoming, Wire("train", "c", 1, b"own"))
        (answer,) = run.pull([asked])
        assert (answer.site, answer.content.body) == ("site-0", b"own")


def test_an_answer_is_had_once(link: EmbeddedLink, keys: Any) -> None:
    with Site(link, keys, "site-0") as site:
        run = link.open_run("c")
        asked = run.push("site-0", Wire("train", "c", 0))
        site.link.reply(site.take(), Wire("train", "c", 0))
        assert len(run.pull([asked])) == 1
        with pytest.raises(KeyError):
            run.pull([asked])
        assert len(link.store) == 0
        assert link.state.num_message_ins() == link.state.num_message_res() == 0


def test_a_message_out_of_time_is_an_answer_with_a_code(link: EmbeddedLink, keys: Any, wait: Any) -> None:
    with Site(link, keys, "site-0"):
        run = link.open_run("c")
        asked = run.push("site-0", Wire("train", "c", 0), ttl_seconds=0.05)
        (answer,) = wait(lambda: run.pull([asked]))
        assert (answer.site, answer.content.code) == ("site-0", "JG-server-205")


def test_a_reply_of_a_site_that_has_gone_is_still_had(link: EmbeddedLink, keys: Any) -> None:
    with Site(link, keys, "site-0") as site:
        run = link.open_run("c")
        asked = run.push("site-0", Wire("train", "c", 0))
        site.link.reply(site.take(), Wire("train", "c", 0, b"x"))
    assert link.online() == {}
    (answer,) = run.pull([asked])
    assert answer.content.body == b"x"


def test_garbage_from_one_site_is_its_own_answer(
    link: EmbeddedLink, keys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flwr.app import RecordDict

    from jangin.flower_link import site as module

    with Site(link, keys, "bad") as bad, Site(link, keys, "good") as good:
        run = link.open_run("c")
        order = Wire("train", "c", 0)
        asked = [run.push(site, order) for site in ("bad", "good")]
        good.link.reply(good.take(), order)
        with monkeypatch.context() as patch:
            patch.setattr(module, "pack", lambda _: RecordDict({}))
            bad.link.reply(bad.take(), order)
        answers = {answer.site: answer.content for answer in run.pull(asked)}
        assert answers["bad"].code == "JG-site-210"
        assert isinstance(answers["good"], Wire)


def test_a_closed_run_is_over_for_both_sides(link: EmbeddedLink, keys: Any) -> None:
    with Site(link, keys, "site-0") as site:
        run = link.open_run("c")
        asked = run.push("site-0", Wire("train", "c", 0, b"", np.ones(3, np.float32)))
        run.push("site-0", Wire("train", "c", 1))
        incoming = site.take()
        run.close()
        run.close()
        with pytest.raises(LinkError, match="JG-site-208"):
            site.link.reply(incoming, Wire("train", "c", 0))
        assert site.link.receive() is None
        for call in (lambda: run.push("site-0", Wire("train", "c", 0)), lambda: run.pull([asked])):
            with pytest.raises(LinkError, match="JG-server-204"):
                call()
        assert len(link.store) == 0


def test_a_run_that_flower_ended_says_so_and_others_live_on(link: EmbeddedLink, keys: Any) -> None:
    with Site(link, keys, "site-0") as site:
        ended, living = link.open_run("a"), link.open_run("b")
        link.state.stop_run(ended._id)
        for run in (ended, living):
            run.beat()
        with pytest.raises(LinkError, match="JG-server-204"):
            ended.push("site-0", Wire("train", "a", 0))
        living.push("site-0", Wire("train", "b", 0))
        assert site.take().wire.campaign == "b"


def test_heartbeats_keep_a_run_alive(link: EmbeddedLink) -> None:
    run = link.open_run("c")
    record = link.state.task_token_store[run._task]
    record.active_until = datetime.now(UTC) + timedelta(seconds=1)
    run.beat()
    assert record.active_until > datetime.now(UTC) + timedelta(seconds=50)


def test_no_message_is_made_from_the_processes_one_task_identity(
    link: EmbeddedLink, keys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, None)
    with Site(link, keys, "site-0") as site:
        run = link.open_run("c")
        asked = run.push("site-0", Wire("train", "c", 0))
        site.link.reply(site.take(), Wire("train", "c", 0))
        assert len(run.pull([asked])) == 1


def test_runs_of_many_threads_each_get_their_own(link: EmbeddedLink, keys: Any, gather: Any) -> None:
    failures: list[BaseException] = []

    def campaign(run: Run) -> None:
        try:
            for number in range(8):
                asked = run.push("site-0", Wire("train", run.campaign, number, b"", np.ones(9, np.float32)))
                (answer,) = gather(run, [asked])
                assert (answer.content.campaign, answer.content.round) == (run.campaign, number)
        except BaseException as failure:  # noqa: BLE001 - shown by the test's thread
            failures.append(failure)

    with Site(link, keys, "site-0") as site:
        threads = [threading.Thread(target=campaign, args=(link.open_run(name),)) for name in ("a", "b", "c")]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            if incoming := site.link.receive():
                site.link.reply(incoming, incoming.wire)
        assert failures == []
