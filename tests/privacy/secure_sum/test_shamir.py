"""The field and the shares: exact at any size, whole from `threshold` holders, nothing from fewer."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.privacy.randomness import SecureRandom
from jangin.privacy.secure_sum.field import ORDER, powers, product, uniform, weights_at_zero
from jangin.privacy.secure_sum.keys import Secret
from jangin.privacy.secure_sum.shamir import combine, share_from_bytes, share_to_bytes, split

LARGEST = ORDER - 1
RANDOM = SecureRandom()

points = st.lists(st.integers(1, LARGEST), min_size=1, max_size=20, unique=True)
secret_bytes = st.binary(min_size=32, max_size=32)


def revealed(secrets: Sequence[Secret]) -> list[bytes]:
    return [bytes(secret.reveal()) for secret in secrets]


def limbs(secret: bytes) -> list[int]:
    return [int.from_bytes(secret[at : at + 2], "little") for at in range(0, 32, 2)]


def polynomial_through(values: dict[int, int]) -> list[int]:
    """Coefficients of the one polynomial of least degree with these values, by Lagrange in Python's integers."""
    total = [0] * len(values)
    for x, y in values.items():
        basis, below = [1], 1
        for other in values.keys() - {x}:
            basis = [(a - other * b) % ORDER for a, b in zip([0, *basis], [*basis, 0], strict=True)]
            below = below * (x - other) % ORDER
        weight = y * pow(below, -1, ORDER)
        total = [(a + weight * b) % ORDER for a, b in zip(total, basis, strict=True)]
    return total


@pytest.mark.parametrize("terms", [1, 334, 65536])
def test_a_product_of_the_largest_elements_is_exact(terms: int) -> None:
    row = np.full((1, terms), LARGEST)
    assert product(row, row.T).item() == LARGEST * LARGEST * terms % ORDER


def test_a_product_of_random_elements_is_that_of_pythons_integers() -> None:
    left, right = uniform(5 * 334, RANDOM).reshape(5, 334), uniform(334 * 7, RANDOM).reshape(334, 7)
    exact = left.astype(object) @ right.astype(object) % ORDER
    assert product(left, right).tolist() == exact.tolist()


def test_a_sum_of_more_terms_than_was_argued_for_is_refused() -> None:
    with pytest.raises(ValueError, match="65537"):
        product(np.zeros((1, 65537), np.int64), np.zeros((65537, 1), np.int64))


@given(points, st.integers(1, 20))
def test_powers_are_those_of_pythons_integers(places: list[int], count: int) -> None:
    assert powers(np.array(places), count).tolist() == [[pow(x, k, ORDER) for k in range(count)] for x in places]


@given(points)
def test_the_weights_take_every_power_below_their_number_to_its_value_at_zero(places: list[int]) -> None:
    at_zero = product(weights_at_zero(np.array(places))[None, :], powers(np.array(places), len(places)))
    assert at_zero.tolist() == [[1] + [0] * (len(places) - 1)]


def test_the_one_word_that_would_make_elements_uneven_is_drawn_again(tape) -> None:
    assert (2**64 - 1) % ORDER == 0
    assert uniform(3, tape([5, 2**64 - 1, ORDER + 7, 2**64 - 1, 9])).tolist() == [5, 9, 7]


@given(st.data())
def test_any_threshold_holders_in_any_order_find_the_secrets(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    threshold = data.draw(st.integers(1, n))
    secrets = data.draw(st.lists(secret_bytes, min_size=1, max_size=3))
    holders = data.draw(st.permutations(range(1, n + 1)))[: data.draw(st.integers(threshold, n))]
    shares = split([Secret(secret) for secret in secrets], n, threshold, RANDOM)
    assert revealed(combine(shares[np.array(holders) - 1], holders, threshold)) == secrets


@pytest.mark.parametrize("coefficient", [0, LARGEST, None])
@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, bytes(range(32))])
def test_shares_for_500_holders_are_exact(tape, secret: bytes, coefficient: int | None) -> None:
    n, threshold = 500, 334
    words = RANDOM.bits(333 * 16).tolist() if coefficient is None else [coefficient] * (333 * 16)
    shares = split([Secret(secret)], n, threshold, tape(words))
    drawn = np.array(words, object).reshape(333, 16)
    for holder in (1, 2, 499, 500):
        raised = np.array([pow(holder, k, ORDER) for k in range(1, threshold)], object)
        assert shares[holder - 1, 0].tolist() == ((raised @ drawn + np.array(limbs(secret), object)) % ORDER).tolist()
    holders = np.random.default_rng(0).permutation(n)[:threshold] + 1
    assert revealed(combine(shares[holders - 1], holders.tolist(), threshold)) == [secret]


