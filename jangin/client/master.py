"""What a master is told: which of his recordings were used, for which model, with what protection, and what left.

The law: it is made from the site's own state alone - consents, the journal of what the worker was given, the plans, the
manifests - and is for the one who asks: it never leaves the site. Where a plan's promise ends is said with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

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

__all__ = ["Share", "Told", "consent_words", "statement", "told"]


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


@cache
def consent_words() -> dict[str, Any]:
    """configs/consent/words.yaml."""
    words: dict[str, Any] = yaml.safe_load((files("jangin.configs") / "consent" / "words.yaml").read_text("utf-8"))
    return words


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
    words = consent_words()
    texts = {name: text[lang] for name, text in words["statement"].items()}
    blocks = [
        (
            texts["title"].format(master=held.master, site=held.site),
            [texts["day"].format(day=today.isoformat()), texts["here"].format(episodes=held.episodes)],
        )
    ]
    allowed = [
        texts["consent"].format(
            process=entry.process,
            purposes=_purposes(entry.grant.purposes, lang),
            channels=", ".join(entry.grant.channels),
            until=entry.grant.until.isoformat(),
            state=words["verdicts"][entry.verdict.name.lower()][lang],
        )
        for entry in held.consents
        if entry.grant is not None
    ]
    blocks.append((texts["consents"], allowed or [texts["no_consent"]]))
    for share in held.shares:
        heading = texts["campaign"].format(
            line=share.plan.model_line, name=share.plan.campaign, hash=share.campaign[:12]
        )
        blocks.append((heading, _of_share(share, texts, lang)))
    if not held.shares:
        blocks[-1][1].append(texts["unused"])
    left = any(share.left for share in held.shares)
    blocks.append((texts["undo"], [texts["remains" if left else "free"], texts["not_covered"]]))
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


def _of_share(share: Share, texts: dict[str, str], lang: Language) -> list[str]:
    plan, privacy = share.plan, share.plan.privacy
    said = []
    for rounds, name, episodes in (
        (share.trained, "trained", share.learnt_from),
        (share.judged, "judged", share.tested_with),
    ):
        if rounds:
            figures = {"count": len(rounds), "rounds": _spans(rounds), "first": share.first, "last": share.last}
            said.append(texts[name].format(episodes=episodes, **figures))
    words = consent_words()["prohibited"]
    prohibited = ", ".join(words[use][lang] if use in words else use for use in plan.governance.prohibited)
    said.append(texts["for"].format(purposes=_purposes(plan.governance.purposes, lang), prohibited=prohibited))
    if privacy.epsilon == "none":
        said.append(texts["not_private"])
    else:
        unit = consent_words()["units"][privacy.unit.value][lang]
        said.append(texts["private"].format(unit=unit, epsilon=privacy.epsilon, delta=privacy.delta))
        if privacy.unit.value == "episode":
            said.append(texts["single"])
        if privacy.shares_noise:
            said.append(texts["together"])
    if share.left:
        said.append(texts["left"].format(count=len(share.left), rounds=_spans(share.left)))
        said.append(texts["secret" if privacy.sums_only else "clear"])
    else:
        said.append(texts["nothing_left"])
    return said


def _rounds(parts: Sequence[Part]) -> tuple[int, ...]:
    return tuple(sorted({part.round for part in parts}))


def _purposes(purposes: Sequence[str], lang: Language) -> str:
    return ", ".join(consent_words()["purposes"][purpose][lang] for purpose in purposes)


def _spans(rounds: Sequence[int]) -> str:
    """Rounds as people write them, e.g. `0-3, 5`."""
    spans: list[list[int]] = []
    for number in rounds:
        if spans and spans[-1][-1] == number - 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ", ".join("-".join(map(str, span)) for span in spans)
