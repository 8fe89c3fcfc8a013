"""`jangin site`: what a factory does with its own site."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.talk import Format, Talk, default_lang, log_to_stderr, table
from jangin.errors import JanginError

if TYPE_CHECKING:
    from jangin.client.desk import Campaign
    from jangin.client.service import Running
    from jangin.client.state import Departure

__all__ = ["site"]

site = typer.Typer(help="A factory's site: keys, enrolment, approvals and the daemon.", no_args_is_help=True)
service = typer.Typer(help="The daemon as a service of this machine.", no_args_is_help=True)
site.add_typer(service, name="service")

Folder = Annotated[Path, typer.Argument(help="The site's state folder.")]
SystemOption = Annotated[bool, typer.Option("--system", help="Of the whole machine, not of this user's session.")]


@site.command("init")
def init(
    folder: Folder,
    name: Annotated[str, typer.Option("--id", help="The site's name on the roster, e.g. kr-0421.")],
    process: Annotated[str, typer.Option(help="What the records show, e.g. steel.bof_blow.")],
    records: Annotated[Path, typer.Option(help="The folder of records, checked by `jangin data validate`.")],
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Make a site: its folder, its keys and site.yaml."""
    from jangin.client import desk

    talk = Talk(form, lang or default_lang())
    made = desk.init(folder, name, process, records)
    talk.answer(f"{name} {made.fingerprint}", site=name, fingerprint=made.fingerprint)
    doubt = desk.doubts(folder)
    if doubt is not None:
        talk.warn(doubt)


