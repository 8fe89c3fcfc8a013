"""Laws of the registry: a version is one manifest and its files for ever, and its aliases move by three acts alone."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from jangin.errors import JanginError
from jangin.plan.training_plan import TrainingPlan
from jangin.server import registry as module
from jangin.server import tables
from jangin.server.audit import exported, verify
from jangin.server.life import State
from jangin.server.registry import Registered, contributors
from jangin.server.store import EvaluationEntry, Outcome, RoundEntry
from jangin.trust.envelope import Kind, seal
from jangin.trust.keys import Identity
from jangin.trust.models import FILES, verify_receipt, verify_release

Plan = Callable[..., TrainingPlan]
EVALUATED = {
    "sites.invite": [f"site-{number}" for number in range(6)],
    "evaluate": {"metrics": ["mae"], "bound": [0, 5], "every": 2},
}


def refused(code: str, act: Callable[[], object]) -> None:
    with pytest.raises(JanginError) as error:
        act()
    assert error.value.code == code


def aliases(world: Any) -> dict[str, int]:
    return {str(alias): one.manifest.version for one in world.registry.versions() for alias in one.aliases}


def states(world: Any) -> list[str]:
    return [str(one.state) for one in world.registry.versions()]


def test_versions_of_a_line_are_numbered_and_live_as_their_campaigns_do(
    world_on: Any, database_url: str, plan: Plan
) -> None:
    world = world_on(database_url)
    one, two, three = (
        world.registry.register(world.learnt(plan(seed=seed), "site-0", "site-1"), world.now) for seed in (1, 2, 3)
    )
    assert [found.manifest.name for found in (one, two, three)] == [f"national-bof-blow@{n}" for n in (1, 2, 3)]
    assert (states(world), aliases(world)) == (["candidate"] * 3, {"candidate": 3})
    world.release(one)
    assert (states(world), aliases(world)) == (["released", "candidate", "candidate"], {"candidate": 3, "national": 1})
    world.release(three)
    assert (states(world), aliases(world)) == (["superseded", "candidate", "released"], {"national": 3, "previous": 1})
    refused("JG-server-445", lambda: world.release(two))
    world.withdraw(three)
    assert (states(world), aliases(world)) == (["superseded", "candidate", "withdrawn"], {"previous": 1})
    refused("JG-server-332", lambda: world.release(three))
    refused("JG-server-332", lambda: world.withdraw(three))
    entries, head = world.store.database.audit_head()
    lines = exported(world.store.database.audit(), entries, head, world.now, world.state.audit_key)
    lives = verify(lines, world.state.audit_key.public).campaigns
    assert [str(lives[found.manifest.campaign]) for found in (one, two, three)] == states(world)


def test_a_campaign_is_one_version_however_often_it_is_registered(world: Any, plan: Plan) -> None:
    campaign = world.learnt(plan(seed=7), "site-0", "site-2")
    one = world.registry.register(campaign, world.now)
    assert world.registry.register(campaign, world.now) == one
    assert world.store.campaign(campaign).state is State.CANDIDATE
    manifest = verify_receipt(one.receipt, world.state.audit_key.public)
    assert (manifest.campaign, manifest.operator, manifest.contributors) == (campaign, "operator", ("site-0", "site-2"))
    assert (manifest.parameters, manifest.privacy) == (4, "NO DIFFERENTIAL PRIVACY")
    folder = world.registry.folder(manifest)
    assert sorted(file.name for file in folder.iterdir()) == sorted(FILES)
    np.testing.assert_array_equal(load_file(folder / FILES[0])["parameters"], np.full(4, 7, np.float32))
    assert world.registry.verify(one, world.members.staff(world.now), world.now) is None


def test_who_proposed_a_campaign_is_its_record_or_of_an_older_one_its_operator_s_signature(
    world: Any, plan: Plan
) -> None:
    for seed, kept in enumerate(("both", "")):
        campaign = world.learnt(plan(seed=seed), "site-0", "site-1", proposer="both")
        with world.store.database.writing() as database:
            database.execute(tables.campaigns.update().where(tables.campaigns.c.hash == campaign).values(proposer=kept))
        assert world.registry.register(campaign, world.now).manifest.operator == "both"


@pytest.mark.parametrize("torn", ["_looked_at", "_put", "_point"])
def test_a_registration_that_breaks_off_leaves_nothing_half_and_is_done_over(
    world: Any, plan: Plan, torn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a crash at these places would: what the transaction wrote is gone, and folders count for nothing."""
    campaign = world.learnt(plan(), "site-0", "site-1")
    whole, written = getattr(module, torn), world.store.database.audit_head()

    def breaks(*arguments: Any) -> None:
        whole(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, torn, breaks)
        with pytest.raises(KeyboardInterrupt):
            world.registry.register(campaign, world.now)
    assert (world.registry.versions(), world.store.campaign(campaign).state) == ([], State.EVALUATING)
    assert world.store.database.audit_head() == written
    one = world.registry.register(campaign, world.now)
    assert one.manifest.version == 1
    assert [file.name for file in world.state.models.glob("*/*")] == ["1"]
    world.registry.verify(one, world.members.staff(world.now), world.now)


