"""Laws of a campaign of secure sums: no two have one number, what may have left is charged, what was signed is kept."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file
from summing import ROSTER, Odd, SumSites, at

from jangin.errors import LinkError, ServerError
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Said, read_said, said_body
from jangin.plan.terms import terms
from jangin.privacy.secure_sum.messages import Shown
from jangin.privacy.secure_sum.table import Step
from jangin.privacy.secure_sum.transcript import certificate_statement, shown_statement
from jangin.server.checkpoints import Checkpoints
from jangin.server.conductor import MOST_ATTEMPTS, Conductor
from jangin.server.post import Post
from jangin.server.store import Outcome
from jangin.server.sums import SecureSum
from jangin.training.recipe import Recipe

SITES = tuple(f"site-{number}" for number in range(5))
SUMS = {
    "sites.invite": SITES,
    "strategy.rounds": 3,
    "privacy": {
        "epsilon": "none",
        "nominal_units": 20,
        "secure_aggregation": "required",
        "c_max": 1,
        "n_plan": 4,
        "n_min_final": 3,
    },
}
PRIVATE = {"epsilon": 8, "delta": 1e-3, "nominal_units": 8, "scaling_share": 0.2}
EVALUATE = {"metrics": ["mae"], "bound": [0.0, 2.0], "every": 1}
STEPS = list(Step)


class Killed(BaseException):
    """What nobody catches."""


class Campaign:
    """One campaign over sites whose journals outlive every server."""

    def __init__(self, world: Any, made: Any) -> None:
        self.world, self.made, self.recipe = world, made, Recipe.of(made)
        self.sites = SumSites(SITES, self.vector, campaign=made.hash)
        self.sites.terms = terms(made)
        self.folder = world.state.checkpoints(made.hash)
        world.propose(made)

    def vector(self, name: str, number: int, size: int) -> NDArray[np.int32]:
        """What a site gives in a round: always the same."""
        if size == 1 + len(EVALUATE["metrics"]):
            return self.losses(number)
        encoding = self.recipe.encoding(Kind.TRAIN if number else Kind.SCALE, size)
        assert encoding is not None
        values = np.linspace(1, 2, size) if number == 0 else np.linspace(-1, 1, size) * (number + SITES.index(name))
        return np.rint(values * encoding.grid.scale * 1e-3 ** (number > 0)).astype(np.int32)

    def losses(self, number: int) -> NDArray[np.int32]:
        """Of four held-out units: half the bound's width each after round 1, and less after round 3."""
        encoding = self.recipe.encoding(Kind.EVALUATE, 2)
        assert encoding is not None
        return np.rint(np.array([4.0, 2.0 / number]) * encoding.grid.scale).astype(np.int32)

    def lead(self, odd: Odd = lambda number, attempt, step, site: None) -> None:
        """A server that leads it until it ends or is killed."""
        self.sites.odd = odd

        def assemble(size: int) -> SecureSum:
            post = Post(self.sites, clock=self.sites.clock, wait=self.sites.wait)
            return SecureSum(post, self.sites.terms, self.sites.identities, ROSTER, clock=self.sites.clock)

        checkpoints = Checkpoints(self.folder)
        Conductor(self.made, self.world.store, checkpoints, assemble, clock=self.sites.clock, pause=lambda: None).run()

    @property
    def begun(self) -> list[tuple[int, int]]:
        return [(one.round, one.attempt) for one in self.sites.manifests]

    @property
    def entries(self) -> list[Any]:
        return list(self.world.store.rounds(self.made.hash))

    @property
    def model(self) -> NDArray[np.float32]:
        return load_file(self.folder / "final.safetensors")["parameters"]

    def expected(self) -> NDArray[np.float32]:
        """FedAvg of what all sites gave in each round, by arithmetic."""
        model = self.recipe.initial()
        parameters = model.read()[model.layout.shared]
        encoding = self.recipe.encoding(Kind.TRAIN, parameters.size)
        assert encoding is not None
        for number in range(1, self.made.strategy.rounds + 1):
            total = np.sum([self.vector(name, number, parameters.size) for name in SITES], axis=0)
            parameters = parameters + (encoding.total(total.astype(np.int32)) / len(SITES)).astype(np.float32)
        return parameters

    @property
    def charged(self) -> int:
        return int(json.loads((self.folder / "statement.json").read_bytes())["deployment"]["rounds_charged"])


@pytest.fixture
def campaign(world: Any, plan: Any) -> Callable[..., Campaign]:
    def made(name: str, evaluate: object = None, **privacy: object) -> Campaign:
        changes = {**SUMS, "privacy": {**SUMS["privacy"], **privacy}}  # type: ignore[dict-item]
        changes |= {} if evaluate is None else {"evaluate": evaluate}
        return Campaign(world, plan(campaign=name, **changes))

    return made


def once(number: int, step: Step, what: Any, attempts: tuple[int, ...] = (1,)) -> Odd:
    """The first site does so in one round."""
    odd = at(step, SITES[:1], what, attempts)
    return lambda at_round, attempt, where, site: odd(at_round, attempt, where, site) if at_round == number else None


def test_every_round_is_one_sum_and_what_was_signed_is_kept_as_a_chain(campaign: Any) -> None:
    one = campaign("whole")
    one.lead()
    assert one.begun == [(number, 1) for number in range(4)]
    assert [(entry.outcome, tuple(entry.reported)) for entry in one.entries] == [(Outcome.FINISHED, SITES)] * 4
    kept = one.world.store.certificates(one.made.hash)
    assert list(kept) == one.begun
    assert [manifest.previous for manifest in one.sites.manifests] == [b"", *[c.digest for c in kept.values()][:-1]]
    for certificate in kept.values():
        assert certificate.began == certificate.dealers == certificate.survivors == SITES
        for site, signature in certificate.signatures.items():
            one.sites.identities[site].verify(signature, certificate_statement(certificate.digest))
    assert {manifest.campaign for manifest in one.sites.manifests} == {one.made.hash}
    assert one.charged == 3


