"""A chain: an append-only file of signed entries, each of which names the one before it. One sqlite file.

    head(0) = SHA-256("jangin/chain" 0x00 owner)    head(n) = SHA-256(head(n - 1) || SHA-256(body(n)))

The law: an entry is on the disk before `append` returns; no entry is ever changed or removed, and whoever changes,
removes or reorders one without the key is noticed at the next opening. What a signature cannot show is that the newest
entries were cut off: for that the newest head is kept in a second place, the anchor, and shown to others.
Not covered: whoever holds the key, or puts back file and anchor together (a snapshot of the machine).
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from jangin.errors import PrivacyError

__all__ = ["Anchor", "Chain", "Head", "Signer", "first_head"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY, body BLOB NOT NULL, head BLOB NOT NULL, signature BLOB NOT NULL
) STRICT;
"""
_PRAGMAS: Final = ("PRAGMA synchronous = EXTRA", "PRAGMA journal_mode = WAL")
"""EXTRA comes first: a journal whose deletion a power cut undoes would undo the change to WAL and all that is in it."""

_ANCHOR_BYTES: Final = 8 + 32


@dataclass(frozen=True)
class Head:
    """What a chain has come to.

    Attributes:
        entries: how many there are.
        digest: commits to all of them, 32 bytes.
    """

    entries: int
    digest: bytes


class Anchor(Protocol):
    """The second place where the newest head is kept; it is written whole or not at all."""

    def read(self) -> bytes | None:
        """What was written last; None before the first time."""
        ...

    def write(self, content: bytes) -> None:
        """Keep `content` on the disk."""
        ...


class Signer(Protocol):
    """The key of a chain's owner, handed in."""

    def sign(self, message: bytes) -> bytes:
        """A signature of `message`."""
        ...

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether it is this key's."""
        ...


