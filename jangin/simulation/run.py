"""One simulation from file to result. The numbered steps of `_one_seed` are the whole of it."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from jangin.errors import PlanError, SimulationError
from jangin.models.layout import ParameterLayout, Vector
from jangin.plan.messages import Kind, Order
from jangin.server.rounds import Ask, Exchange, Progress, RoundRecord, gather, rounds
from jangin.simulation import baselines
from jangin.simulation.board import Board
from jangin.simulation.conclusion import Outcome, conclude, stated
from jangin.simulation.experiment import Experiment, ProcessData, RecordsData, read_experiment
from jangin.simulation.federation import Advance, Federation, load
from jangin.simulation.forks import Forks
from jangin.simulation.ray import Workers
from jangin.simulation.result import Result, Scores
from jangin.simulation.run_folder import RunFolder
from jangin.simulation.sequential import SequentialExchange
from jangin.simulation.setting import Setting, prepare
from jangin.simulation.stacked import StackedExchange
from jangin.simulation.unfinished import Stand, Unfinished, fingerprint, versions
from jangin.strategies import Strategy
from jangin.strategies import build as build_strategy
from jangin.strategies.base import Gathered
from jangin.strategies.check import check
from jangin.strategies.finetune import FineTune
from jangin.training.recipe import Recipe
from jangin.training.scaling import Scaling
from jangin.training.site import Site

if TYPE_CHECKING:
    from jangin.simulation.sums import Way

__all__ = ["simulate"]


def _sequential(*arguments: Any) -> Exchange:
    return SequentialExchange(*arguments[:-1])


def _flower(*arguments: Any) -> Exchange:
    from jangin.simulation.flower import FlowerExchange  # Flower takes a second to load

    return FlowerExchange(*arguments[:-1])


def _through_flower(answer: "Way", partitions: int) -> "Way":
    from jangin.simulation.flower import through_flower

    return through_flower(answer, partitions)


def _in_process(answer: "Way", partitions: int) -> "Way":
    return answer


_ENGINES: Mapping[str, Callable[..., Exchange]] = {
    "stacked": StackedExchange,
    "sequential": _sequential,
    "flower": _flower,
}
_WAYS: "Mapping[str, Callable[[Way, int], Way]]" = {
    "stacked": _in_process,
    "sequential": _in_process,
    "flower": _through_flower,
    "ray": _in_process,
}


def simulate(
    file: str | Path,
    *,
    seed: int | None = None,
    engine: str = "stacked",
    threads: int = 1,
    out: str | Path | None = None,
    tensorboard: str | Path | None = None,
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
            `flower`: the same through Flower's messages; `ray`: sites are spread over the workers of Ray, on this
            machine or, where RAY_ADDRESS names a cluster, on others too (simulation/ray.py).
        threads: of torch; under `stacked`, processes that train (simulation/forks.py); under `ray`, of each worker.
        out: a folder that must not exist yet; it takes plan, environment, history, plots and final.safetensors. A run
            that broke off before it was there goes on from the last rounds that were kept (simulation/unfinished.py).
        tensorboard: a folder that takes the figures of each round as they come, for TensorBoard; one run each.
        per_site: figures are means over sites instead of over all hold-out records.
        accept_noise: run a plan that would yield only noise.
        progress: called with what is being done, how much is done, and of how much; first of all with `resumed` and
            the rounds of all seeds, where a run goes on.
        sets: dotted keys of the file with other values.
        **more_sets: the same, e.g. `**{"strategy.rounds": 20}`.

    Raises:
        PlanError: a file, key or combination that cannot be carried out. DataError: data that cannot be used.
        PrivacyError: a promise that would not hold, or a plan of noise.
        SimulationError: JG-sim-001, a folder that exists; JG-sim-002, training that diverged; JG-sim-003, a folder
            that cannot be made; JG-sim-028, another run works on it; JG-sim-029, what broke off there was another run;
            JG-sim-030..034, workers of Ray that cannot be had, or are lost; JG-sim-035, what it left is damaged;
            JG-sim-036, no tensorboardX; JG-sim-037, a process that trains is lost; JG-sim-038, none can be had.
    """
    started = time.perf_counter()
    asked = {**(sets or {}), **more_sets, **({} if seed is None else {"seed": seed})}
    experiment = read_experiment(Path(file), asked)
    if engine not in _WAYS:
        problem = f"there are the engines {', '.join(_WAYS)}"
        raise PlanError("JG-plan-003", where="--engine", value=engine, problem=problem)
    check(experiment.strategy, experiment.privacy)
    torch.set_num_threads(threads)
    others = Workers(threads) if engine == "ray" else Forks(threads)
    with RunFolder(out, goes_on=True) as folder, Board(tensorboard) as board, others as spread:
        unfinished = folder.unfinished
        unfinished.require(
            plan=experiment.digest("simulation"), engine=engine, threads=threads, per_site=per_site, **versions()
        )
        federation = _load(experiment, folder, progress)
        unfinished.require(examples=fingerprint(federation) if folder.path is not None else None)
        setting = prepare(experiment, federation, engine, per_site, accept_noise, progress)
        seeds = range(experiment.seed, experiment.seed + experiment.seeds)
        done = unfinished.rounds(seeds)
        if done:
            progress("resumed", done, experiment.seeds * experiment.strategy.rounds)
        outcomes = [_one_seed(setting, seed, spread, unfinished, board) for seed in seeds]
        result = conclude(setting, outcomes, time.perf_counter() - started)
        board.end(result)
        folder.write(experiment, result, lambda: stated(setting))
    return result


