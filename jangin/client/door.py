"""The outbound door: every message to the server passes one function, `Door._out`.

The law: what is not one of the forms below does not leave, and what leaves is made of the bytes that were looked at; a
refusal tells nothing of what was refused; each message that carries anything has its line in the egress log before it
leaves. Requests without content (campaigns, pace), like the polls and heartbeats of Flower's connection, say only that
the site is there and are not logged.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError, model_validator

from jangin.client.state import Departure, Journal
from jangin.codec import cbor
from jangin.codec.document import Document
from jangin.errors import Language, SiteError
from jangin.flower_link.wire import MOST_VALUES, Wire
from jangin.plan.messages import Content, Kind, Reply, Said, read_reply, read_said, said_body
from jangin.privacy.secure_sum.dealing import PARCEL_BYTES, SHARE_BYTES
from jangin.privacy.secure_sum.messages import Advert, Complaint, Dealing, Shown, signature_of
from jangin.privacy.secure_sum.table import Step
from jangin.privacy.secure_sum.transcript import DIGEST_BYTES
from jangin.trust.approvals import peek_approval
from jangin.trust.commitments import peek_commitment
from jangin.trust.envelope import Hash, IdentityText, NodeKeyText
from jangin.trust.roster import SITE_ID

__all__ = ["FORMS", "LOCAL", "PUBLIC_CODES", "Door", "outward"]

LOCAL: Final = "local"
"""The one word for every reason that stays here."""

PUBLIC_CODES: Final = frozenset(
    {f"JG-site-{number}" for number in (*range(110, 128), *range(306, 314))}
    | {
        f"JG-plan-{number:03d}"
        for number in (1, 2, 3, 20, 21, 23, 26, 27, 31, 32, 33, 34, 35, 40, 41, 42, 43, 46, 47, 55)
    }
    | {f"JG-sum-{number:03d}" for number in (*range(1, 12), *range(13, 16), *range(21, 24))}
)
"""Reasons to abstain that the server may know: plan, signature, staff, roster, model line, clock, approval, form, and
what it sent itself of a secure sum. JG-sum-012 is none: by it a server could find out, cohort by cohort, whom a site
knows, and has to win over first."""


def outward(code: str) -> str:
    """What the server is told of a reason: the code, or `local` where it is this site's own affair."""
    return code if code in PUBLIC_CODES else LOCAL


class Form(Document):
    """What may leave under one name."""

    model_config = ConfigDict(strict=True)

    @property
    def content(self) -> tuple[bytes, bytes]:
        """The body, canonical CBOR, and what rides beside it."""
        return cbor.encode(self.model_dump()), b""

    @property
    def says(self) -> Mapping[Language, str] | None:
        """A plain sentence for the egress log; None where there is nothing to say."""
        return None


class Presence(Form):
    """A request without content."""


class Enrolment(Form):
    """The site's public keys, under a one-time token."""

    token: Annotated[str, Field(min_length=1, max_length=200, repr=False)]
    identity: IdentityText
    node_key: NodeKeyText

    @property
    def says(self) -> Mapping[Language, str]:
        """Says that the site asked to join."""
        return {"en": "Asked to join, with this site's public keys.", "ko": "이 사업장의 공개 키로 참여를 신청함."}


class Renewal(Form):
    """A new public key of the site's connection; the request is signed by its identity."""

    node_key: NodeKeyText

    @property
    def says(self) -> Mapping[Language, str]:
        """Says that the connection is to have another key."""
        return {"en": "Sent a new public key of this site's connection.", "ko": "이 사업장 연결의 새 공개 키를 보냄."}


class Approval(Form):
    """A signed yes to one plan."""

    approval: Annotated[bytes, Field(max_length=2**16, repr=False)]

    @property
    def says(self) -> Mapping[Language, str]:
        """Says that a person here approved."""
        return {"en": "Told the server that this site approved a plan.", "ko": "이 사업장이 계획을 승인했음을 알림."}

    @model_validator(mode="after")
    def _an_approval(self) -> Self:
        try:
            peek_approval(self.approval)
        except SiteError as error:
            raise ValueError(error.code) from None
        return self