class Chain:
    """An open chain; a context manager, used by one thread. Several processes may have it open.

    Attributes:
        bodies: those that were there when it was opened, oldest first.
    """

    def __init__(
        self,
        path: Path,
        owner: str,
        signer: Signer,
        anchor: Anchor,
        connect: Callable[[Path], sqlite3.Connection] | None = None,
    ) -> None:
        """Open the file and read it through; make it where neither it nor the anchor is there.

        Args:
            path: the sqlite file.
            owner: whose it is; a chain of another owner is refused.
            signer: the owner's key.
            anchor: the second place.
            connect: opens the file, by default as sqlite3 does; tests put a disk that forgets beneath it.

        Raises:
            PrivacyError: JG-privacy-025, an entry was altered; 026, entries are missing; 027, the file is gone, or
                cannot be used.
        """
        self._path, self._signer, self._anchor = path, signer, anchor
        self._heads = [first_head(owner)]
        self._begin()
        kept = anchor.read()  # before the entries: what others append meanwhile is more than it knows, not less
        try:
            self._connection = (connect or _connect)(path)
            try:
                for statement in (*_PRAGMAS, _SCHEMA):
                    self._connection.execute(statement)
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise PrivacyError("JG-privacy-027", where=path.name, problem=str(error)) from None
        try:
            self.bodies: tuple[bytes, ...] = tuple(self.news())
            self._check_anchor(kept or b"")
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def head(self) -> Head:
        """What it has come to, as far as it was read."""
        return Head(len(self._heads) - 1, self._heads[-1])

    def holds(self, head: Head) -> bool:
        """Whether this is the chain that once had this head, with or without more since."""
        return head.entries < len(self._heads) and self._heads[head.entries] == head.digest

    def news(self) -> list[bytes]:
        """The bodies that were appended since the last look, by whomever, oldest first.

        Raises:
            PrivacyError: JG-privacy-025, they do not follow what was read before; 027.
        """
        heads = [self._heads[-1]]
        rows = self.do(
            "SELECT number, body, head, signature FROM entries WHERE number >= ? ORDER BY number", self._next
        )
        for place, (number, body, head, _) in enumerate(rows, self._next):
            heads.append(_follow(heads[-1], body))
            if number != place or head != heads[-1]:
                raise PrivacyError("JG-privacy-025", where=self._path.name, entry=place)
        if rows and not self._signer.verify(rows[-1][3], heads[-1]):
            raise PrivacyError("JG-privacy-025", where=self._path.name, entry=rows[-1][0])
        self._heads += heads[1:]
        return [body for _, body, _, _ in rows]

    @contextmanager
    def alone(self) -> Iterator[list[bytes]]:
        """Nobody else appends meanwhile; what is done within is on the disk afterwards, or nothing of it.

        Yields:
            The news before that.

        Raises:
            PrivacyError: JG-privacy-025 and 027; where the anchor could not be written the entries are there all the
                same, and are news to the next look.
        """
        self.do("BEGIN IMMEDIATE")
        before = len(self._heads)
        try:
            news = self.news()
            before = len(self._heads)
            yield news
            self.do("COMMIT")
        except BaseException:
            del self._heads[before:]
            with suppress(PrivacyError):  # where the disk failed there may be no transaction left to undo
                self.do("ROLLBACK")
            raise
        try:
            self._keep_head()
        except BaseException as error:
            del self._heads[before:]
            if isinstance(error, OSError):
                raise PrivacyError("JG-privacy-027", where=self._path.name, problem=str(error)) from None
            raise

    def _keep_head(self) -> None:
        """Write the anchor, unless somebody has appended since: the newer head is theirs to keep."""
        self.do("BEGIN IMMEDIATE")
        try:
            if self.do("SELECT max(number) FROM entries")[0][0] == self.head.entries:
                self._anchor.write(self._signed(self.head))
        finally:
            self.do("ROLLBACK")

    def append(self, body: bytes) -> None:
        """Add one entry, within `alone`."""
        head = _follow(self._heads[-1], body)
        self.do("INSERT INTO entries VALUES (?, ?, ?, ?)", self._next, body, head, self._signer.sign(head))
        self._heads.append(head)

    def check_signatures(self) -> None:
        """Verify every signature, not only the last.

        Raises:
            PrivacyError: JG-privacy-025, naming the first that does not hold.
        """
        for number, head, signature in self.do("SELECT number, head, signature FROM entries ORDER BY number"):
            if not self._signer.verify(signature, head):
                raise PrivacyError("JG-privacy-025", where=self._path.name, entry=number)

    def do(self, statement: str, *values: object) -> list[Any]:
        """Run one statement on the file.

        Raises:
            PrivacyError: JG-privacy-027, the file cannot be used.
        """
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise PrivacyError("JG-privacy-027", where=self._path.name, problem=str(error)) from None

    def _signed(self, head: Head) -> bytes:
        content = head.entries.to_bytes(8) + head.digest
        return content + self._signer.sign(content)

    def _begin(self) -> None:
        """The anchor comes first, so that a file without one was never ours, and one without a file has lost it."""
        if self._path.exists():
            return
        kept = self._anchor.read()
        if kept is not None and self._kept(kept) != self.head:
            raise PrivacyError("JG-privacy-027", where=self._path.name, problem="the file is gone")
        self._anchor.write(self._signed(self.head))
        self._path.touch(mode=0o600)

    def _check_anchor(self, content: bytes) -> None:
        """Whether the chain still has the head that the anchor remembered."""
        kept = self._kept(content)
        if kept is None or not self.holds(kept):
            known = "no" if kept is None else kept.entries
            raise PrivacyError("JG-privacy-026", where=self._path.name, found=self.head.entries, known=known)

    def _kept(self, content: bytes) -> Head | None:
        """The head of an anchor's content; None where its signature does not hold."""
        signed, signature = content[:_ANCHOR_BYTES], content[_ANCHOR_BYTES:]
        if len(signed) < _ANCHOR_BYTES or not self._signer.verify(signature, signed):
            return None
        return Head(int.from_bytes(signed[:8]), signed[8:])

    @property
    def _next(self) -> int:
        return len(self._heads)


def first_head(owner: str) -> bytes:
    """The head of an owner's chain without entries, 32 bytes."""
    return hashlib.sha256(b"jangin/chain\0" + owner.encode()).digest()


def _follow(head: bytes, body: bytes) -> bytes:
    return hashlib.sha256(head + hashlib.sha256(body).digest()).digest()


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=10.0, isolation_level=None)
