"""Laws of consent: who did not say yes has no part, whatever an index or a manifest says, and no record is opened."""

import json
import random
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from consents import LONG_AGO, allow
from hypothesis import given
from hypothesis import strategies as st

from jangin.client import accounts, consent, desk
from jangin.client.consent import Verdict
from jangin.client.daemon import Daemon
from jangin.client.door import outward
from jangin.client.gate import clear
from jangin.client.master import statement, told
from jangin.client.state import SiteFolder, Task
from jangin.client.workbench import Done, Job
from jangin.client.worker import Trainer
from jangin.codec import cbor
from jangin.errors import JanginError, PlanError, SiteError
from jangin.flower_link.wire import Wire
from jangin.models.lines import columns_read, read_line
from jangin.plan.messages import Kind, Order, Reply, order_body, order_digest, read_reply, reply_body
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.accounts import cost_form
from jangin.records.manifest import Manifest, Validation, open_validated
from jangin.records.process import read_process
from jangin.records.purposes import Purpose
from jangin.training.price import price
from jangin.training.recipe import Recipe
from jangin.trust.consents import Grant, peek_grant
from jangin.trust.envelope import Kind as Signed
from jangin.trust.envelope import countersign, seal
from jangin.trust.keys import Identity

PROCESS = "steel.bof_blow"
ONE, OTHER = MASTERS = ("S0-M00", "S0-M01")
READ = columns_read(read_line("national-bof-blow"), read_process(PROCESS))
"""What the line of the plans reads of an episode."""

Asked = Callable[[], Any]

_watched: list[list[str]] = []


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _watched:
        _watched[-1].append(str(arguments[0]))


@pytest.fixture(scope="module")
def watch() -> Callable[[], Any]:
    """Within it the names of all files that Python opens are heard."""
    sys.addaudithook(_hear)

    @contextmanager
    def watch() -> Iterator[list[str]]:
        _watched.append([])
        try:
            yield _watched[-1]
        finally:
            _watched.pop()

    return watch


def forget(site: SiteFolder) -> SiteFolder:
    """Nobody has allowed anything."""
    shutil.rmtree(site.consent_folder)
    site.consent_index.unlink()
    return site


def again(site: SiteFolder, **said: Any) -> None:
    """What the masters allow, from now on this alone."""
    forget(site)
    allow(site.path, masters=MASTERS, **said)


def index(site: SiteFolder, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(site.consent_index)) as held, held:
        held.execute(statement, values)


def files(site: SiteFolder) -> list[Path]:
    return sorted(site.consent_folder.glob("*.grant"))


@pytest.fixture
def asked(site: SiteFolder, standing: Any, ministry: Any, plan: Any) -> Asked:
    """What the gate says of an order of a campaign that was approved while everybody allowed it."""
    wanted: TrainingPlan = plan()
    with site.ledger() as ledger:
        desk.reserve(wanted, price, site, ledger, ministry.now)
        account, units, episodes = ledger.accounts[wanted.hash], ledger.units(wanted.hash), ledger.episodes(wanted.hash)
    vector = np.zeros(43, np.float32)
    wire = Wire("train", wanted.hash, 1, order_body(Order(Kind.TRAIN, 1, vector), 60.0), vector)

    def asked(**knows: Any) -> Any:
        told = {"account": account, "units": units, "episodes": episodes}
        return clear(wire, standing(ministry.signed(wanted), **(told | knows)), ministry.now)

    return asked


def refusal(asked: Asked) -> JanginError:
    with pytest.raises(JanginError) as refused:
        asked()
    return refused.value


def no_index(site: SiteFolder) -> None:
    site.consent_index.unlink()


def revoked(site: SiteFolder) -> None:
    for master in MASTERS:
        consent.revoke(site.path, master, clock=desk.now_utc)


def not_countersigned(site: SiteFolder) -> None:
    settings = site.settings()
    key = Identity.generate().public_text
    block = settings.site.model_copy(update={"labour_council_key": key})
    site.write_settings(settings.model_copy(update={"site": block}))


