"""`jangin campaign check` and `jangin campaign rehearse`: what a campaign will cost, and who is ready."""

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.server import FolderArgument, HashArgument, SignOption, signer
from jangin.cli.talk import Format, Talk, default_lang, table
from jangin.errors import CodedText, JanginError

if TYPE_CHECKING:
    from jangin.server.forecast import Bytes, Epsilon, Forecast, Hours
    from jangin.server.proposal import Finding
    from jangin.server.store import RehearsalEntry

__all__ = ["check", "rehearse"]

_LOOK_SECONDS: Final = 0.5
_LOCAL: Final = "local"


def check(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.yaml")],
    server: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A server's folder: its roster, and how long its rounds took.")
    ] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """What a plan would be refused for, and what it will cost: a dry run, nothing is written.

    Exit 0: it can be proposed. 1: it would be refused; each finding is named.
    """
    from jangin.plan.training_plan import read_plan
    from jangin.server.forecast import forecast
    from jangin.server.members import Members
    from jangin.server.pace import measured
    from jangin.server.proposal import findings
    from jangin.server.settings import StateFolder

    talk, wanted = Talk(form, lang or default_lang()), read_plan(plan)
    active, pace = None, None
    if server is not None:
        state = StateFolder(server)
        with closing(state.store()) as store:
            active, pace = Members(store, state.root).active(), measured(store, wanted)
    found = findings(wanted, active, talk.language)
    refused = any(one.refused for one in found)
    try:
        price = forecast(wanted, pace)
    except JanginError:  # it cannot run, and the findings say why
        if not refused:
            raise
        price = None
    values: dict[str, object] = dict.fromkeys(("campaign", "cohort", "epsilon", "bytes", "hours"))
    values["campaign"] = wanted.hash
    values |= price.model_dump(mode="json") if price else {}
    values["findings"] = [one.model_dump(mode="json") for one in found]
    if form is Format.JSON:
        talk.json({"ok": not refused, **values})
    else:
        talk.text("\n".join([*_findings(found, talk), *([] if price is None else _forecast(price, talk))]))
    _leave(well=not refused)


