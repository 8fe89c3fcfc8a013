"""YAML documents read once into frozen pydantic models.

The law: an unknown key is an error that names the nearest known one; a key given twice is an error; every
message names file, key, value and the way out. One document, one canonical hash.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from jangin.codec import cbor
from jangin.errors import PlanError, one_line

__all__ = ["Document", "assign", "nearest", "parse", "read", "read_value", "read_yaml"]

M = TypeVar("M", bound=BaseModel)

# What PyYAML's constructors let through beside its own errors, for a 13th month, `!!bool maybe` or a thousand brackets.
_LEAKS = (ValueError, LookupError, AttributeError, RecursionError)


class Document(BaseModel):
    """Base of every model read from YAML: frozen, and no key it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def digest(self, domain: str) -> str:
        """SHA-256 of the canonical CBOR of the whole document, defaults written out, as 64 hex digits."""
        return cbor.digest(domain, self.model_dump(mode="json")).hex()


def read(path: Path, model: type[M]) -> M:
    """Read one YAML file into `model`.

    Raises:
        PlanError: JG-plan-001..006, naming the file, the key and the value.
    """
    return parse(read_yaml(path), model, str(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        PlanError: JG-plan-004 unreadable or not YAML; JG-plan-005 not a mapping; JG-plan-006 a key twice.
    """
    try:
        with path.open(encoding="utf-8") as file:  # a file, so that its name stands in messages
            value = yaml.load(file, Loader=_OneKeyOnceLoader)  # noqa: S506 - a SafeLoader
    except (OSError, yaml.YAMLError, *_LEAKS) as error:
        problem = one_line(error)
        raise PlanError("JG-plan-004", where=str(path), problem=problem) from None
    if not isinstance(value, dict):
        raise PlanError("JG-plan-005", where=str(path), found=_form(value))
    return value


def read_value(text: str, where: str) -> Any:
    """One value written as YAML, e.g. `4`, `none` or `[1, 2]`.

    Raises:
        PlanError: JG-plan-003, not a YAML value; JG-plan-006, a key twice.
    """
    try:
        return yaml.load(text, Loader=_OneKeyOnceLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, *_LEAKS):
        raise PlanError("JG-plan-003", where=where, value=text, problem="not a YAML value") from None


def parse(value: Mapping[str, Any], model: type[M], where: str) -> M:
    """Check a mapping against `model`; `where` names its source in messages.

    Raises:
        PlanError: JG-plan-001 unknown key, JG-plan-002 missing key, JG-plan-003 bad value.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _coded(error, model, value, where) from None


def assign(tree: dict[str, Any], dotted: str, value: object) -> None:
    """Set `a.b.c` in a tree of mappings in place, making the mappings on the way.

    Raises:
        PlanError: JG-plan-003 when a step on the way holds a plain value.
    """
    *path, last = dotted.split(".")
    for step in path:
        tree = tree.setdefault(step, {})
        if not isinstance(tree, dict):
            raise PlanError("JG-plan-003", where=dotted, value=value, problem=f"{step} holds a plain value")
    tree[last] = value


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`, or all of them where none is alike."""
    known = sorted(known)
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return matches[0] if matches else ", ".join(known)


def _form(value: object) -> str | None:
    """What a document holds that is no mapping."""
    return None if value is None else "a list" if isinstance(value, list) else "a single value"


class _OneKeyOnceLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice (YAML 1.2.2 section 3.2.1.3) and reads 1e-5 as a number."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                where = f"{key.start_mark.name}, line {key.start_mark.line + 1}"
                raise PlanError("JG-plan-006", where=where, key=key.value)
            seen.add(key.value)
        return node


# YAML 1.2.2 section 10.3.2; YAML 1.1 wants a point and a sign where there is an exponent.
_OneKeyOnceLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def _coded(error: ValidationError, model: type[BaseModel], value: object, where: str) -> PlanError:
    """One finding of pydantic in our words: an unknown key explains the rest, and the deepest key says most."""
    located = [(finding, *_locate(finding, model, value)) for finding in error.errors()]
    finding, keys, known, member = min(
        located, key=lambda found: (found[0]["type"] != "extra_forbidden", -len(found[1]))
    )
    key, given = ".".join(keys), finding["input"]
    match finding["type"]:
        case "extra_forbidden":
            return PlanError("JG-plan-001", where=where, key=key, nearest=nearest(keys[-1], known))
        case "missing" | "union_tag_not_found":
            return PlanError("JG-plan-002", where=where, key=key)
        case "union_tag_invalid":
            given, problem = finding["ctx"]["tag"], f"expected one of {finding['ctx']['expected_tags']}"
        case _:
            said = [other["msg"].removeprefix("Value error, ") for other, place, *_ in located if place == keys]
            problem = ", or: ".join(dict.fromkeys(said)) + (f" (for {member})" if member else "")
    return PlanError("JG-plan-003", where=f"{where}: {key}" if key else where, value=given, problem=problem)


def _locate(finding: ErrorDetails, model: type[BaseModel], value: Any) -> tuple[list[str], set[str], str]:
    """The keys that lead to a finding, as the user wrote them, the keys known beside the last, and whose they are.

    The last is the name of a union's member, e.g. `gru`, empty where there is none.

    Pydantic puts the names of union members between the keys of a location: a step that the document does not hold
    is such a name, and chooses among the models that may stand there.
    """
    models, keys, known, member = {model}, list[str](), set(model.model_fields), ""
    for step in finding["loc"]:
        known = {name for candidate in models for name in candidate.model_fields}
        steps = value if isinstance(value, Mapping) else range(len(value)) if isinstance(value, list | tuple) else ()
        if step in steps:
            value, keys = value[step], [*keys, str(step)]
            fields = [candidate.model_fields[step].annotation for candidate in models if step in candidate.model_fields]
            models = set().union(*map(_models, fields)) or models
        else:
            models = {candidate for candidate in models if step in (candidate.__name__, _tag(candidate))} or models
            member = str(step) if step in map(_tag, models) else member
    match finding["type"]:
        case "missing":
            keys.append(str(finding["loc"][-1]))
        case "union_tag_not_found" | "union_tag_invalid":
            keys.append(finding["ctx"]["discriminator"].strip("'"))
    return keys, known, member


def _tag(model: type[BaseModel]) -> object:
    """The value of a discriminated model's `name` literal."""
    field = model.model_fields.get("name")
    values = get_args(field.annotation) if field else ()
    return values[0] if values else None


def _models(annotation: Any) -> set[type[BaseModel]]:
    """Every pydantic model that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return set[type[BaseModel]]().union(*map(_models, get_args(annotation)))
