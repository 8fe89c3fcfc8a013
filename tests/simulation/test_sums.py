"""Laws of simulated secure sums: the same machines as in the field, and a sum that loses nothing but rounding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jangin import simulate
from jangin.errors import PlanError
from jangin.privacy.secure_sum.server import ServerSum
from jangin.privacy.secure_sum.site import SiteSum

Write = Callable[..., Path]
Rows = Callable[..., dict[str, np.ndarray]]

SIZES = (40, 48, 56, 30, 44)
RANGES = {"data.x_range": [-8, 8], "data.y_range": [-40, 40]}
REQUIRED = {"privacy.secure_aggregation": "required", "privacy.c_max": 1}
WIDE = {"model": {"name": "mlp", "hidden": [8]}}  # of so many parameters some are rounded otherwise


@pytest.fixture
def file(write: Write, rows: Rows) -> Path:
    return write(rows("regression", sizes=SIZES), RANGES)


@pytest.mark.parametrize("engine", ["sequential", "flower"])
def test_a_secure_sum_gives_the_model_of_a_plain_one(file: Path, engine: str) -> None:
    plain, secure = (simulate(file, engine=engine, sets=WIDE | more).parameters for more in ({}, REQUIRED))
    assert 0 < np.linalg.norm(plain - secure) <= 5e-5 * np.linalg.norm(plain)


def test_a_secure_sum_is_all_that_control_variates_need(file: Path) -> None:
    sets = WIDE | {"strategy.name": "scaffold"}
    plain, secure = (simulate(file, sets=sets | more).parameters for more in ({}, REQUIRED))
    assert 0 < np.linalg.norm(plain - secure) <= 5e-5 * np.linalg.norm(plain)


@pytest.mark.parametrize("engine", ["sequential", "flower"])
def test_every_round_and_the_scaling_are_sums_of_masked_vectors(
    file: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, list[Any]] = {}
    released: dict[int, list[Any]] = {}
    received, advertised = ServerSum.receive, SiteSum.advertise

    def receive(self: ServerSum, site: str, body: bytes, vector: Any = None) -> None:
        if vector is not None:
            seen.setdefault(self.manifest.round, []).append(vector)
        received(self, site, body, vector)

    def advertise(self: SiteSum, steps: Any) -> Any:
        released.setdefault(self.manifest.round, []).append(steps.copy())
        return advertised(self, steps)

    monkeypatch.setattr(ServerSum, "receive", receive)
    monkeypatch.setattr(SiteSum, "advertise", advertise)
    simulate(file, engine=engine, sets=REQUIRED)
    assert sorted(seen) == sorted(released) == [0, 1, 2, 3]
    for number, vectors in seen.items():
        assert len(vectors) == len(SIZES)
        assert not any(np.array_equal(vector, steps) for vector in vectors for steps in released[number])


@pytest.mark.parametrize("mechanism", ["M1", "M2"])
def test_a_private_campaign_runs_as_secure_sums(file: Path, private: dict[str, Any], mechanism: str) -> None:
    sets = private | REQUIRED | {"privacy.scaling_share": 0.2, "privacy.mechanism": mechanism}
    if mechanism == "M2":
        sets |= {"strategy.local_steps": 1, "privacy.delta": 1e-4}
    result = simulate(file, sets=sets, accept_noise=True)
    assert result.privacy["mechanism"] == mechanism
    assert result.privacy["epsilon"] <= 8
    assert "JG-privacy-018" not in {warning.code for warning in result.warnings}


def test_so_few_sites_that_a_sum_would_show_them_are_refused(write: Write) -> None:
    with pytest.raises(PlanError, match=r"JG-plan-033 .*3.*4"):
        simulate(write(sets=RANGES), sets=REQUIRED)
