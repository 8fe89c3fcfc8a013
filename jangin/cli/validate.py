"""`jangin data validate`: one site's records checked, and what is found said in both languages."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.talk import Format, Talk, default_lang
from jangin.errors import PlanError
from jangin.privacy.releases import Unit

if TYPE_CHECKING:
    from jangin.records.agreement import Agreement
    from jangin.records.checks import Consent, Level, Report
    from jangin.records.split import SplitUnit

__all__ = ["UnitOption", "consents_at", "drawn_by", "passed", "validate"]

UnitOption = Annotated[Unit, typer.Option(help="What the hold-out is drawn by: episode or master.")]


def validate(
    folder: Annotated[Path, typer.Argument(help="One site's records.")],
    level: Annotated[int, typer.Option(min=0, max=4, help="0 files, 1 schema, 2 signal, 3 labels, 4 people.")] = 4,
    site: Annotated[
        Path | None, typer.Option(help="The site's state folder: its consents are looked up for level 4.")
    ] = None,
    unit: UnitOption = Unit.EPISODE,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Check one site's records and, where they pass, set the hold-out aside and write the manifest.

    Exit 0: passed, perhaps with warnings. 1: findings that are errors. 2: wrong usage. Training asks for level 1; a
    lower --level leaves the rest unlooked at. With `--format json` each finding is a line, and the last line says
    whether all is well, and if not, the first error.
    """
    from jangin.records.checks import validate as check

    talk = Talk(form, lang or default_lang())
    levels: tuple[Level, ...] = (0, 1, 2, 3, 4)
    with talk.progress() as advance:
        report = check(
            folder,
            level=levels[level],
            unit=drawn_by(unit),
            consents=None if site is None else consents_at(site),
            progress=lambda done, total: advance("validate", done, total),
        )
    for finding in report.findings:
        if form is Format.JSON:
            talk.json({"severity": finding.severity, **finding.as_dict(talk.language)})
        else:
            lines = (finding.text(field, talk.language) for field in ("what", "why", "hint"))
            talk.text(f"{finding.severity} {finding.code} " + "\n  ".join(lines))
    if form is Format.JSON:
        talk.json(_last(report, talk))
    else:
        for one in report.agreement:
            talk.text(_said(one, talk))
        if report.passed:
            talk.say(*passed(report.episodes, report.holdout))
    sys.exit(0 if report.passed else 1)


def drawn_by(unit: Unit) -> "SplitUnit":
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


def passed(episodes: int, holdout: int) -> tuple[str, str]:
    """That all is well, in English and Korean."""
    return (
        f"passed: {episodes} episodes, {holdout} set aside as hold-out",
        f"통과: 에피소드 {episodes}개, 그중 {holdout}개는 평가용으로 분리",
    )


def _last(report: "Report", talk: Talk) -> dict[str, object]:
    """The last line of JSON."""
    first = next((finding for finding in report.findings if finding.severity == "error"), None)
    why = first.as_dict(talk.language) if first else {}
    agreement = [
        {
            "judgement": one.judgement,
            "statistic": one.statistic,
            "value": one.value,
            "judges": one.judges,
            "episodes": one.episodes,
        }
        for one in report.agreement
    ]
    return {
        "ok": report.passed,
        **why,
        "episodes": report.episodes,
        "holdout": report.holdout,
        "agreement": agreement,
    }


def _said(one: "Agreement", talk: Talk) -> str:
    """One line on how far the masters agree."""
    value = "-" if one.value is None else f"{one.value:.3f}"
    return talk.word(
        f"agreement on {one.judgement}: {one.statistic} {value} ({one.judges} masters, {one.episodes} episodes)",
        f"{one.judgement} 판단의 일치도: {one.statistic} {value} (장인 {one.judges}명, 에피소드 {one.episodes}개)",
    )


def consents_at(site: Path) -> "dict[str, dict[str, Consent]]":
    """What a site knows of its masters' consents, by process and pseudonym; of several grants the best one.

    Raises:
        SiteError: JG-site-304 no site there, 101..103 its key.
    """
    from jangin.client.consent import Verdict, looked_at
    from jangin.client.desk import now_utc

    words: dict[Verdict, Consent] = {
        Verdict.COVERED: "held",
        Verdict.EXPIRED: "expired",
        Verdict.REVOKED: "revoked",
    }
    known: dict[str, dict[str, Consent]] = {}
    for entry in sorted(looked_at(site, clock=now_utc), key=lambda entry: entry.verdict):
        known.setdefault(entry.process, {})[entry.master] = words.get(entry.verdict, "none")
    return known
