"""Which process holds a file, which belong to it, and what they listen on: Linux, from /proc (proc(5)).

The law: what may not be seen is not guessed: a process of somebody else's is as good as none.
"""

import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

__all__ = ["Listener", "holders", "listeners", "owner", "readable", "trees"]

_PROC: Final = Path("/proc")
_LISTENING: Final = "0A"
_STATE, _LOCAL, _INODE = 3, 1, 9
_WORD: Final = 8


@dataclass(frozen=True)
class Listener:
    """A TCP socket that anybody may connect to.

    Attributes:
        pid: whose it is.
        address: `0.0.0.0:8080`.
    """

    pid: int
    address: str


def readable() -> bool:
    """Whether this machine says such things."""
    return sys.platform == "linux" and _PROC.joinpath("self", "fd").is_dir()


def holders(file: Path) -> list[int]:
    """The processes that have a file open."""
    wanted = str(file.resolve())
    return [pid for pid in _pids() if wanted in _open(pid)]


def owner(pid: int) -> int:
    """The id of the user that a process runs as.

    Raises:
        OSError: it is gone.
    """
    return _PROC.joinpath(str(pid)).stat().st_uid


def trees(roots: Collection[int]) -> set[int]:
    """These processes and all that descend from them."""
    parents = {pid: parent for pid in _pids() if (parent := _parent(pid)) is not None}
    found = set(roots)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listeners(pids: Collection[int]) -> list[Listener]:
    """What these processes listen on that is not loopback; TCP, over IPv4 and IPv6."""
    beyond = {f"socket:[{inode}]": address for inode, address in _beyond_loopback()}
    return [Listener(pid, beyond[name]) for pid in sorted(pids) for name in sorted(_open(pid)) if name in beyond]


def _pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def _open(pid: int) -> set[str]:
    """What the descriptors of a process stand for."""
    found = set()
    with suppress(OSError):
        for descriptor in _PROC.joinpath(str(pid), "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found.add(str(descriptor.readlink()))
    return found


def _parent(pid: int) -> int | None:
    """Who started a process; its own name, in brackets, may hold anything."""
    try:
        stat = _PROC.joinpath(str(pid), "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])


def _beyond_loopback() -> Iterator[tuple[str, str]]:
    """Inode and address of every listening socket of this machine that is reached from others."""
    for name in ("tcp", "tcp6"):
        table = _PROC.joinpath("net", name)
        lines = table.read_text(encoding="ascii").splitlines()[1:] if table.exists() else []
        for row in map(str.split, lines):
            host, port = row[_LOCAL].split(":")
            address = _address(host)
            if row[_STATE] == _LISTENING and not _is_loopback(address):
                shown = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
                yield row[_INODE], f"{shown}:{int(port, 16)}"


def _address(text: str) -> IPv4Address | IPv6Address:
    """An address as the kernel prints it: words of 32 bits, each in the machine's own order."""
    words = (int(text[start : start + _WORD], 16) for start in range(0, len(text), _WORD))
    return ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))


def _is_loopback(address: IPv4Address | IPv6Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
