"""The registry of models: immutable versions of each line, who may have them, and where their aliases point.

    models/<line>/<version>/    final.safetensors, scaling.json, statement.json; written whole, never changed

A version is made when its campaign becomes a candidate, released by an approver's signature over its manifest, and
withdrawn by an approver's or an operator's. The law: one campaign makes one version, in one transaction with its step
and its entry of the audit log; a folder that no row speaks of counts for nothing, and a row's folder was on the disk
before it; of a line only newer versions are ever released, and an alias moves by `register`, `release` and `withdraw`
and by nothing else.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from math import ceil, floor, log10
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.numpy import load
from sqlalchemy import delete, func, insert, select, update

from jangin.errors import DataError, PrivacyError, ServerError
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.releases import NO_DIFFERENTIAL_PRIVACY
from jangin.privacy.statement import PrivacyLoss, Statement, read_statement
from jangin.records.manifest import file_digest
from jangin.server import tables
from jangin.server.audit import Note
from jangin.server.database import Writing
from jangin.server.life import Act, State
from jangin.server.selection import best_round
from jangin.server.settings import StateFolder, write_whole
from jangin.server.store import CampaignRow, Outcome, Store, plan_of
from jangin.trust.approvals import verify_plan
from jangin.trust.chain import Trust
from jangin.trust.envelope import Kind, seal
from jangin.trust.models import (
    FILES,
    ModelFile,
    ModelVersion,
    peek_model,
    verify_receipt,
    verify_release,
    verify_withdrawal,
)
from jangin.trust.staff import Staff

__all__ = ["MOST_PIECE_BYTES", "Alias", "Registered", "Registry", "at_least", "chosen", "contributors", "influenced"]

MOST_PIECE_BYTES: Final = 2**22
"""The most of a file that one request is answered with."""

_HANDED_OUT: Final = frozenset({State.RELEASED, State.SUPERSEDED})

_NAME: Final = re.compile(r"([a-z0-9][a-z0-9-]{0,62})(?:@([1-9][0-9]{0,8}|candidate|national|previous))?")
_MODEL: Final = "model"


class Alias(StrEnum):
    """What points at one version of a line, or at none."""

    CANDIDATE = "candidate"
    NATIONAL = "national"
    PREVIOUS = "previous"


@dataclass(frozen=True)
class Registered:
    """One version, and where it is in its life.

    Attributes:
        manifest: what it is.
        state: of its campaign.
        aliases: those that point at it.
        receipt: the manifest's envelope, by the server's audit key.
        release: the same by an approver; None before.
        withdrawal: the envelope by which it was withdrawn; None before.
    """

    manifest: ModelVersion
    state: State
    aliases: tuple[Alias, ...]
    receipt: bytes = field(repr=False)
    release: bytes | None = field(repr=False)
    withdrawal: bytes | None = field(repr=False)


class Registry:
    """The versions of a server's database, and their files."""

    def __init__(self, store: Store, state: StateFolder) -> None:
        """Take the database and the folder of the server."""
        self._store, self._state = store, state

    def register(self, campaign: str, now: datetime) -> Registered:
        """Make a version of a campaign's final model, which so becomes a candidate; once, however often it is asked.

        Args:
            campaign: its hash; it is being evaluated.
            now: the manifest's time.

        Raises:
            ServerError: JG-server-450, no final model that can be read; JG-server-330 and 332, no campaign that is
                being evaluated. SiteError: JG-site-101..103, the audit key; 110..125, who proposed it, where only the
                plan's signatures tell. OSError: the disk.
        """
        known = self._of_campaign(campaign)
        if known is not None:
            return known
        row = self._store.campaign(campaign)
        plan, key, operator = plan_of(row), self._state.audit_key, self._operator(row, now)
        staged, gave = self._stage(campaign, plan.model_line), contributors(self._store, plan)
        files, parameters, statement = _looked_at(staged)
        with self._store.database.writing() as writing:
            writing.stand_in_line()
            of = tables.models.c
            newest = writing.execute(select(func.max(of.version)).where(of.line == plan.model_line)).scalar_one()
            manifest = ModelVersion(
                issued=now.replace(microsecond=0),
                line=plan.model_line,
                version=(newest or 0) + 1,
                campaign=campaign,
                operator=operator,
                process=plan.process,
                contributors=gave,
                files=files,
                model=plan.model.model_dump(mode="json"),
                parameters=parameters,
                privacy=_promise(statement),
                purposes=tuple(plan.governance.purposes),
                prohibited=plan.governance.prohibited,
                recipients=plan.governance.release.recipients,
                export=plan.governance.release.export,
            )
            receipt = seal(Kind.MODEL, manifest.payload, key)
            self._store.step(writing, campaign, Act.REGISTER)
            row_of = {"campaign": campaign, "line": manifest.line, "version": manifest.version, "receipt": receipt}
            writing.execute(insert(tables.models).values(row_of))
            _point(writing, manifest, Alias.CANDIDATE)
            detail = {"campaign": campaign, "manifest": manifest.hash, "contributors": list(manifest.contributors)}
            writing.note(Note(_MODEL, manifest.name, "register", detail=detail, document=receipt))
            _put(staged, self.folder(manifest))
        return self.find(manifest.name)

    def release(self, envelope: bytes, staff: Staff, now: datetime, document: bytes = b"") -> Registered:
        """Let recipients have a version, by an approver's signature over its manifest; it is the national one then.

        One that is released already gets this signature in place of the one it has.

        Args:
            envelope: the manifest as the approver signed it on a machine of their own.
            staff: the list in force.
            now: the time.
            document: the signed command; the envelope itself where there was none.

        Raises:
            SiteError: JG-site-110..119 as `verify_release`, above all 118: the plan's own operator.
            ServerError: JG-server-440, no such version; 446, another manifest than the registered one; 445, an older
                version than one that was released; 332, it was withdrawn.
        """
        manifest, approver = verify_release(envelope, staff, now)
        known = self._same(manifest)
        document = document or envelope
        of = tables.models.c
        here = (of.line == manifest.line) & (of.version == manifest.version)
        with self._store.database.writing() as writing:
            writing.stand_in_line()
            signed = update(tables.models).where(here).values(release=envelope)
            if known.state in _HANDED_OUT:
                writing.execute(signed)
                writing.note(Note(_MODEL, manifest.name, "sign", approver, document=document))
            else:
                released = select(func.max(of.version)).where((of.line == manifest.line) & of.release.is_not(None))
                newest = writing.execute(released).scalar_one() or 0
                if newest > manifest.version:
                    raise ServerError("JG-server-445", where=manifest.name, newest=newest)
                self._store.step(writing, manifest.campaign, Act.RELEASE, actor=approver, document=document)
                self._supersede(writing, manifest.line, approver)
                writing.execute(signed)
                _unpoint(writing, manifest)
                _point(writing, manifest, Alias.NATIONAL)
                writing.note(Note(_MODEL, manifest.name, "release", approver, {"manifest": manifest.hash}))
        return self.find(manifest.name)

    def withdraw(self, envelope: bytes, staff: Staff, now: datetime, document: bytes = b"") -> Registered:
        """Take a version back: nobody gets it any more, no alias points at it, and none moves to another by itself.

        Args:
            envelope: the withdrawal, signed by an approver or an operator.
            staff: the list in force.
            now: the time.
            document: the signed command; the envelope itself where there was none.

        Raises:
            SiteError: JG-site-110..119 as `verify_withdrawal`. ServerError: JG-server-440, no such version; 446, it
                is of another manifest; 332, it was withdrawn before.
        """
        given, who = verify_withdrawal(envelope, staff, now)
        manifest = self.find(f"{given.line}@{given.version}").manifest
        if given.model != manifest.hash:
            raise ServerError("JG-server-446", where=manifest.name, registered=manifest.hash, given=given.model)
        of, document = tables.models.c, document or envelope
        with self._store.database.writing() as writing:
            self._store.step(
                writing, manifest.campaign, Act.WITHDRAW, actor=who, reason=given.reason, document=document
            )
            here = update(tables.models).where(of.campaign == manifest.campaign)
            writing.execute(here.values(withdrawal=envelope))
            _unpoint(writing, manifest)
            writing.note(Note(_MODEL, manifest.name, "withdraw", who, {"reason": given.reason}))
        return self.find(manifest.name)

    def versions(self, line: str = "") -> list[Registered]:
        """All versions, or those of a line; by line and version."""
        of = tables.models.c
        query = select(tables.models, tables.campaigns.c.state).join(tables.campaigns).order_by(of.line, of.version)
        with self._store.database.reading() as database:
            rows = database.execute(query.where(of.line == line) if line else query).all()
            pointers = database.execute(select(tables.aliases)).all()
        return [_registered(row, pointers) for row in rows]

    def find(self, name: str, default: Alias | None = None) -> Registered:
        """The version that `LINE`, `LINE@VERSION` or `LINE@ALIAS` names.

        Args:
            name: as typed.
            default: what a line alone stands for; None: its newest version.

        Raises:
            ServerError: JG-server-440, there is none.
        """
        return chosen(self.versions(name.partition("@")[0]), name, default)

    def influenced(self, site: str) -> list[Registered]:
        """The versions that hold something of a site."""
        return influenced(self.versions(), site)

    def offers(self, site: str) -> list[Registered]:
        """What was ever released to a site that is on the roster in force, also where it was withdrawn since."""
        return [one for one in self.versions() if one.release is not None and one.manifest.may_have(site)]

    def piece(self, site: str, line: str, version: int, file: str, offset: int) -> bytes:
        """At most `MOST_PIECE_BYTES` of a file of a version, for a site that may have it.

        Raises:
            ServerError: JG-server-440, no such version; 441, it is not released; 442, it is not for this site; 443,
                it was withdrawn; 447, its file is gone; 448, no such file, or no such place in it.
        """
        one = self.find(f"{line}@{version}")
        manifest, listed = one.manifest, one.manifest.files.get(file)
        if not manifest.may_have(site):
            raise ServerError("JG-server-442", where=site, model=manifest.name, recipients=manifest.recipients)
        if one.state is State.WITHDRAWN:
            raise ServerError("JG-server-443", where=manifest.name)
        if one.state not in _HANDED_OUT:
            raise ServerError("JG-server-441", where=manifest.name, state=str(one.state))
        if listed is None or not 0 <= offset < listed.size:
            raise ServerError("JG-server-448", where=manifest.name, file=file, offset=offset)
        try:
            with (self.folder(manifest) / file).open("rb") as opened:
                opened.seek(offset)
                return opened.read(MOST_PIECE_BYTES)
        except OSError as error:
            problem = error.strerror or type(error).__name__
            raise ServerError("JG-server-447", where=manifest.name, file=file, problem=problem) from None

    def folder(self, manifest: ModelVersion) -> Path:
        """Where a version's files are."""
        return self._state.models / manifest.line / str(manifest.version)

    def verify(self, one: Registered, staff: Staff, now: datetime) -> str | None:
        """Look whether a version is what was registered and released; the approver, None where it is not released.

        Raises:
            SiteError: JG-site-110..119, a signature that does not hold, or not any more; 101..103, the audit key.
            ServerError: JG-server-446, two manifests of one version; 447, a file that is not as its manifest says.
        """
        manifest = verify_receipt(one.receipt, self._state.audit_key.public)
        approver = None
        if one.release is not None:
            released, approver = verify_release(one.release, staff, now)
            if released.hash != manifest.hash:
                raise ServerError("JG-server-446", where=manifest.name, registered=manifest.hash, given=released.hash)
        for name, listed in manifest.files.items():
            try:
                found = file_digest(self.folder(manifest) / name)
            except DataError as error:
                problem = str(error.coded.values["problem"])
                raise ServerError("JG-server-447", where=manifest.name, file=name, problem=problem) from None
            if found != listed.sha256:
                problem = f"its SHA-256 is {found}, in the manifest {listed.sha256}"
                raise ServerError("JG-server-447", where=manifest.name, file=name, problem=problem)
        return approver

    def _of_campaign(self, campaign: str) -> Registered | None:
        return next((one for one in self.versions() if one.manifest.campaign == campaign), None)

    def _same(self, manifest: ModelVersion) -> Registered:
        """The registered version that a manifest is of, if it is that very manifest."""
        known = self.find(manifest.name)
        if known.manifest.hash != manifest.hash:
            raise ServerError("JG-server-446", where=manifest.name, registered=known.manifest.hash, given=manifest.hash)
        return known

    def _operator(self, row: CampaignRow, now: datetime) -> str:
        """Who proposed a campaign; of one that is older than the record of it, whom its signatures name."""
        if row.proposer:
            return row.proposer
        return verify_plan(row.envelope, Trust(self._state.root, self._store.staff()).staff(now), now).operator.person

    def _supersede(self, writing: Writing, line: str, actor: str) -> None:
        """The national version of a line is the previous one from now on."""
        of, pointer = tables.models.c, tables.aliases.c
        held = select(tables.models.c.campaign, of.version).join(
            tables.aliases, (pointer.line == of.line) & (pointer.version == of.version)
        )
        old = writing.execute(held.where((of.line == line) & (pointer.alias == Alias.NATIONAL))).first()
        if old is not None:
            self._store.step(writing, old.campaign, Act.SUPERSEDE, actor=actor)
            _move(writing, line, Alias.PREVIOUS, old.version)

    def _stage(self, campaign: str, line: str) -> Path:
        """A copy of a campaign's final files beside where they will be; what a crash left there is removed."""
        staged = self._state.models / line / f".{campaign}"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        for name in FILES:
            try:
                content = (self._state.checkpoints(campaign) / name).read_bytes()
            except FileNotFoundError:
                raise ServerError("JG-server-450", where=campaign, problem=f"there is no {name}") from None
            write_whole(staged / name, content)
        return staged


