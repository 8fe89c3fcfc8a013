"""`jangin server`, `jangin roster` and `jangin campaign`: an operator's acts on the server's own machine."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jangin.cli.options import FormatOption, LangOption, SetsOption, assignments
from jangin.cli.safekeeping import backup, restore, upgrade
from jangin.cli.talk import Format, Talk, default_lang, log_to_stderr, table
from jangin.errors import CodedText

if TYPE_CHECKING:
    from jangin.server.campaigns import CampaignStatus
    from jangin.server.members import Members
    from jangin.server.store import RoundEntry, Store

__all__ = ["FolderArgument", "HashArgument", "campaign", "roster", "server"]

server = typer.Typer(help="The national server.", no_args_is_help=True)
roster = typer.Typer(help="Which sites belong.", no_args_is_help=True)
campaign = typer.Typer(help="Training campaigns, from the proposal to the model.", no_args_is_help=True)

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The server's state folder.")]
HashArgument = Annotated[str, typer.Argument(metavar="HASH", help="The campaign's hash, or the first 8 digits.")]
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
    staff_list: Annotated[Path | None, typer.Option("--staff", help="The staff list that the root signed.")] = None,
    root: Annotated[Path | None, typer.Option(help="The root's public key.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 for any that is free.")] = 8443,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="A name or address by which sites reach it; repeat as needed.")
    ] = None,
    database: Annotated[
        str | None, typer.Option(metavar="URL", help="An empty database of PostgreSQL's, without its password.")
    ] = None,
    beside: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Another server, whose database, staff and root this one shares.")
    ] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Make a server's state folder with its own TLS authority."""
    from jangin.server.database import refuse_password
    from jangin.server.settings import ServerSettings, StateFolder, given

    talk = Talk(form, lang or default_lang())
    names, other = list(dict.fromkeys([*(name or []), host, "localhost"])), beside and StateFolder(beside)
    refuse_password(database)
    if other:
        if staff_list or root or database:
            raise typer.BadParameter("what --beside brings along is not given again", param_hint="--beside")
        made = StateFolder.make_beside(folder, other, host, port, names, datetime.now(UTC))
    else:
        if staff_list is None or root is None:
            raise typer.BadParameter("needed where there is no --beside", param_hint="--staff, --root")
        settings = ServerSettings(host=host, port=port, database=database)
        line, listed = given(root, "--root").decode("ascii", "replace").strip(), given(staff_list, "--staff")
        made = StateFolder.make(folder, settings, line, listed, names, datetime.now(UTC))
    paths = {"folder": str(made.path), "authority": str(made.authority)}
    talk.answer("\n".join(paths.values()), **paths, names=names)


