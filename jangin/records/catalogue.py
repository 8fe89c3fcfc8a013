"""The catalogue: processes and model lines by their names, those of the package and those of a folder of one's own.

    jangin/configs/processes/*.yaml, jangin/configs/lines/*.yaml     what is installed
    $JANGIN_CATALOGUE/processes/*.yaml, .../lines/*.yaml             what somebody adds, in the same form

The law: an entry is data and is called as its file is; what is installed can be added to and never replaced.
"""

import os
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, TypeVar

from jangin.codec.document import Document, read
from jangin.errors import DataError

__all__ = ["FOLDER_VARIABLE", "Kind", "catalogue_names", "read_entry"]

FOLDER_VARIABLE = "JANGIN_CATALOGUE"
"""The environment variable that names a folder of one's own."""

Kind = Literal["processes", "lines"]
D = TypeVar("D", bound=Document)


def catalogue_names(kind: Kind) -> list[str]:
    """All processes or lines, in alphabetical order.

    Raises:
        DataError: JG-data-200 the folder of one's own is none; 201 a file of it is named as an installed one.
    """
    return sorted(_paths(kind, os.environ.get(FOLDER_VARIABLE, "")))


def read_entry(kind: Kind, name: str, model: type[D]) -> D:
    """The entry of a name that `catalogue_names` knows, read once: its file does not change under a process.

    Raises:
        DataError: JG-data-202, it calls itself otherwise than its file; the errors of `catalogue_names`.
        PlanError: JG-plan-001..006 the file does not hold a `model`.
    """
    entry: D = _read(_paths(kind, os.environ.get(FOLDER_VARIABLE, ""))[name], kind, model)
    return entry


@cache
def _paths(kind: Kind, own: str) -> Mapping[str, Path]:
    """Files by their names; `own` is the folder that somebody adds, or nothing."""
    installed = _yaml(Path(str(files("jangin.configs"))) / kind)
    if not own:
        return installed
    if not Path(own).is_dir():
        raise DataError("JG-data-200", where=FOLDER_VARIABLE, folder=own)
    added = _yaml(Path(own) / kind)
    for name in sorted(added.keys() & installed.keys()):
        raise DataError("JG-data-201", where=str(added[name]), name=name)
    return installed | added


def _yaml(folder: Path) -> dict[str, Path]:
    return {path.name.removesuffix(".yaml"): path for path in folder.glob("*.yaml")}


@cache
def _read(path: Path, kind: Kind, model: type[D]) -> D:
    entry, key = read(path, model), {"processes": "process", "lines": "line"}[kind]
    if getattr(entry, key) != path.name.removesuffix(".yaml"):
        raise DataError("JG-data-202", where=str(path), key=key, found=getattr(entry, key))
    return entry
