"""Write vectors.json: what a site is given, when, and what it must say.

Usage: python tests/vectors/trust/make_vectors.py
Keys are made from names and Ed25519 is deterministic, so the file is the same every time. A case: `give` says which
question is asked of a site whose view is `trust` (hex of `Trust.to_bytes`) at `now` about `envelope`; `expect` is
"ok" or the code of the refusal.
"""

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FEDERATION = runpy.run_path(str(HERE.parents[1] / "trust" / "conftest.py"))
DAY, START = FEDERATION["DAY"], FEDERATION["START"]


def cases() -> Iterator[tuple[str, str, bytes, Any, str]]:
    """Name, question, envelope, time, expected."""
    world = FEDERATION["Federation"]()
    one, sites, now = FEDERATION["site"], FEDERATION["sites"], world.now
    three = sites(3)
    bent = bytearray(world.plan())
    bent[bent.index(b'"sig":"') + 10] ^= 1
    yield "staff of the root", "staff", world.staff(2), now, "ok"
    yield "staff unchanged", "staff", world.staff(), now, "ok"
    yield "staff signed by an operator", "staff", world.staff(2, ("kim",)), now, "JG-site-112"
    yield "staff rolled back", "staff-from-2", world.staff(), now, "JG-site-121"
    yield "staff twice in one version", "staff", world.staff(1, without=("han",)), now, "JG-site-122"
    yield "staff from the future", "staff", world.staff(2, issued=now + DAY), now, "JG-site-119"
    yield "roster of two people", "roster", world.roster(2), now, "ok"
    yield "roster in its last second", "roster", world.roster(2), START + 30 * DAY - DAY / 86400, "ok"
    yield (
        "roster that suspends",
        "roster",
        world.roster(2, sites=three | {"site-1": one("site-1", "suspended")}),
        now,
        "ok",
    )
    yield "roster expired", "roster", world.roster(2), START + 30 * DAY, "JG-site-120"
    yield "roster of one person", "roster", world.roster(2, ("kim",)), now, "JG-site-114"
    yield "roster of one person with two keys", "roster", world.roster(2, ("kim", "kim-two")), now, "JG-site-118"
    yield "roster without the independent body", "roster", world.roster(2, ("kim", "lee")), now, "JG-site-117"
    yield "roster under a newer staff list", "roster", world.roster(2, staff=2), now, "JG-site-123"
    yield "roster with too many newcomers", "roster", world.roster(2, sites=sites(4)), now, "JG-site-124"
    yield "plan of an operator and an approver", "plan", world.plan(), now, "ok"
    yield "plan with a third signature", "plan", world.plan(("kim", "lee", "han")), now, "ok"
    yield "plan approved by its operator", "plan", world.plan(("kim", "kim-two")), now, "JG-site-118"
    yield "plan without approver", "plan", world.plan(("kim", "park")), now, "JG-site-117"
    yield "plan with a stranger's signature", "plan", world.plan(("kim", "lee", "mallory")), now, "JG-site-112"
    yield "plan with a bent signature", "plan", bytes(bent), now, "JG-site-113"
    yield "plan cut short", "plan", world.plan()[:-1], now, "JG-site-110"
    yield "a roster given as a plan", "plan", world.roster(), now, "JG-site-111"
    yield "stop by an operator", "stop", world.stop(), now, "ok"
    yield "stop after the roster's end", "stop", world.stop(), START + 90 * DAY, "ok"
    yield "stop by an auditor", "stop", world.stop(("han",)), now, "JG-site-117"
    yield "stop for another plan", "stop", world.stop(plan="0" * 64), now, "JG-site-126"
    yield "stop by an expired key", "stop", world.stop(), START + 365 * DAY, "JG-site-116"


def vectors() -> dict[str, Any]:
    """The whole file."""
    world = FEDERATION["Federation"]()
    return {
        "root": world.root.public_text,
        "root_fingerprint": world.root.fingerprint,
        "plan_hash": world.plan_hash,
        "trust": {
            "held": world.trust().to_bytes().hex(),
            "from-2": world.trust().with_staff(world.staff(2), world.now).to_bytes().hex(),
        },
        "cases": [
            {
                "name": name,
                "give": question.partition("-")[0],
                "trust": "from-2" if question.endswith("-from-2") else "held",
                "envelope": envelope.decode(),
                "now": now.isoformat(),
                "expect": expect,
            }
            for name, question, envelope, now, expect in cases()
        ],
    }


if __name__ == "__main__":
    text = json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n"
    (HERE / "vectors.json").write_text(text, encoding="utf-8")
