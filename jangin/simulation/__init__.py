"""A whole federation in one process: `simulate` runs one YAML file and compares it honestly with doing without.

Reading order: `experiment` (the file), `federation` (the sites' data), `run` (the numbered steps), `baselines`,
`result`. Importing this package loads torch.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _for_good() -> Iterator[None]:
    """What is loaded meanwhile stays, so no collection looks at it: neither while it is loaded nor later nor at exit.

    Torch is more than a hundred thousand objects: it is loaded, and left, with a quarter less of the processor's time.
    """
    gc.collect()  # what nobody needs by now would stay too
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


with _for_good():
    from jangin.simulation.result import Result
    from jangin.simulation.run import simulate
    from jangin.simulation.sweep import Sweep, sweep

__all__ = ["Result", "Sweep", "simulate", "sweep"]
