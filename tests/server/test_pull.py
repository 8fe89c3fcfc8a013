"""Laws of pulling a model: a site over TLS gets what an approver released to it, whatever the server says."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jangin.client import desk, models
from jangin.client.daemon import Daemon
from jangin.client.state import SiteFolder
from jangin.errors import JanginError
from jangin.flower_link.link import EmbeddedLink
from jangin.plan.training_plan import TrainingPlan
from jangin.server import registry as module
from jangin.server.api import SiteApi
from jangin.server.members import Members
from jangin.server.registry import Registered, Registry
from jangin.trust.envelope import Kind, seal
from jangin.trust.keys import Identity
from jangin.trust.models import ModelFile, Withdrawal
from jangin.trust.roster import Status

LINE = "national-bof-blow"
Plan = Callable[..., TrainingPlan]


def refused(code: str, act: Callable[[], object]) -> str:
    with pytest.raises(JanginError) as error:
        act()
    assert error.value.code == code, str(error.value)
    return str(error.value)


@pytest.fixture
def listening(world: Any) -> Iterator[str]:
    """The server's site API over TLS, without a conductor that would lead campaigns; its address."""
    members, clock = Members(world.store, world.state.root), desk.now_utc
    api = SiteApi(world.store, members, world.registry, idle_poll_s=5.0, clock=clock)
    with EmbeddedLink(world.state.certificate, world.state.key, site_api=api) as link:
        yield f"127.0.0.1:{link.port}"


@pytest.fixture
def join(world: Any, listening: str, tmp_path: Path) -> Callable[..., list[Path]]:
    """Real sites that are on the roster."""

    def join(*names: str) -> list[Path]:
        given = (tmp_path / "staff" / "root.pub", world.state.authority)
        tokens = {name: world.members.invite(name, world.now) for name in names}
        for name in names:
            desk.init(tmp_path / name, name, "steel.bof_blow", tmp_path)
            desk.enroll(tmp_path / name, f"https://{listening}", tokens[name], *given)
        world.members.confirm(names, [world.keys["operator"], world.keys["independent"]], world.now)
        for name in names:
            assert desk.enroll(tmp_path / name, f"https://{listening}", tokens[name], *given).confirmed
        return [tmp_path / name for name in names]

    return join


