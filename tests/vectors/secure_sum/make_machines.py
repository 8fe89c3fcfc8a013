"""Write machines.json: for each message of a secure sum one that is taken and more that are refused, with the code.

Usage: python tests/vectors/secure_sum/make_machines.py
One sum of four sites whose secrets come of their names, so that the file is the same every time; `site-04` deals and
is not heard of again. The messages are made by the package's machines, and `check` derives what is in them a second
time, by hashlib, hmac, `cryptography` and integers alone. Bytes are hex. A case says to whom the message goes at
which step, and what was dealt before where that is not what the sites would deal.
"""

import hashlib
import hmac
import json
import runpy
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = Path(__file__).parent
sys.path.append(str(HERE.parents[1] / "support"))

from sums import CAMPAIGN, Federation, manifest, names, randomness, signer, vector  # noqa: E402

from jangin.codec import cbor  # noqa: E402
from jangin.privacy.secure_sum.messages import Advert, Complaint, Dealing, Dealt, Shown  # noqa: E402
from jangin.privacy.secure_sum.table import Step  # noqa: E402
from jangin.privacy.secure_sum.transcript import (  # noqa: E402
    Tree,
    advert_statement,
    certificate_statement,
    certified,
    complaint_statement,
    dealing_statement,
    shown_statement,
    tagged,
)

SITES, LOST, PARCEL = 4, "site-04", 208
Case = dict[str, Any]


def played(step: Step, dealt: dict[str, str] | None = None) -> Federation:
    """The sum up to a step; `dealt` are dealings, hex by site, that are not what the sites deal."""
    federation = Federation(SITES).until(Step.ADVERTISE)
    while federation.server.step is not step:
        if federation.server.step is Step.MASK:
            federation.gone = {LOST}
        for name in federation.asked():
            answer = federation.ask(name)
            if federation.server.step is Step.SHARE and name in (dealt or {}):
                answer = replace(answer, body=bytes.fromhex(dealt[name]))
            federation.give(name, answer)
        federation.server.close()
    return federation


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# --- the cases


def case(name: str, to: str, step: Step, body: bytes, expect: str, **more: Any) -> Case:
    return {"name": name, "to": to, "step": step.value, "body": body.hex(), "expect": expect, **more}


def answered(name: str, step: Step, federation: Federation, **more: Any) -> Iterator[Case]:
    """What the first site takes, and what the server takes of it."""
    request = federation.server.request("site-01")
    answer = federation.ask("site-01")
    words = {} if answer.vector is None else {"vector": answer.vector.tolist()}
    yield case(f"{name}, to a site", "site", step, request, "ok", answer=answer.body.hex(), **words, **more)
    expect = "JG-sum-010" if more else "ok"
    yield case(f"{name}, to the server", "server", step, answer.body, expect, **words, **more)


def manifests() -> Iterator[Case]:
    good = manifest().encode()
    value = cbor.decode(good)
    yield case("a manifest", "begin", Step.ADVERTISE, good, "ok")
    refused = {
        "another suite": (cbor.encode({**value, "suite": 2}), "ValueError"),
        "a suite that is true": (cbor.encode({**value, "suite": True}), "ValueError"),
        "a key more": (cbor.encode({**value, "threshold": 1}), "ValueError"),
        "a key less": (cbor.encode({key: one for key, one in value.items() if key != "model"}), "ValueError"),
        "attempt 0": (cbor.encode({**value, "attempt": 0}), "ValueError"),
        "a size of 2**31": (cbor.encode({**value, "size": 2**31}), "ValueError"),
        "a model cut short": (cbor.encode({**value, "model": bytes(31)}), "ValueError"),
        "four waits": (cbor.encode({**value, "seconds": [60.0] * 4}), "ValueError"),
        "a wait of nothing": (cbor.encode({**value, "seconds": [60.0] * 4 + [0.0]}), "ValueError"),
        "a byte behind it": (good + b"\0", "ValueError"),
        "another campaign": (cbor.encode({**value, "campaign": "b" * 64}), "JG-sum-003"),
        "another model": (cbor.encode({**value, "model": b"m" * 32}), "JG-sum-003"),
        "another roster": (cbor.encode({**value, "roster": b"r" * 32}), "JG-sum-003"),
        "another size": (cbor.encode({**value, "size": 4}), "JG-sum-003"),
        "attempt 4 of 3": (cbor.encode({**value, "attempt": 4}), "JG-sum-005"),
        "a round that was": (cbor.encode({**value, "round": 0}), "JG-sum-004"),
    }
    for name, (body, expect) in refused.items():
        yield case(f"a manifest with {name}", "begin", Step.ADVERTISE, body, expect)


