"""Laws of a site's sums: what was promised outlives the process, and a charge stays where a vector may have left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ledgers import EPISODES, NOON, Key, Memory, cost, keys
from peers import DEMO, Peers, a_manifest, steps_until, terms

from jangin.client.sums import NOTHING_NOTED, Joining, SumJournal, Sums, check_fit
from jangin.errors import JanginError, SumError
from jangin.privacy.accounts import Wish
from jangin.privacy.ledger import Ledger
from jangin.privacy.releases import Unit
from jangin.privacy.secure_sum.journal import Noted
from jangin.privacy.secure_sum.policy import Policy
from jangin.privacy.secure_sum.server import ServerSum
from jangin.privacy.secure_sum.table import State, Step
from jangin.privacy.secure_sum.transcript import Manifest

OWN = "site-0"
OTHERS = ("site-1", "site-2", "site-3")
CAMPAIGN = a_manifest().campaign
ONE, OTHER = bytes(32), bytes([1]) * 32
PATIENCE = timedelta(hours=2)


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(JanginError) as refused:
        call()
    assert str(refused.value)
    return refused.value.code


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "site.sqlite"


def begun(file: Path, manifest: Manifest, *steps: tuple[Step, bytes], charge: int | None = None) -> None:
    """A process that noted so much and then died."""
    with SumJournal(file) as journal:
        journal.note(manifest, Step.ADVERTISE, manifest.digest)
        if charge is not None:
            journal.charge(manifest, charge)
        for step, digest in steps:
            journal.note(manifest, step, digest)


def test_what_was_promised_is_held_after_a_restart(file: Path) -> None:
    promised = a_manifest(round=2, attempt=2)
    begun(file, promised, (Step.MASK, ONE), (Step.CERTIFY, ONE))
    with SumJournal(file) as journal:
        assert journal.last(CAMPAIGN) == Noted(
            2, 2, {Step.ADVERTISE: promised.digest, Step.MASK: ONE, Step.CERTIFY: ONE}
        )
        for step in (Step.MASK, Step.CERTIFY):
            journal.note(promised, step, ONE)
            assert code_of(lambda step=step: journal.note(promised, step, OTHER)) == "JG-sum-013"
        for number, attempt in ((2, 2), (2, 1), (1, 3)):
            before = a_manifest(round=number, attempt=attempt)
            assert code_of(lambda before=before: journal.note(before, Step.ADVERTISE, before.digest)) == "JG-sum-004"
        assert code_of(lambda: journal.note(a_manifest(round=1), Step.CERTIFY, ONE)) == "JG-sum-004"
        journal.note(a_manifest(round=2, attempt=3), Step.ADVERTISE, ONE)
        elsewhere = a_manifest(campaign="cd" * 32)
        journal.note(elsewhere, Step.ADVERTISE, elsewhere.digest)
        assert journal.last("ef" * 32) == NOTHING_NOTED


def test_a_refused_note_leaves_nothing(file: Path) -> None:
    promised = a_manifest()
    begun(file, promised, (Step.CERTIFY, ONE))
    with SumJournal(file) as journal, SumJournal(file) as reader:
        assert code_of(lambda: journal.note(promised, Step.CERTIFY, OTHER)) == "JG-sum-013"
        assert reader.last(CAMPAIGN).steps[Step.CERTIFY] == ONE
        reader.note(promised, Step.MASK, ONE)  # nobody holds the file


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A campaign of two charges and a scaling."""
    reserved = Wish(
        CAMPAIGN, "line", "records", Unit.EPISODE, 2, cost(rounds=2, opening=20.0), {k: [k] for k in keys(range(3))}
    )
    with Ledger(tmp_path / "ledger.sqlite", OWN, Key(), Memory()) as ledger:
        ledger.grant([EPISODES], NOON)
        ledger.reserve(reserved, NOON)
        yield ledger


