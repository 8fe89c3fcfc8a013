"""What privacy costs a training step: the clipped sum beside a plain step of the same model, and beside Opacus.

Process CPU time, one thread, interleaved, medians. Plain is torch's forward and backward pass and a step of its SGD.
Memory is what the largest resident size of a fresh process grows by in a step, beside that in a plain one (Linux).

Usage: python benchmarks/private_step.py [--json] [--quick] [model ...]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.layers import DPGRU, DPLSTM
from torch import nn

from jangin.client.workbench import MEMORY_SETTINGS
from jangin.models.flat import FlatModel
from jangin.models.networks import build
from jangin.models.spec import BranchSpec, Cnn1dSpec, Cnn2dSpec, FusionSpec, GruSpec, MlpSpec, TransformerSpec
from jangin.models.tasks import Task, row_losses
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import GaussianRelease, Guarantee, LocalDpSgd, Relation, Unit
from jangin.privacy.sampling import Draw
from jangin.privacy.step import BookkeepingStep, OpacusStep, noised_mean
from jangin.privacy.step.interface import clipped_sum_of

CLASSES, CLIP = 10, 1.0
WAVES = (8, 512)
PICTURES = (8, 24, 24)
FUSION = FusionSpec(
    name="fusion",
    parts=(
        BranchSpec(name="arc", shape=(4, 100), body=Cnn1dSpec(name="cnn1d", channels=(16, 32))),
        BranchSpec(name="sound", shape=(1, 32, 32), body=Cnn2dSpec(name="cnn2d")),
        BranchSpec(name="pool", shape=PICTURES, body=Cnn2dSpec(name="cnn2d")),
    ),
)
ROW = (4 * 100 + 32 * 32 + prod(PICTURES) + 20,)
GOALS = {
    "mlp": (1.6, 2.0),
    "cnn": (1.5, 1.6),
    "gru": (1.25, 1.35),
    "lstm": (1.5, 1.6),
    "transformer": (1.3, 1.4),
    "cnn2d": (2.0, 2.1),
    "fusion": (2.0, 2.1),
}
MOST_MEMORY = 1.5

losses = partial(row_losses, Task.MULTICLASS)


class Recurrent(nn.Module):
    """The model `gru` with another layer in it: patches of 4 samples, 128 steps, two layers of 64."""

    def __init__(self, layer: type[nn.Module]) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(32, 64), nn.Linear(64, CLASSES)
        self.body = layer(64, 64, num_layers=2, batch_first=True)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        patches = inputs.view(len(inputs), 8, 128, 4).transpose(1, 2).flatten(start_dim=2)
        return self.head(self.body(self.embed(patches))[0][:, -1])


class OpacusRecurrentStep:
    """Opacus' own recurrent layers and hooks, with our clip."""

    def __init__(self, layer: type[nn.Module]) -> None:
        self._module = GradSampleModule(Recurrent(layer), loss_reduction="sum")

    def clipped_sum(self, inputs: torch.Tensor, targets: torch.Tensor, _: Draw) -> torch.Tensor:
        losses(self._module(inputs), targets).sum().backward()
        parameters = list(self._module.parameters())
        total = clipped_sum_of([parameter.grad_sample.contiguous() for parameter in parameters], CLIP)
        for parameter in parameters:
            parameter.grad_sample = None
        return total


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: build(MlpSpec(name="mlp", hidden=(128, 128)), (20,), CLASSES, 0), (20,)),
    "cnn": (lambda: build(Cnn1dSpec(name="cnn1d", channels=(32, 64, 128), kernel=11), WAVES, CLASSES, 0), WAVES),
    "gru": (lambda: build(GruSpec(name="gru"), WAVES, CLASSES, 0), WAVES),
    "lstm": (partial(Recurrent, nn.LSTM), WAVES),
    "cnn2d": (lambda: build(Cnn2dSpec(name="cnn2d", channels=(32, 64)), PICTURES, CLASSES, 0), PICTURES),
    "fusion": (lambda: build(FUSION, ROW, CLASSES, 0), ROW),
    "transformer": (lambda: build(TransformerSpec(name="transformer"), WAVES, CLASSES, 0), WAVES),
}


def mechanism(batch: int) -> LocalDpSgd:
    guarantee = Guarantee(Unit.EPISODE, Relation.ADD_OR_REMOVE, 1.0, 1e-5)
    return LocalDpSgd(Unit.EPISODE, CLIP, GaussianRelease(1.0, 0.01, 1), float(batch), 1, None, guarantee)


