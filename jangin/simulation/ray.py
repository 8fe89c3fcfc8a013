"""Engine `ray`: sites are spread over the worker processes of Ray, on this machine or on many.

The law: what sites are asked, how they train (each worker is an engine `stacked`) and the order of their replies are
those of the other engines, so the result is theirs up to rounding, whatever the number of workers. What a site keeps
between rounds stands in this process and is lent to its worker for one round; secret randomness is made where it is
used and never sent. No wait is without an end: a worker that is lost or late ends the run, and its sites are named.

Sites are dealt out in blocks of neighbours, one block to each worker in its turn: so all workers are busy while replies
are taken in site order, and what is answered ahead of that is `_BLOCKS_AHEAD` blocks of each, however many sites.
"""

import logging
import os
import platform
import secrets
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jangin.errors import SimulationError
from jangin.models.layout import Vector
from jangin.plan.messages import Kind, Order, Reply
from jangin.records.examples import Examples
from jangin.simulation.forks import named
from jangin.simulation.stacked import StackedExchange
from jangin.strategies import build as build_strategy
from jangin.training.recipe import Recipe
from jangin.training.site import Site
from jangin.version import __version__

__all__ = ["RayExchange", "Workers", "connect"]

_KNOCK_SECONDS = 10.0  # for the cluster to be there
_START_SECONDS = 300.0  # for a worker to be there
_BLOCK_SECONDS = 3600.0  # for a block to be answered
_BLOCKS_AHEAD = 2
_VALUES_OF_A_BLOCK = 2**22  # float32 values that its replies have, unless one site's alone have more
_OF_OUR_OWN = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # or it listens on every network, read when ray is first imported
    "RAY_AUTH_MODE": "token",  # or whoever reaches its ports may run code, on loopback every user of the machine
}
_OF_ANY = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}  # what Ray will do anyway; till then it warns who has not set it

_log = logging.getLogger(__name__)


class _Worker:
    """One process of Ray: blocks of sites, each an engine `stacked`."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def where(self) -> tuple[str, int, str]:
        """Host and process, and the version of Jangin there."""
        return platform.node(), os.getpid(), __version__

    def begin(self, recipe: Recipe) -> None:
        """Forget the sites of another campaign, and take the recipe of this one."""
        self._recipe, self._learner, self._strategy = recipe, recipe.learner(), build_strategy(recipe.strategy)
        self._blocks: dict[int, tuple[dict[str, Site], StackedExchange]] = {}

    def take(self, number: int, trains: Sequence[tuple[str, Examples]]) -> None:
        """Take the sites of one block; their examples are copied, for what lies in Ray's store is pinned there."""
        recipe = self._recipe
        public, encoding = recipe.public_scaling(), recipe.encoding if recipe.summing else None
        sites = {}
        for name, train in trains:
            own = Examples(train.inputs.copy(), train.targets.copy(), train.units.copy())
            sites[name] = Site(name, own, public, self._learner, recipe.seed, encoding=encoding)
        self._blocks[number] = sites, StackedExchange(list(sites.values()), recipe.strategy, self._strategy)

    def answer(
        self, number: int, order: Order, cohort: Sequence[str], kept: Sequence[Vector | None] | None
    ) -> tuple[NDArray[Any], list[Vector | None] | None]:
        """The vectors of the cohort's sites of one block, (sites, d), and what they keep if something was lent."""
        sites, exchange = self._blocks[number]
        for name, vector in zip(cohort, kept or (), strict=False):
            if vector is not None:
                sites[name].keep(vector)
        exchange.push(order, cohort)
        vectors = np.stack([reply.vector for reply in exchange.pull() if reply.vector is not None])
        return vectors, None if kept is None else [sites[name].kept() for name in cohort]


