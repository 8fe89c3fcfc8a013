"""Draws: each unit by itself with the public probability, and of a unit only as much as allowed."""

from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jangin.privacy.randomness import SecureRandom
from jangin.privacy.sampling import UnitIndex

Tape = Callable[[object], SecureRandom]
UNITS = np.repeat(np.arange(60), np.arange(60) % 5 + 1) * 7 - 100


def taken(units: np.ndarray, probability: float, draws: int, random: SecureRandom) -> np.ndarray:
    """Which unit was in which draw, (draws, units) of bool."""
    index, numbers = UnitIndex(units), np.unique(units)
    return np.stack([np.isin(numbers, units[index.draw(probability, 9, random).rows]) for _ in range(draws)])


def test_every_unit_is_drawn_with_the_probability_asked_for(tape: Tape) -> None:
    draws, q = 3000, 0.3
    drawn = taken(UNITS, q, draws, tape("inclusion"))
    assert abs(drawn.mean() - q) < 4 * sqrt(q * (1 - q) / drawn.size)
    # Each unit's count is binomial, however many examples it has.
    z = (drawn.sum(axis=0) - draws * q) / sqrt(draws * q * (1 - q))
    assert abs(z).max() < 4.5
    assert stats.chi2(len(z)).sf((z**2).sum()) > 1e-3


def test_units_are_drawn_independently_of_each_other_and_of_the_last_draw(tape: Tape) -> None:
    draws, q = 3000, 0.2
    drawn = taken(UNITS, q, draws, tape("independence"))
    sizes = drawn.sum(axis=1)
    # A lot of fixed size would have variance 0; shuffled epochs would have negative correlation.
    assert sizes.var() == pytest.approx(60 * q * (1 - q), rel=0.15)
    assert abs(np.corrcoef(sizes[1:], sizes[:-1])[0, 1]) < 4 / sqrt(draws)
    pairs = np.corrcoef(drawn.T)[np.triu_indices(60, 1)]
    assert abs(pairs).max() < 5.5 / sqrt(draws)


@given(
    units=st.lists(st.integers(-3, 8), max_size=40).map(lambda u: np.array(u, np.int64)),
    probability=st.floats(0.01, 1.0),
    windows=st.integers(1, 6),
)
def test_a_draw_is_whole_units_side_by_side_with_their_windows_capped(
    units: np.ndarray, probability: float, windows: int
) -> None:
    draw = UnitIndex(units).draw(probability, windows, SecureRandom())
    assert len(np.unique(draw.rows)) == len(draw.rows) == len(draw.units)
    assert (np.diff(draw.units) >= 0).all()
    assert np.array_equal(np.unique(draw.units), np.arange(draw.count))
    for number in range(draw.count):
        (unit,) = set(units[draw.rows[draw.units == number]].tolist())
        assert (draw.units == number).sum() == min(windows, (units == unit).sum())
    assert len(set(units[draw.rows].tolist())) == draw.count


def test_a_units_windows_are_fresh_in_every_draw_and_equally_likely(tape: Tape) -> None:
    units = np.array([5, 1, 5, 5, 1, 5, 5, 5])
    index, random, draws = UnitIndex(units), tape("windows"), 3000
    counts = np.zeros(len(units))
    for _ in range(draws):
        counts[index.draw(1.0, 2, random).rows] += 1
    assert (counts[units == 1] == draws).all()
    many, expected = counts[units == 5], draws * 2 / 6
    assert many.sum() == 2 * draws
    assert abs(many - expected).max() < 4.5 * sqrt(draws * (1 / 3) * (2 / 3))


def test_a_capped_draw_keeps_windows_in_no_preferred_order(tape: Tape) -> None:
    index, random = UnitIndex(np.zeros(3, np.int64)), tape("pairs")
    pairs = [tuple(sorted(index.draw(1.0, 2, random).rows.tolist())) for _ in range(3000)]
    counts = [pairs.count(pair) for pair in ((0, 1), (0, 2), (1, 2))]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_probability_one_takes_everything() -> None:
    draw = UnitIndex(UNITS).draw(1.0, 5, SecureRandom())
    assert draw.count == 60
    assert np.array_equal(np.sort(draw.rows), np.arange(len(UNITS)))


@pytest.mark.parametrize("units", [UNITS, np.empty(0, np.int64)], ids=["nobody drawn", "nobody there"])
def test_an_empty_draw_has_no_rows(units: np.ndarray) -> None:
    draw = UnitIndex(units).draw(1e-12, 4, SecureRandom())
    assert (draw.count, draw.rows.shape, draw.units.shape) == (0, (0,), (0,))
    assert units[draw.rows].shape == (0,)


def test_an_index_counts_units_not_examples() -> None:
    assert len(UnitIndex(UNITS)) == 60
    assert len(UnitIndex(np.empty(0, np.int64))) == 0


def test_two_draws_differ() -> None:
    index, random = UnitIndex(np.arange(500)), SecureRandom()
    assert not np.array_equal(index.draw(0.5, 1, random).rows, index.draw(0.5, 1, random).rows)


def test_units_side_by_side_are_drawn_as_each_by_itself(tape: Tape) -> None:
    ones = [np.array([4, 4, 9]), np.array([9]), np.array([1, 4, 1, 4, 4])]
    whole = UnitIndex.side_by_side([UnitIndex(one) for one in ones])
    assert (len(whole), whole.examples, whole.most) == (5, 9, 3)
    everything = whole.draw(1.0, 9, tape("all"))
    named = np.concatenate([100 * site + one for site, one in enumerate(ones)])
    for unit in range(5):
        assert len(np.unique(named[everything.rows[everything.units == unit]])) == 1
    assert sorted(everything.rows) == list(range(9))
    draws, q, random = 3000, 0.3, tape("beside")
    seen = np.stack([np.isin(np.unique(named), named[whole.draw(q, 1, random).rows]) for _ in range(draws)])
    assert (abs(seen.mean(axis=0) - q) < 4 * sqrt(q * (1 - q) / draws)).all()
    assert abs(np.corrcoef(seen.T) - np.eye(5)).max() < 4 / sqrt(draws)
