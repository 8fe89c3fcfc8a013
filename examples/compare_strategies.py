"""Which strategy suits steelworks in different regimes? Without privacy, then with an epsilon for every heat.

Run it: .venv/bin/python examples/compare_strategies.py [SIMULATION.yaml]
"""

import sys
from importlib.resources import files

from jangin import simulate

FILE = sys.argv[1] if len(sys.argv) > 1 else str(files("jangin.configs") / "simulations" / "steel-bof-blow.yaml")
STRATEGIES = {
    "fedavg": {},
    "fedavgm": {"beta": 0.5},
    "fedadam": {"server_lr": 0.02},
    "scaffold": {},
}


def main() -> None:
    """Print one line a strategy and promise."""
    for epsilon in ("none", 8):
        for name, settings in STRATEGIES.items():
            block = {"name": name, "rounds": 20, "local_steps": 5, "batch": 480, "lr": 0.02, **settings}
            result = simulate(FILE, **{"strategy": block, "privacy.epsilon": epsilon, "baselines": ["pooled"]})
            promise = result.privacy if isinstance(result.privacy, str) else f"epsilon {result.privacy['epsilon']:.2f}"
            figures = f"{result.metric['federated']:.4f}, pooled {result.metric['pooled']:.4f}"
            print(f"{name:8s} {result.metric['name']} {figures}  {promise}")


if __name__ == "__main__":
    main()
