"""The privacy statement as one page, Korean and English, for people who are no mathematicians.

One file without scripts, network or fonts of its own; whatever stands in a statement is escaped. The law: the page
says nothing that its statement does not say.
"""

from collections.abc import Sequence
from importlib.resources import files
from math import ceil, exp, log10
from typing import Any

from jinja2 import Environment, StrictUndefined

from jangin.privacy.releases import Reading
from jangin.privacy.statement import CurvePoint, PrivacyLoss, Statement, Status, wording

__all__ = ["best_guess", "page", "percent_at_most"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 60.0, 580.0, 20.0, 220.0
_COLOURS = {Reading.SECURE_SUM: "#0072b2", Reading.COALITION: "#b3261e"}
_URGENCY = (Status.NOT_COVERED, Status.CHARGED, Status.COVERED)


def best_guess(epsilon: float, delta: float) -> float:
    """The probability, at most, of telling at even odds whether a unit was there.

    It is (e^epsilon + delta) / (e^epsilon + 1). Kairouz, Oh and Viswanath 2015 (arXiv 1311.0776), Theorem 2.1: missed
    + e^epsilon * false alarms >= 1 - delta and the same the other way round; both together bound the mean of the two
    errors from below.
    """
    return (1.0 + delta * exp(-epsilon)) / (1.0 + exp(-epsilon))


def percent_at_most(epsilon: float, delta: float) -> str:
    """`best_guess` in percent, rounded up, so that it stays a bound."""
    percent = 100 * best_guess(epsilon, delta)
    for digits in (1, 2, 3, 4):
        if (shown := ceil(percent * 10**digits) / 10**digits) < 100:
            return f"{shown:.{digits}f}"
    return "100"


def page(statement: Statement) -> str:
    """The statement as HTML, complete in itself."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = _figure
    template = environment.from_string(
        files("jangin.configs").joinpath("statement", "page.html").read_text(encoding="utf-8")
    )
    loss = statement.privacy_loss if isinstance(statement.privacy_loss, PrivacyLoss) else None
    drawn: dict[str, Any] = {} if loss is None else {"first": _first(loss), **_drawing(loss)}
    hazards = sorted(statement.privacy_hazards, key=lambda hazard: _URGENCY.index(hazard.status))
    words = wording()
    return template.render(statement=statement, loss=loss, hazards=hazards, all=words, words=words["page"], **drawn)


def _first(loss: PrivacyLoss) -> dict[str, str]:
    """The promise in one sentence of each language, two where the readings differ."""
    words, said = wording(), {}
    guesses = {reading: percent_at_most(figures.epsilon, figures.delta) for reading, figures in loss.readings.items()}
    for lang in ("ko", "en"):
        unit, names = words["units"][loss.privacy_unit][lang], words["readings"]
        sum_, all_ = guesses[Reading.SECURE_SUM], guesses[Reading.COALITION]
        said[lang] = words["page"]["first"][lang].format(unit=unit, percent=sum_)
        if sum_ != all_:
            said[lang] += " " + words["page"]["first_of_two"][lang].format(
                first=names[Reading.SECURE_SUM][lang], second=names[Reading.COALITION][lang], percent=all_
            )
    return said


def _drawing(loss: PrivacyLoss) -> dict[str, Any]:
    """The curves in the drawing's coordinates, one where both readings are the same."""
    curves = {reading: figures.curve for reading, figures in loss.readings.items()}
    alike = len(set(curves.values())) == 1
    if alike:
        curves = {Reading.SECURE_SUM: curves[Reading.SECURE_SUM]}
    points = [point for curve in curves.values() for point in curve]
    least, most = log10(min(point.delta for point in points)), log10(max(point.delta for point in points))
    highest = max(max(point.epsilon for point in points), 1e-9) * 1.05
    width = max(most - least, 1e-9)

    def x(delta: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (log10(delta) - least) / width, 1)

    def y(epsilon: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * epsilon / highest, 1)

    def line(reading: Reading, curve: Sequence[CurvePoint]) -> dict[str, Any]:
        return {
            "points": " ".join(f"{x(point.delta)},{y(point.epsilon)}" for point in curve),
            "colour": _COLOURS[reading],
            "label": {"ko": "", "en": ""} if alike else wording()["readings"][reading],
            "x": _LEFT + 8,
            "y": max(y(curve[0].epsilon) - 8, _TOP - 6),
        }

    shown = next(iter(curves.values()))[::3]
    return {
        "lines": [line(reading, curve) for reading, curve in curves.items()],
        "ticks": {
            "x": [{"at": x(point.delta), "label": _figure(point.delta)} for point in shown],
            "y": [{"at": y(highest * part / 4), "label": _figure(highest * part / 4)} for part in range(5)],
        },
    }


def _figure(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
