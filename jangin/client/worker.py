"""The worker: a process that trains. `python -m jangin.client.worker THREADS ...`, spoken to in frames.

After THREADS may stand MEMORY FOLDER KEPT: of the MEMORY bytes it may hold, examples take what is left; what is larger
lies aside on the disk of FOLDER (records/aside.py), of which KEPT bytes stay free.

A request is {site, plan, campaign, records, episodes, masters, cost, own, kind, round, body, vector}; the answer is
{body, vector, own}, {words, own} where the plan adds up in secret, {misfit} where the order does not fit the plan's
model, or {failed} with a code or an exception's name and nothing of what it says. To {kind: try} the answer is {tried}.

To {kind: rehearse} as for a round it opens and cuts the records, and then trains on rows that it makes up.

The law: it opens nothing but the records it is told of, the hold-out for evaluations alone, trains on nobody of whom it
was not told, releases nothing but what was reserved, goes on from what it is told that the site keeps and not from a
training that was forgotten, talks to nobody but the light process, and ends with it.
"""

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import torch

from jangin.client.frames import read_frame, write_frame
from jangin.client.rehearsal import made_up, made_update, rehearse
from jangin.client.workbench import TRY, held_bytes
from jangin.codec import cbor
from jangin.codec.document import parse
from jangin.errors import JanginError, PrivacyError, SiteError
from jangin.models.gather import gather
from jangin.models.lines import ModelLine, read_line
from jangin.plan.messages import Kind, Order, Reply, read_order, reply_body
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.accounts import cost_form
from jangin.privacy.releases import Unit
from jangin.records.aside import Room
from jangin.records.dataset import EpisodeView, Records
from jangin.records.examples import Examples, ExamplesAside
from jangin.records.manifest import check_files
from jangin.records.process import read_process
from jangin.records.split import SplitUnit
from jangin.strategies import build
from jangin.strategies.base import LocalRule
from jangin.training.evaluation import Evaluator
from jangin.training.recipe import Recipe
from jangin.training.site import Site

__all__ = ["Trainer"]

_NICENESS: Final = 10
_FIRST_TO_GO: Final = "1000"


@dataclass(frozen=True)
class _Campaign:
    """One campaign at this site, from its first order on."""

    plan: TrainingPlan
    recipe: Recipe
    site: Site
    rule: LocalRule
    shared: int
    whole: int
    episodes: Mapping[str, str]

    def own(self) -> bytes | None:
        """What the site has to keep for later rounds, as `Site.kept` gives it, where any of it is its own."""
        kept = self.site.kept()
        any_own = self.rule.keeps or self.rule.control or self.shared < self.whole
        return None if kept is None or not any_own else kept.tobytes()


@dataclass(frozen=True)
class _Judging:
    """One campaign's evaluations at this site, from the first order for one on; the only place with the hold-out."""

    recipe: Recipe
    evaluator: Evaluator
    episodes: Mapping[str, str]


