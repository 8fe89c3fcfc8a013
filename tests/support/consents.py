"""Consents for tests: every master of a site's records allows everything, from long ago on for a long time."""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from jangin.client import consent
from jangin.records.purposes import Purpose

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def allow(
    folder: Path,
    process: str = "steel.bof_blow",
    masters: Sequence[str] | None = None,
    purposes: Collection[str] = tuple(Purpose),
    channels: Sequence[str] = ("all",),
    until: date = date(2099, 12, 31),
) -> list[str]:
    """Record it; the pseudonyms."""
    named = consent.masters_of(folder, process) if masters is None else list(masters)
    consent.grant(folder, named, list(purposes), channels, until, process, clock=lambda: LONG_AGO)
    return named
