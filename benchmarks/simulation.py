"""How fast a federation is simulated: engines beside pfl-research 0.6, Flower 1.41 on Ray and a plain loop, on one job.

The job: a perceptron of 99,530 parameters (64-256-256-64-10), 100 sites of 50 examples, batches of 10, one pass over
them a round, FedAvg. Every contender is a process of its own; they take turns, and a figure is sites over the median
seconds of a round, the first left out. Flower, which takes minutes, runs once and shorter, in the last turn. Peers get
virtual environments under the user's cache folder, made once; where that cannot be, they are left out with the reason.
Memory is measured on the same job once more with 10,000 sites.

Usage: python benchmarks/simulation.py [--json] [--quick]
"""

import argparse
import compileall
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import numpy as np

STOCK = Path(__file__).parent / "stock"
PEERS = {
    "pfl-research": ("pfl==0.6.0", STOCK / "pfl_job.py"),
    "Flower on Ray": ("flwr[simulation]==1.41.0", STOCK / "flower_job.py"),
}
SLOW, SLOW_ROUNDS = "Flower on Ray", 3
CROWD, CROWD_ROUNDS = 10_000, 5
WIDTHS, CLASSES = (64, 256, 256, 64), 10
TRAIN, TEST, BATCH, LR = 50, 10, 10, 0.2


def write(folder: Path, sites: int) -> Path:
    """The set: classes by the largest of ten linear scores."""
    rng = np.random.default_rng(0)
    rows = sites * (TRAIN + TEST)
    x = rng.normal(size=(rows, WIDTHS[0])).astype(np.float32)
    silo = np.repeat(np.arange(sites), TRAIN + TEST)
    np.savez(
        folder / "set.npz",
        X=x,
        y=(x @ rng.normal(size=(WIDTHS[0], CLASSES))).argmax(axis=1),
        silo=silo,
        unit=np.arange(rows),
        split=(np.arange(rows) % (TRAIN + TEST) >= TRAIN).astype(np.int64),
    )
    return folder / "set.npz"


def ours(file: Path, rounds: int, threads: int, engine: str) -> dict:
    """The job through `simulate`."""
    from jangin import simulate

    steps = {"rounds": rounds, "local_steps": TRAIN // BATCH, "batch": BATCH, "lr": LR}
    job = {
        "data": {"npz": str(file), "task": "multiclass", "classes": CLASSES},
        "model": {"name": "mlp", "hidden": WIDTHS[1:]},
        "strategy": {"name": "fedavg"} | steps,
        "baselines": [],
    }
    if engine == "M1":
        job["privacy"] = {"epsilon": 8, "delta": 1e-3, "nominal_units": TRAIN, "scaling_share": 0}
        job["data"] |= {"x_range": [-4, 4]}
        engine = "stacked"
    written = file.with_suffix(f".{engine}.yaml")
    written.write_text(json.dumps(job))
    result = simulate(written, engine=engine, threads=threads, accept_noise=True)
    return {"seconds": [row["seconds"] for row in result.rounds], "accuracy": result.metric["federated"]}


def loop(file: Path, rounds: int, threads: int) -> dict:
    """The job as a page of torch, with nothing that it does not need."""
    import torch

    torch.set_num_threads(threads)
    data = np.load(file)
    train, layers = data["split"] == 0, []
    for width, after in zip(WIDTHS, (*WIDTHS[1:], CLASSES), strict=True):
        layers += [torch.nn.Linear(width, after), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    sites = [
        [torch.from_numpy(data[key][train & (data["silo"] == site)]) for key in ("X", "y")]
        for site in np.unique(data["silo"])
    ]
    center, taken = [p.detach().clone() for p in model.parameters()], []
    for _ in range(rounds):
        start = time.perf_counter()
        total = [torch.zeros_like(p) for p in center]
        for x, y in sites:
            with torch.no_grad():
                for p, c in zip(model.parameters(), center, strict=True):
                    p.copy_(c)
            descent = torch.optim.SGD(model.parameters(), lr=LR)
            for rows in torch.randperm(len(x)).split(BATCH):
                descent.zero_grad()
                torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
                descent.step()
            with torch.no_grad():
                for t, p in zip(total, model.parameters(), strict=True):
                    t.add_(p)
        center = [t / len(sites) for t in total]
        taken.append(time.perf_counter() - start)
    with torch.no_grad():
        for p, c in zip(model.parameters(), center, strict=True):
            p.copy_(c)
        found = model(torch.from_numpy(data["X"][~train])).argmax(1).numpy()
    return {"seconds": taken, "accuracy": float((found == data["y"][~train]).mean())}


def peer(name: str) -> Path | None:
    """The Python of an environment with a peer; None, and the reason on stderr, where there can be none."""
    package, _ = PEERS[name]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "jangin" / "benchmarks" / package.replace("[simulation]", "").replace("==", "-")
    python = place / "bin" / "python"
    if (place / "done").exists():
        return python
    from importlib.metadata import version

    torch = f"torch=={version('torch').split('+')[0]}"
    try:
        venv.create(place, with_pip=True, clear=True)
        command = [python, "-m", "pip", "install", "--quiet", package, torch]
        subprocess.run(command, check=True, stdout=sys.stderr, timeout=1200)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"left out: {name} cannot be installed: {error}", file=sys.stderr)
        return None
    (place / "done").touch()
    return python


def contenders(quick: bool) -> dict[str, list[str]]:
    """The command of each, less set and rounds, by name."""
    import jangin

    compileall.compile_dir(Path(jangin.__file__).parent, quiet=2)  # as pip has compiled the others
    here = [sys.executable, __file__, "--run"]
    found = {kind: [*here, kind, "1"] for kind in ("stacked", "sequential", "loop", "M1")}
    if not quick:
        found["stacked, 2 threads"] = [*here, "stacked", "2"]
        for name, (_, job) in PEERS.items():
            python = peer(name)
            if python:
                found[name] = [str(python), str(job), "1"]
    return found


def run(command: list[str], file: Path, rounds: int) -> dict:
    """What a contender says of one run, with the seconds outside its rounds."""
    start = time.perf_counter()
    done = subprocess.run([*command, str(file), str(rounds)], stdout=subprocess.PIPE, text=True, check=True)
    said = next(json.loads(line) for line in reversed(done.stdout.splitlines()) if line.startswith('{"seconds"'))
    return said | {"startup": time.perf_counter() - start - sum(said["seconds"])}


def measured(quick: bool) -> dict[str, dict[str, float]]:
    """Client-rounds a second, seconds before and after the rounds, megabytes and accuracy of each contender."""
    sites, rounds, turns = (4, 2, 1) if quick else (100, 12, 3)
    commands = contenders(quick)
    said: dict[str, list[dict]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder), sites)
        for turn in range(turns):
            for name, command in commands.items():
                if name != SLOW:
                    said[name].append(run(command, file, rounds))
                elif turn == turns - 1:
                    said[name].append(run(command, file, SLOW_ROUNDS))
    return {
        name: {
            "rate": sites / statistics.median([second for run in runs for second in run["seconds"][1:]]),
            **{key: statistics.median([run[key] for run in runs]) for key in ("startup", "peak_mb", "accuracy")},
        }
        for name, runs in said.items()
    }


