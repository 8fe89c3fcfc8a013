"""The ledger over a disk that forgets what was not synced, and under kill -9.

The simulated disk lies beneath SQLite (apsw's VFS): it writes down every write, truncation, deletion and sync. A crash
after any of them leaves what was synced, and of the rest any part: whole writes, torn ones, none.
"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest
from ledgers import EPISODES, NOON, Key, keys, wish

from jangin.errors import PrivacyError
from jangin.privacy.ledger import Ledger
from jangin.privacy.releases import Reading, Unit

CRASHES = 200
KILLS = 20 if os.environ.get("HYPOTHESIS_PROFILE") == "soak" else 4
SECTOR = 512
KEY = Key()


@dataclass
class Disk:
    """What happened to every file, in order; `events` are (what, file, offset, content)."""

    events: list[tuple[str, str, int, bytes]] = field(default_factory=list)

    def note(self, what: str, file: str, offset: int = 0, content: bytes = b"") -> None:
        self.events.append((what, file, offset, content))

    def after_crash(self, moment: int, chance: random.Random) -> dict[str, bytes]:
        """The files that a power cut after so many events may leave."""
        events = self.events[:moment]
        synced = {file: place for place, (what, file, _, _) in enumerate(events) if what == "sync"}
        files: dict[str, bytearray] = {}
        for place, (what, file, offset, content) in enumerate(events):
            if place > synced.get(file, -1) and what != "anchor" and chance.random() < 0.5:
                if what != "write" or chance.random() < 0.5:
                    continue
                content = content[: SECTOR * chance.randrange(len(content) // SECTOR + 1)]
            self._apply(files, what, file, offset, content)
        return {file: bytes(content) for file, content in files.items()}

    @staticmethod
    def _apply(files: dict[str, bytearray], what: str, file: str, offset: int, content: bytes) -> None:
        match what:
            case "write" if content:
                data = files.setdefault(file, bytearray())
                data.extend(bytes(max(offset + len(content) - len(data), 0)))
                data[offset : offset + len(content)] = content
            case "truncate" if file in files:
                del files[file][offset:]
            case "delete":
                files.pop(file, None)
            case "anchor":
                files[file] = bytearray(content)


class Recorded(apsw.VFS):
    """The real file system, written down."""

    def __init__(self, disk: Disk, name: str) -> None:
        self.disk = disk
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> "RecordedFile":  # noqa: N802 - SQLite's names
        return RecordedFile(self.disk, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802
        super().xDelete(name, sync)
        self.disk.note("delete", Path(name).name)
        if sync:  # of the folder
            self.disk.note("sync", Path(name).name)


class RecordedFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self.disk = disk
        self.name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "temporary").name
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self.disk.note("write", self.name, offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self.disk.note("truncate", self.name, size)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self.disk.note("sync", self.name)


@dataclass
class RecordedAnchor:
    """An anchor that appears whole, in the order of the disk's events."""

    disk: Disk

    def read(self) -> bytes | None:
        return next((content for what, _, _, content in reversed(self.disk.events) if what == "anchor"), None)

    def write(self, content: bytes) -> None:
        self.disk.note("anchor", "ledger.head", 0, content)


@dataclass
class File:
    """An anchor in a file, as a crash left it."""

    path: Path

    def read(self) -> bytes | None:
        return self.path.read_bytes() if self.path.exists() else None

    def write(self, content: bytes) -> None:
        self.path.write_bytes(content)


@dataclass(frozen=True)
class Acknowledged:
    """What the ledger had said yes to after so many events."""

    moment: int
    campaign: str
    spent: frozenset[int]
    ended: bool


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Disk, list[Acknowledged]]]:
    """A ledger's life on the recorded disk, closed and opened now and then."""
    disk, folder, yes = Disk(), tmp_path_factory.mktemp("disk"), []
    recorded = Recorded(disk, "recorded")

    def connect(path: Path) -> Any:
        return apsw.Connection(str(path), vfs="recorded")

    chance = random.Random(7)
    for part in range(4):
        with Ledger(folder / "ledger.sqlite", "site-0", KEY, RecordedAnchor(disk), connect) as ledger:
            ledger.grant([EPISODES], NOON)
            for name in range(4):
                campaign = f"{4 * part + name:064x}"
                ledger.reserve(wish(campaign, range(part, part + 40), noise=30.0), NOON)
                for number in chance.sample(range(1, 11), 4):
                    ledger.spend(campaign, number, NOON)
                    account = ledger.accounts[campaign]
                    yes.append(Acknowledged(len(disk.events), campaign, frozenset(account.spent), account.ended))
                if name % 2:
                    ledger.end(campaign, NOON)
                    yes.append(Acknowledged(len(disk.events), campaign, frozenset(account.spent), True))
    yield disk, yes
    recorded.unregister()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_after_any_crash_the_ledger_opens_and_counts_all_that_it_said_yes_to(
    history: tuple[Disk, list[Acknowledged]], tmp_path: Path
) -> None:
    disk, acknowledged = history
    chance = random.Random(11)
    opened = 0
    for crash in range(CRASHES):
        moment = chance.randrange(1, len(disk.events) + 1)
        folder = tmp_path / str(crash)
        folder.mkdir()
        for name, content in disk.after_crash(moment, chance).items():
            if not name.endswith("-shm"):
                (folder / name).write_bytes(content)
        with Ledger(folder / "ledger.sqlite", "site-0", KEY, File(folder / "ledger.head")) as ledger:
            opened += 1
            newest = {one.campaign: one for one in acknowledged if one.moment <= moment}
            for one in newest.values():
                account = ledger.accounts[one.campaign]
                assert account.spent >= one.spent, (crash, moment)
                assert account.ended >= one.ended
            ledger.grant([EPISODES], NOON)  # and it goes on
            ledger.reserve(wish("f" * 64, ["new"], noise=30.0), NOON)
    assert opened == CRASHES


