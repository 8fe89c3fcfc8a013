"""Masks: they cancel for whoever drops out, the sum is exact, one vector alone is noise, and secrets stay hidden."""

import copy
import pickle
from collections.abc import Callable
from functools import reduce

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from jangin.privacy.randomness import SecureRandom
from jangin.privacy.ring import Grid
from jangin.privacy.secure_sum import masks
from jangin.privacy.secure_sum.keys import Secret, pair_key, private_key, public_bytes, self_key
from jangin.privacy.secure_sum.masks import Cohort, Words, masked, unmasked
from jangin.privacy.secure_sum.shamir import combine, split

RANDOM = SecureRandom()
LOW_ORDER = bytes(32)


def vectors(n: int, size: int, seed: int = 0) -> dict[int, NDArray[np.int64]]:
    """One for each site, over the whole ring: two of them already wrap."""
    rng = np.random.default_rng(seed)
    return {place: rng.integers(-(2**31), 2**31, size) for place in range(1, n + 1)}


def in_ring(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Two's complement of 32 bits by arithmetic."""
    return (values + 2**31) % 2**32 - 2**31


def only(secrets: dict[int, Secret], places: list[int]) -> dict[int, Secret]:
    return {place: secrets[place] for place in places}


@given(st.data())
def test_masks_cancel_for_every_cohort_and_every_set_of_drop_outs(sites, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 7))
    all_of_them = sites(n)
    steps = vectors(n, data.draw(st.integers(1, 40)), data.draw(st.integers(0, 2**32)))
    order = data.draw(st.permutations(range(1, n + 1)))
    survivors = order[: data.draw(st.integers(1, n))]
    dropped = order[len(survivors) :]
    total = reduce(np.add, [all_of_them.sends(place, steps[place]) for place in survivors])
    found = unmasked(total, all_of_them.cohort, only(all_of_them.seeds, survivors), only(all_of_them.privates, dropped))
    assert found.tolist() == in_ring(sum(steps[place] for place in survivors)).tolist()


def test_a_round_with_drop_outs_ends_in_the_sum_from_shares_alone(sites) -> None:
    """More sites than ciphers at a time, more words than a chunk; what the server unmasks with, holders gave it."""
    n, threshold, size = 70, 47, 2 * 16384 + 5
    all_of_them, steps = sites(n), vectors(n, size)
    dealt = {
        place: split([all_of_them.seeds[place], all_of_them.privates[place]], n, threshold, RANDOM) for place in steps
    }
    dropped = [2, 35, 70]
    survivors = [place for place in steps if place not in dropped]
    total = reduce(np.add, (all_of_them.sends(place, steps[place]) for place in survivors))
    holders = survivors[-threshold:]
    rows = np.array(holders) - 1
    seeds = combine(np.stack([dealt[place][rows, 0] for place in survivors], axis=1), holders, threshold)
    privates = combine(np.stack([dealt[place][rows, 1] for place in dropped], axis=1), holders, threshold)
    found = unmasked(
        total,
        all_of_them.cohort,
        dict(zip(survivors, seeds, strict=True)),
        dict(zip(dropped, privates, strict=True)),
    )
    np.testing.assert_array_equal(found, in_ring(sum(steps[place] for place in survivors)))


@given(st.permutations(range(1, 6)), st.permutations(range(1, 6)))
def test_the_order_of_arrival_and_of_the_keys_does_not_matter(sites, arrival: list[int], listed: list[int]) -> None:
    five, steps = sites(5), vectors(5, 9)
    cohort = Cohort(five.cohort.salt, {place: five.cohort.publics[place] for place in listed})
    sent = [masked(steps[place], cohort, place, five.seeds[place], five.privates[place]) for place in arrival]
    found = unmasked(reduce(np.add, sent), cohort, only(five.seeds, arrival), {})
    assert found.tolist() == in_ring(sum(steps.values())).tolist()
    assert [five.sends(place, steps[place]).tolist() for place in arrival] == [vector.tolist() for vector in sent]


def test_a_sum_of_releases_on_a_grid_is_read_by_the_grid(sites) -> None:
    on_grid = Grid.fitting(1.0, 2.0, 0.5, 16, 4)
    four, random = sites(4), SecureRandom()
    steps = {place: on_grid.released(np.full(16, 0.1 * place), random) for place in four.seeds}
    total = reduce(np.add, [four.sends(place, steps[place]) for place in steps])
    found = unmasked(total, four.cohort, four.seeds, {})
    np.testing.assert_array_equal(on_grid.value(found.astype(np.int64)), on_grid.value(sum(steps.values())))


