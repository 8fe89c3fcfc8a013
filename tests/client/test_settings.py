"""Laws of site.yaml: what nothing reads is an error with the nearest key, and an address is always https."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from jangin.client.settings import SiteSettings
from jangin.codec.document import parse, read
from jangin.errors import PlanError, SumError
from jangin.privacy.secure_sum.policy import Policy
from jangin.trust.keys import Identity

SMALLEST: dict[str, Any] = {"site": {"id": "kr-0421"}, "data": [{"process": "steel.bof_blow", "path": "records"}]}
SERVER = {"url": "https://fl.example.kr", "root": "root.pub", "ca": "ca.crt"}


def test_the_smallest_settings_wait_for_a_person_and_one_thread() -> None:
    settings = parse(SMALLEST, SiteSettings, "site.yaml")
    assert (settings.approve.mode, settings.limits.cpu, settings.server) == ("manual", 1, None)


def test_settings_that_were_written_read_the_same(tmp_path: Path) -> None:
    settings = parse(SMALLEST | {"server": SERVER}, SiteSettings, "site.yaml")
    (tmp_path / "site.yaml").write_text(settings.to_yaml())
    assert read(tmp_path / "site.yaml", SiteSettings) == settings


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://fl.example.kr", "fl.example.kr:443"),
        ("https://127.0.0.1:8443/", "127.0.0.1:8443"),
        ("https://[::1]:8443", "[::1]:8443"),
    ],
)
def test_an_address_has_a_port(url: str, address: str) -> None:
    settings = parse(SMALLEST | {"server": SERVER | {"url": url}}, SiteSettings, "site.yaml")
    assert settings.server is not None
    assert settings.server.address == address


@pytest.mark.parametrize(
    ("changed", "code", "says"),
    [
        ({"sites": {}}, "JG-plan-001", "keys: site;"),
        ({"server": SERVER | {"rot": "x"}}, "JG-plan-001", "keys: root;"),
        ({"approve": {"mode": "auto"}}, "JG-plan-003", "approve.mode"),
        ({"server": SERVER | {"url": "http://fl.example.kr"}}, "JG-plan-003", "https"),
        ({"server": SERVER | {"url": "https://fl.example.kr/x"}}, "JG-plan-003", "https"),
        ({"server": {"url": "https://fl.example.kr"}}, "JG-plan-002", "root"),
        ({"site": {"id": "Site 0"}}, "JG-plan-003", "site.id"),
        ({"data": []}, "JG-plan-003", "data"),
        ({"data": SMALLEST["data"] * 2}, "JG-plan-003", "two folders"),
        ({"limits": {"cpu": 0}}, "JG-plan-003", "limits.cpu"),
    ],
)
def test_settings_that_cannot_be_carried_out_are_refused(
    tmp_path: Path, changed: dict[str, Any], code: str, says: str
) -> None:
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(SMALLEST | changed))
    with pytest.raises(PlanError, match=says) as refused:
        read(tmp_path / "site.yaml", SiteSettings)
    assert refused.value.code == code


def test_a_site_wants_ten_in_a_sum_and_three_colluders_covered_unless_it_says_otherwise() -> None:
    assert parse(SMALLEST, SiteSettings, "site.yaml").secure_sum.policy({}) == Policy()


@pytest.mark.parametrize("changed", [{"n_min": 4}, {"n_min_final": 4}, {"k_known": 1}, {"n_min": 2, "demo": True}])
def test_a_policy_below_the_floors_is_refused_where_it_is_read(changed: dict[str, Any]) -> None:
    with pytest.raises(SumError, match="JG-sum-020"):
        parse(SMALLEST | {"secure_sum": changed}, SiteSettings, "site.yaml")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"n_mins": 10}, "JG-plan-001"),
        ({"c_max": 0}, "JG-plan-003"),
        ({"known": {"site-1": "abcd"}}, "JG-plan-003"),
        ({"known": {"Site 1": "ABCD-ABCD-ABCD-ABCD-ABCD"}}, "JG-plan-003"),
    ],
)
def test_a_policy_of_another_form_is_refused(changed: dict[str, Any], code: str) -> None:
    with pytest.raises(PlanError) as refused:
        parse(SMALLEST | {"secure_sum": changed}, SiteSettings, "site.yaml")
    assert refused.value.code == code


def test_known_is_who_has_the_fingerprint_that_was_compared() -> None:
    one, impostor = Identity.generate(), Identity.generate()
    block = parse(
        SMALLEST | {"secure_sum": {"known": {"site-1": one.fingerprint, "site-2": one.fingerprint}, "k_known": 1}},
        SiteSettings,
        "site.yaml",
    ).secure_sum
    known = block.policy({"site-1": one.public, "site-2": impostor.public}).known
    assert known == {"site-1": one.public.public_bytes_raw()}
    with pytest.raises(SumError, match="JG-sum-012"):
        block.policy({"site-1": impostor.public})
