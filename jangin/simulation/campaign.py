"""From a simulation to the campaign that trains the same: the demo's plan, and an operator's draft.

The law: model, strategy, privacy and seed are the simulation's, so that without differential privacy a federation of
these sites comes to the same parameters; no record is read, and what the simulation would have read off records is
missing until somebody says it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jangin.codec.document import assign, parse, read_value
from jangin.errors import PlanError
from jangin.models.lines import read_line
from jangin.plan.training_plan import TrainingPlan
from jangin.simulation.experiment import Experiment, NpzData, RecordsData, read_experiment

__all__ = ["campaign", "draft"]


def campaign(experiment: Experiment, where: str, sites: Sequence[str], sets: Mapping[str, object]) -> TrainingPlan:
    """The simulation as a campaign.

    Args:
        experiment: the simulation.
        where: its name in messages.
        sites: whom the campaign invites; seven in ten of them are enough for a round.
        sets: dotted keys of the plan with other values; a text is read as YAML.

    Raises:
        PlanError: JG-plan-024, a simulation of an npz set; JG-plan-001..003, -020, -032, -034, what is no plan.
        DataError: JG-data-062 or -063, a model line that cannot be used.
    """
    data = experiment.data
    if isinstance(data, NpzData):
        raise PlanError("JG-plan-024", where=f"{where}: data.npz", value=str(data.npz))
    document: dict[str, Any] = {
        "campaign": "draft",
        "process": read_line(data.model_line).process,
        "model_line": data.model_line,
        "sites": {"invite": list(sites), "min_sites": max(1, len(sites) * 7 // 10)},
        "model": experiment.model.model_dump(mode="json"),
        "strategy": experiment.strategy.model_dump(mode="json"),
        "privacy": experiment.privacy.among(len(sites)).model_dump(mode="json"),
        "governance": {
            "purposes": ["skill_preservation"],
            "prohibited": ["worker_evaluation", "dismissal", "reassignment"],
            "release": {"recipients": "contributors", "export": "domestic_only"},
        },
        "seed": experiment.seed,
    }
    for key, value in sets.items():
        assign(document, key, read_value(value, key) if isinstance(value, str) else value)
    return parse(document, TrainingPlan, where)


def draft(source: Path, sites: Sequence[str], sets: Mapping[str, object]) -> TrainingPlan:
    """The plan of a campaign from a simulation file or a run folder; without `sites`, of as many as it simulates.

    Raises:
        PlanError: JG-plan-001..006, what is no simulation; also as `campaign`. DataError: as `campaign`.
    """
    file = source / "plan.yaml" if source.is_dir() else source
    experiment = read_experiment(file, {})
    match experiment.data:
        case NpzData():
            simulated = 0
        case RecordsData(records=records):
            simulated = len(records)
        case data:
            simulated = data.sites
    return campaign(experiment, str(file), sites or [f"site-{number}" for number in range(simulated)], sets)
