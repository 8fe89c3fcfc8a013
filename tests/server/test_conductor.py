"""Laws of a campaign on the server: it goes on from its last finished round, or says who was missing."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from jangin.errors import LinkError, ServerError
from jangin.models.layout import ParameterLayout
from jangin.plan.messages import Kind, Order, Reply
from jangin.server.checkpoints import Checkpoints
from jangin.server.conductor import MOST_ATTEMPTS, Conductor
from jangin.server.rounds import Progress
from jangin.server.store import Outcome
from jangin.strategies.fedadam import FedAdam
from jangin.strategies.fedavg import FedAvg
from jangin.strategies.fedavgm import FedAvgM
from jangin.strategies.fedyogi import FedYogi
from jangin.strategies.flower import Flower
from jangin.strategies.scaffold import Scaffold
from jangin.training.mechanism import mechanism
from jangin.trust import envelope
from jangin.trust.commitments import Commitment
from jangin.trust.keys import Identity

FEDADAM = {"strategy": {"name": "fedadam", "rounds": 4, "local_steps": 2, "batch": 8, "lr": 0.05, "server_lr": 0.1}}
SITES = ("site-0", "site-1", "site-2")


class Killed(BaseException):
    """What nobody catches."""


class Field:
    """Sites that move half the way to goals of their own; some answer otherwise, in some rounds."""

    def __init__(self, odd: Callable[[int, str], Any] = lambda number, site: None) -> None:
        self.odd = odd
        self.asked: list[tuple[str, int]] = []

    def assemble(self, size: int) -> Any:
        field = self

        class Exchange:
            sites = SITES

            def __init__(self) -> None:
                self.refused: dict[str, str] = {}

            def push(self, order: Order, cohort: Sequence[str]) -> None:
                self.order = order
                field.asked.append((order.kind.value, order.round))

            def pull(self) -> Iterator[Reply]:
                for number, site in enumerate(SITES):
                    odd = field.odd(self.order.round, site)
                    match odd:
                        case None if self.order.kind is Kind.SCALE:
                            yield Reply(site, np.linspace(1, 2, size))
                        case None:
                            assert self.order.scaling is not None
                            yield Reply(site, ((number - self.order.vector) / 2).astype(np.float32))
                        case "missing":
                            pass
                        case "refused":
                            self.refused[site] = "JG-server-340"
                        case str():
                            yield Reply(site, None, odd)
                        case _:
                            raise odd

        return Exchange()


@pytest.fixture
def conduct(world: Any, plan: Any) -> Callable[..., tuple[Field, Any]]:
    """A campaign of its own under each name, led until it ends or is killed; the file of its final model."""

    def lead(name: str, odd: Any = lambda number, site: None, **changes: object) -> Field:
        made, field = plan(campaign=name, **{**FEDADAM, **changes}), Field(odd)
        if made.hash not in {row.hash for row in world.store.campaigns()}:
            world.propose(made)
        folder = world.state.checkpoints(made.hash)
        Conductor(made, world.store, Checkpoints(folder), field.assemble, clock=lambda: 0.0, pause=lambda: None).run()
        return field

    return lead


def final(world: Any, made: Any) -> Any:
    return load_file(world.state.checkpoints(made.hash) / "final.safetensors")["parameters"]


def killed_at(number: int, site: str) -> Callable[[int, str], Any]:
    return lambda at, name: Killed() if (at, name) == (number, site) else None


def named(plan: Any, name: str) -> Any:
    return plan(campaign=name, **FEDADAM)


def test_scaling_then_the_rounds_then_the_model(world: Any, plan: Any, conduct: Any) -> None:
    field = conduct("whole")
    made = named(plan, "whole")
    assert field.asked == [("scale", 0), ("train", 1), ("train", 2), ("train", 3), ("train", 4)]
    entries = world.store.rounds(made.hash)
    assert [(entry.round, entry.attempt, entry.outcome) for entry in entries] == [
        (number, 1, Outcome.FINISHED) for number in range(5)
    ]
    assert all(tuple(entry.reported) == SITES for entry in entries)
    folder = world.state.checkpoints(made.hash)
    assert sorted(file.name for file in folder.iterdir()) == [
        "4.safetensors",
        "final.safetensors",
        "scaling.json",
        "statement.html",
        "statement.json",
    ]
    scaling = json.loads((folder / "scaling.json").read_text())
    assert len(scaling["mean"]) == len(scaling["center"])
    assert np.isfinite(final(world, made)).all()


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("site", SITES)
def test_a_server_killed_in_any_round_ends_with_the_very_same_model(
    world: Any, plan: Any, conduct: Any, number: int, site: str
) -> None:
    conduct("whole")
    with pytest.raises(Killed):
        conduct("killed", killed_at(number, site))
    rest = conduct("killed")
    assert [asked for _, asked in rest.asked] == list(range(number, 5))
    assert np.array_equal(final(world, named(plan, "killed")), final(world, named(plan, "whole")))
    finished = [entry.round for entry in world.store.rounds(named(plan, "killed").hash)]
    assert finished == list(range(5))


def test_a_server_killed_between_checkpoint_and_record_does_the_round_over(
    world: Any, plan: Any, conduct: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    conduct("whole")
    record = world.store.record

    def killed(campaign: str, entry: Any) -> None:
        if entry.round == 2:
            raise Killed
        record(campaign, entry)

    monkeypatch.setattr(world.store, "record", killed)
    with pytest.raises(Killed):
        conduct("killed")
    files = {file.name for file in world.state.checkpoints(named(plan, "killed").hash).iterdir()}
    assert files == {"1.safetensors", "2.safetensors"}
    monkeypatch.undo()
    assert conduct("killed").asked[0] == ("train", 2)
    assert np.array_equal(final(world, named(plan, "killed")), final(world, named(plan, "whole")))


def test_a_round_below_its_quorum_is_tried_again(world: Any, plan: Any, conduct: Any) -> None:
    tries = iter(["missing", "local"])

    def odd(number: int, site: str) -> Any:
        return next(tries, None) if number == 2 and site != "site-0" else None

    field = conduct("tried", odd)
    assert [number for _, number in field.asked] == [0, 1, 2, 2, 3, 4]
    failed, done = (entry for entry in world.store.rounds(named(plan, "tried").hash) if entry.round == 2)
    assert (failed.attempt, failed.outcome, failed.reported) == (1, Outcome.FAILED, ["site-0"])
    assert (failed.missing, failed.abstained) == (["site-1"], {"site-2": "local"})
    assert failed.reason.startswith("JG-server-001")
    assert (done.attempt, done.outcome) == (2, Outcome.FINISHED)


def test_after_three_attempts_it_ends_with_the_names_over_restarts_too(world: Any, plan: Any, conduct: Any) -> None:
    def odd(number: int, site: str) -> Any:
        if number == 2 and site != "site-0":
            return "missing" if site == "site-1" else "refused"
        return None

    lost = {"tries": 0}

    def killed_in_the_third(number: int, site: str) -> Any:
        if (number, site) == (2, "site-0"):
            lost["tries"] += 1
            if lost["tries"] == 3:
                return Killed()
        return odd(number, site)

    with pytest.raises(Killed):
        conduct("ended", killed_in_the_third)
    with pytest.raises(ServerError, match=r"JG-server-342 round 2 .*site-2: JG-server-340, missing: site-1"):
        conduct("ended", odd)
    failed = [entry for entry in world.store.rounds(named(plan, "ended").hash) if entry.outcome is Outcome.FAILED]
    assert [entry.attempt for entry in failed] == list(range(1, MOST_ATTEMPTS + 1))
    assert all((entry.refused, entry.missing) == ({"site-2": "JG-server-340"}, ["site-1"]) for entry in failed)


def test_a_cohort_that_does_not_come_together_is_an_attempt(world: Any, plan: Any) -> None:
    made = named(plan, "nobody")
    world.propose(made)

    def assemble(size: int) -> Any:
        raise ServerError("JG-server-341", where="nobody", online=["site-0"], least=2, missing=["site-1", "site-2"])

    conductor = Conductor(
        made,
        world.store,
        Checkpoints(world.state.checkpoints(made.hash)),
        assemble,
        clock=lambda: 0.0,
        pause=lambda: None,
    )
    with pytest.raises(ServerError, match=r"JG-server-342 round 0 .*missing: site-1, site-2"):
        conductor.run()
    assert [entry.missing for entry in world.store.rounds(made.hash)] == [["site-1", "site-2"]] * 3


def test_a_run_that_ends_is_no_attempt(world: Any, plan: Any, conduct: Any) -> None:
    with pytest.raises(LinkError):
        conduct("run", lambda number, site: LinkError("JG-server-204") if number == 3 else None)
    assert [number for _, number in conduct("run").asked] == [3, 4]
    assert all(entry.attempt == 1 for entry in world.store.rounds(named(plan, "run").hash))


@pytest.mark.parametrize(
    ("share", "least", "reporting", "enough"), [(0.7, 1, 2, False), (0.6, 1, 2, True), (0.1, 2, 1, False)]
)
def test_the_quorum_is_the_plans_share_of_the_cohort_and_at_least_min_sites(
    conduct: Any, share: float, least: int, reporting: int, enough: bool
) -> None:
    def odd(number: int, site: str) -> Any:
        return None if SITES.index(site) < reporting else "missing"

    changes = {"sites.quorum": share, "sites.min_sites": least}
    if enough:
        conduct("quorum", odd, **changes)
    else:
        with pytest.raises(ServerError, match="JG-server-342 round 0"):
            conduct("quorum", odd, **changes)


PRIVATE = {"privacy.epsilon": 8, "privacy.delta": 1e-3, "privacy.nominal_units": 8, "privacy.scaling_share": 0.2}


def stated(world: Any, made: Any) -> Any:
    folder = world.state.checkpoints(made.hash)
    assert made.hash in (folder / "statement.html").read_text(encoding="utf-8")
    return json.loads((folder / "statement.json").read_bytes())


def test_a_campaign_ends_with_the_statement_of_its_privacy(world: Any, plan: Any, conduct: Any) -> None:
    with pytest.raises(Killed):
        conduct("private", killed_at(3, "site-1"), **PRIVATE)
    conduct("private", **PRIVATE)
    made = plan(campaign="private", **{**FEDADAM, **PRIVATE})
    tree = stated(world, made)
    assert tree["deployment"] == {
        "kind": "campaign",
        "name": "private",
        "plan_hash": made.hash,
        "sites": 3,
        "model_line": "national-bof-blow",
        "process": "steel.bof_blow",
        "rounds_planned": 4,
        "rounds_done": 4,
        "rounds_charged": 4,
    }
    promise = mechanism(made.privacy, made.strategy, 8)
    assert promise is not None
    for figures in tree["privacy_loss"]["readings"].values():
        assert figures["epsilon"] == pytest.approx(promise.guarantee.epsilon, rel=1e-6)
    assert {hazard["name"]: hazard["status"] for hazard in tree["privacy_hazards"]}["scaling"] == "charged"


def test_a_campaign_that_ends_early_is_charged_for_what_may_have_left(world: Any, plan: Any, conduct: Any) -> None:
    with pytest.raises(ServerError, match="JG-server-342"):
        conduct("early", lambda number, site: "missing" if number == 3 and site != "site-0" else None, **PRIVATE)
    made = plan(campaign="early", **{**FEDADAM, **PRIVATE})
    tree = stated(world, made)
    rounds = {key: value for key, value in tree["deployment"].items() if key.startswith("rounds")}
    assert rounds == {"rounds_planned": 4, "rounds_done": 2, "rounds_charged": 3}
    promise = mechanism(made.privacy, made.strategy, 8)
    assert promise is not None
    assert tree["privacy_loss"]["readings"]["coalition"]["epsilon"] < promise.guarantee.epsilon


def test_a_statement_carries_the_totals_that_sites_chose_to_show(world: Any, plan: Any, conduct: Any) -> None:
    spent = {"unit": "episode", "reading": "coalition", "campaigns": 3, "epsilon": 5.5, "delta": 1e-5}
    bare = spent | {"reading": "secure_sum", "epsilon": None}
    for site, totals in (("site-0", ()), ("site-1", (spent, bare)), ("site-9", (spent,))):
        fields = {"issued": world.now, "site": site, "entries": 4, "head": "a" * 64, "totals": totals}
        document = Commitment.model_validate(fields)
        signed = envelope.seal(envelope.Kind.COMMITMENT, document.payload, Identity.generate())
        assert world.store.commit(site, 4, "a" * 64, signed)
    conduct("private", **PRIVATE)
    tree = stated(world, plan(campaign="private", **{**FEDADAM, **PRIVATE}))
    shown = [(total["site"], total["reading"], total["epsilon"]) for total in tree["composition"]["shown_totals"]]
    assert shown == [("site-1", "coalition", 5.5), ("site-1", "secure_sum", "NO DIFFERENTIAL PRIVACY")]


def test_a_campaign_without_privacy_says_so(world: Any, plan: Any, conduct: Any) -> None:
    conduct("whole")
    assert stated(world, named(plan, "whole"))["privacy_loss"] == "NO DIFFERENTIAL PRIVACY"


START = np.array([1.0, -2.0, 0.5], np.float32)


@pytest.mark.parametrize(
    "strategy", [FedAvg(), FedAdam(0.1), FedAvgM(), FedYogi(), Scaffold(2, 0.1), Flower("FedAdam")]
)
@pytest.mark.parametrize("scaling", [None, (np.array([0.1, 0.2]), np.array([1.0, 1e-17]))])
def test_a_checkpoint_gives_back_bit_for_bit_what_it_took(tmp_path: Path, strategy: Any, scaling: Any) -> None:
    parameters, state = strategy.update(strategy.init(START), np.array([0.3, 1 / 3, 1e-9]), 2)
    checkpoints = Checkpoints(tmp_path / "campaign")
    checkpoints.save(Progress(7, parameters, state), scaling)
    progress, learnt = checkpoints.load(7, strategy, START)
    assert progress.round == 7
    assert np.array_equal(progress.parameters, parameters)
    assert type(progress.state) is type(state)
    if is_dataclass(state) and not isinstance(state, type):
        for name, value in asdict(state).items():
            assert np.array_equal(getattr(progress.state, name), value)
            assert getattr(progress.state, name).dtype == value.dtype
    assert (learnt is None) == (scaling is None)
    if scaling is not None:
        np.testing.assert_array_equal(learnt, scaling)


def test_the_final_model_has_its_layout_beside_it(tmp_path: Path) -> None:
    layout = ParameterLayout.of([("body.weight", (1, 2)), ("head.bias", (1,))], ("head",))
    Checkpoints(tmp_path).finish(START[:2], layout, {})
    with safe_open(tmp_path / "final.safetensors", "np") as file:
        assert json.loads(file.metadata()["layout"]) == [{"name": "body.weight", "shape": [1, 2], "offset": 0}]
        np.testing.assert_array_equal(file.get_tensor("parameters"), START[:2])


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-4])


def _gone(file: Path) -> None:
    file.unlink()


def _garbage(file: Path) -> None:
    file.write_bytes(b"no tensors at all")


@pytest.mark.parametrize("harm", [_cut, _gone, _garbage])
def test_a_checkpoint_that_was_harmed_is_named(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    checkpoints, strategy = Checkpoints(tmp_path), FedAdam()
    checkpoints.save(Progress.start(strategy, START), None)
    harm(tmp_path / "0.safetensors")
    with pytest.raises(ServerError, match=r"JG-server-343 .*0\.safetensors"):
        checkpoints.load(0, strategy, START)


def test_a_checkpoint_of_another_plan_is_not_gone_on_from(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Progress.start(FedAvg(), START), None)
    other: Mapping[str, tuple[Any, Any]] = {
        "strategy": (FedAdam(), START),
        "model": (FedAvg(), np.zeros(5, np.float32)),
    }
    for strategy, start in other.values():
        with pytest.raises(ServerError, match="JG-server-343"):
            checkpoints.load(0, strategy, start)
