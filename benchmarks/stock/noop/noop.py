"""Flower apps that do next to nothing, in one of two ways, and write the seconds that each piece took to a file.

rounds  Flower's own FedAvg with its own grid: what a round takes
tasks   one message to one node, looked for often: what a task takes without the grid's wait of 3 s
"""

import time
from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

VALUES = 200
LOOK_SECONDS = 0.02

client = ClientApp()
server = ServerApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    metrics = MetricRecord({"num-examples": 1})
    return Message(RecordDict({"arrays": message.content["arrays"], "metrics": metrics}), reply_to=message)


class Timed(FedAvg):
    """FedAvg that writes how long each round took, from its configuration to its aggregate."""

    file = ""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self.began = time.monotonic()
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        aggregate = super().aggregate_train(server_round, replies)
        write(self.file, time.monotonic() - self.began)
        return aggregate


@server.main()
def main(grid: Grid, context: Context) -> None:
    asked = context.run_config
    nodes, count, file = int(asked["nodes"]), int(asked["count"]), str(asked["file"])
    arrays = ArrayRecord([np.zeros(VALUES, np.float32)])
    if asked["way"] == "rounds":
        strategy = Timed(fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
        strategy.file = file
        strategy.start(grid, arrays, num_rounds=count)
        return
    while len(there := list(grid.get_node_ids())) < nodes:
        time.sleep(LOOK_SECONDS)
    for _ in range(count):
        began = time.monotonic()
        asking = grid.push_messages([Message(RecordDict({"arrays": arrays}), there[0], "train")])
        while not list(grid.pull_messages(asking)):
            time.sleep(LOOK_SECONDS)
        write(file, time.monotonic() - began)


def write(file: str, seconds: float) -> None:
    with open(file, "a", encoding="ascii") as lines:
        lines.write(f"{seconds}\n")
