"""The messages of machines.json: what is taken is answered byte for byte, and what is not has the code that it says."""

import json
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from sums import DEMO, Federation, manifest, names, randomness, signer

from jangin.errors import SumError
from jangin.privacy.secure_sum.journal import MemoryJournal
from jangin.privacy.secure_sum.policy import Terms
from jangin.privacy.secure_sum.site import Answer, SiteSum
from jangin.privacy.secure_sum.table import State, Step
from jangin.privacy.secure_sum.transcript import Manifest

FOLDER = Path(__file__).parents[2] / "vectors" / "secure_sum"
FILE: dict[str, Any] = json.loads((FOLDER / "machines.json").read_text(encoding="utf-8"))
SCRIPT = runpy.run_path(str(FOLDER / "make_machines.py"))
Case = dict[str, Any]


def begin(case: Case) -> str:
    """A manifest at a site that has done round 0 of the campaign."""
    here, journal = manifest(), MemoryJournal()
    journal.note(manifest(round=0), Step.ADVERTISE, b"")
    try:
        given = Manifest.decode(bytes.fromhex(case["body"]))
        given.require(campaign=here.campaign, model=here.model, roster=here.roster, size=here.size)
        terms = Terms(frozenset(names(4)), 4, 3, 1, 3)
        keys = {name: signer(name).public_key() for name in names(4)}
        SiteSum("site-01", given, terms, DEMO, keys, signer("site-01"), journal, randomness("site-01"))
    except SumError as error:
        return error.code
    except ValueError:
        return "ValueError"
    return "ok" if given.encode().hex() == case["body"] else "other bytes"


def at_site(case: Case, federation: Federation) -> str:
    step, site = federation.server.step, federation.sites["site-01"]
    try:
        answer = site.answer(step, bytes.fromhex(case["body"]))
    except SumError as error:
        assert site.state is State.ABORTED
        return error.code
    assert answer.body.hex() == case["answer"]
    assert (None if answer.vector is None else answer.vector.tolist()) == case.get("vector")
    return "ok"


def at_server(case: Case, federation: Federation) -> str:
    vector = np.array(case["vector"], np.uint32) if "vector" in case else None
    before = federation.server.waiting
    federation.give("site-01", Answer(bytes.fromhex(case["body"]), vector))
    assert federation.server.waiting == before - {"site-01"}
    return federation.server.left.get("site-01", "ok")


@pytest.mark.parametrize("case", FILE["cases"], ids=lambda case: case["name"])
def test_each_message_comes_to_what_the_vectors_expect(case: Case) -> None:
    if case["to"] == "begin":
        assert begin(case) == case["expect"]
        return
    federation = SCRIPT["played"](Step(case["step"]), case.get("dealt"))
    assert {"site": at_site, "server": at_server}[case["to"]](case, federation) == case["expect"]


def test_the_script_makes_the_same_messages_again_and_derives_them_a_second_time() -> None:
    assert SCRIPT["whole"]() == FILE


def test_every_message_has_one_that_is_taken_and_as_many_that_are_refused() -> None:
    counts: dict[tuple[str, str], Counter[bool]] = {}
    for case in FILE["cases"]:
        counts.setdefault((case["step"], case["to"]), Counter())[case["expect"] == "ok"] += 1
    assert counts.keys() == {
        (step.value, to) for step in Step for to in ("begin" if step is Step.ADVERTISE else "site", "server")
    }
    assert all(1 <= found[True] <= found[False] for found in counts.values())


def test_the_second_derivation_does_not_take_anything_else() -> None:
    """A bit of each message that is taken is changed, and the check by standard primitives sees it."""
    for number, case in enumerate(FILE["cases"]):
        if case["expect"] == "ok" and "dealt" not in case and (case["step"], case["to"]) != ("mask", "server"):
            body = bytearray.fromhex(case["body"])
            body[-1] ^= 1
            changed = [*FILE["cases"]]
            changed[number] = {**case, "body": body.hex()}
            with pytest.raises((ValueError, InvalidSignature, InvalidTag)):
                SCRIPT["check"](changed)
