"""Laws of a site's spending: what a person says yes to is reserved first, and no name or copy brings budget back."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from consents import allow
from ledgers import cost

from jangin.client import desk
from jangin.client.api import SiteApi
from jangin.client.settings import PrivacyLimits
from jangin.client.spending import allowed
from jangin.client.state import SiteFolder
from jangin.errors import JanginError, SiteError
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.releases import Cost, Reading, Unit
from jangin.records.checks import validate
from jangin.records.generate import generate
from jangin.records.manifest import open_validated
from jangin.trust.commitments import peek_commitment

PRIVATE = {"epsilon": 4.0, "nominal_units": 12}
HALF = 1.165  # noise at which two rounds take 60 % of the default budget


def half(plan: TrainingPlan) -> Cost:
    return cost(noise=HALF * plan.strategy.rounds**0.5 / 2**0.5, rounds=plan.strategy.rounds)


def code_of(do: Callable[[], object]) -> str:
    with pytest.raises(JanginError) as caught:
        do()
    return caught.value.code


@pytest.fixture
def offered(enrolled: SiteFolder, server: Any, ministry: Any, plan: Any) -> Callable[..., str]:
    """Put a private campaign of another name on offer; its hash."""
    enrolled.write_settings(enrolled.settings().model_copy(update={"privacy": PrivacyLimits()}))

    def offered(name: str, **changed: Any) -> str:
        made = plan(campaign=name, privacy=PRIVATE | changed)
        server.plans.append(ministry.signed(made))
        return made.hash

    return offered


def of_own_copy(folder: SiteFolder, copy: Path) -> Path:
    """Copy the records and have site.yaml point at the copy."""
    settings = folder.settings()
    (block,) = settings.data
    shutil.copytree(folder.path / block.path, copy)
    moved = settings.model_copy(update={"data": (block.model_copy(update={"path": str(copy)}),)})
    folder.write_settings(moved)
    return copy


def ingested_anew(records: Path) -> None:
    """Other ids, other masters, another hold-out."""
    for file in [records / "episodes.parquet", *records.glob("streams/*/*.parquet")]:
        table = pq.ParquetFile(file).read()
        ids = pc.binary_join_element_wise(pa.scalar("new"), table["episode_id"].cast(pa.string()), "-")
        table = table.set_column(table.column_names.index("episode_id"), "episode_id", ids)
        if "master" in table.column_names:
            masters = pa.array(["somebody else"] * len(table))
            table = table.set_column(table.column_names.index("master"), "master", masters)
        pq.write_table(table, file)
    (records / "manifest.json").unlink()
    (records / "holdout.key").unlink()
    validate(records).require(records)


def test_a_yes_reserves_first_and_what_overruns_is_refused_with_what_is_left(
    enrolled: SiteFolder, server: Any, offered: Callable[..., str]
) -> None:
    first, second = offered("first-campaign"), offered("second-campaign")
    approved = desk.approve(enrolled.path, first, half)
    assert approved is not None
    assert (approved.reservation.left_out, approved.reservation.known) == (0, 0)
    with pytest.raises(JanginError, match=r"JG-privacy-020 .* has more than [0-9]+ % left") as refused:
        desk.approve(enrolled.path, second, half)
    asked, left = (refused.value.coded.values[name] for name in ("asked", "left"))
    assert isinstance(asked, float)
    assert isinstance(left, float)
    assert 50 < asked < 100
    assert left == pytest.approx(100 - asked)
    with enrolled.journal() as journal:
        assert journal.approval(second) is None
    assert len(server.approvals) == 1
    again = desk.approve(enrolled.path, first, half)
    assert again is not None
    assert again.reservation == approved.reservation


def test_a_copy_under_another_name_has_no_fresh_budget(
    enrolled: SiteFolder, offered: Callable[..., str], tmp_path: Path
) -> None:
    desk.approve(enrolled.path, offered("first-campaign"), half)
    of_own_copy(enrolled, tmp_path / "another name")
    second = offered("second-campaign")
    assert code_of(lambda: desk.approve(enrolled.path, second, half)) == "JG-privacy-020"


def test_recordings_ingested_anew_have_no_fresh_budget(
    enrolled: SiteFolder, offered: Callable[..., str], tmp_path: Path
) -> None:
    """Only those may still pay that the first hold-out kept out of the first campaign."""
    records = of_own_copy(enrolled, tmp_path / "another name")
    before = open_validated(records)[1]
    first, second = offered("first-campaign"), offered("second-campaign")
    desk.approve(enrolled.path, first, half)
    ingested_anew(records)
    allow(enrolled.path)
    manifest = open_validated(records)[1]
    assert not set(manifest.contents) & set(before.contents)
    held = {digest for unit in before.holdout for digest in before.contents[unit].values()}
    fresh = held & {digest for unit in manifest.train for digest in manifest.contents[unit].values()}
    if fresh:
        approved = desk.approve(enrolled.path, second, half)
        assert approved is not None
        assert approved.reservation.left_out == len(manifest.train) - len(fresh)
    else:
        assert code_of(lambda: desk.approve(enrolled.path, second, half)) == "JG-privacy-020"
    with enrolled.ledger() as ledger:
        assert ledger.episodes(second) == {bytes.fromhex(digest) for digest in fresh}


def test_new_recordings_have_a_budget_of_their_own(
    enrolled: SiteFolder, offered: Callable[..., str], tmp_path: Path
) -> None:
    desk.approve(enrolled.path, offered("first-campaign"), half)
    settings = enrolled.settings()
    (made,) = generate("steel.bof_blow", tmp_path / "new", sites=1, masters=2, episodes=8, seed=77)
    validate(made).require(made)
    block = settings.data[0].model_copy(update={"path": str(made)})
    enrolled.write_settings(settings.model_copy(update={"data": (block,)}))
    approved = desk.approve(enrolled.path, offered("second-campaign"), half)
    assert approved is not None
    assert (approved.reservation.left_out, approved.reservation.known) == (0, 0)


def test_a_campaign_that_is_over_frees_what_it_never_spent(
    enrolled: SiteFolder, server: Any, offered: Callable[..., str]
) -> None:
    first, second = offered("first-campaign"), offered("second-campaign")
    desk.approve(enrolled.path, first, half)
    assert code_of(lambda: desk.approve(enrolled.path, second, half)) == "JG-privacy-020"
    server.state = "aborted"
    desk.campaigns(enrolled.path)
    with enrolled.ledger() as ledger:
        assert ledger.accounts[first].ended
    assert code_of(lambda: desk.approve(enrolled.path, first, half)) == "JG-privacy-028"
    server.state = "running"
    assert desk.approve(enrolled.path, second, half) is not None


def test_a_yes_that_is_taken_back_frees_what_was_never_spent_and_is_never_given_again(
    enrolled: SiteFolder, offered: Callable[..., str]
) -> None:
    first, second = offered("first-campaign"), offered("second-campaign")
    desk.approve(enrolled.path, first, half)
    for wrong in ("", first[:7], "0" * 64, "f" * 8):
        assert code_of(lambda wrong=wrong: desk.decline(enrolled.path, wrong)) == "JG-site-316"
    assert desk.decline(enrolled.path, first[:8]) == desk.decline(enrolled.path, first) == first
    assert not next(one for one in desk.campaigns(enrolled.path) if one.hash == first).approved
    assert code_of(lambda: desk.approve(enrolled.path, first, half)) == "JG-privacy-028"
    assert desk.approve(enrolled.path, second, half) is not None


def test_a_ledger_put_back_with_its_anchor_is_noticed_by_what_the_server_kept(
    enrolled: SiteFolder, offered: Callable[..., str], tmp_path: Path
) -> None:
    files = ("ledger.sqlite", "ledger.head")
    for name in files:
        shutil.copy2(enrolled.path / name, tmp_path / name)
    first = offered("first-campaign")
    desk.approve(enrolled.path, first, half)
    for name in files:
        shutil.copy2(tmp_path / name, enrolled.path / name)
    for waste in enrolled.path.glob("ledger.sqlite-*"):
        waste.unlink()
    assert code_of(lambda: desk.campaigns(enrolled.path)) == "JG-privacy-026"
    assert code_of(lambda: desk.approve(enrolled.path, first, half)) == "JG-privacy-026"


def test_a_commitment_that_this_site_never_made_is_refused(
    enrolled: SiteFolder, server: Any, ministry: Any, offered: Callable[..., str]
) -> None:
    desk.approve(enrolled.path, offered("first-campaign"), half)
    server.commitments.append(server.approvals[0])
    assert code_of(lambda: desk.campaigns(enrolled.path)) == "JG-site-111"


def test_a_ledger_that_is_gone_is_not_made_anew(enrolled: SiteFolder, offered: Callable[..., str]) -> None:
    first = offered("first-campaign")
    for file in enrolled.path.glob("ledger.*"):
        file.unlink()
    assert code_of(lambda: desk.approve(enrolled.path, first, half)) == "JG-privacy-027"
    assert not list(enrolled.path.glob("ledger.*"))


def test_the_settings_decide_what_may_be_asked(enrolled: SiteFolder, offered: Callable[..., str], plan: Any) -> None:
    large, bare, fitting = offered("large", epsilon=5.0), offered("bare", epsilon="none"), offered("fitting")
    assert code_of(lambda: desk.approve(enrolled.path, large, half)) == "JG-privacy-031"
    assert code_of(lambda: desk.approve(enrolled.path, bare, lambda _: None)) == "JG-privacy-024"
    desk.approve(enrolled.path, fitting, half)
    (block,) = enrolled.settings().privacy.budgets
    raised = PrivacyLimits(budgets=(block.model_copy(update={"secure_sum": 9.0}),))
    enrolled.write_settings(enrolled.settings().model_copy(update={"privacy": raised}))
    assert code_of(lambda: desk.approve(enrolled.path, fitting, half)) == "JG-privacy-021"


def test_of_recordings_with_one_content_one_takes_part(
    enrolled: SiteFolder, offered: Callable[..., str], tmp_path: Path
) -> None:
    records = of_own_copy(enrolled, tmp_path / "doubled")
    for file in [records / "episodes.parquet", *records.glob("streams/*/*.parquet")]:
        table = pq.ParquetFile(file).read()
        ids = pc.binary_join_element_wise(table["episode_id"].cast(pa.string()), pa.scalar("again"), "-")
        twin = table.set_column(table.column_names.index("episode_id"), "episode_id", ids)
        pq.write_table(pa.concat_tables([table, twin]), file)
    (records / "manifest.json").unlink()
    validate(records).require(records)
    hash_ = offered("first-campaign")
    desk.approve(enrolled.path, hash_, half)
    _, manifest = open_validated(records)
    with enrolled.ledger() as ledger:
        keys, units = ledger.episodes(hash_), ledger.units(hash_)
        assert ledger.spent(Unit.EPISODE, Reading.SECURE_SUM) > 0
    taking_part = allowed(Unit.EPISODE, manifest, units, keys)
    assert len(taking_part) == len(keys) < len(manifest.train)
    assert len({name.removesuffix("-again") for name in taking_part}) == len(taking_part)


def test_totals_are_shown_only_where_the_site_chose_to(
    enrolled: SiteFolder, server: Any, offered: Callable[..., str]
) -> None:
    first = offered("first-campaign")
    desk.approve(enrolled.path, first, half)
    assert peek_commitment(server.commitments[-1]).totals == ()
    limits = enrolled.settings().privacy.model_copy(update={"show_totals": True})
    enrolled.write_settings(enrolled.settings().model_copy(update={"privacy": limits}))
    desk.approve(enrolled.path, first, half)
    with enrolled.ledger() as ledger:
        spent = {reading: ledger.spent(Unit.EPISODE, reading) for reading in Reading}
    shown = peek_commitment(server.commitments[-1]).totals
    assert {total.reading: total.epsilon for total in shown} == spent
    assert {(total.unit, total.campaigns, total.delta) for total in shown} == {("episode", 1, 1e-5)}
    assert "totals" in desk.status(enrolled.path).egress[-2].says["en"]


def test_whose_word_of_the_ledger_was_overtaken_tells_what_both_have_written(
    enrolled: SiteFolder, offered: Callable[..., str]
) -> None:
    desk.approve(enrolled.path, offered("first-campaign"), half)
    told: list[int] = []

    class Overtaken:
        """A server that another process of this site reaches first."""

        writes = True

        def commit(self, envelope: bytes) -> None:
            told.append(peek_commitment(envelope).entries)
            if len(told) > 1 and told[-1] > told[-2]:
                return
            if self.writes:
                with enrolled.ledger() as other:
                    other.end(next(iter(other.accounts)), desk.now_utc())
            raise SiteError("JG-site-301", where="here", what="commit", answer="JG-server-319", message="")

    api = Overtaken()
    with enrolled.ledger() as ledger:
        before = ledger.head.entries
        assert desk.commit(cast(SiteApi, api), enrolled, ledger, desk.now_utc) == ledger.head
        assert told == [before, before + 1]
        api.writes = False  # a ledger that is really behind is said so, once
        with pytest.raises(SiteError, match="JG-site-301"):
            desk.commit(cast(SiteApi, api), enrolled, ledger, desk.now_utc)
        assert told == [before, before + 1, before + 1]