def _load(experiment: Experiment, folder: RunFolder, progress: Advance) -> Federation:
    """The sites; records that a process makes stay in the run folder, or are gone once they are read.

    A run that goes on reads the records that it made, where it was done with making them.
    """
    data = experiment.data
    if not isinstance(data, ProcessData):
        return load(experiment, Path(), progress)
    if folder.path is None:
        with TemporaryDirectory(prefix="jangin-") as scratch:
            return load(experiment, Path(scratch) / "records", progress)
    records = folder.path / "records"
    if folder.unfinished.knows("examples"):
        made = tuple(records / f"site-{number}" for number in range(data.sites))
        there = RecordsData(records=made, model_line=data.model_line, one_class_sites=data.one_class_sites)
        return load(experiment.model_copy(update={"data": there}), records, progress)
    shutil.rmtree(records, ignore_errors=True)
    return load(experiment, records, progress)


def _one_seed(setting: Setting, seed: int, spread: Workers | Forks, unfinished: Unfinished, board: Board) -> Outcome:
    experiment, silos = setting.experiment, setting.federation.silos
    block = experiment.strategy

    # 1. One model for all, trained in place; its initial weights are the campaign's. And where this seed stands.
    recipe = setting.recipe(seed)
    learner = recipe.learner()
    model = learner.model
    initial = model.read()
    strategy = build_strategy(block)
    stand = unfinished.load(seed, Progress.start(strategy, initial[model.layout.shared]))
    scaling = public = recipe.public_scaling()
    if stand.learnt is not None:
        scaling = public.standardised(*stand.learnt)
    board.begin(setting.metric_name, seed, stand.history)
    if stand.scores is not None:
        return _outcome(stand, stand.scores, model.layout, scaling)

    # 2. Sites, and the scaling they learn together from one clipped (and noised) sum.
    encoding = recipe.encoding if recipe.summing else None
    sites = [Site(silo.name, silo.train, public, learner, seed, encoding=encoding) for silo in silos]
    ask = _asking(setting, recipe, sites, strategy, spread)
    for site, vector in zip(sites, stand.kept or (), strict=False):
        site.keep(vector)
    if recipe.learns_scaling and stand.learnt is None:
        record, total = ask(Order(Kind.SCALE, 0, np.empty(0, np.float32)))
        scaling = recipe.learned_scaling(total, len(record.reported))
        stand = replace(stand, learnt=(scaling.mean, scaling.deviation))

    if stand.learnt is not None:
        for site in sites:
            site.use(scaling)  # also where no order is left that would say so, or where it goes to another process

    one_for_all = len(model.layout.shared) == model.layout.size
    keeps = strategy.local.remembers(model.layout)

    def federated(shared: Vector, last: bool) -> Scores:
        common = baselines.Fitted(learner, scaling, shared) if one_for_all else None
        models = [common or baselines.Fitted(learner, scaling, site.model(shared)) for site in sites]
        return setting.score(lambda site, examples: models[site].predict(examples), common=one_for_all, union=last)

    # 3. The rounds, each judged on the hold-outs by us, outside the federation.
    scores: dict[str, Scores] = {}
    history = list(stand.history)
    clock = time.perf_counter()
    with np.errstate(over="ignore", invalid="ignore"):  # what diverges is refused here, in words
        for record, progress in rounds(strategy, ask, stand.progress, block.rounds, scaling=stand.learnt):
            seconds = time.perf_counter() - clock
            if not np.isfinite(progress.parameters).all():
                raise SimulationError("JG-sim-002", where=f"round {record.round}", lr=block.lr)
            scores["federated"] = federated(progress.parameters, last=record.round == block.rounds)
            figure = scores["federated"].total
            history.append({"seed": seed, "round": record.round, "federated": figure, "seconds": seconds})
            stand = replace(stand, progress=progress, history=history)
            board.show(history[-1])
            if unfinished.due:
                unfinished.save(seed, replace(stand, kept=_kept(sites) if keeps else None))
            setting.progress("round", record.round, block.rounds)
            clock = time.perf_counter()
        shared = stand.progress.parameters
        scores = scores or {"federated": federated(shared, last=True)}
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
    unfinished.save(seed, replace(stand, kept=None, scores=scores))
    return _outcome(stand, scores, model.layout, scaling)


