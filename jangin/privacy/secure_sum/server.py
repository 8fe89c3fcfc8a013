"""The server's side of one sum: a machine without files, clock or network that relays, adds and opens one sum.

The law: a site counts once in each step, by a message that is exactly of its form and signed over what all were shown;
who sends anything else is left out of this sum, with a code; too few to go on ends the sum with the names of those who
are missing. Nobody is blamed without something that he signed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from jangin.errors import SumError
from jangin.privacy.secure_sum.dealing import PARCEL_BYTES, misdealt, share_fits
from jangin.privacy.secure_sum.keys import Secret, is_usable, private_key, public_bytes
from jangin.privacy.secure_sum.masks import Cohort, Words, unmasked
from jangin.privacy.secure_sum.messages import (
    Advert,
    Complaint,
    Dealing,
    Dealt,
    Shown,
    signature_of,
    write_adverts,
    write_certificates,
    write_dealt,
    write_survivors,
)
from jangin.privacy.secure_sum.policy import Terms, threshold
from jangin.privacy.secure_sum.shamir import Shares, combine, share_from_bytes
from jangin.privacy.secure_sum.table import NEXT, State, Step
from jangin.privacy.secure_sum.transcript import (
    Manifest,
    Tree,
    advert_statement,
    certificate_statement,
    certified,
    cohort_digest,
    complaint_statement,
    dealing_statement,
    shown_statement,
    tagged,
    verify,
)

__all__ = ["Certificate", "ServerSum"]

_TOGETHER = 16  # dealers whose secrets are combined at a time: the field's matrices are five times the shares


@dataclass(frozen=True)
class Certificate:
    """What survivors signed of a sum; for the audit.

    Attributes:
        h1: digest of the cohort.
        began: U1.
        dealers: U2.
        survivors: U3, whose vectors are in the sum.
        signatures: Ed25519, by site.
    """

    h1: bytes
    began: tuple[str, ...]
    dealers: tuple[str, ...]
    survivors: tuple[str, ...]
    signatures: Mapping[str, bytes] = field(repr=False)

    @property
    def digest(self) -> bytes:
        """What the next manifest names, 32 bytes."""
        return certified(self.h1, self.dealers, self.survivors)


@dataclass(frozen=True)
class _Dealer:
    """What one dealer signed: evidence."""

    parcels: bytes = field(repr=False)
    root: bytes
    seed_digest: bytes
    signature: bytes

    def parcel(self, place: int) -> bytes:
        return self.parcels[(place - 1) * PARCEL_BYTES : place * PARCEL_BYTES]

    def dealt_to(self, place: int, tree: Tree) -> Dealt:
        return Dealt(self.parcel(place), tree.path(place - 1), self.root, self.seed_digest, self.signature)


class ServerSum:
    """One sum at the server; `step` is asked now of each of `asked`, `receive` takes answers, `close` ends the step.

    Attributes:
        manifest: what the sum is of.
        state: the last step that was closed.
        asked: the sites of the step in hand.
        left: sites that are out of this sum, with the code why; those that did not answer have none.
        blamed: sites that are proven to have lied, with the code; a person decides what comes of it.
    """

    def __init__(self, manifest: Manifest, terms: Terms, identities: Mapping[str, Ed25519PublicKey]) -> None:
        """Begin with ADVERTISE, asked of each site of `identities`."""
        self.manifest, self._terms, self._identities = manifest, terms, identities
        self.state = State.BEGUN
        self.asked = frozenset(identities)
        self.left: dict[str, str] = {}
        self.blamed: dict[str, str] = {}
        self._answered: set[str] = set()
        self._same = manifest.encode()
        self._adverts: dict[str, Advert] = {}
        self._places: dict[str, int] = {}
        self._h1 = b""
        self._dealers: dict[str, _Dealer] = {}
        self._trees: dict[str, Tree] = {}
        self._total: Words | None = None
        self._survivors: frozenset[str] = frozenset()
        self._agreed = b""
        self._signatures: dict[str, bytes] = {}
        self._shares: dict[str, Shares] = {}

    @property
    def step(self) -> Step:
        """What is asked now.

        Raises:
            ValueError: the sum is over.
        """
        for state, step in NEXT:
            if state is self.state:
                return step
        raise ValueError(f"Expected a sum in hand: {self.state}.")

    @property
    def enough(self) -> bool:
        """Whether the step in hand may be closed."""
        return len(self._answered) >= self._least(self.step)

    @property
    def waiting(self) -> frozenset[str]:
        """Sites whose answer may still come."""
        return self.asked - self._answered - self.left.keys()

    def request(self, site: str) -> bytes:
        """What the step in hand sends to a site."""
        if self.step is not Step.MASK:
            return self._same
        place = self._places[site]
        return write_dealt({name: one.dealt_to(place, self._trees[name]) for name, one in self._dealers.items()})

    def receive(self, site: str, body: bytes, vector: Words | None = None) -> None:
        """Take one answer to the step in hand; one from a site that is not waited for is left aside.

        What is wrong with it puts the site into `left`, and into `blamed` who is proven to have lied.
        """
        if site not in self.waiting:
            return
        try:
            if (vector is not None) != (self.step is Step.MASK and not body):
                raise ValueError("Expected a vector with MASK, and with nothing else.")
            match self.step:
                case Step.ADVERTISE:
                    self._advertised(site, body)
                case Step.SHARE:
                    self._dealt(site, body)
                case Step.MASK:
                    self._masked(site, body, vector)
                case Step.CERTIFY:
                    self._certified(site, body)
                case Step.UNMASK:
                    self._shown(site, body)
                case _:
                    raise ValueError(f"Expected a step: {self.step!r}.")
        except SumError as error:
            self.leave(site, error.code)
        except ValueError:
            self.leave(site, "JG-sum-001")
        else:
            self._answered.add(site)

    def leave(self, site: str, code: str) -> None:
        """Go on without a site."""
        self.left.setdefault(site, code)

    def close(self) -> None:
        """End the step in hand: who has answered goes on to the next.

        Raises:
            SumError: JG-sum-016, too few have; the sum is over, and nothing of it is opened.
        """
        step, answered = self.step, frozenset(self._answered)
        least = self._least(step)
        if len(answered) < least:
            missing = sorted(self.asked - answered)
            self._abort()
            raise SumError("JG-sum-016", where=step.value, found=len(answered), least=least, missing=missing)
        match step:
            case Step.ADVERTISE:
                keys = {name: (one.channel, one.mask) for name, one in self._adverts.items()}
                self._h1 = cohort_digest(self.manifest.digest, keys)
                self._places = {name: place for place, name in enumerate(sorted(self._adverts), 1)}
                self._same = write_adverts(self._adverts)
            case Step.SHARE:
                pass
            case Step.MASK:
                self._survivors, self._trees = answered, {}
                self._same = write_survivors(answered)
                self._agreed = certificate_statement(certified(self._h1, self._dealers, answered))
            case Step.CERTIFY:
                enough = sorted(self._signatures)[: self._threshold]
                self._same = write_certificates({name: self._signatures[name] for name in enough})
            case Step.UNMASK:
                answered = frozenset()
            case _:
                raise ValueError(f"Expected a step: {step!r}.")
        self.state = NEXT[self.state, step]
        self.asked, self._answered = answered, set()

    def _abort(self) -> None:
        self.state, self.asked = State.ABORTED, frozenset()
        self._total, self._shares, self._trees = None, {}, {}

    @property
    def certificate(self) -> Certificate:
        """Who began, who dealt, who is in the sum, and their signatures; after CERTIFY."""
        return Certificate(
            self._h1,
            tuple(sorted(self._adverts)),
            tuple(sorted(self._dealers)),
            tuple(sorted(self._survivors)),
            dict(self._signatures),
        )

    def total(self) -> NDArray[np.int32]:
        """The sum of the survivors' vectors, (manifest.size,), in two's complement; after UNMASK, once.

        Raises:
            SumError: JG-sum-018, a dealer's shares, all as it signed them, make a secret that it did not sign.
            ValueError: the sum is not at its end.
        """
        if self.state is not State.UNMASKED or self._total is None:
            raise ValueError(f"Expected a sum whose shares are in: {self.state}.")
        holders = sorted(self._shares, key=self._places.__getitem__)[: self._threshold]
        places = [self._places[name] for name in holders]
        dealers, secrets = sorted(self._dealers), dict[str, Secret]()
        for start in range(0, len(dealers), _TOGETHER):
            block = slice(start, start + _TOGETHER)
            found = self._combined(np.stack([self._shares[name][block] for name in holders]), places)
            for name, secret in zip(dealers[block], found, strict=True):
                secrets[name] = self._checked(name, secret)
        cohort = Cohort(self._h1, {self._places[name]: self._adverts[name].mask for name in dealers})
        seeds = {self._places[name]: one for name, one in secrets.items() if name in self._survivors}
        privates = {self._places[name]: one for name, one in secrets.items() if name not in self._survivors}
        total = unmasked(self._total, cohort, seeds, privates)
        for secret in secrets.values():
            secret.wipe()
        self._total, self._shares = None, {}
        return total

    @property
    def _threshold(self) -> int:
        return threshold(len(self._adverts))

    def _least(self, step: Step) -> int:
        """Fewest answers with which a step may be closed."""
        match step:
            case Step.ADVERTISE:
                return self._terms.least
            case Step.SHARE | Step.MASK:
                return self._terms.least_final(len(self._adverts))
            case _:
                return self._threshold

    def _advertised(self, site: str, body: bytes) -> None:
        advert = Advert.decode(body)
        said = advert_statement(self.manifest.digest, site, advert.channel, advert.mask)
        verify(self._identities[site], advert.signature, said, site, Step.ADVERTISE)
        taken = {key for other in self._adverts.values() for key in (other.channel, other.mask)}
        if advert.channel == advert.mask or taken & {advert.channel, advert.mask}:
            raise SumError("JG-sum-009", where=Step.ADVERTISE.value)
        if not (is_usable(advert.channel) and is_usable(advert.mask)):
            raise ValueError("Expected keys that are not of low order.")
        self._adverts[site] = advert

    def _dealt(self, site: str, body: bytes) -> None:
        dealing = Dealing.decode(body, len(self._adverts))
        cuts = range(0, len(dealing.parcels), PARCEL_BYTES)
        tree = Tree([tagged("parcel", dealing.parcels[cut : cut + PARCEL_BYTES]) for cut in cuts])
        said = dealing_statement(self._h1, site, tree.root, dealing.seed_digest)
        verify(self._identities[site], dealing.signature, said, site, Step.SHARE)
        self._dealers[site] = _Dealer(dealing.parcels, tree.root, dealing.seed_digest, dealing.signature)
        self._trees[site] = tree

    def _masked(self, site: str, body: bytes, vector: Words | None) -> None:
        if vector is None:
            complaint = Complaint.decode(body)
            self._judge(site, complaint)
            raise SumError("JG-sum-010", where=Step.MASK.value, dealer=complaint.dealer)
        if vector.shape != (self.manifest.size,) or vector.dtype != np.uint32:
            raise ValueError(f"Expected ({self.manifest.size},) words of 32 bits.")
        if self._total is None:
            self._total = vector.copy()
        else:
            self._total += vector

    def _judge(self, holder: str, complaint: Complaint) -> None:
        """Who lies: the dealer, whose signed parcel the key opens to something else, or the holder."""
        dealer = self._dealers.get(complaint.dealer)
        if dealer is None:
            raise ValueError("Expected a dealer.")
        said = complaint_statement(self._h1, holder, complaint.dealer, dealer.root, complaint.key)
        verify(self._identities[holder], complaint.signature, said, holder, Step.MASK)
        places = self._places[complaint.dealer], self._places[holder]
        if misdealt(dealer.parcel(places[1]), complaint.key, *places, self._h1):
            self.blamed[complaint.dealer] = "JG-sum-010"
        else:
            self.blamed[holder] = "JG-sum-019"
            raise SumError("JG-sum-019", where=Step.MASK.value, site=holder, dealer=complaint.dealer)

    def _certified(self, site: str, body: bytes) -> None:
        signature = signature_of(body)
        verify(self._identities[site], signature, self._agreed, site, Step.CERTIFY)
        self._signatures[site] = signature

    def _shown(self, site: str, body: bytes) -> None:
        shown = Shown.decode(body, len(self._dealers))
        roots = [self._dealers[name].root for name in sorted(self._dealers)]
        said = shown_statement(self._h1, site, roots, shown.shares)
        verify(self._identities[site], shown.signature, said, site, Step.UNMASK)
        place, shares = self._places[site], []
        for number, name in enumerate(sorted(self._dealers)):
            share, other = shown.of(number)
            dropped = name not in self._survivors
            parcel = self._dealers[name].parcel(place)
            if not share_fits(parcel, dropped, share, other, self._places[name], place, self._h1):
                self.blamed[site] = "JG-sum-017"
                raise SumError("JG-sum-017", where=Step.UNMASK.value, site=site, dealer=name)
            shares.append(share)
        values = share_from_bytes(b"".join(shares), len(shares))
        if len(self._shares) < self._threshold:
            self._shares[site] = values

    def _combined(self, shares: Shares, places: list[int]) -> list[Secret | None]:
        """The secrets of some dealers, (holders, dealers, 16), by one set of weights; None: shares of no secret."""
        try:
            return [*combine(shares, places, self._threshold)]
        except ValueError:
            alone = range(shares.shape[1]) if shares.shape[1] > 1 else ()
            return [one for at in alone for one in self._combined(shares[:, at : at + 1], places)] or [None]

    def _checked(self, dealer: str, secret: Secret | None) -> Secret:
        """A dealer's secret from shares that are all as it signed them; what it signed of the secret decides."""
        if secret is not None:
            if dealer in self._survivors:
                fits = tagged("seed", secret.reveal()) == self._dealers[dealer].seed_digest
            else:
                fits = public_bytes(private_key(secret)) == self._adverts[dealer].mask
            if fits:
                return secret
        self.blamed[dealer] = "JG-sum-018"
        self._abort()
        raise SumError("JG-sum-018", where=Step.UNMASK.value, dealer=dealer)