def changed_file(site: SiteFolder) -> None:
    for file in files(site):
        file.write_bytes(file.read_bytes().replace(b'"sig":"', b'"sig":"0', 1))


def lost_file(site: SiteFolder) -> None:
    for file in files(site):
        file.unlink()


def of_another_site(site: SiteFolder) -> None:
    """A grant that another site's key signed, under the same names."""
    site.identity_file.rename(site.path / "kept")
    Identity.generate().save(site.identity_file)
    again(site)
    (site.path / "kept").replace(site.identity_file)


def _yesterday(site: SiteFolder) -> None:
    """Grants of long ago that are over, recorded while they were not."""
    forget(site)
    consent.grant(site.path, MASTERS, list(Purpose), ["all"], date(2021, 1, 1), clock=lambda: LONG_AGO)


def _extended(site: SiteFolder) -> None:
    _yesterday(site)
    index(site, "UPDATE grants SET until = '2099-12-31'")


def _unrevoked(site: SiteFolder) -> None:
    revoked(site)
    index(site, "UPDATE grants SET revoked = 0")


def _invented(site: SiteFolder) -> None:
    """A row for each master that leads to no file, or to another master's."""
    forget(site)
    allow(site.path, masters=[ONE], purposes=["safety"])
    (file,) = files(site)
    index(site, "UPDATE grants SET master = ?", OTHER)
    index(site, "INSERT INTO grants VALUES (?, ?, ?, '2020-01-01', '2099-12-31', 0)", "ab" * 32, ONE, PROCESS)
    assert file.exists()


REASONS: dict[str, tuple[Callable[[SiteFolder], object], str]] = {
    "none": (forget, "JG-site-350"),
    "no index": (no_index, "JG-site-350"),
    "another process": (lambda site: index(site, "UPDATE grants SET process = 'pipe.tig_weld'"), "JG-site-350"),
    "taken back": (revoked, "JG-site-351"),
    "taken back, the index altered": (_unrevoked, "JG-site-351"),
    "over": (_yesterday, "JG-site-352"),
    "over, the index altered": (_extended, "JG-site-352"),
    "another purpose": (lambda site: again(site, purposes=["safety", "quality"]), "JG-site-353"),
    "without the targets": (
        lambda site: again(site, channels=[name for name in READ if not name.startswith("action.")]),
        "JG-site-354",
    ),
    "without the labour side": (not_countersigned, "JG-site-355"),
    "an altered file": (changed_file, "JG-site-356"),
    "a lost file": (lost_file, "JG-site-356"),
    "another site's": (of_another_site, "JG-site-356"),
    "an invented index": (_invented, "JG-site-356"),
}  # fmt: skip


@pytest.mark.parametrize("reason", REASONS)
def test_without_a_yes_that_holds_the_site_abstains_opens_no_record_and_keeps_the_reason(
    site: SiteFolder, asked: Asked, made_records: Path, watch: Any, reason: str
) -> None:
    assert asked().masters.keys() <= set(MASTERS)
    without, code = REASONS[reason]
    without(site)
    with watch() as heard:
        refused = refusal(asked)
    assert (refused.code, outward(refused.code)) == (code, "local")
    assert {Path(name).name for name in heard if name.startswith(str(made_records))} <= {"card.yaml", "manifest.json"}
    assert "manifest.json" in {Path(name).name for name in heard}
    said = str(refused) + repr(refused.coded.values) + refused.coded.text("what", "ko")
    assert not [master for master in MASTERS if master in said]


def test_what_a_line_reads_is_its_inputs_its_context_and_its_targets() -> None:
    assert {"flame.height", "context.humidity", "action.oxygen_volume", "action.blow_duration"} <= set(READ)
    assert len(READ) == len(set(READ))
    assert all(column.count(".") == 1 for column in READ)


def test_named_channels_that_cover_the_line_are_enough(site: SiteFolder, asked: Asked) -> None:
    again(site, channels=list(READ), purposes=["research"])
    assert asked().masters.keys() == set(MASTERS)


