"""Laws of the buckets and of who is counted: by address, by name, and never more than a table holds."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.errors import LinkError
from jangin.flower_link.bounds import Bounds, Buckets, Caller, Rate, Turnstile, address_of


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Place:
    address: str = "192.0.2.1"
    site: str = ""
    vouched: list[str] = field(default_factory=list)

    def vouch(self, site: str) -> None:
        self.vouched.append(site)


@given(st.integers(1, 20), st.floats(0.01, 100), st.lists(st.floats(0, 5), min_size=1, max_size=80))
def test_in_any_time_there_are_no_more_tokens_than_the_burst_and_what_the_rate_gives(
    burst: int, a_second: float, pauses: list[float]
) -> None:
    clock = Clock()
    buckets, taken = Buckets(Rate(burst, a_second), clock), []
    for pause in pauses:
        clock.now += pause
        if buckets.take("a") == 0:
            taken.append(clock.now)
    for first, start in enumerate(taken):
        for last, end in enumerate(taken[first:], first):
            assert last - first + 1 <= burst + (end - start) * a_second + 1e-6


@given(st.integers(1, 20), st.floats(0.01, 100))
def test_the_burst_is_had_at_once_and_the_next_one_after_the_wait_that_is_told(burst: int, a_second: float) -> None:
    clock = Clock()
    buckets = Buckets(Rate(burst, a_second), clock)
    assert [buckets.take("a") for _ in range(burst)] == [0.0] * burst
    wait = buckets.take("a")
    assert wait == pytest.approx(1 / a_second) == pytest.approx(buckets.wait("a"))
    assert buckets.take("b") == 0.0
    clock.now += wait
    assert buckets.take("a") == 0.0
    assert buckets.take("a") > 0.0
    buckets.give_back("a")
    assert buckets.take("a") == 0.0


def test_no_flood_of_addresses_makes_the_table_grow_and_what_is_full_again_is_forgotten() -> None:
    clock = Clock()
    buckets = Buckets(Rate(2, 1.0), clock, most_keys=100)
    for number in range(1000):
        assert buckets.take(number) == 0.0
    assert len(buckets) == 100
    clock.now += 60
    assert buckets.take("a") == 0.0
    assert len(buckets) == 1


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("pipe", "pipe"),
    ],
)
def test_an_address_is_what_one_subscriber_has(host: str, address: str) -> None:
    assert address_of(host) == address


def refused(caller: Caller) -> str:
    try:
        caller.come()
    except LinkError as error:
        return error.code if int(error.coded.values["seconds"]) > 0 else "no wait"
    return ""


def test_what_a_site_signed_never_counts_against_its_address_and_what_nobody_signed_does() -> None:
    turnstile, place = Turnstile(Bounds(requests=Rate(3, 1.0)), Clock()), Place()
    for _ in range(50):
        caller = Caller(turnstile, place, "site-0", enrols=False)
        assert refused(caller) == ""
        caller.vouch()
        caller.go(200)
    codes = [refused(Caller(turnstile, place, "", enrols=False)) for _ in range(5)]
    assert codes == ["", "", "", "JG-server-490", "JG-server-490"]
    assert refused(Caller(turnstile, Place("192.0.2.2"), "", enrols=False)) == ""
    assert refused(Caller(turnstile, place, "site-0", enrols=False)) == ""
    assert place.vouched == ["site-0"] * 50


def test_forgeries_shut_out_one_name_at_one_address() -> None:
    turnstile, place = Turnstile(Bounds(forgeries=Rate(2, 0.2), requests=Rate(3, 1.0)), Clock()), Place()
    for code in ("", "", "JG-server-490"):
        caller = Caller(turnstile, place, "site-0", enrols=False)
        assert refused(caller) == code
        if not code:
            caller.go(401)
    assert refused(Caller(turnstile, place, "site-1", enrols=False)) == ""
    assert refused(Caller(turnstile, Place("192.0.2.2"), "site-0", enrols=False)) == ""
    codes = [refused(Caller(turnstile, place, "", enrols=False)) for _ in range(2)]
    assert codes == ["", "JG-server-490"]  # the forgeries were counted here too


def test_a_site_goes_on_by_the_connection_on_which_it_has_signed_whatever_is_forged_beside_it() -> None:
    turnstile = Turnstile(Bounds(forgeries=Rate(1, 0.2), signed=Rate(3, 1.0)), Clock())
    forged = Caller(turnstile, Place(), "site-0", enrols=False)
    assert refused(forged) == ""
    forged.go(401)
    assert refused(Caller(turnstile, Place(), "site-0", enrols=False)) == "JG-server-490"
    own = Place(site="site-0")
    for code in ("", "", "", "JG-server-492"):  # what fails on it counts as its own
        caller = Caller(turnstile, own, "site-0", enrols=False)
        assert refused(caller) == code
        if not code:
            caller.go(401)


def test_what_fails_by_the_servers_own_fault_is_nobodys_forgery() -> None:
    turnstile = Turnstile(Bounds(forgeries=Rate(2, 0.2)), Clock())
    for _ in range(5):
        caller = Caller(turnstile, Place(), "site-0", enrols=False)
        assert refused(caller) == ""
        caller.go(500)


def test_enrolments_count_when_they_fail() -> None:
    turnstile, place = Turnstile(Bounds(enrolments=Rate(2, 1 / 60)), Clock()), Place()
    for status, code in ((200, ""), (200, ""), (200, ""), (403, ""), (401, ""), (200, "JG-server-491")):
        caller = Caller(turnstile, place, "", enrols=True)
        assert refused(caller) == code
        if not code:
            caller.go(status)


def test_a_site_has_a_share_of_its_own() -> None:
    turnstile = Turnstile(Bounds(signed=Rate(2, 1.0)), Clock())
    for site in ("site-0", "site-1"):
        for code in ("", "", "JG-server-492"):
            caller = Caller(turnstile, Place(), site, enrols=False)
            assert refused(caller) == code
            if not code:
                caller.vouch()
                caller.go(200)