class Cohort:
    """This site's sums among three others that are honest."""

    def __init__(self, file: Path, ledger: Ledger) -> None:
        self.own, self.peers, self.ledger = Ed25519PrivateKey.generate(), Peers.of(OTHERS), ledger
        self.vector, self.now = np.arange(5, dtype=np.uint32) - 2, NOON
        self.journal, self.kept = SumJournal(file), list[tuple[str, bytes]]()
        self.restart()

    def restart(self) -> None:
        self.sums = Sums(
            OWN, self.own, self.journal, self.ledger, lambda *kept: self.kept.append(kept), lambda: self.now
        )

    @property
    def spent(self) -> set[int]:
        self.ledger.refresh()
        return self.ledger.accounts[CAMPAIGN].spent

    def begin(self, number: int = 1, attempt: int = 1, *, evaluates: bool = False) -> ServerSum:
        manifest, asked = a_manifest(round=number, attempt=attempt), terms([OWN, *OTHERS])
        identities = {name: key.public_key() for name, key in {OWN: self.own, **self.peers.keys}.items()}
        self.sums.begin(Joining(manifest, asked, DEMO, identities, PATIENCE, evaluates))
        self.peers.begin(manifest, asked, identities)
        return ServerSum(manifest, asked, identities)

    def answer(self, step: Step, request: bytes) -> tuple[bytes, Any]:
        if step is Step.ADVERTISE:
            answer = self.sums.advertise(CAMPAIGN, self.vector, b"own")
        else:
            answer = self.sums.answer(CAMPAIGN, step, request)
        return answer.body, answer.vector

    def until(self, server: ServerSum, state: State) -> None:
        steps_until(server, state, self.peers, {OWN: self.answer})


@pytest.fixture
def cohort(file: Path, ledger: Ledger) -> Iterator[Cohort]:
    cohort = Cohort(file, ledger)
    with cohort.journal:
        yield cohort


def test_a_whole_sum_is_exact_is_shown_on_its_way_and_stays_charged(cohort: Cohort) -> None:
    server = cohort.begin()
    for state in (State.ADVERTISED, State.SHARED, State.MASKED, State.CERTIFIED):
        cohort.until(server, state)
        (stands,) = cohort.journal.standing()
        assert (stands.campaign, stands.round, stands.attempt, stands.state) == (CAMPAIGN, 1, 1, state)
    cohort.until(server, State.UNMASKED)
    expected = cohort.vector + sum((cohort.peers.vector(name) for name in OTHERS), np.zeros(5, np.uint32))
    np.testing.assert_array_equal(server.total().view(np.uint32), expected)
    assert cohort.journal.standing() == []
    cohort.sums.end(CAMPAIGN)
    assert cohort.spent == {1}


@pytest.mark.parametrize(
    ("reached", "stays"),
    [(None, False), (State.ADVERTISED, False), (State.SHARED, False), (State.MASKED, True), (State.CERTIFIED, True)],
)
@pytest.mark.parametrize("ends", ["end", "next", "restart"])
def test_a_charge_stays_with_what_is_kept_of_it_where_the_vector_may_have_left_and_is_free_again_elsewhere(
    cohort: Cohort, reached: State | None, stays: bool, ends: str
) -> None:
    server = cohort.begin()
    assert cohort.spent == {1}
    if reached is not None:
        cohort.until(server, reached)
    assert cohort.kept == ([(CAMPAIGN, b"own")] if stays else [])
    match ends:
        case "end":
            cohort.sums.end(CAMPAIGN)
            cohort.sums.end(CAMPAIGN)
        case "next":
            cohort.begin(attempt=2)
            assert cohort.spent == ({1, 2} if stays else {1})
            cohort.sums.end(CAMPAIGN)
        case "restart":
            cohort.restart()
            assert cohort.sums.manifest(CAMPAIGN) is None
            cohort.restart()
    assert cohort.spent == ({1} if stays else set())
    assert cohort.journal.standing() == []


class Killed(BaseException):
    pass


