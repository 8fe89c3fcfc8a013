"""How much of a broken promise would one run show? Canaries in the real local loop, with noise that is too small.

A canary is a record with an input column of its own, put in or left out by a fair coin; after a campaign's steps the
weight of that column tells how likely it was in. Run it:
.venv/bin/python examples/audit_the_noise.py [--picture FILE.svg] [--runs 5] [--promised 1 4 8]
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from jangin.models.flat import FlatModel
from jangin.models.networks import build
from jangin.models.spec import LinearSpec
from jangin.models.tasks import Task
from jangin.privacy.accounting import calibrate
from jangin.privacy.audit import Guesses, guess, proven_epsilon
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import Guarantee, LocalDpSgd, Relation, Unit
from jangin.privacy.sampling import UnitIndex
from jangin.training.loop import Learner

CANARIES, STEPS, PROBABILITY, DELTA, CLIP = 1000, 40, 0.25, 1e-5, 1.0
GUESSED = (50, 100, 200, 400, 1000)
LR = 1e-4  # so small that no canary is ever learnt, and each stays as loud as the clip allows


def promised(epsilon: float) -> LocalDpSgd:
    """The mechanism that keeps (epsilon, DELTA) for each canary."""
    steps = calibrate(epsilon, DELTA, PROBABILITY, STEPS)
    guarantee = Guarantee(Unit.EPISODE, Relation.ADD_OR_REMOVE, epsilon, DELTA)
    return LocalDpSgd(Unit.EPISODE, CLIP, steps, 1.0, 1, None, guarantee)


def run(mechanism: LocalDpSgd, share: float) -> list[Guesses]:
    """One run with `share` of the noise that the mechanism asks for; the guesses at several numbers of them."""
    random = SecureRandom()
    included = random.uniform(CANARIES) < 0.5
    signs = np.where(random.uniform(CANARIES) < 0.5, 1.0, -1.0)
    weaker = replace(
        mechanism, steps=replace(mechanism.steps, noise_multiplier=share * mechanism.steps.noise_multiplier)
    )
    model = FlatModel(build(LinearSpec(name="linear"), (CANARIES,), 1, seed=0), ())
    learner = Learner(model, Task.REGRESSION, weaker)
    inputs = torch.from_numpy(10.0 * np.eye(CANARIES, dtype=np.float32)[included])
    targets = torch.from_numpy(10.0 * signs[included, None].astype(np.float32))
    learner.descend(learner.private_gradients(inputs, targets, UnitIndex(np.arange(included.sum())), STEPS, random), LR)
    scores = learner.model.read()[:CANARIES].astype(np.float64) * signs
    return [guess(scores, included, guessed) for guessed in GUESSED]


def best(guesses: list[Guesses]) -> float:
    """The most that the guesses prove, each at a confidence that makes 95 % together (Bonferroni)."""
    return max(proven_epsilon(one, DELTA, 1.0 - 0.05 / len(guesses)) for one in guesses)


def main() -> None:
    """A table, and a picture where a file is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--promised", type=float, nargs="+", default=[1.0, 4.0, 8.0])
    arguments = parser.parse_args()
    shares, runs = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1), arguments.runs
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    print(f"promised | noise, share | proven: median (least, most) of {runs} runs")
    for colour, epsilon in zip(("#0072B2", "#009E73", "#D55E00"), arguments.promised, strict=False):
        mechanism, medians = promised(epsilon), []
        for share in shares:
            proven = sorted(best(run(mechanism, share)) for _ in range(runs))
            medians.append(proven[runs // 2])
            found = "refuted" if medians[-1] > epsilon else "missed" if share < 1 else "kept"
            print(f"{epsilon:8g} | {share:12g} | {medians[-1]:6.2f} ({proven[0]:.2f}, {proven[-1]:.2f})  {found}")
        axes.plot(shares, medians, "o-", color=colour, label=f"proven, where {epsilon:g} is promised")
        axes.axhline(epsilon, color=colour, linestyle=":", linewidth=1)
    axes.set(xlabel="noise really added, as a share of what the promise needs", ylabel="epsilon", xlim=(1.05, 0))
    axes.legend()
    if arguments.picture:
        figure.savefig(arguments.picture)


if __name__ == "__main__":
    main()
