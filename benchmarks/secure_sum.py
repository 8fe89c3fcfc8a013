"""What a secure sum costs beyond a plain one, for a site and for the server, and beside Flower's SecAgg+.

Process CPU time, one thread, interleaved, medians; Flower's parts run once. The server's time is the sum of what the
survivors sent, the secrets from their shares and the unmasking; a site's is quantising and masking, and in all its
keys and the shares of its secrets too. In neither federation: signatures, commitments, sealing and sending of shares.

Usage: python benchmarks/secure_sum.py [--json] [--quick]
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from flwr.common import ndarray_to_bytes
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)
from numpy.typing import NDArray

from jangin.client.workbench import MEMORY_SETTINGS
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.ring import Grid
from jangin.privacy.secure_sum.keys import Secret, private_key, public_bytes
from jangin.privacy.secure_sum.masks import Cohort, masked, unmasked
from jangin.privacy.secure_sum.shamir import combine, split

SETTINGS = MEMORY_SETTINGS | {"OMP_NUM_THREADS": "1"}
CLIP, NOISE = 1.0, 1.0
DIFFERENT = 16  # vectors that differ: more than a cache holds, and not all of 100 sites' in memory
MOD_RANGE, TARGET_RANGE = 2**32, 2**22  # Flower's defaults

RANDOM = SecureRandom()


class Noiseless(SecureRandom):
    """Rounding and no noise, which has a price of its own."""

    def rounded_gaussian(self, count: int, deviation: float) -> NDArray[np.int64]:
        return np.zeros(count, np.int64)


def milliseconds(parts: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Medians of process CPU time, one part after another in every repeat."""
    taken: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(repeats):
        for name, part in parts.items():
            start = time.process_time()
            part()
            taken[name].append(1e3 * (time.process_time() - start))
    return {name: statistics.median(values) for name, values in taken.items()}


class Ours:
    """A cohort with its secrets, the shares of each and vectors as the server gets them."""

    def __init__(self, sites: int, size: int) -> None:
        self.sites, self.size, self.threshold = sites, size, 2 * sites // 3 + 1
        self.seeds, self.privates = (
            {place: Secret.fresh(RANDOM) for place in range(1, sites + 1)} for _ in ("seeds", "private keys")
        )
        publics = {place: public_bytes(private_key(private)) for place, private in self.privates.items()}
        self.cohort = Cohort(os.urandom(32), publics)
        self.shares = split([*self.seeds.values(), *self.privates.values()], sites, self.threshold, RANDOM)
        rng = np.random.default_rng(0)
        self.grid = Grid.fitting(CLIP, 2 * CLIP, NOISE, size, sites)
        self.vector = rng.normal(size=size) / np.sqrt(size)
        self.sent = rng.integers(0, 2**32, (DIFFERENT, size), np.uint32)
        self.plain = rng.normal(size=(DIFFERENT, size)).astype(np.float32)
        self.zeros, self.room = bytes(4 * size), bytearray(4 * size + 15)
        self.random = Noiseless()

    def mask(self) -> None:
        masked(np.zeros(self.size, np.int64), self.cohort, 1, self.seeds[1], self.privates[1])

    def quantise_and_mask(self) -> None:
        masked(self.grid.released(self.vector, self.random), self.cohort, 1, self.seeds[1], self.privates[1])

    def site(self) -> None:
        seed, private = Secret.fresh(RANDOM), Secret.fresh(RANDOM)
        publics = {**self.cohort.publics, 1: public_bytes(private_key(private))}
        split([seed, private], self.sites, self.threshold, RANDOM)
        masked(self.grid.released(self.vector, self.random), Cohort(self.cohort.salt, publics), 1, seed, private)

    def server(self, drops: int) -> None:
        dropped = [*self.seeds][:drops]
        survivors = [*self.seeds][drops:]
        total = self.summed(self.sent, len(survivors))
        holders = survivors[: self.threshold]
        columns = [place - 1 for place in survivors] + [self.sites + place - 1 for place in dropped]
        secrets = combine(self.shares[np.array(holders) - 1][:, columns], holders, self.threshold)
        seeds, privates = secrets[: len(survivors)], secrets[len(survivors) :]
        unmasked(
            total,
            self.cohort,
            dict(zip(survivors, seeds, strict=True)),
            dict(zip(dropped, privates, strict=True)),
        )

    def plain_sum(self) -> None:
        self.summed(self.plain, self.sites)

    def summed(self, vectors: np.ndarray, count: int) -> np.ndarray:
        total = np.zeros(self.size, vectors.dtype)
        for at in range(count):
            total += vectors[at % DIFFERENT]
        return total

    def streams(self) -> None:
        """A stream as long as a vector for each site, in one call each, into memory that is there already."""
        for _ in range(self.sites):
            stream = Cipher(algorithms.AES128(os.urandom(16)), modes.CTR(bytes(16))).encryptor()
            stream.update_into(self.zeros, self.room)