class Trainer:
    """Every campaign of a site, side by side; each keeps its model and its records between rounds."""

    def __init__(self, room: Callable[[], Room | None] = lambda: None) -> None:
        """Open nothing yet; `room` says what examples may take when some are cut, None: as much as they need."""
        self._room = room
        self._campaigns: dict[str, _Campaign] = {}
        self._judging: dict[str, _Judging] = {}
        self._rehearsing: dict[str, _Campaign] = {}

    def answer(self, request: Mapping[str, Any]) -> dict[str, object]:
        """Carry out one request."""
        try:
            if request["kind"] == TRY:
                rehearse()
                return {"tried": True}
            if request["kind"] == Kind.EVALUATE:
                return self._evaluated(request)
            if request["kind"] == Kind.REHEARSE:
                return self._rehearsed(request)
            campaign = self._campaign(request)
            vector = None if request["vector"] is None else np.frombuffer(request["vector"], "<f4")
            order, _ = read_order(request["kind"], request["round"], request["body"], vector)
            problem = _misfit(order, campaign)
            if problem:
                return {"misfit": problem}
            if campaign.plan.privacy.sums_only:
                words = campaign.site.contribution(order, campaign.plan.strategy, campaign.rule)
                return {"words": words.astype("<u4", copy=False).tobytes(), "own": campaign.own()}
            reply = campaign.site.answer(order, campaign.plan.strategy, campaign.rule)
            update = None if reply.update is None else reply.update.astype("<f4", copy=False).tobytes()
            return {"body": reply_body(reply), "vector": update, "own": campaign.own()}
        except JanginError as error:
            return {"failed": error.code}
        except Exception as error:  # noqa: BLE001 - a message might tell what a record holds; its kind does not
            return {"failed": type(error).__name__}

    def _evaluated(self, request: Mapping[str, Any]) -> dict[str, object]:
        """The answer to an evaluation; nothing is kept of it here."""
        name, own = request["campaign"], request["own"]
        held = self._judging.get(name)
        if held is None or held.episodes != request["episodes"]:
            self._judging.pop(name, None)  # makes room
            held = self._judging[name] = _open_held_out(request, self._room)
        order, _ = read_order(
            request["kind"], request["round"], request["body"], np.frombuffer(request["vector"], "<f4")
        )
        problem = _unlike(order, held.recipe, *held.evaluator.sizes)
        if problem:
            return {"misfit": problem}
        kept = None if own is None else np.frombuffer(own, "<f4")
        if held.recipe.summing is not None:
            words = held.evaluator.contribution(order, kept)
            return {"words": words.astype("<u4", copy=False).tobytes(), "own": None}
        reply = held.evaluator.answer(order, kept)
        return {"body": reply_body(reply), "vector": None, "own": None}

    def _rehearsed(self, request: Mapping[str, Any]) -> dict[str, object]:
        """An update of made-up rows and noise alone, where the records are as a round would need them."""
        name = request["campaign"]
        held = self._rehearsing.get(name)
        if held is None or held.episodes != request["episodes"] or not request["round"]:
            held = self._rehearsing[name] = _open_rehearsal(request, self._room)
        order, _ = read_order(
            request["kind"], request["round"], request["body"], np.frombuffer(request["vector"], "<f4")
        )
        values = held.shared * (2 if held.rule.control else 1)
        if len(order.vector) != values:
            return {"misfit": f"{len(order.vector)} parameters, not {values}"}
        update = made_update(held.site, order.vector, held.recipe, held.rule)
        reply = Reply(request["site"], update)
        return {"body": reply_body(reply), "vector": update.tobytes(), "own": None}

    def _campaign(self, request: Mapping[str, Any]) -> _Campaign:
        name = request["campaign"]
        self._rehearsing.pop(name, None)
        held = self._campaigns.pop(name, None)
        if held is None or held.episodes != request["episodes"] or held.own() != request["own"]:
            held = None  # its examples make room
            held = _open(request, self._room)
        self._campaigns[name] = held
        return held


def main(requests: IO[bytes], answers: IO[bytes], room: Callable[[], Room | None]) -> None:
    """Answer requests in their order until the light process is gone."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting), name="jangin-requests", daemon=True).start()
    trainer = Trainer(room)
    while True:
        write_frame(answers, trainer.answer(waiting.get()))


def room_of(memory: str, folder: str, kept: str) -> Callable[[], Room | None]:
    """What is left of so many bytes of memory whenever it is asked; None where the system does not say."""

    def room() -> Room | None:
        held = held_bytes(os.getpid(), "VmRSS")
        return None if held is None else Room(int(memory) - held, Path(folder), int(kept))

    return room


def _listen(requests: IO[bytes], waiting: "queue.SimpleQueue[Any]") -> None:
    """Hand requests on; when the light process is gone, end at once, also in the middle of training."""
    try:
        while True:
            waiting.put(read_frame(requests))
    finally:
        os._exit(0)


def _told(request: Mapping[str, Any]) -> tuple[TrainingPlan, Recipe, ModelLine, Records]:
    """A campaign's plan and recipe, its line, and this site's records, as they were paid for and are known."""
    plan = parse(cbor.decode(request["plan"]), TrainingPlan, "plan")
    recipe, line = Recipe.of(plan), read_line(plan.model_line)
    cost = None if recipe.mechanism is None else recipe.mechanism.cost(plan.charged_rounds)
    if cost_form(cost) != request["cost"]:
        raise PrivacyError("JG-privacy-030", where=plan.campaign)
    records = Records.open(Path(request["records"]))
    held = {episode: digest for of_unit in records.manifest.contents.values() for episode, digest in of_unit.items()}
    if not request["episodes"].items() <= held.items():
        raise PrivacyError("JG-privacy-032", where=plan.campaign)
    return plan, recipe, line, records


def _allowed(request: Mapping[str, Any], view: EpisodeView) -> EpisodeView:
    """The view, if by the records themselves its episodes are of masters who allow this use."""
    if set(view.episodes["master"].to_pylist()) - set(request["masters"]):
        raise SiteError("JG-site-357", campaign=request["campaign"])
    return view


def _cut(plan: TrainingPlan, line: ModelLine, view: EpisodeView, room: Room | None) -> Examples | ExamplesAside:
    """The examples of one side, by the plan's unit."""
    unit: SplitUnit = "master" if plan.privacy.unit is Unit.MASTER else "episode"
    return gather(line, view, read_process(line.process), unit, room)


