"""Laws of the plan that a simulation becomes: it is what the demo runs, and it trains the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jangin import simulate
from jangin.errors import PlanError
from jangin.plan.training_plan import TrainingPlan
from jangin.simulation import demo
from jangin.simulation.campaign import draft

Write = Callable[..., Path]
PURPOSES = {"governance.purposes": ["safety"]}


@pytest.fixture
def of_records(write: Write, blows: list[Path]) -> Callable[..., Path]:
    """A simulation of two sites' records, with these keys of the privacy block."""

    def of_records(**privacy: Any) -> Path:
        data = {"records": [str(folder) for folder in blows], "model_line": "national-bof-blow"}
        return write(sets={"data": data, "strategy.lr": 0.01, "privacy": privacy, "seed": 3})

    return of_records


def test_a_draft_is_the_plan_of_the_demo_but_for_what_people_decide(
    of_records: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, plans = of_records(nominal_units=20), []

    def broken_off(folder: Path, records: object, plan: TrainingPlan, *_: object) -> None:
        plans.append(plan)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run_on_loopback", broken_off)
    with pytest.raises(KeyboardInterrupt):
        demo.run_demo("", sites=None, rounds=None, keep=None, progress=lambda *_: None, file=file)
    drafted, demonstrated = (plan.model_dump() for plan in (draft(file, [], {}), plans[0]))
    decided = {"campaign", "governance"}
    assert {key for key in drafted if drafted[key] != demonstrated[key]} == decided | {"sites"}
    del drafted["sites"]["round_deadline"], demonstrated["sites"]["round_deadline"]
    assert drafted["sites"] == demonstrated["sites"]


def test_a_run_folder_gives_the_draft_of_its_file(of_records: Callable[..., Path], tmp_path: Path) -> None:
    file = of_records()
    simulate(file, out=tmp_path / "run", **{"strategy.rounds": 1})
    plan = draft(tmp_path / "run", ["a", "b", "c"], {"campaign": "steel-2026", "governance.purposes": "[safety]"})
    assert plan == draft(file, ["a", "b", "c"], {"campaign": "steel-2026", "strategy.rounds": 1} | PURPOSES)
    assert (plan.sites.invite, plan.sites.min_sites, plan.seed) == (("a", "b", "c"), 2, 3)


def test_what_a_simulation_reads_off_records_a_campaign_has_to_be_told(of_records: Callable[..., Path]) -> None:
    file = of_records(epsilon=8, delta=1e-3, scaling_share=0.0)
    with pytest.raises(PlanError, match="nominal_units is needed"):
        draft(file, [], {})
    assert draft(file, [], {"privacy.nominal_units": "20"}).privacy.nominal_units == 20


def test_all_sites_of_a_draft_share_the_noise_where_the_simulation_does_not_say_how_many(write: Write) -> None:
    data = {"process": "steel.bof_blow", "model_line": "national-bof-blow", "sites": 20, "masters": 1, "episodes": 9}
    privacy = {"mechanism": "M2", "epsilon": 1, "delta": 1e-5, "nominal_units": 40, "scaling_share": 0}
    file, required = write(sets={"data": data, "privacy": privacy}), {"privacy.secure_aggregation": "required"}
    plan = draft(file, [], required)
    assert (plan.privacy.n_plan, len(plan.sites.invite)) == (20, 20)
    with pytest.raises(PlanError, match="JG-plan-032"):
        draft(file, [], {})


def test_an_npz_set_is_no_campaign(write: Write) -> None:
    with pytest.raises(PlanError, match="JG-plan-024"):
        draft(write(), [], {})