class Theirs:
    """The same parts of Flower's SecAgg+ on a complete graph, from its own functions in the order of its client."""

    def __init__(self, sites: int, size: int) -> None:
        self.sites, self.size, self.threshold = sites, size, 2 * sites // 3 + 1
        self.dimensions = [(1,), (size,)]
        self.private, public = generate_key_pairs()
        self.public = public_key_to_bytes(public)
        self.seed, self.key = os.urandom(32), private_key_to_bytes(self.private)
        self.seed_shares, self.key_shares = (
            create_shares(each, self.threshold, sites) for each in (self.seed, self.key)
        )
        rng = np.random.default_rng(0)
        self.vector = (rng.normal(size=size) / np.sqrt(size)).astype(np.float32)
        self.sent = [[np.array([1]), row] for row in rng.integers(0, MOD_RANGE, (DIFFERENT, size), np.int64)]

    def pair_mask(self) -> list[np.ndarray]:
        shared = generate_shared_key(bytes_to_private_key(self.key), bytes_to_public_key(self.public))
        return pseudo_rand_gen(shared, MOD_RANGE, self.dimensions)

    def mask(self) -> list[np.ndarray]:
        return self.masked(factor_combine(1, [np.zeros(self.size, np.int32)]))

    def masked(self, vector: list[np.ndarray]) -> list[np.ndarray]:
        vector = parameters_addition(vector, pseudo_rand_gen(self.seed, MOD_RANGE, self.dimensions))
        for at in range(self.sites - 1):
            combined = parameters_addition if at % 2 else parameters_subtraction
            vector = combined(vector, self.pair_mask())
        return parameters_mod(vector, MOD_RANGE)

    def site(self) -> None:
        private, _ = generate_key_pairs()
        for secret in (os.urandom(32), private_key_to_bytes(private)):
            create_shares(secret, self.threshold, self.sites)
        self.masked(factor_combine(1, quantize([self.vector], CLIP, TARGET_RANGE)))

    def server(self, drops: int) -> None:
        survivors = self.sites - drops
        total = self.sent[0]
        for at in range(1, survivors):
            total = parameters_addition(total, self.sent[at % DIFFERENT])
        total = parameters_mod(total, MOD_RANGE)
        for _ in range(survivors):
            seed = combine_shares(self.seed_shares[: self.threshold])
            total = parameters_subtraction(total, pseudo_rand_gen(seed, MOD_RANGE, self.dimensions))
        for _ in range(drops):
            combine_shares(self.key_shares[: self.threshold])
            for _ in range(survivors):
                total = parameters_addition(total, self.pair_mask())
        parameters_mod(total, MOD_RANGE)

    def upload(self) -> int:
        """Bytes of a masked vector as it is sent."""
        return sum(len(ndarray_to_bytes(part)) for part in self.sent[0])


def row(name: str, figure: float, beside: dict[str, float], against: float, most: float | None) -> dict[str, object]:
    """One line; `against` is what the figure is a multiple of, at most `most` times."""
    return {
        "name": name,
        "figure": round(figure, 3),
        "beside": {what: round(value, 3) for what, value in beside.items()},
        "ratio": round(figure / against, 4),
        "goal": None if most is None else f"<= {most:.3g}",
        "holds": None if most is None else figure <= most * against,
    }