def chosen(known: Sequence[Registered], name: str, default: Alias | None = None) -> Registered:
    """That of these versions, in order, which a name is for; as `Registry.find`.

    Raises:
        ServerError: JG-server-440, there is none.
    """
    parts = _NAME.fullmatch(name)
    wanted = (parts[2] if parts else None) or default
    for one in reversed(known):
        if parts is None or one.manifest.line != parts[1]:
            continue
        if wanted is None or wanted == str(one.manifest.version) or wanted in one.aliases:
            return one
    raise ServerError("JG-server-440", where=name if parts is None or parts[2] else f"{name}@{wanted or 'newest'}")


def influenced(known: Sequence[Registered], site: str) -> list[Registered]:
    """Those of all versions that hold something of a site: it gave to them, or they were trained on from such."""
    held: set[tuple[str, int]] = set()
    while True:
        found = {
            (one.manifest.line, one.manifest.version)
            for one in known
            if site in one.manifest.contributors
            or any((parent.line, parent.version) in held for parent in one.manifest.parents)
        }
        if found == held:
            return [one for one in known if (one.manifest.line, one.manifest.version) in held]
        held = found


def contributors(store: Store, plan: TrainingPlan) -> tuple[str, ...]:
    """The sites whose answers a campaign's final model was made of, sorted.

    They gave to the scaling, to a round up to the one whose model it is, or to a figure by which that round was chosen.
    """
    campaign, evaluations = plan.hash, store.evaluations(plan.hash)
    finished = [entry for entry in store.rounds(campaign) if entry.outcome is Outcome.FINISHED]
    chosen = best_round(plan, evaluations) or max((entry.round for entry in finished), default=0)
    of_rounds = {site for entry in finished if entry.round <= chosen for site in entry.reported}
    return tuple(sorted(of_rounds | {site for entry in evaluations if entry.figures for site in entry.reported}))


