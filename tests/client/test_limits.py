"""Laws of the site's own say: what stops an order opens no record, tells nobody why, and needs no restart.

The daemon runs in this process; where it would rest, a test looks at what came of it so far.
"""

import errno
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from jangin.cli.site import site as site_app
from jangin.client import desk, limits, state
from jangin.client.daemon import Daemon
from jangin.client.doctor.checks import CHECKS, Facts
from jangin.client.doctor.findings import Finding
from jangin.client.doctor.visit import visit
from jangin.client.limits import ask, check_hook
from jangin.client.settings import limits_for, size_bytes
from jangin.client.state import Departure, Journal, SiteFolder, Task
from jangin.client.workbench import Done, Job, Workbench
from jangin.errors import JanginError, SiteError
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, Reply, order_body, read_reply, reply_body
from jangin.plan.training_plan import TrainingPlan
from jangin.training.price import price

OPENED: list[str] = []
WATCHING = [False]


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Every file that this process opens, while a test looks."""
    OPENED.clear()
    WATCHING[0] = True
    yield OPENED
    WATCHING[0] = False


def _audit(event: str, values: tuple[Any, ...]) -> None:
    if WATCHING[0] and event == "open" and isinstance(values[0], (str, Path)):
        OPENED.append(str(values[0]))


sys.addaudithook(_audit)


class Watch:
    """Stands where the daemon waits; each time it would, `step` looks, and ends it by True."""

    def __init__(self, daemon: Daemon, step: Callable[[int], bool]) -> None:
        self.daemon, self.step, self.count = daemon, step, 0
        self.real = daemon._bell
        daemon._bell = self  # type: ignore[assignment]

    def put(self, _: None) -> None:
        self.real.put(None)

    def get(self, timeout: float) -> None:
        self.count += 1
        assert self.count < 3000, "It never came to hold."
        if self.step(self.count):
            self.daemon.stop()
        self.real.get(timeout=timeout)


class Asker:
    """One campaign, approved here, and orders of it to a daemon in this process."""

    def __init__(self, site: SiteFolder, server: Any, ministry: Any, plan: TrainingPlan) -> None:
        server.plans.append(ministry.signed(plan))
        desk.campaigns(site.path)
        desk.approve(site.path, plan.hash, price)
        self.site, self.hash, self.run = site, plan.hash, server.link.open_run(plan.hash)
        self.waiting: list[str] = []
        self.answered: dict[str, str] = {}

    def push(self) -> None:
        body = order_body(Order(Kind.SCALE, 0, np.empty(0, np.float32)), 60.0)
        self.waiting.append(self.run.push("site-0", Wire("scale", self.hash, 0, body)))

    def answer(self) -> str | None:
        """The last answer's code; empty where it is none, None where it did not come yet."""
        asked = self.waiting[-1] if self.waiting else ""
        if asked not in self.answered and asked:
            for found in self.run.pull([asked]):
                wire = found.content
                said = read_reply(Kind.SCALE, "site-0", wire.body, wire.vector)
                self.answered[asked] = said.abstained or ""
        return self.answered.get(asked)

    def limit(self, **block: Any) -> None:
        settings = self.site.settings()
        block = settings.limits.model_copy(update=block)  # type: ignore[assignment]
        self.site.write_settings(settings.model_copy(update={"limits": block}))

    def daemon(self) -> Daemon:
        return Daemon(self.site, clock=desk.now_utc, jitter=random.Random(7))

    def codes(self) -> list[tuple[Task, str]]:
        with self.site.journal() as journal:
            return [(move.state, move.code) for move in journal.moves(100)]