def connect(**local: Any) -> bool:
    """Be connected to Ray: as this process is already, to the cluster at RAY_ADDRESS, or to one that is started here.

    One that is started here listens on loopback (where `ray` was not imported before), lets nobody in without its
    token, has no dashboard, reports nothing to anybody and ends with this process. Ray's settings for that stay in the
    environment of this process, where they are not set already.

    Args:
        **local: more arguments of `ray.init` for one that is started here.

    Returns:
        Whether it was not connected before; the caller then ends with `ray.shutdown()`.

    Raises:
        SimulationError: JG-sim-030, ray is not installed; JG-sim-033, there is no Ray to be had.
    """
    if "ray" in sys.modules and _ray().is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS", "local")
    settings = dict(_OF_ANY)
    if address == "local":
        settings |= _OF_OUR_OWN | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
        local |= {"include_dashboard": False}
    else:
        local = {}
        _knock(address)
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    ray, before = _ray(), signal.getsignal(signal.SIGTERM)
    try:
        for again in (address == "local", False):  # one that is started here sometimes does not come up
            try:
                ray.init(address, log_to_driver=False, logging_level="error", **local)
                break
            except (ray.exceptions.RayError, RuntimeError, ValueError, OSError) as error:
                refused = SimulationError("JG-sim-033", where=address, problem=_first_line(error))
                ray.shutdown()
                if not again:
                    raise refused from error
                _log.warning("%s Now once more.", refused)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray puts one of its own there
    return True


