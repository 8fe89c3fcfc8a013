"""Laws of a lag: what was put in is found again, and nothing is found where nothing is."""

from pathlib import Path

import numpy as np
import pytest
import three_clocks
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from jangin.errors import DataError
from jangin.records.as_is import as_it_is
from jangin.records.card import Card
from jangin.records.lag import Lag, Signal, lag_between, lag_of, moved

RATE = 100.0


def smooth(random: np.random.Generator, width: int) -> np.ndarray:
    values = np.convolve(random.normal(size=3000), np.hanning(2 * width + 1), "same")
    return values / values.std()


@settings(max_examples=15, deadline=None)
@given(lag=st.floats(-1, 1), sign=st.sampled_from([-1, 1]), noise=st.floats(0, 1), seed=st.integers(0, 999))
def test_a_lag_is_found_to_a_fraction_of_a_sample_at_two_rates_either_sign_and_through_noise(
    lag: float, sign: int, noise: float, seed: int
) -> None:
    random, whole = np.random.default_rng(seed), np.arange(3000) / RATE - 10
    pairs = []
    for _ in range(4):
        values, t, u = smooth(random, 5), np.arange(600) / RATE, np.arange(1200) / (2 * RATE)
        first = np.interp(t, whole, values) + noise * random.normal(size=len(t))
        second = sign * 7 * (np.interp(u - lag, whole, values) + noise * random.normal(size=len(u)))
        pairs.append((Signal(t, first), Signal(u, second)))
    found = lag_between(iter(pairs), 2 * RATE)
    assert found.seconds == pytest.approx(lag, abs=0.01)
    assert np.sign(found.correlation) == sign
    assert (found.episodes, found.grid_s) == (4, 1 / (2 * RATE))


def refused(pairs: list[tuple[Signal, Signal]]) -> str:
    with pytest.raises(DataError) as error:
        lag_between(iter(pairs), RATE)
    return error.value.code


@pytest.mark.parametrize("memory", [0.0, 0.9, 0.99])
def test_unrelated_signals_however_smooth_have_no_lag(memory: float) -> None:
    random, t = np.random.default_rng(int(100 * memory)), np.arange(600) / RATE
    for _ in range(20):
        first, second = (lfilter([1], [1, -memory], random.normal(size=(8, 1100)))[:, 500:] for _ in range(2))
        assert refused([(Signal(t, x), Signal(t, y)) for x, y in zip(first, second, strict=True)]) == "JG-data-180"


def test_what_repeats_has_many_lags_and_so_none() -> None:
    t = np.arange(600) / RATE
    wave, late = np.sin(4 * np.pi * t), np.sin(4 * np.pi * (t - 0.12))
    assert refused([(Signal(t, wave), Signal(t, late))]) == "JG-data-180"


@pytest.mark.parametrize("x", [np.ones(600), np.arange(3.0), np.empty(0)])
def test_what_stands_still_or_lacks_is_compared_with_nothing(x: np.ndarray) -> None:
    signal = Signal(np.arange(len(x)) / RATE, x)
    wave = Signal(np.arange(600) / RATE, np.random.default_rng(0).normal(size=600))
    assert refused([(wave, signal)]) == refused([(signal, wave)]) == "JG-data-181"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return three_clocks.write(tmp_path_factory.mktemp("clocks") / "records", 8, arc_late=0.37, frames_late=-0.2)


def test_loudness_brightness_and_a_channel_are_brought_to_one_clock(folder: Path, tmp_path: Path) -> None:
    view, _ = as_it_is(folder)

    def lag(reference: str, late: str, folder: Path = folder) -> Lag:
        return lag_of(as_it_is(folder)[0], reference, late)

    assert lag("sound", "arc.current").seconds == pytest.approx(0.37, abs=0.005)
    assert lag("sound.microphone", "pool").seconds == pytest.approx(-0.2, abs=0.025)
    assert lag("pool", "arc.current").seconds == pytest.approx(0.57, abs=0.025)
    found = lag("sound", "arc.current")
    moved(folder, tmp_path / "new", view.card, "arc.current", found.seconds)
    assert lag("sound", "arc.current", tmp_path / "new").seconds == pytest.approx(0, abs=1e-3)
    before, after = (as_it_is(one)[0].stream("arc") for one in (folder, tmp_path / "new"))
    assert after.drop_columns("t") == before.drop_columns("t")
    np.testing.assert_allclose(after["t"].to_numpy(), before["t"].to_numpy() - found.seconds)
    same = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    new = {path.relative_to(tmp_path / "new"): path.read_bytes() for path in (tmp_path / "new").rglob("*.*")}
    assert {name for name in same if same[name] != new[name]} == {Path("streams/arc/part-000.parquet")}


@pytest.mark.parametrize(
    ("reference", "late", "code"),
    [
        ("sound", "spark", "JG-data-008"),
        ("sound", "arc", "JG-data-184"),
        ("sound", "arc.curent", "JG-data-184"),
        ("arc.voltage", "arc.current", "JG-data-183"),
        ("sound", "arc.voltage", "JG-data-181"),
    ],
)
def test_a_name_that_means_no_signal_has_a_code(folder: Path, reference: str, late: str, code: str) -> None:
    with pytest.raises(DataError) as error:
        lag_of(as_it_is(folder)[0], reference, late)
    assert error.value.code == code


def test_media_have_no_times_that_could_move(folder: Path, tmp_path: Path) -> None:
    card: Card = as_it_is(folder)[0].card
    with pytest.raises(DataError) as error:
        moved(folder, tmp_path / "new", card, "sound", 0.1)
    assert (error.value.code, list(tmp_path.iterdir())) == ("JG-data-182", [])