@pytest.mark.parametrize(("number", "step"), [(0, Step.MASK), *((2, step) for step in STEPS)])
def test_a_killed_server_never_uses_an_attempt_again_and_ends_with_the_same_model(
    campaign: Any, number: int, step: Step
) -> None:
    killed = campaign("killed")
    with pytest.raises(Killed):
        killed.lead(once(number, step, Killed()))
    killed.lead()
    assert killed.sites.refusals == {}  # each site's journal took every one of them
    assert len(set(killed.begun)) == len(killed.begun) == 5
    assert killed.begun.index((number, 2)) == killed.begun.index((number, 1)) + 1
    (begun,) = [entry for entry in killed.entries if entry.outcome is Outcome.BEGUN]
    assert (begun.round, begun.attempt, tuple(begun.missing)) == (number, 1, SITES)
    assert begun.released == (STEPS.index(step) >= 2)
    assert killed.charged == 3 + (number > 0 and begun.released)
    assert [entry.round for entry in killed.entries if entry.outcome is Outcome.FINISHED] == list(range(4))
    np.testing.assert_array_equal(killed.model, killed.expected())


def test_attempts_end_with_the_third_over_restarts_too(campaign: Any) -> None:
    one = campaign("ended")
    with pytest.raises(LinkError):
        one.lead(once(1, Step.SHARE, LinkError("JG-server-204", where="stop")))
    silent = at(Step.SHARE, SITES[2:], "silent")
    with pytest.raises(ServerError, match=r"JG-server-342 round 1 .*missing: site-2, site-3, site-4"):
        one.lead(lambda number, *place: silent(number, *place) if number == 1 else None)
    tried = [(entry.attempt, entry.outcome) for entry in one.entries if entry.round == 1]
    assert tried == [(1, Outcome.BEGUN), (2, Outcome.FAILED), (3, Outcome.FAILED)]
    assert [attempt for number, attempt in one.begun if number == 1] == list(range(1, MOST_ATTEMPTS + 1))
    assert one.charged == 0  # no vector was asked for


def test_an_attempt_that_failed_after_vectors_left_is_charged_and_one_before_is_not(campaign: Any) -> None:
    one = campaign("spare", **PRIVATE)
    early, late = at(Step.SHARE, SITES[2:], "silent", [1]), at(Step.UNMASK, SITES[2:], "silent", [1])
    one.lead(lambda number, *place: {1: early, 2: late}.get(number, lambda *_: None)(number, *place))
    outcomes = {(entry.round, entry.attempt): (entry.outcome, entry.released) for entry in one.entries}
    assert outcomes[1, 1] == (Outcome.FAILED, False)
    assert outcomes[2, 1] == (Outcome.FAILED, True)
    assert all(outcomes[number, attempt] == (Outcome.FINISHED, True) for number, attempt in [(1, 2), (2, 2), (3, 1)])
    assert one.charged == 4
    assert one.made.charged_rounds >= 4


def test_who_leaves_is_in_the_record_by_its_own_or_the_servers_code(campaign: Any) -> None:
    one = campaign("left")
    one.lead(once(1, Step.SHARE, "JG-site-311"))
    (entry,) = [entry for entry in one.entries if entry.round == 1]
    assert (entry.abstained, entry.refused, tuple(entry.reported)) == ({"site-0": "JG-site-311"}, {}, SITES[1:])


def test_who_is_proven_to_have_lied_is_in_the_record_and_the_sum_goes_on_without_its_shares(campaign: Any) -> None:
    one = campaign("lied")

    def another_share(wire: Wire) -> Wire:
        said = read_said(Kind.UNMASK, "site-0", wire.body, None)
        shown = Shown.decode(said.message or b"", len(SITES))
        shares = bytes([shown.shares[0] ^ 1]) + shown.shares[1:]
        shown_by = shown_statement(one.sites.h1, "site-0", one.sites.roots("site-0"), shares)
        signature = one.sites.keys["site-0"].sign(shown_by)
        return replace(wire, body=said_body(Said("site-0", Shown(shares, signature).encode())))

    one.lead(once(1, Step.UNMASK, another_share))
    (entry,) = [entry for entry in one.entries if entry.round == 1]
    assert (entry.outcome, entry.blamed, tuple(entry.reported)) == (
        Outcome.FINISHED,
        {"site-0": "JG-sum-017"},
        SITES,
    )


def test_an_evaluation_is_the_sum_after_those_of_its_round_and_is_tried_once(campaign: Any) -> None:
    """Its noise was charged whole before the first: a second sum of one evaluation would have none of its own."""
    one = campaign("judged", evaluate=EVALUATE)
    one.lead(at(Step.MASK, SITES[:3], "silent", (2,)))
    assert one.begun == [(0, 1), (1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]
    assert [list(entry.figures) for entry in one.world.store.evaluations(one.made.hash)] == [[], [], []]

    whole = campaign("judged-whole", evaluate=EVALUATE)
    whole.lead(once(2, Step.MASK, "silent", (1,)))
    assert whole.begun == [(0, 1), (1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]
    entries = whole.world.store.evaluations(whole.made.hash)
    assert [entry.figures["mae"] for entry in entries] == [[pytest.approx(1.0 / n, rel=1e-4), 0.0] for n in (1, 2, 3)]
    assert list(whole.world.store.certificates(whole.made.hash)) == whole.begun
    assert {entry.attempt for entry in whole.entries} == {1}