def test_who_took_it_back_is_left_out_and_the_others_go_on(site: SiteFolder, asked: Asked, made_records: Path) -> None:
    before = asked()
    consent.revoke(site.path, OTHER, clock=desk.now_utc)
    after = asked()
    manifest = open_validated(made_records)[1]
    assert after.masters == {ONE: before.masters[ONE]}
    assert after.episodes.items() < before.episodes.items()
    assert {manifest.masters[episode] for episode in after.episodes} == {ONE}
    assert (after.cost, after.plan) == (before.cost, before.plan)


def test_a_new_yes_brings_a_master_back_into_a_campaign_that_charged_him(site: SiteFolder, asked: Asked) -> None:
    before = asked()
    consent.revoke(site.path, OTHER, clock=desk.now_utc)
    allow(site.path, masters=[OTHER])
    assert asked() == before


def test_nobody_is_charged_for_what_he_did_not_allow(
    site: SiteFolder, plan: Any, ministry: Any, made_records: Path
) -> None:
    forget(site)
    with site.ledger() as ledger:
        assert refusal(lambda: desk.reserve(plan(), price, site, ledger, ministry.now)).code == "JG-site-350"
        assert ledger.head.entries <= 1
        allow(site.path, masters=[ONE])
        foreseen = accounts.foresee(site, plan(), price, ministry.now)
        desk.reserve(plan(), price, site, ledger, ministry.now)
        charged = ledger.episodes(plan().hash)
    manifest = open_validated(made_records)[1]
    whose = {bytes.fromhex(held[name]): manifest.masters[name] for name, held in manifest.contents.items()}
    assert {whose[digest] for digest in charged} == {ONE}
    assert foreseen.episodes == len(charged)
    assert {manifest.masters[episode] for episode in foreseen.unconsented} == {OTHER}
    assert foreseen.left_out == foreseen.doubles == ()


names = st.sampled_from(["amy", "ben", "cho"])


@given(st.dictionaries(st.sampled_from("abcdef"), st.tuples(names, st.sampled_from("xyz"))), st.frozensets(names))
def test_the_part_of_a_manifest_holds_no_content_that_somebody_else_has(
    held: dict[str, tuple[str, str]], masters: frozenset[str]
) -> None:
    digests = {word: word.encode().hex() * 32 for word in "xyz"}
    whole = Manifest(
        schema_version=1,
        tool_version="0",
        files={},
        validation=Validation(level=1, findings=0, passed=True),
        unit="episode",
        train=tuple(sorted(held)),
        holdout=(),
        contents={name: {name: digests[content]} for name, (_, content) in held.items()},
        masters={name: master for name, (master, _) in held.items()},
    )
    part = whole.of(masters)
    others = {content for master, content in held.values() if master not in masters}
    expected = {name for name, (master, content) in held.items() if master in masters and content not in others}
    assert set(part.train) == set(part.contents) == expected
    assert whole.of({"amy", "ben", "cho"}) == whole


def test_the_worker_believes_the_records_and_not_who_told_it_whose_they_are(made_records: Path, plan: Any) -> None:
    wanted = plan()
    manifest = open_validated(made_records)[1]
    order = Order(Kind.SCALE, 0, np.empty(0, np.float32))
    request = {
        "site": "site-0",
        "plan": cbor.encode(wanted.model_dump(mode="json")),
        "campaign": wanted.hash,
        "records": str(made_records),
        "episodes": {name: manifest.contents[name][name] for name in manifest.train},
        "masters": [ONE],
        "cost": cost_form(price(wanted)),
        "own": None,
        "kind": "scale",
        "round": 0,
        "body": order_body(order, 60.0),
        "vector": None,
    }
    assert Trainer().answer(request) == {"failed": "JG-site-357"}


@pytest.fixture
def council(site: SiteFolder, tmp_path: Path) -> Path:
    """The labour side's key; the site knows its public half."""
    key = Identity.generate()
    key.save(tmp_path / "council")
    settings = site.settings()
    block = settings.site.model_copy(update={"labour_council_key": key.public_text})
    site.write_settings(settings.model_copy(update={"site": block}))
    return tmp_path / "council"


