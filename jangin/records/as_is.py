"""A records folder as it is, validated or not: for looking at it, and for making another folder of it.

The law: nothing is trained from here. A folder that is made of another keeps its episodes' ids and its hold-out key, so
that whoever was set aside stays so; its files are no longer those that were validated, and it is validated anew.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jangin.codec.document import read
from jangin.errors import DataError, one_line
from jangin.records.card import Card
from jangin.records.dataset import CARD_FILE, EPISODES_FILE, EpisodeView, refuse_filled
from jangin.records.manifest import (
    INGESTED_FILE,
    KEY_FILE,
    MAPPING_FILE,
    Manifest,
    Validation,
    described_files,
    file_digest,
)
from jangin.version import __version__

__all__ = ["as_it_is", "made_of"]

_LOCAL = (KEY_FILE, MAPPING_FILE, INGESTED_FILE)


def as_it_is(folder: Path, some: Callable[[list[str]], list[str]] | None = None) -> tuple[EpisodeView, EpisodeView]:
    """All episodes of a folder, of both sides, whatever was validated; and some of them.

    Args:
        folder: with card.yaml and episodes.parquet.
        some: which of the episodes, by their ids; all where None.

    Raises:
        DataError: JG-data-012, a file cannot be read; JG-data-011, no card or no episodes.
        PlanError: JG-plan-001..006, the card has another form.
    """
    for name in (CARD_FILE, EPISODES_FILE):
        if not (folder / name).is_file():
            raise DataError("JG-data-011", where=str(folder / name))
    card = read(folder / CARD_FILE, Card)
    try:
        ids = pq.read_table(folder / EPISODES_FILE, columns=["episode_id"])["episode_id"].cast(pa.string())
        manifest = Manifest(
            schema_version=card.schema_version,
            tool_version=__version__,
            files={name: file_digest(folder / name) for name in described_files(folder)},
            validation=Validation(level=0, findings=0, passed=False),
            unit="episode",
            train=tuple(ids.drop_null().unique().to_pylist()),
            holdout=(),
        )
        everything = EpisodeView(folder, card, manifest, manifest.train)
        chosen = None if some is None else some(list(manifest.train))
        return everything, EpisodeView(folder, card, manifest, manifest.train, chosen)
    except (pa.ArrowException, OSError, KeyError) as error:
        problem = one_line(error)
        raise DataError("JG-data-012", where=str(folder / EPISODES_FILE), problem=problem) from None


def made_of(folder: Path, new: Path, changes: Mapping[str, Callable[[pa.Table], pa.Table]]) -> None:
    """Copy a records folder with some Parquet files changed; the new one appears whole or not at all.

    The hold-out key and the plant's own tag names go along; the manifest does not.

    Args:
        folder: records.
        new: absent or empty.
        changes: by a file's path inside the folder, what becomes of its table.

    Raises:
        DataError: JG-data-002, `new` holds something; JG-data-019, it cannot be made.
    """
    refuse_filled(new)
    partial = None
    try:
        new.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{new.name}-", dir=new.parent))
        for name in (*described_files(folder), *_LOCAL):
            if (folder / name).is_file():
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                _carry(folder / name, partial / name, changes.get(name))
        if new.exists():
            new.rmdir()
        partial.rename(new)
    except OSError as error:
        raise DataError("JG-data-019", where=str(new), problem=error.strerror) from None
    finally:
        if partial is not None and partial.exists():
            shutil.rmtree(partial, ignore_errors=True)


def _carry(source: Path, target: Path, change: Callable[[pa.Table], pa.Table] | None) -> None:
    """One file, as it is (with its mode) or changed, a row group at a time."""
    if change is None:
        shutil.copy2(source, target)
        return
    with pq.ParquetFile(source) as file:
        schema = change(file.schema_arrow.empty_table()).schema
        with pq.ParquetWriter(target, schema) as writer:
            for number in range(file.num_row_groups):
                writer.write_table(change(file.read_row_group(number)).cast(schema))
    target.chmod(source.stat().st_mode & 0o777)
