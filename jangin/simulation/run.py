"""One simulation from file to result. The numbered steps of `_one_seed` are the whole of it."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from jangin.errors import PlanError, SimulationError
from jangin.models.layout import Vector
from jangin.plan.messages import Kind, Order
from jangin.server.rounds import Ask, Exchange, Progress, RoundRecord, gather, rounds
from jangin.simulation import baselines
from jangin.simulation.conclusion import Outcome, conclude, stated
from jangin.simulation.experiment import read_experiment
from jangin.simulation.federation import Advance, load
from jangin.simulation.result import Result, Scores
from jangin.simulation.run_folder import RunFolder
from jangin.simulation.sequential import SequentialExchange
from jangin.simulation.setting import Setting, prepare
from jangin.simulation.stacked import StackedExchange
from jangin.strategies import Strategy
from jangin.strategies import build as build_strategy
from jangin.strategies.base import Gathered
from jangin.strategies.check import check
from jangin.strategies.finetune import FineTune
from jangin.training.recipe import Recipe
from jangin.training.site import Site

if TYPE_CHECKING:
    from jangin.simulation.sums import Way

__all__ = ["simulate"]


def _flower(*arguments: Any) -> Exchange:
    from jangin.simulation.flower import FlowerExchange  # Flower takes a second to load

    return FlowerExchange(*arguments)


def _through_flower(answer: "Way", partitions: int) -> "Way":
    from jangin.simulation.flower import through_flower

    return through_flower(answer, partitions)


def _in_process(answer: "Way", partitions: int) -> "Way":
    return answer


_ENGINES: Mapping[str, Callable[..., Exchange]] = {
    "stacked": StackedExchange,
    "sequential": SequentialExchange,
    "flower": _flower,
}
_WAYS: "Mapping[str, Callable[[Way, int], Way]]" = {
    "stacked": _in_process,
    "sequential": _in_process,
    "flower": _through_flower,
}


def simulate(
    file: str | Path,
    *,
    seed: int | None = None,
    engine: str = "stacked",
    threads: int = 1,
    out: str | Path | None = None,
    per_site: bool = False,
    accept_noise: bool = False,
    progress: Advance = lambda what, done, total: None,
    sets: Mapping[str, object] | None = None,
    **more_sets: object,
) -> Result:
    """Run a simulation file and compare the federation with doing without.

    Args:
        file: the YAML file (docs/simulate.md).
        seed: first seed; the file's own where None. With differential privacy it seeds data and initial weights only.
        engine: `stacked`: sites train together where they can (simulation/stacked.py); `sequential`: one after another;
            `flower`: the same through Flower's messages.
        threads: of torch; under `stacked`, groups of sites that train at a time.
        out: a folder that must not exist yet; it takes plan, environment, history, plots and final.safetensors.
        per_site: figures are means over sites instead of over all hold-out records.
        accept_noise: run a plan that would yield only noise.
        progress: called with what is being done, how much is done, and of how much.
        sets: dotted keys of the file with other values.
        **more_sets: the same, e.g. `**{"strategy.rounds": 20}`.

    Raises:
        PlanError: a file, key or combination that cannot be carried out. DataError: data that cannot be used.
        PrivacyError: a promise that would not hold, or a plan of noise.
        SimulationError: JG-sim-001, a run folder that exists; JG-sim-002, training that diverged; JG-sim-003, a run
            folder that cannot be made.
    """
    started = time.perf_counter()
    asked = {**(sets or {}), **more_sets, **({} if seed is None else {"seed": seed})}
    experiment = read_experiment(Path(file), asked)
    if engine not in _ENGINES:
        problem = f"there are the engines {', '.join(_ENGINES)}"
        raise PlanError("JG-plan-003", where="--engine", value=engine, problem=problem)
    check(experiment.strategy, experiment.privacy)
    torch.set_num_threads(threads)
    with RunFolder(out) as folder, TemporaryDirectory(prefix="jangin-") as scratch:
        federation = load(experiment, (folder.path or Path(scratch)) / "records", progress)
        setting = prepare(experiment, federation, engine, per_site, accept_noise, progress)
        outcomes = [_one_seed(setting, experiment.seed + number) for number in range(experiment.seeds)]
        result = conclude(setting, outcomes, time.perf_counter() - started)
        folder.write(experiment, result, lambda: stated(setting))
    return result


def _one_seed(setting: Setting, seed: int) -> Outcome:
    experiment, silos = setting.experiment, setting.federation.silos
    block = experiment.strategy

    # 1. One model for all, trained in place; its initial weights are the campaign's.
    recipe = setting.recipe(seed)
    learner = recipe.learner()
    model = learner.model
    initial = model.read()

    # 2. Sites, and the scaling they learn together from one clipped (and noised) sum.
    scaling = public = recipe.public_scaling()
    encoding = recipe.encoding if recipe.summing else None
    sites = [Site(silo.name, silo.train, public, learner, seed, encoding=encoding) for silo in silos]
    strategy = build_strategy(block)
    ask = _asking(setting, recipe, sites, strategy)
    learnt = None
    if recipe.learns_scaling:
        record, total = ask(Order(Kind.SCALE, 0, np.empty(0, np.float32)))
        scaling = recipe.learned_scaling(total, len(record.reported))
        learnt = scaling.mean, scaling.deviation

    one_for_all = len(model.layout.shared) == model.layout.size

    def federated(shared: Vector) -> Scores:
        common = baselines.Fitted(learner, scaling, shared) if one_for_all else None
        models = [common or baselines.Fitted(learner, scaling, site.model(shared)) for site in sites]
        return setting.score(lambda site, examples: models[site].predict(examples), common=one_for_all)

    # 3. The rounds, each judged on the hold-outs by us, outside the federation.
    shared = initial[model.layout.shared]
    start = Progress.start(strategy, shared)
    history: list[dict[str, float]] = []
    round_seconds = 0.0
    clock = time.perf_counter()
    with np.errstate(over="ignore", invalid="ignore"):  # what diverges is refused here, in words
        for record, progress in rounds(strategy, ask, start, block.rounds, scaling=learnt):
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

    # 4. The personalised models: what each site kept, or what it makes going on by itself; nothing of that leaves.
    if "personalised" in experiment.baselines:
        rule, tuning = strategy.local, FineTune.of(block)
        ends = [site.begin(shared, rule) if rule.keeps else site.finetuned(shared, tuning) for site in sites]
        own = [baselines.Fitted(learner, scaling, end) for end in ends]
        scores["personalised"] = setting.score(lambda site, examples: own[site].predict(examples), common=False)

    # 5. What it is compared with.
    scores |= baselines.compared(setting, learner, initial, public, seed)
    return Outcome(scores, history, shared, model.layout, scaling, round_seconds)


def _asking(setting: Setting, recipe: Recipe, sites: Sequence[Site], strategy: Strategy[Any]) -> Ask:
    """How orders are answered: as secure sums where the plan wants them, else by the engine's exchange."""
    privacy, experiment = setting.experiment.privacy, setting.experiment
    if privacy.sums_only:
        from jangin.simulation.sums import SummingSites  # what it sends are Flower's messages, a second to load

        campaign, through = experiment.digest("simulation"), _WAYS[setting.engine]
        return SummingSites(recipe, sites, strategy, privacy, campaign, through).gather
    exchange = _ENGINES[setting.engine](sites, experiment.strategy, strategy)
    columns = len(recipe.public_scaling().center)

    def ask(order: Order) -> tuple[RoundRecord, Gathered]:
        if isinstance(exchange, StackedExchange) and exchange.stacks(order) and strategy.consumes == "sum":
            return exchange.total(order)
        encoding = recipe.encoding(order.kind, order.vector.size or 1 + 2 * columns)
        single = order.kind is Kind.TRAIN and strategy.consumes == "updates"
        return gather(exchange, order, single=single, encoding=encoding)

    return ask