def at_least(value: float) -> str:
    """No less than a value, in four digits: an upper bound stays one.

    >>> at_least(1.00001), at_least(0.0)
    ('1.001', '0')
    """
    if value <= 0:
        return "0"
    step = 10.0 ** (floor(log10(value)) - 3)
    return f"{ceil(value / step) * step:.4g}"


def _looked_at(folder: Path) -> tuple[dict[str, ModelFile], int, Statement]:
    """The files of a final model, how many parameters it has, and its privacy statement; each is read."""
    try:
        content = {str(name): (folder / name).read_bytes() for name in FILES}
        parameters = int(load(content["final.safetensors"])["parameters"].size)
        json.loads(content["scaling.json"])
        statement = read_statement(content["statement.json"], "statement.json")
    except (SafetensorError, KeyError, ValueError, PrivacyError) as error:
        problem = str(error.coded) if isinstance(error, PrivacyError) else type(error).__name__
        raise ServerError("JG-server-450", where=folder.name.removeprefix("."), problem=problem) from None
    files = {name: ModelFile(size=len(data), sha256=hashlib.sha256(data).hexdigest()) for name, data in content.items()}
    return files, parameters, statement


def _promise(statement: Statement) -> str:
    """A statement in one line; epsilon rounded up, so that it stays a bound."""
    loss = statement.privacy_loss
    if not isinstance(loss, PrivacyLoss):
        return NO_DIFFERENTIAL_PRIVACY
    figures = ", ".join(f"epsilon {at_least(one.epsilon)} ({reading})" for reading, one in loss.readings.items())
    delta = next(iter(loss.readings.values())).delta
    return f"{loss.mechanism.name}, unit {loss.privacy_unit}: {figures} at delta {delta:g}, this campaign alone"


