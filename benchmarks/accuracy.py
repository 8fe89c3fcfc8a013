"""The accuracy tables of README: real sets, two seeds. Usage: python benchmarks/accuracy.py [DATA] [--json]

DATA is the folder of the sets (default ../shared/data); a set that is not there is named and left out.
"""

import argparse
import json
import sys
from pathlib import Path

from jangin import simulate

CONFIGS = Path(__file__).resolve().parents[1] / "jangin" / "configs" / "simulations"

# name, set, over sites, what must hold: (model, bound) by figure, or (model, other model) side by side
ROWS = [
    ("cmapss", "cmapss/cmapss.npz", False, [("federated", 15.2), ("federated", "local")]),
    ("cmapss-private", "cmapss/cmapss.npz", False, [("federated", "local_private"), ("federated", "constant")]),
    ("worker-motion", "worker_motion_har/worker_motion_har.npz", False, [("personalised", 0.94)]),
    (
        "worker-motion-mrmtl",
        "worker_motion_har/worker_motion_har.npz",
        False,
        [("personalised", "federated"), ("personalised", "local_private")],
    ),
    ("fed-heart", "fed_heart/fed_heart.npz", True, [("federated", 0.66)]),
    ("ai4i", "ai4i2020/ai4i2020.npz", False, [("federated", 0.66)]),
    ("steel-bof-blow-masters", None, False, [("federated", 0.04), ("federated", "constant")]),  # generated records
]
MODELS = ("local", "local_trees", "local_private", "federated", "personalised", "pooled", "constant")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--json", action="store_true", help="one JSON line a row")
    parser.add_argument("--quick", action="store_true", help="two rounds, one seed: keeps this script alive")
    arguments = parser.parse_args()
    if not arguments.json:
        print(
            "| simulation | metric | "
            + " | ".join(MODELS)
            + " | better off: federated, personalised | privacy | holds |"
        )
        print("|---" * (len(MODELS) + 5) + "|")
    failed = False
    for name, npz, per_site, bounds in ROWS:
        if npz and not (arguments.data / npz).exists():
            print(f"left out: {name}: {arguments.data / npz} is not there", file=sys.stderr)
            continue
        quick = {"strategy.rounds": 2, "strategy.local_steps": 2, "seeds": 1} if arguments.quick else {}
        data = {"data.npz": str(arguments.data / npz)} if npz else {}
        if arguments.quick and not npz:
            data = {"data.sites": 3, "privacy.n_plan": 3}
        result = simulate(
            CONFIGS / f"{name}.yaml", per_site=per_site, accept_noise=arguments.quick, sets={**data, **quick}
        )
        figures = {model: result.metric.get(model) for model in MODELS}
        holds = all(_holds(result.metric, model, bound) for model, bound in bounds)
        failed |= not holds and not arguments.quick
        if arguments.json:
            goals = [f"{model} vs {bound}" for model, bound in bounds]
            beside = {model: figure for model, figure in figures.items() if model != "federated"}
            row = {"name": name, "figure": figures["federated"], "beside": beside, "ratio": None, "goal": goals}
            print(json.dumps({**row, "holds": holds}))
            continue
        arrow = "↑" if result.metric["higher_is_better"] else "↓"
        cells = [
            "-" if figure is None else f"{figure:.4g} ± {result.std[model]:.2g}" for model, figure in figures.items()
        ]
        shares = [result.better_off[model] for model in ("federated", "personalised")]
        better = ", ".join("-" if share is None else f"{share:.0%}" for share in shares)
        promise = result.privacy
        if not isinstance(promise, str):
            promise = f"ε = {promise['epsilon']:.3g}, δ = {promise['delta']:.0e} per {promise['unit']}"
        metric = f"{result.metric['name']} {arrow}{', mean of sites' if per_site else ''}"
        print(f"| {name} | {metric} | {' | '.join(cells)} | {better} | {promise} | {'yes' if holds else 'NO'} |")
    return int(failed)


def _holds(metric, model, bound):
    limit = metric[bound] if isinstance(bound, str) else bound
    return metric[model] > limit if metric["higher_is_better"] else metric[model] < limit


if __name__ == "__main__":
    sys.exit(main())
