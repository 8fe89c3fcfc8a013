"""Laws of the in-process grid: Flower apps run on it as they are, lazily, and errors are not hidden."""

from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from jangin.flower_link.in_process import InProcessGrid
from jangin.flower_link.wire import Wire, pack, unpack


def counting() -> tuple[ClientApp, list[int]]:
    """An app that counts its calls in its node's state, and the partitions in the order of their calls."""
    app, called = ClientApp(), list[int]()

    @app.query()
    def answer(message: Message, context: Context) -> Message:
        partition = int(context.node_config["partition-id"])
        called.append(partition)
        count = int(context.state.get("count", ConfigRecord({"n": 0}))["n"]) + 1
        context.state["count"] = ConfigRecord({"n": count})
        asked = unpack(message.content)
        reply = Wire(asked.kind, asked.campaign, asked.round, b"%d of %d" % (partition, count))
        return Message(pack(reply), reply_to=message)

    return app, called


def orders(grid: Grid, number: int) -> list[Message]:
    content = pack(Wire("train", "c", number))
    return [grid.create_message(content, "query", node, str(number)) for node in grid.get_node_ids()]


def bodies(replies: Any) -> list[bytes]:
    return [unpack(reply.content).body for reply in replies]


def test_every_partition_answers_and_keeps_its_own_state() -> None:
    app, _ = counting()
    grid = InProcessGrid(app, 3)
    assert bodies(grid.send_and_receive(orders(grid, 0))) == [b"0 of 1", b"1 of 1", b"2 of 1"]
    assert bodies(grid.send_and_receive(orders(grid, 1))) == [b"0 of 2", b"1 of 2", b"2 of 2"]


def test_a_reply_is_made_when_it_is_taken_and_had_once() -> None:
    app, called = counting()
    grid = InProcessGrid(app, 3)
    ids = list(grid.push_messages(orders(grid, 0)))
    replies = iter(grid.pull_messages(reversed(ids)))
    assert called == []
    next(replies)
    assert called == [2]
    assert bodies(replies) == [b"1 of 1", b"0 of 1"]
    assert list(grid.pull_messages(ids)) == []


def test_a_reply_names_the_message_it_answers() -> None:
    grid = InProcessGrid(counting()[0], 2)
    ids = list(grid.push_messages(orders(grid, 0)))
    assert len(set(ids)) == 2
    assert [reply.metadata.reply_to_message_id for reply in grid.pull_messages(ids)] == ids


def test_two_grids_live_side_by_side() -> None:
    one, other = (InProcessGrid(counting()[0], 1) for _ in range(2))
    replies = [bodies(grid.send_and_receive(orders(grid, 0))) for grid in (one, other, one)]
    assert replies == [[b"0 of 1"], [b"0 of 1"], [b"0 of 2"]]


def test_what_an_app_raises_comes_out() -> None:
    app = ClientApp()

    @app.query()
    def answer(message: Message, context: Context) -> Message:
        raise ZeroDivisionError

    grid = InProcessGrid(app, 1)
    with pytest.raises(ZeroDivisionError):
        list(grid.send_and_receive(orders(grid, 0)))


def test_a_node_that_is_not_there_is_an_error() -> None:
    grid = InProcessGrid(counting()[0], 1)
    with pytest.raises(KeyError):
        grid.push_messages([grid.create_message(RecordDict(), "query", 7, "")])


def test_a_server_app_runs_on_it_as_it_is() -> None:
    app, called = counting()
    grid = InProcessGrid(app, 4)
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        content = pack(Wire("train", "c", 0))
        messages = [Message(content, dst_node_id=node, message_type="query") for node in grid.get_node_ids()]
        assert len(list(grid.send_and_receive(messages))) == 4

    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    server(grid=grid, context=context)
    assert called == [0, 1, 2, 3]
    assert grid.run.run_id == context.run_id
