"""Laws of the audit log: all that is done is told, in one order, and nobody changes it unseen."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from jangin.errors import ServerError
from jangin.server import tables
from jangin.server.audit import FIRST_HEAD, Link, Note, exported, link, verify
from jangin.server.database import Database
from jangin.server.life import LIFE, Act, State
from jangin.trust.keys import Identity

KEY = Identity.generate()
NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
CAMPAIGN = "ab" * 32
NOTES = [
    Note("site", "kr-0421", "invite"),
    Note("campaign", CAMPAIGN, "draft", "kim", {"name": "용접-1", "sites": ["a", "b"]}),
    Note("campaign", CAMPAIGN, "propose", "kim", document=b"signed"),
    Note("campaign", CAMPAIGN, "approve", "lee"),
    Note("campaign", CAMPAIGN, "consult"),
    Note("campaign", CAMPAIGN, "start", "kim"),
    Note("campaign", CAMPAIGN, "round", detail={"round": 1, "outcome": "failed"}),
    Note("campaign", CAMPAIGN, "round", detail={"round": 1, "outcome": "finished"}),
]


def chain(notes: list[Note], key: Identity = KEY) -> list[Link]:
    links: list[Link] = []
    for number, note in enumerate(notes, 1):
        links.append(link(note, number, links[-1].entry.head if links else FIRST_HEAD, NOW, key))
    return links


def export(links: list[Link], key: Identity = KEY) -> list[str]:
    return list(exported(links, len(links), links[-1].entry.head if links else FIRST_HEAD, NOW, key))


def refused(code: str, lines: list[str], known: list[str] | None = None) -> None:
    with pytest.raises(ServerError, match=f"JG-server-{code}"):
        verify(lines, KEY.public, known or [])


def test_an_export_is_read_with_the_public_key_alone() -> None:
    links = chain(NOTES)
    report = verify(export(links), KEY.public, [links[2].entry.head, FIRST_HEAD])
    assert (report.entries, report.head) == (len(NOTES), links[-1].entry.head)
    assert (report.campaigns, report.rounds) == ({CAMPAIGN: State.RUNNING}, {CAMPAIGN: 1})
    assert verify(export([]), KEY.public).entries == 0


@given(st.data())
def test_no_byte_of_an_export_changes_unseen(data: st.DataObject) -> None:
    text = "\n".join(export(chain(NOTES[:4])))
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii", exclude_characters=text[place] + "\n\r"))
    with pytest.raises(ServerError, match=r"JG-server-43[0-6]"):
        verify((text[:place] + other + text[place + 1 :]).split("\n"), KEY.public)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda lines: lines[:-1], "434"),
        (lambda lines: [*lines[:2], *lines[3:]], "433"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "433"),
        (lambda lines: [*lines, lines[-1]], "433"),
        (lambda lines: lines[1:], "430"),
        (lambda lines: [], "430"),
        (lambda lines: export(chain(NOTES, Identity.generate()), Identity.generate()), "431"),
        (lambda lines: [lines[0], *export(chain(NOTES, Identity.generate()))[1:]], "432"),
    ],
)
def test_each_kind_of_change_has_its_code(change: Callable[[list[str]], list[str]], code: str) -> None:
    refused(code, change(export(chain(NOTES))))


def test_a_history_that_was_put_back_lacks_the_head_that_an_auditor_kept() -> None:
    kept = chain(NOTES)[-1].entry.head
    refused("435", export(chain(NOTES[:5])), [kept])


@pytest.mark.parametrize(
    "notes",
    [
        [*NOTES, Note("campaign", CAMPAIGN, "draft")],
        [NOTES[0], Note("campaign", CAMPAIGN, "start")],
        [*NOTES, Note("campaign", CAMPAIGN, "round", detail={"round": 1, "outcome": "finished"})],
    ],
)
def test_a_life_that_cannot_be_is_seen_though_every_signature_holds(notes: list[Note]) -> None:
    refused("436", export(chain(notes)))


def test_writers_of_all_threads_stand_in_one_line(database_url: str) -> None:
    database = Database(database_url, KEY)

    def write(name: str) -> None:
        for number in range(8):
            with database.writing() as writing:
                writing.note(Note("site", name, "invite", detail={"number": number}))

    threads = [threading.Thread(target=write, args=(f"site-{name}",)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    links, (entries, head) = database.audit(), database.audit_head()
    assert verify(exported(links, entries, head, NOW, KEY), KEY.public).entries == 32
    assert len(database.audit(after=30)) == 2
    database.close()


def test_what_is_undone_is_not_told(database_url: str) -> None:
    database = Database(database_url, KEY)

    def fail() -> None:
        with database.writing() as writing:
            number = writing.note(NOTES[0]).entry.number
            writing.execute(insert(tables.audit).values(number=number, body=b"", signature=b""))

    with pytest.raises(IntegrityError):
        fail()
    assert (database.audit(), database.audit_head()) == ([], (0, FIRST_HEAD))
    database.close()


def test_an_export_is_for_people_too(tmp_path: Path) -> None:
    second = json.loads(export(chain(NOTES))[2])
    assert second["entry"]["detail"]["name"] == "용접-1"
    assert second["entry"]["actor"] == "kim"


def test_every_act_has_its_place_in_the_life_and_only_its_ends_are_final() -> None:
    assert {act for _, act in LIFE} == set(Act)
    assert {state for state in State if not any(before is state for before, _ in LIFE)} == {
        State.WITHDRAWN,
        State.ABORTED,
    }
    reached, todo = set[State](), [LIFE[None, Act.DRAFT]]
    while todo:
        state = todo.pop()
        if state not in reached:
            reached.add(state)
            todo += [after for (before, _), after in LIFE.items() if before is state]
    assert reached == set(State)