def adverts() -> Iterator[Case]:
    federation = played(Step.ADVERTISE)
    good = federation.ask("site-01").body
    given, context = Advert.decode(good), federation.manifest.digest

    def signed(channel: bytes, mask: bytes, over: bytes = context) -> bytes:
        said = advert_statement(over, "site-01", channel, mask)
        return Advert(channel, mask, signer("site-01").sign(said)).encode()

    other = manifest(model=b"m" * 32).digest
    yield case("an advert", "server", Step.ADVERTISE, good, "ok")
    refused = {
        "cut short": (good[:-1], "JG-sum-001"),
        "with another key": (flipped(good, 0), "JG-sum-008"),
        "signed over another model": (signed(given.channel, given.mask, other), "JG-sum-008"),
        "with one key twice": (signed(given.mask, given.mask), "JG-sum-009"),
        "with a key of low order": (signed(given.channel, bytes(32)), "JG-sum-001"),
    }
    for name, (body, expect) in refused.items():
        yield case(f"an advert {name}", "server", Step.ADVERTISE, body, expect)


def shares() -> Iterator[Case]:
    federation = played(Step.SHARE)
    request = federation.server.request("site-01")
    listed = cbor.decode(request)
    dealing = Dealing.decode(federation.ask("site-01").body, SITES)
    yield from answered("adverts of all, and a dealing", Step.SHARE, played(Step.SHARE))
    refused = {
        "one too few": ({name: listed[name] for name in names(3)}, "JG-sum-006"),
        "a stranger": ({**listed, "mallory": listed["site-02"]}, "JG-sum-007"),
        "another signer": ({**listed, "site-03": listed["site-02"]}, "JG-sum-008"),
        "another key of a peer": ({**listed, "site-02": flipped(listed["site-02"], 0)}, "JG-sum-008"),
        "another key of this site": ({**listed, "site-01": flipped(listed["site-01"], 0)}, "JG-sum-009"),
        "a threshold": ({**listed, "threshold": 1}, "JG-sum-001"),
        "an advert cut short": ({**listed, "site-02": listed["site-02"][:-1]}, "JG-sum-001"),
    }
    for name, (value, expect) in refused.items():
        yield case(f"adverts with {name}", "site", Step.SHARE, cbor.encode(value), expect)
    yield case("adverts and a byte", "site", Step.SHARE, request + b"\0", "JG-sum-001")
    root = Tree([tagged("parcel", dealing.parcels[at : at + PARCEL]) for at in range(0, SITES * PARCEL, PARCEL)]).root
    said = dealing_statement(b"h" * 32, "site-01", root, dealing.seed_digest)
    wrong = {
        "one parcel too few": (replace(dealing, parcels=dealing.parcels[PARCEL:]), "JG-sum-001"),
        "another parcel": (replace(dealing, parcels=flipped(dealing.parcels, 70)), "JG-sum-008"),
        "another seed": (replace(dealing, seed_digest=bytes(32)), "JG-sum-008"),
        "another cohort": (replace(dealing, signature=signer("site-01").sign(said)), "JG-sum-008"),
        "another signer": (replace(dealing, signature=signer("site-02").sign(said)), "JG-sum-008"),
    }
    for name, (body, expect) in wrong.items():
        yield case(f"a dealing with {name}", "server", Step.SHARE, body.encode(), expect)