def test_without_a_whole_final_model_nothing_is_registered(world: Any, plan: Plan) -> None:
    for seed, (name, content) in enumerate(
        [("statement.json", None), ("final.safetensors", b"pickle"), ("scaling.json", b"{"), ("statement.json", b"{}")]
    ):
        campaign = world.learnt(plan(seed=seed), "site-0", "site-1")
        file = world.state.checkpoints(campaign) / name
        file.unlink() if content is None else file.write_bytes(content)
        refused("JG-server-450", lambda campaign=campaign: world.registry.register(campaign, world.now))
    assert world.registry.versions() == []


def test_only_an_approver_who_did_not_propose_it_releases_a_model(world: Any, plan: Plan) -> None:
    staff = world.members.staff(world.now)
    one = world.registry.register(world.learnt(plan(seed=1), "site-0", "site-1"), world.now)
    for person, code in (("operator", "117"), ("independent", "117")):
        refused(f"JG-site-{code}", lambda person=person: world.release(one, person))
    own = one.manifest.model_copy(update={"operator": "both"})
    envelope = seal(Kind.MODEL, own.payload, world.keys["both"])
    refused("JG-site-118", lambda: world.registry.release(envelope, staff, world.now))
    refused("JG-site-112", lambda: world.registry.release(one.receipt, staff, world.now))
    stranger = seal(Kind.MODEL, one.manifest.payload, Identity.generate())
    refused("JG-site-112", lambda: world.registry.release(stranger, staff, world.now))
    for change in ({"contributors": ("site-0",)}, {"files": dict.fromkeys(FILES, one.manifest.files[FILES[0]])}):
        other = seal(Kind.MODEL, one.manifest.model_copy(update=change).payload, world.keys["approver"])
        refused("JG-server-446", lambda other=other: world.registry.release(other, staff, world.now))
    assert states(world) == ["candidate"]
    assert world.release(one, "both").state is State.RELEASED


def test_a_released_version_may_be_signed_anew_and_stays_what_it_is(world: Any, plan: Plan) -> None:
    one = world.released(plan(), "site-0", "site-1")
    again = world.release(one, "both")
    staff = world.members.staff(world.now)
    assert verify_release(again.release, staff, world.now)[1] == "both"
    assert (again.manifest, again.state, again.aliases) == (one.manifest, one.state, one.aliases)


def test_a_withdrawal_is_of_one_manifest(world: Any, plan: Plan) -> None:
    one, two = (world.released(plan(seed=seed), "site-0", "site-1") for seed in (1, 2))
    lie = Registered(two.manifest.model_copy(update={"version": 1}), two.state, (), b"", None, None)
    refused("JG-server-446", lambda: world.withdraw(lie))
    refused("JG-site-117", lambda: world.withdraw(one, person="independent"))
    assert world.withdraw(one).withdrawal is not None
    assert aliases(world) == {"national": 2}
    assert world.store.campaign(one.manifest.campaign).reason == "it fails on thin plates"


