"""Laws of gathering: blocks and files change no example, the disk shows nobody any, and a changed file is met."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.errors import DataError
from jangin.models import gather as gathering
from jangin.models.cut import cut
from jangin.models.gather import gather
from jangin.models.lines import ModelLine, read_line
from jangin.records.aside import Room, RowFile
from jangin.records.checks import validate
from jangin.records.dataset import Records
from jangin.records.examples import Examples, ExamplesAside
from jangin.records.generate import generate
from jangin.records.process import read_process

PROCESS = read_process("steel.bof_blow")
WINDOWS = ModelLine.model_validate(
    {
        "line": "windows",
        "process": "steel.bof_blow",
        "model": {"name": "linear"},
        "task": "regression",
        "inputs": [{"stream": "flame", "rate_hz": 4, "window_s": 8, "hop_s": 6}],
        "context": ["humidity", "lining_lot"],
        "targets": [{"action": "oxygen_volume", "range": [0, 3500]}],
    }
)
LINES = {"windows": WINDOWS, "reduced": read_line("national-bof-blow")}
FLAME = Path("streams/flame")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site's records, its flames in two part files, the rows of an episode anywhere in both."""
    path = generate("steel.bof_blow", tmp_path_factory.mktemp("records"), sites=1, masters=3, episodes=15, seed=5)[0]
    rows = pq.read_table(path / FLAME / "part-000.parquet")
    turned = rows.take(pa.array(np.random.default_rng(0).permutation(len(rows))))
    for number, part in enumerate((turned.slice(0, 1000), turned.slice(1000))):
        pq.write_table(part, path / FLAME / f"part-{number:03}.parquet", row_group_size=700)
    validate(path, level=1, unit="episode", random_bytes=np.random.default_rng(5).bytes).require(path)
    return path


def same(found: Examples | ExamplesAside, expected: Examples) -> bool:
    parts = [part.inputs for part in found.parts()]
    assert np.concatenate(parts).dtype == expected.inputs.dtype
    pairs = ((np.concatenate(parts), expected.inputs), (found.targets, expected.targets), (found.units, expected.units))
    return all(np.array_equal(one, other) for one, other in pairs) and len(found) == len(expected)


@pytest.mark.parametrize("unit", ["episode", "master"])
@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_where_examples_lie_and_in_how_many_blocks_they_are_cut_changes_none_of_them(
    folder: Path, tmp_path: Path, line: ModelLine, unit: Literal["episode", "master"], monkeypatch: pytest.MonkeyPatch
) -> None:
    view = Records.open(folder).train()
    expected, blocks = cut(line, view, PROCESS, unit), 0

    def counted(*of_block: Any) -> Examples:
        nonlocal blocks
        blocks += 1
        return cut(*of_block)

    monkeypatch.setattr(gathering, "cut", counted)
    for memory_bytes, kind, least in (
        (2**40, Examples, 1),
        (8 * expected.inputs.nbytes, Examples, 2),
        (0, ExamplesAside, len(view.episodes)),
    ):
        blocks = 0
        found = gather(line, view, PROCESS, unit, Room(memory_bytes, tmp_path, 0))
        assert type(found) is kind
        assert same(found, expected)
        assert blocks >= least
    assert type(gather(line, view, PROCESS, unit, None)) is Examples


def test_a_block_holds_its_own_episodes_and_nothing_of_the_hold_out(folder: Path) -> None:
    records = Records.open(folder)
    view, beside = records.train(), np.zeros(len(records.train().episodes), np.int64)
    seen: list[str] = []
    for block in view.blocks(["flame"], 100_000, beside):
        ours = block.episodes["episode_id"].to_pylist()
        assert block.stream("flame").equals(view.stream("flame").filter(_is_in(view, ours)))
        seen += ours
    assert seen == view.episodes["episode_id"].to_pylist()
    assert not set(seen) & set(records.manifest.holdout)


def _is_in(view: Any, ids: list[str]) -> pa.Array:
    return pa.array([one in ids for one in view.stream("flame")["episode_id"].to_pylist()])


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_file_that_is_not_what_was_validated_is_met(
    folder: Path, tmp_path: Path, when: str, copied: Callable[[Path], Path]
) -> None:
    own = copied(folder)
    view, part = Records.open(own).train(), own / FLAME / "part-000.parquet"
    content = part.read_bytes()
    room = Room(0, tmp_path, 0)
    if when == "before":
        part.write_bytes(content[:-9] + b"x" + content[-8:])
        with pytest.raises(DataError) as refused:
            gather(WINDOWS, view, PROCESS, "episode", room)
        assert refused.value.code == "JG-data-005"
    else:
        blocks = view.blocks(["flame"], 0, np.zeros(len(view.episodes), np.int64))
        next(blocks)
        part.write_bytes(content)  # the same bytes once more: nobody can tell what was read in between
        with pytest.raises(DataError) as refused:
            list(blocks)
        assert refused.value.code == "JG-data-221"


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / "copy"))

    return copy


@given(st.lists(st.integers(0, 19), max_size=30))
def test_rows_come_back_as_they_were_written_in_any_order(rows: list[int]) -> None:
    values = np.random.default_rng(1).normal(size=(20, 3, 2)).astype(np.float32)
    file = RowFile(Room(0, Path("/tmp"), 0), values.shape)
    for part in np.split(values, [7, 8]):
        file.append(part)
    np.testing.assert_array_equal(file.read(np.array(rows, np.intp)), values[rows])
    with pytest.raises(ValueError, match="Expected rows"):
        file.append(values[:1])


def test_the_file_has_no_name_is_its_owners_alone_and_goes_with_who_holds_it(tmp_path: Path) -> None:
    file = RowFile(Room(0, tmp_path, 0), (1000, 50))
    status = os.fstat(file._file.fileno())
    assert list(tmp_path.iterdir()) == []
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_nlink == 0
    assert status.st_blocks * 512 >= 200_000, "its place on the disk is taken at once"


@pytest.mark.parametrize(("where", "kept", "code"), [(".", 2**60, "JG-data-220"), ("nowhere", 0, "JG-data-222")])
def test_a_disk_without_room_or_a_folder_says_so_before_a_row_is_cut(
    tmp_path: Path, where: str, kept: int, code: str
) -> None:
    with pytest.raises(DataError) as refused:
        RowFile(Room(0, tmp_path / where, kept), (10, 2))
    assert refused.value.code == code
