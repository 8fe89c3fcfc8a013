"""The golden vectors: the package gives what plain integers gave, and the script makes the same file again."""

import json
import runpy
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jangin.privacy.secure_sum.keys import Secret, pair_key, private_key, public_bytes, self_key
from jangin.privacy.secure_sum.masks import Cohort, masked, unmasked
from jangin.privacy.secure_sum.shamir import combine, share_from_bytes, share_to_bytes, split

FOLDER = Path(__file__).parents[2] / "vectors" / "secure_sum"
VECTORS: dict[str, Any] = json.loads((FOLDER / "vectors.json").read_text(encoding="utf-8"))
SALT = bytes.fromhex(VECTORS["salt"])
SITES = {site["place"]: site for site in VECTORS["round"]["sites"]}
COHORT = Cohort(SALT, {place: bytes.fromhex(site["public"]) for place, site in SITES.items()})


def secret(place: int, name: str) -> Secret:
    return Secret(bytes.fromhex(SITES[place][name]))


def test_the_script_makes_the_same_vectors_again() -> None:
    assert runpy.run_path(str(FOLDER / "make_vectors.py"))["vectors"]() == VECTORS


def test_shares_from_given_coefficients_are_those_of_the_vectors(tape) -> None:
    case = VECTORS["shares"]
    words = list(chain.from_iterable(case["coefficients"]))
    shares = split([Secret(bytes.fromhex(case["secret"]))], len(case["shares"]), case["threshold"], tape(words))
    assert [share_to_bytes(share).hex() for share in shares] == case["shares"]
    assert shares[1, 0].tolist() == case["values_at_2"]
    assert case["values_at_2"][15] == 65536


@pytest.mark.parametrize("holders", [[1, 2, 3], [5, 2, 4], [4, 3, 1]])
def test_the_shares_of_the_vectors_give_their_secret(holders: list[int]) -> None:
    case = VECTORS["shares"]
    shares = np.stack([share_from_bytes(bytes.fromhex(case["shares"][holder - 1]), 1) for holder in holders])
    (found,) = combine(shares, holders, case["threshold"])
    assert found.reveal().hex() == case["secret"]


def test_a_mask_alone_is_the_stream_of_the_vectors() -> None:
    case = VECTORS["alone"]
    seed, private = (Secret(bytes.fromhex(case[name])) for name in ("seed", "private"))
    place, words = case["place"], case["words"]
    cohort = Cohort(SALT, {place: public_bytes(private_key(private))})
    assert self_key(seed, place, SALT).reveal().hex() == case["key"]
    assert masked(np.zeros(len(words), np.int64), cohort, place, seed, private).tolist() == words


@pytest.mark.parametrize("place", SITES)
def test_a_site_derives_and_sends_what_the_vectors_say(place: int) -> None:
    site, private = SITES[place], private_key(secret(place, "private"))
    assert public_bytes(private).hex() == site["public"]
    assert self_key(secret(place, "seed"), place, SALT).reveal().hex() == site["self_key"]
    for other in SITES.keys() - {place}:
        key = pair_key(private, place, COHORT.publics[other], other, SALT)
        assert key.reveal().hex() == VECTORS["round"]["pair_keys"][f"{min(place, other)} {max(place, other)}"]
    steps = np.array(site["steps"], np.int64)
    sent = masked(steps, COHORT, place, secret(place, "seed"), secret(place, "private"))
    assert sent.tolist() == site["sends"]


def test_the_server_finds_the_sum_of_the_vectors() -> None:
    survivors = VECTORS["round"]["survivors"]
    total = np.sum([np.array(SITES[place]["sends"], np.uint32) for place in survivors], axis=0, dtype=np.uint32)
    seeds = {place: secret(place, "seed") for place in survivors}
    privates = {place: secret(place, "private") for place in SITES.keys() - seeds.keys()}
    assert unmasked(total, COHORT, seeds, privates).tolist() == VECTORS["round"]["sum"]


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
def test_what_the_vectors_refuse_is_refused(case: dict[str, str]) -> None:
    readers: dict[str, Callable[[bytes], object]] = {
        "share": lambda data: share_from_bytes(data, 1),
        "public": lambda data: pair_key(private_key(secret(1, "private")), 1, data, 2, SALT),
    }
    with pytest.raises(ValueError, match=r"."):
        readers[case["give"]](bytes.fromhex(case["bytes"]))