def vectors() -> Iterator[Case]:
    federation = played(Step.MASK)
    dealt = {name: Dealt.decode(one) for name, one in cbor.decode(federation.server.request("site-01")).items()}
    one = dealt["site-02"]

    def with_second(changed: Dealt) -> bytes:
        return cbor.encode({name: each.encode() for name, each in {**dealt, "site-02": changed}.items()})

    yield from answered("what was dealt, and a vector", Step.MASK, played(Step.MASK))
    some = {name: dealt[name].encode() for name in names(2)}
    refused = {
        "two of four": (cbor.encode(some), "JG-sum-006"),
        "not what this site dealt": (
            cbor.encode({name: each.encode() for name, each in dealt.items() if name != "site-01"}),
            "JG-sum-011",
        ),
        "something of a stranger": (
            cbor.encode({name: each.encode() for name, each in {**dealt, "mallory": one}.items()}),
            "JG-sum-011",
        ),
        "another ciphertext": (with_second(replace(one, parcel=flipped(one.parcel, 100))), "JG-sum-001"),
        "another commitment": (with_second(replace(one, parcel=flipped(one.parcel, 40))), "JG-sum-001"),
        "another path": (with_second(replace(one, path=flipped(one.path, 0))), "JG-sum-001"),
        "another root": (with_second(replace(one, root=bytes(32))), "JG-sum-008"),
        "another seed": (with_second(replace(one, seed_digest=bytes(32))), "JG-sum-008"),
        "another signature": (with_second(replace(one, signature=dealt["site-03"].signature)), "JG-sum-008"),
        "half a path": (with_second(replace(one, path=one.path[:-16])), "JG-sum-001"),
    }
    for name, (body, expect) in refused.items():
        yield case(f"what was dealt with {name}", "site", Step.MASK, body, expect)
    words = vector("site-01", 3).tolist()
    yield case("a vector cut short", "server", Step.MASK, b"", "JG-sum-001", vector=[0, 1])
    yield case("a vector with words", "server", Step.MASK, b"x", "JG-sum-001", vector=[abs(word) for word in words])
    yield case("no vector", "server", Step.MASK, b"", "JG-sum-001")


def complaints() -> Iterator[Case]:
    """The second site signs a parcel for the first one that does not open."""
    federation = played(Step.SHARE)
    good = Dealing.decode(federation.ask("site-02").body, SITES)
    spoilt = good.parcels[:64] + bytes(PARCEL - 64) + good.parcels[PARCEL:]
    root = Tree([tagged("parcel", spoilt[at : at + PARCEL]) for at in range(0, SITES * PARCEL, PARCEL)]).root
    said = dealing_statement(federation.server._h1, "site-02", root, good.seed_digest)
    forged = Dealing(spoilt, good.seed_digest, signer("site-02").sign(said)).encode().hex()
    dealt = {"site-02": forged}
    yield from answered(
        "a parcel that does not open, and a complaint", Step.MASK, played(Step.MASK, dealt), dealt=dealt
    )
    h1 = federation.server._h1
    roots = {
        name: Dealt.decode(each).root for name, each in cbor.decode(played(Step.MASK).server.request("site-01")).items()
    }

    def complaint(holder: str, dealer: str, key: bytes, over: dict[str, bytes] = roots) -> bytes:
        statement = complaint_statement(h1, "site-01", dealer, over.get(dealer, b""), key)
        return Complaint(dealer, key, signer(holder).sign(statement)).encode()

    value = cbor.decode(complaint("site-01", "site-02", bytes(16)))
    refused = {
        "without a proof": (complaint("site-01", "site-02", bytes(16)), "JG-sum-019"),
        "of somebody else": (complaint("site-03", "site-02", bytes(16)), "JG-sum-008"),
        "over another root": (complaint("site-01", "site-02", bytes(16), {"site-02": root}), "JG-sum-008"),
        "about nobody": (complaint("site-01", "mallory", bytes(16)), "JG-sum-001"),
        "with a short key": (cbor.encode({**value, "key": bytes(15)}), "JG-sum-001"),
    }
    for name, (body, expect) in refused.items():
        yield case(f"a complaint {name}", "server", Step.MASK, body, expect)


def certificates() -> Iterator[Case]:
    federation = played(Step.CERTIFY)
    good = federation.ask("site-01").body
    h1, left = federation.server._h1, names(3)
    yield from answered("who is left, and a signature", Step.CERTIFY, played(Step.CERTIFY))
    refused = {
        "too few": (left[:2], "JG-sum-006"),
        "a stranger": ([*sorted(["mallory", *left])], "JG-sum-011"),
        "without this site": (["site-02", "site-03", LOST], "JG-sum-011"),
        "not in order": (left[::-1], "JG-sum-001"),
        "one twice": (["site-01", *left], "JG-sum-001"),
        "a map": ({"site-01": 1}, "JG-sum-001"),
    }
    for name, (value, expect) in refused.items():
        yield case(f"who is left, {name}", "site", Step.CERTIFY, cbor.encode(value), expect)
    other = certificate_statement(certified(h1, names(4), names(4)))
    wrong = {
        "cut short": (good[:-1], "JG-sum-001"),
        "of somebody else": (
            signer("site-02").sign(certificate_statement(certified(h1, names(4), left))),
            "JG-sum-008",
        ),
        "over another list": (signer("site-01").sign(other), "JG-sum-008"),
    }
    for name, (body, expect) in wrong.items():
        yield case(f"a signature {name}", "server", Step.CERTIFY, body, expect)


