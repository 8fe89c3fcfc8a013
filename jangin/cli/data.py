"""`jangin data`: make and check master records; what is made here is checked here."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jangin.cli.importing import importing
from jangin.cli.ingest import ingest, init
from jangin.cli.options import FormatOption, LangOption
from jangin.cli.talk import Format, Talk, default_lang
from jangin.errors import PlanError
from jangin.privacy.releases import Unit

if TYPE_CHECKING:
    from jangin.records.split import SplitUnit

__all__ = ["data"]

data = typer.Typer(help="Master records: make and check them.", no_args_is_help=True)
data.command("init")(init)
data.command("ingest")(ingest)
data.add_typer(importing, name="import")

UnitOption = Annotated[Unit, typer.Option(help="What the hold-out is drawn by: episode or master.")]


@data.command("generate")
def generate(
    process: Annotated[str, typer.Argument(help="A reference process, e.g. steel.bof_blow.")],
    folder: Annotated[Path, typer.Argument(help="Takes one folder a site: site-0, site-1, ...")],
    sites: Annotated[int, typer.Option(min=1, max=500)] = 5,
    masters: Annotated[int, typer.Option(min=1, help="Masters of a site.")] = 3,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of a site.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed makes the same records.")] = 0,
    unit: UnitOption = Unit.EPISODE,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Make the records of a reference process, validate them, and set each site's hold-out aside."""
    from jangin.records.checks import validate as check
    from jangin.records.generate import generate as make

    talk, drawn = Talk(form, lang or default_lang()), _drawn_by(unit)
    with talk.progress() as advance:
        made = make(
            process,
            folder,
            sites=sites,
            masters=masters,
            episodes=episodes,
            seed=seed,
            progress=lambda done, total: advance("generate", done, total),
        )
        reports = []
        for number, site in enumerate(made, 1):
            reports.append(check(site, unit=drawn))
            reports[-1].require(site)
            advance("validate", number, len(made))
    folders = [str(site) for site in made]
    held = {"episodes": sum(one.episodes for one in reports), "holdout": sum(one.holdout for one in reports)}
    talk.answer("\n".join(folders), folders=folders, **held)
    talk.say(*_passed(**held))


@data.command("validate")
def validate(
    folder: Annotated[Path, typer.Argument(help="One site's records.")],
    level: Annotated[int, typer.Option(min=0, max=1, help="0 files, 1 schema; 2-4 come later.")] = 1,
    unit: UnitOption = Unit.EPISODE,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Check one site's records and, where they pass, set the hold-out aside and write the manifest.

    Exit 0: passed. 1: findings that are errors. With `--format json` each finding is a line, and the last line says
    whether all is well, and if not, the first error.
    """
    from jangin.records.checks import validate as check

    talk = Talk(form, lang or default_lang())
    report = check(folder, level=0 if level == 0 else 1, unit=_drawn_by(unit))
    for finding in report.findings:
        if form is Format.JSON:
            talk.json({"severity": finding.severity, **finding.as_dict(talk.language)})
        else:
            lines = (finding.text(field, talk.language) for field in ("what", "why", "hint"))
            talk.text(f"{finding.severity} {finding.code} " + "\n  ".join(lines))
    if form is Format.JSON:
        first = next((finding for finding in report.findings if finding.severity == "error"), None)
        why = first.as_dict(talk.language) if first else {}
        talk.json({"ok": report.passed, **why, "episodes": report.episodes, "holdout": report.holdout})
    elif report.passed:
        talk.say(*_passed(report.episodes, report.holdout))
    sys.exit(0 if report.passed else 1)


def _drawn_by(unit: Unit) -> "SplitUnit":
    """What a hold-out is drawn by.

    Raises:
        PlanError: JG-plan-003, not by sites.
    """
    match unit:
        case Unit.EPISODE:
            return "episode"
        case Unit.MASTER:
            return "master"
        case _:
            problem = "a hold-out is drawn by episode or master"
            raise PlanError("JG-plan-003", where="--unit", value=unit.value, problem=problem)


def _passed(episodes: int, holdout: int) -> tuple[str, str]:
    """That all is well, in English and Korean."""
    return (
        f"passed: {episodes} episodes, {holdout} set aside as hold-out",
        f"통과: 에피소드 {episodes}개, 그중 {holdout}개는 평가용으로 분리",
    )
