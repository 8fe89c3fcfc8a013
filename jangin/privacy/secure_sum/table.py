"""The protocol as one table: five steps, and what each makes of a site and of the server.

| step | the server sends | a site answers |
|---|---|---|
| advertise | the manifest: what this sum is of | two fresh public keys, signed over it |
| share | all adverts, U1 | sealed shares of its two secrets for each of them, signed |
| mask | from every dealer, U2, what is for this site | its vector, masked |
| certify | who has sent a vector, U3 | one signature over U2 and U3 |
| unmask | the signatures | its share of one secret of each of U2 |

A site is where its last answer has brought it, the server where the last step that it closed has. The law: `NEXT` has
every move of both machines, and what it does not have ends the round for who was asked.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

__all__ = ["NEXT", "State", "Step"]


class Step(StrEnum):
    """One exchange of a round: R1 to R5."""

    ADVERTISE = "advertise"
    SHARE = "share"
    MASK = "mask"
    CERTIFY = "certify"
    UNMASK = "unmask"


class State(StrEnum):
    """What is done."""

    BEGUN = "begun"
    ADVERTISED = "advertised"
    SHARED = "shared"
    MASKED = "masked"
    CERTIFIED = "certified"
    UNMASKED = "unmasked"
    ABORTED = "aborted"


NEXT: Final[Mapping[tuple[State, Step], State]] = {
    (State.BEGUN, Step.ADVERTISE): State.ADVERTISED,
    (State.ADVERTISED, Step.SHARE): State.SHARED,
    (State.SHARED, Step.MASK): State.MASKED,
    (State.MASKED, Step.CERTIFY): State.CERTIFIED,
    (State.CERTIFIED, Step.UNMASK): State.UNMASKED,
}
