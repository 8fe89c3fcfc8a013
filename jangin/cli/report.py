"""`jangin report campaign` and `jangin campaign measure`: what came of a campaign, for whoever answers for it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from jangin.cli.models import KeyOption, opened
from jangin.cli.options import FormatOption, LangOption
from jangin.cli.server import FolderArgument, HashArgument, campaign
from jangin.cli.talk import Format, Talk, default_lang

__all__ = ["report"]

report = typer.Typer(help="Reports, each one page without a network.", no_args_is_help=True)


@report.callback()
def _reports() -> None:
    """A group with one command is a group all the same."""


@report.command("campaign")
def of_campaign(
    folder: FolderArgument,
    wanted: HashArgument,
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write the page here.")] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """One page about a campaign: who did what, rounds, figures, privacy, the model, what it is worth; HTML or JSON."""
    from jangin.errors import ServerError
    from jangin.server import campaigns
    from jangin.server.report import report as made
    from jangin.server.settings import write_whole

    talk = Talk(form, lang or default_lang())
    with opened(folder) as (state, store, _):
        found = made(state, store, campaigns.named(store, wanted), datetime.now(UTC))
    html = ""
    if out is not None or form is Format.TEXT:
        from jangin.server.report_page import page

        html = page(found, talk.language)
    if out is not None:
        try:
            write_whole(out, html.encode())
        except OSError as error:
            problem = error.strerror or type(error).__name__
            raise ServerError("JG-server-451", where=str(out), problem=problem) from None
    file = None if out is None else str(out)
    talk.answer(html if file is None else file, file=file, report=found.model_dump(mode="json"))


@campaign.command("measure")
def measure(
    folder: FolderArgument,
    wanted: HashArgument,
    value: Annotated[float, typer.Argument(help="The figure that the plan's kpi names, as it is now.")],
    note: Annotated[str, typer.Option(help="Where and how it was measured.")],
    key: KeyOption,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Keep a factory figure that was measured after a campaign, signed by an evaluator."""
    from jangin.server import desk, shelf
    from jangin.server.roles import Right
    from jangin.trust.keys import Identity

    talk, now = Talk(form, lang or default_lang()), datetime.now(UTC)
    with desk.opened(folder) as at:
        plan, own = shelf.planned(at, wanted), Identity.load(key)
        baseline = plan.kpi.baseline if plan.kpi else None
        talk.say(f"{plan.campaign}  {plan.hash}", f"{plan.campaign}  {plan.hash}")
        envelope = shelf.sign_measurement(at, plan, value, note, own, now)
        kept = at.act(Right.MEASURE, plan.hash, key=own, attachment=envelope)
    talk.answer(
        f"{kept['figure']}  {value:g}  ({talk.word('baseline', '기준값')} {baseline:g})", **kept, baseline=baseline
    )
