"""A campaign's report as one page, in Korean or English: no script, no network, no font of its own.

The law: the page says nothing that the report does not say, and whatever stands in the report is escaped.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

import yaml
from jinja2 import Environment, StrictUndefined

from jangin.errors import Language
from jangin.privacy.statement import PrivacyLoss
from jangin.server.registry import at_least
from jangin.server.report import CampaignReport, RoundRow
from jangin.server.store import Outcome

if TYPE_CHECKING:
    from matplotlib.axis import Axis

__all__ = ["page", "words"]

_COLOURS: Final = ("#0072b2", "#b3261e", "#1b6e3c", "#cc79a7")
_BARS: Final = "#9ec9e2"


def page(report: CampaignReport, lang: Language) -> str:
    """The report as HTML, complete in itself."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"figure": _figure, "bound": at_least}
    folder, said = files("jangin.configs").joinpath("report"), words()
    template = environment.from_string(folder.joinpath("page.html").read_text(encoding="utf-8"))
    loss = None if report.statement is None else report.statement.privacy_loss
    return template.render(
        report=report,
        lang=lang,
        all=said,
        say=lambda key: said[key][lang],
        counted=lambda codes: ", ".join(f"{code}: {count}" for code, count in sorted(codes.items())) or "-",
        loss=loss if isinstance(loss, PrivacyLoss) else None,
        drawn={"rounds": _rounds(report), "figures": _figures(report)},
    )


@cache
def words() -> Mapping[str, Any]:
    """The page's words: `{key: {"en", "ko"}}`, or a table of such."""
    text = files("jangin.configs").joinpath("report", "words.yaml").read_text(encoding="utf-8")
    known: Mapping[str, Any] = yaml.safe_load(text)
    return known


def _rounds(report: CampaignReport) -> str:
    """Seconds and sites of each finished round; empty where there is none."""
    finished: list[RoundRow] = [one for one in report.rounds if one.outcome is Outcome.FINISHED]
    if not finished:
        return ""
    with _Drawing("rounds") as drawing:
        numbers = [one.round for one in finished]
        drawing.axes.bar(numbers, [one.seconds for one in finished], color=_BARS)
        drawing.axes.set_ylabel("s")
        sites = drawing.axes.twinx()
        sites.plot(numbers, [one.reported for one in finished], "o", color=_COLOURS[0], markersize=4)
        sites.set_ylim(bottom=0)
        drawing.count(drawing.axes.xaxis, sites.yaxis)
        sites.set_ylabel("sites")
        drawing.axes.set_xlabel("round")
    return drawing.svg


def _figures(report: CampaignReport) -> str:
    """Each metric by round with twice the deviation of its noise; empty where there is none."""
    shown = [one for one in report.evaluations if one.figures]
    if not shown:
        return ""
    with _Drawing("figures") as drawing:
        for number, name in enumerate(shown[0].figures):
            places, values, noise = zip(*((one.round, *one.figures[name]) for one in shown), strict=True)
            colour = _COLOURS[number % len(_COLOURS)]
            bars = [2 * one for one in noise]
            drawing.axes.errorbar(places, values, yerr=bars, fmt="o-", color=colour, capsize=3, label=name)
        drawing.axes.set_xlabel("round")
        drawing.count(drawing.axes.xaxis)
        drawing.axes.legend()
    return drawing.svg


class _Drawing:
    """One figure that becomes SVG; the same figure is the same text."""

    def __init__(self, name: str) -> None:
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        self._context = rc_context({"svg.fonttype": "none", "svg.hashsalt": name})
        self._figure = Figure(figsize=(8.0, 2.8), layout="constrained")
        self.axes = self._figure.add_subplot()
        self.svg = ""

    @staticmethod
    def count(*axes: "Axis") -> None:
        """Have whole numbers alone along these axes."""
        from matplotlib.ticker import MaxNLocator

        for axis in axes:
            axis.set_major_locator(MaxNLocator(integer=True))

    def __enter__(self) -> "_Drawing":
        return self

    def __exit__(self, *_: object) -> None:
        text = StringIO()
        with self._context:
            self._figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        self.svg = text.getvalue()[text.getvalue().index("<svg") :]


def _figure(value: float) -> str:
    return f"{value:.4g}"
