"""A whole federation in one process: `simulate` runs one YAML file and compares it honestly with doing without.

Reading order: `experiment` (the file), `federation` (the sites' data), `run` (the numbered steps), `baselines`,
`result`. Importing this package loads torch.
"""

from jangin.simulation.result import Result
from jangin.simulation.run import simulate
from jangin.simulation.sweep import Sweep, sweep

__all__ = ["Result", "Sweep", "simulate", "sweep"]
