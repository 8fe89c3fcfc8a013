"""What a secure sum costs beyond a plain one, for a site and for the server, and beside Flower's SecAgg+.

Process CPU time, one thread, interleaved, medians; Flower's parts and whole protocols run once. First the arithmetic:
the server's time is the sum of what the survivors sent, the secrets from their shares and the unmasking; a site's is
quantising and masking, and in all its keys and the shares of its secrets too. Then the whole protocol by the two
machines, with signatures, commitments, sealing and certificates, of which SecAgg+ has the sealing; no network.

Usage: python benchmarks/secure_sum.py [--json] [--quick]
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from flwr.client.mod.secure_aggregation.secaggplus_mod import (
    SecAggPlusState,
    _collect_masked_vectors,
    _setup,
    _share_keys,
    _unmask,
)
from flwr.common import ConfigRecord, ndarray_to_bytes, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import encrypt, generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen, share_keys_plaintext_concat
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
from jangin.privacy.secure_sum.journal import MemoryJournal
from jangin.privacy.secure_sum.keys import Secret, private_key, public_bytes
from jangin.privacy.secure_sum.masks import Cohort, masked, unmasked
from jangin.privacy.secure_sum.policy import Policy, Terms
from jangin.privacy.secure_sum.server import ServerSum
from jangin.privacy.secure_sum.shamir import combine, split
from jangin.privacy.secure_sum.site import Answer, SiteSum
from jangin.privacy.secure_sum.table import State, Step
from jangin.privacy.secure_sum.transcript import Manifest

SETTINGS = MEMORY_SETTINGS | {"OMP_NUM_THREADS": "1"}
CLIP, NOISE = 1.0, 1.0
DIFFERENT = 16  # vectors that differ: more than a cache holds, and not all of 100 sites' in memory
MOD_RANGE, TARGET_RANGE = 2**32, 2**22  # Flower's defaults
VECTORS = Path(__file__).parents[1] / "tests" / "vectors" / "secure_sum" / "machines.json"

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

    def whole_site(self) -> Callable[[], None]:
        """Every function of the client in turn, on what `sites - 1` others would have sent to it."""
        told = {Key.SAMPLE_NUMBER: self.sites, Key.SHARE_NUMBER: self.sites, Key.THRESHOLD: self.threshold}
        told |= {Key.CLIPPING_RANGE: CLIP, Key.TARGET_RANGE: TARGET_RANGE, Key.MOD_RANGE: MOD_RANGE}
        told |= {Key.MAX_WEIGHT: 1.0}
        others = {nid: [generate_key_pairs() for _ in range(2)] for nid in range(2, self.sites + 1)}
        shares = [create_shares(each, self.threshold, self.sites)[0] for each in (self.seed, self.key)]
        parameters = ndarrays_to_parameters([self.vector])
        state = SecAggPlusState(nid=1)

        def sealed(nid: int) -> bytes:
            key = generate_shared_key(others[nid][1][0], bytes_to_public_key(state.pk2))
            return encrypt(key, share_keys_plaintext_concat(nid, 1, *shares))

        start = time.process_time()
        keys = _setup(state, ConfigRecord({**told}))
        taken = time.process_time() - start
        public = {str(nid): [public_key_to_bytes(one) for _, one in pairs] for nid, pairs in others.items()}
        public |= {"1": [keys[Key.PUBLIC_KEY_1], keys[Key.PUBLIC_KEY_2]]}
        dealt = {Key.SOURCE_LIST: [*others], Key.CIPHERTEXT_LIST: [sealed(nid) for nid in others]}

        def rest() -> None:
            _share_keys(state, ConfigRecord(public))
            _collect_masked_vectors(state, ConfigRecord(dealt), 1, parameters)
            _unmask(state, ConfigRecord({Key.ACTIVE_NODE_ID_LIST: [1, *others], Key.DEAD_NODE_ID_LIST: []}))

        self.set_up = 1e3 * taken
        return rest

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


class Whole:
    """A cohort that goes through the whole protocol, and the CPU seconds of its sites and of its server by step."""

    def __init__(self, sites: int, size: int) -> None:
        self.names = [f"site-{number:03}" for number in range(sites)]
        keys = {
            name: Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()) for name in self.names
        }
        self.identities = {name: key.public_key() for name, key in keys.items()}
        self.manifest = Manifest("a" * 64, 1, 1, bytes(32), bytes(32), size, (60.0,) * 5)
        c_max = min(3, (sites - 1) // 3)
        self.terms = Terms(frozenset(self.names), sites, 3, c_max, 1)
        policy = Policy(n_min=3, n_min_final=3, n_honest_min=1, c_max=c_max, demo=True)
        self.sites = {
            name: SiteSum(name, self.manifest, self.terms, policy, self.identities, keys[name], MemoryJournal(), RANDOM)
            for name in self.names
        }
        rng = np.random.default_rng(0)
        self.vectors = rng.integers(-1000, 1000, (DIFFERENT, size)).astype(np.int32)
        self.at_sites, self.at_server = dict.fromkeys(Step, 0.0), dict.fromkeys(Step, 0.0)

    def vector(self, name: str) -> NDArray[np.int32]:
        return self.vectors[int(name[-3:]) % DIFFERENT]

    def ask(self, name: str, step: Step, request: bytes) -> Answer:
        start = time.process_time()
        site = self.sites[name]
        if step is Step.ADVERTISE:
            answer = site.advertise(self.vector(name).view(np.uint32))
        else:
            answer = site.answer(step, request)
        self.at_sites[step] += time.process_time() - start
        return answer

    def run(self, drops: int = 0) -> NDArray[np.int32]:
        """The sum, of which `drops` sites fall silent before they send their vectors."""
        server, gone = ServerSum(self.manifest, self.terms, self.identities), frozenset(self.names[:drops])
        while server.state is not State.UNMASKED:
            step, before, sites = server.step, time.process_time(), sum(self.at_sites.values())
            for name in sorted(server.asked - (gone if step is Step.MASK else frozenset())):
                answer = self.ask(name, step, server.request(name))
                server.receive(name, answer.body, answer.vector)
            server.close()
            total = server.total() if server.state is State.UNMASKED else None
            self.at_server[step] += time.process_time() - before - (sum(self.at_sites.values()) - sites)
        return total

    def run_apart(self) -> tuple[NDArray[np.int32], float, int]:
        """The sum, with the server in a process of its own: its CPU seconds and how many bytes it grew by at most."""
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        identities = {name: key.public_bytes_raw() for name, key in self.identities.items()}
        process = context.Process(target=serve, args=(there, self.manifest, self.terms, identities))
        process.start()
        while isinstance(asked := here.recv(), tuple) and isinstance(asked[0], str):
            answer = self.ask(*asked)
            here.send((answer.body, answer.vector))
        process.join()
        return asked


def serve(connection: Connection, manifest: Manifest, terms: Terms, identities: dict[str, bytes]) -> None:
    """The server of `Whole.run_apart`: every site is asked through the connection, one after another."""
    public = {name: Ed25519PublicKey.from_public_bytes(raw) for name, raw in identities.items()}
    Whole(7, 1).run(2)  # so that libraries are loaded before memory is looked at
    before, start = memory("VmRSS"), time.process_time()
    server = ServerSum(manifest, terms, public)
    while server.state is not State.UNMASKED:
        for name in sorted(server.asked):
            connection.send((name, server.step, server.request(name)))
            server.receive(name, *connection.recv())
        server.close()
    total, seconds = server.total(), time.process_time() - start
    connection.send((total, seconds, memory("VmHWM") - before))


def memory(field: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM the most so far (not ru_maxrss, which begins with the parent's)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


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


def control(sites: int) -> Iterator[dict[str, object]]:
    """What is not the vector: each site's work by step, for each of its peers."""
    whole = Whole(sites, 1)
    whole.run()
    a_peer = 1e3 / sites**2
    key = Ed25519PrivateKey.generate()
    signature, public = key.sign(b""), key.public_key()
    verified = milliseconds({"a signature verified": partial(public.verify, signature, b"")}, 200)
    beside = {step.value: seconds * a_peer for step, seconds in whole.at_sites.items()}
    server = sum(whole.at_server.values()) * a_peer
    name = f"control work of a site, {sites} sites, CPU ms a peer"
    yield row(name, sum(beside.values()), beside | {"the server's": server} | verified, 1.0, 0.5)


