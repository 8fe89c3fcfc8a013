"""Pictures of one result and of a sweep: the metric by round and by epsilon, figures of sites, who is better off."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jangin.simulation.comparison import Row, as_text
from jangin.simulation.result import Figures, gains

__all__ = [
    "better_off_at_sites",
    "better_off_in_runs",
    "metric_by_epsilon",
    "metric_by_round",
    "per_site_bars",
    "rounds_of_runs",
]

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
_CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_BETTER, _WORSE = _COLOURS["federated"], _COLOURS["local_trees"]

_WIDEST = 40.0  # inches, at 130 dots an inch
_ASIDE = 1.02  # factor between the places of two lines at one epsilon
_MOST_NAMES = 100  # names that fit under an axis of that width
_EPSILON = "privacy.epsilon"


def metric_by_round(result: Figures, file: Path) -> None:
    """The federation's figure after each round, one line a seed, over the baselines' levels; PNG."""
    with _axes(_title(result), file, width=8.0) as axes:
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
        _label_rounds(axes, result)


def per_site_bars(result: Figures, file: Path) -> None:
    """Every model's figure at every site; PNG."""
    shown = [name for name in _COLOURS if name in result.per_site and name != "constant"]
    places = np.arange(len(result.sites))
    width = 0.8 / len(shown)
    with _axes(_title(result), file, width=_width(len(result.sites))) as axes:
        for number, name in enumerate(shown):
            offset = (number - (len(shown) - 1) / 2) * width
            axes.bar(places + offset, result.per_site[name], width, color=_COLOURS[name], label=name)
        axes.set_xticks(places, result.sites, rotation=45, ha="right")
        axes.set_ylabel(result.metric["name"])


def better_off_at_sites(result: Figures, file: Path) -> None:
    """What each site gains over its own best model, by the federated model (bars, sorted) and fine-tuned; PNG."""
    gained = gains(result.per_site, higher_is_better=result.metric["higher_is_better"])
    order = np.argsort(-gained["federated"])
    order = order[np.isfinite(gained["federated"][order])]
    places, bars = np.arange(len(order)), gained["federated"][order]
    with _axes(_title(result), file, width=_width(len(order))) as axes:
        for label, colour, here in (("federated, better", _BETTER, bars > 0), ("federated, not", _WORSE, bars <= 0)):
            if here.any():
                axes.bar(places[here], bars[here], 0.8, color=colour, label=label)
        if "personalised" in gained:
            own = gained["personalised"][order]
            axes.plot(places, own, "D", color="white", markeredgecolor="black", markersize=5, label="fine-tuned")
        axes.axhline(0, color="black", linewidth=1)
        if len(order) <= _MOST_NAMES:
            axes.set_xticks(places, [result.sites[place] for place in order], rotation=45, ha="right")
        else:
            axes.set_xlabel(f"{len(order)} sites, sorted")
        axes.set_ylabel(f"{result.metric['name']}, gain over its own best model")


