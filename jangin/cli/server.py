"""`jangin server`, `jangin roster` and `jangin campaign`: an operator's acts on the server's own machine."""

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.talk import Format, Talk, default_lang

if TYPE_CHECKING:
    from jangin.server.members import Members
    from jangin.server.store import Store

__all__ = ["campaign", "roster", "server"]

server = typer.Typer(help="The national server.", no_args_is_help=True)
roster = typer.Typer(help="Which sites belong.", no_args_is_help=True)
campaign = typer.Typer(help="Training campaigns, from the proposal to the model.", no_args_is_help=True)

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The server's state folder.")]
HashArgument = Annotated[str, typer.Argument(metavar="HASH", help="The campaign: 64 hex digits.")]
KeysOption = Annotated[list[Path], typer.Option("--key", help="A private key file; repeat where two people sign.")]
KeyOption = Annotated[Path, typer.Option("--key", help="The private key file of whoever signs.")]

_STAFF_LIFE = timedelta(days=365)


@server.command("staff")
def staff(
    folder: Annotated[Path, typer.Argument(help="Takes root.pub, staff.envelope and the keys.")],
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Make a root and three people's keys in one place: for first steps, never in earnest."""
    from jangin.server.members import make_staff
    from jangin.trust.staff import Role

    talk = Talk(form, lang or default_lang())
    people = {
        "operator": (Role.OPERATOR,),
        "approver": (Role.APPROVER,),
        "independent": (Role.INDEPENDENT_BODY,),
    }
    make_staff(folder, people, datetime.now(UTC), _STAFF_LIFE)
    files = sorted(str(file) for file in folder.iterdir())
    talk.answer("\n".join(files), files=files)
    talk.say(
        "one machine holds every key: good for first steps only",
        "모든 키가 한 컴퓨터에 있음: 처음 써 볼 때에만 쓰십시오",
    )


@server.command("init")
def init(
    folder: FolderArgument,
    staff_list: Annotated[Path, typer.Option("--staff", help="The staff list that the root signed.")],
    root: Annotated[Path, typer.Option(help="The root's public key.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 for any that is free.")] = 8443,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="A name or address by which sites reach it; repeat as needed.")
    ] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Make a server's state folder with its own TLS authority."""
    from jangin.server.settings import ServerSettings, StateFolder

    talk = Talk(form, lang or default_lang())
    settings, names = ServerSettings(host=host, port=port), list(dict.fromkeys([*(name or []), host, "localhost"]))
    line = root.read_text(encoding="ascii").strip()
    made = StateFolder.make(folder, settings, line, staff_list.read_bytes(), names, datetime.now(UTC))
    paths = {"folder": str(made.path), "authority": str(made.authority)}
    talk.answer("\n".join(paths.values()), **paths, names=names)


@server.command("run")
def run(folder: FolderArgument, form: FormatOption = Format.TEXT, lang: LangOption = None) -> None:
    """Run the server until it is asked to stop (Ctrl-C, SIGTERM)."""
    from jangin.server.daemon import serve

    talk = Talk(form, lang or default_lang())
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    serve(folder, stop, ready=lambda address: talk.answer(address, address=address))


