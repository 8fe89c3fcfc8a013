"""The job of benchmarks/simulation.py in pfl-research (Granqvist et al. 2024, arXiv 2404.06430).

It runs in a virtual environment of its own. Usage: python pfl_job.py THREADS SET.npz ROUNDS; prints one JSON line.
"""

import json
import resource
import sys
import time
from itertools import pairwise

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel


class Mlp(torch.nn.Sequential):
    def __init__(self) -> None:
        widths, layers = (64, 256, 256, 64, 10), []
        for width, after in pairwise(widths):
            layers += [torch.nn.Linear(width, after), torch.nn.ReLU()]
        super().__init__(*layers[:-1])

    def loss(self, x, y, eval=False):  # noqa: A002 - pfl's name
        return torch.nn.functional.cross_entropy(self(x), y)

    def metrics(self, x, y, eval=False):  # noqa: A002 - pfl's name
        return {"loss": Weighted(self.loss(x, y).item(), 1)}


class Clock(TrainingProcessCallback):
    """Notes when every round was over."""

    def __init__(self) -> None:
        self.ticks = [time.perf_counter()]

    def on_train_begin(self, *, model):
        self.ticks = [time.perf_counter()]
        return Metrics()

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        self.ticks.append(time.perf_counter())
        return False, Metrics()


def main(threads: int, file: str, rounds: int) -> None:
    torch.set_num_threads(threads)
    data = np.load(file)
    train = data["split"] == 0
    sites = np.unique(data["silo"])
    users = {
        int(site): [torch.from_numpy(data[key][train & (data["silo"] == site)]) for key in ("X", "y")] for site in sites
    }
    torch.manual_seed(0)
    module = Mlp()
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    sampler = get_user_sampler("minimize_reuse", list(users))
    federated = FederatedDataset(lambda user: PyTorchTensorDataset(users[user], user_id=str(user)), sampler)
    clock = Clock()
    FederatedAveraging().run(
        backend=SimulatedBackend(training_data=federated, val_data=federated),
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=rounds, evaluation_frequency=10**6, train_cohort_size=len(users), val_cohort_size=1
        ),
        model=model,
        model_train_params=NNTrainHyperParams(local_num_epochs=1, local_learning_rate=0.2, local_batch_size=10),
        model_eval_params=NNEvalHyperParams(local_batch_size=50),
        callbacks=[clock],
    )
    with torch.no_grad():
        found = module(torch.from_numpy(data["X"][~train])).argmax(1).numpy()
    said = {
        "seconds": np.diff(clock.ticks).tolist(),
        "accuracy": float((found == data["y"][~train]).mean()),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
