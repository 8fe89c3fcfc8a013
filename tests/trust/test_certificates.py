"""Laws of certificates, by real TLS over loopback: only the authority's servers, under their names, in their time."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from jangin.trust.certificates import Certificate, issue, make_authority
from jangin.trust.keys import write_private

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


def authority(name: str = "Demo federation") -> Certificate:
    return make_authority(name, NOW - DAY, NOW + 30 * DAY)


def talk(folder: Path, server: Certificate, root: Certificate, host: str) -> bytes:
    """What a client that trusts `root` alone hears from a server at `host`."""
    (folder / "server.crt").write_bytes(server.chain)
    write_private(folder / "server.key", server.key)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(folder / "server.crt", folder / "server.key")
    theirs = ssl.create_default_context(cadata=root.chain.decode())
    theirs.verify_flags |= ssl.VERIFY_X509_STRICT
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def answer() -> None:
            plain, _ = listener.accept()
            plain.settimeout(10)
            try:
                with ours.wrap_socket(plain, server_side=True) as secure:
                    secure.sendall(b"hello")
            except (ssl.SSLError, OSError):
                plain.close()

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=10) as plain,
                theirs.wrap_socket(plain, server_hostname=host) as secure,
            ):
                return secure.recv(5)
        finally:
            thread.join(10)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_site_that_pins_the_authority_reaches_its_server(host: str, tmp_path: Path) -> None:
    root = authority()
    server = issue(root, ["127.0.0.1", "localhost", "::1"], NOW - DAY, NOW + DAY)
    assert talk(tmp_path, server, root, host) == b"hello"


def test_a_certificate_of_another_authority_of_the_same_name_is_refused(tmp_path: Path) -> None:
    server = issue(authority(), ["127.0.0.1"], NOW - DAY, NOW + DAY)
    with pytest.raises(ssl.SSLCertVerificationError):
        talk(tmp_path, server, authority(), "127.0.0.1")


def test_a_server_under_another_name_is_refused(tmp_path: Path) -> None:
    root = authority()
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        talk(tmp_path, issue(root, ["localhost"], NOW - DAY, NOW + DAY), root, "127.0.0.1")


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    root = authority()
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        talk(tmp_path, issue(root, ["127.0.0.1"], NOW - DAY, NOW - DAY / 2), root, "127.0.0.1")


def test_an_authority_serves_nobody_and_a_server_certifies_nobody() -> None:
    root = authority()
    server = issue(root, ["127.0.0.1"], NOW, NOW + DAY)
    for certificate, signs in ((root, True), (server, False)):
        parsed = x509.load_pem_x509_certificate(certificate.chain)
        usage = parsed.extensions.get_extension_for_class(x509.KeyUsage).value
        assert parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is signs
        assert (usage.key_cert_sign, usage.digital_signature) == (signs, not signs)


@pytest.mark.parametrize(
    ("hosts", "start", "end"),
    [
        ([], NOW, NOW + DAY),
        (["127.0.0.1"], NOW - 2 * DAY, NOW + DAY),
        (["127.0.0.1"], NOW, NOW + 31 * DAY),
        (["127.0.0.1"], NOW + DAY, NOW),
    ],
)
def test_a_certificate_without_host_or_beyond_its_authority_is_not_made(
    hosts: list[str], start: datetime, end: datetime
) -> None:
    with pytest.raises(ValueError, match="Expected"):
        issue(authority(), hosts, start, end)


def test_the_private_key_is_not_shown() -> None:
    assert "PRIVATE" not in repr(authority())