@pytest.fixture
def asker(enrolled: SiteFolder, server: Any, ministry: Any, plan: Callable[..., TrainingPlan]) -> Asker:
    return Asker(enrolled, server, ministry, plan())


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The jobs that a worker would have been given; each fails."""
    jobs: list[object] = []

    def work(bench: Workbench, job: object, timeout_s: float) -> None:
        jobs.append(job)
        raise SiteError("JG-site-322", campaign="x", round=0, problem="nobody trains here")

    monkeypatch.setattr(Workbench, "work", work)
    return jobs


def hook(site: SiteFolder, script: str, mode: int = 0o700) -> Path:
    file = site.path / "is_busy.sh"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(mode)
    return file


def shut(site: SiteFolder, code: str) -> dict[str, Any]:
    """Have an order refused by this code; gives what site.yaml has to say for it."""
    match code:
        case "JG-site-381":
            hour = (datetime.now(UTC).hour + 2) % 24
            return {"windows": (f"Mon-Sun {hour:02}:00-{hour:02}:30",), "tz": "Etc/UTC"}
        case "JG-site-382":
            limits.pause(site.path, "", desk.now_utc())
            return {}
        case "JG-site-383":
            hook(site, "exit 3")
        case "JG-site-384":
            hook(site, "exit 0", 0o722)
        case "JG-site-385":
            hook(site, "sleep 60")
        case "JG-site-386":
            return {"disk_free_min": "999999GiB"}
    return {"busy_hook": "./is_busy.sh"}


@pytest.mark.parametrize("number", range(381, 387))
def test_what_stops_an_order_opens_no_record_and_tells_nobody_why(
    asker: Asker,
    made_records: Path,
    begun: list[object],
    opened: list[str],
    number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "_HOOK_SECONDS", 0.3)
    code = f"JG-site-{number}"
    asker.limit(**shut(asker.site, code))

    def step(count: int) -> bool:
        if count == 1:
            asker.push()
        return asker.answer() is not None

    Watch(daemon := asker.daemon(), step)
    daemon.run()
    assert asker.answer() == "local"
    assert asker.codes() == [(Task.ABSTAINED, code)]
    assert begun == []
    read = {Path(name).name for name in opened if name.startswith(str(made_records))}
    assert read <= {"card.yaml", "manifest.json"}
    assert read or number not in range(383, 386)  # of the hook's only when all else clears, by those two
    with asker.site.ledger() as ledger:
        assert ledger.accounts[asker.hash].spent == set()
    with asker.site.journal() as journal:
        assert code not in str([line.says for line in journal.egress()])


def test_a_pause_holds_from_the_next_order_on_and_its_end_too_without_a_restart(
    asker: Asker, begun: list[object]
) -> None:
    def step(count: int) -> bool:
        if count == 1:
            limits.pause(asker.site.path, "", desk.now_utc())
            asker.push()
        elif asker.answer() is not None and len(asker.waiting) == 1:
            assert limits.resume(asker.site.path, desk.now_utc()) is not None
            asker.push()
        return len(asker.waiting) == 2 and asker.answer() is not None

    Watch(daemon := asker.daemon(), step)
    daemon.run()
    told = [code for state, code in asker.codes() if state is Task.ABSTAINED]
    assert told == ["JG-site-382", "JG-site-322"]
    assert len(begun) == 1


def test_the_daemon_polls_on_while_the_busy_hook_thinks_and_begins_once_it_says_free(
    asker: Asker, begun: list[object]
) -> None:
    go = asker.site.path / "go"
    hook(asker.site, f"until [ -e '{go}' ]; do sleep 0.02; done")
    asker.limit(busy_hook="is_busy.sh")
    polls: list[int] = []

    def step(count: int) -> bool:
        if count == 1:
            asker.push()
            asker.push()  # word for word the same: begun once
        if daemon._asked:
            polls.append(count)
            assert begun == [] or go.exists()
        if len(polls) == 8:
            go.touch()
        return asker.answer() is not None

    Watch(daemon := asker.daemon(), step)
    daemon.run()
    assert [code for _, code in asker.codes()] == ["", "", "JG-site-322"]
    assert len(polls) >= 8
    assert len(begun) == 1


def test_a_worker_over_its_memory_costs_one_round_and_the_daemon_goes_on(asker: Asker) -> None:
    asker.limit(memory="128MiB")  # 8 MiB of it for a worker

    def step(count: int) -> bool:
        if count == 1:
            asker.push()
        elif asker.answer() is not None and len(asker.waiting) == 1:
            assert asker.answer() == "local"
            assert daemon._bench.pid is None
            daemon._bench._memory_bytes = 2**40
            asker.push()
        return len(asker.waiting) == 2 and asker.answer() is not None

    Watch(daemon := asker.daemon(), step)
    daemon.run()
    assert asker.answer() == ""
    assert [code for state, code in asker.codes() if code] == ["JG-site-387"]


def full_below(monkeypatch: pytest.MonkeyPatch, name: str) -> list[bool]:
    """A disk that is full for one folder, as long as the list says so; the worker answers at once."""
    full, write = [True], state.write_whole

    def work(bench: Workbench, job: Job, timeout_s: float) -> Done:
        return Done(reply_body(Reply(job.site, np.zeros(3))), None, b"stays here")

    def write_whole(path: Path, content: bytes) -> None:
        if full[0] and path.parent.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    monkeypatch.setattr(Workbench, "work", work)
    monkeypatch.setattr(state, "write_whole", write_whole)
    return full


@pytest.mark.parametrize("folder", ["updates", "own"])
def test_a_disk_that_fills_up_under_an_answer_costs_one_round_and_its_charge_comes_back(
    asker: Asker, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    full = full_below(monkeypatch, folder)

    def step(count: int) -> bool:
        if count == 1:
            asker.push()
        elif asker.answer() is not None and len(asker.waiting) == 1:
            assert asker.answer() == "local"
            with asker.site.ledger() as ledger:
                assert ledger.accounts[asker.hash].spent == set()
            full[0] = False
            asker.push()
        return len(asker.waiting) == 2 and asker.answer() is not None

    Watch(daemon := asker.daemon(), step)
    daemon.run()
    assert asker.answer() == ""
    assert [code for _, code in asker.codes() if code] == ["JG-site-342"]
    with asker.site.ledger() as ledger:
        assert ledger.accounts[asker.hash].spent == {0}  # what was kept before may not leave without its charge


def test_an_abstention_that_a_full_disk_cannot_note_leaves_once_it_can_and_nothing_before(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, refused, note = full_below(monkeypatch, "updates"), [], Journal.move

    def move(journal: Journal, *values: Any) -> None:
        if full[0] and Task.ABSTAINED in values:
            refused.append(values)
            raise SiteError("JG-site-305", where="site.sqlite", problem="database or disk is full")
        note(journal, *values)

    monkeypatch.setattr(Journal, "move", move)

    def step(count: int) -> bool:
        if count == 1:
            asker.push()
        elif full[0] and len(refused) == 2:
            assert asker.answer() is None
            full[0] = False
        elif not full[0] and asker.answer() is not None and len(asker.waiting) == 1:
            assert asker.answer() == "local"  # what failed stays failed: its charge may have come back
            asker.push()
        return len(asker.waiting) == 2 and asker.answer() is not None

    Watch(daemon := asker.daemon(), step)
    daemon.run()
    assert asker.answer() == ""
    assert [code for _, code in asker.codes() if code] == ["JG-site-342"]
    with asker.site.ledger() as ledger:
        assert ledger.accounts[asker.hash].spent == {0}


def test_what_was_begun_and_could_not_be_noted_further_is_lost_and_asked_again(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, note = full_below(monkeypatch, "nowhere"), Journal.take_part

    def take_part(journal: Journal, *values: Any) -> None:
        if full[0]:
            full[0] = False
            raise SiteError("JG-site-305", where="site.sqlite", problem="database or disk is full")
        note(journal, *values)

    monkeypatch.setattr(Journal, "take_part", take_part)

    def step(count: int) -> bool:
        if count == 1 or (not full[0] and len(asker.waiting) == 1):
            asker.push()
        return len(asker.waiting) == 2 and asker.answer() is not None

    Watch(daemon := asker.daemon(), step)
    daemon.run()
    assert asker.answer() == ""
    assert [state for state, _ in asker.codes()][:4] == [Task.GATED, Task.TRAINING, Task.LOST, Task.GATED]


def test_a_hook_is_its_owners_alone_and_is_no_shells_affair(site: SiteFolder, tmp_path: Path) -> None:
    def refused(what: Callable[[Path], None], file: Path) -> str:
        with pytest.raises(SiteError) as refusal:
            what(file)
        return refusal.value.code

    ask(hook(site, "exit 0"))
    ask(hook(site, f'[ $# = 0 ] && [ "$PWD" = \'{site.path.resolve()}\' ] && [ -z "$(cat)" ]'))
    assert refused(ask, hook(site, "exit 1")) == "JG-site-383"
    assert refused(ask, hook(site, "kill -9 $$")) == "JG-site-383"
    for mode in (0o600, 0o720, 0o702):
        assert refused(check_hook, hook(site, "exit 0", mode)) == "JG-site-384"
    assert refused(check_hook, site.path / "nothing.sh") == "JG-site-384"
    assert refused(check_hook, site.path) == "JG-site-384"
    odd = site.path / "is busy; touch here"
    odd.write_bytes(b"\x7fELF no program")
    odd.chmod(0o700)
    assert refused(ask, odd) == "JG-site-384"
    assert not (site.path / "here").exists()
    (tmp_path / "anyone").mkdir()
    (tmp_path / "anyone").chmod(0o777)
    loose = tmp_path / "anyone" / "is_busy.sh"
    loose.write_text("#!/bin/sh\n")
    loose.chmod(0o700)
    link = site.path / "link.sh"
    link.symlink_to(loose)
    assert refused(check_hook, link) == "JG-site-384"
    bent = tmp_path / "anyone" / "bent.sh"
    bent.symlink_to(hook(site, "exit 0"))  # what it points to is ours; where it points, anybody may change
    assert refused(check_hook, bent) == "JG-site-384"
    round_and_round = site.path / "round.sh"
    round_and_round.symlink_to(round_and_round)
    assert refused(check_hook, round_and_round) == "JG-site-384"


def test_a_hook_that_hangs_is_ended_with_what_it_started(
    site: SiteFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wait: Any
) -> None:
    monkeypatch.setattr(limits, "_HOOK_SECONDS", 0.5)
    told = tmp_path / "child"
    with pytest.raises(SiteError, match="JG-site-385"):
        ask(hook(site, f"sleep 600 &\necho $! > '{told}'\nwait"))
    child = Path(f"/proc/{told.read_text().strip()}/stat")
    wait(lambda: not child.exists() or child.read_text().split()[2] == "Z")


def test_a_new_sites_floor_is_never_above_a_quarter_of_what_is_free() -> None:
    for free in (0, 2**20, 3 * 2**30, 39 * 2**30):
        floor = size_bytes(limits_for(free).disk_free_min)
        assert floor == max(free // 4 // 2**20, 1) * 2**20
    assert limits_for(40 * 2**30).disk_free_min == limits_for(2**50).disk_free_min == "10GiB"


def test_a_site_on_a_small_disk_is_made_with_a_floor_that_lets_it_train(
    made_records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2 * 2**30))
    desk.init(tmp_path / "small", "site-0", "steel.bof_blow", made_records)
    assert SiteFolder(tmp_path / "small").settings().limits.disk_free_min == "512MiB"


def answer(*arguments: object, status: int = 0) -> Any:
    done = CliRunner().invoke(site_app, [*map(str, arguments), "--format", "json"])
    if status:
        assert isinstance(done.exception, JanginError)
        return done.exception.code
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def d16(site: SiteFolder, **block: Any) -> Finding:
    settings = site.settings()
    held = settings.model_copy(update={"limits": settings.limits.model_copy(update=block)})
    (found,) = visit(Facts(site, held, desk.now_utc), [check for check in CHECKS if check.id == "D16"])
    return found


def test_pause_says_what_runs_and_how_long_and_status_and_doctor_say_that_it_holds(site: SiteFolder) -> None:
    with site.journal() as journal:
        for number, states in ((1, [Task.GATED, Task.TRAINING]), (2, [Task.GATED, Task.TRAINED])):
            for state in states:
                journal.move("ab" * 32, number, state, desk.now_utc())
    until = (desk.now_utc() + timedelta(hours=2)).replace(microsecond=0)
    first = answer("pause", site.path, "--until", until.isoformat())
    assert first["until"] == until.isoformat()
    assert first["running"] == [{"campaign": "ab" * 32, "round": 1}]
    assert answer("status", site.path)["paused"] is True
    assert d16(site).state == "warn"
    with site.journal() as journal:
        assert journal.paused(until - timedelta(seconds=1)) is not None
        assert journal.paused(until) is None
    assert answer("pause", site.path)["until"] is None
    assert answer("resume", site.path) == {"ok": True, "paused": False}
    assert answer("status", site.path)["paused"] is False
    for odd in ("soon", "9999-12-31T23:59+00:00", "0001-01-01"):
        assert answer("pause", site.path, "--until", odd, status=1) == "JG-site-388"
    assert answer("pause", site.path, "--until", "2020-01-01T00:00", status=1) == "JG-site-389"
    assert answer("status", site.path)["paused"] is False


def test_a_typed_time_is_of_the_sites_zone_and_the_next_or_the_last_of_its_kind() -> None:
    block = limits_for(2**50).model_copy(update={"tz": "Asia/Seoul"})
    noon = datetime(2026, 11, 21, 3, tzinfo=UTC)  # 12:00 in Seoul

    def typed(text: str, *, ahead: bool = True) -> str:
        return limits.moment(text, block, noon, "--until", ahead=ahead).astimezone(UTC).isoformat()

    assert typed("12:30") == "2026-11-21T03:30:00+00:00"
    assert typed("12:00") == "2026-11-22T03:00:00+00:00"
    assert typed("12:30", ahead=False) == "2026-11-20T03:30:00+00:00"
    assert typed("12:00", ahead=False) == "2026-11-21T03:00:00+00:00"
    assert typed("2026-11-22T06:00") == "2026-11-21T21:00:00+00:00"
    assert typed("2026-11-22T06:00+00:00") == "2026-11-22T06:00:00+00:00"


def test_the_doctor_says_whether_a_window_is_open_and_whether_the_hook_can_be_asked(site: SiteFolder) -> None:
    assert d16(site).state == "skipped"
    window = shut(site, "JG-site-381")
    assert (d16(site, **window).state, d16(site, **window).value) == ("ok", "shut")
    assert d16(site, windows=("Mon-Sun 00:00-24:00",)).value == "open"
    missing = d16(site, busy_hook="./nothing.sh")
    assert (missing.state, missing.value) == ("FAIL", "JG-site-384")


def test_egress_is_the_whole_log_or_what_is_not_older_in_both_languages(site: SiteFolder) -> None:
    day = datetime(2026, 11, 20, tzinfo=UTC)
    with site.journal() as journal:
        for hour in range(24):
            said = {"en": f"Said {hour}.", "ko": f"알림 {hour}."}
            journal.log(Departure(day + timedelta(hours=hour), "commit", hour, f"{hour:064x}", said))
    whole = answer("egress", site.path)["egress"]
    assert [line["bytes"] for line in whole] == list(range(24))
    assert whole[5]["says"] == {"en": "Said 5.", "ko": "알림 5."}
    late = answer("egress", site.path, "--since", "2026-11-20T20:00+00:00")["egress"]
    assert [line["bytes"] for line in late] == [20, 21, 22, 23]
    shown = CliRunner().invoke(site_app, ["egress", str(site.path), "--lang", "ko"]).stdout
    assert f"{7:064x}  알림 7." in shown
    assert answer("egress", site.path, "--since", "now", status=1) == "JG-site-388"