def test_with_a_labour_side_a_grant_counts_once_both_have_signed_it(
    site: SiteFolder, asked: Asked, council: Path, tmp_path: Path
) -> None:
    forget(site)
    (made,) = consent.grant(site.path, [ONE], ["research"], ["all"], date(2099, 1, 1), clock=lambda: LONG_AGO)
    assert made.waits
    assert refusal(asked).code == "JG-site-355"
    shown = consent.to_countersign(made.file, site_key(site, tmp_path))
    assert (shown.grant.master, shown.grant.hash, shown.key) == (ONE, made.hash, site.identity().fingerprint)
    consent.sign_for_labour(shown, council, tmp_path / "signed")
    taken = consent.accept(site.path, tmp_path / "signed")
    assert (taken.hash, taken.file, taken.waits) == (made.hash, made.file, False)
    assert asked().masters.keys() == {ONE}
    settings = site.settings()  # who takes the labour side's key out of site.yaml loses what it signed
    block = settings.site.model_copy(update={"labour_council_key": None})
    site.write_settings(settings.model_copy(update={"site": block}))
    assert refusal(asked).code == "JG-site-356"


def test_a_signature_of_anybody_else_or_over_anything_else_is_no_countersignature(
    site: SiteFolder, council: Path, tmp_path: Path
) -> None:
    (made,) = consent.grant(site.path, [ONE], ["research"], ["all"], date(2099, 1, 1), clock=lambda: LONG_AGO)
    Identity.generate().save(tmp_path / "stranger")
    shown = consent.to_countersign(made.file, site_key(site, tmp_path))
    consent.sign_for_labour(shown, tmp_path / "stranger", tmp_path / "by-another")
    consent.sign_for_labour(shown, council, tmp_path / "good")
    (tmp_path / "broken").write_bytes((tmp_path / "good").read_bytes()[:-1])
    for file in (made.file, tmp_path / "by-another", tmp_path / "broken"):
        assert refusal(lambda file=file: consent.accept(site.path, file)).code == "JG-site-360"
    assert [one.verdict for one in consent.listed(site.path, clock=desk.now_utc) if one.hash == made.hash] == [
        Verdict.NOT_COUNTERSIGNED
    ]


def test_the_labour_side_is_shown_nothing_that_the_site_did_not_sign(site: SiteFolder, tmp_path: Path) -> None:
    (made,) = consent.grant(site.path, [ONE], ["research"], ["all"], date(2099, 1, 1), clock=lambda: LONG_AGO)
    key, stranger, data = site_key(site, tmp_path), Identity.generate(), made.file.read_bytes()
    grant = peek_grant(data)
    other = grant.model_copy(update={"purposes": tuple(Purpose)})
    exchanged = json.loads(seal(Signed.CONSENT, other.payload, stranger))
    exchanged["signatures"] = json.loads(data)["signatures"]
    forged = {
        "nobody": seal(Signed.CONSENT, grant.payload),
        "stranger": seal(Signed.CONSENT, grant.payload, stranger),
        "stranger beside": countersign(data, Signed.CONSENT, stranger),
        "other words": json.dumps(exchanged, sort_keys=True, separators=(",", ":")).encode(),
    }
    for envelope in forged.values():
        (tmp_path / "forged").write_bytes(envelope)
        assert refusal(lambda: consent.to_countersign(tmp_path / "forged", key)).code == "JG-site-440"
    (tmp_path / "half").write_text("ssh-ed25519 AAAA")
    with pytest.raises(PlanError, match="JG-plan-003 --site-key"):
        consent.to_countersign(made.file, tmp_path / "half")


def site_key(site: SiteFolder, folder: Path) -> Path:
    """The site's public key as it gives it to the labour side."""
    (folder / "site.pub").write_text(f"{site.identity().public_text} kr-0421\n")
    return folder / "site.pub"


