"""Was this heat among those that a works trained on? Likelihood ratios, on its updates and on the released model.

One works of made-up heats trains again and again, each time on a random half of 200 candidates, of which twenty are
planted outliers; half of the runs are shadow models for attacks on the others (jangin/simulation/attacks/). Run it:
.venv/bin/python examples/attack_membership.py [--picture FILE.svg] [--runs 80] [--epsilon none 8 2 0.5]
"""

import argparse
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jangin.models.layout import Vector
from jangin.privacy.accounting import epsilon_pld
from jangin.records.examples import Examples
from jangin.server.rounds import Progress, gather, rounds
from jangin.simulation.attacks.membership import (
    Roc,
    likelihood_ratios,
    loss_scores,
    most_true_positives,
    roc,
    update_scores,
)
from jangin.simulation.attacks.view import Overheard
from jangin.simulation.baselines import Fitted
from jangin.simulation.experiment import read_experiment
from jangin.simulation.federation import load
from jangin.simulation.sequential import SequentialExchange
from jangin.simulation.setting import Setting, prepare
from jangin.strategies import build as build_strategy
from jangin.training.loop import Learner
from jangin.training.site import Site

CANDIDATES, PLANTED, LR = 200, 20, 0.2
HALF = CANDIDATES // 2
FILE = Path(str(files("jangin.configs"))) / "simulations" / "steel-bof-blow.yaml"
SETTING = {
    "data.sites": 1,
    "data.episodes": 2 * CANDIDATES,
    "model": {"name": "mlp", "hidden": [16]},
    "strategy": {"name": "fedavg", "rounds": 20, "local_steps": 1, "batch": HALF // 2, "lr": LR},
    "privacy": {"epsilon": "none", "delta": 1e-5, "clip": 1.0, "nominal_units": HALF, "scaling_share": 0},
}
WAYS = ("the updates", "the released model")
WHO = {"a planted outlier": slice(None, PLANTED), "an average heat": slice(PLANTED, None)}
FALSE = np.geomspace(0.01, 1, 200)
DELTAS = (1e-5, 1e-3, 0.003, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9)
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73")


@dataclass
class Attacked:
    """What came of the attacks at one epsilon, and what any attack could have come to."""

    promised: str
    error: float
    curves: dict[tuple[str, str], Roc]
    by_number: np.ndarray = field(default_factory=lambda: np.ones_like(FALSE))
    by_noise: np.ndarray = field(default_factory=lambda: np.ones_like(FALSE))


def attack(setting: Setting, runs: int) -> Attacked:
    """Train so many runs, a multiple of four; the first half are shadows, with which the second half is attacked."""
    stream, learner = np.random.default_rng(0), setting.recipe(0).learner()
    heats, initial = planted(setting, stream), learner.model.read()
    halves = [stream.permuted(np.tile([[True], [False]], (runs // 4, CANDIDATES)), axis=0) for _ in range(2)]
    used = np.concatenate(halves)
    scores = np.empty((len(WAYS), runs, CANDIDATES))
    errors = [one_run(setting, learner, initial, heats, used, run, scores[:, run]) for run in range(runs)]
    shadows, judged = slice(None, runs // 2), slice(runs // 2, None)
    ratios = [likelihood_ratios(one[judged], one[shadows], used[shadows]) for one in scores]
    curves = {
        (who, way): roc(ratio[:, at], used[judged, at])
        for who, at in WHO.items()
        for way, ratio in zip(WAYS, ratios, strict=True)
    }
    mechanism = setting.mechanism
    if mechanism is None:
        return Attacked("none", float(np.mean(errors)), curves)
    promise, steps = mechanism.guarantee, [mechanism.steps]
    by_noise = [most_true_positives(FALSE, epsilon_pld(steps, delta, 1e-3), delta) for delta in DELTAS]
    return Attacked(
        f"{setting.experiment.privacy.epsilon:g}",
        float(np.mean(errors)),
        curves,
        most_true_positives(FALSE, promise.epsilon, promise.delta),
        np.min(by_noise, axis=0),
    )


def planted(setting: Setting, stream: np.random.Generator) -> Examples:
    """The candidates; of the first, every value stands at one end of its public range."""
    heats, public = setting.federation.silos[0].train[:CANDIDATES], setting.federation
    inputs, targets = heats.inputs.copy(), heats.targets.copy()
    for values, ends in ((inputs, public.inputs), (targets, public.targets)):
        values[:PLANTED] = np.where(stream.random((PLANTED, values.shape[1])) < 0.5, ends.low, ends.high)
    return Examples(inputs, targets, np.arange(CANDIDATES))


def one_run(
    setting: Setting,
    learner: Learner,
    initial: Vector,
    heats: Examples,
    used: np.ndarray,
    run: int,
    scores: np.ndarray,
) -> float:
    """Train on the heats that are used in this run and fill in its scores, (ways, heats); the hold-out's error."""
    block, scaling = setting.experiment.strategy, setting.recipe(0).public_scaling()
    strategy = build_strategy(block)
    site = Site("site-0", heats[used[run]], scaling, learner, seed=run)
    server = Overheard(SequentialExchange([site], block, strategy))
    for _, progress in rounds(strategy, partial(gather, server), Progress.start(strategy, initial), block.rounds):
        released = progress.parameters
    known = scaling.apply(heats)
    scores[0] = sum(update_scores(learner, order.vector, reply.update, LR, *known) for order, reply in server.heard)
    scores[1] = loss_scores(learner, released, *known)
    fitted = Fitted(learner, scaling, released)
    return setting.score(lambda _, examples: fitted.predict(examples), common=True).total


def draw(axes: Axes, results: list[Attacked], who: str, way: str) -> None:
    """Curves with logarithmic axes, and what the promises leave."""
    for colour, result in zip(COLOURS, results, strict=False):
        curve = result.curves[who, way]
        found = [curve.at(false) for false in FALSE]
        axes.plot(FALSE, found, color=colour, label=f"ε = {result.promised}: reached")
        if result.promised != "none":
            axes.plot(FALSE, result.by_noise, "--", color=colour, linewidth=1, label="   most with this noise")
            axes.plot(FALSE, result.by_number, ":", color=colour, linewidth=1, label="   most by ε and δ alone")
    axes.plot(FALSE, FALSE, color="#999999", linewidth=1, label="a coin")
    axes.set(xscale="log", yscale="log", xlim=(0.01, 1), ylim=(0.005, 1.2), title=f"{who}, from {way}")


def main() -> None:
    """A table, and a picture where a file is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--runs", type=int, default=80)
    parser.add_argument("--epsilon", nargs="+", default=["none", "8", "2", "0.5"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    print("promised | error | who, from what | found at 1 % false (by noise, by number) | area | advantage (by noise)")
    with TemporaryDirectory() as folder:
        federation = load(read_experiment(FILE, SETTING), Path(folder), lambda *_: None)
    for epsilon in arguments.epsilon:
        promise = epsilon if epsilon == "none" else float(epsilon)
        experiment = read_experiment(FILE, {**SETTING, "privacy.epsilon": promise})
        result = attack(prepare(experiment, federation, "sequential", False, True, lambda *_: None), arguments.runs)
        results.append(result)
        most = (result.by_noise - FALSE).max() if promise != "none" else 1.0
        for (who, way), curve in result.curves.items():
            print(
                f"{epsilon:>8} | {result.error:.4f} | {who}, from {way} | "
                f"{curve.at(0.01):.3f} ({result.by_noise[0]:.3f}, {result.by_number[0]:.3f}) | "
                f"{curve.area:.3f} | {curve.advantage:.3f} ({most:.3f})",
                flush=True,
            )
    if arguments.picture:
        figure = Figure(figsize=(9, 8), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True, sharey=True)
        for axes, (who, way) in zip(panels.flat, results[0].curves, strict=True):
            draw(axes, results, who, way)
        for axes in panels[1]:
            axes.set_xlabel("share of unused heats that are accused")
        for axes in panels[:, 0]:
            axes.set_ylabel("share of used heats that are found")
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
        figure.savefig(arguments.picture)


if __name__ == "__main__":
    main()
