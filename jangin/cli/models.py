"""`jangin model` at the ministry and `jangin site model` at a factory: versions, releases, withdrawals, pulls."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.server import FolderArgument
from jangin.cli.site import site
from jangin.cli.talk import Format, Talk, default_lang, table

if TYPE_CHECKING:
    from jangin.client.models import Offered
    from jangin.server.members import Members
    from jangin.server.registry import Registered
    from jangin.server.settings import StateFolder
    from jangin.server.store import Store
    from jangin.trust.models import ModelVersion

__all__ = ["KeyOption", "model", "opened", "site_model"]

model = typer.Typer(help="The registry of models: versions, releases, withdrawals.", no_args_is_help=True)
site_model = typer.Typer(help="Models that were released to this site.", no_args_is_help=True)
site.add_typer(site_model, name="model")

SiteArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The site's state folder.")]
NameArgument = Annotated[
    str, typer.Argument(metavar="LINE[@VERSION]", help="A line; @ a version, candidate, national or previous.")
]
KeyOption = Annotated[Path, typer.Option("--key", help="The private key file of whoever signs.")]

_STATES = {
    "candidate": "후보",
    "released": "배포됨",
    "superseded": "대체됨",
    "withdrawn": "회수됨",
}


@contextmanager
def opened(folder: Path) -> Iterator[tuple["StateFolder", "Store", "Members"]]:
    """A server's folder, database and members."""
    from jangin.server.members import Members
    from jangin.server.settings import StateFolder

    state = StateFolder(folder)
    store = state.store()
    try:
        yield state, store, Members(store, state.root)
    finally:
        store.close()


