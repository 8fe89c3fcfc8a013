"""Laws of `jangin consent` and `jangin worker`: what is said is recorded, shown and taken back, in both languages."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jangin.client import desk
from jangin.client.state import SiteFolder
from jangin.records.checks import validate
from jangin.records.generate import generate
from jangin.trust.consents import peek_grant
from jangin.trust.envelope import Kind, seal
from jangin.trust.keys import Identity

PROCESS = "steel.bof_blow"
ONE, OTHER = "S0-M00", "S0-M01"
SAID = ("--purpose", "skill_preservation", "--purpose", "safety", "--channel", "all", "--until", "2099-12-31")

Jangin = Callable[..., Any]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = generate(PROCESS, tmp_path_factory.mktemp("records"), sites=1, masters=2, episodes=12, seed=5)[0]
    validate(folder, level=1, unit="episode", random_bytes=np.random.default_rng(5).bytes).require(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path, records: Path) -> Path:
    desk.init(tmp_path / "site", "site-0", PROCESS, records)
    return tmp_path / "site"


def said(jangin: Jangin, *arguments: object) -> dict[str, Any]:
    line = jangin(*arguments, "--format", "json")
    assert (line.status, line.out.count("\n")) == (0, 1), line.err
    return dict(json.loads(line.out))


def states(jangin: Jangin, folder: Path) -> dict[str, str]:
    return {one["master"]: one["state"] for one in said(jangin, "consent", "list", folder)["consents"]}


def test_a_consent_is_granted_listed_and_taken_back(jangin: Jangin, folder: Path) -> None:
    assert states(jangin, folder) == {ONE: "none", OTHER: "none"}
    (made,) = said(jangin, "consent", "grant", folder, "--master", ONE, *SAID)["grants"]
    assert made["counts"]
    assert states(jangin, folder) == {ONE: "covered", OTHER: "none"}
    assert said(jangin, "consent", "revoke", folder, "--master", ONE)["revoked"] == [made["grant"]]
    assert states(jangin, folder) == {ONE: "revoked", OTHER: "none"}


def test_a_check_of_the_records_knows_who_said_yes(jangin: Jangin, folder: Path, records: Path) -> None:
    def found() -> tuple[int, set[str]]:
        checked = jangin("data", "validate", records, "--site", folder, "--format", "json")
        lines = [json.loads(line) for line in checked.out.splitlines()[:-1]]
        return checked.status, {line["code"] for line in lines if line["severity"] == "error"}

    jangin("consent", "grant", folder, "--master", ONE, *SAID)
    assert found() == (1, {"JG-data-151"})
    jangin("consent", "grant", folder, "--master", OTHER, *SAID)
    assert found() == (0, set())
    jangin("consent", "revoke", folder, "--master", ONE)
    assert found() == (1, {"JG-data-153"})
    assert jangin("data", "validate", records, "--site", records, "--format", "json").status == 1


@pytest.mark.parametrize(("lang", "words"), [("en", ("in force", "none")), ("ko", ("유효", "동의 없음"))])
def test_the_list_speaks_both_languages(jangin: Jangin, folder: Path, lang: str, words: tuple[str, ...]) -> None:
    jangin("consent", "grant", folder, "--master", ONE, *SAID)
    out = jangin("consent", "list", folder, "--lang", lang).out
    assert all(word in out for word in (*words, ONE, OTHER, "2099-12-31"))


@pytest.fixture
def labour(jangin: Jangin, folder: Path, tmp_path: Path) -> tuple[object, ...]:
    """A grant that waits for the labour side, as the arguments with which that side signs it into `signed`."""
    key = Identity.generate()
    key.save(tmp_path / "council")
    file = folder / "site.yaml"
    file.write_text(file.read_text().replace("id: site-0", f"id: site-0\n  labour_council_key: {key.public_text}"))
    (made,) = said(jangin, "consent", "grant", folder, "--master", ONE, *SAID)["grants"]
    assert (made["counts"], states(jangin, folder)[ONE]) == (False, "not_countersigned")
    (tmp_path / "site.pub").write_text(SiteFolder(folder).identity().public_text)
    keys = ("--key", tmp_path / "council", "--site-key", tmp_path / "site.pub")
    return ("consent", "countersign", made["file"], *keys, "--out", tmp_path / "signed")


@pytest.mark.parametrize(("lang", "word"), [("en", "purposes"), ("ko", "목적")])
@pytest.mark.parametrize("answers", [None, "n\n", "y\n"])
def test_the_labour_side_reads_before_it_signs_and_a_no_or_nobody_signs_nothing(
    jangin: Jangin,
    labour: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers: str | None,
    lang: str,
    word: str,
) -> None:
    asked = StringIO(answers or "y\n")
    monkeypatch.setattr(asked, "isatty", lambda: answers is not None)
    monkeypatch.setattr("sys.stdin", asked)
    told = jangin(*labour, "--lang", lang)
    assert (tmp_path / "signed").exists() == (answers == "y\n")
    assert all(one in told.err for one in (word, ONE, "skill_preservation", "2099-12-31"))
    assert (told.status, "JG-site-441" in told.err) == ((0, False) if answers == "y\n" else (1, True))


def test_a_master_whose_name_would_move_the_cursor_is_shown_as_what_it_is(
    jangin: Jangin, labour: tuple[object, ...], folder: Path
) -> None:
    file = Path(str(labour[2]))
    document = peek_grant(file.read_bytes()).model_copy(update={"master": "A\x1b[2K\u202eB"})
    file.write_bytes(seal(Kind.CONSENT, document.payload, SiteFolder(folder).identity()))
    told = jangin(*labour, "--yes")
    assert told.status == 0
    assert "'A\\x1b[2K\\u202eB'" in told.err
    assert not {"\x1b", "\u202e"} & set(told.err)


def test_the_labour_side_signs_a_file_and_needs_no_site(
    jangin: Jangin, labour: tuple[object, ...], folder: Path, tmp_path: Path
) -> None:
    signed = tmp_path / "signed"
    shown = said(jangin, *labour, "--yes")
    assert (shown["master"], shown["channels"], shown["until"]) == (ONE, ["all"], "2099-12-31")
    assert said(jangin, "consent", "grant", folder, "--countersigned", signed)["grants"][0]["counts"]
    assert states(jangin, folder)[ONE] == "covered"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--master", ONE),
        ("--master", ONE, "--purpose", "safety", "--channel", "all"),
        ("--countersigned", "x", "--master", ONE),
        ("--master", ONE, "--purpose", "safety", "--channel", "all", "--until", "2020-01-01"),
        ("--master", ONE, "--purpose", "profit", "--channel", "all", "--until", "2099-01-01"),
    ],
)
def test_half_a_grant_is_wrong_usage(jangin: Jangin, folder: Path, arguments: tuple[str, ...]) -> None:
    line = jangin("consent", "grant", folder, *arguments)
    assert (line.status, line.out) == (2, "")
    assert "JG-plan-003" in line.err


@pytest.mark.parametrize(("lang", "unused"), [("en", "None of your recordings"), ("ko", "어떤 녹화도")])
def test_a_master_is_told_in_both_languages_and_on_paper(
    jangin: Jangin, folder: Path, tmp_path: Path, lang: str, unused: str
) -> None:
    page = tmp_path / "page.html"
    line = jangin("worker", "statement", folder, "--master", ONE, "--lang", lang, "--page", page)
    assert (line.status, line.err) == (0, "")
    assert unused in line.out
    assert unused in page.read_text(encoding="utf-8")
    assert "http" not in page.read_text(encoding="utf-8")
    told = said(jangin, "worker", "statement", folder, "--master", ONE)
    assert (told["master"], told["episodes"], told["shares"]) == (ONE, 6, [])
