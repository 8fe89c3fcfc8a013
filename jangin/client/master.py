"""What a master is told: which of his recordings were used, for which model, with what protection, and what left.

The law: it is made from the site's own state alone - consents, the journal of what the worker was given, the plans, the
manifests - and is for the one who asks: it never leaves the site. Where a plan's promise ends is said with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from jangin.client.consent import Entry, listed
from jangin.client.state import Part, SiteFolder
from jangin.codec import cbor
from jangin.codec.document import parse
from jangin.errors import JanginError, Language, SiteError
from jangin.plan.messages import Kind
from jangin.plan.training_plan import TrainingPlan
from jangin.records.manifest import read_manifest
from jangin.trust.envelope import Kind as Signed
from jangin.trust.envelope import peek
from jangin.words import knows, say

__all__ = ["Share", "Told", "statement", "told"]

_PART = "consent"


@dataclass(frozen=True)
class Share:
    """A master's part in one campaign.

    Attributes:
        campaign: the plan's hash.
        plan: the plan.
        trained: the rounds that learned from his recordings, the sums before the first as 0.
        judged: the rounds after which they tested the model.
        learnt_from: most of his recordings in one of those that trained.
        tested_with: most of them in one of those that tested.
        left: the rounds of both kinds for which something left, or was ready to leave.
        first: the first day.
        last: the last.
    """

    campaign: str
    plan: TrainingPlan
    trained: tuple[int, ...]
    judged: tuple[int, ...]
    learnt_from: int
    tested_with: int
    left: tuple[int, ...]
    first: date
    last: date


@dataclass(frozen=True)
class Told:
    """All that a site knows of one master's recordings.

    Attributes:
        site: its id.
        master: the pseudonym.
        episodes: how many of the validated records are his.
        consents: what he allowed.
        shares: his part in each campaign, in the order in which they began.
    """

    site: str
    master: str
    episodes: int
    consents: tuple[Entry, ...]
    shares: tuple[Share, ...]


def told(path: Path, master: str, *, clock: Callable[[], datetime]) -> Told:
    """What this site knows of a master's recordings.

    Raises:
        SiteError: JG-site-358, nothing here is of this master; 304 no site here, 305 its database.
    """
    folder = SiteFolder(path)
    settings = folder.settings()
    consents = tuple(entry for entry in listed(path, clock=clock) if entry.master == master and entry.grant is not None)
    owned, known = 0, set[str]()
    for block in settings.data:
        try:
            manifest = read_manifest(folder.path / block.path)
        except JanginError:
            continue
        masters = list(manifest.masters.values()) if manifest else []
        owned, known = owned + masters.count(master), known | set(masters)
    with folder.journal() as journal:
        parts = journal.parts(master)
        campaigns = list(dict.fromkeys(part.campaign for part in parts))
        shares = tuple(
            _share(
                campaign,
                journal.plan(campaign),
                [part for part in parts if part.campaign == campaign],
                journal.left(campaign),
            )
            for campaign in campaigns
        )
    if not (owned or consents or shares):
        raise SiteError("JG-site-358", process=", ".join(block.process for block in settings.data), masters=len(known))
    return Told(settings.site.id, master, owned, consents, shares)


def statement(held: Told, lang: Language, today: date) -> list[tuple[str, list[str]]]:
    """The same in sentences, under their headings."""
    blocks = [
        (
            say(_PART, "title", lang, master=held.master, site=held.site),
            [say(_PART, "day", lang, day=today.isoformat()), say(_PART, "here", lang, episodes=held.episodes)],
        )
    ]
    allowed = [
        say(
            _PART,
            "consent",
            lang,
            process=entry.process,
            purposes=_purposes(entry.grant.purposes, lang),
            channels=", ".join(entry.grant.channels),
            until=entry.grant.until.isoformat(),
            state=say(_PART, f"verdict-{entry.verdict.name.lower()}", lang),
        )
        for entry in held.consents
        if entry.grant is not None
    ]
    blocks.append((say(_PART, "consents", lang), allowed or [say(_PART, "no_consent", lang)]))
    for share in held.shares:
        plan = share.plan
        heading = say(_PART, "campaign", lang, line=plan.model_line, name=plan.campaign, hash=share.campaign[:12])
        blocks.append((heading, _of_share(share, lang)))
    if not held.shares:
        blocks[-1][1].append(say(_PART, "unused", lang))
    left = say(_PART, "remains", lang) if any(share.left for share in held.shares) else say(_PART, "free", lang)
    blocks.append((say(_PART, "undo", lang), [left, say(_PART, "not_covered", lang)]))
    return blocks


def _share(campaign: str, envelope: bytes | None, parts: Sequence[Part], left: set[int]) -> Share:
    """One campaign; its plan was verified before anything of it was used."""
    if envelope is None:
        raise SiteError("JG-site-307", campaign=campaign)
    plan = parse(cbor.decode(peek(envelope, Signed.PLAN)), TrainingPlan, "plan")
    judging = [part for part in parts if part.kind == Kind.EVALUATE]
    training = [part for part in parts if part.kind != Kind.EVALUATE]
    return Share(
        campaign=campaign,
        plan=plan,
        trained=_rounds(training),
        judged=_rounds(judging),
        learnt_from=max((part.episodes for part in training), default=0),
        tested_with=max((part.episodes for part in judging), default=0),
        left=tuple(sorted(left & {part.round for part in parts})),
        first=parts[0].time.date(),
        last=parts[-1].time.date(),
    )


def _of_share(share: Share, lang: Language) -> list[str]:
    plan, privacy = share.plan, share.plan.privacy
    said = []
    if share.trained:
        days = {"first": share.first.isoformat(), "last": share.last.isoformat()}
        said.append(say(_PART, "trained", lang, episodes=share.learnt_from, **_counted(share.trained), **days))
    if share.judged:
        said.append(say(_PART, "judged", lang, episodes=share.tested_with, **_counted(share.judged)))
    prohibited = ", ".join(
        say(_PART, f"prohibited-{use}", lang) if knows(_PART, f"prohibited-{use}") else use
        for use in plan.governance.prohibited
    )
    purposes = _purposes(plan.governance.purposes, lang)
    said.append(say(_PART, "for", lang, purposes=purposes, prohibited=prohibited))
    if privacy.epsilon == "none":
        said.append(say(_PART, "not_private", lang))
    else:
        figures = {"epsilon": f"{privacy.epsilon:g}", "delta": f"{privacy.delta:g}"}
        said.append(say(_PART, f"private-{privacy.unit.value}", lang, **figures))
        if privacy.unit.value == "episode":
            said.append(say(_PART, "single", lang))
        if privacy.shares_noise:
            said.append(say(_PART, "together", lang))
    if share.left:
        said.append(say(_PART, "left", lang, **_counted(share.left)))
        said.append(say(_PART, "secret", lang) if privacy.sums_only else say(_PART, "clear", lang))
    else:
        said.append(say(_PART, "nothing_left", lang))
    return said


def _rounds(parts: Sequence[Part]) -> tuple[int, ...]:
    return tuple(sorted({part.round for part in parts}))


def _purposes(purposes: Sequence[str], lang: Language) -> str:
    return ", ".join(say(_PART, f"purpose-{purpose}", lang) for purpose in purposes)


def _counted(rounds: Sequence[int]) -> dict[str, int | str]:
    """How many rounds, and which."""
    return {"count": len(rounds), "rounds": _spans(rounds)}


def _spans(rounds: Sequence[int]) -> str:
    """Rounds as people write them, e.g. `0-3, 5`."""
    spans: list[list[int]] = []
    for number in rounds:
        if spans and spans[-1][-1] == number - 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ", ".join("-".join(map(str, span)) for span in spans)
