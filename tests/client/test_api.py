"""Laws of the site API's client: signed, bounded, and every way to fail under its code."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jangin.client import api as module
from jangin.client.api import SiteApi
from jangin.client.desk import now_utc
from jangin.client.door import Door
from jangin.client.state import Journal, SiteFolder
from jangin.errors import JanginError
from jangin.trust.requests import signed_bytes


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "api.sqlite") as journal:
        yield journal


@pytest.fixture
def asking(site: SiteFolder, server: Any, authority: Any, journal: Journal, ministry: Any) -> Any:
    """Make the site's API client; changes replace its arguments."""
    nonces = iter(f"{number:032x}" for number in range(100))

    def asking(**changed: Any) -> SiteApi:
        values = {
            "address": f"127.0.0.1:{server.link.port}",
            "site": "site-0",
            "identity": site.identity(),
            "roots": authority.ca.read_bytes(),
            "door": Door(journal, now_utc),
            "clock": now_utc,
            "nonce": lambda: next(nonces),
            "timeout_seconds": 5.0,
        }
        return SiteApi(**(values | changed))

    return asking


def failed(api: SiteApi) -> JanginError:
    with api, pytest.raises(JanginError) as error:
        api.ack()
    assert str(error.value)
    return error.value


def test_the_signature_covers_method_path_body_time_nonce_and_site() -> None:
    whole = ["POST", "/v1/jangin/ack", b"\xa0", "1700000000", "00" * 16, "site-0"]
    signed = signed_bytes(*whole)
    assert signed.startswith(b"jangin/api\0POST\n/v1/jangin/ack\n")
    assert signed.endswith(b"\n1700000000\n" + b"00" * 16 + b"\nsite-0")
    for place in range(len(whole)):
        other = whole.copy()
        other[place] = b"x" if place == 2 else "x"
        assert signed_bytes(*other) != signed


def test_a_site_that_is_known_gets_its_answers(asking: Any, server: Any, site: SiteFolder) -> None:
    server.confirm(site)
    with asking() as api:
        assert api.ack() == server.poll_s
        assert api.campaigns().campaigns == []
    assert [what for what, _ in server.heard] == ["ack", "campaigns"]


def test_a_refusal_is_told_with_the_servers_own_code(asking: Any) -> None:
    error = failed(asking())
    assert error.code == "JG-site-301"
    assert "JG-server-101 Not on the roster." in str(error)


def test_nobody_there_is_told_apart_from_a_wrong_certificate(asking: Any, new_authority: Any) -> None:
    assert failed(asking(address="127.0.0.1:9")).code == "JG-site-201"
    assert failed(asking(roots=new_authority().ca.read_bytes())).code == "JG-site-400"
    with pytest.raises(JanginError) as error:
        asking(roots=b"no certificate")
    assert error.value.code == "JG-site-202"


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"garbage"),
        (200, {}),
        (200, {"next_poll_s": -1.0}),
        (200, {"next_poll_s": 1.0, "run": "this"}),
        (403, {"code": "x", "message": ""}),
        (500, {}),
        (302, {}),
    ],
)
def test_an_answer_of_another_form_is_not_used(asking: Any, server: Any, answer: tuple[int, object]) -> None:
    server.refuse = answer
    assert failed(asking()).code == "JG-site-207"


def test_an_answer_is_read_no_further_than_it_may_be_long(
    asking: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ANSWER_BYTES", 100)
    server.refuse = 200, b"\x00" * 101
    error = failed(asking())
    assert (error.code, "too long" in str(error)) == ("JG-site-207", True)


def test_what_a_server_says_is_shown_short_and_printable(asking: Any, server: Any) -> None:
    server.refuse = 403, {"code": "JG-server-301", "message": "no\x1b[2J" + "x" * 1000}
    said = str(failed(asking()))
    assert "\x1b" not in said
    assert len(said) < 700


def test_a_clock_that_is_off_is_what_the_server_answers(asking: Any, server: Any, site: SiteFolder) -> None:
    server.confirm(site)
    server.refuse = 401, {"code": "JG-server-301", "message": "The clock is off by 400 s."}
    error = failed(asking(clock=lambda: now_utc() - timedelta(seconds=400)))
    assert "JG-server-301" in str(error)
