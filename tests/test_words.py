"""Laws of the catalogues: both languages have every key with the same values, and each key is said by somebody."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest
from fluent.syntax import FluentParser, visitor
from fluent.syntax import ast as ftl

import jangin
from jangin.client.accounts import Stage
from jangin.client.consent import Verdict
from jangin.client.doctor.checks import CHECKS
from jangin.client.state import Task
from jangin.privacy.releases import Unit
from jangin.privacy.secure_sum.table import State
from jangin.records.purposes import NEVER, Purpose
from jangin.trust.roster import Status
from jangin.words import LANGUAGES, knows, say

PACKAGE = Path(jangin.__file__).parent
WORDS = Path(str(files("jangin.configs"))) / "words"
PARTS = sorted(file.stem for file in (WORDS / "en").iterdir())


class Values(visitor.Visitor):
    """The values that a pattern takes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def visit_VariableReference(self, node: ftl.VariableReference) -> None:  # noqa: N802 - named after the node
        self.names.add(node.id.name)


def read(part: str, lang: str) -> dict[str, tuple[frozenset[str], str]]:
    """Each key, further texts as `key.attribute`, with the values that it takes and its text as it stands."""
    tree = FluentParser().parse((WORDS / lang / f"{part}.ftl").read_text(encoding="utf-8"))
    found = {}
    for entry in tree.body:
        assert not isinstance(entry, ftl.Junk), entry.content
        if isinstance(entry, ftl.Message):
            patterns = {entry.id.name: entry.value}
            patterns |= {f"{entry.id.name}.{more.id.name}": more.value for more in entry.attributes}
            for key, pattern in patterns.items():
                assert key not in found
                values = Values()
                values.visit(pattern)
                found[key] = frozenset(values.names), pattern_text(pattern)
    return found


def pattern_text(pattern: ftl.Pattern) -> str:
    """The text of a pattern, with `{}` where something is filled in."""
    return "".join(one.value if isinstance(one, ftl.TextElement) else "{}" for one in pattern.elements)


READ = {(part, lang): read(part, lang) for part in PARTS for lang in LANGUAGES}


@dataclass(frozen=True)
class Use:
    """One place that says a message: its key, in which `*` stands for anything, and the values that it gives."""

    part: str
    key: str
    place: str
    values: frozenset[str] | None

    def means(self, key: str) -> bool:
        return re.fullmatch(re.escape(self.key).replace(r"\*", r"[^.]+"), key) is not None