def _open_held_out(request: Mapping[str, Any], room: Callable[[], Room | None]) -> _Judging:
    """A campaign's model and this site's hold-out for it."""
    plan, recipe, line, records = _told(request)
    episodes = list(request["episodes"])
    allowed = _allowed(request, records.holdout(episodes)) if episodes else None
    held_out = recipe.nobody() if allowed is None else _cut(plan, line, allowed, room())
    return _Judging(recipe, Evaluator(request["site"], held_out, recipe), request["episodes"])


def _open(request: Mapping[str, Any], room: Callable[[], Room | None]) -> _Campaign:
    """A campaign's model and this site's training records for it."""
    plan, recipe, line, records = _told(request)
    train = _cut(plan, line, _allowed(request, records.train(list(request["episodes"]))), room())
    return _opened(request, plan, recipe, train)


def _open_rehearsal(request: Mapping[str, Any], room: Callable[[], Room | None]) -> _Campaign:
    """A campaign's model and made-up rows, where examples for it can be cut from this site's training records.

    Raises:
        DataError: JG-data-005, -012, a file is not what was validated; as `cut`. SiteError: JG-site-461, no example.
    """
    plan, recipe, line, records = _told(request)
    check_files(records.folder, records.manifest)
    if not len(_cut(plan, line, _allowed(request, records.train(list(request["episodes"]))), room())):
        raise SiteError("JG-site-461", campaign=request["campaign"])
    return _opened(request, plan, recipe, made_up(plan, recipe))


def _opened(
    request: Mapping[str, Any], plan: TrainingPlan, recipe: Recipe, train: Examples | ExamplesAside
) -> _Campaign:
    """A campaign on these rows."""
    learner = recipe.learner()
    encoding = recipe.encoding if recipe.summing else None
    site = Site(request["site"], train, recipe.public_scaling(), learner, plan.seed, encoding=encoding)
    if request["own"] is not None:
        site.keep(np.frombuffer(request["own"], "<f4"))
    layout, rule = learner.model.layout, build(plan.strategy).local
    return _Campaign(plan, recipe, site, rule, len(layout.shared), layout.size, request["episodes"])


def _misfit(order: Order, campaign: _Campaign) -> str:
    """Why an order cannot be one of this campaign's; empty where it can."""
    if order.kind is Kind.SCALE:
        return "" if campaign.recipe.learns_scaling else "moments, which the plan does not ask for"
    values = campaign.shared * (2 if campaign.rule.control else 1)
    return _unlike(order, campaign.recipe, values, len(campaign.site.scaling.mean))


def _unlike(order: Order, recipe: Recipe, values: int, columns: int) -> str:
    """Why parameters and scaling of an order are none of this recipe's; empty where they are."""
    if len(order.vector) != values:
        return f"{len(order.vector)} parameters, not {values}"
    if (order.scaling is not None) != recipe.learns_scaling:
        return "a scaling where there should be none, or none where there should be one"
    if order.scaling is not None and len(order.scaling[0]) != columns:
        return f"a scaling of {len(order.scaling[0])} columns, not {columns}"
    return ""


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the light process' to hear
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no frame
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    with suppress(OSError):  # where memory runs out, the kernel is to take this process and not the light one; Linux
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")
    pa.set_memory_pool(pa.system_memory_pool())  # what it frees is then free for torch and numpy too
    torch.set_num_threads(int(sys.argv[1]))
    main(sys.stdin.buffer, pipe, room_of(*sys.argv[2:]) if sys.argv[2:] else lambda: None)
