"""Yards that never saw rain ask their federation: how much wire on a wet day?

Yards weld hulls on wet coasts, in plains and in dry places inland. Water in the air makes pores, and masters who know
rain give more wire against them. Inland it never rained while records were made: a model of one such yard's records has
nothing to learn it from. Here the rain comes, in passes that nobody trained on, and models advise: the yard's own, the
federation's, the same with an epsilon for every pass, and the federation's without a hygrometer, which shows what the
knowledge is carried by.

Run it (a minute): .venv/bin/python examples/humid_welds.py [--seed 7] [--yards 12] [--episodes 240] [--picture FILE]
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import numpy as np
import torch
import yaml
from matplotlib.figure import Figure
from numpy.random import default_rng
from numpy.typing import NDArray

from jangin import simulate
from jangin.models.cut import cut
from jangin.models.flat import FlatModel
from jangin.models.lines import ModelLine, input_names, outputs, read_line
from jangin.models.networks import build
from jangin.records.checks import validate
from jangin.records.dataset import Records
from jangin.records.examples import Examples
from jangin.records.generate import generate, write_site
from jangin.records.generate.arc_weld import REGIONS
from jangin.records.generate.ship_hull_weld import make_site
from jangin.records.process import read_process
from jangin.simulation import Result

FILE = files("jangin.configs") / "simulations" / "ship-hull-weld.yaml"
LINE, PROCESS = read_line("national-hull-filler"), read_process("ship.hull_weld")
INLAND = list(REGIONS).index("inland")
RAINY_PASSES, MASTERS = 60, 3
PLAIN = {"privacy.epsilon": "none", "strategy.lr": 0.02}  # whose gradients nothing clips goes in smaller steps
COLOURS = ("#E69F00", "#0072B2", "#CC79A7", "#999999")


@dataclass(frozen=True)
class Advice:
    """What a model tells inland yards in their rain.

    Attributes:
        errors: of each yard the mean of |advised - given| wire, m/min.
        slopes: of each yard the mean of d wire / d humidity, m/min for each % of relative humidity; none without a
            hygrometer.
    """

    errors: tuple[float, ...]
    slopes: tuple[float, ...]

    @property
    def error(self) -> float:
        """The mean over yards, m/min."""
        return fmean(self.errors)


@dataclass(frozen=True)
class World:
    """Records of all yards, and of the inland ones in rain; `blind` is the line that reads no hygrometer."""

    yards: tuple[Path, ...]
    rain: Mapping[int, Path]
    blind: Path

    @classmethod
    def make(cls, folder: Path, yards: int, episodes: int, seed: int) -> "World":
        """All of it, written under `folder`."""
        made = generate("ship.hull_weld", folder, sites=yards, masters=MASTERS, episodes=episodes, seed=seed)
        rain = {yard: folder / f"rain-{yard}" for yard in range(INLAND, yards, len(REGIONS))}
        for yard, records in rain.items():
            write_site(records, PROCESS, make_site(PROCESS, yard, MASTERS, RAINY_PASSES, seed, rain=True))
        for number, records in enumerate((*made, *rain.values())):
            validate(records, level=1, random_bytes=default_rng([seed, number]).bytes).require(records)
        blind = LINE.model_dump(mode="json", exclude_none=True)
        blind["context"] = [name for name in LINE.context if name != "humidity"]
        (folder / "blind.yaml").write_text(yaml.safe_dump(blind))
        return cls(tuple(made), rain, folder / "blind.yaml")

    def learn(self, yards: Sequence[Path], line: str, seed: int, **sets: object) -> Result:
        """The file's federation of these yards, or one yard by itself."""
        data = {"records": [str(yard) for yard in yards], "model_line": line}
        return simulate(FILE, sets={"data": data, "baselines": [], **sets}, seed=seed)

    def rainy(self, yard: int, line: ModelLine) -> Examples:
        """An inland yard's passes in rain."""
        records = Records.open(self.rain[yard])
        sides = [cut(line, side, PROCESS, "episode") for side in (records.train(), records.holdout())]
        return Examples(*(np.concatenate([getattr(s, part) for s in sides]) for part in ("inputs", "targets", "units")))


def ask(result: Result, line: ModelLine, passes: Examples) -> tuple[float, NDArray[np.float32]]:
    """Error of a model's advice in m/min, and d wire / d input in raw units, mean over passes, (inputs,)."""
    model, scaling = FlatModel(build(line.model, passes.inputs.shape[1:], outputs(line), seed=0)), result.scaling
    model.load(result.parameters)
    inputs, _ = scaling.apply(passes)
    advised = model.module(inputs.requires_grad_())
    (slopes,) = torch.autograd.grad(advised.sum(), inputs)
    error = np.abs(scaling.restore(advised.detach().numpy()) - passes.targets).mean()
    size = scaling.radius * scaling.deviation
    return float(error), slopes.mean(0).numpy() * size[-1] / size[:-1]


def ask_all(folder: Path, yards: int, episodes: int, seed: int) -> dict[str, Advice]:
    """What each model advises, by its name."""
    world = World.make(folder, yards, episodes, seed)
    blind = read_line(str(world.blind))
    bounded = {"privacy.nominal_units": round(0.8 * episodes), "strategy.batch": round(0.8 * episodes)}
    national = world.learn(world.yards, LINE.line, seed, **PLAIN)
    private = world.learn(world.yards, LINE.line, seed, **bounded)
    unseeing = world.learn(world.yards, str(world.blind), seed, **PLAIN)
    models = {
        "the yard alone": {yard: world.learn([world.yards[yard]], LINE.line, seed, **PLAIN) for yard in world.rain},
        "the federation": dict.fromkeys(world.rain, national),
        f"the federation, epsilon {private.privacy['epsilon']:.2f}": dict.fromkeys(world.rain, private),
        "the federation without a hygrometer": dict.fromkeys(world.rain, unseeing),
    }
    advice = {}
    for name, of_yard in models.items():
        line = blind if name.endswith("hygrometer") else LINE
        asked = [ask(result, line, world.rainy(yard, line)) for yard, result in of_yard.items()]
        names = input_names(line, PROCESS)
        place = names.index("context.humidity") if "context.humidity" in names else None
        slopes = () if place is None else tuple(float(slope[place]) for _, slope in asked)
        advice[name] = Advice(tuple(error for error, _ in asked), slopes)
    return advice


def draw(advice: Mapping[str, Advice], file: Path) -> None:
    """Every model's error at every inland yard in rain."""
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for number, ((name, one), colour) in enumerate(zip(advice.items(), COLOURS, strict=True)):
        places = np.arange(len(one.errors)) + 0.2 * (number - 1.5)
        axes.bar(places, one.errors, 0.2, color=colour, label=name)
    yards = range(len(next(iter(advice.values())).errors))
    axes.set_xticks(list(yards), [f"inland yard {yard + 1}" for yard in yards])
    axes.set_ylabel("error of advised wire in rain, m/min")
    axes.legend()
    figure.savefig(file)


def main() -> None:
    """Print one line a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--yards", type=int, default=12)
    parser.add_argument("--episodes", type=int, default=240)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory(prefix="jangin-") as folder:
        advice = ask_all(Path(folder) / "records", arguments.yards, arguments.episodes, arguments.seed)
    for name, one in advice.items():
        slopes = " ".join(f"{slope:+.3f}" for slope in one.slopes) or "-"
        print(f"{name:36s} error in rain {one.error:.3f} m/min, more wire for 1 % of humidity at each yard: {slopes}")
    if arguments.picture:
        draw(advice, arguments.picture)


if __name__ == "__main__":
    main()
