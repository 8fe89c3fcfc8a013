"""Laws of the manifest and of the hold-out key's file."""

import hashlib
import json
import stat
from pathlib import Path

import pytest

from jangin.errors import DataError, PlanError
from jangin.records.checks import validate
from jangin.records.manifest import (
    KEY_FILE,
    MANIFEST_FILE,
    Manifest,
    Validation,
    described_files,
    read_key,
    read_manifest,
    write_key,
    write_manifest,
)

MANIFEST = Manifest(
    schema_version=1,
    tool_version="0",
    files={"b": "2", "a": "1"},
    validation=Validation(level=1, findings=0, passed=True),
    unit="episode",
    train=("가", "x"),
    holdout=("y",),
)


def test_a_manifest_survives_its_file_and_its_keys_are_in_order(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    text = (tmp_path / MANIFEST_FILE).read_text(encoding="utf-8")
    assert read_manifest(tmp_path) == MANIFEST
    assert list(json.loads(text)["files"]) == ["a", "b"]
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert "가" in text


def test_a_manifest_lists_every_file_but_those_that_never_leave_the_site(folder: Path) -> None:
    (folder / "mapping.local.yaml").write_text("tag: torch.current")
    (folder / ".swap").write_text("x")
    validate(folder)
    manifest = read_manifest(folder)
    assert manifest is not None
    assert list(manifest.files) == ["card.yaml", "episodes.parquet", "streams/torch/part-000.parquet"]
    for name, digest in manifest.files.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_nobody_is_on_both_sides(tmp_path: Path) -> None:
    content = MANIFEST.model_dump(mode="json") | {"holdout": ["x"]}
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(content))
    with pytest.raises(PlanError, match=r"JG-plan-003.*'x' is in train and in holdout"):
        read_manifest(tmp_path)


def test_a_broken_manifest_says_so(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).write_text("{")
    with pytest.raises(DataError, match=r"JG-data-007 .*manifest\.json"):
        read_manifest(tmp_path)


def test_no_manifest_is_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    assert read_key(tmp_path) is None


def test_the_key_is_its_owners_alone_and_nobody_lists_it(tmp_path: Path) -> None:
    write_key(tmp_path, bytes(range(32)))
    assert read_key(tmp_path) == bytes(range(32))
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert described_files(tmp_path) == []


def test_a_key_of_another_length_is_refused(tmp_path: Path) -> None:
    write_key(tmp_path, b"short")
    with pytest.raises(DataError, match=r"JG-data-009 .* 5 bytes instead of 32"):
        read_key(tmp_path)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    write_manifest(tmp_path, MANIFEST)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match=r"JG-data-010 .*No space left"):
        write_manifest(tmp_path, MANIFEST.model_copy(update={"tool_version": "1"}))
    assert read_manifest(tmp_path) == MANIFEST
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST_FILE]


def test_a_file_that_went_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"JG-data-012 .*/a: "):
        MANIFEST.read(tmp_path, "a")
