"""The wire over Flower: a site's connection, the embedded SuperLink, an in-process grid.

    wire        one message's form, and the records and bytes Flower carries it in
    line        the way to the server: proxy, certificates, what the server says of itself, what its silence means
    site        `SiteLink`, a site's end of the Fleet API
    link        `EmbeddedLink`, the SuperLink in our process, and `Run`, one campaign's messages on it
    in_process  `InProcessGrid`, Flower apps in one process

The law: nothing else in Jangin imports Flower, and every internal symbol used here has a contract test. Flower reads
its switches when it is first imported, so they are set here: no telemetry, no look for updates, warnings only, and
loopback never through a proxy.
"""

import logging
import os

__all__: list[str] = []

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _worth_saying(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def _switch() -> None:
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
    # A filter, for Flower sets the level of its logger to DEBUG when it is imported.
    logging.getLogger("flwr").addFilter(_worth_saying)
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = ",".join(dict.fromkeys([*filter(None, named.split(",")), *_LOOPBACK])) if named.strip() != "*" else "*"
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = hosts


_switch()
