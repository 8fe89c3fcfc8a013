"""Laws of level 4: who is in the records is looked for without recognising anybody."""

from typing import Any

import pyarrow as pa
import pytest

from jangin.codec.document import parse
from jangin.records.card import Card
from jangin.records.checks.people import Consent, check_consents, check_senses, check_texts

MASTERS = ["m0", "m1", "m1", "m2", "m3"]


def told(*consent_ids: str | None) -> pa.Table:
    return pa.table({"master": MASTERS, "consent_id": pa.array([*consent_ids], pa.string())})


def test_without_a_site_a_missing_consent_is_a_warning() -> None:
    assert list(check_consents(told(*["c"] * 5), None)) == []
    (one,) = check_consents(told("c", None, None, "c", "c"), None)
    assert (one.severity, one.code, one.values["number"]) == ("warning", "JG-data-150", 2)


def test_a_site_knows_who_said_yes() -> None:
    consents: dict[str, Consent] = {"m0": "held", "m1": "expired", "m2": "revoked"}
    found = list(check_consents(told(*["c"] * 5), consents))
    assert [(one.code, one.values["masters"], one.values["number"]) for one in found] == [
        ("JG-data-151", 1, 1),
        ("JG-data-152", 1, 2),
        ("JG-data-153", 1, 1),
    ]
    assert {one.severity for one in found} == {"error"}
    assert not any(master in one.text() for one in found for master in MASTERS)


def card(stream: dict[str, Any] | None = None, **people: Any) -> Card:
    channels = [{"name": "x", "unit": "1", "range": [-1, 1]}]
    streams = [{"name": "s", "kind": "telemetry", "rate_hz": 10, "channels": channels} | stream] if stream else []
    return parse(
        {
            "schema_version": 1,
            "process": "p",
            "industry": "i",
            "site": "site-0",
            "streams": streams,
            "people": {"masters": 1} | people,
        },
        Card,
        "card",
    )


SENSES: list[tuple[dict[str, Any], set[str]]] = [
    ({"kind": "image_sequence", "media": "pictures", "frame": {"width": 8, "height": 8}}, {"JG-data-154"}),
    ({"kind": "thermal", "media": "pictures", "frame": {"width": 8, "height": 8}}, {"JG-data-154"}),
    ({"kind": "image_sequence"}, set()),  # numbers drawn from pictures show no face
    ({"kind": "audio", "media": "sound", "rate_hz": 8000}, {"JG-data-155"}),
    ({"kind": "audio", "rate_hz": 4000}, {"JG-data-155"}),
    ({"kind": "audio", "rate_hz": 4}, set()),
    ({"kind": "vibration", "rate_hz": 25600}, set()),
    ({"name": "welder_face"}, {"JG-data-154"}),
    ({"channels": [{"name": "headset_level", "unit": "dB", "range": [0, 1]}]}, {"JG-data-155"}),
    ({"name": "surface_voltage"}, set()),
]


@pytest.mark.parametrize(("stream", "codes"), SENSES)
def test_what_may_show_a_face_or_carry_speech_needs_a_note(stream: dict[str, Any], codes: set[str]) -> None:
    assert {one.code for one in check_senses(card(stream))} == codes
    noted = card(stream, deidentified={stream.get("name", "s"): "masked"})
    assert list(check_senses(noted)) == []
    blank = card(stream, deidentified={stream.get("name", "s"): "  "})
    assert {one.code for one in check_senses(blank)} == codes


def found_in(note: str, master: str = "m0") -> set[str]:
    table = pa.table({"episode_id": ["e0"], "master": [master], "consent_id": pa.array([None], pa.string())})
    return {one.code for one in check_texts(card(note=note), table, None)}


TEXTS = [
    (r"copied from D:\weld\2026", "JG-data-156"),
    (r"see \\nas01\records", "JG-data-156"),
    ("files of /home/kim/drop", "JG-data-156"),
    ("S/N 20391", "JG-data-157"),
    ("일련번호: A-1029", "JG-data-157"),
    ("call 010-1234-5678", "JG-data-157"),
    ("900101-1234567", "JG-data-157"),
    ("ask kim@works.example", "JG-data-157"),
    ("김철수 반장이 시범", "JG-data-158"),
    ("with Mr. Kim", "JG-data-158"),
]


@pytest.mark.parametrize(("note", "code"), TEXTS)
def test_texts_that_lead_to_somebody_are_found(note: str, code: str) -> None:
    assert found_in(note) == {code}


@pytest.mark.parametrize(
    "note",
    [
        "",
        "Asked each master; and/or the foreman.",
        "조선소 3곳에서 모음",
        "2026-11-21 15:05, 24 V / 300 A",
        "serial welds",
    ],
)
def test_plain_notes_are_left_alone(note: str) -> None:
    assert found_in(note) == set()


@pytest.mark.parametrize(
    ("master", "codes"),
    [("m0", set()), ("장인-3", set()), ("김철수", {"JG-data-158"}), ("Jane Doe", {"JG-data-158"}), ("welder 7", set())],
)
def test_a_pseudonym_is_no_name(master: str, codes: set[str]) -> None:
    assert found_in("", master) == codes


def test_a_finding_never_repeats_what_it_found() -> None:
    table = pa.table({"episode_id": ["e0"], "master": ["김철수"], "consent_id": pa.array([None], pa.string())})
    for finding in check_texts(card(note="call 010-1234-5678"), table, None):
        said = " ".join(finding.text(field, lang) for field in ("what", "why", "hint") for lang in ("en", "ko"))
        assert "김철수" not in said
        assert "1234" not in said
