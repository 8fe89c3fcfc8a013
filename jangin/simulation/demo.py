"""The demo: master records, made or given, learnt from by a real federation on loopback, and compared.

The comparison is computed from the sites' folders by the demo itself, outside the federation: no message carries it.
Records that were given are read where they are, and nothing is written beside them.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import as_file, files
from math import isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from jangin.errors import CodedText, PlanError
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.statement import read_statement
from jangin.simulation import baselines
from jangin.simulation.campaign import campaign
from jangin.simulation.conclusion import Outcome, conclude
from jangin.simulation.experiment import Experiment, NpzData, ProcessData, RecordsData, read_experiment
from jangin.simulation.federation import Advance, load
from jangin.simulation.loopback import FEWEST_SUMMED, Ran, demo_policy, run_on_loopback
from jangin.simulation.result import Result
from jangin.simulation.run_folder import RunFolder
from jangin.simulation.setting import Setting, prepare
from jangin.strategies.check import check

__all__ = ["DEMOS", "run_demo"]

DEMOS = {"steel.bof_blow": "steel-bof-blow.yaml"}
"""The simulation file of each process that has a demo."""

_LEAST_DEADLINE_SECONDS = 60
_DEADLINE_SECONDS_A_SITE = 6
"""All workers start within one round, on whatever cores the demo has."""
_SUMMED_DEADLINES = 2
"""A secure sum leaves them a part of it to train."""


def run_demo(
    process: str,
    *,
    sites: int | None,
    rounds: int | None,
    keep: Path | None,
    progress: Advance,
    file: Path | None = None,
    secure_aggregation: bool = True,
) -> tuple[dict[str, Any], Result]:
    """Run a simulation's campaign through a real federation on loopback.

    Args:
        process: whose demo, where no `file` is given.
        sites: how many, where a process makes their records; the file's number where None.
        rounds: how many; the file's where None.
        keep: a new folder that takes records, logs, history, plots and model.
        progress: told how far each kind of work is.
        file: another simulation; its data is a process or records.
        secure_aggregation: whether the server is to see sums only; it needs four sites, and is left off with fewer.

    Returns:
        The last line of `jangin demo --format json`, and the result behind it. `local`, `local_trees`, `federated`,
        `pooled` and `constant` are on the union of hold-outs, `*_own` on each site's own.

    Raises:
        PlanError: JG-plan-003, no such demo, a model line that is a file, or `sites` for records; JG-plan-024, an npz
            set.
        SimulationError: JG-sim-010 and -011, a federation that broke off. Also what `simulate` raises.
    """
    started = time.perf_counter()
    if file is None and process not in DEMOS:
        problem = f"there is a demo of {', '.join(DEMOS)}"
        raise PlanError("JG-plan-003", where="--process", value=process, problem=problem)
    sets: dict[str, Any] = {"seeds": 1} | ({} if rounds is None else {"strategy.rounds": rounds})
    with as_file(files("jangin.configs") / "simulations" / DEMOS.get(process, "")) as shipped:
        experiment = read_experiment(file or shipped, sets)
        if sites is not None and isinstance(experiment.data, ProcessData):
            sets["data.sites"] = sites
            experiment = read_experiment(file or shipped, sets)
        there = _sites(experiment)
        if secure_aggregation and there >= FEWEST_SUMMED:
            experiment = read_experiment(file or shipped, sets | _summed(experiment, there))
    check(experiment.strategy, experiment.privacy)
    data = experiment.data
    if isinstance(data, NpzData):
        raise PlanError("JG-plan-024", where=f"{file}: data.npz", value=str(data.npz))
    if sites is not None and isinstance(data, RecordsData):
        problem = f"each of the {len(data.records)} folders that {file} names is a site"
        raise PlanError("JG-plan-003", where="--sites", value=sites, problem=problem)
    torch.set_num_threads(1)
    with RunFolder(keep, "--keep") as folder, TemporaryDirectory(prefix="jangin-") as scratch:
        place = folder.path or Path(scratch)
        federation = load(experiment, place / "records", progress)
        setting = prepare(experiment, federation, "loopback", False, False, progress)
        if secure_aggregation and not experiment.privacy.sums_only:
            few = CodedText("JG-sim-012", where="--secure-aggregation", sites=there, least=FEWEST_SUMMED)
            setting = replace(setting, warnings=(*setting.warnings, few))
        plan = _plan(experiment, setting)
        ran = run_on_loopback(
            place / "federation",
            {silo.name: Path(silo.where) for silo in federation.silos},
            plan,
            plan.sites.deadline_s * (plan.strategy.rounds + 1),
            lambda done, total: progress("round", done, total),
        )
        result = conclude(setting, [_outcome(setting, ran)], time.perf_counter() - started)
        said = ran.folder / "statement.json"
        folder.write(experiment, result, lambda: read_statement(said.read_bytes(), str(said)))
    return _line(result, ran, experiment.privacy.sums_only), result


def _sites(experiment: Experiment) -> int:
    """How many sites there are; 0 of an npz set, which is refused."""
    match experiment.data:
        case ProcessData(sites=sites):
            return sites
        case RecordsData(records=records):
            return len(records)
        case _:
            return 0


def _summed(experiment: Experiment, sites: int) -> dict[str, Any]:
    """What a simulation of so many sites says of secure sums, where it does not say it itself."""
    policy = demo_policy(sites)
    wanted = {
        "c_max": policy["c_max"],
        "n_plan": max(policy["n_min"], FEWEST_SUMMED),
        "n_min_final": policy["n_min_final"],
    }
    said = experiment.privacy.model_fields_set
    keys = {f"privacy.{key}": value for key, value in wanted.items() if key not in said}
    return {"privacy.secure_aggregation": "required", **keys}


def _plan(experiment: Experiment, setting: Setting) -> TrainingPlan:
    """The simulation as a campaign that invites its sites."""
    sites = [silo.name for silo in setting.federation.silos]
    deadline = max(_LEAST_DEADLINE_SECONDS, _DEADLINE_SECONDS_A_SITE * len(sites))
    deadline *= _SUMMED_DEADLINES if experiment.privacy.sums_only else 1
    sets = {
        "campaign": "demo",
        "sites.round_deadline": f"{deadline}s",
        "privacy.nominal_units": setting.nominal_units,
        "governance.purposes": ["demonstration"],
    }
    return campaign(experiment, "demo plan", sites, sets)


def _outcome(setting: Setting, ran: Ran) -> Outcome:
    """The federation's model judged on all hold-outs, with the baselines beside it."""
    seed = setting.experiment.seed
    recipe = setting.recipe(seed)
    learner, public = recipe.learner(), recipe.public_scaling()
    initial = learner.model.read()
    parameters = load_file(ran.folder / "final.safetensors")["parameters"]
    learnt = json.loads((ran.folder / "scaling.json").read_text())
    scaling = public.standardised(np.array(learnt["mean"]), np.array(learnt["deviation"]))
    whole = initial.copy()
    whole[learner.model.layout.shared] = parameters
    federated = baselines.Fitted(learner, scaling, whole)
    scores = {"federated": setting.score(lambda site, examples: federated.predict(examples), common=True)}
    scores |= baselines.compared(setting, learner, initial, public, seed)
    # The federation shows its final model alone: no figure stands for a round before it.
    rows = [
        {"seed": seed, "round": entry.round, "federated": float("nan"), "seconds": entry.seconds}
        for entry in ran.status.attempts
        if entry.round and entry.outcome == "finished"
    ]
    rows[-1]["federated"] = scores["federated"].total
    return Outcome(scores, rows, parameters, learner.model.layout, scaling, sum(row["seconds"] for row in rows))


def _line(result: Result, ran: Ran, secure: bool) -> dict[str, Any]:
    promise: Mapping[str, Any] | str = result.privacy
    if not isinstance(promise, str):
        promise = {key: promise[key] for key in ("unit", "epsilon", "delta", "mechanism")}
    compared = ("local", "federated", "pooled", "local_trees", "constant")
    own = {"local_own": result.metric["local"], "federated_own": result.metric["federated"]}
    abstained = [
        {"site": site, "round": entry.round, "code": code}
        for entry in ran.status.attempts
        for site, code in entry.abstained.items()
    ]
    memory = {"server": ran.server_rss_mb, "site_median": ran.site_rss_mb}
    return {
        "sites": len(result.sites),
        "rounds": len(result.rounds),
        "seconds_per_round": [round(row["seconds"], 3) for row in result.rounds],
        "metric": {"name": result.metric["name"], **{name: result.union.get(name) for name in compared}, **own},
        "privacy": promise,
        "secure_aggregation": secure,
        "rss_mb": {name: None if isnan(figure) else round(figure, 1) for name, figure in memory.items()},
        "abstained": abstained,
        "ok": True,
    }
