"""Noise in every site, or a share of one noise in a secure sum? RMSE at one epsilon, and what it costs to send.

NASA's C-MAPSS (simulated turbofan engines, 20 operators), a linear model, an engine's whole life as the unit. Every
answer is taken at its best of one declared grid, chosen on one half of the official test engines, which is taken for
public, and then run anew with fresh noise and judged on the other half.
Run it (about half an hour): .venv/bin/python examples/shared_noise.py SET.npz [--picture FILE.svg] [--seeds 5]
"""

import argparse
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from matplotlib.figure import Figure

from jangin import simulate
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import honest_shares
from jangin.privacy.secure_sum.journal import MemoryJournal
from jangin.privacy.secure_sum.policy import Policy, Terms
from jangin.privacy.secure_sum.server import ServerSum
from jangin.privacy.secure_sum.site import SiteSum
from jangin.privacy.secure_sum.table import State, Step
from jangin.privacy.secure_sum.transcript import Manifest
from jangin.simulation import Result

FILE = files("jangin.configs") / "simulations" / "cmapss-private.yaml"
SITES, ENGINES, WHOLE_SITE, DELTA, C_MAX = 20, 52, 4096, 1e-5, 3
PARAMETERS = 43
CLIPS = (0.1, 0.3, 1.0)
NOISED_BY_SITE = tuple(product((30, 60, 120, 200), (1, 5), (0.06, 0.12, 0.25), CLIPS))
SHARED = tuple(product((200,), (1,), (0.1, 0.2, 0.4), CLIPS))
PLAIN = tuple(product((200,), (1,), (0.01, 0.02, 0.05), (1.0,)))
EPSILON, EPSILONS = 1.0, (0.5, 1.0, 2.0, 4.0)
COLOURS = {"none": "#999999", "M1": "#0072B2", "M2": "#009E73"}
Point = tuple[int, int, float, float]


@dataclass(frozen=True)
class Setting:
    """One point of a grid.

    Attributes:
        mechanism: M1, noise in every step of a site; M2, one sum a round in the ring; none.
        epsilon: of an engine; none without privacy.
        rounds: exchanges.
        local_steps: in each.
        step: learning rate times clip, summed over a round: how far it goes where every gradient is clipped.
        clip: L2 bound of an engine's gradient.
    """

    mechanism: str
    epsilon: float | str
    rounds: int
    local_steps: int
    step: float
    clip: float

    @property
    def lr(self) -> float:
        """Learning rate."""
        return self.step / self.clip / self.local_steps

    def __str__(self) -> str:
        return f"{self.rounds} rounds of {self.local_steps}, lr {self.lr:.3g}, clip {self.clip:g}"

    def run(self, file: Path, seeds: int = 1) -> Result:
        """The federation's model, judged on the hold-outs of a set."""
        sets: dict[str, Any] = {
            "data.npz": str(file),
            "strategy": {"name": "fedavg", "rounds": self.rounds, "local_steps": self.local_steps, "lr": self.lr}
            | {"batch": ENGINES if self.epsilon != "none" else WHOLE_SITE},
            "privacy.epsilon": self.epsilon,
            "privacy.delta": DELTA,
            "privacy.clip": self.clip,
        }
        if self.mechanism == "M2":
            sets |= {"privacy.mechanism": "M2", "privacy.n_plan": SITES, "privacy.c_max": C_MAX}
        return simulate(FILE, seeds=seeds, baselines=[], accept_noise=True, **sets)


def halves(file: Path, folder: Path) -> tuple[Path, Path]:
    """The set twice: judged on the test engines of even number, which are public, and on those of odd number."""
    with np.load(file) as table:
        columns = {name: table[name] for name in table.files}
    made = []
    for name, rest in (("public", 0), ("judged", 1)):
        keep = (columns["split"] == 0) | (columns["unit"] % 2 == rest)
        np.savez(folder / f"{name}.npz", **{key: column[keep] for key, column in columns.items()})
        made.append(folder / f"{name}.npz")
    return made[0], made[1]


def best(settings: Iterable[Setting], file: Path) -> Setting:
    """The setting with the lowest figure in one run."""
    figures = {setting: setting.run(file).metric["federated"] for setting in settings}
    return min(figures, key=figures.__getitem__)


