"""The way to the server: by which proxy, over which certificates, what it says of itself, what its silence means.

The law: every wait is bounded; only what the site trusts is trusted; a certificate that is not trusted is looked at for
its issuer's name, and nothing is sent over its connection. A proxy's password is never shown.
"""

import socket
import ssl
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPSConnection
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
from cryptography import x509

from jangin.errors import LinkError

__all__ = [
    "KEEP",
    "LOOPBACK",
    "PROTOCOL_HEADER",
    "Health",
    "Route",
    "certificates",
    "proxied_loopback",
    "route",
    "silence",
]

PROTOCOL_HEADER: Final = "jangin-protocol"
"""In the answer to /health: the server's `version.PROTOCOL`, from `EmbeddedLink`."""

KEEP: Final = httpx.Limits(max_connections=4, keepalive_expiry=100.0)
"""A site's connection stays open between two polls: a handshake costs both ends more than a poll. The server closes
one that is silent for longer (`bounds.Bounds.idle_seconds`), so that a request never meets one that is being closed."""

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_STEP_SECONDS: Final = 3.0
_MOST_BYTES: Final = 2**16
_MOST_NAME: Final = 200
_PORTS: Final = {"http": 80, "https": 443}
_STRANGERS: Final = frozenset({7, 18, 19, 20, 21})
"""X509_V_ERR_* of OpenSSL's x509_vfy.h: a signature by another key, self-signed ones, an issuer that is not known."""
_DATE_LAGS: Final = timedelta(seconds=1.0)
"""A Date header is cut to the second, and servers renew it once a second: on average it is so much too early."""


@dataclass(frozen=True)
class Health:
    """What the server says of itself on /health.

    Attributes:
        ahead_s: by how many seconds the site's clock is ahead of the server's, within 1 s; None where it does not say.
        protocol: its version of the protocol; None where it does not say.
        issuer: who signed its certificate.
        ends: when its certificate runs out.
    """

    ahead_s: float | None
    protocol: int | None
    issuer: str
    ends: datetime


@dataclass(frozen=True)
class Route:
    """How a site reaches its server.

    Attributes:
        host: the server's name or address.
        port: its port.
        proxy: host and port of the proxy before it, or None.
        login: what the proxy wants to know, as a header's value; secret.
    """

    host: str
    port: int
    proxy: tuple[str, int] | None = None
    login: str = ""

    def __repr__(self) -> str:
        return f"Route({self.address!r})"

    @property
    def first(self) -> tuple[str, int]:
        """Host and port of whoever is spoken to first: the proxy, or the server."""
        return self.proxy or (self.host, self.port)

    @property
    def address(self) -> str:
        """`host:port` of the first."""
        host, port = self.first
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def connect(self) -> None:
        """Open a TCP connection to the first, and close it.

        Raises:
            OSError: nobody answers there.
        """
        socket.create_connection(self.first, _STEP_SECONDS).close()

    def health(self, ca: bytes, clock: Callable[[], datetime]) -> Health:
        """Ask the server how it is, trusting `ca` (PEM) alone.

        Raises:
            ssl.SSLError: another certificate, or no TLS. OSError: the connection broke. ValueError: no HTTP.
        """
        with closing(self._connection(ssl.create_default_context(cadata=ca.decode("ascii")))) as connection:
            connection.connect()
            leaf = _leaf(connection.sock)
            asked = clock()
            connection.request("GET", "/health")
            answer = connection.getresponse()
            answer.read(_MOST_BYTES)
            midway = asked + (clock() - asked) / 2
        date, protocol = answer.headers["date"], answer.headers[PROTOCOL_HEADER] or ""
        return Health(
            ahead_s=None if date is None else (midway - parsedate_to_datetime(date) - _DATE_LAGS).total_seconds(),
            protocol=int(protocol) if protocol.isascii() and protocol.isdigit() else None,
            issuer=_issuer(leaf),
            ends=leaf.not_valid_after_utc,
        )

    def issuer(self) -> str:
        """The name of whoever signed the certificate that is presented, which is not believed.

        Raises:
            OSError: no certificate is presented. ValueError: none that can be read.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with closing(self._connection(context)) as connection:
            connection.connect()
            return _issuer(_leaf(connection.sock))

    def _connection(self, context: ssl.SSLContext) -> HTTPSConnection:
        connection = HTTPSConnection(*self.first, timeout=_STEP_SECONDS, context=context)
        if self.proxy is not None:
            connection.set_tunnel(self.host, self.port, {"Proxy-Authorization": self.login} if self.login else None)
        return connection


def route(address: str) -> Route:
    """The way to `host:port` that this process' environment asks for: HTTPS_PROXY, else ALL_PROXY, but for NO_PROXY.

    Raises:
        ValueError: a variable that names no proxy; its value is not shown.
    """
    parts = urlsplit(f"//{address}")
    host, port = parts.hostname or "", parts.port or _PORTS["https"]
    named = getproxies()
    variable = next((name for name in ("https", "all") if named.get(name)), None)
    if variable is None or proxy_bypass(host):
        return Route(host, port)
    given = named[variable]
    try:
        proxy = urlsplit(given if "://" in given else f"http://{given}")
        usual = _PORTS[proxy.scheme]
        place = proxy.hostname or "", proxy.port or usual
    except (KeyError, ValueError):
        place = "", 0
    if not place[0]:
        raise ValueError(f"{variable.upper()}_PROXY") from None
    user = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}"
    return Route(host, port, place, f"Basic {b64encode(user.encode()).decode()}" if proxy.username else "")


def proxied_loopback() -> list[str]:
    """The names of this machine itself that would go through a proxy."""
    return [host for host in LOOPBACK if getproxies().keys() - {"no"} and not proxy_bypass(host)]


def certificates(ca: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file.

    Raises:
        ValueError: none.
    """
    return x509.load_pem_x509_certificates(ca)


def silence(address: str, error: Exception) -> LinkError:
    """What it means that a request to `host:port` got no answer; a stranger's certificate is looked at once more.

    Returns:
        JG-site-201 nobody; 202 a certificate that does not count, or no TLS; 400 one by an issuer who is not known.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    match cause:
        case ssl.SSLCertVerificationError():
            if cause.verify_code in _STRANGERS:
                with suppress(OSError, ValueError):
                    return LinkError("JG-site-400", where=address, issuer=route(address).issuer())
            return LinkError("JG-site-202", where=address, problem=cause.verify_message)
        case ssl.SSLError():
            return LinkError("JG-site-202", where=address, problem=cause.reason or "no TLS")
        case _:
            return LinkError("JG-site-201", where=address, problem=_unheard(error))


def _unheard(error: Exception) -> str:
    """Why no answer came, in words."""
    match error:
        case httpx.TimeoutException():
            return "not in time"
        case httpx.ConnectError():
            return "no connection"
        case _:
            return "the connection broke"


def _issuer(leaf: x509.Certificate) -> str:
    """Whom a certificate names as its issuer: a stranger's words, so no more of them than a line holds."""
    return "".join(filter(str.isprintable, leaf.issuer.rfc4514_string()))[:_MOST_NAME]


def _leaf(connection: object) -> x509.Certificate:
    """The server's own certificate."""
    content = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
    if content is None:
        raise OSError("no certificate")
    return x509.load_der_x509_certificate(content)
