"""Four ways in which a server reads one site's vector out of a secure sum, told from the server's side.

The first three are mounted on the client functions of Flower's SecAgg+ as they are installed, and succeed; then on a
site of ours, and fail. The fourth, two certificates, is the best that is known against ours: it fails with as many
colluders as the plan assumes and succeeds with one more. So the plan's c_max has to be meant.
"""

from contextlib import suppress
from functools import reduce
from typing import Any

import numpy as np
import pytest
from flwr.client.mod.secure_aggregation.secaggplus_mod import (
    SecAggPlusState,
    _collect_masked_vectors,
    _setup,
    _share_keys,
    _unmask,
)
from flwr.common import ConfigRecord, bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key, generate_key_pairs
from numpy.typing import NDArray
from sums import Federation, manifest, names, signer

from jangin.errors import SumError
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.secure_sum import messages
from jangin.privacy.secure_sum.keys import Secret, pair_key, private_key, public_bytes
from jangin.privacy.secure_sum.masks import Cohort, masked
from jangin.privacy.secure_sum.policy import Policy, Terms, threshold
from jangin.privacy.secure_sum.shamir import combine
from jangin.privacy.secure_sum.site import SiteSum
from jangin.privacy.secure_sum.table import State, Step
from jangin.privacy.secure_sum.transcript import certificate_statement, certified

RING = 2**32
CLIP = 4  # with a target range of 8, Flower's rounding to steps is exact for whole numbers


class Flowers:
    """Clients of SecAgg+ that do what their functions do, each with a vector of whole numbers."""

    def __init__(self, clients: int, told_threshold: int) -> None:
        rng = np.random.default_rng(0)
        self.vectors = {nid: rng.integers(-3, 4, 5).astype(np.float32) for nid in range(1, clients + 1)}
        self.states = {nid: SecAggPlusState(nid=nid) for nid in self.vectors}
        told: dict[str, Any] = {Key.SAMPLE_NUMBER: clients, Key.SHARE_NUMBER: clients, Key.THRESHOLD: told_threshold}
        told |= {Key.CLIPPING_RANGE: float(CLIP), Key.TARGET_RANGE: 2 * CLIP, Key.MOD_RANGE: RING, Key.MAX_WEIGHT: 1.0}
        self.keys = {nid: _setup(state, ConfigRecord(told)) for nid, state in self.states.items()}

    def send_masked(self) -> None:
        both = {str(nid): [given[Key.PUBLIC_KEY_1], given[Key.PUBLIC_KEY_2]] for nid, given in self.keys.items()}
        dealt = {nid: _share_keys(state, ConfigRecord(both)) for nid, state in self.states.items()}
        self.sent = {}
        for nid, state in self.states.items():
            sealed = {
                source: given[Key.CIPHERTEXT_LIST][given[Key.DESTINATION_LIST].index(nid)]
                for source, given in dealt.items()
                if source != nid
            }
            asked = ConfigRecord({Key.CIPHERTEXT_LIST: list(sealed.values()), Key.SOURCE_LIST: list(sealed)})
            answer = _collect_masked_vectors(state, asked, 1, ndarrays_to_parameters([self.vectors[nid]]))
            self.sent[nid] = [bytes_to_ndarray(part) for part in answer[Key.MASKED_PARAMETERS]]

    def shares(self, nid: int, alive: list[int], dead: list[int]) -> dict[str, list[bytes]]:
        """By `kind nid`, what a client shows when it is told who is alive and who is dead."""
        answer = _unmask(self.states[nid], ConfigRecord({Key.ACTIVE_NODE_ID_LIST: alive, Key.DEAD_NODE_ID_LIST: dead}))
        kinds = [f"seed {one}" for one in alive] + [f"key {one}" for one in dead]
        return dict(zip(kinds, answer[Key.SHARE_LIST], strict=True))

    def read(self, nid: int, seed: bytes, pair_masks: list[tuple[int, list[NDArray[np.int64]]]]) -> NDArray[np.int64]:
        """A client's vector from what it sent, its seed and each pair mask with its sign."""
        shapes = [part.shape for part in self.sent[nid]]
        words = self.sent[nid][1] - pseudo_rand_gen(seed, RING, shapes)[1]
        for sign, mask in pair_masks:
            words = words - sign * mask[1]
        return words % RING - CLIP

    def pair_mask(self, nid: int, other: int, shared: bytes) -> tuple[int, list[NDArray[np.int64]]]:
        return (1 if nid > other else -1), pseudo_rand_gen(shared, RING, [part.shape for part in self.sent[nid]])


