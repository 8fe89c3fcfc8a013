"""ParameterLayout: where each named parameter stands in the one flat vector, and whether it is shared. Numpy only.

The law: a model travels as ONE flat float32 vector of its shared parameters; what is personal is not sent.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod

import numpy as np
from numpy.typing import NDArray

from jangin.codec.document import nearest
from jangin.errors import PlanError

__all__ = ["Entry", "ParameterLayout", "Vector"]

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Entry:
    """One named parameter: `vector[offset : offset + size]` reshaped to `shape`."""

    name: str
    shape: tuple[int, ...]
    offset: int
    shared: bool

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)


@dataclass(frozen=True)
class ParameterLayout:
    """The order of a model's parameters in its flat vector of `size` values."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, shapes: Iterable[tuple[str, Sequence[int]]], personal: Sequence[str] = ()) -> "ParameterLayout":
        """Lay parameters out in the order given; a name under one of the prefixes `personal` is personal.

        Raises:
            PlanError: JG-plan-010, a prefix that no parameter has; JG-plan-013, nothing is left to share.
        """
        entries: list[Entry] = []
        offset = 0
        for name, shape in shapes:
            shared = not any(name == prefix or name.startswith(f"{prefix}.") for prefix in personal)
            entries.append(Entry(name, tuple(shape), offset, shared))
            offset += entries[-1].size
        names = {prefix for entry in entries for prefix in accumulate(entry.name.split("."), "{}.{}".format)}
        for prefix in personal:
            if prefix not in names:
                raise PlanError("JG-plan-010", where="model.personal", value=prefix, nearest=nearest(prefix, names))
        if not any(entry.shared for entry in entries):
            raise PlanError("JG-plan-013", where="model.personal", value=list(personal))
        return cls(tuple(entries))

    @property
    def size(self) -> int:
        """Number of values of the whole model."""
        return sum(entry.size for entry in self.entries)

    @cached_property
    def shared(self) -> NDArray[np.intp]:
        """Positions of the shared values in the whole vector, ascending, shape (shared values,)."""
        pieces = [np.arange(e.offset, e.offset + e.size) for e in self.entries if e.shared]
        return np.concatenate(pieces) if pieces else np.empty(0, np.intp)

    def of_shared(self, whole: Vector) -> Vector:
        """The shared values of a whole vector, (size,), without an index of each; (shared values,)."""
        return np.concatenate([whole[e.offset : e.offset + e.size] for e in self.entries if e.shared])

    def metadata(self) -> dict[str, str]:
        """What a safetensors file says of the shared vector in it.

        `layout` is JSON, a list of `{"name", "shape", "offset"}`: `vector[offset : offset + prod(shape)]` reshaped to
        `shape` is the shared parameter of that name.
        """
        sent = ParameterLayout.of([(entry.name, entry.shape) for entry in self.entries if entry.shared]).entries
        parts = [{"name": entry.name, "shape": entry.shape, "offset": entry.offset} for entry in sent]
        return {"layout": json.dumps(parts)}
