"""Signed documents about a model: what one version of a line is, and that it may not be used any more.

A version's manifest is one payload under two signatures: the server's audit key signs it when it is registered, which
says only that the server wrote it down; an approver signs the same payload when it is released, and that is what sites
believe: root → staff → manifest → the SHA-256 of each file. The law: whoever proposed a campaign does not release what
came of it, so neither the server nor one person alone can hand out another model.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Literal, get_args

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field, JsonValue, PositiveInt, field_validator

from jangin.codec.document import Document
from jangin.errors import SiteError
from jangin.trust.envelope import Hash, Kind, SignedDocument, open_envelope, parsed, peek, read_document
from jangin.trust.keys import fingerprint
from jangin.trust.roster import SITE_ID
from jangin.trust.staff import Role, Staff

__all__ = [
    "FILES",
    "LINE",
    "MOST_FILE_BYTES",
    "FileName",
    "ModelFile",
    "ModelVersion",
    "Withdrawal",
    "peek_model",
    "verify_receipt",
    "verify_release",
    "verify_withdrawal",
]

FileName = Literal["final.safetensors", "scaling.json", "statement.json"]

FILES: Final[tuple[FileName, ...]] = get_args(FileName)
"""What a version consists of: parameters with their layout, the scaling, the privacy statement."""

LINE: Final = r"^[a-z0-9][a-z0-9-]{0,62}$"
"""A model line's name; a folder is called by it."""

MOST_FILE_BYTES: Final = 2**32

_PERSON: Final = r"^[a-z0-9][a-z0-9.-]{0,62}$"
_MOST_PARENTS: Final = 100

Line = Annotated[str, Field(pattern=LINE)]


class ModelFile(Document):
    """One file of a version.

    Attributes:
        size: in bytes.
        sha256: of all of it.
    """

    size: Annotated[int, Field(ge=0, le=MOST_FILE_BYTES)]
    sha256: Hash


class Parent(Document):
    """A version that this one was trained on from."""

    line: Line
    version: PositiveInt


class ModelVersion(SignedDocument):
    """The manifest of one version of a model line; it never changes.

    Attributes:
        line: the model line.
        version: 1, 2, 3, ... in the line.
        campaign: the hash of the plan that made it.
        operator: who proposed that plan, and so does not release it.
        process: whose records it learnt from.
        contributors: the sites whose answers it was made of: scaling, rounds, and evaluations, by which it was chosen.
        parents: the versions that it was trained on from.
        files: what it consists of, by name.
        model: its specification, as in the plan.
        parameters: how many shared ones it has.
        privacy: its promise in one line; the whole of it is in statement.json.
        purposes, prohibited: what the plan lets it be used for, and never.
        recipients: which sites may have it.
        export: where it may go.
    """

    kind = Kind.MODEL

    line: Line
    version: PositiveInt
    campaign: Hash
    operator: Annotated[str, Field(pattern=_PERSON)]
    process: Annotated[str, Field(max_length=100)]
    contributors: Annotated[tuple[Annotated[str, Field(pattern=SITE_ID)], ...], Field(max_length=10_000)]
    parents: Annotated[tuple[Parent, ...], Field(max_length=_MOST_PARENTS)] = ()
    files: Mapping[str, ModelFile]
    model: Mapping[str, JsonValue]
    parameters: PositiveInt
    privacy: Annotated[str, Field(max_length=500)]
    purposes: tuple[str, ...]
    prohibited: tuple[str, ...]
    recipients: Literal["contributors", "roster", "public"]
    export: Literal["domestic_only", "unrestricted"]

    @field_validator("files")
    @classmethod
    def _whole(cls, files: Mapping[str, ModelFile]) -> Mapping[str, ModelFile]:
        if set(files) != set(FILES):
            raise ValueError(f"a version consists of {', '.join(FILES)}")
        return files

    @field_validator("contributors")
    @classmethod
    def _each_once(cls, contributors: tuple[str, ...]) -> tuple[str, ...]:
        if list(contributors) != sorted(set(contributors)):
            raise ValueError("contributors are sorted, each once")
        return contributors

    @property
    def name(self) -> str:
        """`line@version`."""
        return f"{self.line}@{self.version}"

    def may_have(self, site: str) -> bool:
        """Whether a site on the roster in force may receive it."""
        return self.recipients != "contributors" or site in self.contributors


class Withdrawal(SignedDocument):
    """That one version may not be used any more.

    Attributes:
        line, version: which.
        model: the hash of its manifest.
        reason: for people.
    """

    kind = Kind.WITHDRAWAL

    line: Line
    version: PositiveInt
    model: Hash
    reason: Annotated[str, Field(min_length=1, max_length=500)]


def peek_model(data: bytes) -> ModelVersion:
    """A manifest whose signatures nobody checks here: to show, never to act on.

    Raises:
        SiteError: JG-site-110 or 111, no envelope of this kind; 115, no manifest in it.
    """
    return parsed(peek(data, Kind.MODEL), ModelVersion)


def verify_receipt(data: bytes, key: Ed25519PublicKey) -> ModelVersion:
    """The manifest, if the server of this audit key wrote it down.

    Raises:
        SiteError: JG-site-110..114 the envelope or its signature, 115 no manifest.
    """
    return parsed(open_envelope(data, Kind.MODEL, {fingerprint(key): key}, 1).payload, ModelVersion)


def verify_release(data: bytes, staff: Staff, now: datetime) -> tuple[ModelVersion, str]:
    """The manifest, if an approver who did not propose its campaign signed it; and who that was.

    Raises:
        SiteError: JG-site-110..114 and 116..117 as `Staff.open`, 115 and 119 as `read_document`, 118 the plan's own
            operator.
    """
    payload, (approver,) = staff.open(data, Kind.MODEL, (Role.APPROVER,), now)
    manifest = read_document(payload, ModelVersion, now)
    if approver.person == manifest.operator:
        roles = f"{Role.OPERATOR}, {Role.APPROVER}"
        raise SiteError("JG-site-118", where=Kind.MODEL.noun, person=approver.person, roles=roles)
    return manifest, approver.person


def verify_withdrawal(data: bytes, staff: Staff, now: datetime) -> tuple[Withdrawal, str]:
    """The withdrawal, if an approver or an operator signed it; and who that was. One is enough: it only takes away.

    Raises:
        SiteError: JG-site-110..114 and 116..117 as `Staff.open`, 115 and 119 as `read_document`.
    """
    try:
        payload, (signer,) = staff.open(data, Kind.WITHDRAWAL, (Role.APPROVER,), now)
    except SiteError as error:
        if error.code != "JG-site-117":
            raise
        payload, (signer,) = staff.open(data, Kind.WITHDRAWAL, (Role.OPERATOR,), now)
    return read_document(payload, Withdrawal, now), signer.person