def test_contributors_gave_to_the_chosen_model_or_to_its_choice_and_nobody_else(world: Any, plan: Plan) -> None:
    made = plan(**EVALUATED)
    campaign = world.propose(made)

    def attempt(number: int, *reported: str, outcome: Outcome = Outcome.FINISHED, attempt: int = 1) -> None:
        world.store.record(campaign, RoundEntry(number, attempt, outcome, reported, {}, {}, (), 1.0))

    attempt(0, "site-0")
    attempt(1, "site-5", outcome=Outcome.FAILED)
    attempt(1, "site-1", attempt=2)
    attempt(2, "site-1")
    attempt(3, "site-4")
    attempt(4, "site-4")
    assert contributors(world.store, made) == ("site-0", "site-1", "site-4")
    for number, figure in ((2, 1.0), (4, 2.0)):
        figures = {"mae": [figure, 0.1]}
        world.store.record_evaluation(campaign, EvaluationEntry(number, figures, ["site-2"], {}, {}, [], 1.0))
    assert contributors(world.store, made) == ("site-0", "site-1", "site-2")


def test_influence_goes_on_through_parents(world: Any, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = (
        world.released(plan(seed=seed), site) for seed, site in ((1, "site-0"), (2, "site-1"), (3, "site-2"))
    )
    parents = {2: 1, 3: 2}
    known = [
        Registered(
            found.manifest.model_validate(
                found.manifest.model_dump()
                | {"parents": [{"line": one.manifest.line, "version": parents[number]}] if number in parents else []}
            ),
            found.state, found.aliases, found.receipt, found.release, found.withdrawal,
        )
        for number, found in enumerate((one, two, three), 1)
    ]  # fmt: skip
    registry = world.registry
    monkeypatch.setattr(registry, "versions", lambda line="": known)
    for site, expected in (("site-0", [1, 2, 3]), ("site-1", [2, 3]), ("site-2", [3]), ("site-9", [])):
        assert [found.manifest.version for found in registry.influenced(site)] == expected


def test_a_file_that_changed_is_noticed(world: Any, plan: Plan) -> None:
    one = world.released(plan(), "site-0", "site-1")
    staff = world.members.staff(world.now)
    assert world.registry.verify(one, staff, world.now) == "approver"
    file = world.registry.folder(one.manifest) / "scaling.json"
    file.write_bytes(file.read_bytes() + b" ")
    refused("JG-server-447", lambda: world.registry.verify(one, staff, world.now))
    file.unlink()
    refused("JG-server-447", lambda: world.registry.verify(one, staff, world.now))


def test_a_name_that_is_none_is_refused(world: Any, plan: Plan) -> None:
    world.released(plan(), "site-0", "site-1")
    for name in ("", "national-bof-blow@9", "national-bof-blow@0", "../x", "other", "x@latest"):
        refused("JG-server-440", lambda name=name: world.registry.find(name))
    for known in ("national-bof-blow", "national-bof-blow@1", "national-bof-blow@national"):
        assert world.registry.find(known).manifest.version == 1


def test_two_registrations_at_once_have_two_numbers(world_on: Any, database_url: str, plan: Plan) -> None:
    world = world_on(database_url)
    found = [world.learnt(plan(seed=seed), "site-0", "site-1") for seed in range(4)]
    gate = threading.Barrier(len(found))

    def register(campaign: str) -> None:
        gate.wait()
        world.registry.register(campaign, world.now)

    threads = [threading.Thread(target=register, args=(campaign,)) for campaign in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = world.registry.versions()
    assert [one.manifest.version for one in known] == [1, 2, 3, 4]
    for one in known:
        world.registry.verify(one, world.members.staff(world.now), world.now)