@server.command("run")
def run(
    folder: FolderArgument,
    shard: Annotated[
        str | None, typer.Option(metavar="INDUSTRY", help="Lead the campaigns of this industry's processes only.")
    ] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Run the server until it is asked to stop (Ctrl-C, SIGTERM)."""
    from jangin.server.daemon import serve
    from jangin.server.settings import StateFolder
    from jangin.telling.logs import kept

    talk = Talk(form, lang or default_lang())
    log_to_stderr()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with kept(folder, StateFolder(folder).settings().logs.retention_days, lambda: datetime.now(UTC)):
        serve(folder, stop, shard=shard, ready=lambda address: talk.answer(address, address=address))


for act in (backup, restore, upgrade):
    server.command()(act)


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
        before = next((member.status for member in who.members() if member.site == site), None)
        token = who.invite(site, datetime.now(UTC))
    talk.answer(token, site=site, token=token)
    if before is not None:
        talk.warn(CodedText("JG-server-353", where=site, status=talk.word(before, _STATUSES[before])))


@roster.command("list")
def members(folder: FolderArgument, form: FormatOption = Format.TEXT, lang: LangOption = None) -> None:
    """Every site, what it may do, and its fingerprint."""
    talk = Talk(form, lang or default_lang())
    with _opened(folder) as (_, who):
        found = who.members()
    rows = [
        (member.site, talk.word(member.status, _STATUSES[member.status]), member.fingerprint or "-") for member in found
    ]
    head = talk.word("site, status, fingerprint", "사업장, 상태, 지문").split(", ")
    talk.answer(table(head, rows) if rows else "", sites=[asdict(member) for member in found])
    if not rows:
        talk.say("no site was invited yet", "아직 초대한 사업장 없음")


@roster.command("confirm")
def confirm(
    folder: FolderArgument,
    keys: KeysOption,
    sites: Annotated[list[str] | None, typer.Argument(metavar="SITE...", help="None: only renew the roster.")] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Sign the next roster with these sites, whose fingerprints were compared by telephone, and with renewed keys."""
    from jangin.trust.keys import Identity

    talk, named = Talk(form, lang or default_lang()), sites or []
    with _opened(folder) as (_, who):
        prints = who.fingerprints(named)
        for site, shown in prints.items():
            talk.say(f"{site}  {shown}", f"{site}  {shown}")
        signed = who.confirm(named, [Identity.load(key) for key in keys], datetime.now(UTC))
    until = signed.valid_until.isoformat()
    talk.answer(f"{signed.version}  {until}", version=signed.version, valid_until=until, fingerprints=prints)


@campaign.command("new")
def new(
    source: Annotated[
        Path, typer.Option("--from-simulation", metavar="SIM.yaml|DIR", help="A simulation file, or a run folder.")
    ],
    sites: Annotated[
        list[str] | None, typer.Option("--site", help="Whom to invite; repeat. None: as many as it simulates.")
    ] = None,
    sets: SetsOption = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Print the plan of a campaign that trains what a simulation trained: a draft, for people to read and change."""
    import yaml

    from jangin.simulation.campaign import draft

    talk = Talk(form, lang or default_lang())
    plan = draft(source, sites or [], assignments(sets or []))
    document = plan.model_dump(mode="json")
    talk.answer(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), plan=document, campaign=plan.hash)
    talk.say(
        "a draft: read campaign, sites and governance before you propose it",
        "초안임. 제안하기 전에 campaign, sites, governance를 확인하십시오",
    )


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
        wanted = campaigns.named(store, wanted)
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
        wanted = campaigns.named(store, wanted)
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
        hashes = [row.hash for row in store.campaigns()] if wanted is None else [campaigns.named(store, wanted)]
        found = [campaigns.status(store, one) for one in hashes]
    models = [_model(folder, one) for one in found]
    if wanted is None:
        head = talk.word("hash, campaign, state, rounds", "해시, 캠페인, 상태, 라운드").split(", ")
        rows = [(one.hash, one.name, _state(one, talk), f"{one.round}/{one.rounds}") for one in found]
        text = table(head, rows) if rows else ""
    else:
        text = "\n\n".join(_campaign(one, model, talk) for one, model in zip(found, models, strict=True))
    shown = [{**asdict(one), "model": model} for one, model in zip(found, models, strict=True)]
    talk.answer(text, campaigns=shown)
    if not found:
        talk.say("no campaign was proposed yet", "아직 제안한 캠페인 없음")


_STATES = {
    "draft": "초안",
    "proposed": "제안됨",
    "approved": "승인됨",
    "consulting": "사업장 의견 수렴 중",
    "running": "진행 중",
    "paused": "일시 정지",
    "evaluating": "평가 중",
    "candidate": "후보 모델",
    "released": "배포됨",
    "superseded": "대체됨",
    "withdrawn": "회수됨",
    "aborted": "중단됨",
}
_OUTCOMES = {"begun": "시작", "finished": "완료", "failed": "실패"}
_STATUSES = {
    "invited": "초대함",
    "waiting": "확인 대기",
    "renewing": "연결 키 갱신 대기",
    "active": "활성",
    "suspended": "정지",
    "revoked": "폐기",
}


def _model(folder: Path, campaign: "CampaignStatus") -> str | None:
    """Where the final model is, once there is one."""
    from jangin.server.life import WITH_MODEL
    from jangin.server.settings import StateFolder

    return str(StateFolder(folder).checkpoints(campaign.hash)) if campaign.state in WITH_MODEL else None


def _state(campaign: "CampaignStatus", talk: Talk) -> str:
    return talk.word(campaign.state, _STATES[campaign.state])


def _campaign(campaign: "CampaignStatus", model: str | None, talk: Talk) -> str:
    """One campaign with every attempt at its rounds."""
    none = talk.word("none", "없음")
    waiting = [site for site in campaign.invited if site not in campaign.approved]
    facts = [
        (talk.word("campaign", "캠페인"), campaign.name),
        (talk.word("hash", "해시"), campaign.hash),
        (talk.word("state", "상태"), _state(campaign, talk)),
        (talk.word("reason", "이유"), campaign.reason),
        (talk.word("rounds", "라운드"), f"{campaign.round}/{campaign.rounds}"),
        (talk.word("approved by", "승인한 사업장"), ", ".join(campaign.approved) or none),
        (talk.word("not yet by", "아직 승인하지 않은 사업장"), ", ".join(waiting)),
        (talk.word("ended early", "조기 종료"), campaign.stopped),
        (talk.word("model", "모델"), model and f"{model}/final.safetensors, scaling.json"),
        (talk.word("model of round", "모델의 라운드"), campaign.evaluations and str(campaign.chosen)),
    ]
    lines = [f"{name}: {value}" for name, value in facts if value]
    head = talk.word(
        "round, attempt, outcome, seconds, reported, abstained or refused, missing",
        "라운드, 시도, 결과, 초, 보고, 기권 또는 거부, 응답 없음",
    ).split(", ")
    rows = [_attempt(entry, talk) for entry in campaign.attempts]
    return "\n".join([*lines, *([table(head, rows)] if rows else []), *_evaluations(campaign, talk)])


def _evaluations(campaign: "CampaignStatus", talk: Talk) -> list[str]:
    """How good the models of evaluated rounds are on the hold-outs, as far as noise lets one see."""
    if not campaign.evaluations:
        return []
    title = talk.word("On the hold-outs (± the deviation of the noise):", "평가용 기록에서의 값 (± 잡음의 표준편차):")
    head = talk.word("round, figures, sites, why not", "라운드, 값, 사업장 수, 값이 없는 이유").split(", ")
    rows = [
        (
            str(one.round),
            ", ".join(f"{metric} {value:.4g} ± {noise:.2g}" for metric, (value, noise) in one.figures.items()) or "-",
            str(len(one.reported)),
            one.reason or "-",
        )
        for one in campaign.evaluations
    ]
    return ["", title, table(head, rows)]


def _attempt(entry: "RoundEntry", talk: Talk) -> tuple[str, ...]:
    """One row; who is in none of its lists has a dash."""
    coded = [*entry.abstained.items(), *entry.refused.items(), *entry.blamed.items()]
    absent = ", ".join(f"{site}: {code}" for site, code in dict.fromkeys(coded))
    return (
        talk.word("scaling", "척도") if entry.round == 0 else str(entry.round),
        str(entry.attempt),
        talk.word(entry.outcome, _OUTCOMES[entry.outcome]),
        f"{entry.seconds:.1f}",
        ", ".join(sorted(entry.reported)) or "-",
        absent or "-",
        ", ".join(entry.missing) or "-",
    )


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
