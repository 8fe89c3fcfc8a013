"""The job of benchmarks/simulation.py on the Ray backend of Flower (Beutel et al. 2020, arXiv 2007.14390).

It runs in a virtual environment of its own. Usage: python flower_job.py THREADS SET.npz ROUNDS; prints one JSON line.
"""

import json
import os
import resource
import sys
import time
from itertools import pairwise
from tempfile import TemporaryDirectory

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
os.environ |= {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_DEDUP_LOGS": "0", "RAY_DISABLE_DOCKER_CPU_WARNING": "1"}

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation


class Mlp(torch.nn.Sequential):
    def __init__(self) -> None:
        widths, layers = (64, 256, 256, 64, 10), []
        for width, after in pairwise(widths):
            layers += [torch.nn.Linear(width, after), torch.nn.ReLU()]
        super().__init__(*layers[:-1])


def arrays(file: str) -> dict[str, np.ndarray]:
    torch.set_num_threads(1)
    with np.load(file) as data:
        return dict(data)


def client(file: str) -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        data = arrays(file)
        here = (data["split"] == 0) & (data["silo"] == context.node_config["partition-id"])
        x, y = (torch.from_numpy(data[key][here]) for key in ("X", "y"))
        model = Mlp()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        descent = torch.optim.SGD(model.parameters(), lr=0.2)
        for rows in torch.randperm(len(x)).split(10):
            descent.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            descent.step()
        content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": len(x)})}
        return Message(content=RecordDict(content), reply_to=message)

    return app


def main(threads: int, file: str, rounds: int) -> None:
    data, ticks, found = arrays(file), [], []
    test = data["split"] != 0
    server = ServerApp()

    def judged(number: int, record: ArrayRecord) -> MetricRecord:
        ticks.append(time.perf_counter())
        if number == rounds:
            model = Mlp()
            model.load_state_dict(record.to_torch_state_dict())
            with torch.no_grad():
                right = model(torch.from_numpy(data["X"][test])).argmax(1).numpy() == data["y"][test]
            found.append(float(right.mean()))
        return MetricRecord({"round": number})

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        torch.manual_seed(0)
        strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0)
        strategy.start(grid=grid, initial_arrays=ArrayRecord(Mlp().state_dict()), num_rounds=rounds, evaluate_fn=judged)

    ray = {"num_cpus": threads, "address": "local", "include_dashboard": False}
    resources = {"client_resources": {"num_cpus": 1}, "init_args": ray}
    run_simulation(server, client(file), len(np.unique(data["silo"])), backend_config=resources)
    said = {
        "seconds": np.diff(ticks).tolist(),
        "accuracy": found[0],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    with TemporaryDirectory() as home:
        os.environ["FLWR_HOME"] = home
        main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