class Commitment(Form):
    """A signed word of what the privacy ledger has come to."""

    commitment: Annotated[bytes, Field(max_length=2**16, repr=False)]

    @property
    def says(self) -> Mapping[Language, str]:
        """Says what of the ledger is in it."""
        if self._shows:
            return {
                "en": "Told the server the privacy ledger's number of entries, its checksum, and its totals.",
                "ko": "프라이버시 장부의 항목 수, 검사값, 합계를 서버에 알림.",
            }
        return {
            "en": "Told the server how many entries the privacy ledger has, and a checksum; nothing of what they say.",
            "ko": "프라이버시 장부의 항목 수와 검사값을 서버에 알림. 항목의 내용은 들어 있지 않음.",
        }

    @property
    def _shows(self) -> bool:
        return bool(peek_commitment(self.commitment).totals)

    @model_validator(mode="after")
    def _a_commitment(self) -> Self:
        try:
            peek_commitment(self.commitment)
        except SiteError as error:
            raise ValueError(error.code) from None
        return self


class _Answering(Form):
    """What every answer to an order has: a body, what rides beside it, and only codes that may be known outside."""

    kind: Kind
    campaign: Hash
    round: Annotated[int, Field(ge=0, lt=2**31)]
    body: Annotated[bytes, Field(max_length=2**24, repr=False)]
    vector: Annotated[bytes | None, Field(max_length=4 * MOST_VALUES, repr=False)]

    @property
    def content(self) -> tuple[bytes, bytes]:
        """The body as it is; the vector rides beside."""
        return self.body, self.vector or b""

    def _check_code(self, code: str | None) -> None:
        if code is not None and outward(code) != code:
            raise ValueError("a reason that stays here")

    def _abstention(self, code: str | None) -> Mapping[Language, str]:
        return {
            "en": f"Abstained from round {self.round} of campaign {self.campaign[:12]}: {code}.",
            "ko": f"캠페인 {self.campaign[:12]}, 라운드 {self.round}: 참여하지 않음 ({code}).",
        }


class Answer(_Answering):
    """A reply to an order, as `plan.messages.ANSWERS` allows it, with a code that may be known outside."""

    @model_validator(mode="after")
    def _one_reply(self) -> Self:
        self._check_code(self._reply.abstained)
        return self

    @property
    def _reply(self) -> Reply:
        values = None if self.vector is None else np.frombuffer(self.vector, "<f4")
        return read_reply(self.kind, "", self.body, values)

    @property
    def says(self) -> Mapping[Language, str]:
        """Says what was sent for which round."""
        reply, name, number = self._reply, self.campaign[:12], self.round
        count = 0 if reply.vector is None else len(reply.vector)
        match reply.content:
            case Content.CODE if self.kind is Kind.REHEARSE:
                return {
                    "en": f"Rehearsal of campaign {name}: this site is not ready ({reply.abstained}); "
                    "nothing was charged.",
                    "ko": f"캠페인 {name} 예행연습: 이 사업장은 준비되지 않음 ({reply.abstained}). 차감된 것은 없음.",
                }
            case Content.CODE:
                return self._abstention(reply.abstained)
            case Content.UPDATE if self.kind is Kind.REHEARSE:
                return {
                    "en": f"Rehearsal of campaign {name}: sent an update of made-up rows, {count} numbers; "
                    "no record is in it, and nothing was charged.",
                    "ko": f"캠페인 {name} 예행연습: 지어낸 자료로 만든 업데이트(숫자 {count}개)를 보냄. "
                    "기록은 들어 있지 않고 차감된 것도 없음.",
                }
            case Content.HELD:
                return {
                    "en": f"Told the server that the update of round {number} of campaign {name} is ready here.",
                    "ko": f"캠페인 {name}, 라운드 {number}: 모델 업데이트가 이곳에 준비되었음을 알림.",
                }
            case Content.MOMENTS if self.kind is Kind.EVALUATE:
                return {
                    "en": f"Sent {count} sums of the hold-out: how good the model of round {number} of campaign {name} "
                    "is here; no single record is in them.",
                    "ko": f"캠페인 {name}, 라운드 {number}: 평가용 기록에서 모델이 얼마나 맞는지 합 {count}개로 보냄. "
                    "개별 기록은 들어 있지 않음.",
                }
            case Content.MOMENTS:
                return {
                    "en": f"Sent {count} sums for the common scaling of campaign {name}; no single record is in them.",
                    "ko": f"캠페인 {name}: 공통 척도를 위한 합 {count}개를 보냄. 개별 기록은 들어 있지 않음.",
                }
            case Content.UPDATE:
                return {
                    "en": f"Sent the model update of round {number} of campaign {name}: {count} numbers, no record.",
                    "ko": f"캠페인 {name}, 라운드 {number}: 모델 업데이트(숫자 {count}개)를 보냄. 기록은 없음.",
                }
            case _:
                raise ValueError(f"Expected a reply: {reply.content!r}.")


