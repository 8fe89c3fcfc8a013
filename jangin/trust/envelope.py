"""Signed documents: a canonical payload in a DSSE envelope, opened strictly.

The envelope is DSSE 1.0 (https://github.com/secure-systems-lab/dsse: envelope.md, protocol.md) by securesystemslib:
signatures cover `PAE(payloadType, payload)`. The payload is the canonical CBOR of one document, the envelope is JSON.
The law: each kind of document has one payload type; an envelope has one form, so no byte of it can change unseen;
every signature in it must be by a known key and hold; nothing but the payload is read.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AfterValidator, AwareDatetime, Field, PositiveInt, ValidationError
from securesystemslib import dsse
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Signature, SSlibKey  # type: ignore[attr-defined]  # public, but not in an __all__

from jangin.codec import cbor
from jangin.codec.document import Document
from jangin.errors import SiteError
from jangin.trust.keys import Identity, identity_from_text, node_key_from_text

__all__ = [
    "MAX_AHEAD",
    "MAX_ENVELOPE_BYTES",
    "Hash",
    "IdentityText",
    "Kind",
    "Moment",
    "NodeKeyText",
    "Opened",
    "SignedDocument",
    "Versioned",
    "countersign",
    "open_envelope",
    "peek",
    "peek_signed",
    "read_document",
    "seal",
]

MAX_AHEAD = timedelta(minutes=5)
"""How far the clock here may be behind the signers'; Flower's node authentication allows as much."""

MAX_ENVELOPE_BYTES = 8 * 2**20
_MAX_SIGNATURES = 16
_SIGNATURE_HEX = 128
_KEY_ID = re.compile(r"[A-Z2-7]{4}(-[A-Z2-7]{4}){4}")


class Kind(StrEnum):
    """What is signed, by its payload type."""

    STAFF = "application/vnd.jangin.staff.v1+cbor"
    ROSTER = "application/vnd.jangin.roster.v1+cbor"
    PLAN = "application/vnd.jangin.plan.v1+cbor"
    APPROVAL = "application/vnd.jangin.approval.v1+cbor"
    STOP = "application/vnd.jangin.stop.v1+cbor"
    COMMITMENT = "application/vnd.jangin.commitment.v1+cbor"
    CONSENT = "application/vnd.jangin.consent.v1+cbor"
    REVOCATION = "application/vnd.jangin.revocation.v1+cbor"
    COMMAND = "application/vnd.jangin.command.v1+cbor"
    MODEL = "application/vnd.jangin.model.v1+cbor"
    WITHDRAWAL = "application/vnd.jangin.withdrawal.v1+cbor"
    MEASUREMENT = "application/vnd.jangin.measurement.v1+cbor"

    @property
    def noun(self) -> str:
        """The word for it: `roster`; also the domain of its hash."""
        return self.name.lower()


def _utc_seconds(moment: datetime) -> datetime:
    if moment.microsecond:
        raise ValueError("expected whole seconds")
    return moment.astimezone(UTC)


def _identity(text: str) -> str:
    identity_from_text(text)
    return text


def _node_key(text: str) -> str:
    node_key_from_text(text)
    return text


Moment = Annotated[AwareDatetime, AfterValidator(_utc_seconds)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
IdentityText = Annotated[str, AfterValidator(_identity)]
NodeKeyText = Annotated[str, AfterValidator(_node_key)]


class SignedDocument(Document):
    """Base of the documents that are signed.

    Attributes:
        kind: their payload type.
        issued: when it was signed.
    """

    kind: ClassVar[Kind]

    issued: Moment

    @property
    def payload(self) -> bytes:
        """The bytes that are signed: canonical CBOR, defaults written out."""
        return cbor.encode(self.model_dump(mode="json"))

    @property
    def hash(self) -> str:
        """SHA-256 of the document under its kind, 64 hex digits."""
        return self.digest(self.kind.noun)

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """The document of its payload.

        Raises:
            ValueError: not the one payload of a document of this kind.
        """
        try:
            document = cls.model_validate(cbor.decode(payload))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None
        if document.payload != payload:
            raise ValueError("not the canonical form of this document")
        return document


class Versioned(SignedDocument):
    """Base of the documents of which only the newest counts.

    Attributes:
        version: grows with every one that is signed.
    """

    version: PositiveInt

    def check_follows(self, held: Self) -> None:
        """Refuse to go back from `held` to an older version, or to another document of the same one.

        Raises:
            SiteError: JG-site-121 rolled back, JG-site-122 two documents of one version.
        """
        if self.version < held.version:
            raise SiteError("JG-site-121", where=self.kind.noun, held=held.version, given=self.version)
        if self.version == held.version and self.hash != held.hash:
            raise SiteError("JG-site-122", where=self.kind.noun, version=self.version, held=held.hash, given=self.hash)


D = TypeVar("D", bound=SignedDocument)


@dataclass(frozen=True)
class Opened:
    """A payload whose every signature held.

    Attributes:
        payload: what was signed.
        signers: fingerprints of the keys that signed, sorted, each once.
    """

    payload: bytes
    signers: tuple[str, ...]


def seal(kind: Kind, payload: bytes, *keys: Identity) -> bytes:
    """An envelope of `payload`, signed by each of `keys`."""
    return _encoded(_signed(dsse.Envelope(payload, kind, {}), keys))


def countersign(data: bytes, kind: Kind, *keys: Identity) -> bytes:
    """The same envelope with more signatures. Show people what `peek` finds in it before they sign.

    Raises:
        SiteError: JG-site-110 or 111, not an envelope of this kind.
    """
    return _encoded(_signed(_decoded(data, kind), keys))


def peek(data: bytes, kind: Kind) -> bytes:
    """The payload of an envelope whose signatures nobody has checked: to show, never to act on.

    Raises:
        SiteError: JG-site-110 or 111, not an envelope of this kind.
    """
    return bytes(_decoded(data, kind).payload)


def peek_signed(data: bytes, kind: Kind) -> bytes:
    """As `peek`, of an envelope with one signature in the form of ours: who made it has no room for anything else.

    Raises:
        SiteError: JG-site-110 or 111, not such an envelope of this kind.
    """
    envelope = _decoded(data, kind)
    forms = [_KEY_ID.fullmatch(key) and len(one.signature) for key, one in envelope.signatures.items()]
    if forms != [_SIGNATURE_HEX]:
        raise SiteError("JG-site-110", where=kind.noun, problem="not signed once, by a key and a signature of ours")
    return bytes(envelope.payload)


def open_envelope(data: bytes, kind: Kind, keys: Mapping[str, Ed25519PublicKey], threshold: int) -> Opened:
    """The payload, if every signature is by one of `keys` (by fingerprint) and holds, and there are enough.

    Guarantee: an envelope that opens has no other form; any other bytes with its payload and signatures are refused.

    Raises:
        SiteError: JG-site-110 not an envelope, 111 another kind, 112 unknown key, 113 a signature that does not
            hold, 114 fewer than `threshold` distinct keys.
    """
    envelope = _decoded(data, kind)
    for signer in envelope.signatures:
        if signer not in keys:
            raise SiteError("JG-site-112", where=kind.noun, key=signer)
        try:
            envelope.verify([SSlibKey.from_crypto(keys[signer], keyid=signer)], 1)
        except VerificationError:
            raise SiteError("JG-site-113", where=kind.noun, key=signer) from None
    if len(envelope.signatures) < threshold:
        raise SiteError("JG-site-114", where=kind.noun, found=len(envelope.signatures), threshold=threshold)
    return Opened(envelope.payload, tuple(envelope.signatures))


def parsed(payload: bytes, model: type[D]) -> D:
    """The document of a payload; who signed it, and when, is the caller's to judge.

    Raises:
        SiteError: JG-site-115, no document of this kind.
    """
    try:
        return model.parse(payload)
    except ValueError as error:
        raise SiteError("JG-site-115", where=model.kind.noun, problem=str(error)) from None


def read_document(payload: bytes, model: type[D], now: datetime) -> D:
    """The document of a payload whose signatures held.

    Raises:
        SiteError: JG-site-115 no document of this kind, JG-site-119 issued after `now`, give or take `MAX_AHEAD`.
    """
    document = parsed(payload, model)
    if document.issued > now + MAX_AHEAD:
        raise SiteError("JG-site-119", where=model.kind.noun, issued=document.issued, now=now)
    return document


class _Signature(Document):
    keyid: str
    sig: str


class _Envelope(Document):
    """The JSON of DSSE 1.0, and nothing beside it."""

    payload: str
    payloadType: str  # noqa: N815 - the name of the field in DSSE
    signatures: Annotated[tuple[_Signature, ...], Field(max_length=_MAX_SIGNATURES)]


def _decoded(data: bytes, kind: Kind) -> dsse.Envelope:
    """The envelope of `data`, if `data` is its one form and its payload type is `kind`."""
    if len(data) > MAX_ENVELOPE_BYTES:
        raise SiteError("JG-site-110", where=kind.noun, problem=f"{len(data)} bytes, more than {MAX_ENVELOPE_BYTES}")
    try:
        envelope = dsse.Envelope.from_dict(_Envelope.model_validate_json(data).model_dump())
    except ValueError:
        raise SiteError("JG-site-110", where=kind.noun, problem="not a DSSE envelope") from None
    if _encoded(envelope) != data:
        raise SiteError("JG-site-110", where=kind.noun, problem="not the canonical form of an envelope")
    if envelope.payload_type != kind:
        raise SiteError("JG-site-111", where=kind.noun, expected=str(kind), found=envelope.payload_type)
    return envelope


def _encoded(envelope: dsse.Envelope) -> bytes:
    """JSON with sorted keys and signatures and no spaces."""
    value = envelope.to_dict()
    value["signatures"].sort(key=lambda signature: signature["keyid"])
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _signed(envelope: dsse.Envelope, keys: tuple[Identity, ...]) -> dsse.Envelope:
    for key in keys:
        envelope.signatures[key.fingerprint] = Signature(key.fingerprint, key.sign(envelope.pae()).hex())
    return envelope