def uses() -> Iterator[Use]:
    """Every call of `say`, `knows`, `said` or `tell` whose part is a constant, or the `_PART` of its module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parts = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) > 1):
            name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
            if name not in ("say", "said", "tell", "knows"):
                continue
            first, key = call.args[:2]
            part = parts.get(first.id) if isinstance(first, ast.Name) else getattr(first, "value", None)
            if part in PARTS:
                whole = any(keyword.arg is None for keyword in call.keywords)
                values = None if whole else frozenset(keyword.arg for keyword in call.keywords if keyword.arg)
                place = f"{path.relative_to(PACKAGE)}:{call.lineno}"
                yield Use(part, pattern_of(key), place, None if name == "knows" else values)


def pattern_of(key: ast.expr) -> str:
    """A key as it stands in code, with `*` for what is filled in."""
    if isinstance(key, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else "*" for one in key.values)
    return str(key.value) if isinstance(key, ast.Constant) else "*"


USES = list(uses())


def doctors() -> set[str]:
    """All that checks may say, by the second argument of every `Said`, and the words that they take apart."""
    said = {status.value for status in Status}
    for module in (PACKAGE / "client" / "doctor").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.add(node.value)
    return said


@pytest.mark.parametrize("part", PARTS)
def test_both_languages_have_every_key_with_the_same_values(part: str) -> None:
    korean, english = (READ[part, lang] for lang in LANGUAGES)
    assert list(korean) == list(english)
    assert {key: values for key, (values, _) in korean.items()} == {key: values for key, (values, _) in english.items()}
    assert all(re.search("[가-힣]", text) or "{}" in text for _, text in korean.values())
    assert not any(re.search("[가-힣]", text) for _, text in english.values())


def test_both_languages_have_the_same_parts() -> None:
    assert {file.relative_to(WORDS).as_posix() for file in WORDS.rglob("*.ftl")} == {
        f"{lang}/{part}.ftl" for lang in LANGUAGES for part in PARTS
    }


@pytest.mark.parametrize("part", PARTS)
def test_after_a_value_no_korean_particle_guesses_its_last_sound(part: str) -> None:
    for _, text in READ[part, "ko"].values():
        assert not re.search(r"\}['\"`]?(을|를|이|가|은|는|과|와|으로|로)(?![가-힣])", text)
        assert not re.search(r"[가-힣]\([가-힣]\)|\(으\)로|\(이\)", text)


@pytest.mark.parametrize("part", PARTS)
def test_tables_have_as_many_columns_in_both_languages(part: str) -> None:
    for key in (key for key in READ[part, "en"] if key.endswith("columns") or key == "standing"):
        korean, english = (say(part, key, lang).split(", ") for lang in LANGUAGES)
        assert len(korean) == len(english)


@pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.place}-{use.key}")
def test_what_is_said_is_in_the_catalogue_and_gets_its_values(use: Use) -> None:
    meant = [key for key in READ[use.part, "en"] if use.means(key)]
    assert meant
    wanted = {READ[use.part, "en"][key][0] for key in meant}
    assert use.values is None or use.values in wanted
    assert "*" in use.key or len(wanted) == 1


@pytest.mark.parametrize("part", sorted({*PARTS} - {"doctor"}))
def test_every_key_is_said_by_somebody(part: str) -> None:
    said = [use for use in USES if use.part == part]
    assert all(use.key.strip("*") for use in said)
    assert [key for key in READ[part, "en"] if not any(use.means(key) for use in said)] == []


def test_every_word_of_the_doctor_is_said_by_a_check() -> None:
    said, checks = doctors(), {check.id for check in CHECKS}
    for key in READ["doctor", "en"]:
        check, _, name = key.partition(".")[0].partition("-")
        assert check in checks | {"any"}
        assert name in said | {""}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_finding_and_its_way_out_have_no_full_stop(lang: str) -> None:
    assert not any(text.endswith(".") for _, text in READ["doctor", lang].values())


@pytest.mark.parametrize(
    ("part", "family", "members"),
    [
        ("consent", "purpose", set(Purpose)),
        ("consent", "verdict", {verdict.name.lower() for verdict in Verdict}),
        ("consent", "private", {unit.value for unit in Unit} - {"site"}),  # no campaign promises anything to a site
        ("site", "task", {task.value for task in Task}),
        ("site", "sum", {state.value for state in State} - {"unmasked", "aborted"}),
        ("ledger", "stage", {stage.value for stage in Stage}),
        ("doctor", "any", {status.value for status in Status} - {"active"}),
    ],
)
def test_each_of_a_kind_has_a_word(part: str, family: str, members: set[str]) -> None:
    assert {name for name in members if not knows(part, f"{family}-{name}")} == set()


def test_what_every_plan_prohibits_has_a_word() -> None:
    assert all(knows("consent", f"prohibited-{use}") for use in NEVER)


def test_a_key_or_a_value_that_lacks_is_a_bug_and_never_half_a_sentence() -> None:
    for key, values in (("nowhere", {}), ("paused", {}), ("paused.mend", {"since": "now"})):
        with pytest.raises(KeyError):
            say("site", key, "en", **values)


def test_numbers_are_written_as_the_language_writes_them_and_texts_as_they_are() -> None:
    assert say("site", "covered", "en", covered=1, everybody=12000).startswith("The consent of 1 of 12,000 masters")
    assert say("site", "left_out", "en", count=1).startswith("One episode has")
    assert say("site", "left_out", "ko", count=12000).startswith("에피소드 12,000개는")
    assert say("doctor", "D08-ahead", "en", seconds=7.25) == "Clock is 7.2 s ahead"
    assert say("doctor", "D17-root", "ko", pid=41234).endswith("(프로세스 41234)")
    assert say("site", "written", "en", file=Path("{ $x }")) == "written: { $x }; next:"
