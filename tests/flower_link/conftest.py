"""Certificates and keys made afresh, a link on loopback, and site processes that always end."""

import ipaddress
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from jangin.flower_link.link import Answer, EmbeddedLink, Run

PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Keys:
    """Files: a server's certificate and key, the roots that vouch for it, and roots that do not."""

    certificate: Path
    key: Path
    roots: Path
    other_roots: Path


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    authority, other, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    certificate = signed("localhost", server, "authority", authority, authority=False)
    made = {
        "server.crt": certificate.public_bytes(Encoding.PEM),
        "server.key": pem(server),
        "roots.crt": signed("authority", authority, "authority", authority, authority=True).public_bytes(Encoding.PEM),
        "other.crt": signed("authority", other, "authority", other, authority=True).public_bytes(Encoding.PEM),
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return Keys(*(folder / name for name in made))


def signed(
    name: str, key: ec.EllipticCurvePrivateKey, by: str, by_key: ec.EllipticCurvePrivateKey, *, authority: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(by_key, hashes.SHA256())
    )


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def link(keys: Keys) -> Iterator[EmbeddedLink]:
    with EmbeddedLink(keys.certificate, keys.key) as link:
        yield link


@pytest.fixture
def new_key() -> Callable[[], ec.EllipticCurvePrivateKey]:
    return lambda: ec.generate_private_key(ec.SECP384R1())


def eventually(holds: Callable[[], Any]) -> Any:
    """What `holds` gives once it is true; fails after `PATIENCE_SECONDS`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (value := holds()):
        assert time.monotonic() < deadline, "It never came to hold."
        threading.Event().wait(0.01)
    return value


@pytest.fixture
def wait() -> Callable[[Callable[[], Any]], Any]:
    return eventually


@pytest.fixture
def gather() -> Callable[..., list[Answer]]:
    """Pull until each id is answered, or, within a bound, until nothing more comes."""

    def gather(run: Run, ids: list[str], *, seconds: float = PATIENCE_SECONDS) -> list[Answer]:
        answers: list[Answer] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and len(answers) < len(ids):
            answers += run.pull(set(ids) - {answer.message for answer in answers})
            threading.Event().wait(0.005)
        return answers

    return gather


@dataclass
class Nodes:
    """Site processes by their names."""

    keys: Keys
    folder: Path
    running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def start(
        self,
        link: EmbeddedLink,
        site: str,
        *,
        registered: bool = True,
        roots: Path | None = None,
        ahead: float = 0.0,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> subprocess.Popen[str]:
        key = key or ec.generate_private_key(ec.SECP384R1())
        if registered:
            link.register(site, key.public_key())
        file = self.folder / f"{site}.key"
        file.write_bytes(pem(key))
        command = [sys.executable, str(Path(__file__).with_name("node.py")), f"127.0.0.1:{link.port}", str(file)]
        command += [str(roots or self.keys.roots), str(ahead)]
        self.running[site] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return self.running[site]

    def end(self, site: str) -> dict[str, Any]:
        """The last line of a process that ends by itself."""
        out, err = self.running[site].communicate(timeout=PATIENCE_SECONDS)
        assert out, err
        return json.loads(out.splitlines()[-1]) | {"stderr": err}


@pytest.fixture
def nodes(keys: Keys, tmp_path: Path) -> Iterator[Nodes]:
    nodes = Nodes(keys, tmp_path)
    yield nodes
    for process in nodes.running.values():
        process.kill()
        process.communicate()