VICTIM = "site-01"


# --- 1. "You need one share, and you are alone."


def test_flowers_client_believes_a_threshold_of_one_and_a_cohort_of_one() -> None:
    clients = Flowers(1, told_threshold=1)
    clients.send_masked()
    seed = combine_shares([clients.shares(1, [1], [])["seed 1"]])
    assert clients.read(1, seed, []).tolist() == clients.vectors[1].tolist()


def test_our_site_computes_the_threshold_itself_and_does_not_add_up_alone() -> None:
    alone = Federation(4).until(Step.SHARE)
    own = {VICTIM: messages.read_adverts(alone.server.request(VICTIM))[VICTIM]}
    with pytest.raises(SumError, match="JG-sum-006"):
        alone.sites[VICTIM].answer(Step.SHARE, messages.write_adverts(own))
    asked = Federation(4).until(Step.SHARE)
    with_threshold = {**messages.cbor.decode(asked.server.request(VICTIM)), "threshold": 1}
    with pytest.raises(SumError, match="JG-sum-001"):
        asked.sites[VICTIM].answer(Step.SHARE, messages.cbor.encode(with_threshold))
    assert not alone.sites[VICTIM].released
    assert not asked.sites[VICTIM].released


def test_our_site_knows_who_is_on_the_roster_and_does_not_add_up_with_inventions() -> None:
    """The server makes up the company: machines that speak the protocol rightly, by keys of its own."""
    company = Federation(4)
    invented = {"site-2a", "site-3a", "site-4a"}
    policy, terms = company.policy, Terms(frozenset({VICTIM, *invented}), 4, 3, 1, 3)
    alone = Federation(1, policy=policy, terms=terms)
    advert = alone.sites[VICTIM].advertise(alone.vectors[VICTIM].view(np.uint32)).body
    theirs = {name: company.ask(other) for name, other in zip(sorted(invented), company.names[1:], strict=True)}
    cohort = messages.cbor.encode({VICTIM: advert, **{name: answer.body for name, answer in theirs.items()}})
    with pytest.raises(SumError, match=r"JG-sum-007 .*site-2a"):
        alone.sites[VICTIM].answer(Step.SHARE, cohort)


def shown(site: SiteSum, signatures: dict[str, bytes]) -> bytes | None:
    """What a site shows to whoever brings these signatures; where they do not do, its sum is over."""
    with suppress(SumError):
        return site.answer(Step.UNMASK, messages.write_certificates(signatures)).body
    assert site.state is State.ABORTED
    return None


# --- 2. "He is alive, give me his seed. He is dead, give me his key."


def test_flowers_clients_show_both_secrets_of_a_client_that_is_listed_alive_and_dead() -> None:
    clients = Flowers(4, told_threshold=3)
    clients.send_masked()
    shown = [clients.shares(nid, alive=[1, 2, 3, 4], dead=[1]) for nid in (2, 3, 4)]
    seed, key = (combine_shares([given[kind] for given in shown]) for kind in ("seed 1", "key 1"))
    masks = []
    for other in (2, 3, 4):
        public = bytes_to_public_key(clients.keys[other][Key.PUBLIC_KEY_1])
        masks.append(clients.pair_mask(1, other, generate_shared_key(bytes_to_private_key(key), public)))
    assert clients.read(1, seed, masks).tolist() == clients.vectors[1].tolist()


