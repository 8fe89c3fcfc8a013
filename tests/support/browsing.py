"""A real browser opens a page: what it makes of it, and what the page asks others for."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ALONE = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND"),
)


@dataclass(frozen=True)
class Opened:
    """What came of it.

    Attributes:
        html: the document as the browser holds it once it has loaded.
        asked: addresses that the page asked for; what the browser asks for itself is left out.
    """

    html: str
    asked: list[str]


def opened(page: Path, profile: Path) -> Opened:
    """Open a file; skipped where no Chromium is installed."""
    browser = next(filter(None, map(shutil.which, _NAMES)), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    log = profile.with_suffix(".netlog")
    done = subprocess.run(
        [browser, *_ALONE, f"--user-data-dir={profile}", f"--log-net-log={log}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    held = json.loads(log.read_text(encoding="utf-8"))
    started = held["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    asked = [event["params"] for event in held["events"] if event["type"] == started and "url" in event["params"]]
    return Opened(done.stdout, [one["url"] for one in asked if one.get("initiator") != "not an origin"])
