"""`GET /health` and `GET /metrics` of the server, in the text of Prometheus; only where server.yaml names a port.

The law: what is told are states, counts, ages and codes: no site is named, and of a campaign no more than the first
digits of its hash; a database that is away is one of the figures and ends none of the others.
"""

import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from jangin.codec import cbor
from jangin.errors import JanginError, ServerError
from jangin.server.database import AWAY
from jangin.server.life import State
from jangin.server.members import Members
from jangin.server.settings import MonitorBlock
from jangin.server.store import Store
from jangin.telling.figures import JSON, TEXT, Page, Pages, family, labelled, process
from jangin.version import PROTOCOL, __version__

__all__ = ["Counted", "Outlook", "watched"]

_KINDS: Final = frozenset({"enroll", "campaigns", "approve", "commit", "renew", "ack"})
_DIGITS: Final = 8

_log = logging.getLogger(__name__)


class Counted:
    """The site API, with a count of its answers."""

    def __init__(self, api: Callable[[Any, Any, Callable[[Any], Awaitable[None]]], Awaitable[None]]) -> None:
        """Take the ASGI application that answers."""
        self._api = api
        self._answers = Counter[tuple[str, str]]()

    @property
    def answers(self) -> Mapping[tuple[str, str], int]:
        """How many, by what was asked and by the code of a refusal, or `ok`."""
        return dict(self._answers)

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        """Hand one request on, and look at its answer."""
        word = str(scope["path"]).rpartition("/")[2]
        what, codes = word if word in _KINDS else "other", ["ok"]

        async def seen(event: Any) -> None:
            if event["type"] == "http.response.start" and event["status"] != 200:
                codes.append("none")
            elif event["type"] == "http.response.body" and codes[-1] == "none":
                with suppress(ValueError, TypeError, KeyError):
                    codes.append(str(cbor.decode(event["body"])["code"]))
            await send(event)

        await self._api(scope, receive, seen)
        self._answers[what, codes[-1]] += 1


@dataclass(frozen=True)
class Outlook:
    """Looks at one server.

    Attributes:
        store: its database.
        members: the sites.
        certificate: the file of the server's certificate.
        online: how many sites are connected.
        answers: of the site API, by what was asked and the code.
        clock: the time, aware.
    """

    store: Store
    members: Members
    certificate: Path
    online: Callable[[], int]
    answers: Callable[[], Mapping[tuple[str, str], int]]
    clock: Callable[[], datetime]

    def health(self) -> Page:
        """200 where the database answers; 503 with a code where not."""
        told: dict[str, object] = {"version": __version__, "protocol": PROTOCOL, "state": "ok", "code": ""}
        try:
            self.store.database.audit_head()
        except AWAY:
            told |= {"state": "database_away", "code": "JG-server-464"}
        return Page(503 if told["code"] else 200, JSON, json.dumps(told))

    def metrics(self) -> Page:
        """All figures."""
        return Page(200, TEXT, "".join(f"{line}\n" for line in self._figures()))

    def _figures(self) -> Iterator[str]:
        yield from family(
            "jangin_server_info", "gauge", "Version.", {f'version="{__version__}",protocol="{PROTOCOL}"': 1}
        )
        yield from family("jangin_server_sites_online", "gauge", "Sites that are connected.", self.online())
        asked = {f'what="{what}",code="{code}"': count for (what, code), count in sorted(self.answers().items())}
        name, text = "jangin_server_answers_total", "Answers of the site API since the start; polls are ack."
        yield from family(name, "counter", text, asked)
        with suppress(OSError, ValueError):
            until = x509.load_pem_x509_certificate(self.certificate.read_bytes()).not_valid_after_utc
            name, text = "jangin_server_certificate_seconds", "How long the TLS certificate holds."
            yield from family(name, "gauge", text, round((until - self.clock()).total_seconds()))
        try:
            kept = list(self._kept())
        except AWAY:
            kept = []
        yield from family("jangin_server_database_up", "gauge", "1 while the database answers.", int(bool(kept)))
        yield from kept
        yield from process()

    def _kept(self) -> Iterator[str]:
        """What the database knows."""
        tally, now = self.store.tally(), self.clock()
        states = {state.value: tally.campaigns.get(state.value, 0) for state in State}
        yield from family("jangin_server_campaigns", "gauge", "Campaigns by state.", labelled("state", states))
        name, text = "jangin_server_rounds", "Attempts at rounds by outcome."
        yield from family(name, "gauge", text, labelled("outcome", tally.rounds))
        last = {campaign[:_DIGITS]: entry for campaign, entry in tally.last.items()}
        took = {campaign: round(entry.seconds, 3) for campaign, entry in last.items()}
        name, text = "jangin_server_last_round_seconds", "How long the last attempt of a running campaign took."
        yield from family(name, "gauge", text, labelled("campaign", took))
        replies = {
            f'campaign="{campaign}",reply="{reply}"': len(getattr(entry, reply))
            for campaign, entry in sorted(last.items())
            for reply in ("reported", "abstained", "refused", "missing")
        }
        name, text = "jangin_server_last_round_sites", "Sites in the last attempt of a running campaign."
        yield from family(name, "gauge", text, replies)
        with suppress(JanginError):
            sites = Counter(str(member.status) for member in self.members.members())
            yield from family("jangin_server_sites", "gauge", "Sites by status.", labelled("status", sites))
        with suppress(JanginError):  # none is in force: then there is no figure
            left = round((self.members.roster(now).valid_until - now).total_seconds())
            yield from family("jangin_server_roster_seconds", "gauge", "How long the roster holds.", left)
        entries, _ = self.store.database.audit_head()
        yield from family("jangin_server_audit_entries", "counter", "Entries of the audit log.", entries)


@contextmanager
def watched(block: MonitorBlock | None, outlook: Outlook) -> Iterator[int | None]:
    """Answer for as long as the server runs; the port, or None where nobody is to be answered or none can be had."""
    if block is None:
        yield None
        return
    try:
        pages = Pages(block.host, block.port, {"/health": outlook.health, "/metrics": outlook.metrics})
    except OSError as error:
        problem = error.strerror or type(error).__name__
        _log.warning("%s", ServerError("JG-server-468", where=f"{block.host}:{block.port}", problem=problem))
        yield None
        return
    with pages:
        yield pages.port
