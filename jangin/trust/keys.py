"""Private keys and their files: the Ed25519 identity of a site or a person, and the P-384 key of a Flower node.

Both are kept in OpenSSH's form (RFC 4716 section 3 names it, PROTOCOL.key of OpenSSH defines it), which Flower reads;
a public key is one line of text, `ssh-ed25519 AAAA...`. The law: a key never leaves its file but to sign, is never
overwritten, is never shown, and is not used while somebody else could have read it.
"""

import base64
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP384R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from jangin.errors import SiteError

__all__ = [
    "IDENTITY",
    "NODE",
    "Identity",
    "NodeKey",
    "PublicKey",
    "fingerprint",
    "identity_from_text",
    "node_key_from_text",
    "public_text",
    "write_private",
]

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey

IDENTITY = "ssh-ed25519"
NODE = "ecdsa-sha2-nistp384"

_MOST_BYTES = 16_384

Private = TypeVar("Private", Ed25519PrivateKey, EllipticCurvePrivateKey)


def public_text(public: PublicKey) -> str:
    """The public key as one OpenSSH line without a comment: `<kind> <base64>`."""
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def fingerprint(public: PublicKey) -> str:
    """What two people compare by telephone: `ABCD-EFGH-IJKL-MNOP-QRST`.

    The first 100 bits of SHA-256 over the key's OpenSSH line, in base32 (RFC 4648 section 6: A-Z and 2-7). Finding
    another key with the fingerprint of a given one takes about 2^100 tries.
    """
    text = base64.b32encode(hashlib.sha256(public_text(public).encode()).digest())[:20].decode()
    return "-".join(text[start : start + 4] for start in range(0, 20, 4))


def identity_from_text(text: str) -> Ed25519PublicKey:
    """The Ed25519 key of an OpenSSH line, as `public_text` writes it.

    Raises:
        ValueError: another kind of key, a comment, or not the one form of its key.
    """
    public = _public(text, IDENTITY)
    if not isinstance(public, Ed25519PublicKey):
        raise ValueError(f"expected an {IDENTITY} key")
    return public


def node_key_from_text(text: str) -> EllipticCurvePublicKey:
    """The P-384 key of an OpenSSH line, as `public_text` writes it.

    Raises:
        ValueError: another kind of key, a comment, or not the one form of its key.
    """
    public = _public(text, NODE)
    if not isinstance(public, EllipticCurvePublicKey):
        raise ValueError(f"expected an {NODE} key")
    return public


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read: whole or not at all, and never over another.

    Raises:
        SiteError: JG-site-104, the file stands already.
        OSError: the folder cannot be written.
    """
    if path.exists():
        raise SiteError("JG-site-104", where=str(path))
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class _PrivateKey(Generic[Private]):
    """One private key; it shows its fingerprint and nothing else."""

    kind: ClassVar[str]

    def __init__(self, private: Private) -> None:
        self._private: Private = private

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.fingerprint})"

    def __reduce__(self) -> Any:
        """Refuse to be pickled or copied.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{type(self).__name__} stays in its process")

    @property
    def fingerprint(self) -> str:
        """Of the public half."""
        return fingerprint(self._private.public_key())

    @property
    def public_text(self) -> str:
        """The public half as one OpenSSH line."""
        return public_text(self._private.public_key())

    def save(self, path: Path) -> None:
        """Write the key to a new file that only its owner may read.

        Raises:
            SiteError: JG-site-104, the file stands already.
            OSError: the folder cannot be written.
        """
        write_private(path, self._private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the key that `save` wrote.

        Raises:
            SiteError: JG-site-101 unreadable, JG-site-102 open to others, JG-site-103 another kind of key.
        """
        private = _read_private(path)
        found = _kind(private)
        if found != cls.kind:
            raise SiteError("JG-site-103", where=str(path), expected=cls.kind, found=found)
        return cls(private)


class Identity(_PrivateKey[Ed25519PrivateKey]):
    """The Ed25519 key by which a site or a person signs."""

    kind = IDENTITY

    @classmethod
    def generate(cls) -> "Identity":
        """A new key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @property
    def public(self) -> Ed25519PublicKey:
        """The public half."""
        return self._private.public_key()

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`, 64 bytes (RFC 8032, pure Ed25519). `data` must say what it is for."""
        return self._private.sign(data)

    def signed(self, signature: bytes, data: bytes) -> bool:
        """Whether a signature of `data` is by this key."""
        try:
            self.public.verify(signature, data)
        except InvalidSignature:
            return False
        return True


class NodeKey(_PrivateKey[EllipticCurvePrivateKey]):
    """The P-384 key by which Flower's connection shows that it is this site's."""

    kind = NODE

    @classmethod
    def generate(cls) -> "NodeKey":
        """A new key from the operating system's randomness."""
        return cls(generate_private_key(SECP384R1()))

    @property
    def public(self) -> EllipticCurvePublicKey:
        """The public half."""
        return self._private.public_key()

    @property
    def private(self) -> EllipticCurvePrivateKey:
        """The key itself, for Flower's connection alone, which signs with it."""
        return self._private


def _public(text: str, kind: str) -> PublicKey:
    """The key of an OpenSSH line, if the line is the one form of a key of this kind."""
    if not text.startswith(f"{kind} "):
        raise ValueError(f"expected an OpenSSH line that starts with {kind}")
    try:
        public = load_ssh_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"expected the OpenSSH line of an {kind} key") from None
    if not isinstance(public, PublicKey) or public_text(public) != text:
        raise ValueError(f"expected the OpenSSH line of an {kind} key and nothing after it")
    return public


def _read_private(path: Path) -> Any:
    """The private key in a file that nobody else may read; a key with a passphrase does not count."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MOST_BYTES)
    except OSError as error:
        raise SiteError("JG-site-101", where=str(path), problem=error.strerror or type(error).__name__) from None
    if data.startswith(b"ssh-"):  # may well be open to others, and closing it would not help
        raise SiteError("JG-site-101", where=str(path), problem="it holds a public key")
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SiteError("JG-site-102", where=str(path), mode=f"{stat.S_IMODE(mode):04o}")
    try:
        return load_ssh_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SiteError(
            "JG-site-101", where=str(path), problem="not an OpenSSH private key without passphrase"
        ) from None


def _kind(private: Any) -> str:
    """The OpenSSH name of a key's kind."""
    return public_text(private.public_key()).partition(" ")[0]