def beside_plain(sites: int, size: int, drops: int, repeats: int) -> Iterator[dict[str, object]]:
    """Our server beside a plain sum, and our site beside the cipher."""
    ours = Ours(sites, size)
    at = f"{sites} sites, {size:,} values"
    parts = {
        "plain sum": ours.plain_sum,
        "streams": ours.streams,
        "server": partial(ours.server, 0),
        "server with drops": partial(ours.server, drops),
        "mask": ours.mask,
        "site": ours.quantise_and_mask,
        "noise": lambda: RANDOM.rounded_gaussian(size, 1e3),
    }
    taken = milliseconds(parts, repeats)
    plain, streams = taken["plain sum"], taken["streams"]
    yield row(f"server, {at}, CPU ms / plain float32 sum", taken["server"], {"plain sum": plain}, plain, 6.0)
    allowed = taken["server"] + 1.4 * streams / sites * drops * (sites - drops)
    beside = {"no drops": taken["server"], "one stream": streams / sites}
    yield row(
        f"server, {drops} drops, {at}, CPU ms / no drops + 1.4 streams a drop and survivor",
        taken["server with drops"],
        beside,
        allowed,
        1.0,
    )
    beside = {"mask alone": taken["mask"], "streams": streams, "noise, not in it": taken["noise"]}
    yield row(f"site quantises and masks, {at}, CPU ms / streams", taken["site"], beside, streams, 1.6)


def sharing(sites: int, threshold: int, repeats: int) -> Iterator[dict[str, object]]:
    """Splitting the two secrets of a site, and combining two from the shares of many."""
    secrets = [Secret.fresh(RANDOM), Secret.fresh(RANDOM)]
    shares = split(secrets, sites, threshold, RANDOM)
    holders = list(range(sites - threshold + 1, sites + 1))
    given = shares[np.array(holders) - 1]
    parts = {
        "split": partial(split, secrets, sites, threshold, RANDOM),
        "combine": partial(combine, given, holders, threshold),
    }
    taken = milliseconds(parts, repeats)
    name = f"shares of 2 secrets, {threshold} of {sites}, CPU ms, split / combine"
    yield row(name, taken["split"], {"combine": taken["combine"]}, taken["combine"], None)


def beside_flower(sites: int, size: int, drops: int, repeats: int) -> Iterator[dict[str, object]]:
    """Our parts beside Flower's of the same name, whose long ones run once."""
    ours, theirs = Ours(sites, size), Theirs(sites, size)
    at = f"{sites} sites, {size:,} values"
    for name, own, flowers, most in (
        ("site masks", ours.mask, theirs.mask, 1 / 5),
        ("site in all", ours.site, theirs.site, 1 / 15),
        ("server", partial(ours.server, 0), partial(theirs.server, 0), 1 / 80),
        (f"server, {drops} drops", partial(ours.server, drops), partial(theirs.server, drops), 1 / 50),
    ):
        figure = milliseconds({"ours": own}, repeats)["ours"]
        flower = milliseconds({"Flower's": flowers}, 1)["Flower's"]
        yield row(f"{name}, {at}, CPU ms / Flower's SecAgg+", figure, {"Flower's SecAgg+": flower}, flower, most)
    own, flower = ours.sent[0].nbytes, theirs.upload()
    yield row(f"upload, {at}, bytes / Flower's SecAgg+", own, {"Flower's SecAgg+": flower}, flower, 0.51)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only JSON lines (they are the only form)")
    parser.add_argument("--quick", action="store_true", help="few sites, short vectors: keeps this script alive")
    quick = parser.parse_args().quick
    repeats = 1 if quick else 5
    sizes = ((7, 1_000, 2), (4, 1_000, 1)) if quick else ((100, 1_000_000, 10), (64, 1_000_000, 4))
    rows = [
        beside_plain(*sizes[0], repeats),
        *(sharing(*counts, 50) for counts in (((7, 5),) if quick else ((100, 67), (500, 334)))),
        beside_flower(*sizes[1], repeats),
    ]
    for measured in rows:
        for line in measured:
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    if not SETTINGS.items() <= os.environ.items():  # glibc and BLAS read them when a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | SETTINGS)
    main()