def metric_by_epsilon(rows: Sequence[Row], file: Path) -> None:
    """The federation's figure by epsilon, `none` at the right, one line for other values swept; PNG.

    Baselines are levels, or bands from the lowest to the highest where runs differ in them.
    """
    runs = [(row.values, row.figures) for row in rows if row.figures is not None]
    finite = sorted({float(values[_EPSILON]) for values, _ in runs if values[_EPSILON] != "none"})
    low, high = (finite[0], finite[-1]) if finite else (1.0, 1.0)
    none = high * max(2.0, (high / low) ** 0.25)
    groups: dict[str, list[tuple[float, Figures]]] = {}
    for values, figures in runs:
        place = none if values[_EPSILON] == "none" else float(values[_EPSILON])
        groups.setdefault(_named(values, but=_EPSILON), []).append((place, figures))
    alone = len(groups) == 1
    with _axes(_common_title(runs[0][1]), file, width=8.0) as axes:
        for number, (label, points) in enumerate(groups.items()):
            colour, aside = _colours(len(groups))[number], _ASIDE ** (number - (len(groups) - 1) / 2)
            for name in ("federated", "personalised", "local_private") if alone else ("federated",):
                chosen = (_COLOURS[name], name) if alone else (colour, label)
                _by_epsilon(axes, points, name, none, aside, *chosen)
        for name in ("local", "local_trees", "pooled", "constant"):
            levels = [figures.metric[name] for _, figures in runs if figures.metric[name] is not None]
            if levels:
                axes.axhline(np.mean(levels), color=_COLOURS[name], linestyle="--", linewidth=1, label=name)
                axes.axhspan(min(levels), max(levels), color=_COLOURS[name], alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        places = sorted({place for points in groups.values() for place, _ in points})
        axes.set_xticks(places, ["none" if place == none else f"{place:g}" for place in places])
        axes.minorticks_off()
        units = sorted({figures.privacy["unit"] for _, figures in runs if not isinstance(figures.privacy, str)})
        of = f" for each {' or '.join(units)} at its site, in one run" if units else ""
        axes.set_xlabel(f"epsilon{of}; none: NO DIFFERENTIAL PRIVACY")
        axes.set_ylabel(runs[0][1].metric["name"])


def rounds_of_runs(rows: Sequence[Row], file: Path) -> None:
    """The federation's figure after each round, mean over seeds, one line a run; PNG."""
    runs = [(row.values, row.figures) for row in rows if row.figures is not None]
    with _axes(_common_title(runs[0][1]), file, width=8.0) as axes:
        for (values, figures), colour in zip(runs, _colours(len(runs)), strict=True):
            numbers = sorted({row["round"] for row in figures.rounds})
            means = [
                np.mean([row["federated"] for row in figures.rounds if row["round"] == number]) for number in numbers
            ]
            axes.plot(numbers, means, color=colour, marker="o", markersize=2, linewidth=1.2, label=_named(values))
        _label_rounds(axes, runs[0][1])


def better_off_in_runs(rows: Sequence[Row], file: Path) -> None:
    """What each site gains over its own best model in each run, a dot a site, under the share that gains; PNG."""
    runs = [(row.values, row.figures) for row in rows if row.figures is not None]
    title = f"{_common_title(runs[0][1])}; above: share of sites better off"
    with _axes(title, file, width=_width(len(runs)), legend=False) as axes:
        for place, (_, figures) in enumerate(runs):
            gained = gains(figures.per_site, higher_is_better=figures.metric["higher_is_better"])["federated"]
            spread = place + 0.3 * (np.arange(len(gained)) / max(len(gained) - 1, 1) - 0.5)
            colours = [_BETTER if gain > 0 else _WORSE for gain in gained]
            axes.scatter(spread, gained, s=16, c=colours, linewidths=0)
            share = figures.better_off["federated"]
            text = "undefined" if share is None else f"{share:.0%}"
            axes.annotate(text, (place, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8)
        axes.axhline(0, color="black", linewidth=1)
        axes.set_xticks(range(len(runs)), [_named(values) for values, _ in runs], rotation=30, ha="right", fontsize=8)
        axes.set_xlim(-0.6, len(runs) - 0.4)
        axes.set_ylabel(f"{runs[0][1].metric['name']}, gain over own best model")
        marks = [Line2D([], [], marker="o", linestyle="", color=colour) for colour in (_BETTER, _WORSE)]
        axes.legend(marks, ["federated, better", "federated, not"], fontsize=8, loc="best")


def _by_epsilon(
    axes: Axes, points: Sequence[tuple[float, Figures]], name: str, none: float, aside: float, colour: Any, label: str
) -> None:
    """One model's means and deviations, a little aside of others'; a dotted line leads from an epsilon to `none`."""
    known = sorted(
        (place, one.metric[name], one.std[name]) for place, one in points if one.metric.get(name) is not None
    )
    if not known:
        return
    places, means, deviations = (np.array(column, np.float64) for column in zip(*known, strict=True))
    finite, places = places < none, places * aside
    axes.errorbar(places, means, deviations, fmt="o", markersize=4, capsize=3, color=colour, label=label)
    axes.plot(places[finite], means[finite], color=colour)
    if not finite.all():
        axes.plot(places[-2:], means[-2:], ":", color=colour)


def _named(values: Mapping[str, Any], but: str = "") -> str:
    """A run by what was swept, without the keys' blocks: `epsilon 4, rounds 20`; a name stands by itself."""
    parts = []
    for key, value in values.items():
        last = key.rpartition(".")[2]
        if key != but:
            parts.append(as_text(value) if last in ("name", "by") else f"{last} {as_text(value)}")
    return ", ".join(parts)


def _colours(number: int) -> Sequence[Any]:
    return _CYCLE[:number] if number <= len(_CYCLE) else list(colormaps["viridis"](np.linspace(0, 0.9, number)))


def _label_rounds(axes: Axes, result: Figures) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("round")
    axes.set_ylabel(result.metric["name"])


def _width(places: int) -> float:
    return min(max(8.0, 0.6 * places), _WIDEST)


def _common_title(result: Figures) -> str:
    better = "higher" if result.metric["higher_is_better"] else "lower"
    return f"{result.metric['name']} on hold-outs ({better} is better)"


def _title(result: Figures) -> str:
    promise = result.privacy
    if not isinstance(promise, str):
        promise = f"ε = {promise['epsilon']:.3g}, δ = {promise['delta']:.3g} per {promise['unit']} and site"
    return f"{_common_title(result)} - {promise}"


@contextmanager
def _axes(title: str, file: Path, width: float, *, legend: bool = True) -> Iterator[Axes]:
    figure = Figure(figsize=(width, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    yield axes
    axes.set_title(title, fontsize=10, pad=16 if not legend else None)
    if legend:
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)