@site.command("enroll")
def enroll(
    folder: Folder,
    server: Annotated[str, typer.Option(help="https://HOST:PORT")],
    token: Annotated[str, typer.Option(help="The one-time token that the operator gave.")],
    root: Annotated[Path, typer.Option(help="The federation root's public key, given by hand.")],
    ca: Annotated[Path, typer.Option(help="The certificates trusted for the server, PEM.")],
    extra_ca: Annotated[
        Path | None, typer.Option(help="The certificates of this firm's proxy that inspects TLS, PEM: trusted as well.")
    ] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Ask to join; ask again to see whether the operator has confirmed."""
    from jangin.client import desk

    talk = Talk(form, lang or default_lang())
    enrolled = desk.enroll(folder, server, token, root, ca, extra_ca=extra_ca)
    state = "confirmed" if enrolled.confirmed else "waiting"
    talk.answer(f"{state} {enrolled.fingerprint}", status=state, fingerprint=enrolled.fingerprint)
    if not enrolled.confirmed:
        talk.tell("site", "compare")


@site.command("campaigns")
def campaigns(folder: Folder, form: FormatOption = Format.TEXT, lang: LangOption = None) -> None:
    """The campaigns that invite this site, their signatures verified."""
    from jangin.client import desk

    talk = Talk(form, lang or default_lang())
    listed = desk.campaigns(folder)
    known = [_campaign(campaign, folder) for campaign in listed]
    blocks = ["\n".join(f"{key}: {_shown(value, talk)}" for key, value in campaign.items()) for campaign in known]
    talk.answer("\n\n".join(blocks), campaigns=known)
    for campaign in listed:
        for doubt in (campaign.obstacle.coded if campaign.obstacle else None, campaign.doubt):
            if doubt is not None:
                talk.warn(doubt)
    if not known:
        talk.tell("site", "no_campaign")


@site.command("approve")
def approve(
    folder: Folder,
    plan: Annotated[str, typer.Argument(help="The plan's hash, or the first 8 digits; or a waiting roster's.")],
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Say yes to one campaign, for this site."""
    from jangin.client import desk
    from jangin.client.local import look_again
    from jangin.training.price import price

    talk = Talk(form, lang or default_lang())
    approved = desk.approve(folder, plan, price)
    look_again(folder)
    campaign = None if approved is None else approved.campaign
    what, whole = ("roster", plan) if campaign is None else (campaign.plan.campaign, campaign.hash)
    talk.answer(f"{what} {whole}", approved=what, hash=whole)
    if approved is not None:
        covered, everybody = len(approved.consents.covered), len(approved.consents.verdicts)
        talk.tell("site", "covered", covered=covered, everybody=everybody)
    if approved is not None and approved.reservation.left_out:
        talk.tell("site", "left_out", count=approved.reservation.left_out)
    if approved is not None and approved.reservation.known:
        talk.tell("site", "known_before", count=approved.reservation.known)
    for doubt in () if campaign is None else (campaign.doubt, desk.doubts(folder, campaign)):
        if doubt is not None:
            talk.warn(doubt)


@site.command("decline")
def decline(
    folder: Folder,
    plan: Annotated[str, typer.Argument(help="The plan's hash, or its first digits (8 or more).")],
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Take a yes back for good: no more rounds of this campaign here; what it never spent is free again."""
    from jangin.client import desk
    from jangin.client.local import look_again

    talk = Talk(form, lang or default_lang())
    whole = desk.decline(folder, plan)
    look_again(folder)
    talk.answer(whole, declined=whole)
    talk.tell("site", "stays_spent")


@site.command("status")
def status(
    folder: Folder,
    last: Annotated[int, typer.Option("--lines", min=1, help="How many of the newest lines of each log.")] = 10,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """How the site stands: its keys, its tasks, and what left it last."""
    from jangin.client import desk, local
    from jangin.client.limits import paused

    talk = Talk(form, lang or default_lang())
    stands = desk.status(folder, lines=last)
    held, lives = paused(folder, desk.now_utc()), local.health(folder)
    head = {
        "site": stands.site,
        "fingerprint": stands.fingerprint,
        "server": stands.server,
        "roster": stands.roster,
        "daemon": None if lives is None else lives.state.value,
    }
    tasks = [
        {
            "time": _time(move.time),
            "campaign": move.campaign,
            "round": move.round,
            "state": move.state,
            "code": move.code,
        }
        for move in stands.moves
    ]
    egress = [_departure(line) | {"says": line.says[talk.language]} for line in stands.egress]
    names = talk.said("site", "standing").split(", ")
    moves = [
        (_time(one.time), one.campaign[:12], str(one.round), talk.said("site", f"task-{one.state.value}"), one.code)
        for one in stands.moves
    ]
    departures = [(_time(one.time), str(one.bytes), one.sha256[:12], one.says[talk.language]) for one in stands.egress]
    blocks = [
        "\n".join(
            f"{name}: {'-' if value is None else value}" for name, value in zip(names, head.values(), strict=True)
        ),
        _block(talk.said("site", "tasks"), talk.said("site", "tasks-columns"), moves, stands.more_moves, talk),
        _block(
            talk.said("site", "departures"),
            talk.said("site", "departures-columns"),
            departures,
            stands.more_egress,
            talk,
        ),
    ]
    sums = [
        {"campaign": one.campaign, "round": one.round, "attempt": one.attempt, "state": one.state.value}
        for one in stands.sums
    ]
    if sums:
        rows = [
            (one.campaign[:12], str(one.round), str(one.attempt), talk.said("site", f"sum-{one.state.value}"))
            for one in stands.sums
        ]
        blocks.insert(1, _block(talk.said("site", "sums"), talk.said("site", "sums-columns"), rows, False, talk))
    key = {"renewal": _time(stands.renewal), "renewing": stands.renewing}
    talk.answer("\n\n".join(blocks), **head, **key, paused=held is not None, tasks=tasks, egress=egress, sums=sums)
    if stands.renewing:
        talk.tell("site", "renewing")
    if held is not None:
        talk.tell("site", "paused", since=_time(held.since))


@site.command("renew")
def renew(folder: Folder, form: FormatOption = Format.TEXT, lang: LangOption = None) -> None:
    """Hand in a new key for the connection now, without a restart; the daemon does it by itself in time."""
    from jangin.client import desk

    talk = Talk(form, lang or default_lang())
    due = desk.renew(folder)
    talk.answer("handed in", renewing=True, due=_time(due))
    talk.tell("site", "handed_in")


@site.command("ledger")
def ledger(
    folder: Folder,
    unit: Annotated[
        str,
        typer.Option(
            help="episode or master: each unit of that kind. Else one unit: an episode's id, a master's pseudonym, "
            "or the 64 hex digits of an episode's content."
        ),
    ] = "",
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """What the records of this site have spent, and what is left, after verifying every signature of its ledger."""
    from jangin.cli.ledger import book_text, tight_epsilon, unit_text, units_text
    from jangin.client import accounts
    from jangin.client.state import SiteFolder
    from jangin.privacy.releases import Unit

    talk = Talk(form, lang or default_lang())
    place = SiteFolder(folder)
    name = place.settings().site.id
    with place.ledger() as held:
        if not unit:
            book = accounts.book(held, tight_epsilon)
            talk.answer(book_text(book, name, talk), site=name, **book.model_dump(mode="json"))
        elif unit in (Unit.EPISODE, Unit.MASTER):
            listed = accounts.units(held, Unit(unit), accounts.names(place))
            talk.answer(units_text(listed, talk), site=name, units=[one.model_dump(mode="json") for one in listed])
        else:
            found = accounts.one_unit(held, unit, accounts.names(place), tight_epsilon)
            talk.answer(unit_text(found, talk), site=name, **found.model_dump(mode="json"))


@site.command("egress")
def egress(
    folder: Folder,
    since: Annotated[str, typer.Option(help="2026-11-22T06:00 or 17:30, by the site's zone: nothing older.")] = "",
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """All that left this site, each message with its size, its SHA-256 and a sentence; json has both languages."""
    from jangin.client.desk import now_utc
    from jangin.client.limits import moment
    from jangin.client.state import SiteFolder

    talk = Talk(form, lang or default_lang())
    place = SiteFolder(folder)
    limits = place.settings().limits
    start = moment(since, limits, now_utc(), "--since", ahead=False) if since else None
    with place.journal() as journal:
        left = journal.egress(since=start)
    rows = [(_time(line.time), line.kind, str(line.bytes), line.sha256, line.says[talk.language]) for line in left]
    columns = talk.said("site", "egress-columns")
    known = [_departure(line) | {"says": dict(line.says)} for line in left]
    talk.answer(table(columns.split(", "), rows) if rows else "", egress=known)
    if not rows:
        talk.tell("site", "nothing_left")


@site.command("pause")
def pause(
    folder: Folder,
    until: Annotated[str, typer.Option(help="17:30 or 2026-11-22T06:00, by the site's zone; else until resume.")] = "",
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Begin no order from now on; what runs goes on, and is named."""
    from jangin.client import local
    from jangin.client.desk import now_utc

    talk = Talk(form, lang or default_lang())
    held = local.pause(folder, until, now_utc())
    end = None if held.pause.until is None else _time(held.pause.until)
    running = [{"campaign": campaign, "round": number} for campaign, number in held.running]
    talk.answer(f"paused {end or '-'}", paused=True, until=end, running=running)
    for campaign, number in held.running:
        talk.tell("site", "goes_on", round=number, campaign=campaign[:12])
    if end is None:
        talk.tell("site", "until_resume")


@site.command("resume")
def resume(folder: Folder, form: FormatOption = Format.TEXT, lang: LangOption = None) -> None:
    """End the pause: the site takes part again, without a restart."""
    from jangin.client import local
    from jangin.client.desk import now_utc

    talk = Talk(form, lang or default_lang())
    held = local.resume(folder, now_utc())
    talk.answer("resumed", paused=False)
    if held is None:
        talk.tell("site", "not_paused")


@site.command("run")
def run(folder: Folder, form: FormatOption = Format.TEXT, lang: LangOption = None) -> None:
    """Run the site's daemon until it is told to stop (Ctrl-C or SIGTERM)."""
    import random
    import signal

    from jangin.client.daemon import Daemon
    from jangin.client.desk import now_utc
    from jangin.client.state import SiteFolder
    from jangin.telling.logs import kept

    talk = Talk(form, lang or default_lang())
    log_to_stderr()
    place = SiteFolder(folder)
    with kept(folder, place.settings().logs.retention_days, now_utc):
        daemon = Daemon(place, clock=now_utc, jitter=random.Random())  # noqa: S311 - spreads polls
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: daemon.stop())
        daemon.run()
    if form is Format.JSON:
        talk.json({"ok": True, "stopped": True})


@site.command("doctor")
def doctor(folder: Folder, form: FormatOption = Format.TEXT, lang: LangOption = None) -> None:
    """Twenty checks of this machine, its network and the site; each line in Korean and English, or in one of them."""
    from jangin.client.desk import now_utc
    from jangin.client.doctor.checks import Facts
    from jangin.client.doctor.findings import State
    from jangin.client.doctor.visit import visit
    from jangin.client.state import SiteFolder
    from jangin.words import LANGUAGES

    talk = Talk(form, lang or default_lang())
    languages, found = LANGUAGES if lang is None else (talk.language,), []
    place = SiteFolder(folder)
    for finding in visit(Facts(place, place.settings(), now_utc)):
        found.append(finding)
        if form is Format.TEXT:
            talk.text(finding.line(languages))
    failed = any(finding.state is State.FAIL for finding in found)
    if form is Format.JSON:
        talk.json({"ok": not failed, "checks": [finding.as_dict(talk.language) for finding in found]})
    if failed:
        raise typer.Exit(1)


@site.command("support-bundle")
def support_bundle(
    folder: Folder,
    out: Annotated[Path | None, typer.Option(help="The zip; else support.zip in the state folder.")] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Versions, masked settings, checks, log and counts in one zip, for whoever helps; no data, names or paths."""
    from jangin.client.desk import now_utc
    from jangin.client.support import bundle, collect

    talk = Talk(form, lang or default_lang())
    file, parts = out or folder / "support.zip", collect(folder, now_utc)
    rows = [(part.name, str(len(part.content)), part.says[talk.language]) for part in parts]
    listed = table(talk.said("site", "bundle-columns").split(", "), rows)
    talk.say(listed, listed)
    bundle(parts, file, now_utc())
    talk.answer(str(file), file=str(file), parts=[{"name": name, "bytes": int(size)} for name, size, _ in rows])
    talk.tell("site", "bundle_stays")


@service.command("install")
def service_install(
    folder: Folder, system: SystemOption = False, form: FormatOption = Format.TEXT, lang: LangOption = None
) -> None:
    """Write the daemon's systemd unit, or on Windows a recipe for WinSW; what is to be typed next stands on stdout."""
    from jangin.client.service import install

    talk = Talk(form, lang or default_lang())
    installed = install(folder, system=system)
    talk.tell("site", "written", file=installed.file)
    talk.answer(installed.next, file=str(installed.file), name=installed.name, next=installed.next)
    if installed.kept is not None:
        talk.warn(installed.kept)


@service.command("start")
def service_start(
    folder: Folder, system: SystemOption = False, form: FormatOption = Format.TEXT, lang: LangOption = None
) -> None:
    """Start the service that was installed."""
    from jangin.client.service import start

    _stands(start(folder, system=system), Talk(form, lang or default_lang()))


@service.command("status")
def service_status(
    folder: Folder, system: SystemOption = False, form: FormatOption = Format.TEXT, lang: LangOption = None
) -> None:
    """Whether the service runs; exit status 1 where it does not."""
    from jangin.client.service import status

    _stands(status(folder, system=system), Talk(form, lang or default_lang()))


def _stands(running: "Running", talk: Talk) -> None:
    """How a service stands."""
    known = {"name": running.name, "state": running.state, "pid": running.pid}
    if talk.format is Format.JSON:
        talk.json({"ok": running.active, **known})
    else:
        talk.text(f"{running.name} {running.state} {running.pid or '-'}")
    if not running.active:
        raise typer.Exit(1)


def _departure(line: "Departure") -> dict[str, object]:
    """A message that left, but for its sentence."""
    return {"time": _time(line.time), "kind": line.kind, "bytes": line.bytes, "sha256": line.sha256}


def _campaign(campaign: "Campaign", folder: Path) -> dict[str, object]:
    plan = campaign.plan
    covered, masters = _consents(campaign, folder)
    return {
        "hash": campaign.hash,
        "campaign": plan.campaign,
        "state": campaign.state,
        "approved": campaign.approved,
        "operator": campaign.operator,
        "approver": campaign.approver,
        "process": plan.process,
        "model_line": plan.model_line,
        "rounds": plan.strategy.rounds,
        "unit": plan.privacy.unit.value,
        "epsilon": plan.privacy.epsilon,
        "delta": plan.privacy.delta,
        "secure_aggregation": plan.privacy.secure_aggregation,
        "purposes": list(plan.governance.purposes),
        "prohibited": list(plan.governance.prohibited),
        "consents": f"{covered}/{masters}",
        **({} if campaign.obstacle is None else {"obstacle": campaign.obstacle.code}),
    }


def _consents(campaign: "Campaign", folder: Path) -> tuple[int, int]:
    """How many masters of the plan's records allow it, and of how many; nobody where there are no such records."""
    from jangin.client.desk import consented

    try:
        found = consented(folder, campaign.plan)
    except JanginError:
        return 0, 0
    return len(found.covered), len(found.verdicts)


def _block(title: str, head: str, rows: Sequence[Sequence[str]], more: bool, talk: Talk) -> str:
    """One log under its title, which says whether there is more of it."""
    if not rows:
        return f"{title}: {talk.said('site', 'nothing_yet')}"
    if more:
        title = talk.said("site", "more", title=title, rows=str(len(rows)))
    return f"{title}:\n{table(head.split(', '), rows)}"


def _shown(value: object, talk: Talk) -> str:
    match value:
        case True | False:
            return talk.said("site", "yes") if value else talk.said("site", "no")
        case list():
            return ", ".join(map(str, value))
        case _:
            return str(value)


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
