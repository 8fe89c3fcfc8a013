"""One simulation from file to result. The numbered steps of `_one_seed` are the whole of it."""

import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import numpy as np
import torch

from jangin.errors import CodedText, PlanError, SimulationError
from jangin.models.layout import ParameterLayout, Vector
from jangin.models.tasks import Task
from jangin.plan.messages import Kind, Order
from jangin.server.rounds import Progress, gather, rounds
from jangin.simulation import baselines
from jangin.simulation.experiment import Experiment, read_experiment
from jangin.simulation.federation import Advance, Federation, load
from jangin.simulation.result import COMPARED, Result, Scores, better_off, promise
from jangin.simulation.run_folder import RunFolder
from jangin.simulation.sequential import SequentialExchange
from jangin.simulation.setting import Setting
from jangin.strategies import build as build_strategy
from jangin.strategies.check import check
from jangin.strategies.finetune import FineTune
from jangin.training.mechanism import mechanism as calibrated
from jangin.training.mechanism import refuse_noise
from jangin.training.metrics import METRICS
from jangin.training.scaling import Scaling
from jangin.training.site import Site

__all__ = ["simulate"]

_MOSTLY_NOISE = 0.1


def simulate(
    file: str | Path,
    *,
    seed: int | None = None,
    engine: str = "sequential",
    threads: int = 1,
    out: str | Path | None = None,
    per_site: bool = False,
    accept_noise: bool = False,
    progress: Advance = lambda what, done, total: None,
    **sets: object,
) -> Result:
    """Run a simulation file and compare the federation with doing without.

    Args:
        file: the YAML file (docs/simulate.md).
        seed: first seed; the file's own where None. With differential privacy it seeds data and initial weights only.
        engine: `sequential`.
        threads: of torch.
        out: a folder that must not exist yet; it takes plan, environment, history, plots and final.safetensors.
        per_site: figures are means over sites instead of over all hold-out records.
        accept_noise: run a plan that would yield only noise.
        progress: called with what is being done, how much is done, and of how much.
        **sets: dotted keys of the file with other values, e.g. `**{"strategy.rounds": 20}`.

    Raises:
        PlanError: a file, key or combination that cannot be carried out. DataError: data that cannot be used.
        PrivacyError: a promise that would not hold, or a plan of noise.
        SimulationError: JG-sim-001, a run folder that exists; JG-sim-002, training that diverged; JG-sim-003, a run
            folder that cannot be made.
    """
    started = time.perf_counter()
    experiment = read_experiment(Path(file), sets if seed is None else {**sets, "seed": seed})
    if engine != "sequential":
        raise PlanError("JG-plan-003", where="--engine", value=engine, problem="the engine there is: sequential")
    check(experiment.strategy, experiment.privacy)
    torch.set_num_threads(threads)
    with RunFolder(out) as folder, TemporaryDirectory(prefix="jangin-") as scratch:
        federation = load(experiment, (folder.path or Path(scratch)) / "records", progress)
        result = _compare(experiment, federation, per_site, accept_noise, progress, started)
        folder.write(experiment, result)
    return result


@dataclass(frozen=True)
class _Seed:
    """One seed's outcome."""

    scores: Mapping[str, Scores]
    rounds: Sequence[Mapping[str, float]]
    parameters: Vector
    layout: ParameterLayout
    scaling: Scaling
    round_seconds: float


def _compare(
    experiment: Experiment,
    federation: Federation,
    per_site: bool,
    accept_noise: bool,
    progress: Advance,
    started: float,
) -> Result:
    metric_name = experiment.metric or ("rmse" if federation.task is Task.REGRESSION else "accuracy")
    metric = METRICS[metric_name]
    if federation.task not in metric.tasks:
        problem = f"it has no meaning for {federation.task.value}"
        raise PlanError("JG-plan-003", where="metric", value=metric_name, problem=problem)
    nominal_units, warnings = _nominal_units(experiment, federation)
    mechanism = calibrated(experiment.privacy, experiment.strategy, nominal_units)
    if mechanism is not None and not accept_noise:
        refuse_noise(mechanism, len(federation.silos))
    setting = Setting(experiment, federation, mechanism, nominal_units, metric, per_site, progress)
    warnings += _scaling_warning(setting)
    seeds = [_one_seed(setting, experiment.seed + number) for number in range(experiment.seeds)]
    names = [name for name in (*COMPARED, "local_private") if name in seeds[0].scores]
    totals = {name: [seed.scores[name].total for seed in seeds] for name in names}
    sites = tuple(silo.name for silo in federation.silos)
    by_site = {name: tuple(np.mean([seed.scores[name].sites for seed in seeds], axis=0).tolist()) for name in names}
    figures = {name: fmean(totals[name]) if name in totals else None for name in (*COMPARED, *names)}
    return Result(
        metric={"name": metric_name, "higher_is_better": metric.higher_is_better, **figures},
        std={name: float(np.std(totals[name])) if name in totals else None for name in figures},
        better_off=better_off(by_site, sites, metric),
        privacy=promise(mechanism),
        sites=sites,
        per_site=by_site,
        union={name: fmean(seed.scores[name].union for seed in seeds) for name in names},
        rounds=tuple(row for seed in seeds for row in seed.rounds),
        parameters=seeds[0].parameters,
        layout=seeds[0].layout,
        scaling=seeds[0].scaling,
        client_rounds_per_second=(
            len(sites) * experiment.strategy.rounds * len(seeds) / sum(seed.round_seconds for seed in seeds)
        ),
        seconds=time.perf_counter() - started,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        warnings=(*federation.warnings, *warnings),
    )


