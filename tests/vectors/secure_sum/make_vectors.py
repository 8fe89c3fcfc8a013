"""Write vectors.json: a mask alone, shares and a round of three sites, by integers and standard primitives alone.

Usage: python tests/vectors/secure_sum/make_vectors.py
This is the arithmetic a second time, slow and without numpy: HKDF is RFC 5869 over `hmac`, the stream is AES of a
counter block by block, shares are Horner's rule in Python's integers. Secrets are digests of their names, so the file
is the same every time. Bytes are hex; places, thresholds and words are numbers.
"""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

HERE = Path(__file__).parent
ORDER, RING = 65537, 2**32
SALT = hashlib.sha256(b"h1").digest()


def secret(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def hkdf(material: bytes, info: bytes) -> bytes:
    """16 bytes: one block of RFC 5869's second step is enough."""
    extracted = hmac.digest(SALT, material, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")[:16]


def stream(key: bytes, words: int) -> list[int]:
    cipher = Cipher(algorithms.AES128(key), modes.ECB()).encryptor()
    blocks = b"".join(cipher.update(counter.to_bytes(16, "big")) for counter in range((words + 3) // 4))
    return [int.from_bytes(blocks[4 * at : 4 * at + 4], "little") for at in range(words)]


def place(number: int) -> bytes:
    return number.to_bytes(4, "little")


def self_key(seed: bytes, own: int) -> bytes:
    return hkdf(seed, b"fsa-m/1|self" + place(own))


def pair_key(private: bytes, own: int, public: bytes, other: int) -> bytes:
    agreed = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    return hkdf(agreed, b"fsa-m/1|mask" + place(min(own, other)) + place(max(own, other)))


def public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def share(secret_bytes: bytes, coefficients: list[list[int]], holder: int) -> list[int]:
    """Values at `holder`; `coefficients` has one list of 16 for each power from 1."""
    limbs = [int.from_bytes(secret_bytes[at : at + 2], "little") for at in range(0, 32, 2)]
    values = [0] * 16
    for row in [*reversed(coefficients), limbs]:
        values = [(value * holder + added) % ORDER for value, added in zip(values, row, strict=True)]
    return values


def shares() -> dict[str, Any]:
    """Of one secret for 5 holders; the last limb's polynomial is made to give 65536 at holder 2."""
    of = secret("a secret to share")
    coefficients = [[(7919 * (16 * k + limb) + 65530) % ORDER for limb in range(16)] for k in range(2)]
    last = int.from_bytes(of[30:], "little")
    coefficients[0][15] = (ORDER - 1 - last - 4 * coefficients[1][15]) * pow(2, -1, ORDER) % ORDER
    rows = [share(of, coefficients, holder) for holder in range(1, 6)]
    return {
        "secret": of.hex(),
        "threshold": 3,
        "coefficients": coefficients,
        "shares": [b"".join(value.to_bytes(4, "little") for value in row).hex() for row in rows],
        "values_at_2": rows[1],
    }


def round_of_three() -> dict[str, Any]:
    """Sites 1 to 3 mask, site 3 is not heard of again; the sum is that of sites 1 and 2."""
    steps = {1: [1, -1, 2**31 - 1, 0, 5], 2: [2, -2, 1, 0, -6], 3: [100, 100, 100, 100, 100]}
    seeds, privates = ({own: secret(f"{name} {own}") for own in steps} for name in ("seed", "private"))
    publics = {own: public(private) for own, private in privates.items()}
    pairs = {(u, v): pair_key(privates[u], u, publics[v], v) for u in steps for v in steps if u != v}
    sent = {}
    for own, vector in steps.items():
        words = [value + mask for value, mask in zip(vector, stream(self_key(seeds[own], own), 5), strict=True)]
        for other in steps.keys() - {own}:
            sign = 1 if own < other else -1
            words = [a + sign * b for a, b in zip(words, stream(pairs[own, other], 5), strict=True)]
        sent[own] = [word % RING for word in words]
    total = [(a + b + 2**31) % RING - 2**31 for a, b in zip(steps[1], steps[2], strict=True)]
    return {
        "sites": [
            {
                "place": own,
                "seed": seeds[own].hex(),
                "private": privates[own].hex(),
                "public": publics[own].hex(),
                "self_key": self_key(seeds[own], own).hex(),
                "steps": steps[own],
                "sends": sent[own],
            }
            for own in steps
        ],
        "pair_keys": {f"{u} {v}": key.hex() for (u, v), key in pairs.items() if u < v},
        "survivors": [1, 2],
        "sum": total,
    }


def refusals() -> list[dict[str, str]]:
    """Bytes that are no share of one secret, and public keys that are none."""
    good = bytes.fromhex(shares()["shares"][0])
    two = {"a share with the value 65537": good[:60] + place(65537), "a share with 32 bits": good[:60] + b"\xff" * 4}
    two |= {"a share cut short": good[:-1], "a share and a byte": good + b"\0", "no share": b""}
    keys = {"a key of order 1": bytes(32), "another key of order 1": place(1) + bytes(28), "a short key": bytes(31)}
    return [{"name": name, "give": "share", "bytes": data.hex()} for name, data in two.items()] + [
        {"name": name, "give": "public", "bytes": data.hex()} for name, data in keys.items()
    ]


def vectors() -> dict[str, Any]:
    """The whole file."""
    seed, private = secret("a seed alone"), secret("a private key alone")
    key = self_key(seed, 7)
    alone = {"place": 7, "seed": seed.hex(), "private": private.hex(), "key": key.hex(), "words": stream(key, 9)}
    return {
        "salt": SALT.hex(),
        "alone": alone,
        "shares": shares(),
        "round": round_of_three(),
        "refused": refusals(),
    }


if __name__ == "__main__":
    (HERE / "vectors.json").write_text(json.dumps(vectors(), indent=1) + "\n", encoding="utf-8")