def steps(name: str, batch: int) -> dict[str, Callable[[], object]]:
    """One step of each kind, by name, each with a model of its own."""
    make, shape = MODELS[name]
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(size=(batch, *shape)).astype(np.float32))
    targets = torch.from_numpy(rng.integers(0, CLASSES, batch))
    draw = Draw(np.arange(batch), np.arange(batch), batch)
    module, own, random = make(), FlatModel(make()), SecureRandom()
    descent = torch.optim.SGD(module.parameters(), lr=1e-3)

    def plain() -> None:
        descent.zero_grad()
        losses(module(inputs), targets).mean().backward()
        descent.step()

    private = BookkeepingStep(own.module, losses, CLIP)

    def clipped() -> None:
        own.vector.sub_((private.clipped_sum(inputs, targets, draw) / batch).to(torch.float32), alpha=1e-3)

    def noised() -> None:
        mean = noised_mean(private.clipped_sum(inputs, targets, draw), mechanism(batch), random)
        own.vector.sub_(torch.from_numpy(mean.astype(np.float32)), alpha=1e-3)

    kinds: dict[str, Callable[[], object]] = {"plain": plain, "clipped": clipped, "noised": noised}
    for mode, opacus in rivals(name).items():
        kinds[f"opacus {mode}"] = partial(opacus.clipped_sum, inputs, targets, draw)
    return kinds


def rivals(name: str) -> dict[str, OpacusStep | OpacusRecurrentStep]:
    match name:
        case "gru":
            return {"hooks": OpacusRecurrentStep(DPGRU)}
        case "lstm":
            return {"hooks": OpacusRecurrentStep(DPLSTM)}
        case _:
            return {mode: OpacusStep(MODELS[name][0](), losses, CLIP, mode) for mode in ("hooks", "ew")}


def milliseconds(kinds: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Medians of process CPU time, one kind after another in every repeat, each once unmeasured to warm the cache."""
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(repeats):
        for kind, step in kinds.items():
            step()
            start = time.process_time()
            step()
            taken[kind].append(1e3 * (time.process_time() - start))
    return {kind: statistics.median(values) for kind, values in taken.items()}


def megabytes(name: str, kind: str, batch: int) -> float:
    """What the largest resident size grows by in two steps, measured in this process."""
    step = steps(name, batch)[kind]
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest size so far
    for _ in range(2):
        step()
    return resident("VmHWM") - before


def resident(key: str) -> float:
    """One figure of /proc/self/status in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def elsewhere(name: str, kind: str, batch: int) -> float:
    """`megabytes` in a fresh process."""
    command = [sys.executable, __file__, "--memory", name, kind, str(batch)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def rows(name: str, batch: int, quick: bool):
    repeats = 1 if quick else 200 if name == "mlp" else 7
    taken = milliseconds(steps(name, batch), repeats)
    plain, theirs = taken["plain"], [taken[kind] for kind in taken if kind.startswith("opacus")]
    beside = {kind: round(value, 2) for kind, value in taken.items()}
    for kind, goal in zip(("clipped", "noised"), GOALS[name], strict=True):
        ratio = taken[kind] / plain
        faster = all(taken["clipped"] <= other for other in theirs)
        yield {
            "name": f"{name}, {batch} units, {kind} / plain step, CPU ms",
            "figure": round(taken[kind], 2),
            "beside": {other: value for other, value in beside.items() if other != kind},
            "ratio": round(ratio, 2),
            "goal": f"<= {goal} at 128 units, never above Opacus",
            "holds": (ratio <= goal or batch != 128) and faster,
        }
    if batch == 128 or (quick and name == "mlp"):
        ours, plain = (elsewhere(name, kind, batch) for kind in ("clipped", "plain"))
        ratio = ours / max(plain, 1.0)
        yield {
            "name": f"{name}, {batch} units, memory of a clipped / plain step, MB",
            "figure": round(ours, 1),
            "beside": {"plain": round(plain, 1)},
            "ratio": round(ratio, 2),
            "goal": f"<= {MOST_MEMORY}",
            "holds": ratio <= MOST_MEMORY,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only JSON lines (they are the only form)")
    parser.add_argument(
        "--quick", action="store_true", help="few units, once, little of memory: keeps this script alive"
    )
    parser.add_argument("--memory", nargs=3, metavar=("MODEL", "KIND", "UNITS"), help="measure one step's memory")
    parser.add_argument("models", nargs="*", default=[], help=f"of {', '.join(MODELS)}; all without one")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory:
        name, kind, batch = arguments.memory
        print(megabytes(name, kind, int(batch)))
        return
    for name in arguments.models or MODELS:
        for batch in (4,) if arguments.quick else (32, 128, 512):
            for row in rows(name, batch, arguments.quick):
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    if not MEMORY_SETTINGS.items() <= os.environ.items():  # glibc reads them when a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MEMORY_SETTINGS)
    main()
