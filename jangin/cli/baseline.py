"""`jangin data baseline`: what a site's own records teach, before anybody else is asked."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.talk import Format, Talk, default_lang, table

if TYPE_CHECKING:
    from jangin.simulation.alone import Alone, Row, Score

__all__ = ["baseline"]

_MANY = 100
"""With fewer episodes than this it is said how little they are."""


def baseline(
    folder: Annotated[Path, typer.Argument(help="One site's validated records.")],
    line: Annotated[str | None, typer.Option(help="The model line; needed where the process has several.")] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Fit the mean, the line's own model and boosted trees here, and judge them on the folder's own hold-out.

    Nothing is written, and nothing leaves the machine. Figures are mean absolute errors in the target's unit, or the
    share of wrong classes; in brackets is where 90 % of resamples of the same episodes lie.
    """
    from jangin.simulation.alone import alone

    talk = Talk(form, lang or default_lang())
    with talk.progress() as advance:
        made = alone(folder, line, advance)
    talk.answer(_shown(made, talk), **asdict(made))
    if made.train + made.holdout < _MANY:
        talk.tell("baseline", "few", units=made.holdout)
    talk.tell("baseline", "local")


def _shown(made: "Alone", talk: Talk) -> str:
    """The rows under a head that names line and sides."""
    head = talk.said("baseline", f"head-{made.split_by}", line=made.line, train=made.train, holdout=made.holdout)
    models = list(made.rows[0].scores)
    names = [talk.said("baseline", f"model-{model}") if model in ("constant", "trees") else model for model in models]
    rows = [(_named(row, talk), *(_figure(row.scores[model], talk) for model in models)) for row in made.rows]
    return f"{head}\n{table(['', *names], rows)}"


def _named(row: "Row", talk: Talk) -> str:
    unit = talk.said("baseline", "wrong") if row.unit is None else row.unit
    return f"{row.target} ({unit}), {talk.said('baseline', f'judged-{row.judged}', units=row.units)}"


def _figure(score: "Score", talk: Talk) -> str:
    interval = "" if score.low is None else f" [{score.low:.3g}, {score.high:.3g}]"
    verdict = "" if score.verdict == "open" else f" {talk.said('baseline', f'verdict-{score.verdict}')}"
    return f"{score.figure:.3g}{interval}{verdict}"
