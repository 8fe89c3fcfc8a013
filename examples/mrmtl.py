"""One private model for all, each site alone, or a model of one's own held near the mean? Three answers at one epsilon.

Every answer is taken at its best of one grid, chosen by looking at the hold-outs, and then run anew with fresh noise.
Run it (about ten minutes): .venv/bin/python examples/mrmtl.py [SIMULATION.yaml] [--picture FILE.svg] [--seeds 3]
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jangin import simulate
from jangin.simulation import Result

ROUNDS, LOCAL_STEPS = 20, 5
FILE = files("jangin.configs") / "simulations" / "worker-motion-mrmtl.yaml"
STEPS, CLIPS, BATCHES, PULLS = (1.5, 3.0, 6.0), (0.1, 0.25, 0.5), (125, 250), (0.01, 0.03, 0.1)
LOWER_STEPS = (0.4, 0.75)
EPSILON, EPSILONS = 6.0, (0.5, 1.0, 2.0, 4.0, 6.0, 10.0)
CURVE = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
ANSWERS = {"MR-MTL": "personalised", "FedAvg": "federated", "alone": "local_private"}
Figures = tuple[float, float]
COLOURS = {"MR-MTL": "#009E73", "FedAvg": "#0072B2", "alone": "#CC79A7"}


@dataclass(frozen=True)
class Setting:
    """One point of the grid.

    Attributes:
        step: learning rate times clip, the length of a step where every gradient is clipped.
        clip: L2 bound of a record's gradient.
        batch: records in a step, on average; of 250.
        pull: lr * lambda, the part of the way to the mean that a step takes; None without MR-MTL.
    """

    step: float
    clip: float
    batch: int
    pull: float | None = None

    @property
    def lr(self) -> float:
        """Learning rate."""
        return self.step / self.clip

    def __str__(self) -> str:
        pull = "" if self.pull is None else f", lambda {self.pull / self.lr:.3g}"
        return f"lr {self.lr:.3g}, clip {self.clip:g}, batch {self.batch}{pull}"


@dataclass(frozen=True)
class Bench:
    """The simulation file, and how many rounds it is run for."""

    file: Path
    rounds: int

    def run(self, setting: Setting, epsilon: float, seeds: int = 1) -> Result:
        """MR-MTL where the setting pulls; else FedAvg, with each site alone and without privacy beside it."""
        block: dict[str, Any] = {"name": "fedavg", "rounds": self.rounds, "local_steps": LOCAL_STEPS}
        block |= {"batch": setting.batch, "lr": setting.lr}
        baselines = ["local"]
        if setting.pull is not None:
            block |= {"name": "mrmtl", "lam": setting.pull / setting.lr}
            baselines = ["personalised"]
        privacy = {"privacy.epsilon": epsilon, "privacy.clip": setting.clip}
        return simulate(self.file, seeds=seeds, strategy=block, baselines=baselines, **privacy)

    def best(self, epsilon: float, settings: list[Setting], pulls: tuple[float, ...]) -> dict[str, Setting]:
        """For each answer its setting with the highest figure in one run."""
        found: dict[str, tuple[float, Setting]] = {}
        for setting, pull in product(settings, (None, *pulls)):
            tried = replace(setting, pull=pull)
            metric = self.run(tried, epsilon).metric
            for answer in ("FedAvg", "alone") if pull is None else ("MR-MTL",):
                figure = metric[ANSWERS[answer]]
                if answer not in found or figure > found[answer][0]:
                    found[answer] = figure, tried
        return {answer: setting for answer, (_, setting) in found.items()}


def searched(bench: Bench, quick: bool) -> dict[float, dict[str, Setting]]:
    """The best setting of each answer at each epsilon; clip and batch are those of EPSILON throughout."""
    if quick:
        return {EPSILON: bench.best(EPSILON, [Setting(3.0, 0.25, 250)], PULLS[:1])}
    chosen = {EPSILON: bench.best(EPSILON, [Setting(*point) for point in product(STEPS, CLIPS, BATCHES)], PULLS)}
    at = chosen[EPSILON]["MR-MTL"]
    near = [replace(at, step=step) for step in (*LOWER_STEPS, *STEPS)]
    return {e: chosen.get(e) or bench.best(e, near, PULLS) for e in EPSILONS}


def draw(axes: Axes, xs: Sequence[float], figures: Sequence[Figures], answer: str) -> None:
    """One answer's line: means and deviations."""
    means, deviations = zip(*figures, strict=True)
    axes.errorbar(xs, means, deviations, fmt="o-", color=COLOURS[answer], label=answer)


def main() -> None:
    """A table, and a picture where a file is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one point, one round: keeps this script alive")
    arguments = parser.parse_args()
    quick, seeds = arguments.quick, arguments.seeds
    bench = Bench(arguments.file, 1 if quick else ROUNDS)
    chosen = searched(bench, quick)
    lines: dict[str, list[Figures]] = {answer: [] for answer in ANSWERS}
    plain = 0.0
    print(f"epsilon | answer | mean ± deviation of {seeds} runs | setting")
    for epsilon, answers in chosen.items():
        for answer, key in ANSWERS.items():
            result = bench.run(answers[answer], epsilon, seeds)
            lines[answer].append((result.metric[key], result.std[key] or 0.0))
            plain = max(plain, result.metric["local"] or 0.0)
            print(f"{epsilon:7g} | {answer:6s} | {result.metric[key]:.4f} ± {result.std[key]:.4f} | {answers[answer]}")
    print(f"alone without privacy, at the best of these settings: {plain:.4f}")

    curve = [replace(chosen[EPSILON]["MR-MTL"], pull=pull) for pull in (CURVE[:1] if quick else CURVE)]
    runs = [bench.run(setting, EPSILON, seeds) for setting in curve]
    pulled = [(run.metric["personalised"], run.std["personalised"] or 0.0) for run in runs]
    lambdas = [(setting.pull or 0.0) / setting.lr for setting in curve]
    for lam, (mean, deviation) in zip(lambdas, pulled, strict=True):
        print(f"lambda {lam:.3g}: {mean:.4f} ± {deviation:.4f}")

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    draw(left, lambdas, pulled, "MR-MTL")
    at = list(chosen).index(EPSILON)
    for answer in ("FedAvg", "alone"):
        left.axhline(lines[answer][at][0], color=COLOURS[answer], linestyle="--")
    for answer, line in lines.items():
        draw(right, list(chosen), line, answer)
    for axes in (left, right):
        axes.axhline(plain, color="#999999", linestyle=":", label="alone without privacy")
        axes.set_xscale("log")
    left.set(xlabel=f"lambda, at epsilon {EPSILON:g}", ylabel=result.metric["name"])
    right.set_xlabel("epsilon for each record")
    right.set_xticks(list(chosen), [f"{epsilon:g}" for epsilon in chosen], minor=False)
    right.minorticks_off()
    right.legend()
    if arguments.picture:
        figure.savefig(arguments.picture)


if __name__ == "__main__":
    main()