@contextmanager
def dying(cohort: Cohort, at: int, *, written: bool) -> Iterator[None]:
    """The process dies at what it writes as the `at`-th, before or right after it, and writes nothing more."""
    turns = count(1)

    def until_killed(real: Callable[..., object], *given: object) -> None:
        turn = next(turns)
        if turn < at or (written and turn == at):
            real(*given)
        if turn >= at:
            raise Killed

    owners: dict[Any, tuple[str, ...]] = {
        cohort.journal: ("note", "charge", "reach"),
        cohort.ledger: ("spend", "give_back"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for owner, names in owners.items():
            for name in names:
                patch.setattr(owner, name, partial(until_killed, getattr(owner, name)))
        yield


@pytest.mark.parametrize("written", [False, True])
def test_wherever_a_process_dies_a_charge_stays_where_the_vector_was_noted_and_only_there(
    cohort: Cohort, written: bool
) -> None:
    """Each round's process dies one thing later that it writes, until both charges are gone."""
    number = charged = 0
    while charged < 2:
        number += 1
        with pytest.raises(Killed), dying(cohort, number, written=written):
            cohort.until(cohort.begin(number), State.CERTIFIED)
        cohort.restart()
        charged += Step.MASK in cohort.journal.last(CAMPAIGN).steps
        assert len(cohort.kept) <= charged
        assert len(cohort.spent) == charged
    assert number > 5


def test_charges_of_failed_attempts_run_out_and_the_scaling_has_its_own(cohort: Cohort) -> None:
    for number, attempt in ((0, 1), (1, 1), (1, 2)):
        cohort.until(cohort.begin(number, attempt), State.MASKED)
    assert cohort.spent == {0, 1, 2}
    assert code_of(lambda: cohort.begin(2, 1)) == "JG-site-321"
    assert cohort.sums.manifest(CAMPAIGN) is None
    assert cohort.spent == {0, 1, 2}


def test_a_second_scaling_after_one_that_left_has_no_charge(cohort: Cohort) -> None:
    cohort.until(cohort.begin(0, 1), State.MASKED)
    assert code_of(lambda: cohort.begin(0, 2)) == "JG-site-321"
    assert cohort.spent == {0}


def test_a_vector_of_another_size_than_the_manifests_is_no_part_of_the_sum(cohort: Cohort) -> None:
    cohort.begin()
    assert code_of(lambda: cohort.sums.advertise(CAMPAIGN, np.zeros(4, np.uint32))) == "JG-sum-003"


def test_keys_are_offered_again_until_something_came_after(cohort: Cohort) -> None:
    server = cohort.begin()
    manifest = server.manifest
    assert code_of(lambda: cohort.sums.advert(manifest)) == "JG-sum-002"
    cohort.until(server, State.ADVERTISED)
    assert cohort.sums.advert(manifest) is cohort.sums.advert(manifest)
    cohort.until(server, State.SHARED)
    assert code_of(lambda: cohort.sums.advert(manifest)) == "JG-sum-002"


def test_nothing_secret_is_in_what_a_sum_shows_of_itself(cohort: Cohort) -> None:
    cohort.vector = np.array([87625190, 1, 2, 3, 4], np.uint32)
    cohort.until(cohort.begin(), State.SHARED)
    (held,) = cohort.sums._open.values()
    shown = repr(held) + repr(vars(cohort.sums)) + repr(vars(cohort.sums._journal))
    assert "87625190" not in shown
    for secret in (held.sum._seed, held.sum._mask):
        assert bytes(secret.reveal()).hex() not in shown
        assert repr(bytes(secret.reveal())) not in shown


SITES = [f"site-{number}" for number in range(12)]


@pytest.mark.parametrize(
    ("invited", "changed", "code"),
    [
        (12, {"n_plan": 11, "n_min_final": 8}, None),
        (12, {"c_max": 2}, "JG-sum-015"),
        (9, {}, "JG-sum-006"),
        (12, {"n_min_final": 13}, "JG-sum-006"),
    ],
)
def test_a_plan_whose_sums_can_never_run_here_is_told_before_anybody_says_yes(
    invited: int, changed: dict[str, Any], code: str | None
) -> None:
    asked = replace(terms(SITES[:invited]), c_max=3, n_plan=10)
    asked = replace(asked, **changed)
    if code is None:
        assert check_fit(asked, Policy()) is None
        return
    with pytest.raises(SumError) as refused:
        check_fit(asked, Policy())
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("changed", "policy", "code"),
    [
        ({}, Policy(), "JG-sum-025"),  # 7 of 10 open it, and 5 honest ones beside 3 colluders are 8
        ({}, Policy(n_honest_min=4), None),
        ({}, Policy(n_honest_min=4, n_min_final=8), "JG-sum-025"),
        ({}, Policy(n_min=12), "JG-sum-024"),
    ],
)
def test_a_plan_whose_sums_often_end_here_is_told_before_anybody_says_yes(
    changed: dict[str, Any], policy: Policy, code: str | None
) -> None:
    doubt = check_fit(replace(terms(SITES), c_max=3, n_plan=10, **changed), policy)
    assert (None if doubt is None else doubt.code) == code
    assert doubt is None or str(doubt)


@pytest.mark.parametrize(
    "reached", [None, State.ADVERTISED, State.SHARED, State.MASKED, State.CERTIFIED, State.UNMASKED]
)
def test_a_sum_that_the_server_lets_wait_for_too_long_is_overdue(cohort: Cohort, reached: State | None) -> None:
    server = cohort.begin()
    for state in (State.ADVERTISED, State.SHARED, State.MASKED, State.CERTIFIED, State.UNMASKED):
        if reached is None:
            break
        cohort.now += PATIENCE  # each step may take so long
        assert cohort.sums.overdue() == []
        cohort.until(server, state)
        if state is reached:
            break
    cohort.now += PATIENCE
    assert cohort.sums.overdue() == []
    cohort.now += timedelta(seconds=1)
    assert cohort.sums.overdue() == [CAMPAIGN]
    cohort.sums.end(CAMPAIGN)
    assert cohort.sums.overdue() == []


def test_asking_a_step_again_does_not_make_a_sum_wait_for_longer(cohort: Cohort) -> None:
    server = cohort.begin()
    cohort.until(server, State.ADVERTISED)
    request = server.request(OWN)
    cohort.answer(Step.SHARE, request)
    cohort.now += PATIENCE + timedelta(seconds=1)
    cohort.answer(Step.SHARE, request)
    assert cohort.sums.overdue() == [CAMPAIGN]


def test_a_plan_that_invites_too_few_whom_the_site_knows_can_never_run_here() -> None:
    asked = replace(terms(SITES), c_max=3, n_plan=10, n_min_final=8)
    policy = Policy(known={"site-1": ONE, "elsewhere": OTHER}, k_known=1)
    assert check_fit(asked, policy) is None
    assert code_of(lambda: check_fit(asked, replace(policy, k_known=2))) == "JG-sum-012"


@pytest.mark.parametrize("state", [State.BEGUN, State.SHARED, State.MASKED])
def test_an_evaluation_is_charged_with_the_opening_and_frees_nothing_whatever_comes_of_it(
    cohort: Cohort, state: State
) -> None:
    cohort.begin(0)
    assert cohort.spent == {0}
    server = cohort.begin(1, evaluates=True)  # the scaling gave back what both are charged by
    assert cohort.spent == {0}
    if state is not State.BEGUN:
        cohort.until(server, state)
    cohort.sums.end(CAMPAIGN)
    assert cohort.spent == {0}
    cohort.begin(1, 2, evaluates=True)
    cohort.restart()
    assert cohort.spent == {0}
    cohort.begin(2)
    assert cohort.spent == {0, 1}


def test_nothing_opens_a_campaign_that_an_evaluation_has_opened(cohort: Cohort, ledger: Ledger) -> None:
    cohort.begin(0, evaluates=True)
    assert code_of(lambda: cohort.begin(0, 2)) == "JG-site-321"
    assert cohort.spent == {0}