def shown() -> Iterator[Case]:
    federation = played(Step.UNMASK)
    h1, request = federation.server._h1, federation.server.request("site-01")
    signed = cbor.decode(request)
    good = Shown.decode(federation.ask("site-01").body, SITES)
    roots = [each.root for _, each in sorted(federation.server._dealers.items())]
    other = certificate_statement(certified(h1, names(4), names(4)))
    yield from answered("signatures, and shares", Step.UNMASK, played(Step.UNMASK))
    refused = {
        "too few": ({name: signed[name] for name in names(2)}, "JG-sum-014"),
        "one of who is not left": ({**signed, LOST: signed["site-01"]}, "JG-sum-014"),
        "one over another list": ({**signed, "site-02": signer("site-02").sign(other)}, "JG-sum-008"),
        "one signer twice": ({**signed, "site-02": signed["site-03"]}, "JG-sum-008"),
        "one cut short": ({**signed, "site-02": signed["site-02"][:-1]}, "JG-sum-001"),
    }
    for name, (value, expect) in refused.items():
        yield case(f"signatures, {name}", "site", Step.UNMASK, cbor.encode(value), expect)

    def by(holder: str, given: bytes, over: list[bytes] = roots) -> bytes:
        return Shown(given, signer(holder).sign(shown_statement(h1, "site-01", over, given))).encode()

    wrong = {
        "cut short": (by("site-01", good.shares[:-1]), "JG-sum-001"),
        "one changed": (by("site-01", flipped(good.shares, 0)), "JG-sum-017"),
        "of somebody else": (by("site-02", good.shares), "JG-sum-008"),
        "another signature": (replace(good, signature=bytes(64)).encode(), "JG-sum-008"),
        "under other roots": (by("site-01", good.shares, roots[::-1]), "JG-sum-008"),
    }
    for name, (body, expect) in wrong.items():
        yield case(f"shares, {name}", "server", Step.UNMASK, body, expect)


def cases() -> list[Case]:
    """The whole file."""
    parts = (manifests, adverts, shares, vectors, complaints, certificates, shown)
    return [each for part in parts for each in part()]


# --- the second derivation


def digest(tag: str, *parts: bytes) -> bytes:
    return hashlib.sha256(
        f"fsa-m/1|{tag}".encode() + b"".join(len(p).to_bytes(8, "little") + p for p in parts)
    ).digest()


def said(tag: str, *parts: bytes) -> bytes:
    return f"fsa-m/1|{tag}|".encode() + digest(tag, *parts)


def place(number: int) -> bytes:
    return number.to_bytes(4, "little")


