"""What a site believes, from the pinned root down: root → staff → roster → plan.

The law: a `Trust` is the root's key and the signed bytes it has accepted, and every answer is verified anew from the
root at the time that is given. So a file of it that was tampered with is refused, an expired key stops counting by
itself, and a new staff list judges the roster that is held. State goes in and comes out; there are no files here.
The pattern is that of a client that does not trust its server (The Update Framework 1.0, section 5).
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from jangin.codec import cbor
from jangin.errors import SiteError
from jangin.trust.approvals import SignedPlan, StopOrder, verify_plan, verify_stop
from jangin.trust.envelope import Kind, Versioned, peek
from jangin.trust.keys import identity_from_text
from jangin.trust.roster import Roster, RosterChange, compare, verify_roster
from jangin.trust.staff import Staff, verify_staff

__all__ = ["Trust"]

V = TypeVar("V", bound=Versioned)


@dataclass(frozen=True)
class Trust:
    """A site's view of its federation.

    Attributes:
        root: the offline root's Ed25519 key as an OpenSSH line; set once, by hand.
        staff_list: the newest staff list accepted, as its envelope; empty before the first.
        roster_list: the newest roster accepted, as its envelope; empty before the first.
    """

    root: str
    staff_list: bytes = b""
    roster_list: bytes = b""

    def __post_init__(self) -> None:
        """Check the root's key.

        Raises:
            SiteError: JG-site-103, not an Ed25519 key.
        """
        try:
            identity_from_text(self.root)
        except ValueError:
            raise SiteError("JG-site-103", where="root", expected="ssh-ed25519", found=self.root[:20]) from None

    def staff(self, now: datetime) -> Staff:
        """The staff list in force.

        Raises:
            SiteError: JG-site-125 none yet; 110..119 as `verify_staff`.
        """
        if not self.staff_list:
            raise SiteError("JG-site-125", where=Kind.STAFF.noun)
        return verify_staff(self.staff_list, identity_from_text(self.root), now)

    def roster(self, now: datetime) -> Roster:
        """The roster in force.

        Raises:
            SiteError: JG-site-125 none yet; 110..123 as `staff` and `verify_roster`.
        """
        staff = self.staff(now)
        if not self.roster_list:
            raise SiteError("JG-site-125", where=Kind.ROSTER.noun)
        return verify_roster(self.roster_list, staff, now)

    def with_staff(self, data: bytes, now: datetime) -> "Trust":
        """The view after a staff list, which may take the force of the roster held.

        Raises:
            SiteError: JG-site-110..119 as `verify_staff`, 121 and 122 for a list that does not follow the one held.
        """
        given = verify_staff(data, identity_from_text(self.root), now)
        if self.staff_list:
            given.check_follows(_held(self.staff_list, Staff))
        return replace(self, staff_list=data)

    def with_roster(self, data: bytes, now: datetime, agreed: str = "") -> tuple["Trust", RosterChange]:
        """The view after a roster, and what it changes. `agreed` is the hash of the roster a person said yes to.

        The first roster comes with enrolment and needs no yes.

        Raises:
            SiteError: JG-site-110..123 as `verify_roster` and `compare`, 124 where a person's yes is missing, 125
                before the first staff list.
        """
        given = verify_roster(data, self.staff(now), now)
        change = compare(_held(self.roster_list, Roster) if self.roster_list else given, given)
        if change.needs_consent and given.hash != agreed:
            newcomers = ", ".join(change.newcomers)
            raise SiteError(
                "JG-site-124", version=given.version, newcomers=newcomers, before=change.before, hash=given.hash
            )
        return replace(self, roster_list=data), change

    def plan(self, data: bytes, now: datetime) -> SignedPlan:
        """The plan, if staff and roster are in force and its signatures hold.

        Raises:
            SiteError: JG-site-110..125 as `roster` and `verify_plan`.
        """
        self.roster(now)
        return verify_plan(data, self.staff(now), now)

    def stop(self, data: bytes, plan: str, now: datetime) -> StopOrder:
        """The stop order for the plan of this hash; a roster out of force does not stand in its way.

        Raises:
            SiteError: JG-site-110..126 as `staff` and `verify_stop`.
        """
        return verify_stop(data, self.staff(now), plan, now)

    def to_bytes(self) -> bytes:
        """The view as canonical CBOR, to be kept in a file; nothing in it is secret."""
        return cbor.encode({"root": self.root, "staff": self.staff_list, "roster": self.roster_list})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Trust":
        """The view that `to_bytes` wrote. Its documents are verified when they are asked for.

        Raises:
            SiteError: JG-site-127, not such bytes; JG-site-103, not a root's key.
        """
        try:
            match cbor.decode(data):
                case {"root": str(root), "staff": bytes(staff), "roster": bytes(roster), **rest} if not rest:
                    return cls(root, staff, roster)
        except ValueError:
            pass
        raise SiteError("JG-site-127")


def _held(data: bytes, model: type[V]) -> V:
    """A document accepted earlier, for its version alone: it may be out of force by now."""
    try:
        return model.parse(peek(data, model.kind))
    except ValueError:
        raise SiteError("JG-site-127") from None
