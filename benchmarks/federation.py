"""How long a round takes whose training is next to nothing: real processes on loopback, beside a stock Flower's.

Usage: python benchmarks/federation.py [--json] [--quick]

Ours is everything of the field: site daemons, TLS, node keys, signed plans, gate, journal, egress log, checkpoints;
the model is linear, one step on one record. The figure is the median of the server's own records of the rounds, the
first ones, in which workers start, left out. Flower's is plain FedAvg, without TLS and without keys. With secure
aggregation a round has five exchanges, and its row stands beside our plain one.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import stock

from jangin.codec.document import parse
from jangin.plan.training_plan import TrainingPlan
from jangin.records.checks import validate
from jangin.records.generate import generate
from jangin.simulation.loopback import demo_policy, run_on_loopback

PROCESS, LINE = "steel.bof_blow", "national-bof-blow"
GOALS = {5: 0.4, 20: 1.2}
SUM_GOALS = {5: 2.0, 20: 5.0}
FEWEST = 4
LEFT_OUT = 5
SECONDS_A_ROUND = 60.0


def records(folder: Path, sites: int) -> dict[str, Path]:
    """A few made records for each site, by its name."""
    made = generate(PROCESS, folder, sites=sites, masters=2, episodes=12, seed=5)
    for one in made:
        validate(one, level=1, unit="episode", random_bytes=np.random.default_rng(5).bytes).require(one)
    return {one.name: one for one in made}


def no_op(sites: list[str], rounds: int, *, sums: bool = False) -> TrainingPlan:
    """A campaign in which all sites take part in every round, and none has anything to do."""
    policy = demo_policy(len(sites))
    of_sums = {
        "secure_aggregation": "required",
        "nominal_units": 10,
        "c_max": policy["c_max"],
        "n_plan": max(policy["n_min"], FEWEST),
        "n_min_final": policy["n_min_final"],
    }
    document = {
        "campaign": "no-op",
        "process": PROCESS,
        "model_line": LINE,
        "sites": {"invite": sites, "min_sites": len(sites), "round_deadline": f"{SECONDS_A_ROUND:.0f}s"},
        "model": {"name": "linear"},
        "strategy": {"name": "fedavg", "rounds": rounds, "local_steps": 1, "batch": 1, "lr": 0.05},
        "privacy": {"epsilon": "none", **(of_sums if sums else {})},
        "governance": {
            "purposes": ["research"],
            "prohibited": ["worker_evaluation", "dismissal"],
            "release": {"recipients": "contributors", "export": "domestic_only"},
        },
    }
    return parse(document, TrainingPlan, "no-op plan")


def ours(folder: Path, sites: int, rounds: int, *, sums: bool = False) -> list[float]:
    made = records(folder / "records", sites)
    plan = no_op(list(made), rounds, sums=sums)
    limit = SECONDS_A_ROUND * (rounds + 1)
    ran = run_on_loopback(folder / "federation", made, plan, limit, lambda done, total: None)
    return [entry.seconds for entry in ran.status.attempts if entry.round]


def summed(folder: Path, sites: int, rounds: int) -> list[float]:
    return ours(folder, sites, rounds, sums=True)


def theirs(folder: Path, sites: int, rounds: int) -> list[float]:
    with stock.deployment(folder / "stock", sites) as flower:
        return flower.seconds("rounds", rounds, SECONDS_A_ROUND * (rounds + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only JSON lines (they are the only form)")
    parser.add_argument("--quick", action="store_true", help="four sites, few rounds: keeps this script alive")
    arguments = parser.parse_args()
    sizes = (FEWEST,) if arguments.quick else tuple(GOALS)
    rounds: dict[Callable[[Path, int, int], list[float]], tuple[int, int]] = (
        {ours: (2, 1), summed: (2, 1), theirs: (1, 0)}
        if arguments.quick
        else {ours: (25, LEFT_OUT), summed: (25, LEFT_OUT), theirs: (4, 1)}
    )
    for sites in sizes:
        seconds = {}
        for federation, (count, left_out) in rounds.items():
            with TemporaryDirectory(prefix="jangin-") as folder:
                seconds[federation] = median(federation(Path(folder), sites, count)[left_out:])
        show(
            f"no-op round at {sites} sites, seconds",
            seconds[ours],
            "stock Flower, FedAvg",
            seconds[theirs],
            GOALS.get(sites),
        )
        show(
            f"no-op round with secure aggregation at {sites} sites, seconds",
            seconds[summed],
            "ours without",
            seconds[ours],
            SUM_GOALS.get(sites),
        )


def show(name: str, figure: float, other: str, beside: float, goal: float | None) -> None:
    """One row, in seconds."""
    row = {
        "name": name,
        "figure": round(figure, 3),
        "beside": {other: round(beside, 3)},
        "ratio": round(figure / beside, 3),
        "goal": None if goal is None else f"<= {goal:g} s",
        "holds": None if goal is None else figure <= goal,
    }
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
