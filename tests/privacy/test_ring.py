"""The grid: rounding inside the sensitivity, sums that fit, and a release that is what was priced."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from jangin.errors import PrivacyError
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.ring import Grid

SITES, MASTERS, CLIP, NOISE = 75, 5, 0.3, 0.7


class Tape(SecureRandom):
    """Rounding by a tape that can be played again, and no noise."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._tape = np.random.default_rng(seed)

    def uniform(self, count: int) -> NDArray[np.float64]:
        return self._tape.random(count)

    def gaussian(self, count: int) -> NDArray[np.float64]:
        return np.zeros(count)


def grid(size: int, sites: int = SITES) -> Grid:
    return Grid.fitting(CLIP, MASTERS * CLIP, NOISE, size, sites)


@given(st.integers(1, 300), st.integers(0, 2**31), st.floats(0.0, 1.0), st.sampled_from([0.1, 1.0, 1e4]))
def test_two_sums_a_clip_apart_are_released_no_further_apart_than_the_sensitivity(
    size: int, seed: int, part: float, loud: float
) -> None:
    rng = np.random.default_rng(seed)
    total, step = rng.normal(size=size) * loud, rng.normal(size=size)
    other = total + step / np.linalg.norm(step) * CLIP * part
    on_grid = grid(size)
    one, two = (on_grid.released(values, Tape(seed)) for values in (total, other))
    assert np.linalg.norm(one - two) <= on_grid.sensitivity


@given(st.integers(1, 10_000), st.sampled_from([1, 10, 75, 500]))
def test_the_sum_of_all_sites_at_the_edge_of_the_box_fits_with_seven_deviations_of_its_noise(
    size: int, sites: int
) -> None:
    on_grid = grid(size, sites)
    deviation = on_grid.noise_multiplier * on_grid.sensitivity
    most = sites * (on_grid.scale * on_grid.box + 1) + 7 * sqrt(sites) * deviation
    assert most == pytest.approx(2**31 - 1, rel=1e-9)


def test_rounding_is_right_on_average_and_off_by_less_than_a_step() -> None:
    on_grid = grid(4)
    total = np.array([0.3, -0.2, 0.25, 0.0]) / on_grid.scale
    steps = np.stack([on_grid.released(total, Tape(seed)) for seed in range(2000)])
    assert set(np.unique(steps)) <= {-1, 0, 1}
    np.testing.assert_allclose(steps.mean(axis=0), total * on_grid.scale, atol=5 * 0.5 / sqrt(2000))


def test_what_leaves_the_box_is_cut_and_what_comes_back_is_what_went_in() -> None:
    on_grid = grid(3)
    total = np.array([0.7, -0.9, 100.0])
    found = on_grid.value(on_grid.released(total, Tape(0)))
    np.testing.assert_allclose(found, [0.7, -0.9, on_grid.box], atol=1 / on_grid.scale)


def test_the_noise_is_the_multiple_of_the_sensitivity_that_was_priced() -> None:
    on_grid = grid(20_000)
    noise = on_grid.released(np.zeros(20_000), SecureRandom())
    assert noise.dtype == np.int64
    assert noise.std() == pytest.approx(NOISE * on_grid.sensitivity, rel=5 / sqrt(2 * 20_000))
    assert on_grid.sensitivity < 1.01 * on_grid.scale * CLIP


def test_without_noise_of_its_own_a_grid_rounds_and_nothing_else() -> None:
    bare = Grid.fitting(CLIP, CLIP, 0.0, 4, SITES)
    total = np.array([0.1, -0.2, np.nan, np.inf])
    steps = bare.released(total, Tape(0))
    np.testing.assert_allclose(bare.value(steps), [0.1, -0.2, 0.0, CLIP], atol=1 / bare.scale)


def test_a_grid_that_is_too_coarse_says_how_many_values_or_sites_would_not_be_too_many() -> None:
    size, sites = 100_000_000, 500
    with pytest.raises(PrivacyError, match="JG-privacy-017") as refused:
        grid(size, sites)
    values = refused.value.coded.values
    assert values["steps"] < values["least"] == 100 * sqrt(size)
    for fewer in ((values["most_size"], sites), (size, values["most_sites"])):
        on_grid = grid(*fewer)
        assert on_grid.scale * CLIP >= 100 * sqrt(fewer[0])
        with pytest.raises(PrivacyError, match="JG-privacy-017"):
            grid(fewer[0] + (fewer[0] != size), fewer[1] + (fewer[1] != sites))


def test_a_grid_on_which_rounding_would_cost_more_than_a_hundredth_is_refused() -> None:
    grid(100_000_000, sites=10)
    with pytest.raises(PrivacyError, match="JG-privacy-017"):
        grid(100_000_000, sites=500)
