"""What an adversary tried on the ledger, kept as laws."""

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from ledgers import EPISODES, MASTERS, NOON, Key, Memory, cost, keys, wish

from jangin.client.spending import allowed
from jangin.errors import PrivacyError
from jangin.privacy.accounts import unit_key
from jangin.privacy.ledger import Ledger
from jangin.privacy.releases import Unit
from jangin.records.manifest import Manifest, Validation

KEY = Key()


@pytest.fixture
def anchor() -> Memory:
    return Memory()


def opened(folder: Path, anchor: Memory) -> Ledger:
    return Ledger(folder / "ledger.sqlite", "site-0", KEY, anchor)


def test_a_unit_that_could_not_be_read_again_is_never_written(tmp_path: Path, anchor: Memory) -> None:
    with opened(tmp_path, anchor) as ledger:
        ledger.grant([EPISODES], NOON)
        with pytest.raises(ValueError, match="32 bytes"):
            ledger.reserve(replace(wish(), units={b"short": [b"short"]}), NOON)
        ledger.reserve(wish(), NOON)
    with opened(tmp_path, anchor) as again:
        assert list(again.accounts) == ["a" * 64]


def test_a_set_cut_off_within_a_number_is_noticed(tmp_path: Path, anchor: Memory) -> None:
    with opened(tmp_path, anchor) as ledger:
        ledger.grant([EPISODES], NOON)
        ledger.reserve(wish(), NOON)
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    with connection:
        connection.execute("UPDATE sets SET members = substr(members, 2)")
    connection.close()
    with pytest.raises(PrivacyError, match="JG-privacy-025"):
        opened(tmp_path, anchor)


def test_a_ledger_that_missed_an_entry_says_yes_to_nothing_any_more(
    tmp_path: Path, anchor: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, anchor) as reader, opened(tmp_path, anchor) as writer:
        writer.grant([EPISODES], NOON)
        writer.reserve(wish(noise=30.0), NOON)
        reader.refresh()
        writer.reserve(wish("b" * 64, ["new"], noise=30.0), NOON)
        writer.end("a" * 64, NOON)

        def lost(digest: bytes) -> None:
            raise PrivacyError("JG-privacy-027", where="ledger.sqlite", problem="disk I/O error")

        with monkeypatch.context() as patch:
            patch.setattr(reader._sets, "members", lost)
            with pytest.raises(PrivacyError, match="JG-privacy-027"):
                reader.refresh()
        assert not reader.accounts["a" * 64].ended
        with pytest.raises(PrivacyError, match="JG-privacy-027"):
            reader.spend("a" * 64, 1, NOON)
    with opened(tmp_path, anchor) as again:
        assert (again.accounts["a" * 64].ended, again.accounts["a" * 64].spent) == (True, set())


def manifest(held: dict[str, Iterable[str]]) -> Manifest:
    return Manifest(
        schema_version=1,
        tool_version="0",
        files={},
        validation=Validation(level=1, findings=0, passed=True),
        unit="master",
        train=tuple(sorted(held)),
        holdout=(),
        contents={
            master: {f"{master}-{name}": keys([name])[0].hex() for name in names} for master, names in held.items()
        },
    )


def test_a_recording_trains_only_as_a_master_s_who_was_charged(tmp_path: Path, anchor: Memory) -> None:
    """The same content under a master whose budget is spent, or under a name of after the approval, stays out."""
    amy, held = unit_key(Unit.MASTER, "amy"), manifest({"amy": "s", "ben": "s"})
    with opened(tmp_path, anchor) as ledger:
        ledger.grant([EPISODES, MASTERS], NOON)

        def of_masters(campaign: str, noise: float, units: dict[bytes, list[bytes]]) -> None:
            asks = cost(noise=noise, unit=Unit.MASTER)
            ledger.reserve(replace(wish(campaign), unit=Unit.MASTER, cost=asks, units=units), NOON)

        with suppress(PrivacyError):  # no master has enough left
            for number in range(10):
                of_masters(f"{number:064}", 4.5, {amy: keys([number])})
        both = {unit_key(Unit.MASTER, name): keys(["s"]) for name in ("amy", "ben")}
        of_masters("b" * 64, 4.5, both)
        units, episodes = ledger.units("b" * 64), ledger.episodes("b" * 64)
        assert units == {unit_key(Unit.MASTER, "ben")}
        assert list(allowed(Unit.MASTER, held, units, episodes)) == ["ben-s"]
        for other in ("amy", "cho"):
            assert not allowed(Unit.MASTER, manifest({other: "s"}), units, episodes)
        assert list(allowed(Unit.EPISODE, manifest({"cho": "s"}), episodes, episodes)) == ["cho-s"]


def test_a_cap_that_is_left_out_of_a_later_grant_is_not_lifted(tmp_path: Path, anchor: Memory) -> None:
    with opened(tmp_path, anchor) as ledger:
        ledger.grant([EPISODES], NOON)
        ledger.reserve(wish(), NOON)
        for reading in EPISODES.caps:
            with pytest.raises(PrivacyError, match="JG-privacy-021"):
                ledger.grant([replace(EPISODES, caps={reading: 1.0})], NOON)
