"""Where a process listens, by the kernel's tables (proc(5)): Linux only."""

import os
import socket
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

__all__ = ["listening"]

_LISTEN = "0A"
_UNBOUND = "07"  # what a UDP socket that takes anybody's word is in


def listening(pid: int) -> set[tuple[str, int]]:
    """Address and port of each TCP socket that the process listens at, and UDP socket that anybody may write to."""
    held = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            place, state, inode = (line.split()[column] for column in (1, 3, 9))
            if f"socket:[{inode}]" in held and state in (_LISTEN, _UNBOUND):
                address, port = place.split(":")
                found.add((str(_address(address)), int(port, 16)))
    return found


def _address(digits: str) -> IPv4Address | IPv6Address:
    """An address as the kernel writes it: words of four bytes in the machine's order."""
    words = [int(digits[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(digits), 8)]
    packed = b"".join(words)
    text = socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
    found = ip_address(text)
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
