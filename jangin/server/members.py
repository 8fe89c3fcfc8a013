"""Who belongs: staff, invitations, enrolments and the signed roster.

The law: a site belongs by a roster that an operator and an independent body signed, and by nothing else; a token is
known by its hash alone, serves one site once, and expires; whoever enrols shows the fingerprint that a person compares.
"""

import base64
import hashlib
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from jangin.errors import ServerError, SiteError
from jangin.server.audit import SERVER
from jangin.server.settings import write_whole
from jangin.server.store import Store
from jangin.trust.chain import Trust
from jangin.trust.envelope import Kind, peek, seal
from jangin.trust.keys import Identity, fingerprint, identity_from_text
from jangin.trust.roster import MAX_LIFE, SITE_ID, Roster, RosterSite, Status, verify_roster
from jangin.trust.staff import Role, Staff, StaffKey

__all__ = ["TOKEN_LIFE", "Member", "Members", "make_staff"]

TOKEN_LIFE = timedelta(days=7)

_TOKEN_BYTES = 10
_SECONDS_BELIEVED = 60

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """One site as an operator sees it.

    Attributes:
        site: its id.
        status: invited | waiting (for a confirmation) | renewing (its node key, with the next roster) | active |
            suspended | revoked.
        fingerprint: of its identity, to be compared by telephone; None before it enrolled.
    """

    site: str
    status: str
    fingerprint: str | None


