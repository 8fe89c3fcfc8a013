"""Commands: what a person asks of one server, signed by that person's key, to be done once and soon.

    staff key → command {act, subject, arguments, attachment, server, nonce, issued} → DSSE envelope

The law: a command is for one server, known by its audit key; it counts for five minutes; what comes along with it is
bound by its SHA-256; and whoever signs is on the staff list by a key in force. That it is done once only, and that its
signer may do it, is for the server to see to (server/office.py).
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Final

from pydantic import Field

from jangin.errors import ServerError, SiteError
from jangin.trust.envelope import MAX_AHEAD, Hash, Kind, SignedDocument, parsed, peek_signed, seal
from jangin.trust.keys import Identity
from jangin.trust.staff import Staff, StaffKey

__all__ = ["LIFE", "MOST_BYTES", "Command", "signed_command", "verify_command"]

LIFE: Final = timedelta(minutes=5)
"""How long a command counts after it was signed."""

MOST_BYTES: Final = 32_768
"""Of a command's envelope."""

_NONCE_BYTES = 16

_PLAIN = r"^[^\p{Cc}]*$"  # nothing that moves a reader's cursor

Argument = Annotated[str, Field(max_length=1000, pattern=_PLAIN)] | int | bool


class Command(SignedDocument):
    """One wish of one person.

    Attributes:
        act: what is to be done.
        subject: to what: a campaign's hash, a site's id, ...; empty where there is no such thing.
        arguments: what else it takes; small.
        attachment: SHA-256 of the bytes that come along, 64 hex digits; empty where none do.
        server: fingerprint of the audit key of the server that is to do it.
        nonce: 32 hex digits, fresh for every command.
    """

    kind = Kind.COMMAND

    act: Annotated[str, Field(pattern=r"^[a-z_]{1,31}$")]
    subject: Annotated[str, Field(max_length=200, pattern=_PLAIN)]
    arguments: Annotated[Mapping[Annotated[str, Field(pattern=r"^[a-z_]{1,31}$")], Argument], Field(max_length=16)]
    attachment: Hash | Annotated[str, Field(pattern=r"^$")]
    server: Annotated[str, Field(pattern=r"^[A-Z2-7]{4}(-[A-Z2-7]{4}){4}$")]
    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


def signed_command(
    act: str,
    subject: str,
    server: str,
    key: Identity,
    now: datetime,
    *,
    arguments: Mapping[str, str | int | bool] | None = None,
    attachment: bytes = b"",
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> bytes:
    """A command's envelope.

    Args:
        act: as in `Command`.
        subject: as in `Command`.
        server: as in `Command`.
        key: of whoever asks.
        now: from now on it counts.
        arguments: as in `Command`.
        attachment: what is to come along.
        random_bytes: gives the nonce; a repeated one is refused and no secret hangs on it.

    Raises:
        ValueError: it cannot be said so: too long, or with control characters.
    """
    command = Command(
        issued=now.replace(microsecond=0),
        act=act,
        subject=subject,
        arguments=arguments or {},
        attachment=_digest(attachment),
        server=server,
        nonce=random_bytes(_NONCE_BYTES).hex(),
    )
    return seal(Kind.COMMAND, command.payload, key)


def verify_command(
    data: bytes, attachment: bytes, staff: Staff, server: str, now: datetime
) -> tuple[Command, StaffKey]:
    """The command and whose it is, if it counts at this server now; whether it came before is not looked at.

    Raises:
        SiteError: JG-site-110..113 and 116 as `Staff.signers`, 115 where it is none.
        ServerError: JG-server-400, not (any more) or not yet; 401, for another server; 406, other bytes came along.
    """
    if len(data) > MOST_BYTES:
        problem = f"{len(data)} bytes, more than {MOST_BYTES}"
        raise SiteError("JG-site-110", where=Kind.COMMAND.noun, problem=problem)
    peek_signed(data, Kind.COMMAND)
    payload, (key,) = staff.signers(data, Kind.COMMAND, now)
    command = parsed(payload, Command)
    if command.server != server:
        raise ServerError("JG-server-401", where=command.act, found=command.server, expected=server)
    if not -MAX_AHEAD <= now - command.issued < LIFE:
        minutes = int(LIFE.total_seconds() // 60)
        raise ServerError("JG-server-400", where=command.act, issued=command.issued, now=now, minutes=minutes)
    if command.attachment != _digest(attachment):
        raise ServerError("JG-server-406", where=command.act)
    return command, key


def _digest(attachment: bytes) -> str:
    return hashlib.sha256(attachment).hexdigest() if attachment else ""
