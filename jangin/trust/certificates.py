"""A federation's own TLS authorities and the certificates they give to servers and to people, for closed networks.

X.509 version 3 (RFC 5280); an authority's key is on P-384 with SHA-384, a server's own and a person's on P-256, which
signs each handshake some thirty times as fast. The law: a certificate names its hosts or its person, serves for one of
the two ends of a connection, and lives no longer than its authority; times are arguments.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Certificate", "issue", "issue_person", "make_authority"]


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, ready to be written to files.

    Attributes:
        chain: PEM; a server's or a person's own certificate. The other end pins the authority's.
        key: PEM, PKCS 8; secret: write it by `keys.write_private`.
    """

    chain: bytes
    key: bytes = field(repr=False)


def make_authority(name: str, start: datetime, end: datetime) -> Certificate:
    """A new self-signed authority, valid from `start` to `end` (with time zones).

    Raises:
        ValueError: an empty or too long name, or an end before the start.
    """
    key = generate_private_key(SECP384R1())
    subject = _name(name)
    builder = _builder(subject, subject, key, start, end).add_extension(x509.BasicConstraints(True, 0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return _signed(builder, key, key)


def issue(authority: Certificate, hosts: Sequence[str], start: datetime, end: datetime) -> Certificate:
    """A server certificate for `hosts`, DNS names or IP addresses, valid from `start` to `end`.

    Raises:
        ValueError: no host, or a time outside the authority's own.
    """
    if not hosts:
        raise ValueError("Expected at least one host.")
    key = generate_private_key(SECP256R1())
    names = x509.SubjectAlternativeName([_host(host) for host in hosts])
    return _issued(authority, key, hosts[0], ExtendedKeyUsageOID.SERVER_AUTH, start, end, names)


def issue_person(authority: Certificate, person: str, start: datetime, end: datetime) -> Certificate:
    """A client's certificate for one person, named by its common name, valid from `start` to `end`.

    Raises:
        ValueError: no name, or a time outside the authority's own.
    """
    return _issued(authority, generate_private_key(SECP256R1()), person, ExtendedKeyUsageOID.CLIENT_AUTH, start, end)


def _issued(
    authority: Certificate,
    key: EllipticCurvePrivateKey,
    name: str,
    purpose: x509.ObjectIdentifier,
    start: datetime,
    end: datetime,
    names: x509.SubjectAlternativeName | None = None,
) -> Certificate:
    issuer = x509.load_pem_x509_certificate(authority.chain)
    if not issuer.not_valid_before_utc <= start < end <= issuer.not_valid_after_utc:
        raise ValueError(f"Expected times within the authority's own: {start} to {end}.")
    issuer_key = load_pem_private_key(authority.key, password=None)
    if not isinstance(issuer_key, EllipticCurvePrivateKey):
        raise ValueError("Expected the key of an authority made here.")
    builder = (
        _builder(_name(name), issuer.subject, issuer_key, start, end, of=key)
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return _signed(builder, key, issuer_key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    issuer_key: EllipticCurvePrivateKey,
    start: datetime,
    end: datetime,
    of: EllipticCurvePrivateKey | None = None,
) -> x509.CertificateBuilder:
    """What every certificate has; `of` is the subject's key where it is not the issuer's."""
    public = (of or issuer_key).public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _signed(
    builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey, issuer_key: EllipticCurvePrivateKey
) -> Certificate:
    return Certificate(
        chain=builder.sign(issuer_key, SHA384()).public_bytes(Encoding.PEM),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
