"""Laws of the coded errors: every code has its words in two languages, and everybody who names one fills them."""

import ast
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Formatter

import pytest

import jangin
from jangin import errors
from jangin.codec.document import read_yaml
from jangin.errors import EXITS, CodedText, JanginError, PlanError, catalogue
from jangin.privacy.releases import Unit

PACKAGE = Path(jangin.__file__).parent
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
CODE = re.compile(r"JG-(data|plan|site|server|privacy|sum|sim)-\d{3}")
PARTS = sorted(Path(str(files("jangin.configs"))).joinpath("errors").glob("*.yaml"))
ERRORS = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


@dataclass(frozen=True)
class Use:
    """One place that gives a code its values."""

    code: str
    place: str
    values: frozenset[str]


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def wanted(code: str) -> set[str]:
    return set().union(*(fields(text) for words in catalogue()[code].values() for text in words.values()))


def name_of(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def code_position(name: str) -> int | None:
    """Where in its arguments an error, a text or a finding takes its code."""
    return 0 if name.endswith("Error") or name == "CodedText" else 1 if name == "Finding" else None


def given(call: ast.Call, position: int) -> set[str]:
    where = {"where"} if len(call.args) > position + 1 else set()
    return where | {keyword.arg for keyword in call.keywords if keyword.arg}


def literals(node: ast.AST) -> list[str]:
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and CODE.fullmatch(str(part.value))]


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def uses() -> Iterator[Use]:
    """Every code given to an error, a `CodedText` or a `Finding`, straight or through a function that hands it on."""
    for path, source in SOURCES.items():
        tree = ast.parse(source)
        handing_on: dict[str, tuple[int, set[str]]] = {}
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            parameters = [parameter.arg for parameter in function.args.args]
            for call in calls(function):
                position = code_position(name_of(call))
                code = call.args[position] if position is not None and len(call.args) > position else None
                if isinstance(code, ast.Name) and code.id in parameters:
                    handing_on[function.name] = parameters.index(code.id), given(call, position or 0)
        for call in calls(tree):
            name = name_of(call)
            position, added = handing_on.get(name, (code_position(name), set()))
            if position is not None and len(call.args) > position:
                for code in literals(call.args[position]):
                    place = f"{path.relative_to(PACKAGE)}:{call.lineno}"
                    yield Use(code, place, frozenset(given(call, position) | added))


@pytest.fixture(scope="module")
def used() -> list[Use]:
    return list(uses())


def test_a_code_says_what_why_and_the_way_out_in_both_languages() -> None:
    for code, words in catalogue().items():
        assert CODE.fullmatch(code)
        assert list(words) == ["en", "ko"], code
        for texts in words.values():
            assert list(texts) == ["what", "why", "hint"], code
            assert all(text == text.strip() and text.endswith((".", "?")) for text in texts.values()), code


def test_both_languages_say_the_same_values() -> None:
    for code, words in catalogue().items():
        english, korean = (set().union(*map(fields, texts.values())) for texts in words.values())
        assert english == korean, code


def test_every_text_can_be_filled() -> None:
    for code in catalogue():
        error = CodedText(code, where="card.yaml", **dict.fromkeys(wanted(code) - {"where"}, 0.5))
        for lang in ("en", "ko"):
            for field in ("what", "why", "hint"):
                filled = error.text(field, lang).replace("{'", "").replace("'}", "")
                assert not re.search(r"[{}]", filled), code


def test_a_refusal_gives_the_way_out_of_the_servers_own_code_in_the_readers_language() -> None:
    def hint(answer: str, lang: errors.Language) -> str:
        refused = CodedText("JG-site-301", where="x", what="enroll", answer=answer, message="")
        return refused.text("hint", lang)

    for code, lang in (("JG-server-315", "en"), ("JG-server-313", "ko")):
        assert hint(code, lang).startswith(catalogue()[code][lang]["hint"])
    for odd in (
        "JG-server-000",
        "{where}",
        next(code for code, said in catalogue().items() if "{" in said["en"]["hint"]),
    ):
        assert hint(odd, "en") == f"Where it cannot be mended here, call the operator and name {odd}."


def test_korean_never_leaves_the_choice_of_a_particle_to_the_reader() -> None:
    for code, words in catalogue().items():
        for text in words["ko"].values():
            assert not re.search(r"[가-힣]\([가-힣]\)|\(으\)로|\(이\)", text), code
            # After a value nobody knows whether 을 or 를, 이 or 가, 은 or 는, 과 or 와, 으로 or 로 is right.
            assert not re.search(r"\}['\"`]?(을|를|이|가|은|는|과|와|으로|로)(?![가-힣])", text), code