@pytest.mark.parametrize("told_alive", range(1, 8))
def test_our_sites_sign_one_list_each_and_show_nothing_for_one_that_too_few_signed(told_alive: int) -> None:
    """The first so many are told that the victim is alive, the rest that it is dead: T = 5 of 7 sign neither twice."""
    federation = Federation(7).until(Step.CERTIFY)
    alive, dead = frozenset(federation.names), frozenset(federation.names[1:])
    signed: dict[frozenset[str], dict[str, bytes]] = {alive: {}, dead: {}}
    for number, name in enumerate(federation.names):
        told = alive if number < told_alive else dead
        signed[told][name] = federation.ask(name, messages.write_survivors(told)).body
    showing = {
        told: [name for name in signatures if shown(federation.sites[name], signatures)]
        for told, signatures in signed.items()
    }
    assert len(showing[alive]) == (told_alive if told_alive >= 5 else 0)
    assert len(showing[dead]) == (7 - told_alive if told_alive <= 2 else 0)


def test_our_site_that_signed_that_he_is_alive_does_not_sign_that_he_is_dead() -> None:
    federation = Federation(7).until(Step.CERTIFY)
    federation.ask("site-02")
    with pytest.raises(SumError, match="JG-sum-002"):
        federation.ask("site-02", messages.write_survivors(frozenset(federation.names[1:])))


# --- 3. "I need nobody. There are only so many masks."


def folded(key: bytes) -> int:
    """The seed that SecAgg+ makes of a key: its words of 32 bits, one over the other."""
    return reduce(lambda seed, at: seed ^ int.from_bytes(key[at : at + 4], "little"), range(0, len(key), 4), 0)


def varying_bits(values: list[int]) -> int:
    return (reduce(int.__or__, values) & ~reduce(int.__and__, values)).bit_count()


def test_flowers_masks_of_pairs_are_one_of_two_to_the_28_and_the_right_one_is_recognised() -> None:
    """All of them are a search for one machine; here the server looks through the 2**10 around the right one."""
    private, _ = generate_key_pairs()
    shared = [generate_shared_key(private, generate_key_pairs()[1]) for _ in range(60)]
    assert varying_bits([folded(key) for key in shared]) == 28
    clients = Flowers(2, told_threshold=2)
    clients.send_masked()
    seed = combine_shares([clients.shares(nid, alive=[1, 2], dead=[])["seed 1"] for nid in (1, 2)])  # by the protocol
    public = bytes_to_public_key(clients.keys[2][Key.PUBLIC_KEY_1])
    right = folded(generate_shared_key(bytes_to_private_key(clients.states[1].sk1), public))
    found = []
    for guess in range(right & ~0x3FF, (right & ~0x3FF) + 2**10):
        mask = clients.pair_mask(1, 2, guess.to_bytes(4, "little"))
        vector = clients.read(1, seed, [mask])
        if (np.abs(vector) <= CLIP).all():  # only the right mask leaves values that are in the range
            found.append(vector.tolist())
    assert found == [clients.vectors[1].tolist()]


def test_our_masks_of_pairs_have_every_bit_of_their_keys_and_folding_these_finds_nothing() -> None:
    random, salt = SecureRandom(), bytes(32)
    one, two = Secret.fresh(random), Secret.fresh(random)
    keys = [
        bytes(pair_key(private_key(one), 1, public_bytes(private_key(Secret.fresh(random))), 2, salt).reveal())
        for _ in range(60)
    ]
    assert varying_bits([int.from_bytes(key, "little") for key in keys]) == 128
    publics = {1: public_bytes(private_key(one)), 2: public_bytes(private_key(two))}
    vector = np.arange(-2, 3)
    sent = masked(vector, Cohort(salt, publics), 1, Secret(bytes(32)), one)
    alone = masked(np.zeros(5, np.int64), Cohort(salt, {1: publics[1]}), 1, Secret(bytes(32)), one)
    key = bytes(pair_key(private_key(one), 1, publics[2], 2, salt).reveal())
    left = (sent - alone).astype(np.int64)  # the server has the seed: what is left is masked by the pair alone
    assert ((left - pseudo_rand_gen(key, RING, [(5,)])[0]) % RING != vector % RING).all()