class Workers(AbstractContextManager["Workers"]):
    """Ray's workers for one simulation; they and a Ray that was started for them end with the `with` block.

    They are started by the first `exchange` and serve every seed.
    """

    def __init__(self, threads: int) -> None:
        """Take the number of threads of torch in a worker, which are also the CPUs that it asks Ray for.

        Raises:
            SimulationError: JG-sim-030, ray is not installed.
        """
        if find_spec("ray") is None:
            raise _missing()
        self._threads = threads
        self._ours = False
        self._actors: list[Any] = []

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            _ray().kill(actor)
        self._actors = []
        if self._ours:
            _ray().shutdown()

    def exchange(self, recipe: Recipe, sites: Sequence[Site], trains: Sequence[Examples]) -> "RayExchange":
        """Deal out the sites of a campaign, those of the one before being forgotten.

        Args:
            recipe: of the campaign, from which workers make their own sites.
            sites: in the order in which they answer; they keep here what they keep between rounds.
            trains: the training examples of each.

        Raises:
            SimulationError: JG-sim-030, ray is not installed; JG-sim-031 or -032, a worker is lost or late;
                JG-sim-033, there is no Ray, or no place for a worker; JG-sim-034, a worker has another Jangin.
        """
        if not self._actors:
            self._ours = connect()
            self._start(len(sites))
        everybody = [site.name for site in sites]
        for _ in self.each("it begins", ((number, everybody, "begin", (recipe,)) for number in range(len(self)))):
            pass
        deals = -(-len(sites) * sites[0].learner.model.layout.size // (len(self) * _VALUES_OF_A_BLOCK))
        blocks = [list(block) for block in np.array_split(range(len(sites)), min(len(sites), deals * len(self)))]
        named = [[sites[place].name for place in block] for block in blocks]
        given = (
            (number, names, "take", (number, [(sites[place].name, trains[place]) for place in block]))
            for number, (names, block) in enumerate(zip(named, blocks, strict=True))
        )
        for _ in self.each("it takes its sites", given):
            pass
        return RayExchange(self, recipe, sites, named)

    def each(self, where: str, calls: Iterable[tuple[int, Sequence[str], str, tuple[Any, ...]]]) -> Iterator[Any]:
        """What workers answer, in the order of the calls, a few of which are under way at a time.

        Args:
            where: what is done, for errors.
            calls: the number of a block, or of a worker; the sites it is about; method and arguments.

        Raises:
            SimulationError: JG-sim-031 or -032, a worker is lost or late. JanginError: what it raises itself.
        """
        waiting: deque[tuple[Sequence[str], Any]] = deque()
        for number, names, method, arguments in calls:
            actor = self._actors[number % len(self)]
            waiting.append((names, getattr(actor, method).remote(*arguments)))
            if len(waiting) > _BLOCKS_AHEAD * len(self):
                yield _taken(*waiting.popleft(), where)
        while waiting:
            yield _taken(*waiting.popleft(), where)

    def put(self, value: object) -> Any:
        """A reference to what many calls are given, held once in Ray's store."""
        return _ray().put(value)

    def __len__(self) -> int:
        return len(self._actors)

    def _start(self, sites: int) -> None:
        """Start one worker for every `threads` CPUs of each node, and no more than there are sites."""
        ray = _ray()
        places = [int(node["Resources"].get("CPU", 0)) // self._threads for node in ray.nodes() if node["Alive"]]
        if not sum(places):
            raise SimulationError("JG-sim-033", where="--threads", problem=f"no node has {self._threads} CPUs")
        actor = ray.remote(num_cpus=self._threads)(_Worker)
        self._actors = [actor.remote(self._threads) for _ in range(min(sum(places), sites))]
        try:
            found = ray.get([actor.where.remote() for actor in self._actors], timeout=_START_SECONDS)
        except ray.exceptions.RayError as error:
            raise SimulationError("JG-sim-033", where="--engine ray", problem=_first_line(error)) from error
        for host, process, version in found:
            if version != __version__:
                where = f"{host}, process {process}"
                raise SimulationError("JG-sim-034", where=where, theirs=version, ours=__version__)


class RayExchange:
    """An `Exchange` (server/rounds.py) over workers; sites train from when their replies begin to be pulled."""

    def __init__(
        self, workers: Workers, recipe: Recipe, sites: Sequence[Site], blocks: Sequence[Sequence[str]]
    ) -> None:
        """Take the sites as they stand here, and their names block by block, in one order; `Workers.exchange` does."""
        layout = sites[0].learner.model.layout
        self._workers, self._blocks = workers, blocks
        self._sites = {site.name: site for site in sites}
        self._keep = build_strategy(recipe.strategy).local.remembers(layout)
        self._pending: tuple[Order, frozenset[str]] | None = None

    @property
    def sites(self) -> Sequence[str]:
        """All of them, in site order."""
        return tuple(self._sites)

    def push(self, order: Order, cohort: Sequence[str]) -> None:
        """Note the order for each site of the cohort."""
        self._pending = order, frozenset(cohort)

    def pull(self) -> Iterator[Reply]:
        """The replies in site order.

        Raises:
            SimulationError: JG-sim-031 or -032, a worker is lost or late. JanginError: as `Site.answer`.
        """
        if self._pending is None:
            return
        (order, cohort), self._pending = self._pending, None
        blocks = [[name for name in block if name in cohort] for block in self._blocks]
        keep, put = self._keep and order.kind is Kind.TRAIN, self._workers.put(order)
        calls = (
            (number, names, "answer", (number, put, names, self._lent(names) if keep else None))
            for number, names in enumerate(blocks)
            if names
        )
        replies = self._workers.each(f"round {order.round}", calls)
        for names, (vectors, kept) in zip(filter(None, blocks), replies, strict=True):
            for place, name in enumerate(names):
                if kept is not None:
                    self._sites[name].keep(kept[place])
                yield Reply(name, vectors[place])

    def _lent(self, names: Sequence[str]) -> list[Vector | None]:
        return [self._sites[name].kept() for name in names]


def _taken(names: Sequence[str], reference: Any, where: str) -> Any:
    """What one call gave."""
    ray = _ray()
    try:
        return ray.get(reference, timeout=_BLOCK_SECONDS)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.GetTimeoutError:
        raise SimulationError("JG-sim-032", where=where, sites=named(names), seconds=_BLOCK_SECONDS) from None
    except ray.exceptions.RayError as error:
        problem = _first_line(error)
        raise SimulationError("JG-sim-031", where=where, sites=named(names), problem=problem) from error


def _knock(address: str) -> None:
    """Ray itself would ask for a cluster at an address where nobody listens for many minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()
        except OSError as error:
            raise SimulationError("JG-sim-033", where=address, problem=_first_line(error)) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


def _missing() -> SimulationError:
    return SimulationError("JG-sim-030", where="--engine ray")


def _ray() -> Any:
    """The library, which takes a second to load and is no dependency of Jangin."""
    try:
        import ray
    except ImportError:
        raise _missing() from None
    return ray
