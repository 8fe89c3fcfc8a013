"""A coded refusal as a value that goes from one process to another, and back.

The law: what cannot be said there by this version is a refusal too, and never a bug.
"""

from collections.abc import Mapping
from typing import Final

from jangin.errors import (
    DataError,
    JanginError,
    LinkError,
    PlanError,
    PrivacyError,
    ServerError,
    SimulationError,
    SiteError,
    SumError,
)

__all__ = ["raised", "told"]

_KINDS: Final[Mapping[str, type[JanginError]]] = {
    "data": DataError,
    "link": LinkError,
    "plan": PlanError,
    "privacy": PrivacyError,
    "server": ServerError,
    "sim": SimulationError,
    "site": SiteError,
    "sum": SumError,
}


def told(error: JanginError) -> dict[str, object]:
    """What goes out: code, where and values, in types that canonical CBOR has."""
    values = {name: _plain(value) for name, value in error.coded.values.items()}
    return {"code": error.code, "where": error.coded.where, "values": values}


def raised(value: object) -> JanginError:
    """The refusal that came in; JG-server-411 where it is none that this version can say."""
    match value:
        case {"code": str(code), "where": str(where), "values": dict(values)}:
            part = code.split("-")[1] if code.count("-") == 2 else ""
            try:
                error = _KINDS.get(part, JanginError)(code, where=where, **values)
                str(error)
            except (KeyError, TypeError, ValueError, AttributeError):
                return ServerError("JG-server-411", where="refused", problem=f"the code {code[:40]!r}")
            return error
        case _:
            return ServerError("JG-server-411", where="refused", problem="another form")


def _plain(value: object) -> object:
    match value:
        case None | bool() | int() | float():
            return value
        case list() | tuple() | set() | frozenset():
            return [_plain(one) for one in (value if isinstance(value, list | tuple) else sorted(value))]
        case Mapping():
            return {str(key): _plain(one) for key, one in value.items()}
        case _:
            return str(value)