def protocol_beside_flower(sites: int, size: int, drops: int) -> Iterator[dict[str, object]]:
    """The whole of a site and of the server; without goals, since SecAgg+ signs nothing and commits to nothing."""
    whole, theirs = Whole(sites, size), Theirs(sites, size)
    on_grid = Grid.fitting(CLIP, 2 * CLIP, NOISE, size, sites)
    at = f"{sites} sites, {size:,} values"
    whole.run()
    quantise = milliseconds({"quantise": lambda: on_grid.released(theirs.vector.astype(np.float64), Noiseless())}, 5)
    figure = 1e3 * sum(whole.at_sites.values()) / sites + quantise["quantise"]
    flower = milliseconds({"rest": theirs.whole_site()}, 1)["rest"] + theirs.set_up
    name = f"site, whole protocol, {at}, CPU ms / Flower's SecAgg+ client"
    yield row(name, figure, {"Flower's SecAgg+": flower}, flower, None)
    for lost in (0, drops):
        whole = Whole(sites, size)
        whole.run(lost)
        figure = 1e3 * sum(whole.at_server.values())
        flower = milliseconds({"Flower's": partial(theirs.server, lost)}, 1)["Flower's"]
        name = f"server, whole protocol, {lost} drops, {at}, CPU ms / Flower's SecAgg+ server's arithmetic"
        yield row(name, figure, {"Flower's SecAgg+": flower}, flower, None)


