"""Pictures of a result: the metric by round with what it is compared with, and bars for every site."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jangin.simulation.result import Result

__all__ = ["metric_by_round", "per_site_bars"]

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = {
    "federated": "#0072B2",
    "personalised": "#009E73",
    "local": "#E69F00",
    "local_trees": "#D55E00",
    "local_private": "#CC79A7",
    "pooled": "#56B4E9",
    "constant": "#999999",
}

_WIDEST = 40.0  # inches, at 130 dots an inch


def metric_by_round(result: Result, file: Path) -> None:
    """The federation's figure after each round, one line a seed, over the baselines' levels; PNG."""
    with _axes(result, file, width=8.0) as axes:
        seeds = sorted({row["seed"] for row in result.rounds})
        for number, seed in enumerate(seeds):
            rows = [row for row in result.rounds if row["seed"] == seed]
            label = "federated" if number == 0 else None
            axes.plot(
                [row["round"] for row in rows],
                [row["federated"] for row in rows],
                color=_COLOURS["federated"],
                marker="o",
                markersize=3,
                label=label,
            )
        for name in result.per_site:
            if name != "federated":
                axes.axhline(result.metric[name], color=_COLOURS[name], linestyle="--", linewidth=1, label=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("round")
        axes.set_ylabel(result.metric["name"])


def per_site_bars(result: Result, file: Path) -> None:
    """Every model's figure at every site; PNG."""
    shown = [name for name in _COLOURS if name in result.per_site and name != "constant"]
    places = np.arange(len(result.sites))
    width = 0.8 / len(shown)
    with _axes(result, file, width=min(max(8.0, 0.6 * len(result.sites)), _WIDEST)) as axes:
        for number, name in enumerate(shown):
            offset = (number - (len(shown) - 1) / 2) * width
            axes.bar(places + offset, result.per_site[name], width, color=_COLOURS[name], label=name)
        axes.set_xticks(places, result.sites, rotation=45, ha="right")
        axes.set_ylabel(result.metric["name"])


@contextmanager
def _axes(result: Result, file: Path, width: float) -> Iterator[Axes]:
    figure = Figure(figsize=(width, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    yield axes
    better = "higher" if result.metric["higher_is_better"] else "lower"
    promise = result.privacy
    if not isinstance(promise, str):
        promise = f"ε = {promise['epsilon']:.3g}, δ = {promise['delta']:.3g} per {promise['unit']} and site"
    axes.set_title(f"{result.metric['name']} on hold-outs ({better} is better) - {promise}", fontsize=10)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)
