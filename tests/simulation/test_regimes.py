"""Steelworks in different regimes: what a federation is for."""

from importlib.resources import files

import pytest

from jangin import simulate

FILE = files("jangin.configs") / "simulations" / "steel-bof-blow-twenty.yaml"


@pytest.mark.soak
@pytest.mark.parametrize("privacy", [{"privacy.epsilon": "none", "strategy.lr": 0.02, "data.episodes": 200}, {}])
def test_twenty_works_know_all_regimes_nearly_as_well_as_their_pooled_records_and_twice_as_well_as_one(
    privacy: dict[str, object],
) -> None:
    union = simulate(FILE, sets={"baselines": ["local", "pooled"], **privacy}).union
    assert union["federated"] <= 1.15 * union["pooled"]
    assert union["federated"] <= 0.5 * union["local"]
