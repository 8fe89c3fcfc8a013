"""Shared noise at unit episode, in simulation: sites that share it learn what none could with the whole of it each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jangin import simulate
from jangin.errors import PlanError, PrivacyError
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.recount import Verdict, recount

Write = Callable[..., Path]

SHARED: dict[str, Any] = {
    "strategy.rounds": 30,
    "strategy.local_steps": 1,
    "strategy.batch": 20,
    "strategy.lr": 0.5,
    "privacy.mechanism": "M2",
    "privacy.epsilon": 1,
    "privacy.delta": 1e-5,
    "privacy.nominal_units": 20,
    "privacy.scaling_share": 0,
    "data.x_range": [-8, 8],
    "data.y_range": [-16, 16],
    "baselines": ["constant"],
    "metric": "mae",
}


def works(sites: int, units: int = 20) -> dict[str, np.ndarray]:
    """Sites of `units` units who train and four held out, one example each."""
    rng = np.random.default_rng(3)
    silo = np.repeat(np.arange(sites), units + 4)
    inputs = rng.uniform(-8, 8, (len(silo), 3))
    targets = inputs @ [1.0, -0.6, 0.3] + 0.1 * rng.normal(size=len(silo))
    split = (np.arange(len(silo)) % (units + 4) >= units).astype(np.int64)
    unit = np.arange(len(silo))
    return {"X": inputs.astype(np.float32), "y": targets.astype(np.float32), "silo": silo, "unit": unit, "split": split}


def test_twenty_sites_that_share_noise_learn_at_epsilon_1_and_say_both_figures(write: Write, tmp_path: Path) -> None:
    result = simulate(write(works(20), SHARED), out=tmp_path / "run")
    assert result.metric["federated"] < 0.5 * result.metric["constant"]
    promise = result.privacy
    assert not isinstance(promise, str)
    assert (promise["unit"], promise["mechanism"]) == ("episode", "M2")
    assert (promise["n_plan"], promise["c_max"], promise["honest_shares"]) == (20, 3, 11)
    assert promise["epsilon"] <= 1 < promise["epsilon_coalition"] <= 50
    (said,) = [warning for warning in result.warnings if warning.code == "JG-privacy-018"]
    assert "nobody masks" in str(said)
    assert recount((tmp_path / "run" / "statement.json").read_bytes()).verdict is Verdict.HOLDS


def test_engines_agree_on_everything_but_noise(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecureRandom, "gaussian", lambda self, count: np.zeros(count))
    monkeypatch.setattr(SecureRandom, "uniform", lambda self, count: np.full(count, 0.5))
    file = write(works(4), SHARED | {"strategy.rounds": 3, "privacy.scaling_share": 0.2, "privacy.c_max": 1})
    one, other = (simulate(file, engine=engine, accept_noise=True) for engine in ("sequential", "flower"))
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-6)
    assert not np.array_equal(one.parameters, np.zeros_like(one.parameters))


def test_sums_of_m1_and_of_no_privacy_are_what_their_updates_add_up_to(write: Write) -> None:
    """Rounded to the ring, and nothing else: a simulation with sums ends where one without them does."""
    clear = {"strategy.rounds": 5, "strategy.batch": 8, "data.x_range": [-8, 8], "data.y_range": [-16, 16]}
    bare = simulate(write(works(12), clear))
    summed = simulate(write(works(12), clear | {"privacy.secure_aggregation": "required"}))
    np.testing.assert_allclose(summed.parameters, bare.parameters, atol=1e-4)
    private = SHARED | {"privacy.mechanism": "M1", "privacy.secure_aggregation": "required", "privacy.epsilon": 8}
    result = simulate(write(works(12), private), accept_noise=True)
    assert result.metric["federated"] < result.metric["constant"]


def test_noise_shared_among_more_sites_than_there_are_is_refused(write: Write) -> None:
    with pytest.raises(PlanError, match=r"JG-plan-034 privacy\.n_plan"):
        simulate(write(works(4), SHARED | {"privacy.n_plan": 5}), accept_noise=True)


def test_a_plan_of_noise_is_refused(write: Write) -> None:
    with pytest.raises(PrivacyError, match="JG-privacy-005"):
        simulate(write(works(4), SHARED | {"privacy.epsilon": 0.01}))


def test_a_part_that_stays_at_the_site_is_refused(write: Write) -> None:
    model = {"name": "mlp", "hidden": [4], "personal": ["head"]}
    with pytest.raises(PlanError, match=r"JG-plan-026 model\.personal: mechanism M2"):
        simulate(write(works(4), SHARED | {"model": model}), accept_noise=True)