class Members:
    """Staff and roster of one server."""

    def __init__(self, store: Store, root: str) -> None:
        """Take the database and the offline root's public key, one OpenSSH line."""
        self._store, self._root = store, root
        self._believed: tuple[tuple[bytes, bytes, int], Roster] | None = None

    def staff(self, now: datetime) -> Staff:
        """The staff list in force.

        Raises:
            SiteError: JG-site-110..119 and 125 as `Trust.staff`.
        """
        return self._trust().staff(now)

    def roster(self, now: datetime) -> Roster:
        """The roster in force, verified from the root at least once a minute.

        Raises:
            SiteError: JG-site-110..125 as `Trust.roster`.
        """
        trust = self._trust()
        key = trust.staff_list, trust.roster_list, int(now.timestamp()) // _SECONDS_BELIEVED
        believed = self._believed
        if believed is None or believed[0] != key or now >= believed[1].valid_until:
            believed = self._believed = key, trust.roster(now)
        return believed[1]

    def documents(self) -> tuple[bytes, bytes]:
        """Staff list and roster as sites get them: their envelopes, empty where there is none."""
        return self._store.staff(), self._store.roster()

    def active(self) -> frozenset[str]:
        """The sites that the newest roster has as active, in force or not."""
        held = self._held()
        return frozenset() if held is None else frozenset(held.active)

    def invite(
        self,
        site: str,
        now: datetime,
        random_bytes: Callable[[int], bytes] = os.urandom,
        *,
        actor: str = SERVER,
        document: bytes = b"",
    ) -> str:
        """A new token for one site, `XXXX-XXXX-XXXX-XXXX`, good for `TOKEN_LIFE`; nobody can ask for it again.

        `actor` and `document` are for the audit log: whose act it is, and the signed command.

        Raises:
            ServerError: JG-server-320, no id for a site.
        """
        if not re.fullmatch(SITE_ID, site):
            raise ServerError("JG-server-320", where=site)
        text = base64.b32encode(random_bytes(_TOKEN_BYTES)).decode()
        token = "-".join(text[start : start + 4] for start in range(0, len(text), 4))
        self._store.invite(site, _token_hash(token), now + TOKEN_LIFE, actor, document)
        return token

    def enroll(self, site: str, token: str, identity: str, node_key: str, now: datetime) -> bool:
        """Take a site's keys with its token; the same keys may come again.

        Returns:
            Whether the roster in force has the site as active by these keys.

        Raises:
            ServerError: JG-server-315, a token that is unknown, another site's or expired; JG-server-316, one that
                was used with other keys; JG-server-318, keys of another site.
        """
        others = [other for name, other in self._store.invitations().items() if name != site]
        if any(identity == other.identity or node_key == other.node_key for other in others):
            raise ServerError("JG-server-318", where=site)
        invitation = self._store.use(_token_hash(token), site, identity, node_key, now)
        if invitation is None:
            raise ServerError("JG-server-315", where=site)
        try:
            entry = self.roster(now).active.get(site)
        except SiteError:
            entry = None
        listed = entry is not None and (entry.identity, entry.node_key) == (identity, node_key)
        if not listed and (invitation.identity, invitation.node_key) != (identity, node_key):
            raise ServerError("JG-server-316", where=site)
        return listed

    def renew(self, site: str, node_key: str, now: datetime) -> None:
        """Keep the new node key of a site, whose identity has signed it; the next roster lists it.

        Raises:
            ServerError: JG-server-318, another site's key. SiteError: JG-site-110..125 as `roster`.
        """
        others = [other.node_key for name, other in self._store.invitations().items() if name != site]
        roster = self.roster(now)
        others += [entry.node_key for name, entry in roster.sites.items() if name != site]
        if node_key in others:
            raise ServerError("JG-server-318", where=site)
        self._store.renew(site, roster.active[site].identity, node_key)

    def fingerprints(self, sites: Sequence[str]) -> dict[str, str]:
        """What the operator compares by telephone before the sites are confirmed.

        Raises:
            ServerError: JG-server-321, a site that has not enrolled.
        """
        return {site: entry.fingerprint for site, entry in self._enrolled(sites).items()}

    def confirm(self, sites: Sequence[str], keys: Sequence[Identity], now: datetime) -> Roster:
        """Sign the next roster: the one before with these sites as active. Without sites it is only renewed.

        A new node key is taken up without being named: the identity that people compared has signed it.

        Args:
            sites: those whose fingerprints were compared.
            keys: an operator's and an independent body's.
            now: the start of the roster's 30 days.

        Raises:
            ServerError: JG-server-321, a site that has not enrolled; JG-server-419, by a key that was revoked;
                JG-server-305, somebody else signed meanwhile.
            SiteError: JG-site-110..119, keys that may not sign it.
        """
        envelope = seal(Kind.ROSTER, self.next_roster(now, confirm=sites).payload, *keys)
        return self.publish(envelope, now)

    def next_roster(
        self,
        now: datetime,
        *,
        confirm: Sequence[str] = (),
        suspend: Sequence[str] = (),
        revoke: Sequence[str] = (),
    ) -> Roster:
        """The roster that is to follow, for two people to sign: the one in force with these changes.

        A new node key is taken up without being named: the identity that people compared has signed it.

        Args:
            now: the start of the roster's 30 days.
            confirm: sites that enrolled, whose fingerprints were compared; active from then on.
            suspend: sites that may not take part for now; confirming them again lets them in.
            revoke: sites whose keys never count again.

        Raises:
            ServerError: JG-server-321, to be confirmed without an enrolment, or changed without being on the roster;
                JG-server-419, to be confirmed by a key that was revoked.
            SiteError: JG-site-110..119 and 125, the staff list.
        """
        staff, held, issued = self.staff(now), self._held(), now.replace(microsecond=0)
        sites = dict({} if held is None else self._renewed(held))
        for name, entry in self._enrolled(confirm).items():
            if name in sites and sites[name].status is Status.REVOKED and sites[name].identity == entry.identity:
                raise ServerError("JG-server-419", where=name, fingerprint=entry.fingerprint)
            sites[name] = entry
        for names, status in ((suspend, Status.SUSPENDED), (revoke, Status.REVOKED)):
            for name in names:
                if name not in sites:
                    raise ServerError("JG-server-321", where=name)
                sites[name] = sites[name].model_copy(update={"status": status})
        return Roster(
            version=1 if held is None else held.version + 1,
            issued=issued,
            staff=staff.version,
            valid_until=issued + MAX_LIFE,
            sites=sites,
        )

    def publish(self, envelope: bytes, now: datetime, actor: str = SERVER) -> Roster:
        """Put a roster in force that two people signed and that follows the newest one.

        Raises:
            ServerError: JG-server-305, somebody else signed meanwhile.
            SiteError: JG-site-110..123 as `verify_roster`, keys that may not sign it.
        """
        roster = verify_roster(envelope, self.staff(now), now)
        self._store.add_roster(roster.version, envelope, actor)
        _log.info("Version %d of the roster is in force: %d active sites.", roster.version, len(roster.active))
        return roster

    def members(self) -> list[Member]:
        """Every site that was ever invited or is on the roster, by id."""
        held = self._held()
        members = {
            name: Member(name, str(entry.status), entry.fingerprint)
            for name, entry in ({} if held is None else held.sites).items()
        }
        for name, invitation in self._store.invitations().items():
            entry = None if held is None else held.sites.get(name)
            if invitation.identity is None:
                members.setdefault(name, Member(name, "invited", None))
            elif entry is not None and entry.identity == invitation.identity:
                if entry.node_key != invitation.node_key and entry.status is Status.ACTIVE:
                    members[name] = Member(name, "renewing", entry.fingerprint)
            else:
                members[name] = Member(name, "waiting", fingerprint(identity_from_text(invitation.identity)))
        return [members[name] for name in sorted(members)]

    def _trust(self) -> Trust:
        return Trust(self._root, *self.documents())

    def _held(self) -> Roster | None:
        """The newest roster, in force or not: it was verified when it was made."""
        envelope = self._store.roster()
        return Roster.parse(peek(envelope, Kind.ROSTER)) if envelope else None

    def _renewed(self, held: Roster) -> Mapping[str, RosterSite]:
        """The sites of a roster, with the node keys that the identities it lists have signed since."""
        invitations, entries = self._store.invitations(), dict(held.sites)
        for site, entry in held.active.items():
            known = invitations.get(site)
            if known is not None and known.node_key is not None and known.identity == entry.identity:
                entries[site] = entry.model_copy(update={"node_key": known.node_key})
        return entries

    def _enrolled(self, sites: Sequence[str]) -> Mapping[str, RosterSite]:
        invitations = self._store.invitations()
        entries = {}
        for site in sites:
            invitation = invitations.get(site)
            if invitation is None or invitation.identity is None or invitation.node_key is None:
                raise ServerError("JG-server-321", where=site)
            entries[site] = RosterSite(identity=invitation.identity, node_key=invitation.node_key)
        return entries


