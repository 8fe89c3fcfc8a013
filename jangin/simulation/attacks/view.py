"""What a server has to attack with: everything that went over its exchange, and updates under secret masks."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from jangin.plan.messages import Order, Reply
from jangin.privacy.randomness import SecureRandom
from jangin.server.rounds import Exchange

__all__ = ["Overheard", "masked", "unmasked_sum"]

_WORD = 2**32


class Overheard:
    """An `Exchange` (server/rounds.py) that passes everything on and keeps it: a server that is honest and curious.

    Attributes:
        heard: every reply with the order that it answers, as they came.
    """

    def __init__(self, exchange: Exchange) -> None:
        """Stand before `exchange`."""
        self._exchange = exchange
        self.heard: list[tuple[Order, Reply]] = []

    @property
    def sites(self) -> Sequence[str]:
        """Those of the exchange."""
        return self._exchange.sites

    def push(self, order: Order, cohort: Sequence[str]) -> None:
        """Pass an order on."""
        self._order = order
        self._exchange.push(order, cohort)

    def pull(self) -> Iterator[Reply]:
        """Pass the replies on."""
        for reply in self._exchange.pull():
            self.heard.append((self._order, reply))
            yield reply


def masked(updates: NDArray[np.float32], scale: float, random: SecureRandom) -> NDArray[np.uint32]:
    """What a server sees of updates (sites, size) under masks that cancel in their sum; uint32, of the same shape.

    Fixed-point words round(scale * update) mod 2^32 plus masks that add up to 0 mod 2^32 (Bonawitz et al. 2017, CCS):
    any sites - 1 of them are independent and uniform whatever the updates are. It stands in for a protocol that keeps
    its rules; keys, drop-outs and servers that cheat are not simulated.

    Raises:
        ValueError: values whose sum leaves the words, |scale * sum| >= 2^31.
    """
    fixed = np.rint(scale * updates.astype(np.float64))
    if np.abs(fixed.sum(axis=0)).max() >= _WORD // 2:
        raise ValueError(f"Expected |{scale=} * sum| < 2^31.")
    masks = random.bits(updates.size).reshape(updates.shape) % _WORD
    masks[-1] = (-masks[:-1].sum(axis=0, dtype=np.uint64)) % _WORD
    return ((fixed.astype(np.int64).astype(np.uint64) + masks) % _WORD).astype(np.uint32)


def unmasked_sum(words: NDArray[np.uint32], scale: float) -> NDArray[np.float32]:
    """What words (sites, size), added mod 2^32, say in fixed point; shape (size,).

    Of all sites' words it is the sum of their updates, to half a step of 1 / scale each; of fewer, noise.
    """
    total = words.sum(axis=0, dtype=np.uint64).astype(np.uint32).astype(np.int32)
    values: NDArray[np.float32] = (total / scale).astype(np.float32)
    return values
