"""The two machines: exact for whoever stays, over for whatever is not in the table, and told to nobody."""

import gc
import pickle
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sums import DEMO, Federation, in_ring, manifest

from jangin.errors import SumError
from jangin.privacy.secure_sum.journal import MemoryJournal
from jangin.privacy.secure_sum.keys import Secret
from jangin.privacy.secure_sum.policy import threshold
from jangin.privacy.secure_sum.site import Answer, SiteSum
from jangin.privacy.secure_sum.table import NEXT, State, Step

STEPS = list(Step)


@given(st.data())
@settings(max_examples=25)
def test_the_sum_is_exact_over_the_survivors_or_nothing_is_opened(data: st.DataObject) -> None:
    """Any sites fall silent before any step, or after their answer has left and before it arrives."""
    n = data.draw(st.integers(4, 12))
    federation = Federation(n)
    server, sent = federation.server, set()
    falls = data.draw(st.dictionaries(st.sampled_from(federation.names), st.sampled_from(STEPS), max_size=n // 2))
    try:
        while server.state is not State.UNMASKED:
            step = server.step
            for name in data.draw(st.permutations(federation.asked())):
                if falls.get(name) is step:
                    federation.gone.add(name)
                    if data.draw(st.booleans()):
                        federation.ask(name)
                    continue
                federation.give(name, federation.ask(name))
                if step is Step.MASK:
                    sent.add(name)
            server.close()
        found = server.total().tolist()
    except SumError as error:
        found = error.code
    if server.state is State.ABORTED:
        assert found == "JG-sum-016"
        with pytest.raises(ValueError, match="Expected"):
            server.total()
    else:
        assert set(server.certificate.survivors) == sent
        assert len(sent) >= threshold(len(server.certificate.began))
        assert found == in_ring([federation.vectors[name] for name in sent])
    assert not server.blamed


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("n", [4, 7, 12])
def test_as_many_may_drop_out_as_the_threshold_leaves_and_not_one_more(n: int, step: Step) -> None:
    least = n if step is Step.ADVERTISE else threshold(n)
    for stay, ends_well in ((least, True), (least - 1, False)):
        federation = Federation(n).until(step)
        federation.gone = set(federation.names[stay:])
        if ends_well:
            federation.finish()
        else:
            with pytest.raises(SumError, match="JG-sum-016"):
                federation.finish()


def answers(step: Step) -> Iterator[bytes]:
    """Every request of a step that somebody could send again: the right one of a whole sum."""
    yield Federation().until(step).server.request("site-01")


@pytest.mark.parametrize("asked", STEPS)
@pytest.mark.parametrize("state", list(State))
def test_what_the_table_does_not_have_ends_the_sum_at_the_site(state: State, asked: Step) -> None:
    federation = Federation()
    site = federation.sites["site-01"]
    reached = {site.state: None}
    while site.state is not state and site.state is not State.UNMASKED:
        federation.step()
        reached[site.state] = None
    if state is State.ABORTED:
        site.abort()
    assert site.state is state
    if (state, asked) in NEXT:
        federation.ask("site-01")
        assert site.state is NEXT[state, asked]
        return
    (body,) = answers(asked)
    with pytest.raises(SumError, match="JG-sum-002"):
        site.answer(asked, body + b"\0")
    assert site.state is State.ABORTED
    for step in STEPS:
        with pytest.raises(SumError, match="JG-sum-002"):
            site.answer(step, body)
    with pytest.raises(SumError, match="JG-sum-002"):
        site.advertise(np.zeros(3, np.uint32))


@pytest.mark.parametrize("step", STEPS)
def test_the_same_request_again_gets_the_same_answer_and_another_ends_the_sum(step: Step) -> None:
    federation = Federation().until(step)
    site = federation.sites["site-01"]
    request = federation.server.request("site-01")
    first = federation.ask("site-01")
    assert site.answer(step, request) is first
    if step is Step.ADVERTISE:
        assert site.advertise(np.zeros(3, np.uint32)) is first
    for other in set(STEPS) - {step}:
        again = Federation().until(step)
        again.ask("site-01")
        with pytest.raises(SumError, match=r"JG-sum-0"):
            again.sites["site-01"].answer(other, request)
        assert again.sites["site-01"].state is State.ABORTED
    with pytest.raises(SumError, match="JG-sum-002"):
        site.answer(step, request + b"\0")
    with pytest.raises(SumError, match="JG-sum-002"):
        site.answer(step, request)


def test_the_first_vector_stays_when_it_is_asked_for_keys_again() -> None:
    federation = Federation()
    federation.sites["site-01"].advertise(federation.vectors["site-01"].view(np.uint32))
    federation.sites["site-01"].advertise(np.zeros(3, np.uint32))
    assert federation.finish() == in_ring(federation.vectors.values())


def test_a_vector_of_another_size_or_type_is_not_taken() -> None:
    for wrong in (np.zeros(4, np.uint32), np.zeros(3, np.int32), np.zeros((1, 3), np.uint32)):
        with pytest.raises(ValueError, match="Expected"):
            Federation().sites["site-01"].advertise(wrong)


def test_the_server_counts_an_answer_once_and_nobody_who_is_not_asked() -> None:
    federation = Federation(5).until(Step.MASK)
    for name in federation.asked():
        answer = federation.ask(name)
        federation.give(name, answer)
        federation.give(name, answer)
        federation.give(name, Answer(b"", np.ones(3, np.uint32)))
    federation.give("a stranger", answer)
    federation.server.close()
    assert federation.finish() == in_ring(federation.vectors.values())


def test_what_comes_after_the_end_changes_nothing() -> None:
    federation = Federation()
    answer = Answer(b"late")
    federation.finish()
    federation.give("site-01", answer)
    assert federation.server.waiting == frozenset()
    assert not federation.server.left
    aborted = Federation()
    with pytest.raises(SumError, match="JG-sum-016"):
        aborted.server.close()
    aborted.give("site-01", answer)
    assert not aborted.server.left


def test_a_sum_is_given_out_once() -> None:
    federation = Federation()
    federation.finish()
    with pytest.raises(ValueError, match="Expected a sum"):
        federation.server.total()


def test_the_site_says_when_the_vector_may_have_left() -> None:
    federation = Federation().until(Step.MASK)
    site = federation.sites["site-01"]
    assert not site.released
    federation.ask("site-01")
    assert site.released
    site.abort()
    assert site.released


def test_certificates_that_are_asked_of_a_site_are_no_more_than_it_needs() -> None:
    federation = Federation(12).until(Step.UNMASK)
    assert len(federation.server.certificate.signatures) == 12
    request = federation.server.request("site-01")
    assert 9 * 64 <= len(request) < 10 * 64 + 9 * 20


# --- what is secret


def everything(root: object) -> Iterator[object]:
    """Every object that is reached from here, classes, modules and functions left out."""
    seen, left = {id(root)}, [root]
    while left:
        one = left.pop()
        yield one
        for other in gc.get_referents(one):
            of_python = isinstance(other, type | ModuleType) or callable(other)
            if id(other) not in seen and not of_python and not (isinstance(other, dict) and "__builtins__" in other):
                seen.add(id(other))
                left.append(other)


def secrets_of(site: SiteSum) -> list[bytes]:
    """What nobody may see: seeds, keys, and shares that were dealt to it."""
    return [bytes(one.reveal()) for one in everything(site) if isinstance(one, Secret) and len(one)]


@pytest.mark.parametrize("step", STEPS)
def test_no_secret_is_in_a_repr_a_log_line_an_error_or_a_pickle_of_any_part_of_a_site(step: Step) -> None:
    federation = Federation().until(step)
    if step is Step.ADVERTISE:
        federation.step()
    site = federation.sites["site-01"]
    secrets = [*secrets_of(site), federation.vectors["site-01"].tobytes()]
    assert len(secrets) >= 4
    told = []
    for part in everything(site):
        if isinstance(part, (bytes, bytearray, np.ndarray)):
            continue  # what a secret is made of; none of these stands in another part's repr, as is seen here
        told += [repr(part).encode(), str(part).encode()]
        with suppress(Exception):
            told.append(pickle.dumps(part))
    with pytest.raises(SumError) as caught:
        site.answer(Step.UNMASK, b"\xa0" * 40)
    told += [str(caught.value).encode(), repr(caught.value).encode(), repr(vars(caught.value)).encode()]
    for secret in secrets:
        shown = (secret, secret.hex().encode(), repr(secret)[2:-1].encode(), repr(bytearray(secret)).encode())
        assert not any(form in whole for form in shown for whole in told)


@pytest.mark.parametrize("step", STEPS)
def test_an_ended_site_holds_no_secret_any_more(step: Step) -> None:
    federation = Federation().until(step)
    site = federation.sites["site-01"]
    secrets = [one for one in everything(site) if isinstance(one, Secret)]
    shown = [one.reveal() for one in secrets if len(one)]
    site.abort()
    assert shown
    assert all(not any(one) for one in shown)
    assert not any(len(one) for one in everything(site) if isinstance(one, Secret))
    assert not any(isinstance(one, np.ndarray) and one.size == 3 for one in everything(site))


def test_a_site_that_has_done_all_holds_no_secret_any_more() -> None:
    federation = Federation()
    federation.finish()
    for site in federation.sites.values():
        assert not any(len(one) for one in everything(site) if isinstance(one, Secret))


def test_the_seed_and_the_key_are_gone_as_soon_as_the_vector_is_masked() -> None:
    federation = Federation().until(Step.MASK)
    site = federation.sites["site-01"]
    before = set(secrets_of(site))
    federation.ask("site-01")
    after = set(secrets_of(site))
    assert len(before) == 6  # the seed, the mask key, a channel from each of four
    assert before & after == set()
    assert len(after) == 8  # two shares of each dealer


# --- over several sums


def test_a_sum_of_another_attempt_round_or_campaign_does_not_take_the_messages_of_this_one() -> None:
    first = Federation().until(Step.SHARE)
    old = first.server.request("site-01")
    for changed in (
        {"attempt": 2},
        {"round": 2},
        {"campaign": "b" * 64},
        {"model": b"m" * 32},
        {"previous": b"p" * 32},
    ):
        later = Federation(manifest=manifest(**changed)).until(Step.SHARE)
        with pytest.raises(SumError, match=r"JG-sum-00[89]"):
            later.sites["site-01"].answer(Step.SHARE, old)


def test_after_a_restart_a_sum_is_not_begun_again_and_the_next_attempt_is() -> None:
    federation = Federation().until(Step.CERTIFY)
    with pytest.raises(SumError, match="JG-sum-004"):
        Federation(journals=federation.journals)
    with pytest.raises(SumError, match="JG-sum-004"):
        Federation(manifest=manifest(round=0, attempt=3), journals=federation.journals)
    again = Federation(manifest=manifest(attempt=2), journals=federation.journals)
    assert again.finish() == in_ring(again.vectors.values())


def test_a_sum_that_was_overtaken_goes_no_further_at_the_site() -> None:
    federation = Federation().until(Step.MASK)
    Federation(manifest=manifest(attempt=2), journals=federation.journals)
    with pytest.raises(SumError, match="JG-sum-004"):
        federation.ask("site-01")
    assert not federation.sites["site-01"].released


def test_the_attempts_of_a_round_are_counted_by_plan_and_policy() -> None:
    for attempt in (3, 4):
        given, journals = manifest(attempt=attempt), {name: MemoryJournal() for name in Federation().names}
        if attempt == 3:
            Federation(manifest=given, journals=journals)
        else:
            with pytest.raises(SumError, match="JG-sum-005"):
                Federation(manifest=given, journals=journals)


def test_a_plan_that_is_safe_against_fewer_colluders_is_not_begun() -> None:
    terms = Federation(7).terms
    assert terms.c_max == DEMO.c_max == 1
    with pytest.raises(SumError, match="JG-sum-015"):
        Federation(7, terms=terms, policy=type(DEMO)(n_min=4, n_min_final=3, n_honest_min=1, c_max=2, demo=True))