def crowd(sites: int) -> float:
    """Peak megabytes of the job with so many sites."""
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder), sites)
        return run([sys.executable, __file__, "--run", "stacked", "1"], file, CROWD_ROUNDS)["peak_mb"]


def rows(quick: bool):
    found = measured(quick)

    def row(what: str, figure: float, beside: dict, ratio: float | None, goal: str, holds: bool | None) -> dict:
        rounded = {name: round(value, 2) for name, value in beside.items()}
        ratio = None if ratio is None else round(ratio, 2)
        named = {"name": f"simulation, {what}", "figure": round(figure, 2), "beside": rounded}
        return named | {"ratio": ratio, "goal": goal, "holds": holds}

    rates = {name: one["rate"] for name, one in found.items()}
    goals = [("stacked", 4), ("stacked, 2 threads", 7), ("M1", 1)]
    for name, least, peer in [*((name, least, "pfl-research") for name, least in goals), ("stacked", 40, SLOW)]:
        if name in rates:
            ratio = rates[name] / rates[peer] if peer in rates else None
            beside = {other: rate for other, rate in rates.items() if other != name}
            goal = f">= {least} times {peer}"
            yield row(f"{name}, client-rounds/s", rates[name], beside, ratio, goal, ratio and ratio >= least)
    for key, what, goal, most in (
        ("startup", "all but the rounds, s", "<= 2", 2),
        ("peak_mb", "peak memory, MB", "<= 300", 300),
    ):
        beside = {name: one[key] for name, one in found.items() if name not in ("stacked", "M1")}
        figure = found["stacked"][key]
        yield row(f"stacked, {what}", figure, beside, None, goal, figure <= most)
    many = 20 if quick else CROWD
    peak = crowd(many)
    yield row(f"stacked, {many:,} sites x {CROWD_ROUNDS} rounds, peak MB", peak, {}, None, "<= 2048", peak <= 2048)
    beside = {name: one["accuracy"] for name, one in found.items() if name not in ("stacked", "M1", SLOW)}
    figure = found["stacked"]["accuracy"]
    near = max(abs(figure - other) for other in beside.values()) <= 0.03
    yield row("stacked, accuracy", figure, beside, None, "within .03 of all of as many rounds", near)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only JSON lines (they are the only form)")
    parser.add_argument("--quick", action="store_true", help="few sites, once, without the peers: keeps this alive")
    parser.add_argument("--run", nargs=4, metavar=("KIND", "THREADS", "SET", "ROUNDS"), help="be one contender")
    arguments = parser.parse_args()
    if arguments.run:
        kind, threads, file, rounds = arguments.run
        job = Path(file), int(rounds), int(threads)
        said = loop(*job) if kind == "loop" else ours(*job, kind)
        print(json.dumps(said | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
        return
    for row in rows(arguments.quick):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
