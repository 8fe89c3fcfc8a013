"""A site's process for these tests: doubles every vector it gets, and says on its last line how it ended.

Usage: node.py ADDRESS KEY ROOTS [CLOCK_AHEAD_SECONDS]. A message of kind `stop` ends it, `hold` is never answered.
"""

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from jangin.errors import LinkError
from jangin.flower_link.site import SiteLink
from jangin.flower_link.wire import Wire

LONGEST_SECONDS = 60.0


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(address: str, key_file: str, roots_file: str, ahead: str = "0") -> dict[str, object]:
    key = load_pem_private_key(Path(key_file).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    skew = timedelta(seconds=float(ahead))
    until = time.monotonic() + LONGEST_SECONDS
    roots = Path(roots_file).read_bytes()
    link = SiteLink(
        address, key, roots, clock=lambda: datetime.now(UTC) + skew, timeout_seconds=5, retries=1, backoff_seconds=0.1
    )
    with link:
        while time.monotonic() < until:
            incoming = link.receive()
            if incoming is None:
                time.sleep(0.02)
                continue
            wire = incoming.wire
            if wire.kind == "hold":
                continue
            vector = None if wire.vector is None else wire.vector * wire.vector.dtype.type(2)
            link.reply(incoming, Wire(wire.kind, wire.campaign, wire.round, wire.body, vector))
            if wire.kind == "stop":
                return {"ok": True, "rss_mb": rss_mb(), "modules": sorted(sys.modules)}
    return {"ok": False, "code": "too long"}


if __name__ == "__main__":
    try:
        last = main(*sys.argv[1:])
    except LinkError as error:
        last = {"ok": False, "code": error.code, "says": str(error)}
    sys.stdout.write(json.dumps(last) + "\n")
