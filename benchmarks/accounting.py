"""How fast noise is calibrated, beside dp-accounting's own search.

Usage: python benchmarks/accounting.py [--json] [--quick]
"""

import argparse
import json
import time

import dp_accounting
from dp_accounting.pld import PLDAccountant

from jangin.privacy.accounting import calibrate

DELTA, PROBABILITY = 1e-5, 128 / 10_000


def ours(epsilon: float, steps: int) -> float:
    return calibrate(epsilon, DELTA, PROBABILITY, steps).noise_multiplier


def theirs(epsilon: float, steps: int) -> float:
    return dp_accounting.calibrate_dp_mechanism(
        PLDAccountant,
        lambda noise: dp_accounting.SelfComposedDpEvent(
            dp_accounting.PoissonSampledDpEvent(PROBABILITY, dp_accounting.GaussianDpEvent(noise)), steps
        ),
        epsilon,
        DELTA,
        bracket_interval=dp_accounting.LowerEndpointAndGuess(0.3, 1.0),
        tol=1e-3,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only JSON lines (they are the only form)")
    parser.add_argument("--quick", action="store_true", help="few steps: keeps this script alive")
    arguments = parser.parse_args()
    for epsilon in (1.0, 8.0):
        steps = 20 if arguments.quick else 781
        seconds, noise = {}, {}
        for search in (ours, theirs):
            start = time.process_time()
            noise[search] = search(epsilon, steps)
            seconds[search] = time.process_time() - start
        row = {
            "name": f"calibrate to epsilon {epsilon:g}, {steps} steps, CPU seconds",
            "figure": round(seconds[ours], 3),
            "beside": {"dp-accounting": round(seconds[theirs], 3)},
            "ratio": round(seconds[ours] / seconds[theirs], 3),
            "goal": "< 2 s, <= 1 % excess noise",
            "holds": seconds[ours] < 2 and noise[ours] <= 1.01 * noise[theirs],
        }
        print(json.dumps(row))


if __name__ == "__main__":
    main()