def _kept(sites: Sequence[Site]) -> list[Vector]:
    """What the sites keep from round to round; each of them has trained."""
    return [vector for vector in (site.kept() for site in sites) if vector is not None]


def _outcome(stand: Stand, scores: Mapping[str, Scores], layout: ParameterLayout, scaling: Scaling) -> Outcome:
    seconds = sum(row["seconds"] for row in stand.history)
    return Outcome(scores, stand.history, stand.progress.parameters, layout, scaling, seconds)


def _asking(
    setting: Setting, recipe: Recipe, sites: Sequence[Site], strategy: Strategy[Any], spread: Workers | Forks
) -> Ask:
    """How orders are answered: as secure sums where the plan wants them, else by the engine's exchange."""
    privacy, experiment = setting.experiment.privacy, setting.experiment
    if privacy.sums_only:
        from jangin.simulation.sums import SummingSites  # what it sends are Flower's messages, a second to load

        campaign, through = experiment.digest("simulation"), _WAYS[setting.engine]
        return SummingSites(recipe, sites, strategy, privacy, campaign, through).gather
    if isinstance(spread, Forks):
        spread.end()  # those of the seed before
        exchange = _ENGINES[setting.engine](sites, experiment.strategy, strategy, spread)
    else:
        exchange = spread.exchange(recipe, sites, [silo.train for silo in setting.federation.silos])
    columns = len(recipe.public_scaling().center)

    def ask(order: Order) -> tuple[RoundRecord, Gathered]:
        if isinstance(exchange, StackedExchange) and exchange.stacks(order) and strategy.consumes == "sum":
            return exchange.total(order)
        parameters, _ = strategy.local.parts(order.vector)
        encoding = recipe.encoding(order.kind, len(parameters) or 1 + 2 * columns)
        single = order.kind is Kind.TRAIN and strategy.consumes == "updates"
        return gather(exchange, order, single=single, encoding=encoding)

    return ask
