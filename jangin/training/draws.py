"""Batch draws without differential privacy: a function of (seed, site, round), the same in every engine.

With differential privacy draws are secret and fresh (privacy/sampling.py) and no seed reaches them.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["seeded_batches"]


def seeded_batches(examples: int, batch: int, steps: int, *key: object) -> NDArray[np.intp]:
    """Row numbers of every step's batch, (steps, rows): permutations of all rows, one after another, cut to batches.

    Args:
        examples: number of rows; of none, every batch is empty.
        batch: rows of a batch; all rows where there are fewer.
        steps: number of batches.
        key: what the order depends on, e.g. (seed, site, round); hashed by SHA-256 into a PCG64 stream.
    """
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    stream = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16])))
    batch = min(batch, examples)
    orders = [stream.permutation(examples) for _ in range(max(1, -(-steps * batch // max(1, examples))))]
    return np.concatenate(orders)[: steps * batch].reshape(steps, batch)
