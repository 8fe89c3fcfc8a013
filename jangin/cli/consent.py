"""`jangin consent`: what the masters of a site allow, recorded, countersigned, listed and taken back."""

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.talk import Format, Talk, default_lang, table
from jangin.errors import PlanError

if TYPE_CHECKING:
    from jangin.trust.consents import Grant

__all__ = ["consent"]

consent = typer.Typer(help="What the masters of a site allow: grants, by pseudonym.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="The site's state folder.")]


@consent.command("grant")
def grant(
    folder: Folder,
    master: Annotated[
        list[str] | None, typer.Option(help="A pseudonym; once for each master who said the same.")
    ] = None,
    purpose: Annotated[list[str] | None, typer.Option(help="What for, e.g. skill_preservation; once for each.")] = None,
    channel: Annotated[
        list[str] | None, typer.Option(help="What is released: all, 'flame.*', flame.height, context.humidity.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last day, in UTC.")] = None,
    process: Annotated[str | None, typer.Option(help="Needed where the site has records of several.")] = None,
    countersigned: Annotated[
        Path | None,
        typer.Option(help="A grant that came back with the labour side's signature; nothing else is given."),
    ] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Record what a master allows; where site.yaml names the labour side's key, it counts once that has signed it."""
    from jangin.client import consent as consents
    from jangin.client.desk import now_utc

    talk = Talk(form, lang or default_lang())
    if countersigned is not None:
        if master or purpose or channel or until or process:
            raise _misused("--countersigned", str(countersigned), "it stands alone: the grant is in the file")
        made = [consents.accept(folder, countersigned)]
    else:
        if not (master and purpose and channel and until):
            raise _misused("grant", None, "--master, --purpose, --channel and --until are needed")
        made = consents.grant(folder, master, purpose, channel, until.date(), process, clock=now_utc)
    grants = [{"grant": one.hash, "file": str(one.file), "counts": not one.waits} for one in made]
    talk.answer("\n".join(f"{one.hash[:12]} {one.file}" for one in made), grants=grants)
    if any(one.waits for one in made):
        talk.say(
            "It counts once the labour side has signed these files: jangin consent countersign.",
            "노동자 대표가 이 파일에 서명해야 효력이 생깁니다: jangin consent countersign.",
        )


@consent.command("countersign")
def countersign(
    file: Annotated[Path, typer.Argument(help="A grant, as `jangin consent grant` left it.")],
    key: Annotated[
        Path, typer.Option(help="The labour side's own key: OpenSSH, Ed25519, readable by its owner alone.")
    ],
    out: Annotated[Path, typer.Option(help="Takes the grant with both signatures.")],
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """For the labour side: sign a grant, and see what it says. It needs no site's folder."""
    from jangin.client.consent import sign_for_labour

    talk = Talk(form, lang or default_lang())
    signed = sign_for_labour(file, key, out)
    lines = [f"{name}: {value}" for name, value in _shown(signed, talk).items()]
    talk.answer("\n".join([*lines, str(out)]), file=str(out), **signed.model_dump(mode="json"))


@consent.command("list")
def list_(folder: Folder, form: FormatOption = Format.TEXT, lang: LangOption = None) -> None:
    """Every grant and whether it holds today, and every master of the records who has none."""
    from jangin.client.consent import listed
    from jangin.client.desk import now_utc
    from jangin.client.master import consent_words

    talk = Talk(form, lang or default_lang())
    entries = listed(folder, clock=now_utc)
    states = consent_words()["verdicts"]
    rows = [
        (
            entry.master or "-",
            entry.process or "-",
            ", ".join(entry.grant.purposes) if entry.grant else "-",
            ", ".join(entry.grant.channels) if entry.grant else "-",
            entry.grant.until.isoformat() if entry.grant else "-",
            states[entry.verdict.name.lower()][talk.language],
            entry.hash[:12] or "-",
        )
        for entry in entries
    ]
    head = talk.word(
        "master, process, purposes, channels, until, state, grant", "장인, 공정, 목적, 채널, 기한, 상태, 동의"
    )
    values = [
        {
            "master": entry.master,
            "process": entry.process,
            "purposes": list(entry.grant.purposes) if entry.grant else [],
            "channels": list(entry.grant.channels) if entry.grant else [],
            "until": entry.grant.until.isoformat() if entry.grant else None,
            "state": entry.verdict.name.lower(),
            "grant": entry.hash,
        }
        for entry in entries
    ]
    talk.answer(table(head.split(", "), rows) if rows else talk.word("no master here", "장인 없음"), consents=values)


@consent.command("revoke")
def revoke(
    folder: Folder,
    master: Annotated[str, typer.Option(help="The pseudonym.")],
    process: Annotated[str | None, typer.Option(help="Only for these records; else for all.")] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Take back what a master allowed: before the next load of records. What has left stays with whoever has it."""
    from jangin.client import consent as consents
    from jangin.client.desk import now_utc

    talk = Talk(form, lang or default_lang())
    ended = consents.revoke(folder, master, process, clock=now_utc)
    talk.answer("\n".join(one[:12] for one in ended), revoked=ended)
    talk.say(
        "From the next order on nothing of it is used here. What was already sent cannot be called back.",
        "다음 지시부터 이곳에서 쓰지 않습니다. 이미 보낸 것은 되돌릴 수 없습니다.",
    )


def _misused(where: str, value: object, problem: str) -> PlanError:
    return PlanError("JG-plan-003", where=f"jangin consent {where}", value=value, problem=problem)


def _shown(signed: "Grant", talk: Talk) -> dict[str, str | date]:
    names = talk.word("site, master, process, purposes, channels, until", "사업장, 장인, 공정, 목적, 채널, 기한")
    values = (
        *(signed.site, signed.master, signed.process),
        *(", ".join(signed.purposes), ", ".join(signed.channels), signed.until),
    )
    return dict(zip(names.split(", "), values, strict=True))