def check(found: list[Case]) -> None:
    """Derive what the messages that are taken hold, from the sites' secrets alone.

    Raises:
        ValueError, InvalidSignature: it is something else.
    """
    stream = runpy.run_path(str(HERE / "make_vectors.py"))["stream"]
    good = {(one["step"], one["to"]): one for one in found if one["expect"] == "ok" and "dealt" not in one}
    body = {key: bytes.fromhex(one["body"]) for key, one in good.items()}
    identity: dict[str, Ed25519PublicKey] = {name: signer(name).public_key() for name in names(SITES)}
    secrets = {}
    for name in names(SITES):
        bits = randomness(name)
        secrets[name] = [bits.bits(4).tobytes() for _ in ("seed", "mask", "channel")]
    public = {
        name: [X25519PrivateKey.from_private_bytes(each).public_key().public_bytes_raw() for each in (channel, mask)]
        for name, (_, mask, channel) in secrets.items()
    }
    # R1: the keys, signed over the manifest.
    context = digest("manifest", body["advertise", "begin"])
    for name, advert in cbor.decode(body["share", "site"]).items():
        same(advert[:64], b"".join(public[name]))
        identity[name].verify(advert[64:], said("advertise", context, name.encode(), *public[name]))
    same(body["advertise", "server"], cbor.decode(body["share", "site"])["site-01"])
    # R2: parcels, each sealed by a key of its own, under one root.
    h1 = digest("cohort", context, *(part for name in names(SITES) for part in (name.encode(), *public[name])))

    def derived(material: bytes, step: str, *places: int) -> bytes:
        info = f"fsa-m/1|{step}".encode() + b"".join(map(place, places))
        return hmac.digest(hmac.digest(h1, material, "sha256"), info + b"\x01", "sha256")[:16]

    def agreed(own: str, other: str, which: int) -> bytes:
        private = X25519PrivateKey.from_private_bytes(secrets[own][2 - which])
        return private.exchange(X25519PublicKey.from_public_bytes(public[other][which]))

    def opened(parcel: bytes, dealer: int, holder: int) -> bytes:
        key = derived(agreed(f"site-{dealer:02}", f"site-{holder:02}", 0), "enc", dealer, holder)
        places = place(dealer) + place(holder)
        share = AESGCM(key).decrypt(bytes(12), parcel[64:], None)
        halves = digest("dealt seed", h1, places, share[:64]), digest("dealt private", h1, places, share[64:])
        same(parcel[:64], digest("key", h1, places, key) + digest("pair", *halves))
        return share + b"".join(halves)

    def root(parcels: bytes) -> bytes:
        one, two, three, four = (digest("parcel", parcels[at : at + PARCEL]) for at in range(0, len(parcels), PARCEL))
        return digest("node", digest("node", one, two), digest("node", three, four))

    dealing = cbor.decode(body["share", "server"])
    for holder in range(1, SITES + 1):
        opened(dealing["parcels"][(holder - 1) * PARCEL : holder * PARCEL], 1, holder)
    same(dealing["seed_digest"], digest("seed", secrets["site-01"][0]))
    signed = said("share", h1, b"site-01", root(dealing["parcels"]), dealing["seed_digest"])
    identity["site-01"].verify(dealing["signature"], signed)
    # R3: what each dealt to the first, and its vector behind the masks of all four.
    shares, roots = {}, b""
    for dealer, (name, given) in enumerate(sorted(cbor.decode(body["mask", "site"]).items()), 1):
        parcel, top, seed, signature = given[:208], given[208:240], given[240:272], given[272:336]
        path = given[336:]
        same(top, digest("node", digest("node", digest("parcel", parcel), path[:32]), path[32:]))
        identity[name].verify(signature, said("share", h1, name.encode(), top, seed))
        shares[name] = opened(parcel, dealer, 1)
        roots += top
    words = vector("site-01", 3).astype(object) + stream(derived(secrets["site-01"][0], "self", 1), 3)
    for other in range(2, SITES + 1):
        words = words + stream(derived(agreed("site-01", f"site-{other:02}", 1), "mask", 1, other), 3)
    same(good["mask", "site"]["vector"], [int(word) % 2**32 for word in words])
    # R4: one signature over both lists.
    lists = [cbor.encode(names(4)), cbor.encode(names(3))]
    same(body["certify", "site"], lists[1])
    statement = said("certified", digest("certify", h1, *lists))
    identity["site-01"].verify(body["certify", "server"], statement)
    for name, signature in cbor.decode(body["unmask", "site"]).items():
        identity[name].verify(signature, statement)
    # R5: the seed's share of who is left, the key's of who is not, each with the other's digest.
    whole = b"".join(
        shares[name][64:128] + shares[name][128:160] if name == LOST else shares[name][:64] + shares[name][160:]
        for name in names(SITES)
    )
    last = cbor.decode(body["unmask", "server"])
    same(last["shares"], whole)
    identity["site-01"].verify(last["signature"], said("unmask", h1, b"site-01", roots, whole))
    # A complaint: the key that the dealer committed to, and what it sealed does not open with it.
    (wronged,) = (one for one in found if one["to"] == "server" and "dealt" in one)
    complaint = cbor.decode(bytes.fromhex(wronged["body"]))
    forged = cbor.decode(bytes.fromhex(wronged["dealt"]["site-02"]))["parcels"]
    spoilt = forged[:PARCEL]
    same(complaint["key"], derived(agreed("site-02", "site-01", 0), "enc", 2, 1))
    same(spoilt[:32], digest("key", h1, place(2) + place(1), complaint["key"]))
    try:
        AESGCM(complaint["key"]).decrypt(bytes(12), spoilt[64:], None)
    except InvalidTag:
        pass
    else:
        raise ValueError("Expected a parcel that does not open.")
    signed = said("complaint", h1, b"site-01", b"site-02", root(forged), complaint["key"])
    identity["site-01"].verify(complaint["signature"], signed)


def same(found: object, expected: object) -> None:
    if found != expected:
        raise ValueError(f"Expected {expected!r}, found {found!r}.")


def whole() -> dict[str, Any]:
    """The file, checked."""
    found = cases()
    check(found)
    return {"campaign": CAMPAIGN, "sites": SITES, "lost": LOST, "cases": found}


if __name__ == "__main__":
    (HERE / "machines.json").write_text(json.dumps(whole(), indent=1) + "\n", encoding="utf-8")
