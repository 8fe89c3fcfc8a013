"""The stream against its definition, its distributions, and its independence of every seed."""

import copy
import math
import os
import pickle
import random as python_random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from scipy import stats

from jangin.privacy.randomness import SecureRandom

KEY = bytes(range(16))
MANY = 200_000
BLOCK = 16384
SINGLE_BLOCK = 65536
Tape = Callable[[object], SecureRandom]


def test_bits_are_the_encrypted_counter() -> None:
    block = Cipher(algorithms.AES128(KEY), modes.ECB()).encryptor()
    blocks = b"".join(block.update(number.to_bytes(16, "big")) for number in range(8))
    stream = SecureRandom(lambda count: KEY[:count])
    words = np.concatenate([stream.bits(2), stream.bits(0), stream.bits(9), stream.bits(5)])
    assert words.tobytes() == blocks


def test_gaussian_is_box_and_muller_of_the_bits() -> None:
    source, again = SecureRandom(lambda count: KEY), SecureRandom(lambda count: KEY)
    words = [int(word) for word in source.bits(6)]
    u = [(word >> 11) / 2**53 for word in words]
    radii = [math.sqrt(-2 * math.log(1 - x)) for x in u[:3]]
    expected = [r * wave(2 * math.pi * x) for wave in (math.cos, math.sin) for r, x in zip(radii, u[3:], strict=True)]
    np.testing.assert_allclose(again.gaussian(6), expected, rtol=1e-12)


def test_uniform_values_stand_on_a_grid_in_the_unit_interval(tape: Tape) -> None:
    values = tape("uniform").uniform(MANY)
    assert (values >= 0).all()
    assert (values < 1).all()
    assert (values * 2.0**53 == np.floor(values * 2.0**53)).all()
    assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_gaussian_values_are_standard_normal(tape: Tape) -> None:
    values = tape("gaussian").gaussian(MANY)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((values**power).mean() - moment) < 4 * math.sqrt(variance / MANY)
    assert stats.kstest(values, "norm").pvalue > 1e-3


