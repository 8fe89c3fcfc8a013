"""How much of the one listener anybody may take: figures, and buckets of tokens that count by address or by name.

The law: what a registered site signed is never counted against its address, so that many sites behind one address have
each their own; everything else is. Every table has a most, so that no flood makes it grow; what it forgets may begin
anew. Time is an argument.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from math import ceil
from typing import Final, Protocol

from jangin.errors import LinkError

__all__ = ["CALLER", "Bounds", "Buckets", "Caller", "Rate", "Turnstile", "address_of"]

CALLER: Final = "jangin.caller"
"""Under which extension of its ASGI scope a request finds its `Caller`."""

_OK: Final = 200
_OUR_FAULT: Final = 500
_GRAIN_SECONDS: Final = 1e-6  # below what the sums of a clock are exact to
_MOST_KEYS: Final = 20_000
_IPV6_BITS: Final = 64  # what one subscriber has (RFC 6177)


@dataclass(frozen=True)
class Rate:
    """So many at once, and so many a second afterwards."""

    burst: int
    a_second: float


@dataclass(frozen=True)
class Bounds:
    """What one listener bears.

    Attributes:
        strangers: connections at once on which no registered site has signed yet; the oldest makes room for the newest.
        stranger_seconds: for how long each of them may be open: the handshake, and again as long until a signature.
        connections_of_a_site: connections at once on which one site has signed; the oldest makes room for the newest.
        idle_seconds: for how long such a connection may be silent between two requests.
        request_seconds: for how long one request of a site may take, from its first byte to its answer's last.
        head_bytes: of a request before its body.
        connections: strangers' new connections, by address; more are closed before TLS.
        requests: requests that no registered site signed, by address.
        forgeries: wrong signatures under a registered site's name, by address and site.
        enrolments: enrolments that fail, by address.
        signed: requests that a site did sign, by site.
    """

    strangers: int = 1024
    stranger_seconds: float = 15.0
    connections_of_a_site: int = 8
    idle_seconds: float = 150.0
    request_seconds: float = 300.0
    head_bytes: int = 16_384
    connections: Rate = field(default=Rate(1000, 50.0))
    requests: Rate = field(default=Rate(100, 10.0))
    forgeries: Rate = field(default=Rate(10, 0.2))
    enrolments: Rate = field(default=Rate(10, 1 / 60))
    signed: Rate = field(default=Rate(2000, 200.0))


class Buckets:
    """A bucket of tokens for each key, by the virtual scheduling algorithm (ITU-T I.371, Annex A): one number a key.

    The number is the time at which the bucket is full again; a key that is not there has a full one.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float], *, most_keys: int = _MOST_KEYS) -> None:
        """Take a rate, a clock of seconds that only grow, and how many buckets may be other than full."""
        self._step, self._depth = 1 / rate.a_second, rate.burst / rate.a_second
        self._clock, self._most_keys = clock, most_keys
        self._full: dict[Hashable, float] = {}

    def __len__(self) -> int:
        return len(self._full)

    def wait(self, key: Hashable) -> float:
        """Seconds until there is a token; 0 where there is one."""
        now = self._clock()
        wait = self._full.get(key, now) + self._step - self._depth - now
        return wait if wait > _GRAIN_SECONDS else 0.0

    def take(self, key: Hashable) -> float:
        """Take a token; where there is none nothing is taken, and it is so many seconds until there is one."""
        wait = self.wait(key)
        if wait == 0.0:
            now = self._clock()
            self._full[key] = max(self._full.pop(key, now), now) + self._step
            self._forget(now)
        return wait

    def give_back(self, key: Hashable) -> None:
        """Put a token back that was taken."""
        if key in self._full:
            self._full[key] -= self._step

    def _forget(self, now: float) -> None:
        """Drop buckets that are full again, oldest first, and beyond the most also others."""
        while self._full:
            key = next(iter(self._full))
            if self._full[key] > now and len(self._full) <= self._most_keys:
                return
            del self._full[key]


class Turnstile:
    """All buckets of a listener; used by its one thread."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float]) -> None:
        """Take the figures, and a clock of seconds that only grow."""
        self.connections = Buckets(bounds.connections, clock)
        self.requests = Buckets(bounds.requests, clock)
        self.forgeries = Buckets(bounds.forgeries, clock)
        self.enrolments = Buckets(bounds.enrolments, clock)
        self.signed = Buckets(bounds.signed, clock)


class _Place(Protocol):
    """What a request came on: from which address, and which registered site has signed on it; empty while none has."""

    address: str
    site: str

    def vouch(self, site: str) -> None:
        """A registered site has signed here."""
        ...


class Caller:
    """One request on its way: who it says it is, and whether that was proven."""

    def __init__(self, turnstile: Turnstile, place: _Place, site: str, *, enrols: bool) -> None:
        """Nothing is counted yet.

        Args:
            turnstile: where it is counted.
            place: its connection.
            site: the registered site that it names; empty: none.
            enrols: whether it asks to join, which no registered site does.
        """
        self.site = site
        self._turnstile, self._place, self._enrols = turnstile, place, enrols
        self._vouched = False

    def come(self) -> None:
        """Be counted, as far as nobody has to be believed.

        Raises:
            LinkError: JG-server-490 too many of this address, 491 too many enrolments that failed, 492 too many of
                this site.
        """
        buckets, address = self._turnstile, self._place.address
        if self._enrols:
            _refuse("JG-server-491", address, buckets.enrolments.take(address))
        elif not self.site:
            _refuse("JG-server-490", address, buckets.requests.take(address))
        else:
            if self._place.site != self.site:
                _refuse("JG-server-490", address, buckets.forgeries.wait((address, self.site)))
            _refuse("JG-server-492", self.site, buckets.signed.wait(self.site))

    def vouch(self) -> None:
        """Its signature is by the registered site that it names."""
        if self.site and not self._vouched:
            self._vouched = True
            self._turnstile.signed.take(self.site)
            self._place.vouch(self.site)

    def go(self, status: int) -> None:
        """It was answered so: what was no failure is given back, what was one under a site's name is counted."""
        address = self._place.address
        if self._enrols and status == _OK:
            self._turnstile.enrolments.give_back(address)
        if self.site and not self._vouched and self._place.site == self.site:
            self._turnstile.signed.take(self.site)
        elif self.site and not self._vouched and status < _OUR_FAULT:
            self._turnstile.forgeries.take((address, self.site))
            self._turnstile.requests.take(address)


def _refuse(code: str, where: str, wait: float) -> None:
    if wait:
        raise LinkError(code, where=where, seconds=ceil(wait))


def address_of(host: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> _IPV6_BITS << _IPV6_BITS))
