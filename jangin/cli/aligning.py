"""`jangin data align`: what two recorders wrote brought to one clock, and outcomes from elsewhere to their episodes."""

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.talk import Format, Talk, default_lang
from jangin.errors import PlanError

if TYPE_CHECKING:
    from jangin.records.checks import Finding

__all__ = ["align"]


def align(
    folder: Annotated[Path, typer.Argument(help="One site's records.")],
    reference: Annotated[
        str | None, typer.Option(help="stream.channel, or a stream, whose clock counts; sound by its loudness.")
    ] = None,
    moved: Annotated[str | None, typer.Option(help="The same of the stream whose lag is looked for.")] = None,
    outcomes: Annotated[Path | None, typer.Option(help="A table of outcomes, as spreadsheets write it.")] = None,
    key: Annotated[str | None, typer.Option(help="Its column of heat, lot or serial numbers.")] = None,
    episodes: Annotated[
        Path | None, typer.Option(help="The drop folder's episodes.csv with that column; else it is a context field.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Its column of when an outcome was found: within 31 days of the episode.")
    ] = None,
    apply: Annotated[Path | None, typer.Option(metavar="NEW", help="Write a new records folder here.")] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Find one stream's lag behind another, or join outcomes to episodes by a key; with --apply make a new folder.

    The folder stays as it is. The new one has the same episodes and the same hold-out, and is to be validated. Exit 1:
    findings that are errors, or no clear lag; nothing was written then.
    """
    talk = Talk(form, lang or default_lang())
    if outcomes is None and reference and moved and not (key or episodes or time):
        _lag(folder, reference, moved, apply, talk)
    elif outcomes and key and not (reference or moved):
        _join(folder, outcomes, key, episodes, time, apply, talk)
    else:
        raise _misused("either --reference and --moved are needed, or --outcomes and --key")


def _misused(problem: str) -> PlanError:
    return PlanError("JG-plan-030", where="jangin data align", problem=problem)


def _lag(folder: Path, reference: str, late: str, new: Path | None, talk: Talk) -> None:
    from jangin.records.as_is import as_it_is
    from jangin.records.lag import lag_of, moved

    view, _ = as_it_is(folder)
    lag = lag_of(view, reference, late)
    if new is not None:
        moved(folder, new, view.card, late, lag.seconds)
    said = talk.said(
        "align",
        "lag",
        moved=late,
        reference=reference,
        seconds=f"{lag.seconds:+.4f}",
        correlation=f"{lag.correlation:.2f}",
        deviate=f"{lag.deviate:.1f}",
        episodes=lag.episodes,
        agree=lag.agree,
    )
    talk.answer(said, **asdict(lag), folder=None if new is None else str(new))
    _made(new, talk)
    if new is not None:
        talk.tell("align", "charged")


def _join(
    folder: Path, table: Path, key: str, episodes: Path | None, time: str | None, new: Path | None, talk: Talk
) -> None:
    from jangin.records.outcomes import join

    joined = join(folder, table, key, listed=episodes, time=time)
    _tell(joined.findings, talk)
    if joined.passed and new is not None:
        joined.write(folder, new)
    columns = ", ".join(joined.columns)
    if talk.format is Format.JSON:
        first = next((one for one in joined.findings if one.severity == "error"), None)
        why = first.as_dict(talk.language) if first else {}
        made = str(new) if joined.passed and new is not None else None
        said = {"episodes": joined.episodes, "found": joined.found, "columns": list(joined.columns), "folder": made}
        talk.json({"ok": joined.passed, **why, **said})
    else:
        talk.text(talk.said("align", "joined", found=joined.found, episodes=joined.episodes, columns=columns))
    if joined.passed:
        _made(new, talk)
    sys.exit(0 if joined.passed else 1)


def _tell(findings: Iterable["Finding"], talk: Talk) -> None:
    """Each finding as `jangin data validate` tells it."""
    for finding in findings:
        if talk.format is Format.JSON:
            talk.json({"severity": finding.severity, **finding.as_dict(talk.language)})
        else:
            lines = (finding.text(field, talk.language) for field in ("what", "why", "hint"))
            talk.text(f"{finding.severity} {finding.code} " + "\n  ".join(lines))


def _made(new: Path | None, talk: Talk) -> None:
    if new is not None:
        talk.tell("align", "made", folder=new)
