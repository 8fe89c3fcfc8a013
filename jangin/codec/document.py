"""YAML documents read once into frozen pydantic models.

The law: an unknown key is an error that names the nearest known one; a key given twice is an error; every
message names file, key, value and the way out. One document, one canonical hash.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from jangin.codec import cbor
from jangin.errors import PlanError

__all__ = ["Document", "assign", "nearest", "parse", "read", "read_yaml"]

M = TypeVar("M", bound=BaseModel)


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
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_OneKeyOnceLoader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problem = " ".join(str(error).split())
        raise PlanError("JG-plan-004", where=str(path), problem=problem) from None
    if not isinstance(value, dict):
        raise PlanError("JG-plan-005", where=str(path), found=type(value).__name__)
    return value


def parse(value: Mapping[str, Any], model: type[M], where: str) -> M:
    """Check a mapping against `model`; `where` names its source in messages.

    Raises:
        PlanError: JG-plan-001 unknown key, JG-plan-002 missing key, JG-plan-003 bad value.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _coded(error, model, where) from None


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


class _OneKeyOnceLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice (YAML 1.2.2 section 3.2.1.3) and reads 1e-5 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise PlanError("JG-plan-006", where=f"line {key.start_mark.line + 1}", key=key.value)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else "")
        return super().construct_mapping(node, deep)


_OneKeyOnceLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _coded(error: ValidationError, model: type[BaseModel], where: str) -> PlanError:
    """The first finding of pydantic in our words; unknown keys first, they explain the rest."""
    findings = sorted(error.errors(), key=lambda finding: finding["type"] != "extra_forbidden")
    finding = findings[0]
    parts = [str(part) for part in finding["loc"]]
    known, keys = _walk(model, parts)
    key = ".".join(keys)
    match finding["type"]:
        case "extra_forbidden":
            return PlanError("JG-plan-001", where=where, key=key, nearest=nearest(parts[-1], known))
        case "missing":
            return PlanError("JG-plan-002", where=where, key=key)
        case _:
            problem = finding["msg"].removeprefix("Value error, ")
            return PlanError(
                "JG-plan-003",
                where=f"{where}: {key}" if key else where,
                value=finding["input"],
                problem=problem,
            )


def _walk(model: type[BaseModel], loc: list[str]) -> tuple[set[str], list[str]]:
    """The keys known beside the last step of a pydantic location, and the location as the user wrote it.

    Pydantic puts the names of union members into a location; a step that no candidate model knows is such a name
    unless it is the last one.
    """
    candidates: set[type[BaseModel]] = {model}
    keys: list[str] = []
    for step in loc[:-1]:
        fields = [m.model_fields[step].annotation for m in candidates if step in m.model_fields]
        if fields:
            candidates, keys = set().union(*(_models(field) for field in fields)) or candidates, [*keys, step]
        elif step.isdigit():
            keys = [*keys, step]
        else:
            candidates = {m for m in candidates if step == m.__name__ or _tag(m) == step} or candidates
    known = set().union(*(m.model_fields for m in candidates))
    last_is_key = loc and (loc[-1] in known or loc[-1].isdigit() or not _is_union_member(loc[-1], candidates))
    return known, [*keys, loc[-1]] if last_is_key else keys


def _is_union_member(step: str, candidates: set[type[BaseModel]]) -> bool:
    return (
        any(step == m.__name__ or _tag(m) == step for m in candidates) or "[" in step or step in {"float", "int", "str"}
    )


def _tag(model: type[BaseModel]) -> object:
    """The value of a discriminated model's `name` literal."""
    field = model.model_fields.get("name")
    values = get_args(field.annotation) if field else ()
    return values[0] if values else None


def _models(annotation: Any) -> set[type[BaseModel]]:
    """Every pydantic model that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    if get_origin(annotation) in (Union, UnionType, Annotated, list, tuple, dict) or get_args(annotation):
        return set().union(*(_models(part) for part in get_args(annotation)))
    return set()