def _put(staged: Path, folder: Path) -> None:
    """Give a staged folder its place; one that is there is of a transaction that never ended."""
    shutil.rmtree(folder, ignore_errors=True)
    staged.rename(folder)
    opened = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _point(writing: Writing, manifest: ModelVersion, alias: Alias) -> None:
    """Have an alias point at a version."""
    _move(writing, manifest.line, alias, manifest.version)


def _move(writing: Writing, line: str, alias: Alias, version: int) -> None:
    of = tables.aliases.c
    there = update(tables.aliases).where((of.line == line) & (of.alias == alias)).values(version=version)
    if not writing.execute(there).rowcount:
        writing.execute(insert(tables.aliases).values(line=line, alias=alias, version=version))


def _unpoint(writing: Writing, manifest: ModelVersion) -> None:
    """No alias points at a version any more."""
    of = tables.aliases.c
    writing.execute(delete(tables.aliases).where((of.line == manifest.line) & (of.version == manifest.version)))


def _registered(row: Any, pointers: Sequence[Any]) -> Registered:
    aliases = tuple(Alias(one.alias) for one in pointers if (one.line, one.version) == (row.line, row.version))
    manifest = peek_model(row.receipt)  # its signature was made here; `verify` looks at it
    return Registered(manifest, State(row.state), tuple(sorted(aliases)), row.receipt, row.release, row.withdrawal)