def chi_square(words: NDArray[np.uint32]) -> float:
    counts = np.bincount(words.view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    return float((np.square(counts - expected) / expected).sum())


MOST = 255 + 5 * np.sqrt(2 * 255)


@pytest.mark.parametrize("lacking", ["the seed", "one pair key"])
def test_a_vector_that_lacks_one_key_is_uniform(sites, lacking: str) -> None:
    """All other secrets are given away: even so 262144 bytes of a constant vector are as even as random ones."""
    three, size = sites(3), 65536

    def alone(*places: int) -> Words:
        """Of the first of these sites among them alone."""
        among = Cohort(three.cohort.salt, {place: three.cohort.publics[place] for place in places})
        return masked(np.zeros(size, np.int64), among, 1, three.seeds[1], three.privates[1])

    sent = three.sends(1, np.full(size, 7))
    with_two, with_three = (alone(1, other) - alone(1) for other in (2, 3))
    left, missing = {
        "the seed": (sent - with_two - with_three, alone(1)),
        "one pair key": (sent - alone(1, 2), with_three),
    }[lacking]
    assert (left - missing == 7).all()
    for seen in (sent, left, missing):
        assert chi_square(seen) < MOST


def test_a_mask_is_one_whole_stream_of_the_cipher_however_it_is_cut(sites) -> None:
    one, size = sites(1), 2 * 16384 + 3
    key = bytes(self_key(one.seeds[1], 1, one.cohort.salt).reveal())
    stream = Cipher(algorithms.AES128(key), modes.CTR(bytes(16))).encryptor().update(bytes(4 * size))
    assert one.sends(1, np.zeros(size, np.int64)).tobytes() == stream


def test_neither_the_vector_nor_the_sum_is_changed(sites) -> None:
    two, steps = sites(2), vectors(2, 8)
    before = steps[1].copy()
    total = two.sends(1, steps[1])
    sent = total.copy()
    unmasked(total, two.cohort, only(two.seeds, [1]), only(two.privates, [2]))
    assert steps[1].tolist() == before.tolist()
    assert total.tolist() == sent.tolist()


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_two_sites_find_one_key_and_another_round_or_place_gives_another(one: bytes, two: bytes, salt: bytes) -> None:
    first, second = private_key(Secret(one)), private_key(Secret(two))
    there = bytes(pair_key(first, 3, public_bytes(second), 5, salt).reveal())
    assert there == bytes(pair_key(second, 5, public_bytes(first), 3, salt).reveal())
    others = {
        bytes(pair_key(first, 3, public_bytes(second), 5, salt[::-1] + b"|").reveal()),
        bytes(pair_key(first, 3, public_bytes(second), 6, salt).reveal()),
        bytes(self_key(Secret(one), 3, salt).reveal()),
        bytes(self_key(Secret(one), 5, salt).reveal()),
    }
    assert len(others | {there}) == 5


REFUSED: dict[str, Callable] = {
    "a site with both secrets": lambda three: unmasked(WORDS, three.cohort, three.seeds, only(three.privates, [2])),
    "a site with neither": lambda three: unmasked(WORDS, three.cohort, only(three.seeds, [1, 2]), {}),
    "a stranger's seed": lambda three: unmasked(WORDS, three.cohort, three.seeds | {4: three.seeds[1]}, {}),
    "a private key that was not advertised": lambda three: unmasked(
        WORDS, three.cohort, only(three.seeds, [1, 2]), {3: three.privates[2]}
    ),
    "another's place": lambda three: masked(STEPS, three.cohort, 2, three.seeds[1], three.privates[1]),
    "no place": lambda three: masked(STEPS, three.cohort, 4, three.seeds[1], three.privates[1]),
    "a peer's key of low order": lambda three: masked(
        STEPS, Cohort(bytes(32), {**three.cohort.publics, 3: LOW_ORDER}), 1, three.seeds[1], three.privates[1]
    ),
    "a peer's key cut short": lambda three: masked(
        STEPS, Cohort(bytes(32), {**three.cohort.publics, 3: bytes(31)}), 1, three.seeds[1], three.privates[1]
    ),
    "a short salt": lambda three: Cohort(bytes(31), three.cohort.publics),
    "the place zero": lambda three: Cohort(bytes(32), {0: three.cohort.publics[1]}),
    "a place beyond the field": lambda three: Cohort(bytes(32), {65537: three.cohort.publics[1]}),
    "one key twice": lambda three: Cohort(bytes(32), {1: three.cohort.publics[1], 2: three.cohort.publics[1]}),
}
STEPS, WORDS = np.zeros(4, np.int64), np.zeros(4, np.uint32)


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_what_is_not_of_the_round_is_refused_and_no_secret_is_told(sites, refused: Callable) -> None:
    three = sites(3)
    with pytest.raises(ValueError, match=r".") as caught:
        refused(three)
    for secret in (*three.seeds.values(), *three.privates.values()):
        assert secret.reveal().hex() not in str(caught.value)
        assert repr(bytes(secret.reveal())) not in str(caught.value)


def test_a_secret_is_not_shown_not_copied_and_gone_when_it_is_wiped() -> None:
    secret = Secret(b"0123456789abcdef0123456789abcdef")
    held = secret.reveal()
    assert repr(secret) == str(secret) == "Secret(<secret>)"
    assert secret != Secret(bytes(held))
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            copied(secret)
    secret.wipe()
    assert held == bytes(32)
    with pytest.raises(ValueError, match="wiped"):
        secret.reveal()


def test_a_wiped_seed_masks_nothing(sites) -> None:
    one = sites(1)
    seed = Secret(bytes(32))
    seed.wipe()
    with pytest.raises(ValueError, match="wiped"):
        masked(STEPS, one.cohort, 1, seed, one.privates[1])


def test_every_key_that_has_masked_is_wiped_and_the_secrets_of_the_site_are_its_own_to_wipe(
    sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Secret] = []

    def noted(derive: Callable[..., Secret]) -> Callable[..., Secret]:
        def derived(*facts: object) -> Secret:
            used.append(derive(*facts))
            return used[-1]

        return derived

    monkeypatch.setattr(masks, "self_key", noted(self_key))
    monkeypatch.setattr(masks, "pair_key", noted(pair_key))
    three = sites(3)
    unmasked(three.sends(1, STEPS), three.cohort, only(three.seeds, [1]), only(three.privates, [2, 3]))
    assert len(used) == 6
    assert [len(key) for key in used] == [0] * 6
    assert len(three.seeds[1]) == len(three.privates[1]) == 32


def test_fresh_secrets_differ() -> None:
    assert len({bytes(Secret.fresh(RANDOM).reveal()) for _ in range(20)}) == 20