def _one_seed(setting: Setting, seed: int) -> _Seed:
    experiment, silos = setting.experiment, setting.federation.silos
    block = experiment.strategy

    # 1. One model for all, trained in place; its initial weights are the campaign's.
    recipe = setting.recipe(seed)
    learner = recipe.learner()
    model = learner.model
    initial = model.read()

    # 2. Sites, and the scaling they learn together from one clipped (and noised) sum.
    scaling = public = recipe.public_scaling()
    sites = [Site(silo.name, silo.train, public, learner, seed) for silo in silos]
    strategy = build_strategy(block)
    exchange = SequentialExchange(sites, block, strategy)
    learnt = None
    if recipe.learns_scaling:
        record, total = gather(exchange, Order(Kind.SCALE, 0, np.empty(0, np.float32)))
        scaling = recipe.learned_scaling(total, len(record.reported))
        learnt = scaling.mean, scaling.deviation

    one_for_all = len(model.layout.shared) == model.layout.size

    def federated(shared: Vector) -> Scores:
        models = [baselines.Fitted(learner, scaling, site.model(shared)) for site in sites]
        return setting.score(lambda site, examples: models[site].predict(examples), common=one_for_all)

    # 3. The rounds, each judged on the hold-outs by us, outside the federation.
    shared = initial[model.layout.shared]
    start = Progress.start(strategy, shared)
    history: list[dict[str, float]] = []
    round_seconds = 0.0
    clock = time.perf_counter()
    with np.errstate(over="ignore", invalid="ignore"):  # what diverges is refused here, in words
        for record, progress in rounds(strategy, exchange, start, block.rounds, scaling=learnt):
            seconds = time.perf_counter() - clock
            if not np.isfinite(progress.parameters).all():
                raise SimulationError("JG-sim-002", where=f"round {record.round}", lr=block.lr)
            shared = progress.parameters
            round_seconds += seconds
            scores = {"federated": federated(shared)}
            history.append(
                {"seed": seed, "round": record.round, "federated": scores["federated"].total, "seconds": seconds}
            )
            setting.progress("round", record.round, block.rounds)
            clock = time.perf_counter()
    if np.isinf(scores["federated"].total):
        raise SimulationError("JG-sim-002", where=f"round {block.rounds}", lr=block.lr)

    # 4. The personalised models: each site goes on by itself, and nothing of it leaves.
    if "personalised" in experiment.baselines:
        tuning = FineTune.of(block)
        tuned = [baselines.Fitted(learner, scaling, site.finetuned(shared, tuning)) for site in sites]
        scores["personalised"] = setting.score(lambda site, examples: tuned[site].predict(examples), common=False)

    # 5. What it is compared with.
    scores |= baselines.compared(setting, learner, initial, public, seed)
    return _Seed(scores, history, shared, model.layout, scaling, round_seconds)


def _nominal_units(experiment: Experiment, federation: Federation) -> tuple[int, list[CodedText]]:
    given, most = experiment.privacy.nominal_units, federation.most_units
    if given is not None or experiment.privacy.epsilon == "none":
        return given or most, []
    return most, [CodedText("JG-privacy-010", where="privacy.nominal_units", units=most)]


def _scaling_warning(setting: Setting) -> list[CodedText]:
    noise = setting.recipe(setting.experiment.seed).scaling_noise(len(setting.federation.silos))
    return [CodedText("JG-privacy-012", where="privacy.scaling_share", noise=noise)] if noise > _MOSTLY_NOISE else []