@roster.command("invite")
def invite(
    folder: FolderArgument,
    site: Annotated[str, typer.Argument(help="The site's id.")],
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Print a token with which one site may enrol once, within a week."""
    talk = Talk(form, lang or default_lang())
    with _opened(folder) as (_, who):
        token = who.invite(site, datetime.now(UTC))
    talk.answer(token, site=site, token=token)


@roster.command("list")
def members(folder: FolderArgument, form: FormatOption = Format.TEXT, lang: LangOption = None) -> None:
    """Every site, what it may do, and its fingerprint."""
    talk = Talk(form, lang or default_lang())
    with _opened(folder) as (_, who):
        found = who.members()
    lines = [f"{member.site}  {member.status}  {member.fingerprint or '-'}" for member in found]
    talk.answer("\n".join(lines), sites=[asdict(member) for member in found])


@roster.command("confirm")
def confirm(
    folder: FolderArgument,
    keys: KeysOption,
    sites: Annotated[list[str] | None, typer.Argument(metavar="SITE...", help="None: only renew the roster.")] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Sign the next roster with these sites, whose fingerprints were compared by telephone."""
    from jangin.trust.keys import Identity

    talk, named = Talk(form, lang or default_lang()), sites or []
    with _opened(folder) as (_, who):
        prints = who.fingerprints(named)
        for site, shown in prints.items():
            talk.say(f"{site}  {shown}", f"{site}  {shown}")
        signed = who.confirm(named, [Identity.load(key) for key in keys], datetime.now(UTC))
    until = signed.valid_until.isoformat()
    talk.answer(f"{signed.version}  {until}", version=signed.version, valid_until=until, fingerprints=prints)


@campaign.command("propose")
def propose(
    folder: FolderArgument,
    plan: Annotated[Path, typer.Argument(metavar="PLAN.yaml")],
    key: KeyOption,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Sign a plan as an operator; prints its hash."""
    from jangin.plan.training_plan import read_plan
    from jangin.server import campaigns
    from jangin.trust.keys import Identity

    talk = Talk(form, lang or default_lang())
    with _opened(folder) as (store, who):
        proposed = campaigns.propose(store, who, read_plan(plan), Identity.load(key), datetime.now(UTC))
    talk.answer(f"{proposed}  proposed", campaign=proposed, state="proposed")


@campaign.command("approve")
def approve(
    folder: FolderArgument,
    wanted: HashArgument,
    key: KeyOption,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Sign a proposed plan as another person."""
    from jangin.server import campaigns
    from jangin.trust.keys import Identity

    talk = Talk(form, lang or default_lang())
    with _opened(folder) as (store, who):
        campaigns.approve(store, who, wanted, Identity.load(key), datetime.now(UTC))
    talk.answer(f"{wanted}  approved", campaign=wanted, state="approved")


@campaign.command("start")
def start(
    folder: FolderArgument, wanted: HashArgument, form: FormatOption = Format.TEXT, lang: LangOption = None
) -> None:
    """Let an approved campaign run; a running server begins within a moment."""
    from jangin.server import campaigns

    talk = Talk(form, lang or default_lang())
    with _opened(folder) as (store, who):
        campaigns.start(store, who, wanted, datetime.now(UTC))
    talk.answer(f"{wanted}  running", campaign=wanted, state="running")


@campaign.command("status")
def status(
    folder: FolderArgument,
    wanted: Annotated[str | None, typer.Argument(metavar="[HASH]", help="All of them without it.")] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Where campaigns stand: rounds, who took part, who abstained and why, who was missing."""
    from jangin.server import campaigns

    talk = Talk(form, lang or default_lang())
    with _opened(folder) as (store, _):
        hashes = [row.hash for row in store.campaigns()] if wanted is None else [wanted]
        found = [campaigns.status(store, one) for one in hashes]
    lines = []
    for one in found:
        lines.append(f"{one.hash}  {one.name}  {one.state}  {one.round}/{one.rounds}  {one.reason}")
        for entry in one.attempts if wanted else []:
            absent = {**entry.abstained, **entry.refused, **dict.fromkeys(entry.missing, "missing")}
            names = "  ".join(f"{site}: {why}" for site, why in absent.items())
            lines.append(f"  {entry.round}.{entry.attempt}  {entry.outcome}  {len(entry.reported)}  {names}")
    talk.answer("\n".join(lines), campaigns=[asdict(one) for one in found])


@contextmanager
def _opened(folder: Path) -> Iterator[tuple["Store", "Members"]]:
    """A server's database and members."""
    from jangin.server.members import Members
    from jangin.server.settings import StateFolder

    state = StateFolder(folder)
    store = state.store()
    try:
        yield store, Members(store, state.root)
    finally:
        store.close()