def test_the_two_halves_of_a_draw_know_nothing_of_each_other(tape: Tape) -> None:
    first, second = np.split(tape("halves").gaussian(MANY), 2)
    for one, other in ((first, second), (first**2, second**2), (abs(first), second), (first[1:], second[:-1])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / math.sqrt(len(one))


def test_one_draw_knows_nothing_of_the_next(tape: Tape) -> None:
    stream = tape("draws")
    one, other = stream.gaussian(MANY // 2), stream.gaussian(MANY // 2)
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / math.sqrt(len(one))


def test_blocks_are_drawn_one_after_another() -> None:
    whole, parts = SecureRandom(lambda count: KEY), SecureRandom(lambda count: KEY)
    values = whole.gaussian(2 * BLOCK + 5)
    np.testing.assert_array_equal(values, np.concatenate([parts.gaussian(n) for n in (BLOCK, BLOCK, 5)]))


def single(stream: SecureRandom, count: int, deviation: float = 1.0) -> NDArray[np.float32]:
    values = np.full(count, np.nan, np.float32)
    stream.fill_gaussian(values, deviation)
    return values


class Golden(SecureRandom):
    """First these words of 32 bits, then words of 64 that are all zeros, or all ones."""

    def __init__(self, words: list[int], later: int = 0) -> None:
        super().__init__()
        self._words, self._later = words, later

    def _fill(self, room: bytearray, count: int) -> NDArray[np.uint64]:
        words, self._words = self._words, []
        if not words:
            return np.full(count, self._later, np.uint64)
        return np.array(words, np.uint32).view(np.uint64)[:count]


def test_single_values_are_box_and_muller_of_half_as_many_bits() -> None:
    source, again = SecureRandom(lambda count: KEY), SecureRandom(lambda count: KEY)
    words = source.bits(3).view(np.uint32)
    radii = [math.sqrt(-2 * math.log(int(word) / 2**32)) for word in words[:3]]
    angles = words[3:].view(np.int32) * (math.pi / 2**31)
    expected = [2.5 * r * wave(x) for wave in (math.cos, math.sin) for r, x in zip(radii, angles, strict=True)]
    np.testing.assert_allclose(single(again, 6, 2.5), expected, rtol=2e-6, atol=1e-6)


def test_single_values_are_standard_normal_and_halves_independent(tape: Tape) -> None:
    values = single(tape("single"), MANY).astype(np.float64)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((values**power).mean() - moment) < 4 * math.sqrt(variance / MANY)
    assert stats.kstest(values, "norm").pvalue > 1e-3
    tails = [(abs(values) > limit).sum() for limit in (2, 3, 4)]
    for found, limit in zip(tails, (2, 3, 4), strict=True):
        expected = MANY * 2 * stats.norm.sf(limit)
        assert abs(found - expected) < 4 * math.sqrt(expected)
    half = SINGLE_BLOCK // 2  # cosines, then the sines of the same radii
    one, other = values[:half], values[half:SINGLE_BLOCK]
    for first, second in ((one, other), (one**2, other**2), (abs(one), other)):
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / math.sqrt(half)


@pytest.mark.parametrize(
    ("word", "later", "radius"),
    [
        (0, 0, math.sqrt(2 * 86 * math.log(2))),
        (0, 2**64 - 1, math.sqrt(2 * 32 * math.log(2))),
        (2**16 - 1, 2**63, math.sqrt(2 * math.log(2**32 / (2**16 - 0.5)))),
        (2**16, 0, math.sqrt(2 * 16 * math.log(2))),
        (2**32 - 1, 0, math.sqrt(2 * 2.0**-32)),
        (2**32 - 1, 2**64 - 1, math.sqrt(2 * 2.0**-86)),
        (2**32 - 2**16, 0, math.sqrt(-2 * math.log1p(-(2.0**-16)))),
    ],
)
def test_words_at_the_edges_take_more_bits_so_that_the_tail_is_whole(word: int, later: int, radius: float) -> None:
    cosine, sine = single(Golden([word, 0], later), 2)
    assert cosine == pytest.approx(radius, rel=1e-6, abs=0)
    assert sine == 0
    usual = single(Golden([word, 2**31, 2**31, 0], later), 3)
    assert usual[0] == pytest.approx(-radius, rel=1e-6, abs=0)
    assert usual[1] == pytest.approx(math.sqrt(2 * math.log(2)), rel=1e-6)


def test_single_values_come_in_blocks() -> None:
    whole, parts = SecureRandom(lambda count: KEY), SecureRandom(lambda count: KEY)
    values = single(whole, SINGLE_BLOCK + 5)
    np.testing.assert_array_equal(values, np.concatenate([single(parts, n) for n in (SINGLE_BLOCK, 5)]))


def test_a_single_deviation_is_never_rounded_down() -> None:
    deviation = 1.0 + 2.0**-24 + 2.0**-30
    found = single(SecureRandom(lambda count: KEY), 64, deviation)
    exact = single(SecureRandom(lambda count: KEY), 64, 1.0).astype(np.float64) * deviation
    assert abs(found).sum() >= abs(exact).sum()


@pytest.mark.parametrize("deviation", [0.0, -1.0, float("nan"), float("inf"), 2.0**-101, 2.0**101])
def test_a_single_deviation_out_of_reach_is_refused(deviation: float) -> None:
    with pytest.raises(ValueError, match="deviation"):
        single(SecureRandom(), 3, deviation)


def test_noise_is_put_in_place_of_float32_alone() -> None:
    with pytest.raises(ValueError, match="float32"):
        SecureRandom().fill_gaussian(np.zeros(3), 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("deviation", [0.3, 3.0, 1e6])
def test_rounded_values_are_the_rounded_normal_distribution(tape: Tape, deviation: float) -> None:
    values = tape("rounded").rounded_gaussian(MANY, deviation)
    assert values.dtype == np.int64
    edges = np.linspace(-3, 3, 9) * deviation
    cells = np.searchsorted(edges, values)
    bounds = np.concatenate([[-np.inf], np.floor(edges) + 0.5, [np.inf]])
    expected = MANY * np.diff(stats.norm.cdf(bounds / deviation))
    found = np.bincount(cells, minlength=10)
    some = expected > 5
    assert stats.chisquare(found[some], expected[some] * found[some].sum() / expected[some].sum()).pvalue > 1e-3


@pytest.mark.parametrize("deviation", [0.0, -1.0, float("nan"), float("inf")])
def test_a_deviation_that_is_none_is_refused(deviation: float) -> None:
    with pytest.raises(ValueError, match="deviation"):
        SecureRandom().rounded_gaussian(3, deviation)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_any_number_of_values_can_be_asked_for(count: int) -> None:
    stream = SecureRandom()
    for draw in (stream.bits, stream.uniform, stream.gaussian):
        assert draw(count).shape == (count,)
    assert stream.gaussian(count).dtype == np.float64
    assert np.count_nonzero(single(stream, count)) == count


def test_two_streams_and_two_draws_never_share_values() -> None:
    streams = [SecureRandom() for _ in range(3)]
    words = np.concatenate([draw for stream in streams for draw in (stream.bits(1000), stream.bits(1000))])
    assert len(np.unique(words)) == len(words)


def test_no_seed_reproduces_the_noise() -> None:
    def seeded() -> NDArray[np.float64]:
        torch.manual_seed(42)
        np.random.seed(42)  # noqa: NPY002 - the very seed that must not matter
        python_random.seed(42)
        return SecureRandom().gaussian(100)

    assert not np.intersect1d(seeded(), seeded()).size


def test_drawing_leaves_the_seeded_generators_alone() -> None:
    before = torch.get_rng_state()
    SecureRandom().gaussian(100)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stream_shows_no_key_and_cannot_be_copied() -> None:
    stream = SecureRandom(lambda count: KEY)
    assert repr(stream) == str(stream) == f"{stream}" == "SecureRandom(<secret>)"
    assert KEY not in [value for value in vars(stream).values() if isinstance(value, bytes)]
    with pytest.raises(TypeError):
        copy.deepcopy(stream)
    with pytest.raises(TypeError):
        pickle.dumps(stream)


def test_a_forked_process_gets_bits_of_its_own() -> None:
    stream = SecureRandom()
    stream.bits(1)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, stream.bits(4).tobytes())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 32) != stream.bits(4).tobytes()
    os.close(reading)
    os.close(writing)


def test_the_key_is_asked_for_once_and_whole() -> None:
    asked: list[int] = []

    def entropy(count: int) -> bytes:
        asked.append(count)
        return bytes(count)

    stream = SecureRandom(entropy)
    stream.gaussian(1000)
    assert asked == [16]


def test_the_tail_ends_where_the_docstring_says() -> None:
    class Extreme(SecureRandom):
        def _fill(self, room: bytearray, count: int) -> NDArray[np.uint64]:
            return np.full(count, 2**64 - 1, np.uint64)

    one, _ = values = Extreme().gaussian(2)
    assert one == pytest.approx(8.57, abs=0.005)
    assert np.isfinite(values).all()
