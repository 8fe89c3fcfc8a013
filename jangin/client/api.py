"""The site API as a site uses it: enrolment, campaigns, approvals, pace, models; over TLS, with our own roots.

Each request is `POST /v1/jangin/<what>` with a canonical CBOR map that came through the door, and is signed:

    signature = Ed25519("jangin/api" 0x00 method LF path LF sha256(body) LF time LF nonce LF site)

Beside it stands which version of the protocol this site speaks.

The law: waiting is bounded; an answer is read only as far as it is allowed to be long, and used only if all of it has
the agreed form. What it brings (staff, roster, plans) is believed by nobody before trust/ has verified it.
"""

import ssl
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Annotated, Final, Literal, Self, TypeVar

import httpx
from pydantic import ConfigDict, Field, ValidationError

from jangin.client.door import Door
from jangin.codec import cbor
from jangin.codec.document import Document
from jangin.errors import LinkError, SiteError
from jangin.flower_link.line import KEEP, silence
from jangin.trust.keys import Identity
from jangin.trust.requests import signed_bytes
from jangin.version import PROTOCOL

__all__ = [
    "MOST_ANSWER_BYTES",
    "CampaignOffer",
    "EnrolmentAnswer",
    "ModelOffer",
    "ModelOffers",
    "Offer",
    "SiteApi",
]

MOST_ANSWER_BYTES: Final = 2**26

_PATH: Final = "/v1/jangin/"
_FORM: Final = "application/cbor"
_REFUSED: Final = range(400, 500)

A = TypeVar("A", bound=Document)


class _Answer(Document):
    model_config = ConfigDict(strict=True)


class EnrolmentAnswer(_Answer):
    """What came of asking to join.

    Attributes:
        status: `waiting` until the operator has confirmed the fingerprint by telephone.
        staff: the staff list's envelope, where confirmed.
        roster: the roster's envelope, where confirmed.
    """

    status: Literal["waiting", "confirmed"]
    staff: bytes | None
    roster: bytes | None


class CampaignOffer(_Answer):
    """One campaign that invites this site.

    Attributes:
        plan: the signed plan's envelope.
        state: where the server says it stands.
        approved: whether the server has this site's approval.
    """

    plan: bytes
    state: Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")]
    approved: bool


class Offer(_Answer):
    """Everything the server has for this site.

    Attributes:
        staff: the newest staff list's envelope.
        roster: the newest roster's envelope.
        campaigns: those that invite this site.
        commitment: the newest that this site made to its ledger, as its envelope; None before the first.
    """

    staff: bytes
    roster: bytes
    campaigns: Annotated[list[CampaignOffer], Field(max_length=1000)]
    commitment: bytes | None


class ModelOffer(_Answer):
    """A version of a model that was released to this site; signed documents, which nobody has verified yet.

    Attributes:
        manifest: its manifest's envelope, by whoever released it.
        aliases: what the server says points at it.
        withdrawal: the envelope by which it was withdrawn; None where it was not.
    """

    manifest: bytes
    aliases: Annotated[list[Annotated[str, Field(pattern=r"^[a-z]{1,16}$")]], Field(max_length=10)]
    withdrawal: bytes | None


class ModelOffers(_Answer):
    """What was released to this site, and the staff list by which that is to be judged."""

    staff: bytes
    models: Annotated[list[ModelOffer], Field(max_length=1000)]


class _Piece(_Answer):
    piece: Annotated[bytes, Field(min_length=1, max_length=2**22)]


class _Approved(_Answer):
    approved: Literal[True]


class _Committed(_Answer):
    committed: Literal[True]


class _Renewed(_Answer):
    renewed: Literal[True]


class _Pace(_Answer):
    next_poll_s: Annotated[float, Field(gt=0, le=3600)]


class _Refusal(_Answer):
    model_config = ConfigDict(extra="ignore")

    code: Annotated[str, Field(pattern=r"^JG-[a-z]+-[0-9]{3}$")]
    message: Annotated[str, Field(max_length=2000)]