@pytest.mark.parametrize("file", PARTS, ids=lambda file: file.stem)
def test_a_part_keeps_its_codes_in_its_own_file_in_order_and_once(file: Path) -> None:
    codes = list(read_yaml(file))
    assert all(code.startswith(f"JG-{file.stem}-") for code in codes)
    assert codes == sorted(codes)


def test_the_catalogue_holds_every_file() -> None:
    assert set(catalogue()) == {code for file in PARTS for code in read_yaml(file)}


def test_whoever_names_a_code_gives_its_values(used: list[Use]) -> None:
    assert [use for use in used if use.code not in catalogue()] == []
    assert [use for use in used if not wanted(use.code) <= use.values] == []


def test_no_code_is_unused(used: list[Use]) -> None:
    assert set(catalogue()) - {use.code for use in used} == set()


def test_every_code_that_the_source_speaks_of_exists() -> None:
    spoken = {match[0] for source in SOURCES.values() for match in CODE.finditer(source)}
    assert spoken - set(catalogue()) == set()


def test_an_error_says_what_and_the_way_out() -> None:
    error = PlanError("JG-plan-006", where="plan.yaml, line 3", key="rounds")
    assert str(error) == "JG-plan-006 plan.yaml, line 3: the key 'rounds' is given twice. Keep one of them."
    assert error.code == "JG-plan-006"


def test_the_json_line_has_code_message_hint_and_where() -> None:
    coded = CodedText("JG-plan-006", where="plan.yaml", key="rounds")
    assert coded.as_dict("ko") == {
        "code": "JG-plan-006",
        "message": "plan.yaml: 키 'rounds' 중복.",
        "hint": "하나만 남기십시오.",
        "where": "plan.yaml",
    }


def test_a_value_with_braces_is_shown_as_it_is() -> None:
    assert "'{key}'" in CodedText("JG-plan-006", where="{where}", key="{key}").text()


def test_a_code_or_a_value_that_lacks_is_a_bug_and_not_a_message() -> None:
    with pytest.raises(KeyError):
        CodedText("JG-plan-999").text()
    with pytest.raises(KeyError):
        CodedText("JG-plan-006", where="plan.yaml").text()


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_crosses_processes_whole(kind: type[JanginError]) -> None:
    error = pickle.loads(pickle.dumps(kind("JG-plan-006", where="plan.yaml", key="rounds")))
    assert type(error) is kind
    assert str(error) == str(kind("JG-plan-006", where="plan.yaml", key="rounds"))


def test_every_code_has_the_one_exit_status_of_the_table() -> None:
    assert [entry.status for entry in EXITS] == list(range(6))
    statuses = {code: JanginError(code).exit_status for code in catalogue()}
    assert {code for code, status in statuses.items() if status == 2} == {
        code for code in catalogue() if code.startswith("JG-plan-") or code == "JG-site-388"
    }
    reach = {code for code, status in statuses.items() if status == 3}
    assert reach == {"JG-site-201", "JG-site-202", "JG-site-207", "JG-site-400", "JG-server-410"}
    allowed = {code for code, status in statuses.items() if status == 4}
    assert allowed >= {"JG-site-114", "JG-site-117", "JG-site-118", "JG-site-301", "JG-site-315", "JG-server-101"}
    assert {code for code, status in statuses.items() if status == 5} == {"JG-sim-900"}
    assert 0 not in statuses.values()


def test_the_table_of_exit_statuses_is_in_the_documents() -> None:
    page = (PACKAGE.parent / "docs" / "errors" / "index.md").read_text(encoding="utf-8")
    for entry in EXITS:
        assert f"| {entry.status} | {entry.means} |" in page


@pytest.mark.parametrize(
    ("value", "plain", "marked"),
    [
        ("a", "a", "'a'"),
        (["a", "b"], "a, b", "[a, b]"),
        ((98,), "(98)", "(98)"),
        ([], "none", "[]"),
        (None, "none", "none"),
        (True, "true", "true"),
        ({"site-1": "local", "site-2": None}, "site-1: local, site-2: none", "site-1: local, site-2: none"),
        ({}, "none", "none"),
        (frozenset({"b", "a"}), "a, b", "a, b"),
        (Unit.EPISODE, "episode", "'episode'"),
        (0.25, "0.25", "0.25"),
    ],
)
def test_a_value_is_written_as_people_write_it(value: object, plain: str, marked: str) -> None:
    assert f"keys: {plain};" in CodedText("JG-plan-001", key="", nearest=value).text("hint")
    assert f"unknown key {marked}." in CodedText("JG-plan-001", key=value, nearest="").text()


def test_nothing_is_nothing_in_korean_too() -> None:
    text = CodedText("JG-server-342", where="", attempts=3, abstained={}, missing=[]).text(lang="ko")
    assert text.endswith("거부된 사업장: 없음, 응답 없음: 없음.")
