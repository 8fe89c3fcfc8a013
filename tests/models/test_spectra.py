"""Laws of spectra and pictures: power and brightness are shared out, neither lost nor counted twice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.models.spectra import averaged_down, band_levels

RATE = 1000.0
BANDS = {"bands": 8, "frames": 3, "low_hz": 20.0, "high_hz": 500.0, "floor_db": -120.0}


def sine(hz: float, high: float = 1.0, seconds: float = 1.0) -> np.ndarray:
    return high * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


def powers(levels: np.ndarray) -> np.ndarray:
    """Mean squares of what bands hold, (frames,), summed over them."""
    return (10 ** (levels / 10) / 2).sum(axis=-2)


@pytest.mark.parametrize("hz", [30.0, 77.7, 200.0, 440.0])
def test_a_sine_of_full_scale_is_at_zero_and_in_its_band(hz: float) -> None:
    edges = 20.0 * 25.0 ** (np.arange(9) / 8)
    levels = band_levels(sine(hz), RATE, **BANDS)
    assert levels.shape == (8, 3)
    assert (levels.argmax(axis=0) == np.searchsorted(edges, hz) - 1).all()
    assert 10 * np.log10(2 * powers(levels)) == pytest.approx(0, abs=0.02)


def test_half_the_amplitude_is_six_decibels_less() -> None:
    loud, soft = (band_levels(sine(150, high), RATE, **BANDS).max() for high in (0.5, 0.25))
    assert loud - soft == pytest.approx(20 * np.log10(2))


@given(st.integers(1, 40), st.integers(1, 12), st.integers(64, 700))
def test_bands_from_nothing_to_half_the_rate_hold_all_power(bands: int, frames: int, samples: int) -> None:
    noise = np.random.default_rng(3).normal(size=(2, samples)) * 0.01
    length = 2 * samples // (frames + 1)
    low = 1e-6  # below it there is nothing of a bin
    levels = band_levels(noise, RATE, bands, frames, low, RATE / 2, -200.0)
    assert levels.shape == (2, bands, frames)
    starts = np.arange(frames) * (samples - length) // max(1, frames - 1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    for start, power in zip(starts, powers(levels).T, strict=True):
        heard = ((hann * noise[:, start : start + length]) ** 2).sum(axis=1) / (hann**2).sum()
        assert power == pytest.approx(heard, rel=1e-6)


def test_silence_is_at_the_floor_and_nothing_is_above_zero() -> None:
    assert (band_levels(np.zeros(600), RATE, **BANDS) == -120).all()
    square = np.sign(sine(120))
    assert band_levels(square, RATE, **BANDS).max() == 0


def test_a_sound_shows_when_it_was_heard() -> None:
    late = np.concatenate([np.zeros(900), sine(200, seconds=0.3)])
    levels = band_levels(late, RATE, 4, 5, 50, 400, -100)
    assert levels.max(axis=0)[:3] == pytest.approx(-100)
    assert levels.max(axis=0)[-1] > -3


def test_what_is_above_half_the_rate_is_not_there() -> None:
    levels = band_levels(sine(200), RATE, 2, 1, 500, 2000, -90)
    assert (levels == -90).all()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5))
def test_averaging_down_keeps_the_mean(h: int, w: int, up: int, across: int) -> None:
    height, width = max(1, h - up), max(1, w - across)
    pictures = np.random.default_rng(0).uniform(size=(2, 3, h, w)).astype(np.float32)
    small = averaged_down(pictures, height, width)
    assert (small.shape, small.dtype) == ((2, 3, height, width), np.float32)
    assert small.mean(axis=(2, 3)) == pytest.approx(pictures.mean(axis=(2, 3)), abs=1e-6)
    assert small.min() >= pictures.min() - 1e-6
    assert small.max() <= pictures.max() + 1e-6


def test_a_pixel_is_the_mean_of_the_area_that_it_covers() -> None:
    pictures = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert averaged_down(pictures, 2, 3) == pytest.approx(pictures.reshape(2, 2, 3, 2).mean(axis=(1, 3)))
    assert averaged_down(np.float32([[0, 3, 6]]), 1, 2) == pytest.approx(np.array([[1, 5]]))
    assert averaged_down(pictures, 4, 6) is pictures
