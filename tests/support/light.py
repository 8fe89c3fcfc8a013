"""Site daemons that are cheap to have ten of: forked from one process, each training in its own and not in a worker's.

All else is the client as it is: gate, ledger, consents, journal, secure sums, connection. Each daemon is a process that
may be killed, held and started again.

Usage: light.py. A line on standard input is a site's folder; the answer is the process id of its daemon.
"""

import gc
import logging
import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["LightSites"]

MOST_BACKOFF_SECONDS = 1.0


class LightSites:
    """The process that forks, and its daemons; all end with the `with`."""

    def __enter__(self) -> Self:
        self._running: dict[Path, int] = {}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def start(self, folder: Path) -> int:
        """Run the daemon of a site that has none; its process id. What it logs is beside the folder."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        self._running[folder] = int(self._process.stdout.readline())
        return self._running[folder]

    def pid(self, folder: Path) -> int | None:
        """The process id of a site's daemon; None where it has none."""
        return self._running.get(folder)

    def kill(self, folder: Path) -> None:
        """End a site's daemon as a power cut would."""
        os.kill(self._running.pop(folder), signal.SIGKILL)


def _serve() -> None:
    """Fork a daemon for each line, until standard input ends."""
    from jangin.client import daemon, worker

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who is killed is gone
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _be(Path(line.strip()), daemon, worker)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _be(folder: Path, daemon: Any, worker: Any) -> None:
    """Be one site's daemon."""
    import torch

    from jangin.cli.talk import log_to_stderr
    from jangin.client.desk import now_utc
    from jangin.client.state import SiteFolder
    from jangin.client.workbench import Workbench

    class Bench(Workbench):
        """Trains here."""

        trainer = worker.Trainer()

        def _answer(self, request: Mapping[str, object], timeout_s: float) -> Any:
            return self.trainer.answer(request)

    status = 1
    try:
        with folder.with_name(f"{folder.name}.log").open("ab") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
        log_to_stderr()
        torch.set_num_threads(1)
        daemon._LONGEST_BACKOFF_SECONDS = MOST_BACKOFF_SECONDS
        running = daemon.Daemon(SiteFolder(folder), clock=now_utc, jitter=random.Random(folder.name))
        running._bench = Bench(1)
        running.run()
        status = 0
    except BaseException:
        logging.exception("It ended.")
    finally:
        logging.shutdown()
        os._exit(status)


if __name__ == "__main__":
    _serve()
