"""What people may ask of the server, by role: one table, and nothing about it anywhere else.

The law: whoever is not named here may not; auditors and labour observers only read, and labour observers see no model;
nobody approves or releases what they proposed themselves.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from jangin.errors import ServerError
from jangin.trust.staff import Role

__all__ = ["RULES", "Right", "Rule", "require"]


class Right(StrEnum):
    """One thing that may be asked: acts first, then what is only read."""

    DRAFT = "draft"
    PROPOSE = "propose"
    APPROVE = "approve"
    REHEARSE = "rehearse"
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    RELEASE = "release"
    WITHDRAW = "withdraw"
    MEASURE = "measure"
    INVITE = "invite"
    PUBLISH = "publish"
    CAMPAIGNS = "campaigns"
    MEMBERS = "members"
    MODELS = "models"
    AUDIT = "audit"
    WATCH = "watch"


@dataclass(frozen=True)
class Rule:
    """Who has a right.

    Attributes:
        roles: any of them is enough.
        not_own: not over a plan that the same person proposed.
        reads: nothing is changed by it, so that no signature is asked for.
        personal: the act is a person's own yes; on the server's machine, too, it takes that person's key.
    """

    roles: frozenset[Role]
    not_own: bool = False
    reads: bool = False
    personal: bool = False


_OPERATOR: Final = frozenset({Role.OPERATOR})
_EITHER: Final = frozenset({Role.OPERATOR, Role.APPROVER})
_APPROVER: Final = frozenset({Role.APPROVER})
_EVERYBODY: Final = frozenset(Role)

RULES: Final[Mapping[Right, Rule]] = {
    Right.DRAFT: Rule(_OPERATOR),
    Right.PROPOSE: Rule(_OPERATOR, personal=True),
    Right.APPROVE: Rule(_APPROVER, not_own=True, personal=True),
    Right.REHEARSE: Rule(_OPERATOR),
    Right.START: Rule(_OPERATOR),
    Right.PAUSE: Rule(_EITHER),
    Right.RESUME: Rule(_OPERATOR),
    Right.STOP: Rule(_EITHER),
    Right.RELEASE: Rule(_APPROVER, not_own=True, personal=True),
    Right.WITHDRAW: Rule(_EITHER, personal=True),
    Right.MEASURE: Rule(frozenset({Role.EVALUATOR}), personal=True),
    Right.INVITE: Rule(_OPERATOR),
    Right.PUBLISH: Rule(frozenset({Role.OPERATOR, Role.INDEPENDENT_BODY})),
    Right.CAMPAIGNS: Rule(_EVERYBODY, reads=True),
    Right.MEMBERS: Rule(_EVERYBODY, reads=True),
    Right.MODELS: Rule(_EVERYBODY - {Role.LABOUR_OBSERVER}, reads=True),
    Right.AUDIT: Rule(_EVERYBODY, reads=True),
    Right.WATCH: Rule(_EVERYBODY, reads=True),
}
"""Who may do what; a table of tests as well (tests/server/test_roles.py)."""


def require(right: Right, person: str, roles: Collection[Role], proposers: Collection[str] = ()) -> None:
    """Refuse whoever has not this right.

    Args:
        right: what is asked.
        person: who asks.
        roles: that person's, by the staff list in force.
        proposers: who proposed the plan that it is about.

    Raises:
        ServerError: JG-server-403, none of the roles that may; JG-server-404, a plan of their own.
    """
    rule = RULES[right]
    if not rule.roles.intersection(roles):
        raise ServerError(
            "JG-server-403", where=str(right), person=person, roles=sorted(roles), able=sorted(rule.roles)
        )
    if rule.not_own and person in proposers:
        raise ServerError("JG-server-404", where=str(right), person=person)
