"""Laws of the npz form: every bad set is refused with its key, value and place."""

import hmac
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jangin.errors import DataError
from jangin.records.npz import PUBLIC_SPLIT_KEY, read_npz

ROWS = 60


def arrays(**changes: Any) -> dict[str, Any]:
    number = np.arange(ROWS)
    good = {
        "X": np.ones((ROWS, 3), np.float32),
        "y": (number % 2).astype(np.int64),
        "silo": number % 3,
        "unit": number // 2,
        "split": (number // 3 % 5 == 0).astype(np.int8),
    }
    return {key: value for key, value in (good | changes).items() if value is not None}


def saved(folder: Path, **changes: Any) -> Path:
    path = folder / "set.npz"
    np.savez(path, **arrays(**changes))
    return path


def with_value(values: np.ndarray, place: Any, value: Any) -> np.ndarray:
    values = values.copy()
    values[place] = value
    return values


@pytest.mark.parametrize("shape", [(ROWS, 3), (ROWS, 2, 8), (ROWS, 1, 4, 4)])
def test_a_good_set_is_read_as_it_is(tmp_path: Path, shape: tuple[int, ...]) -> None:
    given = arrays(X=np.random.default_rng(0).normal(size=shape).astype(np.float32))
    read = read_npz(saved(tmp_path, **given))
    assert len(read) == ROWS
    assert read.inputs.dtype == np.float32
    assert (read.silo.dtype, read.unit.dtype, read.split.dtype) == (np.int64, np.int64, np.int8)
    for key, values in zip(given, (read.inputs, read.targets, read.silo, read.unit, read.split), strict=True):
        assert np.array_equal(values, given[key])


@pytest.mark.parametrize(("given", "kept"), [("int32", "int64"), ("bool", "int64"), ("float64", "float32")])
def test_targets_are_int64_or_float32(tmp_path: Path, given: str, kept: str) -> None:
    assert read_npz(saved(tmp_path, y=np.ones((ROWS, 2), given))).targets.dtype == kept


def test_other_keys_are_not_opened(tmp_path: Path) -> None:
    assert len(read_npz(saved(tmp_path, names=np.array([object()]), note=np.array("x")))) == ROWS


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=100, max_size=100, unique=True))
def test_without_a_split_units_are_drawn_by_the_public_key(tmp_path: Path, units: list[int]) -> None:
    tested = [hmac.digest(PUBLIC_SPLIT_KEY, str(unit).encode(), "sha256")[0] < 51 for unit in units]
    unit, silo = np.repeat(np.array(units), 2), np.zeros(200, np.int64)
    path = tmp_path / "set.npz"
    np.savez(path, X=np.ones((200, 1), np.float32), y=silo, silo=silo, unit=unit)
    split = read_npz(path).split
    assert np.array_equal(split[::2], split[1::2])
    sure = np.array([hmac.digest(PUBLIC_SPLIT_KEY, str(u).encode(), "sha256")[0] != 51 for u in units])
    assert np.array_equal(split[::2][sure] == 1, np.array(tested)[sure])


X, y, unit = (arrays()[key] for key in ("X", "y", "unit"))
BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "no X": ("041 .*key 'X'.*nearest key there is 'X1'", {"X": None, "X1": X}),
    "no unit": ("041 .*'unit'.*'units'", {"unit": None, "units": unit}),
    "X is double": ("042 .*X is float64; expected float32", {"X": X.astype(np.float64)}),
    "y is text": ("042 .*y is <U1", {"y": np.array(["a"] * ROWS)}),
    "silo is a float": ("042 .*silo is float64; expected int64", {"silo": np.zeros(ROWS)}),
    "unit too large": ("042 .*unit is uint64", {"unit": unit.astype(np.uint64)}),
    "split is a truth": ("042 .*split is bool", {"split": unit > 3}),
    "X is flat": (r"043 .*'X'.*X \(60,\)", {"X": X[:, 0]}),
    "X is a number": ("043 .*'X'", {"X": np.float32(1)}),
    "X has no columns": ("043 .*'X'", {"X": X[:, :0]}),
    "no rows": ("043 .*'X'", {key: value[:0] for key, value in arrays().items()}),
    "y is short": (r"043 .*'y'.*X \(60, 3\), y \(59,\)", {"y": y[1:]}),
    "unit is a table": (r"043 .*'unit'.*unit \(60, 1\)", {"unit": unit[:, None]}),
    "X is NaN": ("044 .*X holds nan in row 7, column 2, silo 1 ", {"X": with_value(X, (7, 2), np.nan)}),
    "y is infinite": ("044 .*y holds inf in row 4, column -, silo 1", {"y": with_value(X[:, 0], 4, np.inf)}),
    "y is too large": ("044 .*y holds inf in row 4", {"y": with_value(np.ones(ROWS), 4, 1e300)}),
    "silo is negative": ("045 .*silo is -1 in row 9", {"silo": with_value(unit, 9, -1)}),
    "no test rows": ("046 .*silo 7 has no test rows", {"silo": with_value(arrays()["silo"], 3, 7)}),
    "no training rows": ("046 .*silo 8 has no training rows", {"silo": with_value(arrays()["silo"], 0, 8)}),
    "a third side": ("047 .*split is 2 in row 3", {"split": with_value(arrays()["split"], 3, 2)}),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_set_is_refused(tmp_path: Path, case: str) -> None:
    expected, changes = BAD[case]
    path = saved(tmp_path, **changes)
    with pytest.raises(DataError, match=rf"JG-data-{expected}") as caught:
        read_npz(path)
    assert str(path) in str(caught.value)
    assert caught.value.coded.text("hint", "ko")


def test_what_is_not_npz_is_refused(tmp_path: Path) -> None:
    empty, text, single, pickled, broken = (tmp_path / name for name in ("empty", "text", "a.npy", "p.npz", "b.npz"))
    empty.write_bytes(b"")
    text.write_text("X,y\n1,2\n")
    np.save(single, X)
    np.savez(pickled, **arrays(X=np.array([{}] * ROWS)))
    content = bytearray(saved(tmp_path).read_bytes())
    content[200:260] = bytes(60)
    broken.write_bytes(content)
    for path in (tmp_path / "nowhere.npz", empty, text, single, pickled, broken, tmp_path):
        with pytest.raises(DataError, match="JG-data-040"):
            read_npz(path)
