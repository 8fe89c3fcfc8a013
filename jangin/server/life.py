"""A campaign's life: one table, and nothing about it anywhere else.

    draft        the plan is written down; nobody has signed it
    proposed     an operator signed it
    approved     another person signed it
    consulting   the invited sites are asked, and approve by its hash
    running      sites train
    paused       nothing is asked until somebody resumes
    evaluating   training is over; the final model is being judged and written
    candidate    the model is in the registry, for people to judge
    released     contributors may use it
    superseded   a newer one of its line is released
    withdrawn    it may not be used any more
    aborted      it ended without a model, and says why

The law: a campaign moves by an act of this table or not at all, and each move is one entry of the audit log.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from jangin.errors import ServerError

__all__ = ["ENDED", "LED", "LIFE", "WITH_MODEL", "Act", "State", "after", "told"]


class State(StrEnum):
    """Where a campaign is in its life."""

    DRAFT = "draft"
    PROPOSED = "proposed"
    APPROVED = "approved"
    CONSULTING = "consulting"
    RUNNING = "running"
    PAUSED = "paused"
    EVALUATING = "evaluating"
    CANDIDATE = "candidate"
    RELEASED = "released"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"
    ABORTED = "aborted"


class Act(StrEnum):
    """What moves a campaign; what people do, and what the server does by itself."""

    DRAFT = "draft"
    PROPOSE = "propose"
    APPROVE = "approve"
    CONSULT = "consult"
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    EVALUATE = "evaluate"
    REGISTER = "register"
    RELEASE = "release"
    SUPERSEDE = "supersede"
    WITHDRAW = "withdraw"
    ABORT = "abort"


LIFE: Final[Mapping[tuple[State | None, Act], State]] = {
    (None, Act.DRAFT): State.DRAFT,
    (State.DRAFT, Act.PROPOSE): State.PROPOSED,
    (State.PROPOSED, Act.APPROVE): State.APPROVED,
    (State.APPROVED, Act.CONSULT): State.CONSULTING,
    (State.CONSULTING, Act.START): State.RUNNING,
    (State.RUNNING, Act.PAUSE): State.PAUSED,
    (State.PAUSED, Act.RESUME): State.RUNNING,
    (State.RUNNING, Act.EVALUATE): State.EVALUATING,
    (State.EVALUATING, Act.REGISTER): State.CANDIDATE,
    (State.CANDIDATE, Act.RELEASE): State.RELEASED,
    (State.RELEASED, Act.SUPERSEDE): State.SUPERSEDED,
    (State.CANDIDATE, Act.WITHDRAW): State.WITHDRAWN,
    (State.RELEASED, Act.WITHDRAW): State.WITHDRAWN,
    (State.SUPERSEDED, Act.WITHDRAW): State.WITHDRAWN,
    (State.DRAFT, Act.ABORT): State.ABORTED,
    (State.PROPOSED, Act.ABORT): State.ABORTED,
    (State.APPROVED, Act.ABORT): State.ABORTED,
    (State.CONSULTING, Act.ABORT): State.ABORTED,
    (State.RUNNING, Act.ABORT): State.ABORTED,
    (State.PAUSED, Act.ABORT): State.ABORTED,
    (State.EVALUATING, Act.ABORT): State.ABORTED,
}
"""From which state, by which act, to which state; None is before the first."""

LED: Final = frozenset({State.RUNNING, State.EVALUATING})
"""A server leads campaigns in these states."""

WITH_MODEL: Final = frozenset({State.CANDIDATE, State.RELEASED, State.SUPERSEDED, State.WITHDRAWN})
"""There is a final model."""

ENDED: Final = WITH_MODEL | {State.ABORTED}
"""Nothing is trained in these any more."""


def after(campaign: str, state: State | None, act: Act) -> State:
    """Where an act leads.

    Raises:
        ServerError: JG-server-332, not from this state.
    """
    try:
        return LIFE[state, act]
    except KeyError:
        possible = ", ".join(sorted(before for before, by in LIFE if by is act and before is not None))
        raise ServerError(
            "JG-server-332", where=campaign, found=str(state or "none"), act=str(act), before=possible
        ) from None


def told(state: State) -> str | None:
    """The word by which sites hear of a state; None where they hear nothing: four, as in protocol version 1."""
    match state:
        case State.DRAFT | State.PROPOSED:
            return None
        case State.APPROVED | State.CONSULTING:
            return "approved"
        case State.RUNNING | State.PAUSED | State.EVALUATING:
            return "running"
        case State.ABORTED:
            return "aborted"
        case State.CANDIDATE | State.RELEASED | State.SUPERSEDED | State.WITHDRAWN:
            return "finished"
