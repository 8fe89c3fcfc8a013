"""What a message weighs on a site's connection, before it is sent: Flower's objects, and the requests that carry them.

A message is an envelope with the tree of its objects, and the objects: three of them without a vector (ConfigRecord,
RecordDict, Message), with one three more (ArrayRecord, Array) and one for each chunk of 5 MiB. A site fetches it by
1 + objects + 1 requests (pull, one an object, confirm), and answers by 1 + objects (announce, one an object).

The law: sizes are those of `wire.pack` to a hundredth and those of requests as a relay measured them, HTTP/1.1 with its
headers; TLS' records and handshakes are not counted, nor what is sent again on a bad line.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

__all__ = ["BEAT", "COMMITMENT", "PACE", "POLL", "Traffic", "answered", "asked"]


@dataclass(frozen=True)
class Traffic:
    """Bytes of one site's connection.

    Attributes:
        up: from the site.
        down: to the site.
    """

    up: int = 0
    down: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.up + other.up, self.down + other.down)

    def times(self, count: int) -> "Traffic":
        """So many times the same."""
        return Traffic(self.up * count, self.down * count)

    @classmethod
    def together(cls, *parts: "Traffic") -> "Traffic":
        """All of these."""
        return cls(sum(part.up for part in parts), sum(part.down for part in parts))


_CHUNK_BYTES: Final = 5 * 2**20
_VALUE_BYTES: Final = 4

# Of Flower's forms, as `pack` makes them.
_OBJECTS, _OBJECTS_BYTES, _ENVELOPE_BYTES = 3, 438, 325
_OF_A_VECTOR, _VECTOR_BYTES, _VECTOR_TREE_BYTES = 3, 490, 206
_CHUNK_HEAD_BYTES, _CHUNK_TREE_BYTES = 88, 68

# Of requests and their answers, each with its headers and without what it carries, measured.
_PULL: Final = Traffic(852, 113)
_FETCH: Final = Traffic(928, 118)
_CONFIRM: Final = Traffic(941, 111)
_PUSH: Final = Traffic(928, 225)
_GIVE: Final = Traffic(969, 113)
_WANTED_BYTES: Final = 66  # of an object, in the answer to an announcement
_REPLY_BYTES: Final = 60  # by which the head of a reply is larger than that of an order

POLL: Final = Traffic(852, 111)
"""A site asks for a message, and there is none."""
PACE: Final = Traffic(481, 130)
"""A site asks how soon to poll again."""
BEAT: Final = Traffic(880, 115)
"""A site says that it is there, four times a minute."""
COMMITMENT: Final = Traffic(893, 120)
"""A site says what its ledger has come to, once for each charge."""


@dataclass(frozen=True)
class _Message:
    """A message as Flower carries it.

    Attributes:
        objects: how many.
        content: bytes of all of them.
        announced: bytes of its envelope and their tree.
    """

    objects: int
    content: int
    announced: int

    @classmethod
    def of(cls, body: int, values: int | None) -> "_Message":
        if values is None:
            return cls(_OBJECTS, _OBJECTS_BYTES + body, _ENVELOPE_BYTES)
        chunks = max(ceil(_VALUE_BYTES * values / _CHUNK_BYTES), 1)
        more = _CHUNK_HEAD_BYTES * (chunks - 1)
        return cls(
            _OBJECTS + _OF_A_VECTOR + chunks - 1,
            _OBJECTS_BYTES + _VECTOR_BYTES + more + body + _VALUE_BYTES * values,
            _ENVELOPE_BYTES + _VECTOR_TREE_BYTES + _CHUNK_TREE_BYTES * (chunks - 1),
        )


def asked(body: int, values: int | None = None) -> Traffic:
    """A message that a site fetches.

    Args:
        body: bytes of its body.
        values: of its vector, four bytes each; None where it has none.
    """
    message = _Message.of(body, values)
    carried = Traffic(0, message.announced + message.content)
    return Traffic.together(_PULL, _FETCH.times(message.objects), _CONFIRM, carried)


def answered(body: int, values: int | None = None) -> Traffic:
    """A message that a site sends; arguments as `asked`."""
    message = _Message.of(body, values)
    carried = Traffic(message.announced + message.content + _REPLY_BYTES, _WANTED_BYTES * message.objects)
    return Traffic.together(_PUSH, _GIVE.times(message.objects), carried)