# --- 4. "Some of you work for me": two certificates, n = 10, T = 7


def two_certificates(colluders: int, told_alive: int) -> NDArray[np.int32] | None:
    """The victim's vector, where the attack succeeds.

    The first `told_alive` of the honest sites, the victim among them, are asked to sign that all survived, the others
    that all but the victim did; colluders sign both and give the server whatever was dealt to them.
    """
    federation = Federation(10, policy=Policy(), manifest=manifest(5)).until(Step.MASK)
    honest, hired = federation.names[: 10 - colluders], federation.names[10 - colluders :]
    sent = {name: federation.ask(name) for name in federation.names}
    for name, answer in sent.items():
        federation.give(name, answer)
    federation.server.close()
    h1, all_of_them = federation.server._h1, federation.names
    held = {name: federation.sites[name]._dealt for name in hired}
    rows: dict[bool, list[tuple[int, NDArray[np.uint32]]]] = {}
    for dead, told, group in (
        (False, all_of_them, honest[:told_alive]),
        (True, all_of_them[1:], honest[told_alive:]),
    ):
        said = certificate_statement(certified(h1, all_of_them, told))
        signed = {name: federation.ask(name, messages.write_survivors(frozenset(told))).body for name in group}
        signed |= {name: signer(name).sign(said) for name in hired}
        shares = {name: bytes(held[name][VICTIM].shares[dead].reveal()) for name in hired}
        for name in group:
            if body := shown(federation.sites[name], signed):
                shares[name] = messages.Shown.decode(body, 10).of(0)[0]
        rows[dead] = [(all_of_them.index(name) + 1, np.frombuffer(share, "<u4")) for name, share in shares.items()]
    least = threshold(10)
    if any(len(given) < least for given in rows.values()):
        return None
    seed, private = (
        combine(np.stack([share for _, share in given])[:, None], [place for place, _ in given], least)[0]
        for given in (rows[False], rows[True])
    )
    publics = {place: federation.server._adverts[name].mask for place, name in enumerate(all_of_them, 1)}
    mask = masked(np.zeros(5, np.int64), Cohort(h1, publics), 1, seed, private)
    return (sent[VICTIM].vector - mask).view(np.int32)


@pytest.mark.parametrize("told_alive", range(1, 8))
def test_three_colluders_of_ten_cannot_make_two_certificates(told_alive: int) -> None:
    assert two_certificates(3, told_alive) is None


def test_four_colluders_of_ten_read_the_victims_vector() -> None:
    """2 T - n = 4 who sign twice: this is beyond what c_max = 3 promises, and it is how much beyond."""
    found = two_certificates(4, told_alive=3)
    assert found is not None
    assert found.tolist() == Federation(10, policy=Policy(), manifest=manifest(5)).vectors[VICTIM].tolist()


def test_a_cohort_of_ten_is_refused_by_who_expects_four_colluders_before_anything_is_dealt() -> None:
    policy, terms = Policy(c_max=4), Terms(frozenset(names(10)), 10, 7, 4, 3)
    federation = Federation(10, policy=policy, terms=terms)
    for name in federation.names:
        federation.give(name, federation.ask(name))
    with pytest.raises(SumError, match="JG-sum-016"):
        federation.server.close()
    lying = Federation(10, policy=policy, terms=terms)
    cohort = messages.cbor.encode({name: lying.ask(name).body for name in lying.names})
    with pytest.raises(SumError, match=r"JG-sum-006 10 sites at step share .* fewer than 13"):
        lying.sites[VICTIM].answer(Step.SHARE, cohort)
