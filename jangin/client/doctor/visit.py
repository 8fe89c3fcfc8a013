"""A visit of the doctor: every check in its order, each within its time, consequences of a failure left out.

The law: a visit always ends, with one finding a check; a check that breaks is a failure that names what broke it.
"""

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from jangin.client.doctor.checks import CHECKS, Check, Facts
from jangin.client.doctor.findings import Finding, Said, State, finding
from jangin.errors import JanginError

__all__ = ["visit"]


def visit(facts: Facts, checks: Sequence[Check] = CHECKS) -> Iterator[Finding]:
    """One finding a check, as they come."""
    found: dict[str, Finding] = {}
    for check in checks:
        found[check.id] = _held_back(check, facts, found) or finding(check.id, _within_time(check, facts))
        yield found[check.id]


def _held_back(check: Check, facts: Facts, found: Mapping[str, Finding]) -> Finding | None:
    """Why a check is not made; None where it is."""
    if check.online and not facts.enrolled:
        return finding(check.id, Said(State.SKIPPED, "no_server"))
    needed = [found[need] for need in check.needs if need in found]
    for cause in needed:
        match cause.state:
            case State.FAIL:
                return finding(check.id, Said(State.SKIPPED, "after", cause.check, cause=cause.check))
            case State.SKIPPED:
                return replace(cause, check=check.id)
    return None


def _within_time(check: Check, facts: Facts) -> Said:
    """What a check says; it looks in a thread of its own, which is left behind where it hangs."""
    said: queue.SimpleQueue[Said] = queue.SimpleQueue()
    threading.Thread(target=lambda: said.put(_look(check, facts)), name=f"doctor-{check.id}", daemon=True).start()
    try:
        return said.get(timeout=check.seconds)
    except queue.Empty:
        return Said(State.FAIL, "late", check.seconds, seconds=check.seconds)


def _look(check: Check, facts: Facts) -> Said:
    try:
        return check.look(facts)
    except JanginError as error:
        return Said(State.FAIL, error.coded, error.code)
    except Exception as error:  # noqa: BLE001 - whatever breaks a check is its finding
        problem = f"{type(error).__name__}: {error}"
        return Said(State.FAIL, "broke", type(error).__name__, problem=problem)