@model.command("list")
def list_(
    folder: FolderArgument,
    influence: Annotated[
        str, typer.Option("--influence", metavar="SITE", help="Only versions that hold something of this site.")
    ] = "",
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Every version: its state, what points at it, how many sites gave to it."""
    from jangin.server import desk, shelf
    from jangin.server.registry import influenced

    talk = Talk(form, lang or default_lang())
    with desk.opened(folder) as at:
        known = shelf.versions(at)
    found = influenced(known, influence) if influence else known
    head = talk.word("model, state, aliases, sites, privacy", "모델, 상태, 별칭, 사업장, 프라이버시").split(", ")
    rows = [
        (
            one.manifest.name,
            _state(one, talk),
            ", ".join(one.aliases) or "-",
            str(len(one.manifest.contributors)),
            one.manifest.privacy,
        )
        for one in found
    ]
    talk.answer(table(head, rows) if rows else "", models=[_known(one) for one in found])
    if not rows and influence:
        talk.say(f"no model holds anything of {influence}", f"{influence}의 기여가 들어간 모델 없음")
    elif not rows:
        talk.say("no campaign has come to a model yet", "아직 모델이 나온 캠페인 없음")
    elif influence:
        talk.say(
            "what a model has learnt cannot be taken out of it again; it can only be withdrawn",
            "모델이 배운 것은 다시 빼낼 수 없고, 모델을 회수할 수만 있습니다",
        )


@model.command("show")
def show(folder: FolderArgument, name: NameArgument, form: FormatOption = Format.TEXT, lang: LangOption = None) -> None:
    """One version: its manifest, who gave to it, its files, its privacy statement, its figures."""
    from jangin.server import desk, shelf
    from jangin.server.registry import chosen

    talk = Talk(form, lang or default_lang())
    with desk.opened(folder) as at:
        one = chosen(shelf.versions(at), name)
        (campaign,) = desk.statuses(at, one.manifest.campaign)
        statement = shelf.statement(at, one.manifest)
    figures = {str(entry.round): dict(entry.figures) for entry in campaign.evaluations if entry.figures}
    lines = [*_manifest(one.manifest, talk), (talk.word("state", "상태"), _state(one, talk))]
    lines.append((talk.word("aliases", "별칭"), ", ".join(one.aliases) or "-"))
    for number, metrics in figures.items():
        shown = ", ".join(f"{metric} {value:.4g} ± {noise:.2g}" for metric, (value, noise) in metrics.items())
        lines.append((talk.word(f"figures, round {number}", f"값, 라운드 {number}"), shown))
    text = "\n".join(f"{key}: {value}" for key, value in lines)
    talk.answer(
        text,
        **_known(one),
        manifest=one.manifest.model_dump(mode="json"),
        figures=figures,
        statement=None if statement is None else statement.model_dump(mode="json"),
    )


@model.command("verify")
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A server's state folder, or a pulled version's.")],
    name: Annotated[
        str | None, typer.Argument(metavar="[LINE[@VERSION]]", help="In a state folder; none for a pulled version.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="The root's public key; a state folder has its own.")] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Look offline whether a version is what was registered and released: root, staff, manifest, every file."""
    from jangin.client import models
    from jangin.errors import PlanError
    from jangin.server.registry import Registry
    from jangin.server.settings import given

    talk, now = Talk(form, lang or default_lang()), datetime.now(UTC)
    if name is None:
        if root is None:
            raise PlanError(
                "JG-plan-030", where="model verify", problem="a folder needs --root, or a state folder LINE"
            )
        key = given(root, "--root").decode("ascii", "replace").strip()
        manifest, approver = models.verify(folder, key, now)
    else:
        with opened(folder) as (state, store, members):
            registry = Registry(store, state)
            one = registry.find(name)
            manifest, by = one.manifest, registry.verify(one, members.staff(now), now)
            approver = by or ""
    released = approver or talk.word("nobody", "없음")
    text = talk.word(
        f"{manifest.name} holds; released by: {released}", f"{manifest.name} 확인됨. 배포 승인: {released}"
    )
    talk.answer(text, model=manifest.name, manifest=manifest.hash, approver=approver or None)


@model.command("release")
def release(
    folder: FolderArgument,
    name: NameArgument,
    key: KeyOption,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Sign a version as an approver: its recipients may have it, and it is the national one.

    A line alone is its candidate. Another person's campaign only: whoever proposed it does not release what came of it.
    """
    from jangin.server import desk, shelf
    from jangin.server.registry import Alias, chosen
    from jangin.server.roles import Right
    from jangin.trust.keys import Identity

    talk, now = Talk(form, lang or default_lang()), datetime.now(UTC)
    with desk.opened(folder) as at:
        manifest, own = chosen(shelf.versions(at), name, Alias.CANDIDATE).manifest, Identity.load(key)
        for field, value in _manifest(manifest, talk):
            talk.say(f"{field}: {value}", f"{field}: {value}")
        envelope = shelf.sign_release(at, manifest, own, now)
        at.act(Right.RELEASE, manifest.campaign, key=own, attachment=envelope)
        one = chosen(shelf.versions(at), manifest.name)
    talk.answer(f"{manifest.name}  {_state(one, talk)}", **_known(one))


@model.command("withdraw")
def withdraw(
    folder: FolderArgument,
    name: NameArgument,
    key: KeyOption,
    reason: Annotated[str, typer.Option(help="Why: sites that have it are shown this.")],
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Take a version back, as an approver or an operator: nobody gets it any more, and sites that have it are told."""
    from jangin.server import desk, shelf
    from jangin.server.registry import Alias, chosen
    from jangin.server.roles import Right
    from jangin.trust.keys import Identity

    talk, now = Talk(form, lang or default_lang()), datetime.now(UTC)
    with desk.opened(folder) as at:
        manifest, own = chosen(shelf.versions(at), name).manifest, Identity.load(key)
        talk.say(f"{manifest.name}  {manifest.hash}", f"{manifest.name}  {manifest.hash}")
        envelope = shelf.sign_withdrawal(at, manifest, reason, own, now)
        at.act(Right.WITHDRAW, manifest.campaign, key=own, attachment=envelope)
        known = shelf.versions(at)
    one = chosen(known, manifest.name)
    national = any(other.manifest.line == manifest.line and Alias.NATIONAL in other.aliases for other in known)
    talk.answer(f"{manifest.name}  {_state(one, talk)}", **_known(one))
    if not national:
        talk.say(f"{manifest.line} has no national model now", f"{manifest.line}에 지금 국가 모델 없음")


@site_model.command("list")
def offered(folder: SiteArgument, form: FormatOption = Format.TEXT, lang: LangOption = None) -> None:
    """What was released to this site, its signatures verified, and what of it may not be used any more."""
    from jangin.client import models

    talk = Talk(form, lang or default_lang())
    found = models.listed(folder)
    head = talk.word("model, aliases, released by, here, withdrawn", "모델, 별칭, 배포 승인, 보유, 회수 이유").split(
        ", "
    )
    yes, no = talk.word("yes", "예"), talk.word("no", "아니요")
    rows = [
        (
            one.manifest.name,
            ", ".join(one.aliases) or "-",
            one.approver,
            yes if one.pulled else no,
            one.withdrawn or "-",
        )
        for one in found
    ]
    talk.answer(table(head, rows) if rows else "", models=[_offer(one) for one in found])
    if not rows:
        talk.say("nothing was released to this site", "이 사업장에 배포된 모델 없음")


@site_model.command("pull")
def pull(
    folder: SiteArgument,
    name: NameArgument,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Fetch a released version, verified from the pinned root to its last byte; a line alone: its national one."""
    from jangin.client import models

    talk = Talk(form, lang or default_lang())
    with talk.progress() as advance:
        pulled = models.pull(folder, name, advance=advance)
    values = {"model": pulled.manifest.name, "folder": str(pulled.folder), "approver": pulled.approver}
    talk.answer(str(pulled.folder), **values)
    prohibited = ", ".join(pulled.manifest.prohibited)
    talk.say(
        f"{pulled.manifest.name}, released by {pulled.approver}; never for: {prohibited}",
        f"{pulled.manifest.name}, 배포 승인 {pulled.approver}. 금지된 사용: {prohibited}",
    )


def _state(one: "Registered", talk: Talk) -> str:
    return talk.word(one.state, _STATES[one.state])


def _known(one: "Registered") -> dict[str, object]:
    """One version for a program."""
    manifest = one.manifest
    return {
        "model": manifest.name,
        "line": manifest.line,
        "version": manifest.version,
        "state": str(one.state),
        "aliases": list(map(str, one.aliases)),
        "campaign": manifest.campaign,
        "hash": manifest.hash,
        "contributors": list(manifest.contributors),
        "privacy": manifest.privacy,
    }


def _offer(one: "Offered") -> dict[str, object]:
    manifest = one.manifest
    return {
        "model": manifest.name,
        "line": manifest.line,
        "version": manifest.version,
        "aliases": list(one.aliases),
        "approver": one.approver,
        "pulled": one.pulled,
        "withdrawn": one.withdrawn or None,
    }


def _manifest(manifest: "ModelVersion", talk: Talk) -> list[tuple[str, str]]:
    """What is signed, for people."""
    model = ", ".join(f"{key}={value}" for key, value in manifest.model.items() if value != [])
    parameters = talk.word(f"{manifest.parameters} parameters", f"매개변수 {manifest.parameters}개")
    files = ", ".join(f"{name} ({listed.size}) {listed.sha256}" for name, listed in sorted(manifest.files.items()))
    shown = [
        (talk.word("model", "모델"), manifest.name),
        (talk.word("manifest", "명세"), manifest.hash),
        (talk.word("campaign", "캠페인"), manifest.campaign),
        (talk.word("proposed by", "제안"), manifest.operator),
        (talk.word("process", "공정"), manifest.process),
        (talk.word("network", "신경망"), f"{model}; {parameters}"),
        (talk.word("contributors", "기여한 사업장"), ", ".join(manifest.contributors)),
        (talk.word("trained on from", "바탕 모델"), ", ".join(f"{one.line}@{one.version}" for one in manifest.parents)),
        (talk.word("privacy", "프라이버시"), manifest.privacy),
        (talk.word("purposes", "목적"), ", ".join(manifest.purposes)),
        (talk.word("never for", "금지된 사용"), ", ".join(manifest.prohibited)),
        (talk.word("recipients, export", "받는 곳, 반출"), f"{manifest.recipients}, {manifest.export}"),
        (talk.word("files", "파일"), files),
    ]
    return [(name, value) for name, value in shown if value]
