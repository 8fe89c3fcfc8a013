"""Laws of keys: they stay in their files, those files stay private, and both ends of a telephone read the same."""

import copy
import os
import pickle
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from jangin.errors import SiteError
from jangin.trust.keys import (
    Identity,
    NodeKey,
    fingerprint,
    identity_from_text,
    node_key_from_text,
    public_text,
    write_private,
)

KINDS = [Identity, NodeKey]


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_key_loads_as_itself(kind: Any, tmp_path: Path) -> None:
    key = kind.generate()
    key.save(tmp_path / "key")
    assert kind.load(tmp_path / "key").public_text == key.public_text
    assert [file.name for file in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_key_is_its_owners_alone_whatever_the_umask(kind: Any, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        kind.generate().save(tmp_path / "key")
    finally:
        os.umask(before)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_key_that_others_may_read_is_refused(mode: int, tmp_path: Path) -> None:
    Identity.generate().save(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(SiteError, match=rf"JG-site-102 .*mode 0{mode:o}"):
        Identity.load(tmp_path / "key")


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    key = Identity.generate()
    key.save(tmp_path / "key")
    with pytest.raises(SiteError, match="JG-site-104"):
        Identity.generate().save(tmp_path / "key")
    assert Identity.load(tmp_path / "key").public_text == key.public_text


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_private(tmp_path / "key", b"secret")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("saved", "loaded"), [(Identity, NodeKey), (NodeKey, Identity)])
def test_one_kind_of_key_is_not_the_other(saved: Any, loaded: Any, tmp_path: Path) -> None:
    saved.generate().save(tmp_path / "key")
    with pytest.raises(SiteError, match="JG-site-103"):
        loaded.load(tmp_path / "key")


def test_a_node_key_of_another_curve_is_refused(tmp_path: Path) -> None:
    data = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    write_private(tmp_path / "key", data)
    with pytest.raises(SiteError, match=r"JG-site-103 .*nistp256"):
        NodeKey.load(tmp_path / "key")


@pytest.mark.parametrize("data", [b"", b"ssh-ed25519 AAAA", b"-----BEGIN OPENSSH PRIVATE KEY-----\nQUJD\n", bytes(99)])
def test_what_is_no_key_is_refused_without_being_shown(data: bytes, tmp_path: Path) -> None:
    write_private(tmp_path / "key", data)
    with pytest.raises(SiteError, match="JG-site-101") as caught:
        Identity.load(tmp_path / "key")
    assert "QUJD" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_public_key_in_place_of_its_private_half_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(Identity.generate().public_text)  # 0644, as a public key may be
    with pytest.raises(SiteError, match=r"JG-site-101 .*public key"):
        Identity.load(tmp_path / "key.pub")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(SiteError, match="JG-site-101"):
            Identity.load(path)


def test_a_key_in_another_form_is_refused(tmp_path: Path) -> None:
    key = generate_private_key(SECP256R1())
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    write_private(tmp_path / "key", data)
    with pytest.raises(SiteError, match="JG-site-101"):
        Identity.load(tmp_path / "key")


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_shows_its_fingerprint_and_nothing_else(kind: Any, tmp_path: Path) -> None:
    key = kind.generate()
    key.save(tmp_path / "key")
    body = "".join((tmp_path / "key").read_text().splitlines()[1:-1])
    assert repr(key) == f"{kind.__name__}({key.fingerprint})"
    assert not set(re.findall("." * 20, body)) & set(re.findall("." * 20, f"{key!r} {key} {vars(key)}"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_does_not_leave_its_process(kind: Any) -> None:
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="stays in its process"):
            leave(kind.generate())


def test_a_fingerprint_is_five_groups_of_four_and_the_same_for_both_sides() -> None:
    key = Identity.generate()
    assert re.fullmatch(r"([A-Z2-7]{4}-){4}[A-Z2-7]{4}", key.fingerprint)
    assert fingerprint(identity_from_text(key.public_text)) == key.fingerprint


def test_every_key_has_a_fingerprint_of_its_own() -> None:
    assert len({kind.generate().fingerprint for kind in KINDS for _ in range(20)}) == 40


def test_a_public_key_has_one_text() -> None:
    identity, node = Identity.generate(), NodeKey.generate()
    assert public_text(identity_from_text(identity.public_text)) == identity.public_text
    assert public_text(node_key_from_text(node.public_text)) == node.public_text


@pytest.mark.parametrize(
    "bend",
    [
        lambda text: text + " kim@office",
        lambda text: text + "\n",
        lambda text: text.replace(" ", "  "),
        lambda text: text[:-4],
        lambda text: text.partition(" ")[0],
        lambda text: "ssh-rsa " + text.partition(" ")[2],
        lambda text: "",
        lambda text: text + "=",
    ],
)
def test_any_other_text_of_a_public_key_is_refused(bend: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        identity_from_text(bend(Identity.generate().public_text))
    with pytest.raises(ValueError, match="expected"):
        node_key_from_text(bend(NodeKey.generate().public_text))


def test_a_public_key_of_the_other_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="ssh-ed25519"):
        identity_from_text(NodeKey.generate().public_text)
    with pytest.raises(ValueError, match="nistp384"):
        node_key_from_text(Identity.generate().public_text)


def test_a_node_key_is_in_the_form_that_flower_reads(tmp_path: Path) -> None:
    NodeKey.generate().save(tmp_path / "key")
    assert load_ssh_private_key((tmp_path / "key").read_bytes(), None).key_size == 384  # type: ignore[union-attr]


def test_ssh_keygen_reads_what_is_saved(tmp_path: Path) -> None:
    key = Identity.generate()
    key.save(tmp_path / "key")
    try:
        shown = subprocess.run(["ssh-keygen", "-y", "-f", tmp_path / "key"], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("no ssh-keygen here")
    assert shown.stdout.split()[:2] == key.public_text.split()
