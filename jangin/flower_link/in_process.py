"""Flower apps in one process, without Ray: a `Grid` whose nodes are calls of one ClientApp.

The law: a reply is made when it is asked for and held by nobody else, so replies never pile up; what an app raises
comes out as it is. Every grid has the same ids (`TaskIdentity` is one for the whole process), so that two may live
side by side.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import count

from flwr.app import Context, Message, RecordDict
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid
from flwr.supercore.date import now
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from jangin.flower_link.wire import Wire, pack, unpack

__all__ = ["InProcessGrid", "client_app"]

_RUN_ID = 1
_TTL_SECONDS = 43_200.0


def client_app(answer: Callable[[int, Wire], Wire]) -> ClientApp:
    """A ClientApp that answers every query in our message form.

    Args:
        answer: from a node's partition and what it was asked to what it says.
    """
    app = ClientApp()

    @app.query()
    def _answer(message: Message, context: Context) -> Message:
        wire = answer(int(context.node_config["partition-id"]), unpack(message.content))
        return Message(pack(wire), reply_to=message)

    return app


class InProcessGrid(Grid):
    """A grid of `partitions` nodes with ids from 2 in steps of 1; node n holds partition n - 2.

    Each node has its own `Context`, which lasts as long as the grid: `node_config` is `partition-id` and
    `num-partitions`, `state` is the node's memory between messages.
    """

    def __init__(self, client_app: ClientApp, partitions: int) -> None:
        """Take the app that answers for every node."""
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, _RUN_ID, SUPERLINK_NODE_ID
        self._app, self._run, self._ids = client_app, Run.create_empty(_RUN_ID), count(1)
        self._waiting: dict[str, Message] = {}
        self._contexts = {
            node: Context(
                run_id=_RUN_ID,
                node_id=node,
                node_config={"partition-id": partition, "num-partitions": partitions},
                state=RecordDict(),
                run_config={},
            )
            for partition, node in enumerate(range(SUPERLINK_NODE_ID + 1, SUPERLINK_NODE_ID + 1 + partitions))
        }

    def set_run(self, run: Run) -> None:
        """Take the run that a ServerApp is started for."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run given, or an empty one."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to one node, made from explicit metadata."""
        metadata = Metadata(
            run_id=_RUN_ID,
            message_id="",
            src_node_id=SUPERLINK_NODE_ID,
            dst_node_id=dst_node_id,
            reply_to_message_id="",
            group_id=group_id,
            created_at=now().timestamp(),
            ttl=_TTL_SECONDS if ttl is None else ttl,
            message_type=message_type,
        )
        return make_message(metadata, content)

    def get_node_ids(self) -> Iterable[int]:
        """Every node, in the order of partitions."""
        return list(self._contexts)

    def order(self, node: int, wire: Wire) -> Message:
        """A query in our message form to one node."""
        return self.create_message(pack(wire), "query", node, str(wire.round))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Give each message an id and keep it until its reply is asked for.

        Raises:
            KeyError: a node that the grid does not have.
        """
        ids = []
        for message in messages:
            _ = self._contexts[message.metadata.dst_node_id]
            # Flower has no setter.
            message.metadata.__dict__["_message_id"] = f"in-process-{next(self._ids)}"
            self._waiting[message.metadata.message_id] = message
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """The replies in the order of `message_ids`, each made as it is taken; an id is answered once."""
        for message_id in message_ids:
            message = self._waiting.pop(message_id, None)
            if message is not None:
                yield self._app(message, self._contexts[message.metadata.dst_node_id])

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Push, then pull; a call cannot be late, so `timeout` has no meaning here."""
        return self.pull_messages(self.push_messages(messages))