class SiteApi:
    """One site's requests; a context manager."""

    def __init__(
        self,
        address: str,
        site: str,
        identity: Identity,
        roots: bytes,
        door: Door,
        *,
        clock: Callable[[], datetime],
        nonce: Callable[[], str],
        timeout_seconds: float = 20.0,
    ) -> None:
        """Nothing is sent yet.

        Args:
            address: `host:port`; always TLS.
            site: this site's id.
            identity: by which it signs.
            roots: the certificates trusted for this server and no others, PEM.
            door: through which every body passes.
            clock: the site's time, aware.
            nonce: 32 hex digits, never the same.
            timeout_seconds: the longest wait for one step of one request.

        Raises:
            LinkError: JG-site-202, `roots` hold no certificate.
        """
        self._address, self._site, self._identity, self._door = address, site, identity, door
        self._clock, self._nonce = clock, nonce
        try:
            context = ssl.create_default_context(cadata=roots.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise LinkError("JG-site-202", where=address, problem="the file of roots holds no certificate") from None
        if not roots:  # Python would trust the machine's own authorities instead
            raise LinkError("JG-site-202", where=address, problem="the file of roots is empty")
        self._client = httpx.Client(base_url=f"https://{address}", verify=context, timeout=timeout_seconds, limits=KEEP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the connection."""
        self._client.close()

    def enroll(self, token: str, node_key: str) -> EnrolmentAnswer:
        """Ask to join; may be asked again with the same keys.

        Raises:
            LinkError: JG-site-201, 202, 207 or 400. SiteError: JG-site-301 refused.
        """
        fields = {"token": token, "identity": self._identity.public_text, "node_key": node_key}
        return self._ask("enroll", fields, EnrolmentAnswer)

    def campaigns(self) -> Offer:
        """Staff, roster, and the campaigns that invite this site.

        Raises:
            LinkError: JG-site-201, 202, 207 or 400. SiteError: JG-site-301 refused.
        """
        return self._ask("campaigns", {}, Offer)

    def approve(self, approval: bytes) -> None:
        """Hand in this site's signed yes to a plan.

        Raises:
            LinkError: JG-site-201, 202, 207 or 400. SiteError: JG-site-301 refused.
        """
        self._ask("approve", {"approval": approval}, _Approved)

    def commit(self, commitment: bytes) -> None:
        """Hand in a signed commitment to this site's ledger.

        Raises:
            LinkError: JG-site-201, 202, 207 or 400. SiteError: JG-site-301 refused.
        """
        self._ask("commit", {"commitment": commitment}, _Committed)

    def renew(self, node_key: str) -> None:
        """Hand in a new node key; the next roster lists it.

        Raises:
            LinkError: JG-site-201, 202, 207 or 400. SiteError: JG-site-301 refused.
        """
        self._ask("renew", {"node_key": node_key}, _Renewed)

    def ack(self) -> float:
        """Say that the site is there; seconds until its next poll.

        Raises:
            LinkError: JG-site-201, 202, 207 or 400. SiteError: JG-site-301 refused.
        """
        return self._ask("ack", {}, _Pace).next_poll_s

    def models(self) -> ModelOffers:
        """What was released to this site.

        Raises:
            LinkError: JG-site-201, 202, 207 or 400. SiteError: JG-site-301 refused.
        """
        return self._ask("models", {}, ModelOffers)

    def model(self, line: str, version: int, file: str, offset: int) -> bytes:
        """A piece of a file of a model, from a byte on: 1 to 4 MiB, as many as the server gives at a time.

        Raises:
            LinkError: JG-site-201, 202, 207 or 400. SiteError: JG-site-301 refused.
        """
        fields = {"line": line, "version": version, "file": file, "offset": offset}
        return self._ask("model", fields, _Piece).piece

    def _ask(self, what: str, fields: Mapping[str, object], form: type[A]) -> A:
        body, path = self._door.request(what, fields), _PATH + what
        time, nonce = str(int(self._clock().timestamp())), self._nonce()
        signature = self._identity.sign(signed_bytes("POST", path, body, time, nonce, self._site))
        headers = {
            "content-type": _FORM,
            "x-jangin-protocol": str(PROTOCOL),
            "x-jangin-site": self._site,
            "x-jangin-time": time,
            "x-jangin-nonce": nonce,
            "x-jangin-signature": signature.hex(),
        }
        status, answer = self._exchange(path, body, headers)
        if status == httpx.codes.OK:
            return self._read(answer, form)
        if status in _REFUSED:
            refusal = self._read(answer, _Refusal)
            said = "".join(filter(str.isprintable, refusal.message))[:300].removesuffix(".")
            raise SiteError("JG-site-301", where=self._address, what=what, answer=refusal.code, message=said)
        raise LinkError("JG-site-207", where=self._address, answer=status)

    def _exchange(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body of one answer, read no further than it may be long."""
        try:
            with self._client.stream("POST", path, content=body, headers=headers) as response:
                content = bytearray()
                for piece in response.iter_bytes():
                    content += piece
                    if len(content) > MOST_ANSWER_BYTES:
                        raise LinkError("JG-site-207", where=self._address, answer="too long")
                return response.status_code, bytes(content)
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise silence(self._address, error) from None

    def _read(self, content: bytes, form: type[A]) -> A:
        try:
            return form.model_validate(cbor.decode(content))
        except (ValidationError, ValueError):
            raise LinkError("JG-site-207", where=self._address, answer="unreadable") from None