@given(st.data(), st.integers(1, 6), secret_bytes, secret_bytes)
def test_fewer_shares_than_the_threshold_go_with_every_secret(tape, data, threshold: int, secret, other) -> None:
    """For each other secret there is one choice of coefficients, as likely as the true one, that gives these shares."""
    n = data.draw(st.integers(threshold, 8))
    seen = data.draw(st.permutations(range(1, n + 1)))[: threshold - 1]
    shares = split([Secret(secret)], n, threshold, RANDOM)
    polynomials = [
        polynomial_through({0: limb} | {holder: int(shares[holder - 1, 0, at]) for holder in seen})
        for at, limb in enumerate(limbs(other))
    ]
    coefficients = [polynomial[k] for k in range(1, threshold) for polynomial in polynomials]
    assert [polynomial[0] for polynomial in polynomials] == limbs(other)
    again = split([Secret(other)], n, threshold, tape(coefficients))
    for holder in seen:
        assert again[holder - 1].tolist() == shares[holder - 1].tolist()


@given(st.lists(st.integers(0, LARGEST), min_size=32, max_size=32))
def test_a_share_survives_its_bytes_the_largest_value_too(values: list[int]) -> None:
    share = np.array(values, np.uint32).reshape(2, 16)
    data = share_to_bytes(share)
    assert len(data) == 128
    assert share_from_bytes(data, 2).tolist() == share.tolist()


def with_value(value: int) -> bytes:
    return bytes(60) + value.to_bytes(4, "little")


@pytest.mark.parametrize("data", [bytes(63), bytes(65), b"", with_value(ORDER), with_value(2**32 - 1)])
def test_bytes_that_are_no_share_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="Expected"):
        share_from_bytes(data, 1)


ZEROS = np.zeros((3, 1, 16), np.uint32)
REFUSED: dict[str, Callable[[], object]] = {
    "no threshold": lambda: split([Secret(bytes(32))], 3, 0, RANDOM),
    "a threshold above the holders": lambda: split([Secret(bytes(32))], 3, 4, RANDOM),
    "more holders than places": lambda: split([Secret(bytes(32))], 65537, 2, RANDOM),
    "a short secret": lambda: split([Secret(bytes(31))], 3, 2, RANDOM),
    "too few holders": lambda: combine(ZEROS, [1, 2, 3], 4),
    "nobody": lambda: combine(ZEROS[:0], [], 1),
    "a threshold of zero": lambda: combine(ZEROS, [1, 2, 3], 0),
    "a holder twice": lambda: combine(ZEROS, [1, 2, 1], 2),
    "the place zero": lambda: combine(ZEROS, [0, 1, 2], 2),
    "a place beyond the field": lambda: combine(ZEROS, [1, 2, 65537], 2),
    "fewer rows than holders": lambda: combine(ZEROS[:2], [1, 2, 3], 2),
    "another number of limbs": lambda: combine(ZEROS[:, :, :15], [1, 2, 3], 2),
    "words of 64 bits": lambda: combine(ZEROS.astype(np.uint64), [1, 2, 3], 2),
    "a value above 65536": lambda: combine(ZEROS + np.uint32(ORDER), [1, 2, 3], 2),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_holders_and_shares_that_cannot_be_are_refused(refused: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        refused()


def test_shares_that_meet_at_17_bits_are_refused_and_the_secret_is_named() -> None:
    shares = np.stack([ZEROS[:, 0], np.full((3, 16), LARGEST, np.uint32)], axis=1)  # constant polynomials
    with pytest.raises(ValueError, match=r"secrets \[1\] belong to no secret"):
        combine(shares, [1, 2, 3], 2)
