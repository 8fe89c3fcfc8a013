"""What was in the heats behind an update? One update and sums of them, plain, masked, and with noise.

Twenty works train one step, each on one made-up heat, which is as easy as it gets for an attacker; three attacks
(jangin/simulation/attacks/inversion.py) rebuild heats. 1: all of what is special about a heat; beside it the same
figure for another heat of the works, which was not used and is what chance looks like. Run it:
.venv/bin/python examples/attack_inversion.py [--pictures FOLDER] [--heats 6] [--descent 600] [--epsilon 100 30 8 2 0.5]
"""

import argparse
from functools import partial
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from jangin.models.layout import Vector
from jangin.plan.messages import Kind, Order
from jangin.privacy.randomness import SecureRandom
from jangin.server.rounds import gather
from jangin.simulation.attacks.inversion import by_descent, crafted, from_crafted, from_first_layer, resemblance
from jangin.simulation.attacks.view import masked, unmasked_sum
from jangin.simulation.experiment import read_experiment
from jangin.simulation.federation import Federation, load
from jangin.simulation.sequential import SequentialExchange
from jangin.simulation.setting import Setting, prepare
from jangin.strategies import build as build_strategy
from jangin.training.site import Site

SITES, OTHERS, LR, SCALE = (1, 2, 5, 20), 12, 0.1, 2.0**24
FILE = Path(str(files("jangin.configs"))) / "simulations" / "steel-bof-blow.yaml"
SETTING = {
    "data.sites": max(SITES),
    "data.episodes": 40,
    "model": {"name": "mlp", "hidden": [64]},
    "strategy": {"name": "fedavg", "rounds": 1, "local_steps": 1, "batch": 1, "lr": LR},
    "privacy": {"epsilon": "none", "delta": 1e-5, "clip": 0.1, "nominal_units": 1, "scaling_share": 0},
}
Found = tuple[float, float]


class Works:
    """Twenty works with one heat each in the step, and what an attacker knows of others."""

    def __init__(self, federation: Federation, epsilon: float | str) -> None:
        """Make ready for steps at one epsilon, calibrated for this single step."""
        experiment = read_experiment(FILE, {**SETTING, "privacy.epsilon": epsilon})
        setting: Setting = prepare(experiment, federation, "sequential", False, True, lambda *_: None)
        recipe = setting.recipe(0)
        self.promised = epsilon
        self.block, self.task = experiment.strategy, federation.task
        self.scaling, self.learner = recipe.public_scaling(), recipe.learner()
        self.model, self.honest = self.learner.model, self.learner.model.read()
        shuffle = np.random.default_rng(0)  # heats come by date, and drift
        self.silos = [silo.train[shuffle.permutation(len(silo.train))] for silo in federation.silos]
        scaled = [self.scaling.apply(train) for train in self.silos]
        self.inputs = [inputs for inputs, _ in scaled]
        self.others = [inputs[-OTHERS:] for inputs in self.inputs]
        self.usual = [others.mean(dim=0) for others in self.others]
        self.deviation = torch.stack([others.var(dim=0) for others in self.others]).mean(dim=0).sqrt().clamp(min=0.02)
        self.targets = [targets[-OTHERS:] for _, targets in scaled]

    def updates(self, parameters: Vector, heat: int) -> np.ndarray:
        """What each works answers when it trains on this heat of its own alone, (works, size)."""
        sites = [
            Site(f"site-{number}", train[heat : heat + 1], self.scaling, self.learner, seed=0)
            for number, train in enumerate(self.silos)
        ]
        exchange = SequentialExchange(sites, self.block, build_strategy(self.block))
        _, updates = gather(exchange, Order(Kind.TRAIN, 1, parameters), single=True)
        return updates.astype(np.float32)

    def honest_sum(self, updates: np.ndarray) -> Tensor:
        """Records rebuilt from the sum of some updates at the honest parameters."""
        return from_first_layer(self.model, updates.sum(axis=0), torch.stack(self.usual[: len(updates)]).mean(dim=0))

    def crafted_sum(self, updates: np.ndarray) -> Tensor:
        """The same at parameters made up for it."""
        return torch.cat([self.honest_sum(updates)[:1], from_crafted(self.model, updates.sum(axis=0))])

    def descended(self, updates: np.ndarray, steps: int) -> Tensor:
        """The same by looking for as many records with that gradient, from others of these works."""
        start = torch.stack([others[0] for others in self.others[: len(updates)]])
        aims = torch.stack([targets[0] for targets in self.targets[: len(updates)]])
        return by_descent(self.model, self.task, self.honest, -updates.sum(axis=0), start, aims, steps)

    def found(self, reconstructed: Tensor, heat: int, works: int) -> Found:
        """Mean resemblance to this heat of the first works, and to another of each that nobody used."""
        means = [
            np.mean([self.resemblance(reconstructed, one, at) for one in range(works)]) for at in (heat, -OTHERS - 1)
        ]
        return float(means[0]), float(means[1])

    def resemblance(self, reconstructed: Tensor, works: int, heat: int) -> float:
        """To one heat of one works."""
        return resemblance(reconstructed, self.inputs[works][heat], self.usual[works], self.deviation)

    def special(self, record: Tensor) -> np.ndarray:
        """What is special about a record of the first works, in deviations."""
        return ((record - self.usual[0]) / self.deviation).clamp(-3, 3).numpy()


def mean(pairs: list[Found]) -> Found:
    """Of several heats."""
    true, other = np.mean(pairs, axis=0)
    return float(true), float(other)


