"""The worker as the light process sees it: started for work, warm while there is more, started anew after a crash.

The law: whatever the worker does, one call ends in time: with a reply, with a misfit of the order, or with a failure
that is this site's own affair. What a worker answers that ever held more memory than it may does not count, and the
worker is ended. It is started without standard error, so that no library prints what it saw.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from jangin.client.frames import read_frame, write_frame
from jangin.errors import SiteError
from jangin.plan.messages import Kind, read_reply
from jangin.privacy.accounts import cost_form
from jangin.privacy.releases import Cost

__all__ = ["MEMORY_SETTINGS", "TRY", "Contribution", "Done", "Job", "Workbench", "held_bytes"]

TRY: Final = "try"
"""The kind of a request that is no order."""

_THREAD_SETTINGS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# glibc gives large blocks back at once, and the next step faults every page of them in anew: keep them while it works.
MEMORY_SETTINGS: Final = {"MALLOC_MMAP_THRESHOLD_": str(2**28), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
_STOP_SECONDS = 5.0
_WATCH_SECONDS: Final = 0.1
_WORD_BYTES: Final = 4


@dataclass(frozen=True)
class Job:
    """One order for the worker.

    Attributes:
        site: this site's id.
        plan: canonical CBOR of the plan that was cleared.
        campaign: its hash.
        records: the validated folder.
        episodes: those that may take part, by their ids, each with the digest of its content; of the hold-out for an
            evaluation.
        masters: whose they may be, by their pseudonyms.
        cost: what the ledger reserved for the campaign; None: NO DIFFERENTIAL PRIVACY.
        own: parameters that the site keeps for itself, as the last round left them, or None.
        kind: `scale`, `train`, `evaluate` or `rehearse`.
        round: of the campaign.
        body: the order's body.
        vector: shape (shared values,), float32, or None.
        summed: whether what comes of it goes into a secure sum, and is nothing else.
    """

    site: str
    plan: bytes = field(repr=False)
    campaign: str
    records: Path
    episodes: Mapping[str, str] = field(repr=False)
    masters: Collection[str] = field(repr=False)
    cost: Cost | None
    own: bytes | None = field(repr=False)
    kind: str
    round: int
    body: bytes = field(repr=False)
    vector: NDArray[np.float32] | None = field(repr=False)
    summed: bool = False


@dataclass(frozen=True)
class Done:
    """What came of a job that is answered in clear.

    Attributes:
        body: the reply's.
        vector: the update that rides beside it, (shared values,), float32; or None.
        own: parameters that the site has to keep for its next round, or None.
    """

    body: bytes = field(repr=False)
    vector: NDArray[np.float32] | None = field(repr=False)
    own: bytes | None = field(repr=False)


@dataclass(frozen=True)
class Contribution:
    """What came of a job for a secure sum; it is kept nowhere else.

    Attributes:
        words: whole steps modulo 2**32 with their noise, (values,).
        own: as `Done`.
    """

    words: NDArray[np.uint32] = field(repr=False)
    own: bytes | None = field(repr=False)


class Workbench:
    """The one worker of a site; `work` belongs to one thread, `cut` and `stop` to any."""

    def __init__(
        self, threads: int, memory_bytes: int | None = None, aside: Path | None = None, kept_bytes: int = 0
    ) -> None:
        """Start nothing yet.

        Args:
            threads: what the worker may use of the processor, >= 1.
            memory_bytes: what it may hold, as far as the system says what it holds; None: nobody looks.
            aside: a folder for the examples that are larger than what it may hold; None: they have to fit.
            kept_bytes: what those leave free on its disk.
        """
        self._threads, self._memory_bytes, self._aside, self._kept_bytes = threads, memory_bytes, aside, kept_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._stopped = False
        self._at = ""

    @property
    def pid(self) -> int | None:
        """The worker's process id while there is one."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def work(self, job: Job, timeout_s: float) -> Done | Contribution:
        """Have one order carried out. A worker that failed is let go, and what it kept of that order with it.

        Raises:
            SiteError: JG-site-306, the order does not fit the plan's model; JG-site-322, the worker failed, died, was
                cut short or took too long; JG-site-387, it held more memory than it may.
        """
        self._turn_to(job.campaign)
        try:
            answer = self._answer(_request(job), timeout_s)
        finally:
            self._turn_to("")
        match answer:
            case {"words": bytes(raw), "own": bytes() | None as own} if job.summed and len(raw) % _WORD_BYTES == 0:
                return Contribution(np.frombuffer(raw, "<u4"), own)
            case {"body": bytes(body), "vector": bytes() | None as raw, "own": bytes() | None as own} if not job.summed:
                done = Done(body, None if raw is None else np.frombuffer(raw, "<f4"), own)
                problem = _misspoken(job, done)
                if not problem:
                    return done
            case {"misfit": str(problem)}:
                raise SiteError("JG-site-306", problem=problem)
            case {"heavy": int(peak)}:
                held, most = (f"{count // 2**20} MiB" for count in (peak, max(self._memory_bytes or 0, 0)))
                raise SiteError("JG-site-387", campaign=job.campaign, round=job.round, held=held, most=most)
            case {"failed": str(said)}:
                problem = said
            case _:
                problem = "an unknown answer"
        self.rest()
        raise SiteError("JG-site-322", campaign=job.campaign, round=job.round, problem=problem)

    def rehearse(self, timeout_s: float) -> int | None:
        """Have the worker train one step on made-up rows.

        Returns:
            The most memory that it held, in bytes; None where the system does not say.

        Raises:
            SiteError: JG-site-369, the worker failed, died or took too long.
        """
        match self._answer({"kind": TRY}, timeout_s):
            case {"tried": True}:
                return None if self.pid is None else held_bytes(self.pid)
            case {"failed": str(said)}:
                problem = said
            case _:
                problem = "an unknown answer"
        self.rest()
        raise SiteError("JG-site-369", problem=problem)

    def cut(self, campaign: str) -> None:
        """End the worker in the middle of an order of this campaign, and in no other's; any thread may."""
        with self._lock:
            if self._at == campaign and self._process is not None:
                self._process.kill()

    def rest(self) -> None:
        """Let the worker go until there is work again."""
        process = self._process
        if process is not None:
            self._end(process)

    def stop(self) -> None:
        """Let the worker go for good; a call under way ends as a failure."""
        with self._lock:
            self._stopped = True
        self.rest()

    def _turn_to(self, campaign: str) -> None:
        with self._lock:
            self._at = campaign

    def _answer(self, request: Mapping[str, object], timeout_s: float) -> Any:
        """What the worker answers to one request; {failed} where none starts or one ended, {heavy} for its memory."""
        try:
            process, until = self._running(), time.monotonic() + timeout_s
        except OSError as error:
            return {"failed": f"it cannot be started: {error.strerror or type(error).__name__}"}
        watch = _Watch(process, until, self._memory_bytes)
        watch.start()
        try:
            requests, answers = _pipes(process)
            write_frame(requests, request)
            answer = read_frame(answers)
        except (OSError, EOFError, ValueError):
            answer = {"failed": "the worker died" if time.monotonic() < until else "it took too long"}
        finally:
            peak = watch.end()
        if peak is not None:
            self.rest()
            return {"heavy": peak}
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise SiteError("JG-site-322", campaign="-", round=0, problem="the site is stopping")
            if self._process is None or self._process.poll() is not None:
                if self._process is not None:
                    self._end(self._process)
                told: list[object] = [self._threads]
                if self._memory_bytes is not None and self._aside is not None:
                    told += [self._memory_bytes, self._aside.absolute(), self._kept_bytes]
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    [sys.executable, "-P", "-m", "jangin.client.worker", *map(str, told)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=os.environ | dict.fromkeys(_THREAD_SETTINGS, str(self._threads)) | MEMORY_SETTINGS,
                )
            return self._process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End a worker and close its pipes; it keeps nothing that has to be saved.

        One that the kernel does not let go yet, in the middle of the disk's work, goes when it does.
        """
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        for pipe in _pipes(process):
            with suppress(OSError):  # what was not yet written has no reader any more
                pipe.close()


class _Watch(threading.Thread):
    """Looks at a worker while it answers, and ends it when its time is up or its memory too much."""

    def __init__(self, process: subprocess.Popen[bytes], until: float, most_bytes: int | None) -> None:
        super().__init__(name="jangin-watch", daemon=True)
        self._process, self._until, self._most_bytes = process, until, most_bytes
        self._answered = threading.Event()
        self._peak: int | None = None

    def run(self) -> None:
        """Look ten times a second."""
        while not self._is_too_heavy() and (left := self._until - time.monotonic()) > 0:
            if self._answered.wait(min(left, _WATCH_SECONDS)):
                return
        self._process.kill()

    def end(self) -> int | None:
        """Look for the last time; gives what the worker held, in bytes, where it was too much."""
        self._answered.set()
        self.join()
        self._is_too_heavy()
        return self._peak

    def _is_too_heavy(self) -> bool:
        """Whether it ever held too much. The most it held is what counts: no peak hides between two looks."""
        peak = None if self._most_bytes is None else held_bytes(self._process.pid)
        if peak is not None and self._most_bytes is not None and peak > self._most_bytes:
            self._peak = peak
        return self._peak is not None


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("Expected a worker with pipes.")
    return process.stdin, process.stdout


def held_bytes(pid: int, which: str = "VmHWM") -> int | None:
    """The most memory that a living process has held, or `VmRSS`, what it holds; None where there is no /proc (5)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    kibibytes = next((int(line.split()[1]) for line in lines if line.startswith(f"{which}:")), None)
    return None if kibibytes is None else kibibytes * 2**10


def _misspoken(job: Job, done: Done) -> str:
    """Why an answer is no reply to its order; empty where it is."""
    try:
        read_reply(Kind(job.kind), job.site, done.body, done.vector)
    except ValueError as error:
        return str(error).removesuffix(".")
    return ""


def _request(job: Job) -> dict[str, object]:
    """What the worker is sent."""
    return {
        "site": job.site,
        "plan": job.plan,
        "campaign": job.campaign,
        "records": str(job.records),
        "episodes": job.episodes,
        "masters": sorted(job.masters),
        "cost": cost_form(job.cost),
        "own": job.own,
        "kind": job.kind,
        "round": job.round,
        "body": job.body,
        "vector": None if job.vector is None else job.vector.astype("<f4", copy=False).tobytes(),
    }