def make_staff(folder: Path, people: Mapping[str, tuple[Role, ...]], now: datetime, life: timedelta) -> bytes:
    """A new root, a key for each person, and the staff list that the root signed: for demos and first steps.

    Writes root.key, root.pub, `<person>.key` and staff.envelope. In earnest each key is made on its owner's own
    machine, and the root's never touches a network.

    Args:
        folder: takes the files; made where it is not there.
        people: what each may sign.
        now: when the list is issued.
        life: until when their keys count.

    Returns:
        The staff list's envelope.

    Raises:
        SiteError: JG-site-104, a key stands there already. ServerError: JG-server-351, the folder cannot be written.
    """
    issued = now.replace(microsecond=0)
    root, keys = Identity.generate(), {person: Identity.generate() for person in people}
    entries = tuple(
        StaffKey(person=person, key=keys[person].public_text, roles=roles, expires=issued + life)
        for person, roles in people.items()
    )
    staff = Staff(version=1, issued=issued, keys=entries)
    envelope = seal(Kind.STAFF, staff.payload, root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, key in {"root": root, **keys}.items():
            key.save(folder / f"{name}.key")
        write_whole(folder / "root.pub", f"{root.public_text}\n".encode())
        write_whole(folder / "staff.envelope", envelope)
    except OSError as error:
        problem = error.strerror or type(error).__name__
        raise ServerError("JG-server-351", where=str(folder), problem=problem) from None
    return envelope


def _token_hash(token: str) -> str:
    """A token is 80 random bits, so a plain hash of it tells nothing."""
    return hashlib.sha256(token.strip().upper().encode()).hexdigest()
