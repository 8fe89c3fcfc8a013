"""Laws of YAML documents: nothing is guessed, nothing is dropped, and a message names the key as it was written."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from jangin.codec.document import Document, assign, nearest, parse, read, read_yaml
from jangin.errors import PlanError


class Small(Document):
    name: Literal["small"]
    width: PositiveInt = 8


class Large(Document):
    name: Literal["large"]
    depths: tuple[PositiveInt, ...] = (1, 2)


class Folder(Document):
    folder: Path


class File(Document):
    file: Path
    limits: tuple[float, float] | tuple[tuple[float, float], ...] | None = None


def _form(value: Any) -> str:
    return "Folder" if isinstance(value, Folder) or (isinstance(value, dict) and "folder" in value) else "File"


Source = Annotated[Annotated[File, Tag("File")] | Annotated[Folder, Tag("Folder")], Discriminator(_form)]


class Inner(Document):
    share: Annotated[float, Field(gt=0)] | Literal["none"] = "none"

    @model_validator(mode="after")
    def _not_seven(self) -> "Inner":
        if self.share == 7:
            raise ValueError("seven is taken")
        return self


class Outer(Document):
    """A document with everything that documents have: unions by name and by form, lists, mappings, optional parts."""

    rounds: PositiveInt
    rate: float = 0.5
    model: Annotated[Small | Large, Field(discriminator="name")] = Small(name="small")
    source: Source = Folder(folder=Path("here"))
    inner: Inner = Inner()
    more: tuple[Inner, ...] = ()
    named: dict[str, Inner] = Field(default_factory=dict)
    maybe: Inner | None = None


def parsed(**document: object) -> Outer:
    return parse({"rounds": 1, **document}, Outer, "plan.yaml")


def refusal(**document: object) -> PlanError:
    with pytest.raises(PlanError) as caught:
        parsed(**document)
    return caught.value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "plan.yaml"


@pytest.mark.parametrize(
    ("document", "key", "known"),
    [
        ({"ronds": 2}, "ronds", "rounds"),
        ({"inner": {"shar": 1}}, "inner.shar", "share"),
        ({"model": {"name": "small", "widht": 1}}, "model.widht", "width"),
        ({"model": {"name": "large", "depth": 1}}, "model.depth", "depths"),
        ({"model": {"name": "large", "large": 1}}, "model.large", "depths, name"),
        ({"source": {"folder": "a", "fodler": "b"}}, "source.fodler", "folder"),
        ({"source": {"file": "a", "limit": 1}}, "source.limit", "limits"),
        ({"source": {"file": "a", "File": "b"}}, "source.File", "file"),
        ({"more": [{}, {"shares": 1}]}, "more.1.shares", "share"),
        ({"named": {"Inner": {"shares": 1}}}, "named.Inner.shares", "share"),
        ({"maybe": {"shares": 1}}, "maybe.shares", "share"),
    ],
)
def test_an_unknown_key_is_named_as_it_was_written_with_the_nearest(
    document: dict[str, Any], key: str, known: str
) -> None:
    error = refusal(**document)
    assert error.code == "JG-plan-001"
    assert error.coded.where == "plan.yaml"
    assert error.coded.values["key"] == key
    assert known in str(error.coded.values["nearest"])


def test_the_width_of_one_model_is_unknown_to_the_other() -> None:
    error = refusal(model={"name": "large", "width": 8})
    assert error.coded.values == {"key": "model.width", "nearest": "depths"}


def test_an_unknown_key_comes_before_what_it_explains() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-001 .*'ruonds'.* rounds;"):
        parse({"ruonds": 3, "rate": "fast"}, Outer, "plan.yaml")


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"model": {}}, "model.name"),
        ({"model": {"width": 3}}, "model.name"),
        ({"source": {}}, "source.file"),
    ],
)
def test_a_missing_key_is_named(document: dict[str, Any], key: str) -> None:
    error = refusal(**document)
    assert (error.code, error.coded.values["key"]) == ("JG-plan-002", key)


def test_a_missing_key_at_the_top_is_named() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-002 plan\.yaml: the key 'rounds' is missing"):
        parse({}, Outer, "plan.yaml")


@pytest.mark.parametrize(
    ("document", "where", "value", "problem"),
    [
        ({"rounds": "many"}, "plan.yaml: rounds", "many", "integer"),
        ({"rounds": 0}, "plan.yaml: rounds", 0, "greater than 0"),
        ({"rounds": 1.5}, "plan.yaml: rounds", 1.5, "fractional"),
        ({"rounds": None}, "plan.yaml: rounds", None, "integer"),
        ({"rounds": [1]}, "plan.yaml: rounds", [1], "integer"),
        ({"rate": float("nan")}, "plan.yaml: rate", None, "finite"),
        ({"rate": float("inf")}, "plan.yaml: rate", float("inf"), "finite"),
        ({"model": {"name": "lrge"}}, "plan.yaml: model.name", "lrge", "'small', 'large'"),
        ({"model": 3}, "plan.yaml: model", 3, "dictionary"),
        ({"model": {"name": "large", "depths": [1, 0]}}, "plan.yaml: model.depths.1", 0, "greater than 0"),
        ({"source": {"file": 3}}, "plan.yaml: source.file", 3, "path"),
        ({"source": {"file": "a", "limits": 3}}, "plan.yaml: source.limits", 3, "tuple"),
        ({"source": {"file": "a", "limits": [[0, 1], [2, "x"]]}}, "plan.yaml: source.limits.1.1", "x", "number"),
        ({"inner": {"share": "non"}}, "plan.yaml: inner.share", "non", "number.*or: .*'none'"),
        ({"inner": {"share": -1}}, "plan.yaml: inner.share", -1, "greater than 0"),
        ({"inner": {"share": 7}}, "plan.yaml: inner", {"share": 7}, "^seven is taken$"),
        ({"named": {"a.b": {"share": -1}}}, "plan.yaml: named.a.b.share", -1, "greater than 0"),
        ({"maybe": {"share": -1}}, "plan.yaml: maybe.share", -1, "greater than 0"),
        ({"inner": {1: 2}}, "plan.yaml: inner.1", 1, "strings"),
    ],
)
def test_a_bad_value_is_shown_with_its_key_and_the_problem(
    document: dict[str, Any], where: str, value: object, problem: str
) -> None:
    error = refusal(**document)
    assert (error.code, error.coded.where) == ("JG-plan-003", where)
    assert value is None or error.coded.values["value"] == value
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(error.coded.values["problem"])


def test_a_message_does_not_recite_a_whole_document() -> None:
    error = refusal(model=dict.fromkeys("abcdefghijklmnopqrstuvwxyz", "a long value") | {"name": ["small"]})
    assert len(str(error)) < 300


def test_the_unions_of_a_simulation_file_name_keys_as_they_were_written() -> None:
    from jangin.simulation.experiment import Experiment

    def error(**blocks: object) -> str:
        strategy = {"name": "fedavg", "rounds": 1, "local_steps": 1, "batch": 1, "lr": 0.1}
        whole = {"data": {"npz": "a.npz", "task": "regression"}, "model": {"name": "mlp"}, "strategy": strategy}
        with pytest.raises(PlanError) as caught:
            parse(whole | blocks, Experiment, "sim.yaml")
        return str(caught.value)

    assert "'data.tsk'" in error(data={"npz": "a.npz", "tsk": "regression"})
    assert "'data.model_lin'" in error(data={"records": ["a"], "model_lin": "b"})
    assert "'model.hiden'" in error(model={"name": "mlp", "hiden": [3]})
    assert "'strategy.momentum'" in error(strategy={"name": "fedavg", "momentum": 0.9})
    assert "sim.yaml: privacy.epsilon:" in error(privacy={"epsilon": "off"})


def test_a_document_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parsed().rounds = 2  # type: ignore[misc]


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(PlanError, match=r"JG-plan-004 .*plan\.yaml: cannot be read"):
        read(file, Outer)


@pytest.mark.parametrize(
    "content",
    [
        b"rounds: [1",
        b"a: b: c",
        b"\trounds: 1",
        b"rounds: \xff",
        "rounds: 1 # 주석".encode("utf-16"),
        b"a: 1\n---\nb: 2\n",
        b"when: 2026-13-45",
        b"a: !!bool maybe",
        b"a: !!int ''",
        b"a: !!timestamp soon",
        b"a: !!python/object/apply:os.getcwd []",
        b"[1, 2]: a",
        b"a: " + b"[" * 5000,
        b"a: *nobody",
    ],
)
def test_what_is_not_yaml_is_refused_with_its_name(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(PlanError, match=r"JG-plan-004 .*plan\.yaml: cannot be read as YAML: \S"):
        read_yaml(file)


def test_a_message_about_yaml_names_the_line(file: Path) -> None:
    file.write_text("rounds: 1\nrate: [1\n")
    with pytest.raises(PlanError, match=r'in ".*plan\.yaml", line 2'):
        read_yaml(file)


@pytest.mark.parametrize(
    ("text", "found"), [("", "none"), ("# nothing", "none"), ("- 1", "a list"), ("plan", "a single value")]
)
def test_a_document_is_a_mapping(file: Path, text: str, found: str) -> None:
    file.write_text(text)
    with pytest.raises(PlanError, match=rf"JG-plan-005 .*plan\.yaml.*found {found}"):
        read_yaml(file)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("rounds: 1\nrate: 2\nrounds: 3\n", 3),
        ("rounds: 1\n'rounds': 3\n", 2),
        ("inner: {share: 1, share: 2}\n", 1),
        ("more:\n- share: 1\n  share: 2\n", 3),
        ("? [a]\n: {b: 1, b: 1}\n", 2),
    ],
)
def test_a_key_given_twice_is_refused_with_file_and_line(file: Path, text: str, line: int) -> None:
    file.write_text(text)
    with pytest.raises(PlanError, match=rf"JG-plan-006 .*plan\.yaml, line {line}: the key"):
        read_yaml(file)


def test_a_merged_mapping_may_be_overridden_wherever_it_stands(file: Path) -> None:
    file.write_text("base: &b {x: 1}\nouter: {deep: &d {<<: *b, x: 2}}\ntop: {<<: *d, y: 3}\n")
    assert read_yaml(file)["top"] == {"x": 2, "y": 3}
    assert read_yaml(file)["outer"] == {"deep": {"x": 2}}


@pytest.mark.parametrize("text", ["1e-5", "1.0e-5", "1.e-5", "+1E-05", ".1e-4", "10.0e-6", "0.00001"])
def test_a_number_with_an_exponent_is_a_number(file: Path, text: str) -> None:
    file.write_text(f"delta: {text}")
    assert read_yaml(file) == {"delta": 1e-5}


@pytest.mark.parametrize("text", ["'1e-5'", "e5", "1e", "1e5x", "-a", ".", "kr-0421", "1e-5.0"])
def test_a_text_that_looks_like_a_number_stays_a_text(file: Path, text: str) -> None:
    file.write_text(f"value: {text}")
    assert isinstance(read_yaml(file)["value"], str)


@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan", "1e999"])
def test_what_is_not_finite_is_refused(file: Path, text: str) -> None:
    file.write_text(f"{{rounds: 1, rate: {text}}}")
    with pytest.raises(PlanError, match=r"JG-plan-003 .*rate.*finite"):
        read(file, Outer)


def test_a_byte_order_mark_is_no_part_of_the_first_key(file: Path) -> None:
    file.write_text("rounds: 1", encoding="utf-8-sig")
    assert read(file, Outer).rounds == 1


KEYS = st.sampled_from(["rounds", "model", "source", "inner", "more", "named", "name", "share", "file", "large", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
SIGNS = st.sampled_from(["\n", "  ", "\t", *"{}[],:-?'\"|#%&*!", ": ", "- ", "? ", "&x ", "*x", "<<", "---", "..."])
TAGS = st.sampled_from(["bool", "int", "float", "set", "omap", "pairs", "binary", "timestamp", "null", "python/name:a"])
WORDS = st.sampled_from(["a", "b", "장인", "2026-13-45", "1e5", "0b", "0x", "1:60", ".", "~"])
TOKENS = st.lists(SIGNS | TAGS.map("!!{} ".format) | WORDS, max_size=15).map("".join)


@pytest.mark.fuzz
@given(TOKENS | st.text(max_size=30))
@example("&x [*x]")
@example("a: &x {b: *x}")
def test_any_text_is_a_mapping_or_a_coded_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text, encoding="utf-8")
    assert isinstance(outcome(read_yaml, file), dict | PlanError)


def outcome(work: Callable[..., object], *arguments: object) -> object:
    """What comes back, or the coded error."""
    try:
        return work(*arguments)
    except PlanError as error:
        return error


@pytest.mark.fuzz
@given(st.dictionaries(KEYS, JSON, max_size=4))
def test_any_mapping_is_a_document_or_a_coded_error_in_both_languages(document: dict[str, Any]) -> None:
    found = outcome(parse, document, Outer, "plan.yaml")
    if isinstance(found, PlanError):
        assert found.code in {"JG-plan-001", "JG-plan-002", "JG-plan-003"}
        assert all(found.coded.text("what", lang).startswith("plan.yaml") for lang in ("en", "ko"))
    else:
        assert isinstance(found, Outer)


def test_assign_sets_a_dotted_key_and_makes_the_way() -> None:
    tree: dict[str, Any] = {"a": {"b": 1}}
    assign(tree, "a.c", 2)
    assign(tree, "d.e.f", 3)
    assert tree == {"a": {"b": 1, "c": 2}, "d": {"e": {"f": 3}}}


def test_assign_does_not_write_through_a_plain_value() -> None:
    tree = {"a": 1}
    with pytest.raises(PlanError, match=r"JG-plan-003 a\.b: the value 2 .*a holds a plain value"):
        assign(tree, "a.b", 2)
    assert tree == {"a": 1}


def test_nearest_names_the_one_alike_or_all() -> None:
    assert nearest("ronds", ["rate", "rounds"]) == "rounds"
    assert nearest("xyz", ["rate", "rounds"]) == "rate, rounds"
    assert nearest("xyz", []) == ""


def test_the_digest_covers_defaults_and_names_the_value() -> None:
    assert parsed().digest("test") == parsed(rate=0.5, inner={"share": "none"}).digest("test")
    assert parsed().digest("test") != parsed(rate=0.25).digest("test")
    assert parsed().digest("test") != parsed().digest("other")
