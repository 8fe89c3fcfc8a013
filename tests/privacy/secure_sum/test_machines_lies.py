"""Servers, dealers and holders that lie: what each lie comes to, and that nobody is blamed for another's."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sums import DEMO, Federation, in_ring, manifest, signer

from jangin.errors import SumError
from jangin.privacy.secure_sum import messages, site
from jangin.privacy.secure_sum.dealing import PARCEL_BYTES, parcel
from jangin.privacy.secure_sum.journal import MemoryJournal
from jangin.privacy.secure_sum.keys import Secret
from jangin.privacy.secure_sum.messages import Advert, Complaint, Dealing, Shown
from jangin.privacy.secure_sum.policy import Policy, Terms, threshold
from jangin.privacy.secure_sum.site import Answer, SiteSum
from jangin.privacy.secure_sum.table import State, Step
from jangin.privacy.secure_sum.transcript import (
    Tree,
    advert_statement,
    certificate_statement,
    certified,
    complaint_statement,
    shown_statement,
    tagged,
)

VICTIM, OTHER, THIRD, LAST = "site-01", "site-02", "site-03", "site-04"
LOW_ORDER = bytes(32)


def refused(federation: Federation, body: bytes, code: str, name: str = VICTIM) -> None:
    """A site that is asked this ends its sum with the code, and nothing has left beyond what had."""
    asked, released = federation.server.step, federation.sites[name].released
    with pytest.raises(SumError) as caught:
        federation.sites[name].answer(asked, body)
    assert caught.value.code == code
    assert federation.sites[name].state is State.ABORTED
    assert federation.sites[name].released == released


# --- names that a server makes up


@pytest.mark.parametrize("name", ["x" * 64, "\x1b[2J", "site-02\nWARNING", "Site-02", ""])
@pytest.mark.parametrize("step", [Step.SHARE, Step.MASK, Step.CERTIFY, Step.UNMASK])
def test_a_name_that_no_site_can_have_is_written_nowhere(step: Step, name: str) -> None:
    federation = Federation().until(step)
    held = messages.cbor.decode(federation.server.request(VICTIM))
    more = sorted([*held, name]) if step is Step.CERTIFY else {**held, name: next(iter(held.values()))}
    with pytest.raises(SumError, match="JG-sum-001") as caught:
        federation.sites[VICTIM].answer(step, messages.cbor.encode(more))
    assert not name or name not in str(caught.value)


def test_of_many_strangers_a_few_are_named() -> None:
    federation = Federation().until(Step.CERTIFY)
    strangers = [f"zoe-{number:05}" for number in range(20_000)]
    with pytest.raises(SumError, match=r"JG-sum-011 .* zoe-00000, ") as caught:
        federation.sites[VICTIM].answer(Step.CERTIFY, messages.cbor.encode([*federation.names, *strangers]))
    assert len(str(caught.value)) < 500


# --- R2: who begins


def adverts(federation: Federation) -> dict[str, Advert]:
    return messages.read_adverts(federation.server.request(VICTIM))


def said_by(name: str, given: Advert, federation: Federation) -> Advert:
    """The keys of an advert, signed by somebody for this sum."""
    said = advert_statement(federation.manifest.digest, name, given.channel, given.mask)
    return replace(given, signature=signer(name).sign(said))


def elsewhere(**changed: object) -> Callable[[Federation], dict[str, Advert]]:
    """One site was shown another manifest, and signed its keys over that."""

    def made(federation: Federation) -> dict[str, Advert]:
        other = Federation(manifest=manifest(**changed)).until(Step.SHARE)
        return {**adverts(federation), OTHER: adverts(other)[OTHER]}

    return made


COHORTS: dict[str, tuple[Callable[[Federation], dict[str, Advert]], str]] = {
    "too few": (lambda f: {name: adverts(f)[name] for name in (VICTIM, OTHER, THIRD)}, "JG-sum-006"),
    "a stranger": (lambda f: {**adverts(f), "mallory": adverts(f)[OTHER]}, "JG-sum-007"),
    "one signer under two names": (lambda f: {**adverts(f), LAST: adverts(f)[THIRD]}, "JG-sum-008"),
    "one site's keys twice": (
        lambda f: {**adverts(f), LAST: said_by(LAST, adverts(f)[THIRD], f)},
        "JG-sum-009",
    ),
    "one key for both uses": (
        lambda f: {**adverts(f), LAST: said_by(LAST, replace(adverts(f)[LAST], mask=adverts(f)[LAST].channel), f)},
        "JG-sum-009",
    ),
    "a channel of low order": (
        lambda f: {**adverts(f), LAST: said_by(LAST, replace(adverts(f)[LAST], channel=LOW_ORDER), f)},
        "JG-sum-001",
    ),
    "the server's keys for somebody": (
        lambda f: {**adverts(f), LAST: replace(adverts(f)[LAST], channel=bytes(range(32)))},
        "JG-sum-008",
    ),
    "the server's keys for this site": (
        lambda f: {**adverts(f), VICTIM: replace(adverts(f)[VICTIM], channel=bytes(range(32)))},
        "JG-sum-009",
    ),
    "without this site": (lambda f: {name: one for name, one in adverts(f).items() if name != VICTIM}, "JG-sum-006"),
    "another model for somebody": (elsewhere(model=b"m" * 32), "JG-sum-008"),
    "another plan for somebody": (elsewhere(campaign="b" * 64), "JG-sum-008"),
    "another roster for somebody": (elsewhere(roster=b"r" * 32), "JG-sum-008"),
    "an advert of another attempt": (elsewhere(attempt=2), "JG-sum-008"),
    "an advert of another round": (elsewhere(round=2), "JG-sum-008"),
}


@pytest.mark.parametrize(("lie", "code"), COHORTS.values(), ids=COHORTS)
def test_a_cohort_that_lies_gets_no_shares(lie: Callable[[Federation], dict[str, Advert]], code: str) -> None:
    federation = Federation().until(Step.SHARE)
    refused(federation, messages.write_adverts(lie(federation)), code)


def test_a_cohort_without_this_site_is_refused_however_large_it_is() -> None:
    federation = Federation(5, policy=DEMO, terms=Terms(frozenset(Federation(5).names), 4, 3, 1, 3)).until(Step.SHARE)
    without = {name: one for name, one in adverts(federation).items() if name != VICTIM}
    refused(federation, messages.write_adverts(without), "JG-sum-009")


def test_a_site_of_the_roster_that_the_plan_does_not_invite_is_refused() -> None:
    invited = frozenset(Federation(5).names[:4])
    federation = Federation(5, terms=Terms(invited, 4, 3, 1, 3)).until(Step.SHARE)
    refused(federation, federation.server.request(VICTIM), "JG-sum-007")


def test_a_site_with_keys_of_low_order_or_of_another_is_left_out_by_the_server() -> None:
    federation = Federation(7, terms=Terms(frozenset(Federation(7).names), 5, 3, 1, 3))
    for name in federation.names:
        given = Advert.decode(federation.ask(name).body)
        if name == VICTIM:
            given = said_by(name, replace(given, mask=LOW_ORDER), federation)
        if name == THIRD:
            given = said_by(name, replace(given, channel=Advert.decode(federation.ask(OTHER).body).mask), federation)
        federation.give(name, Answer(given.encode()))
    assert federation.server.left == {VICTIM: "JG-sum-001", THIRD: "JG-sum-009"}
    federation.server.close()
    federation.gone = {VICTIM, THIRD}
    federation.finish()


def test_a_mask_key_of_low_order_that_a_server_lets_in_costs_the_round_and_no_vector() -> None:
    federation = Federation().until(Step.SHARE)
    lie = said_by(LAST, replace(adverts(federation)[LAST], mask=LOW_ORDER), federation)
    federation.server._adverts[LAST] = lie
    federation.server._same = messages.write_adverts({**adverts(federation), LAST: lie})
    federation.server._h1 = site.cohort_digest(
        federation.manifest.digest, {name: (one.channel, one.mask) for name, one in adverts(federation).items()}
    )
    federation.sites[LAST]._last = (b"", Answer(lie.encode()))
    federation.step()
    refused(federation, federation.server.request(VICTIM), "JG-sum-001")


# --- R3: who dealt what


def dealt(federation: Federation, name: str = VICTIM) -> dict[str, messages.Dealt]:
    return messages.read_dealt(federation.server.request(name))


def flipped(data: bytes, at: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DEALT: dict[str, tuple[Callable[[Federation], dict[str, messages.Dealt]], str]] = {
    "too few": (lambda f: {name: dealt(f)[name] for name in (VICTIM, OTHER)}, "JG-sum-006"),
    "without this site": (lambda f: {name: one for name, one in dealt(f).items() if name != VICTIM}, "JG-sum-011"),
    "somebody who did not begin": (lambda f: {**dealt(f), "mallory": dealt(f)[OTHER]}, "JG-sum-011"),
    "another's parcel": (lambda f: {**dealt(f), OTHER: dealt(f, THIRD)[OTHER]}, "JG-sum-001"),
    "another's dealing": (lambda f: {**dealt(f), OTHER: dealt(f)[THIRD]}, "JG-sum-008"),
    **{
        f"a bit of the parcel at {at}": (
            lambda f, at=at: {**dealt(f), OTHER: replace(dealt(f)[OTHER], parcel=flipped(dealt(f)[OTHER].parcel, at))},
            "JG-sum-001",
        )
        for at in (0, 32, 64, PARCEL_BYTES - 1)
    },
    "another path": (
        lambda f: {**dealt(f), OTHER: replace(dealt(f)[OTHER], path=flipped(dealt(f)[OTHER].path))},
        "JG-sum-001",
    ),
    "a longer path": (
        lambda f: {**dealt(f), OTHER: replace(dealt(f)[OTHER], path=dealt(f)[OTHER].path + bytes(32))},
        "JG-sum-001",
    ),
    "another root": (lambda f: {**dealt(f), OTHER: replace(dealt(f)[OTHER], root=bytes(32))}, "JG-sum-008"),
    "another seed": (lambda f: {**dealt(f), OTHER: replace(dealt(f)[OTHER], seed_digest=bytes(32))}, "JG-sum-008"),
    "a dealing of another attempt": (
        lambda f: {
            **dealt(f),
            OTHER: dealt(Federation(manifest=manifest(attempt=2)).until(Step.MASK))[OTHER],
        },
        "JG-sum-008",
    ),
}


@pytest.mark.parametrize(("lie", "code"), DEALT.values(), ids=DEALT)
def test_dealings_that_lie_get_no_vector(lie: Callable[[Federation], dict[str, messages.Dealt]], code: str) -> None:
    federation = Federation().until(Step.MASK)
    refused(federation, messages.write_dealt(lie(federation)), code)


def test_two_sites_that_were_shown_different_beginnings_cannot_read_each_other() -> None:
    """Each of two halves is told of a cohort of its own; what one deals is of another h1 to the other."""
    federation = Federation(5, terms=Terms(frozenset(Federation(5).names), 4, 3, 1, 3)).until(Step.SHARE)
    whole = adverts(federation)
    without_last = {name: one for name, one in whole.items() if name != "site-05"}
    for name in federation.asked():
        request = messages.write_adverts(without_last if name == VICTIM else whole)
        federation.give(name, federation.ask(name, request))
    assert federation.server.left == {VICTIM: "JG-sum-001"}
    federation.server.close()
    own = dealt(Federation(4).until(Step.MASK))[VICTIM]  # as it dealt here: its cohort was the same
    others = {name: one for name, one in dealt(federation).items() if name != "site-05"}
    refused(federation, messages.write_dealt({VICTIM: own, **others}), "JG-sum-008")


def test_a_site_that_was_shown_another_list_of_dealers_is_in_no_certificate_and_opens_nothing() -> None:
    federation = Federation(7).until(Step.MASK)
    fewer = {name: one for name, one in dealt(federation).items() if name != "site-07"}
    for name in federation.asked():
        request = messages.write_dealt(fewer) if name == VICTIM else None
        federation.give(name, federation.ask(name, request))
    federation.server.close()
    alone = messages.write_survivors(frozenset(federation.names[:6]))
    refused(federation, federation.server.request(VICTIM), "JG-sum-011")  # the list that the others sign
    again = Federation(7).until(Step.MASK)
    again.ask(VICTIM, messages.write_dealt(fewer))
    signature = again.sites[VICTIM].answer(Step.CERTIFY, alone)
    federation.give(VICTIM, signature)
    assert federation.server.left == {VICTIM: "JG-sum-008"}
    whole = certificate_statement(certified(federation.server._h1, federation.names, federation.names[:6]))
    others = {name: signer(name).sign(whole) for name in federation.names[1:6]}
    with pytest.raises(SumError, match="JG-sum-008"):
        again.sites[VICTIM].answer(Step.UNMASK, messages.write_certificates(others))


# --- dealers and holders


class WrongShares(SiteSum):
    """Seals something else than shares for `site-01`, and signs it."""

    def _share(self, body: bytes) -> Answer:
        def sealed(key: Secret, share: bytes, own: int, other: int, h1: bytes) -> bytes:
            made = parcel(key, share, own, other, h1)
            if other != 1:
                return made
            match self.lie:
                case "no ciphertext":
                    return made[:64] + bytes(len(made) - 64)
                case "other shares":
                    return made[:32] + bytes(32) + made[64:]
                case "no shares":
                    return parcel(key, b"\xff" * 128, own, other, h1)
                case _:
                    return bytes(32) + made[32:]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(site, "parcel", sealed)
            return super()._share(body)


def lying(kind: str) -> type[SiteSum]:
    return type("Lying", (WrongShares,), {"lie": kind})


@pytest.mark.parametrize("kind", ["no ciphertext", "other shares", "no shares"])
def test_a_forged_dealer_is_proven_by_whoever_it_dealt_to_and_the_rest_go_on(kind: str) -> None:
    federation = Federation(7, special={THIRD: lying(kind)}).until(Step.MASK)
    request = federation.server.request(VICTIM)
    complaint = federation.ask(VICTIM)
    assert complaint.vector is None
    assert federation.sites[VICTIM].answer(Step.MASK, request) is complaint
    assert not federation.sites[VICTIM].released
    for name in federation.asked():
        federation.give(name, complaint if name == VICTIM else federation.ask(name))
    federation.server.close()
    assert federation.server.blamed == {THIRD: "JG-sum-010"}
    assert federation.server.left == {VICTIM: "JG-sum-010"}
    assert federation.finish() == in_ring([v for name, v in federation.vectors.items() if name != VICTIM])


def test_a_dealer_that_signs_for_another_key_is_named_without_proof_and_the_vector_stays() -> None:
    federation = Federation(7, special={THIRD: lying("another key")}).until(Step.MASK)
    with pytest.raises(SumError, match=f"JG-sum-010 .*{THIRD}"):
        federation.ask(VICTIM)
    assert not federation.sites[VICTIM].released


def complained(federation: Federation, dealer: str, key: bytes) -> Answer:
    root = federation.server._dealers[dealer].root if dealer in federation.names else bytes(32)
    said = complaint_statement(federation.server._h1, VICTIM, dealer, root, key)
    return Answer(Complaint(dealer, key, signer(VICTIM).sign(said)).encode())


def test_a_false_complaint_falls_back_on_the_holder() -> None:
    federation = Federation(7).until(Step.MASK)
    right = bytes(federation.sites[VICTIM]._begun.inbound[OTHER].reveal())
    for key in (right, bytes(16)):
        federation = Federation(7).until(Step.MASK)
        federation.give(VICTIM, complained(federation, OTHER, key))
        assert federation.server.blamed == {VICTIM: "JG-sum-019"}
        assert federation.server.left == {VICTIM: "JG-sum-019"}
    federation.gone = {VICTIM}
    assert federation.finish() == in_ring([v for name, v in federation.vectors.items() if name != VICTIM])


def test_a_complaint_in_anothers_name_or_of_nobody_blames_nobody() -> None:
    federation = Federation(7).until(Step.MASK)
    answer = complained(federation, OTHER, bytes(16))
    federation.give(THIRD, answer)
    federation.give(VICTIM, complained(federation, "mallory", bytes(16)))
    assert federation.server.left == {THIRD: "JG-sum-008", VICTIM: "JG-sum-001"}
    assert not federation.server.blamed


def roots(federation: Federation) -> list[bytes]:
    return [dealer.root for _, dealer in sorted(federation.server._dealers.items())]


@pytest.mark.parametrize("half", [0, 64], ids=["the share", "the other digest"])
def test_a_forged_holder_is_proven_by_what_it_signed_and_the_sum_is_exact_without_it(half: int) -> None:
    federation = Federation(7).until(Step.UNMASK)
    shares = bytearray(Shown.decode(federation.ask(VICTIM).body, 7).shares)
    shares[half] ^= 1
    said = shown_statement(federation.server._h1, VICTIM, roots(federation), bytes(shares))
    federation.give(VICTIM, Answer(Shown(bytes(shares), signer(VICTIM).sign(said)).encode()))
    assert federation.server.blamed == federation.server.left == {VICTIM: "JG-sum-017"}
    federation.gone = {VICTIM}
    assert federation.finish() == in_ring(federation.vectors.values())


def test_shares_that_somebody_else_signed_blame_nobody() -> None:
    federation = Federation(7).until(Step.UNMASK)
    federation.give(VICTIM, federation.ask(OTHER))
    assert federation.server.left == {VICTIM: "JG-sum-008"}
    assert not federation.server.blamed


def test_a_dealer_that_signs_another_tree_afterwards_has_no_honest_holder_blamed() -> None:
    """With the server: the holder showed what was dealt under the first root, and said so."""
    federation = Federation(7).until(Step.UNMASK)
    answer = federation.ask(VICTIM)
    second = dict(federation.server._dealers)
    parcels = flipped(second[OTHER].parcels, 33)
    root = Tree(
        [tagged("parcel", parcels[at : at + PARCEL_BYTES]) for at in range(0, 7 * PARCEL_BYTES, PARCEL_BYTES)]
    ).root
    federation.server._dealers[OTHER] = replace(second[OTHER], parcels=parcels, root=root)
    federation.give(VICTIM, answer)
    assert federation.server.left == {VICTIM: "JG-sum-008"}
    assert not federation.server.blamed


class OtherSecret(SiteSum):
    """Deals good shares of another seed, or of another key, than it says."""

    def _share(self, body: bytes) -> Answer:
        with pytest.MonkeyPatch.context() as patch:
            split = site.split
            other = [self._seed, Secret(bytes(32))] if self.lie == "key" else [Secret(bytes(32)), self._mask]
            beyond = np.uint32(65536 if self.lie == "17 bits" else 0)  # a constant polynomial of no secret
            patch.setattr(site, "split", lambda _, *rest: np.maximum(split(other, *rest), beyond))
            return super()._share(body)


@pytest.mark.parametrize(("kind", "drops_out"), [("seed", False), ("key", True), ("17 bits", False), ("17 bits", True)])
def test_a_dealer_whose_shares_fit_and_make_another_secret_is_proven_at_the_end(kind: str, drops_out: bool) -> None:
    federation = Federation(7, special={THIRD: type("Lying", (OtherSecret,), {"lie": kind})}).until(Step.MASK)
    federation.gone = {THIRD} if drops_out else set()
    with pytest.raises(SumError, match="JG-sum-018"):
        federation.finish()
    assert federation.server.blamed == {THIRD: "JG-sum-018"}
    assert federation.server.state is State.ABORTED


# --- R4 and R5: who is left


SURVIVORS: dict[str, tuple[Callable[[Federation], list[str]], str]] = {
    "too few": (lambda f: f.names[:4], "JG-sum-006"),
    "without this site": (lambda f: f.names[1:], "JG-sum-011"),
    "a stranger": (lambda f: [*f.names, "zoe"], "JG-sum-011"),
    "one who dealt nothing": (lambda f: sorted({*f.names, "site-07"}), "JG-sum-011"),
    "in an order of its own": (lambda f: f.names[:6][::-1], "JG-sum-001"),
    "one twice": (lambda f: [VICTIM, VICTIM, *f.names[1:5]], "JG-sum-001"),
}


@pytest.mark.parametrize(("lie", "code"), SURVIVORS.values(), ids=SURVIVORS)
def test_a_list_of_survivors_that_lies_is_not_signed(lie: Callable[[Federation], list[str]], code: str) -> None:
    federation = Federation(7).until(Step.SHARE)
    federation.gone = {"site-07"}
    federation.until(Step.CERTIFY)
    refused(federation, messages.cbor.encode(lie(federation)), code)


def test_a_second_list_is_not_signed_and_not_after_a_restart_either() -> None:
    journal = MemoryJournal()
    federation = Federation(
        7, journals={name: journal if name == VICTIM else MemoryJournal() for name in Federation(7).names}
    )
    federation.until(Step.CERTIFY)
    federation.ask(VICTIM)
    fewer = messages.write_survivors(frozenset(federation.names[:5]))
    with pytest.raises(SumError, match="JG-sum-013"):
        journal.note(
            federation.manifest, Step.CERTIFY, certified(federation.server._h1, federation.names, federation.names[:5])
        )
    refused(federation, fewer, "JG-sum-002")


def signatures(federation: Federation, names: list[str], survivors: list[str]) -> dict[str, bytes]:
    digest = certified(federation.server._h1, federation.names, survivors)
    return {name: signer(name).sign(certificate_statement(digest)) for name in names}


CERTIFICATES: dict[str, tuple[Callable[[Federation], dict[str, bytes]], str]] = {
    "too few signers": (lambda f: signatures(f, f.names[:4], f.names[:6]), "JG-sum-014"),
    "who is not in the list": (lambda f: signatures(f, f.names[2:7], f.names[:6]), "JG-sum-014"),
    "over another list": (lambda f: signatures(f, f.names[:5], f.names[:5]), "JG-sum-008"),
    "one over another list": (
        lambda f: {**signatures(f, f.names[:5], f.names[:6]), **signatures(f, [THIRD], f.names)},
        "JG-sum-008",
    ),
    "one signer under five names": (
        lambda f: dict.fromkeys(f.names[:5], signatures(f, [VICTIM], f.names[:6])[VICTIM]),
        "JG-sum-008",
    ),
    "nobody": (lambda f: {}, "JG-sum-014"),
}


@pytest.mark.parametrize(("lie", "code"), CERTIFICATES.values(), ids=CERTIFICATES)
def test_a_certificate_that_lies_opens_nothing(lie: Callable[[Federation], dict[str, bytes]], code: str) -> None:
    federation = Federation(7).until(Step.MASK)
    federation.gone = {"site-07"}
    federation.until(Step.UNMASK)
    refused(federation, messages.write_certificates(lie(federation)), code)


@given(st.data())
@settings(max_examples=12)
def test_of_no_site_both_secrets_are_shown_by_anybody(data: st.DataObject) -> None:
    federation = Federation(7).until(Step.MASK)
    federation.gone = data.draw(st.sets(st.sampled_from(federation.names), max_size=2))
    federation.until(Step.UNMASK)
    survivors = set(federation.server.certificate.survivors)
    for holder in federation.asked():
        held = federation.sites[holder]._dealt
        both = {name: [bytes(share.reveal()) for share in held[name].shares] for name in held}
        body = federation.ask(holder).body
        for name, (seed, private) in both.items():
            assert (seed in body, private in body) == ((True, False) if name in survivors else (False, True))


def test_a_site_that_dealt_and_one_that_did_not_differ_in_what_is_shown() -> None:
    """In U2 and silent after it: its key is opened. Not in U2: nobody masked against it and nothing of it is shown."""
    for step, shown in ((Step.SHARE, 6), (Step.MASK, 7)):
        federation = Federation(7).until(step)
        federation.gone = {"site-07"}
        federation.until(Step.UNMASK)
        assert len(federation.server.certificate.dealers) == shown
        assert len(Shown.decode(federation.ask(VICTIM).body, shown).shares) == shown * 96
        assert Federation.finish(federation) == in_ring([federation.vectors[name] for name in federation.names[:6]])


# --- a site's policy


def test_a_known_site_counts_only_with_the_identity_that_was_compared_at_every_step() -> None:
    """Three are known, one of them by another key than the roster has; two have to be in the sum."""
    keys = {name: signer(name).public_key().public_bytes_raw() for name in Federation(7).names}
    known = {OTHER: keys[OTHER], THIRD: keys[THIRD], LAST: keys[VICTIM]}
    policy = Policy(n_min=4, n_min_final=3, n_honest_min=1, c_max=1, known=known, k_known=2, demo=True)
    assert Federation(7, policy=policy).finish() == in_ring(Federation(7).vectors.values())
    for step, ends in ((Step.SHARE, Step.MASK), (Step.MASK, Step.CERTIFY)):
        federation = Federation(7, policy=policy).until(step)
        federation.gone = {THIRD}
        federation.until(ends)
        refused(federation, federation.server.request(VICTIM), "JG-sum-012")


def test_honest_sites_enough_are_asked_for_before_the_vector_leaves() -> None:
    policy = Policy(n_min=5, n_min_final=5, n_honest_min=5, c_max=1)
    federation = Federation(7, policy=policy, terms=Terms(frozenset(Federation(7).names), 5, 5, 1, 3)).until(Step.SHARE)
    federation.gone = {"site-06", "site-07"}
    federation.until(Step.MASK)
    assert threshold(7) == 5
    refused(federation, federation.server.request(VICTIM), "JG-sum-006")


def test_a_policy_below_the_least_is_none_unless_it_says_that_it_is_a_demonstration() -> None:
    for wrong, said in (
        ({"n_min": 4}, "n_min = 4, below 5"),
        ({"n_min_final": 4}, "n_min_final = 4, below 5"),
        ({"c_max": 0}, "c_max = 0, below 1"),
        ({"n_honest_min": 0}, "n_honest_min = 0, below 1"),
        ({"attempts": 0}, "attempts = 0, below 1"),
        ({"k_known": -1}, "k_known = -1, below 0"),
        ({"k_known": 1}, "known = 0, below 1"),
        ({"demo": True, "n_min": 2}, "n_min = 2, below 3"),
    ):
        with pytest.raises(SumError, match=f"JG-sum-020 .*{said}"):
            Policy(**wrong)
    assert Policy(n_min=3, n_min_final=3, demo=True).n_min == 3


# --- what a site sends that is not of its step


ANSWERS: dict[Step, list[Answer]] = {
    Step.ADVERTISE: [Answer(b""), Answer(bytes(128)), Answer(bytes(129)), Answer(b"", np.zeros(3, np.uint32))],
    Step.SHARE: [Answer(b""), Answer(b"\xa0"), Answer(b"", np.zeros(3, np.uint32))],
    Step.MASK: [
        Answer(b""),
        Answer(b"\xa0"),
        Answer(b"x", np.zeros(3, np.uint32)),
        Answer(b"", np.zeros(4, np.uint32)),
        Answer(b"", np.zeros((3, 1), np.uint32)),
        Answer(b"", np.zeros(3, np.int32)),
    ],
    Step.CERTIFY: [Answer(b""), Answer(bytes(64)), Answer(bytes(65))],
    Step.UNMASK: [Answer(b""), Answer(b"\xa0"), Answer(b"\xf6")],
}


@pytest.mark.parametrize("step", Step)
def test_a_site_that_sends_anything_else_is_left_out_and_the_sum_goes_on(step: Step) -> None:
    for wrong in ANSWERS[step]:
        federation = Federation(7, terms=Terms(frozenset(Federation(7).names), 5, 3, 1, 3)).until(step)
        federation.give(VICTIM, wrong)
        assert federation.server.left.keys() == {VICTIM}
        assert federation.server.left[VICTIM] in {"JG-sum-001", "JG-sum-008"}
        federation.give(VICTIM, federation.ask(VICTIM))
        federation.gone = {VICTIM}
        stays = {VICTIM} if step in (Step.CERTIFY, Step.UNMASK) else set()
        survivors = {*federation.names[1:], *stays}
        assert federation.finish() == in_ring([federation.vectors[name] for name in survivors])


def test_a_dealing_to_another_number_of_sites_is_none() -> None:
    federation = Federation().until(Step.SHARE)
    given = Dealing.decode(federation.ask(VICTIM).body, 4)
    federation.give(VICTIM, Answer(replace(given, parcels=given.parcels[PARCEL_BYTES:]).encode()))
    assert federation.server.left == {VICTIM: "JG-sum-001"}