def test_what_cannot_be_recorded_is_refused_and_leaves_nothing(site: SiteFolder) -> None:
    forget(site)
    good: dict[str, Any] = {
        "masters": [ONE],
        "purposes": ["research"],
        "channels": ["flame.*"],
        "until": date(2099, 1, 1),
        "process": None,
    }
    for changed, code in (
        ({"masters": [ONE, "Hong Gildong"]}, "JG-site-358"),
        ({"channels": ["flame"]}, "JG-site-359"),
        ({"channels": ["flames.*"]}, "JG-site-359"),
        ({"purposes": ["profit"]}, "JG-plan-003"),
        ({"purposes": ["research", "research"]}, "JG-plan-003"),
        ({"until": date(2020, 1, 1)}, "JG-plan-003"),
        ({"process": "no.such"}, "JG-data-001"),
    ):
        refused = refusal(lambda changed=changed: consent.grant(site.path, **(good | changed), clock=desk.now_utc))
        assert refused.code == code
        assert "Hong Gildong" not in str(refused)
    assert not site.consent_folder.exists()
    assert refusal(lambda: consent.revoke(site.path, ONE, clock=desk.now_utc)).code == "JG-site-361"


def test_the_list_says_how_each_grant_stands_and_mends_the_index(site: SiteFolder, asked: Asked) -> None:
    consent.revoke(site.path, OTHER, clock=desk.now_utc)
    (site.consent_folder / f"{'ab' * 32}.grant").write_bytes(b"{}")
    site.consent_index.write_bytes(b"no database")
    assert refusal(asked).code == "JG-site-305"
    found = {(entry.master, entry.verdict) for entry in consent.listed(site.path, clock=desk.now_utc)}
    assert found == {(ONE, Verdict.COVERED), (OTHER, Verdict.REVOKED), ("", Verdict.ALTERED)}
    assert asked().masters.keys() == {ONE}
    forget(site)
    listed = consent.listed(site.path, clock=desk.now_utc)
    assert [(entry.master, entry.verdict, entry.grant) for entry in listed] == [
        (one, Verdict.NONE, None) for one in MASTERS
    ]


@given(st.sampled_from(["flame.height", "flame.width", "context.humidity"]), st.data())
def test_a_grant_releases_what_it_names_and_nothing_beside(column: str, data: Any) -> None:
    channels = data.draw(st.lists(st.sampled_from(["flame.*", "flame.height", "context.*"]), min_size=1, unique=True))
    grant = Grant(
        issued=datetime(2026, 1, 1, tzinfo=UTC), site="s", master="m", process="p", purposes=(Purpose.SAFETY,),
        channels=tuple(channels), until=date(2027, 1, 1), nonce="0" * 32,
    )  # fmt: skip
    stream = column.split(".")[0]
    assert grant.releases(column) == (column in channels or f"{stream}.*" in channels)


@pytest.fixture
def scripted(enrolled: SiteFolder) -> Iterator[list[Job]]:
    """The daemon with a worker that answers at once; the jobs it was given."""
    jobs: list[Job] = []

    def work(job: Job, timeout_s: float) -> Done:
        jobs.append(job)
        size = 0 if job.vector is None else len(job.vector)
        return Done(reply_body(Reply(job.site, np.ones(size, np.float32))), np.ones(size, np.float32), None)

    daemon = Daemon(enrolled, clock=desk.now_utc, jitter=random.Random(7))
    daemon._bench.work = work  # type: ignore[method-assign,assignment]
    thread = threading.Thread(target=daemon.run)
    thread.start()
    yield jobs
    daemon.stop()
    thread.join(20)


def test_who_takes_it_back_while_his_job_waits_for_the_worker_is_not_loaded(enrolled: SiteFolder, plan: Any) -> None:
    wanted: TrainingPlan = plan()
    daemon = Daemon(enrolled, clock=desk.now_utc, jitter=random.Random(7))
    given: list[Job] = []
    daemon._bench.work = lambda job, timeout_s: given.append(job)  # type: ignore[method-assign,assignment,func-returns-value]
    job = SimpleNamespace(masters=MASTERS)
    daemon._done(job, wanted, 0.0)  # type: ignore[arg-type]
    assert given == [job]
    consent.revoke(enrolled.path, ONE, clock=desk.now_utc)
    with pytest.raises(SiteError, match="JG-site-351"):
        daemon._done(job, wanted, 0.0)  # type: ignore[arg-type]
    assert given == [job]


