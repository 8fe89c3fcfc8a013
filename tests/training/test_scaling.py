"""Scaling: public ranges, learnt moments, and the way back."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from jangin.models.tasks import Task
from jangin.privacy.moments import moment_clip
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import GaussianRelease
from jangin.records.examples import Examples, PublicRange
from jangin.training.scaling import Scaling

INPUTS = PublicRange(np.array([0.0, -4.0, 100.0]), np.array([2.0, 4.0, 200.0]))
TARGETS = PublicRange(np.array([10.0]), np.array([50.0]))


@pytest.fixture
def measured() -> Examples:
    rng = np.random.default_rng(0)
    inputs = rng.uniform(INPUTS.low, INPUTS.high, (40, 3)).astype(np.float32)
    return Examples(inputs, rng.uniform(10, 50, (40, 1)).astype(np.float32), np.arange(40))


def test_public_ranges_become_minus_one_to_one_and_clip() -> None:
    corners = np.array([INPUTS.low, INPUTS.high, (INPUTS.low + INPUTS.high) / 2, INPUTS.low - 1e6, INPUTS.high + 1e6])
    targets = np.array([[10.0], [50.0], [30.0], [-1e6], [1e6]])
    rows = Examples(corners.astype(np.float32), targets.astype(np.float32), np.arange(5))
    inputs, scaled = Scaling.public(rows, Task.REGRESSION, INPUTS, TARGETS, True).apply(rows)
    expected = torch.tensor([-1.0, 1.0, 0.0, -1.0, 1.0])
    assert torch.equal(inputs, expected[:, None].expand(5, 3))
    assert torch.equal(scaled, expected[:, None])
    assert inputs.dtype == scaled.dtype == torch.float32


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("targets", [TARGETS, None])
def test_restore_undoes_apply_on_targets(measured: Examples, learned: bool, targets: PublicRange | None) -> None:
    scaling = Scaling.public(measured, Task.REGRESSION, INPUTS, targets, False)
    if learned:
        scaling = scaling.learned(scaling.moments(measured, None, None))
    _, scaled = scaling.apply(measured)
    np.testing.assert_allclose(scaling.restore(scaled.numpy()), measured.targets, rtol=1e-5)


@pytest.mark.parametrize("inputs", [INPUTS, None])
def test_what_was_learnt_standardises_inputs_and_targets(measured: Examples, inputs: PublicRange | None) -> None:
    scaling = Scaling.public(measured, Task.REGRESSION, inputs, None, False)
    halves = [measured[measured.units < 10], measured[measured.units >= 10]]
    total = sum(scaling.moments(half, None, None) for half in halves)
    columns = torch.cat(scaling.learned(total).apply(measured), dim=1)
    np.testing.assert_allclose(columns.mean(dim=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(columns.std(dim=0, correction=0), 1.0, rtol=1e-5)


def windows_and_rows(private: bool) -> list[tuple[Examples, Scaling]]:
    """The same windows of three channels as they are, beside one another in flat rows, and with two steps a channel."""
    rng = np.random.default_rng(1)
    windows = rng.uniform(INPUTS.low[:, None], INPUTS.high[:, None], (30, 3, 8)).astype(np.float32)
    targets, units = rng.uniform(10, 50, (30, 1)).astype(np.float32), np.repeat(np.arange(10), 3)
    made = []
    for shape, places in (((3, 8), None), ((24,), [8, 8, 8]), ((6, 4), [2, 2, 2])):
        examples = Examples(windows.reshape(30, *shape), targets, units)
        limits = PublicRange(INPUTS.low, INPUTS.high, None if places is None else np.array(places))
        made.append((examples, Scaling.public(examples, Task.REGRESSION, limits, TARGETS, private)))
    return made


@pytest.mark.parametrize("private", [True, False])
def test_a_channel_is_scaled_alike_wherever_its_samples_stand(private: bool) -> None:
    release, found = GaussianRelease(0.5, 1.0, 1) if private else None, []
    for examples, scaling in windows_and_rows(private):
        total = scaling.clipped_moments(examples) if private else scaling.moments(examples, release, None)
        inputs, targets = scaling.learned(total).apply(examples)
        found.append((total, inputs.reshape(30, 24), targets))
    for total, inputs, targets in found[1:]:
        assert total.shape == (1 + 2 * 4,)
        np.testing.assert_allclose(total, found[0][0], rtol=1e-12)
        np.testing.assert_allclose(inputs, found[0][1], rtol=1e-5, atol=1e-6)
        assert torch.equal(targets, found[0][2])


class Ones(SecureRandom):
    """A deviation in every value."""

    def gaussian(self, count: int) -> np.ndarray:
        return np.ones(count)


def test_places_cost_a_release_no_more_than_their_column() -> None:
    """One unit moves the sum by at most `moment_clip` of the columns, and that is what the noise is for."""
    release = GaussianRelease(2.0, 1.0, 1)
    for examples, scaling in windows_and_rows(True):
        noise = scaling.moments(examples, release, Ones()) - scaling.clipped_moments(examples)
        np.testing.assert_allclose(noise, 2.0 * moment_clip(4))
        without = scaling.clipped_moments(examples[examples.units != 4])
        assert np.linalg.norm(scaling.clipped_moments(examples) - without) <= moment_clip(4) * (1 + 1e-9)


def test_what_is_written_of_a_scaling_tells_its_places() -> None:
    (_, plain), (_, flat), _ = windows_and_rows(True)
    assert "places" not in plain.as_dict()
    assert flat.as_dict()["places"] == [8, 8, 8]


@pytest.mark.parametrize("shape", [(3, 7), (3, 4, 5)])
def test_inputs_over_time_are_scaled_by_channel(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    wide = (1, 3) + (1,) * (len(shape) - 1)
    inputs = rng.uniform(INPUTS.low.reshape(wide), INPUTS.high.reshape(wide), (30, *shape)).astype(np.float32)
    rows = Examples(inputs, rng.uniform(10, 50, (30, 1)).astype(np.float32), np.arange(30))
    scaling = Scaling.public(rows, Task.REGRESSION, INPUTS, TARGETS, True)
    mapped, _ = scaling.apply(rows)
    assert mapped.shape == inputs.shape
    by_channel = [
        scaling.apply(Examples(inputs.reshape(30, 3, -1)[:, :, i], rows.targets, rows.units))[0] for i in (0, 5)
    ]
    assert torch.equal(mapped.flatten(2)[:, :, 0], by_channel[0])
    assert torch.equal(mapped.flatten(2)[:, :, 5], by_channel[1])
    learned, targets = scaling.learned(scaling.moments(rows, None, None)).apply(rows)
    axes = (0, *range(2, learned.ndim))
    np.testing.assert_allclose(learned.mean(dim=axes), 0.0, atol=1e-5)
    np.testing.assert_allclose(learned.std(dim=axes, correction=0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(targets.std(correction=0), 1.0, rtol=1e-5)


def test_a_signal_around_zero_keeps_the_size_of_its_samples() -> None:
    wave = np.sin(np.linspace(0, 8 * np.pi, 64, endpoint=False)) * np.array([1, 0.9])[:, None, None]
    rows = Examples(wave.astype(np.float32), np.zeros(2, np.int64), np.arange(2))
    scaling = Scaling.public(rows, Task.BINARY, None, None, False)
    inputs, _ = scaling.learned(scaling.moments(rows, None, None)).apply(rows)
    assert inputs.abs().max() < 2


def test_private_features_without_a_range_are_taken_as_they_come_within_ten(measured: Examples) -> None:
    rows = Examples(
        np.array([[0.5, -3.0, 9.9], [11.0, -1e9, 150.0]], np.float32), measured.targets[:2], measured.units[:2]
    )
    inputs, _ = Scaling.public(rows, Task.REGRESSION, None, TARGETS, True).apply(rows)
    torch.testing.assert_close(inputs, torch.tensor([[0.5, -3.0, 9.9], [10.0, -10.0, 10.0]]))
    freely, _ = Scaling.public(rows, Task.REGRESSION, None, TARGETS, False).apply(rows)
    assert torch.equal(freely, torch.from_numpy(rows.inputs))


def test_public_scaling_reads_nothing_off_the_examples(measured: Examples) -> None:
    other = Examples(measured.inputs * 100, measured.targets - 7, measured.units)
    one, two = (Scaling.public(rows, Task.REGRESSION, None, TARGETS, True) for rows in (measured, other))
    for name in ("center", "radius", "mean", "deviation"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_classes_pass_unscaled_and_predictions_unrestored(measured: Examples) -> None:
    rows = Examples(measured.inputs, np.arange(40) % 2, measured.units)
    scaling = Scaling.public(rows, Task.BINARY, INPUTS, TARGETS, True)
    assert scaling.moments(rows, None, None).shape == (1 + 2 * 3,)
    _, targets = scaling.apply(rows)
    assert targets.dtype == torch.int64
    assert targets.tolist() == rows.targets.tolist()
    shares = np.array([0.1, 0.9], np.float32)
    assert scaling.restore(shares) is shares


def test_private_moments_are_bounded_and_noised(measured: Examples) -> None:
    scaling = Scaling.public(measured, Task.REGRESSION, None, TARGETS, True)
    wild = Examples(measured.inputs * 1e6, measured.targets * 1e6, np.zeros(40, np.int64))
    assert np.linalg.norm(scaling.moments(wild, None, None)) <= moment_clip(4)
    release = GaussianRelease(5.0, 1.0, 1)
    noise = np.stack([scaling.moments(wild, release, SecureRandom()) for _ in range(300)])
    assert noise.std(axis=0) == pytest.approx(np.full(9, 5.0 * moment_clip(4)), rel=0.25)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_broken_value_stays_in_its_own_row(measured: Examples, broken: float) -> None:
    inputs = measured.inputs.copy()
    inputs[3, 1] = broken
    scaling = Scaling.public(measured, Task.REGRESSION, INPUTS, TARGETS, True)
    clean, _ = scaling.apply(measured)
    mapped, _ = scaling.apply(Examples(inputs, measured.targets, measured.units))
    others = torch.arange(40) != 3
    assert torch.equal(mapped[others], clean[others])


def test_one_scaling_serves_every_site(examples: Callable[..., Examples]) -> None:
    first, second = examples(12, seed=1), examples(30, seed=2)
    scaling = Scaling.public(first, Task.REGRESSION, None, None, False)
    one = scaling.learned(scaling.moments(first, None, None) + scaling.moments(second, None, None))
    joined = Examples(
        *(np.concatenate([getattr(first, n), getattr(second, n)]) for n in ("inputs", "targets")),
        np.concatenate([first.units, second.units + 100]),
    )
    pooled = scaling.learned(scaling.moments(joined, None, None))
    np.testing.assert_allclose(one.mean, pooled.mean)
    np.testing.assert_allclose(one.deviation, pooled.deviation)
