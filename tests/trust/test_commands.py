"""Laws of commands: one server, five minutes, one signer of the staff list, and not a bit changed."""

import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.errors import JanginError
from jangin.trust.commands import LIFE, Command, signed_command, verify_command
from jangin.trust.envelope import Kind, countersign, seal
from jangin.trust.keys import Identity
from jangin.trust.staff import Role, Staff, StaffKey

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
KIM, LEE, STRANGER = Identity.generate(), Identity.generate(), Identity.generate()
HERE, THERE = Identity.generate().fingerprint, Identity.generate().fingerprint
STAFF = Staff(
    version=1,
    issued=NOW,
    keys=(
        StaffKey(person="kim", key=KIM.public_text, roles=(Role.OPERATOR,), expires=NOW + timedelta(days=1)),
        StaffKey(person="lee", key=LEE.public_text, roles=(Role.APPROVER,), expires=NOW),
    ),
)
PAUSE = signed_command("pause", "ab" * 32, HERE, KIM, NOW, arguments={"reason": "점검", "twice": True, "n": 3})
WITH = signed_command("draft", "", HERE, KIM, NOW, attachment=b"plan")


def code_of(data: bytes, attachment: bytes = b"", server: str = HERE, now: datetime = NOW) -> str:
    try:
        verify_command(data, attachment, STAFF, server, now)
    except JanginError as error:
        return error.code
    return "taken"


def test_a_command_comes_out_as_it_was_meant() -> None:
    command, key = verify_command(PAUSE, b"", STAFF, HERE, NOW)
    assert (command.act, command.subject, key.person) == ("pause", "ab" * 32, "kim")
    assert dict(command.arguments) == {"reason": "점검", "twice": True, "n": 3}
    assert code_of(WITH, b"plan") == "taken"


@pytest.mark.parametrize(
    ("after", "code"),
    [
        (timedelta(), "taken"),
        (LIFE - timedelta(seconds=1), "taken"),
        (LIFE, "JG-server-400"),
        (-timedelta(minutes=5), "taken"),
        (-timedelta(minutes=5, seconds=1), "JG-server-400"),
    ],
)
def test_a_command_counts_for_five_minutes(after: timedelta, code: str) -> None:
    assert code_of(PAUSE, now=NOW + after) == code


def test_whatever_is_not_as_it_was_signed_has_its_code() -> None:
    other = seal(Kind.STOP, b"\xa0", KIM)
    none = seal(Kind.COMMAND, b"\xa0", KIM)
    for data, attachment, server, code in (
        (PAUSE, b"", THERE, "JG-server-401"),
        (PAUSE, b"more", HERE, "JG-server-406"),
        (WITH, b"", HERE, "JG-server-406"),
        (WITH, b"plam", HERE, "JG-server-406"),
        (signed_command("pause", "", HERE, STRANGER, NOW), b"", HERE, "JG-site-112"),
        (signed_command("pause", "", HERE, LEE, NOW), b"", HERE, "JG-site-116"),
        (countersign(PAUSE, Kind.COMMAND, LEE), b"", HERE, "JG-site-110"),
        (seal(Kind.COMMAND, b"\xa0"), b"", HERE, "JG-site-110"),
        (none, b"", HERE, "JG-site-115"),
        (other, b"", HERE, "JG-site-111"),
        (b"", b"", HERE, "JG-site-110"),
        (b" " * 40_000, b"", HERE, "JG-site-110"),
    ):
        assert code_of(data, attachment, server) == code


def test_two_commands_are_never_the_same() -> None:
    one, two = (signed_command("pause", "", HERE, KIM, NOW) for _ in range(2))
    assert one != two


@pytest.mark.fuzz
@given(place=st.integers(0, len(PAUSE) - 1), bit=st.integers(0, 7))
def test_no_bit_of_a_command_changes_unseen(place: int, bit: int) -> None:
    changed = bytearray(PAUSE)
    changed[place] ^= 1 << bit
    assert code_of(bytes(changed)).startswith("JG-site-11")


@pytest.mark.fuzz
@given(st.binary(max_size=400))
def test_what_a_person_signed_that_is_no_command_is_refused(payload: bytes) -> None:
    assert code_of(seal(Kind.COMMAND, payload, KIM)) == "JG-site-115"


@given(
    act=st.from_regex(r"[a-z_]{1,31}", fullmatch=True),
    subject=st.text(max_size=50),
    reason=st.text(max_size=100),
    number=st.integers(-(2**64), 2**64 - 1),
)
def test_every_command_reads_back(act: str, subject: str, reason: str, number: int) -> None:
    try:
        data = signed_command(act, subject, HERE, KIM, NOW, arguments={"reason": reason, "n": number})
    except ValueError:
        assert any(unicodedata.category(letter) in ("Cc", "Cs") for letter in subject + reason)
        return
    assert not any(unicodedata.category(letter) == "Cc" for letter in subject + reason)
    command, _ = verify_command(data, b"", STAFF, HERE, NOW)
    assert isinstance(command, Command)
    assert (command.act, command.subject, command.arguments["reason"]) == (act, subject, reason)
    assert command.arguments["n"] == number