def test_a_contributor_pulls_what_was_released_and_others_do_not(
    world: Any, plan: Plan, join: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, other = join("site-0", "site-2")
    monkeypatch.setattr(module, "MOST_PIECE_BYTES", 100)  # several pieces of each file
    refused("JG-site-450", lambda: models.pull(site, LINE))
    one = world.registry.register(world.learnt(plan(), "site-0", "site-1"), world.now)
    assert models.listed(site) == []
    refused("JG-site-450", lambda: models.pull(site, f"{LINE}@1"))
    world.release(one)
    # 1. The contributor has the very bytes, which a folder alone proves.
    pulled = models.pull(site, LINE)
    assert (pulled.manifest, pulled.approver) == (one.manifest, "approver")
    assert pulled.folder == site / "models" / LINE / "1"
    for name in one.manifest.files:
        assert (pulled.folder / name).read_bytes() == (world.registry.folder(one.manifest) / name).read_bytes()
    assert models.verify(pulled.folder, world.state.root, world.now)[0] == one.manifest
    assert models.pull(site, f"{LINE}@1") == pulled
    assert [found.pulled for found in models.listed(site)] == [True]
    with SiteFolder(site).journal() as journal:
        asked = [line for line in journal.egress() if line.kind == "model"]
    assert asked
    assert all("final.safetensors" in line.says["en"] or ".json" in line.says["en"] for line in asked)
    # 2. Who gave nothing gets nothing, also not by asking for the bytes themselves.
    refused("JG-site-450", lambda: models.pull(other, f"{LINE}@1"))
    folder = SiteFolder(other)
    with folder.journal() as journal, desk.open_api(folder, journal, desk.now_utc) as api:
        assert "JG-server-442" in refused("JG-site-301", lambda: api.model(LINE, 1, "scaling.json", 0))
    # 3. A newer one takes its place; the older one stays to be had by its name.
    two = world.released(plan(seed=1), "site-0", "site-1")
    assert models.pull(site, LINE).manifest == two.manifest
    assert models.pull(site, f"{LINE}@previous").manifest == one.manifest
    # 4. What is withdrawn is nobody's any more, and whoever has it is told.
    world.withdraw(two)
    refused("JG-site-450", lambda: models.pull(site, LINE))
    assert "thin plates" in refused("JG-site-454", lambda: models.pull(site, f"{LINE}@2"))
    assert [found.name for found in models.withdrawn(site)] == [f"{LINE}@2"]
    with SiteFolder(site).journal() as journal, desk.open_api(SiteFolder(site), journal, desk.now_utc) as api:
        assert "JG-server-443" in refused("JG-site-301", lambda: api.model(LINE, 2, "scaling.json", 0))


@pytest.mark.parametrize("recipients", ["roster", "public"])
def test_a_plan_may_give_a_model_to_all_who_are_on_the_roster(
    world: Any, plan: Plan, join: Any, recipients: str
) -> None:
    (site,) = join("site-2")
    world.released(plan(**{"governance.release.recipients": recipients}), "site-0", "site-1")
    assert models.pull(site, LINE).manifest.contributors == ("site-0", "site-1")


class Liar:
    """A server that says something else of its models, or gives other bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def offers(self, change: Callable[[list[Registered]], list[Registered]]) -> None:
        honest = Registry.offers
        self._patch.setattr(Registry, "offers", lambda registry, site: change(honest(registry, site)))

    def pieces(self, change: Callable[[str, int, bytes], bytes]) -> None:
        honest = Registry.piece

        def piece(registry: Registry, site: str, line: str, version: int, file: str, offset: int) -> bytes:
            return change(file, offset, honest(registry, site, line, version, file, offset))

        self._patch.setattr(Registry, "piece", piece)


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> Liar:
    return Liar(monkeypatch)


def test_other_bytes_never_stand_under_a_final_name(world: Any, plan: Plan, join: Any, liar: Liar) -> None:
    (site,) = join("site-0")
    one = world.released(plan(), "site-0", "site-1")
    lies: list[Callable[[str, int, bytes], bytes]] = [
        lambda file, offset, data: bytes([data[0] ^ 1]) + data[1:] if file == "final.safetensors" else data,
        lambda file, offset, data: data + b" " if file == "scaling.json" else data,
        lambda file, offset, data: data,
    ]
    liar.pieces(lambda file, offset, data: lies[0](file, offset, data))
    refused("JG-site-453", lambda: models.pull(site, LINE))
    assert not list((site / "models").glob("*/[0-9]*/"))
    lies.pop(0)
    models.pull(site, LINE)  # what is beyond the listed size is not even kept
    # What was spoilt here is fetched again.
    file = site / "models" / LINE / "1" / "final.safetensors"
    file.write_bytes(b"spoilt")
    refused("JG-site-453", lambda: models.verify(file.parent, world.state.root, world.now))
    lies.pop(0)
    assert models.pull(site, LINE).manifest == one.manifest
    models.verify(file.parent, world.state.root, world.now)


def test_a_broken_download_goes_on_where_it_was(
    world: Any, plan: Plan, join: Any, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site,) = join("site-0")
    monkeypatch.setattr(module, "MOST_PIECE_BYTES", 64)
    world.released(plan(), "site-0", "site-1")
    asked: list[tuple[str, int]] = []

    def cut(file: str, offset: int, data: bytes) -> bytes:
        asked.append((file, offset))
        return b"" if len(asked) == 3 else data  # no piece: the answer is unreadable

    liar.pieces(cut)
    refused("JG-site-207", lambda: models.pull(site, LINE))
    assert not list((site / "models").glob("*/[0-9]*/"))
    models.pull(site, LINE)
    assert len(asked) == len(set(asked)) + 1
    assert not list((site / "models").glob("*/.*"))


def test_a_manifest_that_no_approver_signed_is_not_believed(world: Any, plan: Plan, join: Any, liar: Liar) -> None:
    (site,) = join("site-0")
    one = world.released(plan(), "site-0", "site-1")
    other = one.manifest.model_copy(
        update={"files": {name: ModelFile(size=3, sha256="00" * 32) for name in one.manifest.files}}
    )
    lie: list[Any] = []
    liar.offers(lambda offers: [replace(offers[0], **lie[-1])])
    for code, changed in (
        ("JG-site-112", {"release": one.receipt}),
        ("JG-site-117", {"release": seal(Kind.MODEL, one.manifest.payload, world.keys["operator"])}),
        ("JG-site-112", {"release": seal(Kind.MODEL, other.payload, Identity.generate())}),
        ("JG-site-110", {"release": b"{}"}),
        ("JG-site-111", {"release": world.store.campaign(one.manifest.campaign).envelope}),
        ("JG-site-112", {"withdrawal": seal(Kind.WITHDRAWAL, b"", Identity.generate())}),
    ):
        lie.append(changed)
        refused(code, lambda: models.pull(site, LINE))
        assert models.listed(site) == []
    # A second manifest of one version, by the approver's own hand, is noticed by whoever saw the first.
    lie.append({})
    models.pull(site, LINE)
    lie.append({"release": seal(Kind.MODEL, other.payload, world.keys["approver"])})
    refused("JG-site-455", lambda: models.pull(site, LINE))
    # One that is for others is not taken, and a withdrawal of another model is none.
    theirs = one.manifest.model_copy(update={"version": 2, "contributors": ("site-1",)})
    lie.append({"release": seal(Kind.MODEL, theirs.payload, world.keys["approver"])})
    refused("JG-site-451", lambda: models.pull(site, LINE))
    fields = {"issued": world.now, "line": LINE, "version": 1, "reason": "why"}
    wrong = Withdrawal(model="ab" * 32, **fields)
    lie.append({"withdrawal": seal(Kind.WITHDRAWAL, wrong.payload, world.keys["approver"])})
    refused("JG-site-451", lambda: models.pull(site, LINE))


def test_the_national_version_never_goes_back_and_a_withdrawal_is_not_forgotten(
    world: Any, plan: Plan, join: Any, liar: Liar
) -> None:
    (site,) = join("site-0")
    one = world.released(plan(seed=1), "site-0", "site-1")
    two = world.released(plan(seed=2), "site-0", "site-1")
    assert models.pull(site, LINE).manifest == two.manifest
    shown: list[list[Registered]] = [[replace(one, state=two.state, aliases=(module.Alias.NATIONAL,))]]
    liar.offers(lambda offers: shown[-1] or offers)
    refused("JG-site-452", lambda: models.pull(site, LINE))
    shown.append([])
    world.withdraw(two)
    assert [found.withdrawn != "" for found in models.listed(site)] == [False, True]
    shown.append([replace(two, withdrawal=None)])
    refused("JG-site-454", lambda: models.pull(site, f"{LINE}@2"))


def test_a_site_off_the_roster_gets_nothing(world: Any, plan: Plan) -> None:
    sites, api = world.sites(2), world.api()
    one = world.released(plan(**{"sites.invite": ["site-0", "site-1"]}), "site-0", "site-1")
    size = one.manifest.files["scaling.json"].size
    assert len(api.ask(sites[0], "models")[1]["models"]) == 1
    fields = {"line": LINE, "version": 1, "file": "scaling.json", "offset": 0}
    status, answer = api.ask(sites[0], "model", **fields)
    assert (status, len(answer["piece"])) == (200, size)
    for changed, code in (
        ({"file": "../../server.yaml"}, "448"),
        ({"offset": size}, "448"),
        ({"offset": -1}, "448"),
        ({"version": 2}, "440"),
        ({"line": "../checkpoints"}, "440"),
        ({"offset": "0"}, "310"),
        ({"more": 1}, "310"),
    ):
        assert api.ask(sites[0], "model", **(fields | changed))[1]["code"] == f"JG-server-{code}"
    roster = world.members.roster(world.now)
    gone = roster.sites["site-0"].model_copy(update={"status": Status.SUSPENDED})
    after = roster.model_copy(update={"version": roster.version + 1, "sites": {**roster.sites, "site-0": gone}})
    envelope = seal(Kind.ROSTER, after.payload, world.keys["operator"], world.keys["independent"])
    world.store.add_roster(after.version, envelope)
    for what, body in (("models", {}), ("model", fields)):
        assert api.ask(sites[0], what, **body)[1]["code"] == "JG-server-313"


def test_the_commands_say_what_is_released_pulled_and_withdrawn(
    world: Any, plan: Plan, join: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from jangin.cli import main

    def jangin(*arguments: object) -> tuple[int, dict[str, Any], str]:
        monkeypatch.setattr("sys.argv", ["jangin", *map(str, arguments), "--format", "json"])
        with pytest.raises(SystemExit) as leaving:
            main()
        out, err = capsys.readouterr()
        return int(leaving.value.code or 0), dict(json.loads(out.splitlines()[-1])), err

    (site,) = join("site-0")
    assert jangin("site", "model", "list", site)[1]["models"] == []
    one = world.released(plan(), "site-0", "site-1")
    status, pulled, err = jangin("site", "model", "pull", site, LINE)
    assert (status, pulled["model"], pulled["approver"]) == (0, f"{LINE}@1", "approver")
    assert "never for: worker_evaluation, dismissal" in err
    root = world.folder / "staff" / "root.pub"
    assert jangin("model", "verify", pulled["folder"], "--root", root)[1]["approver"] == "approver"
    assert jangin("site", "status", site)[1]["withdrawn"] == []
    world.withdraw(one)
    (listed,) = jangin("site", "model", "list", site)[1]["models"]
    assert (listed["pulled"], listed["withdrawn"]) == (True, "it fails on thin plates")
    gone = jangin("site", "status", site)
    assert gone[1]["withdrawn"] == [{"model": f"{LINE}@1", "reason": "it fails on thin plates"}]
    assert f"{LINE}@1 may not be used any more" in gone[2]
    status, refusal, _ = jangin("site", "model", "pull", site, f"{LINE}@1")
    assert (status, refusal["code"]) == (1, "JG-site-454")


def test_the_daemon_asks_where_models_were_pulled_and_says_once_what_is_withdrawn(
    world: Any, plan: Plan, join: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (site,) = join("site-0")
    folder = SiteFolder(site)
    daemon = Daemon(folder, clock=desk.now_utc, jitter=random.Random(0))
    one = world.released(plan(), "site-0", "site-1")
    with folder.journal() as journal, desk.open_api(folder, journal, desk.now_utc) as api:
        daemon._look_at_models(api)
        with models.Shelf(folder.database_file) as shelf:
            assert shelf.manifest(LINE, 1) is None  # nothing is here: nobody was asked
        models.pull(site, LINE)
        world.withdraw(one)
        for _ in range(2):
            daemon._look_at_models(api)
    assert [record.getMessage() for record in caplog.records if "withdrawn" in record.getMessage()] == [
        f"Model {LINE}@1 is withdrawn: it fails on thin plates"
    ]
