"""`jangin consent`: what the masters of a site allow, recorded, countersigned, listed and taken back."""

import sys
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.talk import Format, Talk, default_lang, table
from jangin.errors import PlanError, SiteError

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
        talk.tell("consent", "waits")


@consent.command("countersign")
def countersign(
    file: Annotated[Path, typer.Argument(help="A grant, as `jangin consent grant` left it.")],
    key: Annotated[
        Path, typer.Option(help="The labour side's own key: OpenSSH, Ed25519, readable by its owner alone.")
    ],
    site_key: Annotated[
        Path, typer.Option(help="The site's public key, given by hand: ssh-keygen -y -f FOLDER/keys/identity.")
    ],
    out: Annotated[Path, typer.Option(help="Takes the grant with both signatures.")],
    yes: Annotated[bool, typer.Option("--yes", help="Sign what is shown without being asked.")] = False,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """For the labour side: read what a grant says, then sign it. It needs no site's folder."""
    from jangin.client.consent import sign_for_labour, to_countersign

    talk = Talk(form, lang or default_lang())
    shown = to_countersign(file, site_key)
    talk.tell("consent", "to_sign", key=shown.key)
    for name, value in _shown(shown.grant, talk).items():
        sys.stderr.write(f"  {name}: {value}\n")
    if not yes and not talk.agreed(talk.said("consent", "ask")):
        raise SiteError("JG-site-441", where=file.name)
    sign_for_labour(shown, key, out)
    talk.answer(str(out), file=str(out), grant=shown.grant.hash, **shown.grant.model_dump(mode="json"))


@consent.command("list")
def list_(folder: Folder, form: FormatOption = Format.TEXT, lang: LangOption = None) -> None:
    """Every grant and whether it holds today, and every master of the records who has none."""
    from jangin.client.consent import listed
    from jangin.client.desk import now_utc

    talk = Talk(form, lang or default_lang())
    entries = listed(folder, clock=now_utc)
    rows = [
        (
            entry.master or "-",
            entry.process or "-",
            ", ".join(entry.grant.purposes) if entry.grant else "-",
            ", ".join(entry.grant.channels) if entry.grant else "-",
            entry.grant.until.isoformat() if entry.grant else "-",
            talk.said("consent", f"verdict-{entry.verdict.name.lower()}"),
            entry.hash[:12] or "-",
        )
        for entry in entries
    ]
    head = talk.said("consent", "columns")
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
    talk.answer(table(head.split(", "), rows) if rows else talk.said("consent", "nobody"), consents=values)


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
    talk.tell("consent", "taken_back")


def _misused(where: str, value: object, problem: str) -> PlanError:
    return PlanError("JG-plan-003", where=f"jangin consent {where}", value=value, problem=problem)


def _shown(signed: "Grant", talk: Talk) -> dict[str, str | date]:
    """What a grant says, each by its name."""
    return {
        talk.said("consent", "site"): signed.site,
        talk.said("consent", "master"): _plain(signed.master),
        talk.said("consent", "process"): _plain(signed.process),
        talk.said("consent", "purposes"): ", ".join(
            f"{purpose} ({talk.said('consent', f'purpose-{purpose}')})" for purpose in signed.purposes
        ),
        talk.said("consent", "channels"): ", ".join(signed.channels),
        talk.said("consent", "until"): signed.until,
        talk.said("consent", "grant"): signed.hash,
    }


def _plain(text: str) -> str:
    """A text that cannot move a terminal's cursor, or turn its direction: what is read is what is signed."""
    return text if text.isprintable() else ascii(text)
