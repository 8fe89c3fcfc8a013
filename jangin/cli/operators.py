"""What people do beside the plain path of a campaign: drafts, pauses, stops, rosters that two sign, the audit log."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.server import (
    FolderArgument,
    HashArgument,
    KeysOption,
    SignOption,
    StateArgument,
    campaign,
    move,
    roster,
    server,
    signer,
)
from jangin.cli.talk import Format, Talk, default_lang, table

if TYPE_CHECKING:
    from jangin.records.process import Process
    from jangin.server.audit import Report
    from jangin.trust.roster import Roster

__all__ = ["audit", "happened", "process"]

audit = typer.Typer(help="What was done, by whom: one signed chain.", no_args_is_help=True)
process = typer.Typer(help="Kinds of work, and what is learnt of them.", no_args_is_help=True)

SitesArgument = Annotated[list[str], typer.Argument(metavar="SITE...")]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Write the signed roster here and publish nothing: the other person signs.")
]


@server.command("operator")
def operator(
    folder: StateArgument,
    person: Annotated[str, typer.Argument(help="Of the staff list.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="That person's folder; is made.")],
    address: Annotated[
        str, typer.Option("--server", metavar="HOST:PORT", help="Where that person reaches the server, if elsewhere.")
    ] = "",
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Make the folder with which a person acts from afar; its certificate counts for 90 days."""
    from jangin.server.members import Members
    from jangin.server.passes import issue_pass
    from jangin.server.settings import StateFolder

    talk, state = Talk(form, lang or default_lang()), StateFolder(folder)
    store = state.store()
    try:
        until = issue_pass(state, Members(store, state.root), person, out, address, lambda: datetime.now(UTC))
    finally:
        store.close()
    talk.answer(f"{out}  {until.isoformat()}", folder=str(out), person=person, until=until.isoformat())
    talk.say(
        "give it to that person alone; it opens the connection, and each act takes their own --key",
        "본인에게만 전달하십시오. 연결에만 쓰이며, 모든 행위에는 본인의 --key가 필요합니다",
    )


