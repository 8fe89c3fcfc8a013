"""Words and a number that occur nowhere else, planted in records, and every form in which they might come out again."""

import base64
import gzip
import secrets
import shutil
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

__all__ = ["found", "plant"]

_EDGE = 2  # characters of base64 at either end that depend on what stands beside


def plant(records: Path, at: Path) -> list[str | float]:
    """A copy of records at `at`, not validated: canaries in masters' names, values, texts, tags and files' names.

    Returns:
        Them, with the episodes' ids.
    """
    shutil.copytree(records, at)
    (at / "manifest.json").unlink(missing_ok=True)
    names = [f"Hong-{secrets.token_hex(6)}" for _ in range(2)]
    text, note, tag, file = (f"canary-{secrets.token_hex(6)}" for _ in range(4))
    value = 80 + secrets.randbelow(10**9) / 10**8  # of humidity, in per cent
    episodes = pq.read_table(at / "episodes.parquet")
    planted = {
        "master": [names[row % 2] for row in range(len(episodes))],
        "consent_id": [text] * len(episodes),
        "context.humidity": [value] * len(episodes),
    }
    for column, content in planted.items():
        place = episodes.column_names.index(column)
        episodes = episodes.set_column(place, column, pa.array(content, episodes.schema.field(column).type))
    pq.write_table(episodes, at / "episodes.parquet")
    card = yaml.safe_load((at / "card.yaml").read_text(encoding="utf-8"))
    card["people"]["note"] = note
    (at / "card.yaml").write_text(yaml.safe_dump(card, allow_unicode=True), encoding="utf-8")
    (at / "mapping.local.yaml").write_text(f"{tag}: flame.redness\n", encoding="utf-8")
    (at / "ingested.local.json").write_text(
        f'{{"key": "", "episodes": {{"{tag}": {{"{file}": ""}}}}}}', encoding="utf-8"
    )
    flame = at / "streams" / "flame"
    (flame / "part-000.parquet").rename(flame / f"part-{file}.parquet")
    return [*names, text, note, tag, file, value, *episodes["episode_id"].to_pylist()]


def found(canaries: Iterable[str | float], *places: bytes) -> set[str | float]:
    """Which of them occur in any of these bytes: as they are, in UTF-16, hexadecimal, base64, or compressed alone."""
    return {canary for canary in canaries for form in _forms(canary) if any(form in place for place in places)}


def _forms(canary: str | float) -> set[bytes]:
    """A number in decimals and as a float64; of fewer bytes any large file would have some."""
    raw = str(canary).encode()
    if isinstance(canary, float):
        binary = np.float64(canary).tobytes()
        return {raw, binary, binary[::-1]}
    forms = {raw, raw.upper(), raw.lower(), raw[::-1], raw.hex().encode(), raw.hex().upper().encode()}
    forms |= {canary.encode("utf-16-le"), canary.encode("utf-16-be")}
    for ahead in range(3):  # where it stands in groups of three bytes
        for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
            forms.add(encode(b"\0" * ahead + raw).rstrip(b"=")[2 * _EDGE : -_EDGE])
    forms |= {zlib.compress(raw)[2:-4], gzip.compress(raw, mtime=0)[10:-8]}
    return forms
