"""`GET /health` and `GET /metrics` on 127.0.0.1, for the factory's own monitor; only where site.yaml names a port.

The law: nobody beyond this machine is answered; what is told is a `Health`, which has counts, ages and states.
"""

import json
from collections.abc import Callable, Iterator
from typing import Final

from jangin.client.pulse import Health, State
from jangin.errors import JanginError, SiteError
from jangin.telling.figures import JSON, TEXT, Page, Pages, family, labelled, process
from jangin.version import PROTOCOL, __version__

__all__ = ["Monitor", "metrics"]

_HOST: Final = "127.0.0.1"


class Monitor(Pages):
    """Answers one request after the other; a context manager."""

    def __init__(self, port: int, look: Callable[[], Health]) -> None:
        """Listen.

        Args:
            port: of 127.0.0.1; 0: any, for tests.
            look: how the daemon is; may raise a JanginError or an OSError.

        Raises:
            SiteError: JG-site-420, the port cannot be had.
        """
        self._look = look
        try:
            super().__init__(_HOST, port, {"/health": self._health, "/metrics": self._metrics})
        except OSError as error:
            raise SiteError("JG-site-420", where=str(port), problem=error.strerror or type(error).__name__) from None

    def _health(self) -> Page:
        health = self._looked()
        if isinstance(health, Page):
            return health
        told = {"version": __version__, "protocol": PROTOCOL, **health.model_dump(mode="json")}
        return Page(200 if health.state is State.OK else 503, JSON, json.dumps(told))

    def _metrics(self) -> Page:
        health = self._looked()
        return health if isinstance(health, Page) else Page(200, TEXT, metrics(health))

    def _looked(self) -> Health | Page:
        """How the daemon is, or the page that says why nobody knows."""
        try:
            return self._look()
        except (JanginError, OSError) as error:
            code = error.code if isinstance(error, JanginError) else "JG-site-305"
            return Page(503, JSON, json.dumps({"state": "failed", "code": code}))


def metrics(health: Health) -> str:
    """The same in Prometheus' text."""
    return "".join(f"{line}\n" for line in _metrics(health))


def _metrics(health: Health) -> Iterator[str]:
    told = {state.value: int(health.state is state) for state in State}
    yield from family("jangin_site_info", "gauge", "Version.", {f'version="{__version__}",protocol="{PROTOCOL}"': 1})
    yield from family("jangin_site_state", "gauge", "1 for how the daemon is.", labelled("state", told))
    if health.heard_s is not None:
        yield from family("jangin_site_heard_seconds", "gauge", "Age of the server's last answer.", health.heard_s)
    if health.roster_s is not None:
        yield from family("jangin_site_roster_seconds", "gauge", "How long the roster holds.", health.roster_s)
    yield from family("jangin_site_working", "gauge", "Orders that the worker has.", health.working)
    yield from family("jangin_site_paused", "gauge", "1 while a person has it paused.", int(health.paused))
    yield from family("jangin_site_disk_free_bytes", "gauge", "Free beside the state folder.", health.disk_free)
    yield from family("jangin_site_rounds", "gauge", "Rounds by where they stand.", labelled("state", health.rounds))
    name, what = "jangin_site_abstentions_total", "Refusals by what the server was told."
    yield from family(name, "counter", what, labelled("told", health.abstentions))
    messages = {kind: count.messages for kind, count in health.egress.items()}
    size = {kind: count.bytes for kind, count in health.egress.items()}
    name, what = "jangin_site_egress_messages_total", "Messages in the egress log."
    yield from family(name, "counter", what, labelled("kind", messages))
    name, what = "jangin_site_egress_bytes_total", "Bytes in the egress log."
    yield from family(name, "counter", what, labelled("kind", size))
    yield from process()
