"""The law of roles: who may do what, for every role, every right, and every plan, against a table written anew here."""

import itertools

import pytest

from jangin.errors import ServerError
from jangin.server.office import DEEDS, QUESTIONS
from jangin.server.roles import RULES, Right, require
from jangin.trust.staff import Role

# Columns: operator, approver, evaluator, auditor, labour observer, independent body. `o`: not over one's own plan.
TABLE = """
    draft      + - - - - -
    propose    + - - - - -
    approve    - o - - - -
    rehearse   + - - - - -
    start      + - - - - -
    pause      + + - - - -
    resume     + - - - - -
    stop       + + - - - -
    release    - o - - - -
    withdraw   + + - - - -
    measure    - - + - - -
    invite     + - - - - -
    publish    + - - - - +
    campaigns  + + + + + +
    members    + + + + + +
    models     + + + + - +
    audit      + + + + + +
    watch      + + + + + +
"""
ROLES = ("operator", "approver", "evaluator", "auditor", "labour_observer", "independent_body")
MARKS = {
    (right, role): mark
    for right, *marks in map(str.split, TABLE.strip().splitlines())
    for role, mark in zip(ROLES, marks, strict=True)
}


def judged(right: str, roles: tuple[str, ...], *, own: bool) -> str:
    """The code of a refusal, or `yes`."""
    try:
        require(Right(right), "kim", [Role(role) for role in roles], {"kim"} if own else {"lee"})
    except ServerError as error:
        return error.code
    return "yes"


def test_every_role_may_do_what_the_table_says_and_nothing_else() -> None:
    assert {right for right, _ in MARKS} == set(Right) == set(RULES)
    assert set(ROLES) == set(Role)
    for (right, role), own in itertools.product(MARKS, (False, True)):
        mark = MARKS[right, role]
        expected = {"+": "yes", "-": "JG-server-403", "o": "JG-server-404" if own else "yes"}[mark]
        assert judged(right, (role,), own=own) == expected, (right, role, own)


def test_several_roles_may_what_one_of_them_may() -> None:
    for right, size in itertools.product(Right, (0, 2, 3, 6)):
        for roles in itertools.combinations(ROLES, size):
            marks = {MARKS[right, role] for role in roles}
            expected = "yes" if "+" in marks else "JG-server-404" if "o" in marks else "JG-server-403"
            assert judged(right, roles, own=True) == expected, (right, roles)


@pytest.mark.parametrize("role", [Role.AUDITOR, Role.LABOUR_OBSERVER])
def test_auditors_and_labour_observers_only_read(role: Role) -> None:
    assert all(rule.reads for rule in RULES.values() if role in rule.roles)


def test_what_only_reads_is_a_question_and_what_acts_is_a_deed() -> None:
    assert all(RULES[right].reads for right, _ in QUESTIONS.values())
    assert set(DEEDS) == {right for right, rule in RULES.items() if not rule.reads}
