"""What does an epsilon cost, and what do more rounds bring at each? Five steelworks; a table, and pictures with --out.

Run it (some minutes): .venv/bin/python examples/sweep_epsilon.py [SIMULATION.yaml] [--out DIR]
"""

import argparse
from importlib.resources import files
from pathlib import Path

from jangin.simulation import sweep

FILE = files("jangin.configs") / "simulations" / "steel-bof-blow.yaml"
OVER = {"privacy.epsilon": [2, 4, 8, "none"], "strategy.rounds": [10, 20]}
QUICK = {"data.sites": 2, "data.episodes": 24, "strategy.local_steps": 1, "baselines": []}


def main() -> None:
    """Print the comparison table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="two small works and one round: keeps this script alive")
    arguments = parser.parse_args()
    over = {"privacy.epsilon": ["none"], "strategy.rounds": [1]} if arguments.quick else OVER
    done = sweep(arguments.file, over, out=arguments.out, sets=QUICK if arguments.quick else None)
    for row in done.rows:
        if row.refused:
            print(f"{row.values}: {row.refused}")
    print(done.markdown())


if __name__ == "__main__":
    main()