def test_the_recorded_disk_forgets_what_was_not_synced(history: tuple[Disk, list[Acknowledged]]) -> None:
    """The test above could not fail on a disk that keeps everything."""
    disk, _ = history
    whats = [what for what, *_ in disk.events]
    assert whats.count("sync") > 50 < whats.count("write")
    chance = random.Random(3)
    moment = max(place for place, what in enumerate(whats) if what == "write") + 1
    images = {tuple(sorted(disk.after_crash(moment, chance).items())) for _ in range(20)}
    assert len(images) > 1


def test_a_ledger_that_would_not_sync_is_caught_by_the_recorded_disk(tmp_path: Path) -> None:
    """The same crashes over a ledger whose commits are not synced lose what it said yes to."""
    disk = Disk()
    recorded = Recorded(disk, "careless")

    def connect(path: Path) -> Any:
        connection = apsw.Connection(str(path), vfs="careless")
        connection.execute("PRAGMA journal_mode = WAL")

        class Careless:
            def execute(self, statement: str, *values: Any) -> Any:
                return connection.execute(statement.replace("synchronous = EXTRA", "synchronous = OFF"), *values)

            def close(self) -> None:
                connection.close()

        return Careless()

    with Ledger(tmp_path / "ledger.sqlite", "site-0", KEY, RecordedAnchor(disk), connect) as ledger:
        ledger.grant([EPISODES], NOON)
        ledger.reserve(wish(noise=30.0), NOON)
        ledger.spend("a" * 64, 1, NOON)
        moment = len(disk.events)
    recorded.unregister()
    chance, lost = random.Random(5), 0
    for crash in range(20):
        folder = tmp_path / str(crash)
        folder.mkdir()
        for name, content in disk.after_crash(moment, chance).items():
            (folder / name).write_bytes(content)
        try:
            with Ledger(folder / "ledger.sqlite", "site-0", KEY, File(folder / "ledger.head")) as ledger:
                lost += 1 not in getattr(ledger.accounts.get("a" * 64), "spent", set())
        except PrivacyError:
            lost += 1  # unreadable, or behind its anchor: noticed at least
    assert lost > 0


SPENDER = """
import sys
from pathlib import Path
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jangin.client.state import write_whole
from jangin.privacy.ledger import Ledger
from ledgers import EPISODES, NOON, Key, wish

folder, turn = Path(sys.argv[1]), int(sys.argv[2])

class Anchor:
    def read(self):
        path = folder / "ledger.head"
        return path.read_bytes() if path.exists() else None
    def write(self, content):
        write_whole(folder / "ledger.head", content)

key = Key(load_pem_private_key((folder / "key.pem").read_bytes(), None))
with Ledger(folder / "ledger.sqlite", "site-0", key, Anchor()) as ledger:
    ledger.grant([EPISODES], NOON)
    print("open", flush=True)
    for name in range(1000):
        campaign = f"{1000 * turn + name:064x}"
        ledger.reserve(wish(campaign, [f"{turn} {name}"], noise=30.0), NOON)
        for number in range(1, 11):
            ledger.spend(campaign, number, NOON)
            print(campaign, number, flush=True)
"""


@pytest.mark.kill
def test_kill_9_at_any_moment_loses_nothing_that_was_said_yes_to(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = KEY.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    support = Path(__file__).parents[1] / "support"
    chance, said = random.Random(13), []
    for turn in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-c", SPENDER, str(tmp_path), str(turn)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join([str(support), *filter(None, [os.environ.get("PYTHONPATH")])])},
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        lines = [child.stdout.readline() for _ in range(chance.randrange(12))]
        child.send_signal(signal.SIGKILL)
        said += [*lines, *child.stdout]
        child.communicate()
        said = [line for line in said if line.endswith("\n")]
    with Ledger(tmp_path / "ledger.sqlite", "site-0", KEY, File(tmp_path / "ledger.head")) as ledger:
        ledger.check()
        assert len(said) > KILLS
        for campaign, number in (line.split() for line in said):
            assert int(number) in ledger.accounts[campaign].spent
        assert ledger.spent(Unit.EPISODE, Reading.SECURE_SUM) > 0
        assert ledger.episodes(said[0].split()[0]) == set(keys(["0 0"]))
