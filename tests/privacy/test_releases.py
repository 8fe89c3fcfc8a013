"""Releases are frozen values inside their bounds."""

from dataclasses import FrozenInstanceError
from math import nan

import pytest

from jangin.errors import PrivacyError
from jangin.privacy.releases import GaussianRelease


@pytest.mark.parametrize(
    ("noise", "probability", "count", "bound"),
    [
        (0.0, 0.5, 1, "noise_multiplier > 0"),
        (-1.0, 0.5, 1, "noise_multiplier > 0"),
        (nan, 0.5, 1, "noise_multiplier > 0"),
        (1.0, 0.0, 1, "0 < sampling_probability <= 1"),
        (1.0, 1.0001, 1, "0 < sampling_probability <= 1"),
        (1.0, nan, 1, "0 < sampling_probability <= 1"),
        (1.0, 0.5, 0, "count >= 1"),
    ],
)
def test_a_release_outside_its_bounds_is_refused_with_bound_and_value(
    noise: float, probability: float, count: int, bound: str
) -> None:
    with pytest.raises(PrivacyError) as refused:
        GaussianRelease(noise, probability, count)
    assert refused.value.code == "JG-privacy-001"
    assert bound in str(refused.value)
    assert f"noise_multiplier={noise!r}" in str(refused.value)


def test_the_ends_of_the_bounds_belong_to_them() -> None:
    assert GaussianRelease(1e-9, 1.0, 1) == GaussianRelease(1e-9, 1.0, 1)


def test_what_was_promised_does_not_change() -> None:
    release = GaussianRelease(1.0, 0.5, 1)
    with pytest.raises(FrozenInstanceError):
        release.noise_multiplier = 0.5  # type: ignore[misc]
