"""The demo: records of a reference process made, checked and learnt from, in this one process.

The daemons, keys and connections of the field are not there yet; what is there is the field's: records in folders,
hold-outs set aside by a key, scaling by noised sums, rounds, noise.
"""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from jangin.errors import PlanError
from jangin.simulation.federation import Advance
from jangin.simulation.result import Result
from jangin.simulation.run import simulate

__all__ = ["DEMOS", "run_demo"]

DEMOS = {"steel.bof_blow": "steel-bof-blow.yaml"}
"""The simulation file of each process that has a demo."""


def run_demo(
    process: str, *, sites: int, rounds: int | None, keep: Path | None, progress: Advance
) -> tuple[dict[str, Any], Result]:
    """Run the process's simulation with so many sites, and rounds where they are given.

    Returns:
        The last line of `jangin demo --format json`, and the result behind it. `local`, `local_trees`, `federated`,
        `pooled` and `constant` are on the union of hold-outs, `*_own` on each site's own. One process: `rss_mb`
        has its peak as `server` and no `site_median`.

    Raises:
        PlanError: JG-plan-003, a process without a demo.
    """
    if process not in DEMOS:
        problem = f"there is a demo of {', '.join(DEMOS)}"
        raise PlanError("JG-plan-003", where="--process", value=process, problem=problem)
    with as_file(files("jangin.configs").joinpath("simulations", DEMOS[process])) as file:
        sets: dict[str, Any] = {"data.sites": sites}
        if rounds is not None:
            sets["strategy.rounds"] = rounds
        result = simulate(file, out=keep, progress=progress, **sets)
    promise = result.privacy
    if not isinstance(promise, str):
        promise = {key: promise[key] for key in ("unit", "epsilon", "delta", "mechanism")}
    union = result.union
    metric = {name: union[name] for name in ("local", "federated", "pooled", "local_trees", "constant")}
    own = {"local_own": result.metric["local"], "federated_own": result.metric["federated"]}
    outcome = {
        "sites": sites,
        "rounds": len(result.rounds),
        "seconds_per_round": [round(row["seconds"], 4) for row in result.rounds],
        "metric": {"name": result.metric["name"], **metric, **own},
        "privacy": promise,
        "rss_mb": {"server": round(result.peak_rss_mb, 1), "site_median": None},
        "abstained": [],
        "ok": True,
    }
    return outcome, result
