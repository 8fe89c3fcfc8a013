"""A site's side of one sum: a machine without files, clock or network that trusts nothing that it was not shown signed.

The law: what is wrong ends the sum here, for good, and its secrets with it; one request asked again in the same words
gets the same answer, and in other words none. Of each dealer one secret's share is shown, never both.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from jangin.errors import SumError
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.secure_sum.dealing import MisdealtError, Opened, opened, parcel
from jangin.privacy.secure_sum.journal import Journal
from jangin.privacy.secure_sum.keys import Secret, channel_keys, private_key, public_bytes
from jangin.privacy.secure_sum.masks import Cohort, Words, masked
from jangin.privacy.secure_sum.messages import (
    Advert,
    Complaint,
    Dealing,
    Shown,
    read_adverts,
    read_certificates,
    read_dealt,
    read_survivors,
)
from jangin.privacy.secure_sum.policy import Policy, Terms, threshold
from jangin.privacy.secure_sum.shamir import share_to_bytes, split
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
    in_tree,
    shown_statement,
    tagged,
    verify,
)

__all__ = ["Answer", "Signer", "SiteSum"]

_NAMED: Final = 5  # strangers, of as many as a server may make up


class Signer(Protocol):
    """What a site signs with."""

    def sign(self, data: bytes) -> bytes:
        """An Ed25519 signature, 64 bytes."""
        ...


@dataclass(frozen=True)
class Answer:
    """What a site answers.

    Attributes:
        body: of the step's form; empty beside a vector.
        vector: MASK: the masked vector.
    """

    body: bytes = field(repr=False)
    vector: Words | None = field(default=None, repr=False)


@dataclass(frozen=True)
class _Begun:
    """U1 as it is once a site has agreed to it."""

    adverts: Mapping[str, Advert] = field(repr=False)
    h1: bytes
    places: Mapping[str, int] = field(repr=False)
    inbound: Mapping[str, Secret] = field(repr=False)

    @property
    def threshold(self) -> int:
        return threshold(len(self.adverts))


class SiteSum:
    """One sum at one site, from its manifest on."""

    def __init__(
        self,
        site: str,
        manifest: Manifest,
        terms: Terms,
        policy: Policy,
        identities: Mapping[str, Ed25519PublicKey],
        signer: Signer,
        journal: Journal,
        random: SecureRandom,
    ) -> None:
        """Agree to begin; nothing is trained yet.

        The caller has compared the manifest's campaign, model, roster and size with what it has itself.

        Args:
            site: this one's name.
            manifest: what the sum is of.
            terms: of the plan.
            policy: of the site.
            identities: of the sites of the roster, by name.
            signer: this site's own identity.
            journal: of this site.
            random: for keys and shares.

        Raises:
            SumError: JG-sum-004, -005, -015: as `Journal.note` and `Policy.accept`.
        """
        policy.accept(terms, manifest.attempt)
        journal.note(manifest, Step.ADVERTISE, manifest.digest)
        self.state = State.BEGUN
        self.manifest = manifest
        self._site, self._terms, self._policy, self._identities = site, terms, policy, identities
        self._signer, self._journal, self._random = signer, journal, random
        self._seed, self._mask, self._channel = (Secret.fresh(random) for _ in range(3))
        self._steps: Words | None = None
        self._begun: _Begun | None = None
        self._dealt: dict[str, Opened] = {}
        self._roots: dict[str, bytes] = {}
        self._survivors: frozenset[str] = frozenset()
        self._last: tuple[bytes, Answer] | None = None
        self.released = False
        """Whether the masked vector may have left: from then on the round is charged."""

    def advertise(self, steps: Words) -> Answer:
        """R1: take the vector, (manifest.size,), in whole steps modulo 2**32 with its noise, and offer keys.

        The first vector stays, however often this is asked.

        Raises:
            ValueError: another shape or type.
            SumError: JG-sum-002, the sum is past this.
        """
        if steps.shape != (self.manifest.size,) or steps.dtype != np.uint32:
            raise ValueError(f"Expected ({self.manifest.size},) words of 32 bits: {steps.shape}, {steps.dtype}.")

        def offered(_: bytes) -> Answer:
            self._steps = steps
            channel, mask = (public_bytes(private_key(secret)) for secret in (self._channel, self._mask))
            said = advert_statement(self.manifest.digest, self._site, channel, mask)
            return Answer(Advert(channel, mask, self._signer.sign(said)).encode())

        return self._answered(Step.ADVERTISE, self.manifest.encode(), offered)

    def answer(self, step: Step, body: bytes) -> Answer:
        """R2 to R5: judge one request and carry it out; or, asked again in the same words, the last answer again.

        MASK may be answered by a complaint, a body without a vector: then a dealer is proven wrong, and the sum is over
        here, except that it can be asked for again.

        Raises:
            SumError: the sum is over for this site: JG-sum-001, no message of this step; 002, out of turn; 006..013.
        """
        handle = {
            Step.SHARE: self._share,
            Step.MASK: self._masked,
            Step.CERTIFY: self._certify,
            Step.UNMASK: self._unmask,
        }.get(step, self._out_of_turn)
        return self._answered(step, body, handle)

    def abort(self) -> None:
        """End it: secrets, shares and the vector are gone."""
        self.state = State.ABORTED
        self._wipe()
        self._last = None

    def _answered(self, step: Step, body: bytes, handle: Callable[[bytes], Answer]) -> Answer:
        asked = hashlib.sha256(step.encode() + b"\0" + body).digest()
        if self._last is not None and self._last[0] == asked:
            return self._last[1]
        try:
            reached = NEXT.get((self.state, step))
            if reached is None:
                raise SumError("JG-sum-002", where=step.value, state=self.state.value)
            answer = handle(body)
        except ValueError as error:
            self.abort()
            raise SumError("JG-sum-001", where=step.value, problem=str(error).removesuffix(".")) from None
        except BaseException:
            self.abort()
            raise
        self._last = asked, answer
        if self.state is not State.ABORTED:
            self.state = reached
        if reached is State.UNMASKED:
            self._wipe()
        return answer

    def _out_of_turn(self, _: bytes) -> Answer:
        raise SumError("JG-sum-002", where=Step.ADVERTISE.value, state=self.state.value)

    def _share(self, body: bytes) -> Answer:
        """R2: agree to U1, and deal shares of both secrets to it."""
        adverts = read_adverts(body)
        # 1. Who: enough, invited, on the roster, each signed over what this site knows itself.
        cohort = {name: self._identity(name).public_bytes_raw() for name in adverts}
        self._policy.accept_cohort(self._terms, cohort)
        self._check_own(adverts)
        for name, advert in adverts.items():
            said = advert_statement(self.manifest.digest, name, advert.channel, advert.mask)
            verify(self._identity(name), advert.signature, said, name, Step.SHARE)
        keys = [key for advert in adverts.values() for key in (advert.channel, advert.mask)]
        if len(set(keys)) < len(keys):
            raise SumError("JG-sum-009", where=Step.SHARE.value)
        # 2. The cohort's digest, and a channel to each of it.
        h1 = cohort_digest(self.manifest.digest, {name: (one.channel, one.mask) for name, one in adverts.items()})
        places = {name: place for place, name in enumerate(sorted(adverts), 1)}
        own, channel = places[self._site], private_key(self._channel)
        channels = {
            name: channel_keys(channel, own, adverts[name].channel, place, h1) for name, place in places.items()
        }
        self._channel.wipe()
        # 3. Shares, sealed; one signature over all of them.
        dealt = split([self._seed, self._mask], len(places), threshold(len(places)), self._random)
        sealed = []
        for name, share in zip(sorted(adverts), dealt, strict=True):
            outbound = channels[name][0]
            sealed.append(parcel(outbound, share_to_bytes(share), own, places[name], h1))
        dealt[:] = 0
        self._begun = _Begun(adverts, h1, places, {name: pair[1] for name, pair in channels.items()})
        seed_digest = tagged("seed", self._seed.reveal())
        root = Tree([tagged("parcel", one) for one in sealed]).root
        signature = self._signer.sign(dealing_statement(h1, self._site, root, seed_digest))
        return Answer(Dealing(b"".join(sealed), seed_digest, signature).encode())

    def _masked(self, body: bytes) -> Answer:
        """R3: open what each of U2 dealt, and give the vector, masked against all of them."""
        begun, dealt = self._in_cohort(), read_dealt(body)
        # 1. Who: of U1, enough for a sum, this site among them.
        self._check_left(dealt.keys(), begun.adverts.keys(), Step.MASK)
        # 2. What each dealt is what it signed.
        own = begun.places[self._site]
        for name, one in dealt.items():
            said = dealing_statement(begun.h1, name, one.root, one.seed_digest)
            verify(self._identity(name), one.signature, said, name, Step.MASK)
            if not in_tree(tagged("parcel", one.parcel), own - 1, len(begun.places), one.path, one.root):
                raise SumError("JG-sum-001", where=Step.MASK.value, problem=f"what {name} dealt is not what it signed")
            try:
                self._dealt[name] = opened(one.parcel, begun.inbound[name], begun.places[name], own, begun.h1)
            except MisdealtError as held:
                return self._complaint(name, one.root, held, begun.h1)
            self._roots[name] = one.root
        for key in begun.inbound.values():
            key.wipe()
        # 3. The vector, once.
        if self._steps is None:
            raise ValueError("Expected a vector.")
        publics = {begun.places[name]: begun.adverts[name].mask for name in dealt}
        vector = masked(self._steps, Cohort(begun.h1, publics), own, self._seed, self._mask)
        self._steps = None
        self._seed.wipe()
        self._mask.wipe()
        self._journal.note(self.manifest, Step.MASK, tagged("mask", begun.h1, body))
        self.released = True
        return Answer(b"", vector)

    def _certify(self, body: bytes) -> Answer:
        """R4: sign who is left; one list, for ever."""
        begun, survivors = self._in_cohort(), read_survivors(body)
        self._check_left(survivors, self._dealt.keys(), Step.CERTIFY)
        digest = certified(begun.h1, self._dealt, survivors)
        self._journal.note(self.manifest, Step.CERTIFY, digest)
        self._survivors = survivors
        return Answer(self._signer.sign(certificate_statement(digest)))

    def _unmask(self, body: bytes) -> Answer:
        """R5: where T of the survivors signed the list that this site signed, show a share of one secret of each."""
        begun, signatures = self._in_cohort(), read_certificates(body)
        # 1. T distinct survivors signed this very list.
        if not signatures.keys() <= self._survivors or len(signatures) < begun.threshold:
            raise SumError("JG-sum-014", found=len(self._survivors & signatures.keys()), least=begun.threshold)
        said = certificate_statement(certified(begun.h1, self._dealt, self._survivors))
        for name, signature in signatures.items():
            verify(self._identity(name), signature, said, name, Step.UNMASK)
        # 2. Of a survivor the seed's share, of who dropped out the mask key's: of nobody both.
        shown = []
        for name in sorted(self._dealt):
            dropped = name not in self._survivors
            one = self._dealt[name]
            shown.append(one.shares[dropped].reveal() + one.digests[not dropped])
        shares = b"".join(shown)
        roots = [self._roots[name] for name in sorted(self._dealt)]
        signature = self._signer.sign(shown_statement(begun.h1, self._site, roots, shares))
        return Answer(Shown(shares, signature).encode())

    def _in_cohort(self) -> _Begun:
        if self._begun is None:
            raise ValueError("Expected a cohort.")
        return self._begun

    def _identity(self, name: str) -> Ed25519PublicKey:
        identity = self._identities.get(name)
        if identity is None:
            raise SumError("JG-sum-007", sites=[name])
        return identity

    def _check_own(self, adverts: Mapping[str, Advert]) -> None:
        """Whether this site is among them as it offered itself."""
        own = adverts.get(self._site)
        if own is None or self._last is None or own.encode() != self._last[1].body:
            raise SumError("JG-sum-009", where=Step.SHARE.value)

    def _check_left(self, given: Collection[str], before: Collection[str], step: Step) -> None:
        """Whether U2 or U3 is of those before, with this site, and enough."""
        strangers = sorted(set(given) - set(before))
        if strangers or self._site not in given:
            raise SumError("JG-sum-011", where=step.value, sites=strangers[:_NAMED] or [self._site])
        identities = {name: self._identity(name).public_bytes_raw() for name in given}
        self._policy.accept_survivors(self._terms, len(self._in_cohort().adverts), identities, step)

    def _complaint(self, dealer: str, root: bytes, held: MisdealtError, h1: bytes) -> Answer:
        """The proof that a dealer signed something else than it dealt; the sum is over here."""
        if held.key is None:
            raise SumError("JG-sum-010", where=Step.MASK.value, dealer=dealer)
        signature = self._signer.sign(complaint_statement(h1, self._site, dealer, root, held.key))
        self.abort()
        return Answer(Complaint(dealer, held.key, signature).encode())

    def _wipe(self) -> None:
        inbound = self._begun.inbound.values() if self._begun else ()
        shares = (share for one in self._dealt.values() for share in one.shares)
        for secret in (self._seed, self._mask, self._channel, *inbound, *shares):
            secret.wipe()
        self._dealt, self._steps = {}, None
