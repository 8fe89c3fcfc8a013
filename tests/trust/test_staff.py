"""Laws of the staff list: the root signs it, a key has one person, roles need people, expired keys sign nothing."""

from datetime import timedelta
from typing import Any

import pytest

from jangin.errors import SiteError
from jangin.trust.envelope import Kind
from jangin.trust.staff import Role, Staff, StaffKey, verify_staff

SECOND = timedelta(seconds=1)


def read(federation: Any, data: bytes) -> Staff:
    return verify_staff(data, federation.root.public, federation.now)


def refused(code: str, federation: Any, signers: tuple[str, ...], *roles: Role, **changed: Any) -> str:
    """The words of the refusal of a plan that `signers` signed where `roles` are needed."""
    staff = read(federation, federation.staff(**changed))
    with pytest.raises(SiteError) as caught:
        staff.open(federation.plan(signers), Kind.PLAN, roles, federation.now)
    assert caught.value.code == code
    return str(caught.value)


def test_the_roots_staff_list_is_believed(federation: Any) -> None:
    staff = read(federation, federation.staff())
    assert {key.person for key in staff.keys} == {"kim.minji", "lee.jihoon", "park.seoyeon", "choi.both", "han.watch"}


@pytest.mark.parametrize(
    ("signers", "code"), [(("kim",), "JG-site-112"), ((), "JG-site-114"), (("root", "kim"), "JG-site-112")]
)
def test_a_staff_list_of_anybody_else_is_not(signers: tuple[str, ...], code: str, federation: Any) -> None:
    with pytest.raises(SiteError, match=code):
        read(federation, federation.staff(signers=signers))


def test_a_staff_list_of_another_root_is_not(federation: Any) -> None:
    with pytest.raises(SiteError, match="JG-site-112") as caught:
        verify_staff(federation.staff(), federation.identity("another root").public, federation.now)
    assert federation.root.fingerprint in str(caught.value)


@pytest.mark.parametrize(
    ("signers", "roles", "people"),
    [
        (("kim",), (Role.OPERATOR,), ("kim.minji",)),
        (("kim", "lee"), (Role.OPERATOR, Role.APPROVER), ("kim.minji", "lee.jihoon")),
        (("kim", "park"), (Role.OPERATOR, Role.INDEPENDENT_BODY), ("kim.minji", "park.seoyeon")),
        (("choi", "lee"), (Role.OPERATOR, Role.APPROVER), ("choi.both", "lee.jihoon")),
        (("choi", "kim"), (Role.OPERATOR, Role.APPROVER), ("kim.minji", "choi.both")),
        (("kim", "kim-two", "lee"), (Role.OPERATOR, Role.APPROVER), ("kim.minji", "lee.jihoon")),
        (("kim", "lee", "han"), (Role.OPERATOR, Role.APPROVER), ("kim.minji", "lee.jihoon")),
    ],
)
def test_roles_are_filled_by_different_people(
    signers: tuple[str, ...], roles: tuple[Role, ...], people: tuple[str, ...], federation: Any
) -> None:
    staff = read(federation, federation.staff())
    _, filled = staff.open(federation.plan(signers), Kind.PLAN, roles, federation.now)
    assert tuple(key.person for key in filled) == people
    assert all(role in key.roles for role, key in zip(roles, filled, strict=True))


@pytest.mark.parametrize(
    ("code", "signers", "roles"),
    [
        ("JG-site-114", ("kim",), (Role.OPERATOR, Role.APPROVER)),
        ("JG-site-114", ("choi",), (Role.OPERATOR, Role.APPROVER)),
        ("JG-site-117", ("kim", "park"), (Role.OPERATOR, Role.APPROVER)),
        ("JG-site-117", ("lee", "park"), (Role.OPERATOR, Role.APPROVER)),
        ("JG-site-117", ("han",), (Role.OPERATOR,)),
        ("JG-site-117", ("lee",), (Role.OPERATOR,)),
        ("JG-site-118", ("kim", "kim-two"), (Role.OPERATOR, Role.APPROVER)),
        ("JG-site-118", ("kim", "kim-two"), (Role.OPERATOR, Role.INDEPENDENT_BODY)),
        ("JG-site-118", ("choi", "han"), (Role.OPERATOR, Role.APPROVER)),
        ("JG-site-112", ("kim", "mallory"), (Role.OPERATOR, Role.APPROVER)),
        ("JG-site-112", ("kim", "lee", "mallory"), (Role.OPERATOR, Role.APPROVER)),
        ("JG-site-112", ("root", "kim", "lee"), (Role.OPERATOR, Role.APPROVER)),
    ],
)
def test_roles_that_different_people_do_not_fill_are_refused(
    code: str, signers: tuple[str, ...], roles: tuple[Role, ...], federation: Any
) -> None:
    refused(code, federation, signers, *roles)


def test_a_refusal_names_the_person_and_the_fingerprint(federation: Any) -> None:
    words = refused("JG-site-117", federation, ("han",), Role.OPERATOR)
    assert "han.watch" in words
    assert federation.identity("han").fingerprint in words
    assert "kim.minji" in refused("JG-site-118", federation, ("kim", "kim-two"), Role.OPERATOR, Role.APPROVER)


def test_a_removed_person_signs_nothing(federation: Any) -> None:
    refused("JG-site-112", federation, ("kim", "lee"), Role.OPERATOR, Role.APPROVER, without=("lee",))


def test_a_key_signs_until_the_second_it_expires(federation: Any) -> None:
    staff = read(federation, federation.staff(expires={"kim": federation.now + SECOND}))
    data = federation.plan(("kim",))
    assert staff.open(data, Kind.PLAN, (Role.OPERATOR,), federation.now)
    with pytest.raises(SiteError, match=r"JG-site-116 .*kim\.minji"):
        staff.open(data, Kind.PLAN, (Role.OPERATOR,), federation.now + SECOND)


def test_one_expired_signature_spoils_the_rest(federation: Any) -> None:
    roles = (Role.OPERATOR, Role.APPROVER)
    refused("JG-site-116", federation, ("kim", "lee", "han"), *roles, expires={"han": federation.now})


def test_a_key_is_listed_once_and_for_one_person(federation: Any) -> None:
    staff = read(federation, federation.staff())
    again = staff.keys[0].model_copy(update={"person": "somebody.else"})
    with pytest.raises(ValueError, match="a key is listed twice"):
        Staff(version=2, issued=federation.start, keys=(*staff.keys, again))


@pytest.mark.parametrize(
    "changed",
    [
        {"person": "Kim Minji"},
        {"person": ""},
        {"person": "kim\n"},
        {"roles": []},
        {"roles": ["operator", "operator"]},
        {"roles": ["king"]},
        {"key": "ssh-ed25519 AAAA"},
        {"expires": "2027-01-01"},
    ],
)
def test_a_staff_key_out_of_form_is_refused(changed: dict[str, Any], federation: Any) -> None:
    whole = read(federation, federation.staff()).keys[0].model_dump()
    assert StaffKey.model_validate(whole)
    with pytest.raises(ValueError, match="validation error"):
        StaffKey.model_validate(whole | changed)


def test_an_empty_staff_list_and_version_nought_are_refused(federation: Any) -> None:
    keys = read(federation, federation.staff()).keys
    for changed in ({"keys": []}, {"version": 0}):
        with pytest.raises(ValueError, match="validation error"):
            Staff.model_validate({"version": 1, "issued": federation.start, "keys": keys} | changed)
