"""A stock Flower deployment on loopback: a SuperLink and its SuperNodes, each with the processes it starts itself.

It runs without TLS and without node authentication, which only helps it. The law: every process ends with the one
that started it, whatever ends it; nothing is written outside the folder given.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

APP = Path(__file__).parent / "noop"
BIN = Path(sys.executable).parent
START_SECONDS, STOP_SECONDS, LOOK_SECONDS = 120.0, 20.0, 0.1
SWITCHES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "NO_PROXY": "127.0.0.1,localhost,::1",
    "no_proxy": "127.0.0.1,localhost,::1",
    "PATH": f"{BIN}:{os.environ.get('PATH', '')}",  # Flower finds its own commands there
}


@dataclass(frozen=True)
class Deployment:
    """What runs, and where it keeps what it keeps."""

    folder: Path
    environment: Mapping[str, str]
    nodes: Sequence[subprocess.Popen[bytes]]

    def seconds(self, way: str, count: int, limit_seconds: float) -> list[float]:
        """Run the no-op apps in one of their ways, and give how long each of `count` pieces took.

        Raises:
            TimeoutError: fewer are done after `limit_seconds`.
        """
        file = self.folder / f"{way}.txt"
        asked = f'way="{way}" nodes={len(self.nodes)} count={count} file="{file}"'
        command = [str(BIN / "flwr"), "run", str(APP), "local", "--run-config", asked]
        with (self.folder / "run.log").open("ab") as log:
            subprocess.run(command, env=self.environment, stdout=log, stderr=log, check=True, timeout=60)
        until(lambda: file.exists() and len(file.read_text().splitlines()) == count, limit_seconds, self.nodes)
        return [float(line) for line in file.read_text().splitlines()]


@contextmanager
def deployment(folder: Path, nodes: int) -> Iterator[Deployment]:
    """Start a SuperLink and so many SuperNodes, as their documentation says; a run waits for the nodes by itself."""
    folder.mkdir(parents=True)
    port, *ports = free_ports(1 + nodes)
    address = f"127.0.0.1:{port}"
    (folder / "config.toml").write_text(
        f'[superlink]\ndefault = "local"\n[superlink.local]\naddress = "{address}"\ninsecure = true\n'
    )
    environment = {**os.environ, **SWITCHES, "FLWR_HOME": str(folder)}
    common = ["--insecure", "--host", "127.0.0.1", "--port"]
    with ExitStack() as stack:
        link = [BIN / "flower-superlink", *common, port, "--disable-runtime-dependency-installation"]
        superlink = stack.enter_context(running(link, folder / "superlink.log", environment))
        until(lambda: listens(port), START_SECONDS, [superlink])
        node = [BIN / "flower-supernode", "--superlink", address, *common]
        yield Deployment(
            folder,
            environment,
            [stack.enter_context(running([*node, own], folder / f"node-{own}.log", environment)) for own in ports],
        )


@contextmanager
def running(
    command: Sequence[object], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """One process with its log; asked to stop at the end, then killed with all that it started."""
    with log.open("ab") as file:
        child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment,
            start_new_session=True,
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
        )
    try:
        yield child
    finally:
        started = tree(child.pid)[1:]
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pid, since in started:
            if since == started_at(pid):
                os.kill(pid, signal.SIGKILL)


def end_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent is gone, even by kill -9 (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def until(met: Callable[[], object], seconds: float, alive: Sequence[subprocess.Popen[bytes]]) -> None:
    """Look until a condition is met; every process has to stay alive meanwhile.

    Raises:
        TimeoutError: it was not met in time. ChildProcessError: a process ended.
    """
    deadline = time.monotonic() + seconds
    while not met():
        for child in alive:
            if child.poll() is not None:
                raise ChildProcessError(f"{child.args} ended: {child.returncode}.")
        if time.monotonic() > deadline:
            raise TimeoutError(f"Expected it within {seconds:g} s.")
        time.sleep(LOOK_SECONDS)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    """Ports that are free now; Flower takes no 0."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def tree(pid: int) -> list[tuple[int, int]]:
    """A process and all below it, each with its start, which tells it from a later one of the same number."""
    parents = {number: int(fields[1]) for number, fields in _processes()}
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return [(one, started_at(one)) for one in found]


def started_at(pid: int) -> int:
    """When a process started, in clock ticks since the machine did; -1 where there is none."""
    fields = _fields(pid)
    return int(fields[19]) if fields else -1


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, user and system."""
    fields = _fields(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def memory_mb(pid: int, kind: str) -> float:
    """Memory of a process now: `Rss`, or `Pss`, in which a page that n processes share counts 1/n."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024


def _processes() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _fields(int(entry.name))):
            yield int(entry.name), fields


def _fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third, the state, on (proc_pid_stat(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