class SumAnswer(_Answering):
    """An answer in a secure sum: the one form of its step, or a code that may be known outside."""

    @model_validator(mode="after")
    def _one_answer(self) -> Self:
        said = self._said
        self._check_code(said.abstained)
        if said.message is not None:
            _check_message(_step(self.kind), said.message, masked=said.vector is not None)
        return self

    @property
    def _said(self) -> Said:
        words = None if self.vector is None else np.frombuffer(self.vector, "<u4")
        return read_said(self.kind, "", self.body, words)

    @property
    def says(self) -> Mapping[Language, str]:
        """Says what was sent in which step."""
        said, name, number = self._said, self.campaign[:12], self.round
        if said.abstained is not None:
            return self._abstention(said.abstained)
        step = _step(self.kind)
        en, ko = _COMPLAINT if step is Step.MASK and said.vector is None else _STEPS[step]
        count = 0 if said.vector is None else len(said.vector)
        return {
            "en": f"Secure sum, round {number} of campaign {name}: {en.format(count=count)}.",
            "ko": f"캠페인 {name}, 라운드 {number}, 안전 합산: {ko.format(count=count)}.",
        }


def _step(kind: Kind) -> Step:
    """The step of a secure sum that a message of this kind is."""
    return Step.ADVERTISE if kind in (Kind.SCALE, Kind.TRAIN, Kind.EVALUATE) else Step(kind.value)


_STEPS: Final[Mapping[Step, tuple[str, str]]] = {
    Step.ADVERTISE: ("offered two fresh public keys; nothing of any record", "새 공개 키 두 개를 알림. 기록은 없음"),
    Step.SHARE: (
        "sent shares of two fresh secret keys, each sealed for one site; nothing of any record",
        "새 비밀 키 두 개의 조각을 사업장별로 봉해 보냄. 기록은 없음",
    ),
    Step.MASK: (
        "sent the masked vector, {count} numbers; alone it is noise",
        "가려진 벡터(숫자 {count}개)를 보냄. 그것만으로는 잡음임",
    ),
    Step.CERTIFY: ("signed the list of the sites whose vectors are in it", "벡터가 들어간 사업장의 목록에 서명함"),
    Step.UNMASK: (
        "sent this site's share of one key of every site, by which their sum is opened, and no single vector",
        "합을 여는 데 쓸 사업장별 키 하나의 조각을 보냄. 개별 벡터는 열리지 않음",
    ),
}
_COMPLAINT: Final = (
    "showed that what one site sealed for this one is not what it signed; no vector",
    "한 사업장이 봉해 보낸 것이 서명한 것과 다름을 보임. 벡터는 없음",
)


def _check_message(step: Step, message: bytes, *, masked: bool) -> None:
    """Whether a message is of the form of its step.

    Raises:
        ValueError: it is not.
    """
    match step:
        case Step.ADVERTISE:
            Advert.decode(message)
        case Step.SHARE:
            Dealing.decode(message, _count(message, "parcels", PARCEL_BYTES))
        case Step.MASK:
            if not masked:
                if re.fullmatch(SITE_ID, Complaint.decode(message).dealer) is None:
                    raise ValueError("Expected the id of a site.")
            elif message:
                raise ValueError("Expected nothing beside a masked vector.")
        case Step.CERTIFY:
            signature_of(message)
        case Step.UNMASK:
            Shown.decode(message, _count(message, "shares", SHARE_BYTES + DIGEST_BYTES))
        case _:
            raise ValueError(f"Expected a step: {step!r}.")