@campaign.command("draft")
def draft(
    folder: FolderArgument,
    plan: Annotated[Path, typer.Argument(metavar="PLAN.yaml")],
    key: SignOption = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Write a plan down on the server, for others to read before anybody signs it."""
    from jangin.codec import cbor
    from jangin.plan.training_plan import read_plan
    from jangin.server import desk
    from jangin.server.roles import Right

    talk = Talk(form, lang or default_lang())
    with desk.opened(folder) as at:
        read = read_plan(plan)
        payload = cbor.encode(read.model_dump(mode="json"))
        done = at.act(Right.DRAFT, read.hash, key=signer(key), attachment=payload)
    talk.answer(f"{done['campaign']}  {done['state']}", campaign=done["campaign"], state=done["state"])


@campaign.command("pause")
def pause(
    folder: FolderArgument,
    wanted: HashArgument,
    key: SignOption = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Have a running campaign stand still."""
    from jangin.server.roles import Right

    move(Right.PAUSE, folder, wanted, key, Talk(form, lang or default_lang()))


@campaign.command("resume")
def resume(
    folder: FolderArgument,
    wanted: HashArgument,
    key: SignOption = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Let a paused campaign go on after its last finished round."""
    from jangin.server.roles import Right

    move(Right.RESUME, folder, wanted, key, Talk(form, lang or default_lang()))


@campaign.command("stop")
def stop(
    folder: FolderArgument,
    wanted: HashArgument,
    reason: Annotated[str, typer.Option("--reason", help="For people and the audit log.")],
    key: SignOption = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """End a campaign without a model; there is no way back."""
    from jangin.server.roles import Right

    move(Right.STOP, folder, wanted, key, Talk(form, lang or default_lang()), reason=reason)


@campaign.command("watch")
def watch(
    folder: FolderArgument,
    wanted: Annotated[str | None, typer.Argument(metavar="[HASH]", help="All of them without it.")] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """A line for each thing that happens, until the campaign has ended; without HASH until you stop it."""
    from jangin.server import desk

    talk = Talk(form, lang or default_lang())
    with desk.opened(folder) as at:
        one_of = "" if wanted is None else at.ask("named", campaign=wanted)["campaign"]
        names = {one.hash: one.name for one in desk.statuses(at, one_of)}
        for event in at.watch(one_of):
            name = event["detail"].get("name") or names.get(event["campaign"], "")
            names[event["campaign"]] = name
            text = f"{event['moment']}  {event['campaign'][:8]}  {name}  {happened(event, talk)}"
            talk.answer(text, **{**event, "name": name})
        if one_of:
            (last,) = desk.statuses(at, one_of)
            talk.answer(f"{last.hash}  {last.state}", campaign=last.hash, state=str(last.state), reason=last.reason)


def happened(event: dict[str, Any], talk: Talk) -> str:
    """One event in words: an act and its actor, or a round and who took part."""
    detail, actor = event["detail"], event["actor"]
    if event["act"] != "round":
        to = f" -> {event['state']}" if event["state"] else ""
        reason = f": {detail['reason']}" if detail.get("reason") else ""
        return f"{event['act']}{to}  {actor}{reason}"
    said = talk.word("reported, abstained, refused, missing", "보고, 기권, 거부, 응답 없음").split(", ")
    lists = (detail[name] for name in ("reported", "abstained", "refused", "missing"))
    counts = ", ".join(f"{len(sites)} {word}" for word, sites in zip(said, lists, strict=True) if sites)
    return f"{talk.word('round', '라운드')} {detail['round']}: {detail['outcome']}  {counts}".rstrip()


@roster.command("confirm")
def confirm(
    folder: FolderArgument,
    keys: KeysOption,
    sites: Annotated[list[str] | None, typer.Argument(metavar="SITE...", help="None: only renew the roster.")] = None,
    out: OutOption = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Sign the next roster with these sites, whose fingerprints were compared by telephone, and with renewed keys."""
    _follow(folder, keys, out, Talk(form, lang or default_lang()), confirm=sites or [])


@roster.command("suspend")
def suspend(
    folder: FolderArgument,
    sites: SitesArgument,
    keys: KeysOption,
    out: OutOption = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Sign the next roster without these sites for now; confirming them lets them in again."""
    _follow(folder, keys, out, Talk(form, lang or default_lang()), suspend=sites)


@roster.command("revoke")
def revoke(
    folder: FolderArgument,
    sites: SitesArgument,
    keys: KeysOption,
    out: OutOption = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Sign the next roster with these sites' keys out of force for ever."""
    _follow(folder, keys, out, Talk(form, lang or default_lang()), revoke=sites)


@roster.command("sign")
def sign(
    file: Annotated[Path, typer.Argument(help="A roster that another person signed.")],
    keys: KeysOption,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Show a roster that another person signed, and sign it as well; for this no server is asked."""
    from jangin.server.settings import given, write_whole
    from jangin.trust.envelope import Kind, countersign, peek
    from jangin.trust.keys import Identity
    from jangin.trust.roster import Roster

    talk, envelope = Talk(form, lang or default_lang()), given(file, "FILE")
    read = Roster.parse(peek(envelope, Kind.ROSTER))
    _show(talk, read, list(read.sites))
    write_whole(file, countersign(envelope, Kind.ROSTER, *(Identity.load(key) for key in keys)))
    talk.answer(f"{file}  {read.version}", file=str(file), version=read.version)


@roster.command("publish")
def publish(
    folder: FolderArgument,
    file: Annotated[Path, typer.Argument(help="A roster that two people signed.")],
    key: SignOption = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Put a roster in force that an operator and an independent body signed."""
    from jangin.server import desk
    from jangin.server.roles import Right
    from jangin.server.settings import given

    talk = Talk(form, lang or default_lang())
    with desk.opened(folder) as at:
        done = at.act(Right.PUBLISH, key=signer(key), attachment=given(file, "FILE"))
    talk.answer(f"{done['version']}  {done['valid_until']}", **done)


@audit.command("export")
def export(
    folder: FolderArgument,
    file: Annotated[Path, typer.Argument(help="Takes the log, JSON lines.")],
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Write the audit log to a file, verified against the server's key as it is known here."""
    from jangin.server import desk

    talk = Talk(form, lang or default_lang())
    with desk.opened(folder) as at:
        report = desk.export(at, file)
    _report(talk, report, file=str(file))


@audit.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="An export.")],
    key: Annotated[Path, typer.Option("--key", help="The server's public audit key, audit.pub.")],
    known: Annotated[
        list[str] | None, typer.Option("--known", metavar="HEAD", help="A head of an earlier export; repeat as needed.")
    ] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Check an export: every entry, every signature, every campaign's life. Asks nobody."""
    from jangin.errors import ServerError
    from jangin.server import audit as log
    from jangin.server.settings import given
    from jangin.trust.keys import identity_from_text

    talk = Talk(form, lang or default_lang())
    try:
        public = identity_from_text(given(key, "--key").decode("ascii", "replace").strip())
    except ValueError as error:
        raise ServerError("JG-server-304", where="--key", problem=str(error)) from None
    lines = given(file, "FILE").decode("utf-8", "replace").splitlines()
    _report(talk, log.verify(lines, public, known or []))


@process.command("list")
def processes(
    industry: Annotated[str, typer.Option(metavar="NAME", help="Only this one's, e.g. foundry; none for all.")] = "",
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """The kinds of work of the catalogue, the highest priority first, with the model lines that learn them."""
    from jangin.errors import DataError
    from jangin.models.lines import line_names, read_line
    from jangin.records.process import by_priority, process_names, read_process

    talk = Talk(form, lang or default_lang())
    known = sorted(map(read_process, process_names()), key=by_priority)
    found = [one for one in known if industry in ("", one.industry)]
    if not found:
        raise DataError("JG-data-203", where=industry, known=", ".join(sorted({one.industry for one in known})))
    lines: dict[str, list[str]] = {}
    for name in line_names():
        lines.setdefault(read_line(name).process, []).append(name)
    head = talk.word(
        "process, priority, safety risk, labour shortage, industry, title, lines",
        "공정, 우선순위, 안전 위험, 인력 부족, 업종, 이름, 모델 계열",
    )
    shown = [
        {
            **one.model_dump(mode="json", include={"process", "industry", "title", "safety_risk", "labour_shortage"}),
            "priority": one.priority,
            "lines": lines.get(one.process, []),
        }
        for one in found
    ]
    rows = [_scored(one, lines.get(one.process, []), talk) for one in found]
    talk.answer(table(head.split(", "), rows), processes=shown)


def _scored(one: "Process", lines: Sequence[str], talk: Talk) -> tuple[str, ...]:
    """A process as a row of the list."""
    from jangin.records.process import INDUSTRIES, Title

    scores = (str(score or "-") for score in (one.priority, one.safety_risk, one.labour_shortage))
    branch = INDUSTRIES.get(one.industry, Title(en=one.industry, ko=one.industry))
    return (
        one.process,
        *scores,
        talk.word(branch.en, branch.ko),
        talk.word(one.title.en, one.title.ko),
        ", ".join(lines) or "-",
    )


def _follow(folder: Path, keys: Sequence[Path], out: Path | None, talk: Talk, **named: Sequence[str]) -> None:
    """Sign the roster that follows with these changes; publish it, or write it down for another person."""
    from jangin.server import desk
    from jangin.server.roles import Right
    from jangin.server.settings import write_whole
    from jangin.trust.envelope import Kind, seal
    from jangin.trust.keys import Identity

    with desk.opened(folder) as at:
        following = desk.next_roster(at, datetime.now(UTC), **named)
        prints = _show(talk, following, [site for sites in named.values() for site in sites])
        signers = [Identity.load(key) for key in keys]
        envelope = seal(Kind.ROSTER, following.payload, *signers)
        if out is not None:
            write_whole(out, envelope)
            talk.answer(f"{out}  {following.version}", file=str(out), version=following.version, fingerprints=prints)
            return
        done = at.act(Right.PUBLISH, key=signers[0], attachment=envelope)
    talk.answer(f"{done['version']}  {done['valid_until']}", **done, fingerprints=prints)


def _show(talk: Talk, shown: "Roster", sites: Sequence[str]) -> dict[str, str]:
    """Sites of a roster with what it says of them, on stderr; their fingerprints."""
    found = {site: shown.sites[site] for site in sites}
    for site, entry in found.items():
        line = f"{site}  {entry.fingerprint}  {entry.status}"
        talk.say(line, line)
    return {site: entry.fingerprint for site, entry in found.items()}


def _report(talk: Talk, report: "Report", **more: str) -> None:
    """What a log that holds has to say."""
    facts = [
        (talk.word("entries", "항목"), str(report.entries)),
        (talk.word("head", "마지막 해시"), report.head),
        *(
            (one[:16], f"{state}, {talk.word('rounds', '라운드')} {report.rounds.get(one, 0)}")
            for one, state in report.campaigns.items()
        ),
    ]
    values = {**asdict(report), **more}
    talk.answer("\n".join(f"{name}: {value}" for name, value in facts), **values)
