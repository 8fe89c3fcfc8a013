"""The golden vectors: what a site says to fixed documents, byte for byte, and the script that makes them."""

import json
import runpy
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from jangin.errors import SiteError
from jangin.trust.chain import Trust
from jangin.trust.keys import fingerprint, identity_from_text

FOLDER = Path(__file__).parents[1] / "vectors" / "trust"
VECTORS: dict[str, Any] = json.loads((FOLDER / "vectors.json").read_text(encoding="utf-8"))


def answer(case: dict[str, Any]) -> str:
    trust = Trust.from_bytes(bytes.fromhex(VECTORS["trust"][case["trust"]]))
    envelope, now = case["envelope"].encode(), datetime.fromisoformat(case["now"])
    try:
        match case["give"]:
            case "staff":
                trust.with_staff(envelope, now)
            case "roster":
                trust.with_roster(envelope, now)
            case "plan":
                assert trust.plan(envelope, now).hash == VECTORS["plan_hash"]
            case "stop":
                trust.stop(envelope, VECTORS["plan_hash"], now)
            case _:
                raise ValueError(case["give"])
    except SiteError as error:
        return error.code
    return "ok"


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_a_site_answers_as_the_vectors_say(case: dict[str, Any]) -> None:
    assert answer(case) == case["expect"]


def test_the_script_makes_the_same_vectors_again() -> None:
    assert runpy.run_path(str(FOLDER / "make_vectors.py"))["vectors"]() == VECTORS


def test_there_are_at_least_as_many_refusals_as_acceptances() -> None:
    accepted = [case["expect"] == "ok" for case in VECTORS["cases"]]
    assert 2 * sum(accepted) <= len(accepted)


def test_the_fingerprint_of_the_root_is_what_it_always_was() -> None:
    assert fingerprint(identity_from_text(VECTORS["root"])) == VECTORS["root_fingerprint"]