def exactness(sites: int, size: int) -> Iterator[dict[str, object]]:
    """The sum of the ring against plain integers, and the sum of vectors against float64, without noise."""
    whole = Whole(sites, size)
    total = whole.run(sites // 10)
    wrong = int(np.count_nonzero(total != sum(whole.vector(name) for name in whole.names[sites // 10 :])))
    yield row(f"ring sum, {sites} sites, {size:,} values, values that are wrong", wrong, {}, 1.0, 0.0)
    rng, on_grid = np.random.default_rng(0), Grid.fitting(CLIP, CLIP, NOISE, size, sites)
    exact, steps = np.zeros(size), np.zeros(size, np.int64)
    for _ in range(sites):
        vector = rng.normal(size=size)
        vector *= CLIP / np.linalg.norm(vector)
        exact += vector
        steps += on_grid.released(vector, Noiseless())
    error = float(np.linalg.norm(on_grid.value(steps) - exact) / np.linalg.norm(exact))
    fits = {"steps fit 32 bits": bool(np.abs(steps).max() < 2**31)}
    yield row(f"sum of {sites} vectors of {size:,} values, box S, relative L2 error x 1e5", 1e5 * error, fits, 1.0, 5.0)


def vectors() -> Iterator[dict[str, object]]:
    """Golden messages that are taken beside those that are refused."""
    cases = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]
    taken = sum(case["expect"] == "ok" for case in cases)
    refused = len(cases) - taken
    yield row("golden messages taken / refused", taken, {"refused": refused}, refused, 1.0)


def end_to_end(sites: int, size: int) -> Iterator[dict[str, object]]:
    """All sites in one process, the server in another."""
    whole = Whole(sites, size)
    start = time.process_time()
    total, at_server, grown = whole.run_apart()
    seconds = time.process_time() - start + at_server
    if (total != sum(whole.vector(name) for name in whole.names)).any():
        raise ValueError("Expected the sum.")
    at = f"{sites} sites, {size:,} values, end to end"
    yield row(f"{at}, CPU s of all", seconds, {"the server's": at_server}, 1.0, 150.0)
    allowed = 3 * 4 * size + 300 * sites**2
    name = f"{at}, MB by which the server grew / 3 vectors + 300 B for each pair"
    yield row(name, grown / 1e6, {"allowed": allowed / 1e6}, allowed / 1e6, 1.0)


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
        control(7 if quick else 100),
        protocol_beside_flower(*sizes[1]),
        exactness(*((10, 1_000) if quick else (100, 2**20))),
        vectors(),
        end_to_end(*((7, 1_000) if quick else (500, 100_000))),
    ]
    for measured in rows:
        for line in measured:
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    if not SETTINGS.items() <= os.environ.items():  # glibc and BLAS read them when a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | SETTINGS)
    main()