def searched(public: Path, quick: bool) -> dict[str, list[Setting]]:
    """For each answer its best setting at each epsilon: the whole grid at EPSILON, rounds and steps at the others."""
    grids = {"M1": NOISED_BY_SITE, "M2": SHARED}
    if quick:
        return {name: [Setting(name, EPSILON, 2, *grid[0][1:])] for name, grid in grids.items()}
    found = {}
    for name, grid in grids.items():
        at = best((Setting(name, EPSILON, *point) for point in grid), public)
        others = {point[:3] for point in grid if point[1] == at.local_steps}
        found[name] = [
            at if epsilon == EPSILON else best((Setting(name, epsilon, *one, at.clip) for one in others), public)
            for epsilon in EPSILONS
        ]
    found["none"] = [best((Setting("none", "none", *point) for point in PLAIN), public)]
    return found


def sent(size: int) -> tuple[int, int]:
    """Bytes that one site sends in a round, in clear and in a secure sum of all sites; counted in a real sum."""
    names = [f"site-{number}" for number in range(SITES)]
    signers = {name: Ed25519PrivateKey.generate() for name in names}
    identities = {name: signer.public_key() for name, signer in signers.items()}
    manifest = Manifest("0" * 64, 1, 1, bytes(32), bytes(32), size, (1.0,) * 5)
    terms = Terms(frozenset(names), SITES, 2 * SITES // 3 + 1, C_MAX, 1)
    random, count = SecureRandom(), 0
    sites = {
        name: SiteSum(name, manifest, terms, Policy(), identities, signers[name], MemoryJournal(), random)
        for name in names
    }
    server = ServerSum(manifest, terms, identities)
    while server.state is not State.UNMASKED:
        for name in sorted(server.asked):
            begins, body = server.step is Step.ADVERTISE, server.request(name)
            words = np.zeros(size, np.uint32)
            answer = sites[name].advertise(words) if begins else sites[name].answer(server.step, body)
            server.receive(name, answer.body, answer.vector)
            count += len(answer.body) + (0 if answer.vector is None else answer.vector.nbytes)
        server.close()
    return 4 * size, count // SITES


def draw(lines: dict[str, list[tuple[Setting, float, float]]], file: Path) -> None:
    """RMSE by epsilon, with what each answer sends."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in lines.items():
        means = [mean for _, mean, _ in points]
        if name == "none":
            axes.axhline(means[0], color=COLOURS[name], linestyle=":", label="without privacy")
            continue
        deviations = [deviation for *_, deviation in points]
        label = {"M1": "M1: noise in every site", "M2": "M2: shares of one noise, secure sum"}[name]
        axes.errorbar(
            [float(one.epsilon) for one, *_ in points], means, deviations, fmt="o-", color=COLOURS[name], label=label
        )
    axes.set_xscale("log")
    axes.set_xticks(EPSILONS, [f"{epsilon:g}" for epsilon in EPSILONS])
    axes.minorticks_off()
    axes.set(xlabel="epsilon for each engine's whole life", ylabel="RMSE, cycles")
    axes.legend()
    figure.savefig(file)


def main() -> None:
    """A table, and a picture where a file is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one point, two rounds: keeps this script alive")
    arguments = parser.parse_args()
    lines: dict[str, list[tuple[Setting, float, float]]] = {}
    in_clear, in_a_sum = sent(PARAMETERS)
    print(f"H = {honest_shares(SITES, C_MAX)} honest shares of {SITES} sites, c_max {C_MAX}")
    print(
        f"mechanism | epsilon | RMSE, mean ± deviation of {arguments.seeds} | bytes a site sends, all rounds | setting"
    )
    with tempfile.TemporaryDirectory() as folder:
        public, judged = halves(arguments.file, Path(folder))
        for name, settings in searched(public, arguments.quick).items():
            lines[name] = []
            for setting in settings:
                result = setting.run(judged, 1 if arguments.quick else arguments.seeds)
                mean, deviation = result.metric["federated"], result.std["federated"] or 0.0
                lines[name].append((setting, mean, deviation))
                total = setting.rounds * (in_a_sum if name == "M2" else in_clear)
                print(
                    f"{name:4s} | {setting.epsilon!s:4s} | {mean:.2f} ± {deviation:.2f} | {total:,} | {setting}",
                    flush=True,
                )
    if arguments.picture:
        draw(lines, arguments.picture)


if __name__ == "__main__":
    main()
