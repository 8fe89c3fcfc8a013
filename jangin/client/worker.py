"""The worker: a process that trains. `python -m jangin.client.worker THREADS`, spoken to in frames.

A request is {site, plan, campaign, records, episodes, cost, own, kind, round, body, vector}; the answer is {body,
vector, own}, {words, own} where the plan adds up in secret, {misfit} where the order does not fit the plan's model, or
{failed} with a code or an exception's name and nothing of what it says.

The law: it opens nothing but the records it is told of, releases nothing but what was reserved, goes on from what it is
told that the site keeps and not from a training that was forgotten, talks to nobody but the light process, and ends
with it.
"""

import os
import queue
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import torch

from jangin.client.frames import read_frame, write_frame
from jangin.codec import cbor
from jangin.codec.document import parse
from jangin.errors import JanginError, PrivacyError
from jangin.models.lines import cut, read_line
from jangin.plan.messages import Kind, Order, read_order, reply_body
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.accounts import cost_form
from jangin.privacy.releases import Unit
from jangin.records.dataset import Records
from jangin.records.process import read_process
from jangin.records.split import SplitUnit
from jangin.strategies import build
from jangin.strategies.base import LocalRule
from jangin.training.recipe import Recipe
from jangin.training.site import Site

__all__ = ["Trainer"]

_NICENESS: Final = 10


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
        """What the site has to keep for later rounds: its own parameters, (whole,), where any of them are its own."""
        kept = self.site.kept()
        return None if kept is None or not (self.rule.keeps or self.shared < self.whole) else kept.tobytes()


class Trainer:
    """Every campaign of a site, side by side; each keeps its model and its records between rounds."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._campaigns: dict[str, _Campaign] = {}

    def answer(self, request: Mapping[str, Any]) -> dict[str, object]:
        """Carry out one request."""
        try:
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

    def _campaign(self, request: Mapping[str, Any]) -> _Campaign:
        name = request["campaign"]
        held = self._campaigns.get(name)
        if held is None or held.episodes != request["episodes"] or held.own() != request["own"]:
            self._campaigns[name] = _open(request)
        return self._campaigns[name]


def main(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests in their order until the light process is gone."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting), name="jangin-requests", daemon=True).start()
    trainer = Trainer()
    while True:
        write_frame(answers, trainer.answer(waiting.get()))


def _listen(requests: IO[bytes], waiting: "queue.SimpleQueue[Any]") -> None:
    """Hand requests on; when the light process is gone, end at once, also in the middle of training."""
    try:
        while True:
            waiting.put(read_frame(requests))
    finally:
        os._exit(0)


def _open(request: Mapping[str, Any]) -> _Campaign:
    """A campaign's model and this site's training records for it."""
    plan = parse(cbor.decode(request["plan"]), TrainingPlan, "plan")
    recipe, line = Recipe.of(plan), read_line(plan.model_line)
    cost = None if recipe.mechanism is None else recipe.mechanism.cost(plan.charged_rounds)
    if cost_form(cost) != request["cost"]:
        raise PrivacyError("JG-privacy-030", where=plan.campaign)
    records = Records.open(Path(request["records"]))
    held = {episode: digest for of_unit in records.manifest.contents.values() for episode, digest in of_unit.items()}
    if not request["episodes"].items() <= held.items():
        raise PrivacyError("JG-privacy-032", where=plan.campaign)
    unit: SplitUnit = "master" if plan.privacy.unit is Unit.MASTER else "episode"
    train = cut(line, records.train(list(request["episodes"])), read_process(line.process), unit)
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
    columns = len(campaign.site.scaling.mean)
    if len(order.vector) != campaign.shared:
        return f"{len(order.vector)} parameters, not {campaign.shared}"
    if (order.scaling is not None) != campaign.recipe.learns_scaling:
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
    torch.set_num_threads(int(sys.argv[1]))
    main(sys.stdin.buffer, pipe)
