"""Masters as units, in simulation: many of them are hidden and still teach, a factory's few are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jangin import simulate
from jangin.errors import PlanError, PrivacyError
from jangin.privacy.randomness import SecureRandom

Write = Callable[..., Path]

MASTERS: dict[str, Any] = {
    "strategy.rounds": 10,
    "strategy.lr": 0.1,
    "strategy.server_lr": 4,
    "privacy.unit": "master",
    "privacy.mechanism": "M3",
    "privacy.epsilon": 8,
    "privacy.clip": 0.1,
    "privacy.scaling_share": 0,
    "data.x_range": [-8, 8],
    "data.y_range": [-16, 16],
    "baselines": ["constant"],
    "metric": "mae",
}


def craft(sites: int, masters: int, episodes: int = 4) -> dict[str, np.ndarray]:
    """Sites of `masters` masters who train and one held out; each has a habit of his own."""
    rng = np.random.default_rng(3)
    everybody = sites * (masters + 1)
    unit = np.repeat(np.arange(everybody), episodes)
    inputs = rng.uniform(-8, 8, (len(unit), 3))
    targets = inputs @ [1.0, -0.6, 0.3] + rng.normal(size=everybody)[unit] * 0.5
    silo = unit // (masters + 1)
    split = (unit % (masters + 1) == masters).astype(np.int64)
    return {"X": inputs.astype(np.float32), "y": targets.astype(np.float32), "silo": silo, "unit": unit, "split": split}


@pytest.mark.no_cover
def test_three_hundred_masters_are_hidden_at_epsilon_8_and_their_model_beats_the_mean(write: Write) -> None:
    result = simulate(write(craft(60, 5), MASTERS))
    assert result.metric["federated"] < 0.5 * result.metric["constant"]
    promise = result.privacy
    assert not isinstance(promise, str)
    assert (promise["unit"], promise["mechanism"], promise["c_max"]) == ("master", "M3", 3)
    assert promise["epsilon"] <= 8 < promise["epsilon_coalition"] <= 50
    assert "JG-privacy-018" in {warning.code for warning in result.warnings}
    assert all(str(warning) for warning in result.warnings)


def test_one_site_of_ten_masters_is_refused_with_figures_and_reason(write: Write) -> None:
    file = write(craft(1, 10), MASTERS)
    with pytest.raises(PrivacyError) as refused:
        simulate(file)
    assert refused.value.code == "JG-privacy-016"
    values = refused.value.coded.values
    assert (values["masters"], values["sites"]) == (10, 1)
    assert values["ratio"] > values["limit"]
    assert "Hiding a whole master" in refused.value.coded.text("why")
    assert simulate(file, accept_noise=True).privacy["mechanism"] == "M3"


def test_noise_shared_among_more_sites_than_there_are_is_refused(write: Write) -> None:
    file = write(craft(3, 2), MASTERS | {"privacy.n_plan": 4})
    with pytest.raises(PlanError, match=r"JG-plan-034 privacy\.n_plan: .*fewer than 4 sites, and 3 can be"):
        simulate(file, accept_noise=True)


def test_engines_agree_on_everything_but_noise(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecureRandom, "gaussian", lambda self, count: np.zeros(count))
    monkeypatch.setattr(SecureRandom, "uniform", lambda self, count: np.full(count, 0.5))
    file = write(craft(3, 2), MASTERS | {"strategy.rounds": 3, "privacy.scaling_share": 0.2})
    one, other = (simulate(file, engine=engine, accept_noise=True) for engine in ("sequential", "flower"))
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-6)


def test_without_an_epsilon_m3_promises_nothing(write: Write) -> None:
    result = simulate(write(craft(3, 2), MASTERS | {"privacy.epsilon": "none"}))
    assert result.privacy == "NO DIFFERENTIAL PRIVACY"


def test_a_part_that_stays_at_the_site_is_refused(write: Write) -> None:
    model = {"name": "mlp", "hidden": [4], "personal": ["head"]}
    with pytest.raises(PlanError, match="JG-plan-026"):
        simulate(write(craft(3, 2), MASTERS | {"model": model}), accept_noise=True)