def _count(message: bytes, key: str, each: int) -> int:
    """For how many sites there is something under a key."""
    value = cbor.decode(message)
    held = value.get(key) if isinstance(value, dict) else None
    return len(held) // each if isinstance(held, bytes) else 0


FORMS: Final[Mapping[str, type[Form]]] = {
    "enroll": Enrolment,
    "campaigns": Presence,
    "approve": Approval,
    "ack": Presence,
    "commit": Commitment,
    "renew": Renewal,
    "scale": Answer,
    "train": Answer,
    "collect": Answer,
    "evaluate": Answer,
    "rehearse": Answer,
    **{step.value: SumAnswer for step in Step},
}
"""All that may leave, by what it is."""

_SUMS: Final = frozenset(step.value for step in Step)
_FLOATS, _WORDS, _UNKNOWN = "<f4", "<u4", "unknown"


class Door:
    """The way out; used by the thread that owns the journal."""

    def __init__(self, journal: Journal, clock: Callable[[], datetime]) -> None:
        """Take the egress log and the time."""
        self._journal, self._clock = journal, clock

    def request(self, what: str, fields: Mapping[str, object]) -> bytes:
        """The body of a request to the site API.

        Raises:
            SiteError: JG-site-330, not a form that may leave.
        """
        return self._out(what, fields).content[0]

    def answer(self, order: Wire, body: bytes, vector: NDArray[np.float32] | None) -> Wire:
        """The reply to an order.

        Raises:
            SiteError: JG-site-330, not a form that may leave.
        """
        return self._reply(order.kind, {}, order, body, vector)

    def say(self, asked: Wire, said: Said) -> Wire:
        """The answer to a message of a secure sum.

        Raises:
            SiteError: JG-site-330, not a form that may leave.
        """
        try:
            kind = Kind(asked.kind)
            step, body = _step(kind), said_body(said)
        except ValueError:
            raise SiteError("JG-site-330", where=_UNKNOWN, problem="no such answer to a step") from None
        return self._reply(step.value, {"kind": kind}, asked, body, said.vector)

    def _reply(
        self, what: str, more: Mapping[str, object], asked: Wire, body: bytes, vector: NDArray[Any] | None
    ) -> Wire:
        """The answer to a message, made of the bytes that were looked at and of nothing else."""
        form = _WORDS if what in _SUMS else _FLOATS
        if vector is not None and (type(vector) is not np.ndarray or vector.dtype != form or vector.ndim != 1):
            raise SiteError("JG-site-330", where=what if what in FORMS else _UNKNOWN, problem="vector another_form")
        raw = None if vector is None else vector.tobytes()
        fields = {"campaign": asked.campaign, "round": asked.round, "body": body, "vector": raw}
        message = self._out(what, {**fields, **more})
        if not isinstance(message, _Answering):
            raise SiteError("JG-site-330", where=what, problem="no answer")
        sent = None if message.vector is None else np.frombuffer(message.vector, form)
        return Wire(message.kind.value, message.campaign, message.round, message.body, sent)

    def _out(self, what: str, fields: Mapping[str, Any]) -> Form:
        form = FORMS.get(what) if isinstance(what, str) else None
        if form is None or not isinstance(fields, Mapping):
            raise SiteError("JG-site-330", where=_UNKNOWN, problem="no such form")
        given = {**fields, "kind": Kind(what)} if form is Answer else dict(fields)
        try:
            message = form.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            named = next((name for name in first["loc"] if name in form.model_fields), "")
            raise SiteError("JG-site-330", where=what, problem=f"{named} {first['type']}".strip()) from None
        if isinstance(message, SumAnswer) and _step(message.kind).value != what:
            raise SiteError("JG-site-330", where=what, problem="kind another_step")
        if message.says is not None:
            parts = message.content
            digest = hashlib.sha256(b"".join(parts)).hexdigest()
            self._journal.log(Departure(self._clock(), what, sum(map(len, parts)), digest, message.says))
        return message
