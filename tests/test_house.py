"""Laws of the house: light imports, real links, honest `__all__`, and docstrings that name what is raised."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import jangin

PACKAGE = Path(jangin.__file__).parent
ROOT = PACKAGE.parent
MODULES = {path.relative_to(ROOT).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}

HEAVY = (
    "torch",
    "scipy",
    "dp_accounting",
    "pyarrow",
    "matplotlib",
    "sklearn",
    "opacus",
    "flwr",
    "sqlalchemy",
    "fluent",
    "babel",
)
LIGHT = (
    "jangin",
    "jangin.errors",
    "jangin.words",
    "jangin.codec.cbor",
    "jangin.codec.document",
    "jangin.records.card",
    "jangin.records.catalogue",
    "jangin.records.process",
    "jangin.models.spec",
    "jangin.models.layout",
    "jangin.models.lines",
    "jangin.privacy.releases",
    "jangin.privacy.secure_sum.masks",
    "jangin.plan",
    "jangin.plan.blocks",
    "jangin.plan.messages",
    "jangin.plan.training_plan",
    "jangin.strategies.check",
    "jangin.server.rounds",
)

pytestmark = pytest.mark.no_cover  # most of it reads the source and runs none of it
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def test_what_the_light_process_imports_is_light() -> None:
    script = (
        "import importlib, sys\n"
        f"for name in {LIGHT!r}:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "    if heavy: sys.exit(f'{name} loads {heavy}')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_simulate_is_loaded_when_it_is_asked_for() -> None:
    from jangin.simulation import simulate

    assert jangin.simulate is simulate
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        _ = jangin.simulat


@pytest.mark.parametrize("name", ["server", "client", "strategies", "privacy", "configs"])
def test_a_top_level_folder_is_a_link_into_the_package(name: str) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("The links stand in a checkout, not in an sdist or a wheel.")
    assert (ROOT / name).readlink() == Path("jangin", name)
    assert (PACKAGE / name).is_dir()


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_holds(name: str) -> None:
    assert ast.get_docstring(tree_of(name))


def exported(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def bound(body: list[ast.stmt]) -> Iterator[str]:
    """Names that statements at the top of a module bind."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name for alias in node.names)
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from (ast.unparse(target) for target in targets)
            case ast.If() | ast.With():
                yield from bound(node.body)


def order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_exports_exists_and_is_sorted(name: str) -> None:
    names, tree = exported(tree_of(name)), tree_of(name)
    assert set(names) <= set(bound(tree.body))
    assert names == sorted(names, key=order)


@pytest.mark.parametrize("name", MODULES)
def test_nobody_imports_what_another_module_keeps_to_itself(name: str) -> None:
    imports = [node for node in ast.walk(tree_of(name)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if (node.module or "").startswith("jangin")]
    assert not [alias.name for node in ours for alias in node.names if re.match(r"_[a-z]", alias.name)]


def public(tree: ast.Module) -> Iterator[tuple[str, Definition, str]]:
    """Exported functions and classes and their public methods: dotted name, definition, its docstring.

    What a constructor raises may stand in the docstring of its class.
    """
    names = set(exported(tree))
    for node in tree.body:
        if isinstance(node, Definition) and node.name in names:
            about = ast.get_docstring(node) or ""
            yield node.name, node, about
            if isinstance(node, ast.ClassDef):
                for method in node.body:
                    if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                        own = ast.get_docstring(method) or ""
                        if method.name in ("__init__", "__post_init__"):
                            yield f"{node.name}.{method.name}", method, f"{about} {own}".strip()
                        elif not method.name.startswith("_"):
                            yield f"{node.name}.{method.name}", method, own


def raised(node: ast.AST) -> set[str]:
    """Names of the exceptions that leave a body by its own `raise`.

    Passed over: what the same body catches, and the last case of a `match`, which only a bug can reach.
    """
    match node:
        case ast.Raise(exc=ast.Call(func=function)) if not ast.unparse(function).startswith("_"):
            return {ast.unparse(function)}
        case ast.match_case(pattern=ast.MatchAs(pattern=None, name=None)):
            return set()
        case ast.Try(handlers=[_, *_]):
            parts = [*node.handlers, *node.orelse, *node.finalbody]
        case _:
            parts = list(ast.iter_child_nodes(node))
    return set().union(*map(raised, parts))


@pytest.mark.parametrize("name", MODULES)
def test_a_public_definition_says_what_it_is_and_what_it_raises(name: str) -> None:
    for defined, node, about in public(tree_of(name)):
        assert about, defined
        if not isinstance(node, ast.ClassDef):
            unsaid = {error for error in raised(node) if not re.search(rf"\b{re.escape(error)}\b", about)}
            assert unsaid == set(), defined


def test_no_accountant_that_is_below_the_true_bound_is_named() -> None:
    """Opacus' Gaussian-DP accountant states 1 to 18 % less than is spent."""
    named = [file for file in PACKAGE.rglob("*.py") if "gdp" in file.read_text(encoding="utf-8").lower()]
    assert named == []