def rehearse(
    folder: FolderArgument,
    wanted: HashArgument,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Ask for it and leave.")] = False,
    key: SignOption = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """One round of an approved campaign on made-up rows, of which nothing is charged: who is ready, and who is not.

    Exit 0: every site that approved is ready. 1: some are not; each is named.
    """
    from jangin.server import desk, shelf
    from jangin.server.roles import Right

    talk = Talk(form, lang or default_lang())
    with desk.opened(folder) as at:
        name = at.ask("named", campaign=wanted)["campaign"]
        asked = at.act(Right.REHEARSE, name, key=signer(key))
        number = asked["number"]
        if not asked["running"]:
            talk.warn(CodedText("JG-server-472", where=str(folder)))
            no_wait = True
        if no_wait:
            talk.answer(
                talk.said("campaign", "waits", number=number, campaign=name[:12]),
                campaign=name,
                rehearsal=number,
                done=False,
            )
            return
        said, entry = "", shelf.rehearsal(at, name, number)
        while not entry.done:
            told = talk.said(
                "campaign",
                "answered",
                ready=len(entry.ready),
                not_ready=len(entry.abstained) + len(entry.refused),
                missing=len(entry.missing),
            )
            if told != said:
                sys.stderr.write(f"{told}\n")
                said = told
            time.sleep(_LOOK_SECONDS)
            entry = shelf.rehearsal(at, name, number)
    all_ready = not (entry.abstained or entry.refused or entry.missing or entry.reason)
    shown = {key: value for key, value in asdict(entry).items() if key != "number"}
    if form is Format.JSON:
        talk.json({"ok": all_ready, "campaign": name, "rehearsal": number, **shown})
    else:
        talk.text("\n".join(_outcome(entry, talk)))
    _leave(well=all_ready)


def _leave(*, well: bool) -> None:
    if not well:
        raise typer.Exit(1)


def _findings(found: "tuple[Finding, ...]", talk: Talk) -> Iterator[str]:
    """Every finding with its way out."""
    if not any(one.refused for one in found):
        yield talk.said("campaign", "clean")
    for one in found:
        word = talk.said("campaign", "refused") if one.refused else talk.said("campaign", "warning")
        yield f"{word}: {one.code} {one.message}"
        yield f"  {talk.word('hint', '방법')}: {one.hint}"
        if one.works:
            ways = []
            for way in one.works:
                if way.least is None:
                    ways.append(talk.said("campaign", "works-never", key=way.key))
                elif way.at_most:
                    ways.append(talk.said("campaign", "works-most", key=way.key, value=f"{way.least:.4g}"))
                else:
                    ways.append(talk.said("campaign", "works-least", key=way.key, value=f"{way.least:.4g}"))
            yield f"  {talk.said('campaign', 'works')}: {'; '.join(ways)}"


def _forecast(price: "Forecast", talk: Talk) -> Iterator[str]:
    """The price as text."""
    cohort = price.cohort
    yield talk.said("campaign", "cohort", invited=cohort.invited, begin=cohort.begin, quorum=cohort.quorum)
    if cohort.opened is not None:
        yield talk.said("campaign", "opened", opened=cohort.opened)
    yield from (
        [talk.said("campaign", "no_privacy")] if isinstance(price.epsilon, str) else _privacy(price.epsilon, talk)
    )
    yield from _traffic(price.bytes, talk)
    yield _time(price.hours, talk)


def _privacy(epsilon: "Epsilon", talk: Talk) -> Iterator[str]:
    from jangin.privacy.statement import wording

    units = wording()["units"]
    yield talk.said(
        "campaign",
        "promise",
        unit=units[epsilon.unit][talk.language],
        epsilon=f"{epsilon.promise:.3g}",
        coalition=f"{epsilon.coalition:.3g}",
        delta=f"{epsilon.delta:g}",
        rounds=epsilon.rounds,
    )
    yield talk.said("campaign", "charged")
    rows = [
        (
            units[one.unit][talk.language],
            talk.said("campaign", f"reading-{one.reading}"),
            f"{one.planned:.3g}",
            f"{one.most:.3g}",
            f"{one.share:.0%}",
            f"{one.budget:g}",
        )
        for one in epsilon.charged
    ]
    yield table(talk.said("campaign", "charged-columns").split(", "), rows)


def _traffic(found: "Bytes", talk: Talk) -> Iterator[str]:
    yield talk.said("campaign", "bytes")
    rows = [
        (talk.said("campaign", f"asked-{name}"), str(part.orders), _size(part.up), _size(part.down))
        for name, part in found.parts.items()
    ]
    whole = (talk.said("campaign", "asked-all"), "", _size(found.site_up), _size(found.site_down))
    yield table(talk.said("campaign", "bytes-columns").split(", "), [*rows, whole])
    yield talk.said("campaign", "server_bytes", received=_size(found.server_in), sent=_size(found.server_out))
    waits = found.waiting
    seconds, up, down = f"{waits.poll_seconds:.3g}", _size(waits.up_an_hour), _size(waits.down_an_hour)
    yield talk.said("campaign", "waiting", seconds=seconds, up=up, down=down)


def _time(hours: "Hours", talk: Talk) -> str:
    match hours.basis:
        case "rounds":
            basis = talk.said("campaign", "basis-rounds", of=hours.of[:12])
        case "rehearsal":
            basis = talk.said("campaign", "basis-rehearsal")
        case _:
            basis = talk.said("campaign", "basis-pace")
    return talk.said(
        "campaign",
        "hours",
        estimate=_span(hours.estimate * 3600, talk),
        one=_span(hours.seconds_a_round, talk),
        basis=basis,
        deadlines=_span(hours.deadlines * 3600, talk),
        most=_span(hours.most * 3600, talk),
    )


def _outcome(entry: "RehearsalEntry", talk: Talk) -> Iterator[str]:
    """Each site with what became of it."""
    rows = [
        *((site, talk.said("campaign", "ready")) for site in entry.ready),
        *((site, talk.said("campaign", "not_ready", code=code)) for site, code in entry.abstained.items()),
        *((site, talk.said("campaign", "left_aside", code=code)) for site, code in entry.refused.items()),
        *((site, talk.said("campaign", "missing")) for site in entry.missing),
        *((site, talk.said("campaign", "unapproved")) for site in entry.unapproved),
    ]
    yield table(talk.said("campaign", "outcome-columns").split(", "), sorted(rows))
    if _LOCAL in entry.abstained.values():
        yield talk.said("campaign", "local_means")
    if entry.seconds:
        yield talk.said("campaign", "warm", seconds=f"{entry.seconds:.2f}")
    if entry.reason:
        yield talk.said("campaign", "broke_off", reason=entry.reason)
    yield talk.said("campaign", "charged_nothing")


def _span(seconds: float, talk: Talk) -> str:
    """A time as people write it."""
    for size, unit in ((3600.0, talk.word("h", "시간")), (60.0, talk.word("min", "분"))):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} {talk.word('s', '초')}"


def _size(count: int) -> str:
    """Bytes as people write them."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"