def test_what_was_kept_of_somebody_who_took_it_back_does_not_leave_any_more(site: SiteFolder, asked: Asked) -> None:
    vector = np.zeros(43, np.float32)
    digest = order_digest(Order(Kind.TRAIN, 1, vector)).hex()
    both = {"answered": (1, digest), "took": frozenset(MASTERS)}
    assert asked(**both).again
    consent.revoke(site.path, OTHER, clock=desk.now_utc)
    with pytest.raises(SiteError, match="JG-site-351"):
        asked(**both)
    assert asked(answered=(1, digest), took=frozenset({ONE})).again


def test_one_key_for_both_sides_is_one_signature(site: SiteFolder, asked: Asked) -> None:
    settings = site.settings()
    block = settings.site.model_copy(update={"labour_council_key": site.identity().public_text})
    site.write_settings(settings.model_copy(update={"site": block}))
    assert refusal(asked).code == "JG-site-355"


def test_who_takes_it_back_between_two_rounds_is_in_the_first_alone_and_is_told_so(
    enrolled: SiteFolder, server: Any, ministry: Any, plan: Any, gather: Any, scripted: list[Job], wait: Any
) -> None:
    wanted = plan(strategy={"rounds": 3})
    server.plans.append(ministry.signed(wanted))
    desk.approve(enrolled.path, wanted.hash, price)
    run = server.link.open_run(wanted.hash)
    wait(server.link.online)
    recipe = Recipe.of(wanted)
    start = recipe.initial()
    columns = len(recipe.public_scaling().mean)

    def train(number: int) -> str | None:
        order = Order(Kind.TRAIN, number, start.read()[start.layout.shared], (np.zeros(columns), np.ones(columns)))
        message = run.push("site-0", Wire("train", wanted.hash, number, order_body(order, 60.0), order.vector))
        content = gather(run, message).content
        return read_reply(Kind.TRAIN, "site-0", content.body, content.vector).abstained

    assert train(1) is None
    consent.revoke(enrolled.path, OTHER, clock=desk.now_utc)
    assert train(2) is None
    consent.revoke(enrolled.path, ONE, clock=desk.now_utc)
    assert train(3) == "local"
    assert [set(job.masters) for job in scripted] == [set(MASTERS), {ONE}]
    assert scripted[1].episodes.items() < scripted[0].episodes.items()
    run.close()
    with enrolled.journal() as journal:
        wait(lambda: journal.left(wanted.hash) == {1, 2})
        abstained = [(move.round, move.code) for move in journal.moves(20) if move.state is Task.ABSTAINED]
        assert abstained == [(3, "JG-site-351")]
        for line in journal.egress(100):
            assert not [one for one in MASTERS if one in "".join(line.says.values())]
    for master, rounds in ((ONE, (1, 2)), (OTHER, (1,))):
        held = told(enrolled.path, master, clock=desk.now_utc)
        (share,) = held.shares
        assert (share.campaign, share.trained, share.left) == (wanted.hash, rounds, rounds)
        assert [entry.verdict for entry in held.consents] == [Verdict.REVOKED]
        for lang, sure, never in (
            ("en", "cannot be taken out", "judging workers"),
            ("ko", "빼낼 수 없습니다", "노동자 평가"),
        ):
            text = str(statement(held, lang, date(2026, 11, 21)))
            assert all(word in text for word in (sure, never, "NO DIFFERENTIAL PRIVACY", master))
            assert [one for one in MASTERS if one != master and one in text] == []


def test_of_somebody_who_is_not_here_nothing_is_told(site: SiteFolder) -> None:
    with pytest.raises(SiteError, match="JG-site-358"):
        told(site.path, "nobody", clock=desk.now_utc)
    held = told(site.path, ONE, clock=desk.now_utc)
    assert (held.shares, held.episodes) == ((), 6)
    text = str(statement(held, "en", date(2026, 11, 21)))
    assert "None of your recordings was used." in text
    assert "epsilon" not in text