def attacks_on_sums(works: Works, heats: int, descent: int) -> dict[str, list[Found]]:
    """Each attack on plain updates: a sum of so many works each, and the first works' update under a mask."""
    trap, found = crafted(works.model, torch.cat(works.others), seed=0), {}
    honest = [works.updates(works.honest, heat) for heat in range(heats)]
    caught = [works.updates(trap, heat) for heat in range(heats)]
    for name, updates, attack in (
        ("first layer", honest, works.honest_sum),
        ("descent", honest, partial(works.descended, steps=descent)),
        ("made-up parameters", caught, works.crafted_sum),
    ):
        found[name] = [mean([works.found(attack(u[:n]), h, n) for h, u in enumerate(updates)]) for n in SITES]
    words = [masked(each, SCALE, SecureRandom()) for each in honest]
    seen = [[unmasked_sum(part, SCALE)[None] for part in (each[:1], each)] for each in words]
    for name, part, of in (("one masked update", 0, 1), ("sum of masked updates", 1, max(SITES))):
        pairs = [
            works.found(from_first_layer(works.model, one[part][0], works.usual[0]), h, of)
            for h, one in enumerate(seen)
        ]
        found[name] = [mean(pairs)]
    return found


def attacks_on_noise(works: Works, heats: int) -> list[Found]:
    """The first works' update, by its first layer, and at made-up parameters."""
    trap, pairs = crafted(works.model, torch.cat(works.others), seed=0), []
    for parameters, attack in ((works.honest, works.honest_sum), (trap, works.crafted_sum)):
        every = [works.updates(parameters, heat)[:1] for heat in range(heats)]
        pairs.append(mean([works.found(attack(update), heat, 1) for heat, update in enumerate(every)]))
    return pairs


def draw_records(plain: Works, noised: Works, file: Path) -> None:
    """The first works' first heat, true and rebuilt, in four situations."""
    trap = crafted(plain.model, torch.cat(plain.others), seed=0)
    honest = plain.updates(plain.honest, 0)
    words = masked(honest, SCALE, SecureRandom())
    shown = {
        "one update, plain": plain.honest_sum(honest[:1]),
        f"sum of {max(SITES)} updates, plain, at parameters that the server made up": plain.crafted_sum(
            plain.updates(trap, 0)
        ),
        "one update under its mask": plain.honest_sum(unmasked_sum(words[:1], SCALE)[None]),
        f"one update with the noise of ε = {noised.promised:g}": noised.honest_sum(
            noised.updates(noised.honest, 0)[:1]
        ),
    }
    figure = Figure(figsize=(9, 8), layout="constrained")
    for axes, (title, rebuilt) in zip(
        figure.subplots(len(shown), 1, sharex=True, sharey=True), shown.items(), strict=True
    ):
        figures = [plain.resemblance(one[None], 0, 0) for one in rebuilt]
        axes.plot(plain.special(plain.inputs[0][0]), color="#999999", linewidth=4, label="the heat")
        axes.plot(plain.special(rebuilt[int(np.argmax(figures))]), color="#D55E00", linewidth=1, label="rebuilt")
        axes.set_title(f"{title}: {max(figures):.2f}", fontsize=10)
    axes.set_xlabel("features of the heat")
    figure.supylabel("deviations from what is usual at this works")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    figure.savefig(file)


def draw_quality(sums: dict[str, list[Found]], noise: dict[str, list[Found]], file: Path) -> None:
    """How well heats are rebuilt, by the number of works in a sum and by epsilon."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    colours = {"first layer": "#0072B2", "descent": "#009E73", "made-up parameters": "#D55E00"}
    for name, colour in colours.items():
        true, other = np.transpose(sums[name])
        left.plot(SITES, true, "o-", color=colour, label=name)
        left.plot(SITES, other, ":", color=colour, label="   to another heat")
    for column, name in enumerate(("first layer", "made-up parameters")):
        true, other = np.transpose([found[column] for found in noise.values()])
        right.plot(range(len(noise)), true, "o-", color=colours[name])
        right.plot(range(len(noise)), other, ":", color=colours[name])
    left.set(xscale="log", xlabel="works in the sum, no noise", ylabel="resemblance of the rebuilt heat")
    left.set_xticks(SITES, map(str, SITES))
    left.minorticks_off()
    right.set_xlabel("ε of one works' update")
    right.set_xticks(range(len(noise)), list(noise))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(file)


def main() -> None:
    """Two tables, and two pictures where a folder is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--heats", type=int, default=6)
    parser.add_argument("--descent", type=int, default=600, help="its steps")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[100.0, 30.0, 8.0, 2.0, 0.5])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        federation = load(read_experiment(FILE, SETTING), Path(folder), lambda *_: None)
    plain = Works(federation, "none")
    sums = attacks_on_sums(plain, arguments.heats, arguments.descent)
    print(f"works in the sum | {' | '.join(map(str, SITES))}   (resemblance, and to another heat)")
    for name, found in sums.items():
        print(f"{name} | {' | '.join(f'{true:.2f} ({other:.2f})' for true, other in found)}")
    print("epsilon | first layer | made-up parameters")
    noised, noise = {}, {"none": attacks_on_noise(plain, arguments.heats)}
    for epsilon in arguments.epsilon:
        noised[epsilon] = Works(federation, epsilon)
        noise[f"{epsilon:g}"] = attacks_on_noise(noised[epsilon], arguments.heats)
    for epsilon, found in noise.items():
        print(f"{epsilon} | {' | '.join(f'{true:.2f} ({other:.2f})' for true, other in found)}")
    if arguments.pictures:
        draw_records(plain, noised[arguments.epsilon[len(noised) // 2]], arguments.pictures / "rebuilt.svg")
        draw_quality(sums, noise, arguments.pictures / "inversion.svg")


if __name__ == "__main__":
    main()
